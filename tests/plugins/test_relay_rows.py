"""Every known sign of relay software, by its number, and what the gateway makes of it.

The rows are those of a survey of relays' public sources: headers (H), bodies (B), probes (P), topology and timing (T). A
covered row is shown on a request built for it, from raw bytes through the real intake, and not on an innocent twin that
looks much the same. A row that is not covered says why, and who might see it instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.facts import Answer, Facts
from gateway.registry import Registry
from gateway.values import SECOND
from tests.plugins.wires import (
    AGENT,
    AGENT_TOOLS,
    CHAT,
    CURL,
    OTHER_PYTHON,
    PLAIN,
    PYTHON,
    START,
    TALK,
    WORK,
    Headers,
    but,
    first,
    matched,
    registry,
    sent,
    signal,
    written,
)  # fmt: skip

Requests = Callable[[], Sequence[Facts]]
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
SAID = "The keeper wrote the day's weather into a ledger, and below it, in smaller letters, what he had dreamt of the sea. " * 2
JA4 = "t13d1516{}_8daaf6152771_02713d6af862"
SELF_NAMED = """markers:
  - {id: self-named, where: agent, sha256: 83983150d0a6ce31109f66ae1c85d99db85b90d3914ddae4e35bccd778e8a033, source: s,
     first_seen: 2026-01-01, expires: 2090-01-01, specificity: high}
"""


@dataclass(frozen=True)
class Covered:
    """A row that a gateway can see. kind: contradiction, marker, probe, rule (of the reseller pack) or relation (of that pack).

    name: which. Both sides are request lists.
    """

    row: str
    kind: str
    name: str
    shown: Requests
    twin: Requests
    answers: tuple[Answer, ...] = ()
    using: Callable[[], Registry] = registry


@dataclass(frozen=True)
class Left:
    """A row that these signals do not cover, and why. to: who may see it instead, empty where nobody at a gateway does."""

    row: str
    why: str
    to: str = field(default="")


def one(headers: Headers, body: object = CHAT, **more: object) -> Requests:
    return lambda: [sent(headers, body, **more)]  # type: ignore[arg-type]


def says(text: str, **more: object) -> dict[str, object]:
    return {**TALK, "messages": [{"role": "user", "content": text}], **more}


def user(device: str = "d" * 64, account: str = "", session: str = "s" * 36) -> dict[str, object]:
    told = {"device_id": device, "account_uuid": account, "session_id": session}
    return {**TALK, "metadata": {"user_id": json.dumps(told, separators=(",", ":"))}}


def tools(*names: str) -> dict[str, object]:
    return {**TALK, "tools": [{"name": name, "input_schema": {"type": "object"}} for name in names]}


def system(text: str) -> dict[str, object]:
    return {**TALK, "system": text}


def talk(told: str) -> dict[str, object]:
    return {**CHAT, "messages": [{"role": "system", "content": told}, *CHAT["messages"]]}  # type: ignore[misc]


def agent_tools(*parameters: str) -> list[dict[str, object]]:
    """The tools of an agent, with its parameters or with these."""
    own = ("command", "run_in_background", "file_path", "offset", "limit", "old_string", "new_string")
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in parameters or own}}
    return [{"name": name, "input_schema": schema} for name in ("Bash", "Read", "Edit", "Write", "Agent", "Skill")]


def forwarding(count: int) -> Requests:
    return lambda: [
        sent(but(PLAIN, {"x-forwarded-for": f"8.8.{place % count}.4"}), at=START + place * SECOND) for place in range(30)
    ]


def sessions(machines: int) -> Requests:
    def made() -> list[Facts]:
        found = []
        for place in range(70):
            states = {"x-stainless-os": f"os-{place % machines}", "x-claude-code-session-id": f"session-{place:08}"}
            found.append(sent(but(AGENT, states), TALK, at=START + place * MINUTE))
        return found

    return made


def refused(retry: str) -> Requests:
    """A hundred requests, the last one counted as so many-eth retry, and one more."""
    counts = ["0"] * 100 + [retry, "0"]
    return lambda: [
        sent(but(PYTHON, {"x-stainless-retry-count": count}), at=START + place * MINUTE) for place, count in enumerate(counts)
    ]


def devices(different: int) -> Requests:
    return lambda: [sent(AGENT, user(device=f"{place % different:064x}"), at=START + place * MINUTE) for place in range(45)]


def under(owners: int, headers: Headers, body: object, connection: str = "") -> Requests:
    return lambda: [
        sent(headers, body, account=f"o{place % owners}", connection=connection or f"c{place}", at=START + place * SECOND)  # type: ignore[arg-type]
        for place in range(8)
    ]


def taken_over(by: str) -> Requests:
    """A request that is refused, and the same one a second later under an account."""
    asked = {**CHAT, "messages": [{"role": "user", "content": SAID}]}
    return lambda: [sent(PLAIN, asked), sent(PLAIN, asked, at=START + SECOND, account=by, connection="d")]


def told(*owners: str) -> Requests:
    """A conversation of four answered turns, the later half of it under the last of these."""

    def made() -> list[Facts]:
        messages = [{"role": "user", "content": "Tell me of a lighthouse."}]
        found = []
        for turn in range(6):
            messages += [
                {"role": "assistant", "content": f"{SAID} Part {turn}."},
                {"role": "user", "content": f"And part {turn + 1}?"},
            ]
            body = {**CHAT, "messages": list(messages)}
            found.append(sent(PLAIN, body, account=owners[turn // 3], at=START + turn * MINUTE, connection=f"c{turn // 3}"))
        return found

    return made


def handed_back(*owners: str) -> Requests:
    """One signature of reasoning, presented by each of these."""
    thought = {"type": "thinking", "thinking": "", "signature": "EqQBCkYIBxgCKkD0" + "h" * 80}
    answered = {"role": "assistant", "content": [thought, {"type": "text", "text": SAID}]}
    body = {**TALK, "messages": [*TALK["messages"], answered, {"role": "user", "content": "and c?"}]}  # type: ignore[misc]
    return lambda: [sent(AGENT, body, account=owner, at=START + place * MINUTE) for place, owner in enumerate(owners)]


def at_once(age: int) -> Requests:
    """A thousand requests in half an hour, of an account of an age (days)."""
    return lambda: [sent(PLAIN, at=START + place * 2 * SECOND, age=age * DAY) for place in range(1_000)]


ESCAPED = written(CHAT).replace(b"<", b"\\u003c").replace(b"&", b"\\u0026")
SORTED = {key: {**WORK, "system": "x", "temperature": 1}[key] for key in sorted({*WORK, "system", "temperature"})}
GO = ("host", "user-agent", "content-length", "accept", "authorization", "content-type", "x-stainless-lang")
GO_ORDER: Headers = tuple((name, dict(PYTHON)[name]) for name in GO)
GREETING = {"model": "large-2", "messages": [{"content": "hi", "role": "user"}], "max_tokens": 100}
ACCOUNT = "6f9619ff-8b86-{}011-b42d-00c04fc964ff"
SHARED_DEVICE = "6d80b607905bb422a7713b6131219e2c9f3b5682ec0a6c3a7ed192eb26b05bc9"

ROWS: tuple[Covered | Left, ...] = (
    Covered("H1", "marker", "beta-retired-1", one(but(OTHER_PYTHON, {"anthropic-beta": "messages-2023-12-15"}), TALK),
            one(but(OTHER_PYTHON, {"anthropic-beta": "context-1m-2025-08-07"}), TALK)),
    Covered("H2", "marker", "beta-retired-3", one(but(OTHER_PYTHON, {"anthropic-beta": "a-1,tools-2024-05-16"}), TALK),
            one(but(OTHER_PYTHON, {"anthropic-beta": "advanced-tool-use-2025-11-20"}), TALK)),
    Covered("H3", "contradiction", "empty-accept", one(but(PLAIN, {"user-agent": "Go-http-client/2.0", "accept": ""})),
            one(but(PLAIN, {"user-agent": "Go-http-client/2.0"}))),
    Covered("H4", "contradiction", "curl-compressed", one(but(CURL, {"accept-encoding": "identity"})),
            one(but(CURL, {"accept-encoding": "deflate, gzip, br, zstd"}))),
    Covered("H5", "contradiction", "terminal-on-server",
            one(but(PLAIN, {"user-agent": "codex_cli_rs/0.9.0 (Debian 13.0.0; x86_64) WindowsTerminal"})),
            one(but(PLAIN, {"user-agent": "codex_cli_rs/0.9.0 (Debian 13.0.0; x86_64) xterm-256color"}))),
    Covered("H6", "contradiction", "response-header", one(but(PLAIN, {"x-accel-buffering": "no"})), one(PLAIN)),
    Covered("H7", "rule", "forwarded-fanout", forwarding(25), forwarding(3)),
    Covered("H8", "contradiction", "transport-identity", one(but(AGENT, {"accept-encoding": "identity"}), TALK),
            one(AGENT, TALK)),
    Covered("H9", "contradiction", "transport-encoding",
            one(but(AGENT, {"accept-encoding": "gzip, compress, deflate, br"}), TALK),
            one(but(AGENT, {"accept-encoding": "gzip, deflate, br"}), TALK)),
    Covered("H9", "contradiction", "transport-accept", one(but(AGENT, {"accept": "application/json, text/plain, */*"}), TALK),
            one(but(AGENT, {"accept": "text/event-stream"}), TALK)),
    Covered("H10", "contradiction", "header-placed",
            one(first(AGENT, "host", "connection", "content-type", "content-length", "accept-encoding"), TALK),
            one(AGENT, TALK)),
    Covered("H11", "contradiction", "go-transport", one(GO_ORDER), one(but(PYTHON, without=["x-stainless-o"]))),
    Covered("H12", "rule", "frozen-tuple", sessions(1), sessions(2)),
    Covered("H13", "contradiction", "sdk-headers-stripped", one(but(PYTHON, without=["x-stainless-"])), one(PYTHON)),
    Covered("H13", "rule", "never-retries", refused("0"), refused("1"), (Answer(status=429),) * 100),
    Covered("H14", "marker", "self-named", one(but(PLAIN, {"user-agent": "Example-Relay/2.1"})),
            one(but(PLAIN, {"user-agent": "example-app/2.1"})), using=lambda: registry(SELF_NAMED)),
    Covered("H15", "contradiction", "oauth-with-key",
            one(but(AGENT, {"anthropic-beta": "claude-code-20250219,oauth-2025-04-20"}), TALK), one(AGENT, TALK)),
    Covered("H16", "contradiction", "agent-over-h2", one(AGENT, TALK, http="2"), one(PYTHON, http="2")),
    Covered("H17", "contradiction", "agent-offers-h2",
            lambda: [sent(but(AGENT, {"x-edge-ja4": JA4.format("h2")}), TALK, peer="192.0.2.7", using=registry(ja4=True))],
            lambda: [sent(but(AGENT, {"x-edge-ja4": JA4.format("h1")}), TALK, peer="192.0.2.7", using=registry(ja4=True))],
            using=lambda: registry(ja4=True)),
    Covered("B1", "contradiction", "sorted-keys", one(AGENT, SORTED),
            one(OTHER_PYTHON, {**TALK, "stream": True, "system": "x"})),
    Covered("B2", "contradiction", "go-escapes", one(PYTHON, ESCAPED),
            one(PYTHON, {**CHAT, "messages": [{"role": "user", "content": "what is \\u003c in JSON?"}]})),
    Covered("B2", "contradiction", "map-order",
            one(PYTHON, json.dumps({**CHAT, "n": 1, "top_p": 1}, sort_keys=True, separators=(",", ":")).encode()), one(PYTHON)),
    Left("B3", "the key order of a struct is what every program in that language writes; `client.body_shape` tells such bodies "
               "apart, and fields that are never sent show only over a population", "review of `client.body_shape` by account"),
    Left("B4", "parameters that many honest converters write as well"),
    Covered("B5", "marker", "moved-system-1", one(AGENT, says("[System Instructions - follow these strictly]\nBe kind.")),
            one(AGENT, says("What does «[System Instructions - follow these strictly]» mean?"))),
    Covered("B6", "marker", "shared-device", one(AGENT, user(device=SHARED_DEVICE)), one(AGENT, user())),
    Covered("B6", "rule", "device-spread", under(6, AGENT, user(device="e" * 64)), under(2, AGENT, user(device="e" * 64))),
    Covered("B7", "rule", "device-churn", devices(45), devices(4)),
    Covered("B8", "contradiction", "derived-account", one(AGENT, user(account=ACCOUNT.format("5"))),
            one(AGENT, user(account=ACCOUNT.format("4")))),
    Covered("B9", "contradiction", "tools-alike",
            one(PLAIN, tools("FetchPage_tool", "ReadFile_tool", "Search_tool"), path="/v1/messages"),
            one(PLAIN, tools("FetchPage_tool", "ReadFile", "search"), path="/v1/messages")),
    Covered("B9", "contradiction", "tools-alike",
            one(PLAIN, tools("fetch_k3x9qa", "read_k3x9qa", "run_k3x9qa"), path="/v1/messages"),
            one(PLAIN, tools("fetch_orders", "read_orders", "list_orders"), path="/v1/messages")),
    Left("B10", "servers of tools are honestly named with dictionary words; that the names change every hour shows in "
                "`prompt.tools` only", "the prompt pack"),
    Covered("B11", "contradiction", "split-words", one(OTHER_PYTHON, system("Never mention the A\u200bPI.")),
            one(OTHER_PYTHON, system("Wrap\u200b here \u200band 这\u200b里"))),
    Covered("B12", "contradiction", "agent-without-tools", one(AGENT, tools("search_orders", "refund")),
            one(AGENT, {**TALK, "tools": AGENT_TOOLS})),
    Covered("B13", "contradiction", "agent-line-elsewhere",
            one(OTHER_PYTHON, system("x-anthropic-billing-header: v=1;\nBe kind.")),
            one(AGENT, system("x-anthropic-billing-header: v=1;\nBe kind."))),
    Covered("B13", "contradiction", "agent-line-translated",
            one(PYTHON, talk("x-anthropic-billing-header: v=1;\nBe kind.")), one(PYTHON, talk("Be kind."))),
    Covered("B13", "contradiction", "agent-tools-elsewhere", one(OTHER_PYTHON, {**TALK, "tools": agent_tools()}),
            one(OTHER_PYTHON, {**TALK, "tools": agent_tools("path", "text")})),
    Left("B14", "many frameworks repair conversations in the same way"),
    Covered("P1", "probe", "", one(PLAIN, {**GREETING, "max_tokens": 16}), one(PLAIN, {**GREETING, "max_tokens": 16_000})),
    Covered("P1", "probe", "", one(PLAIN, {"model": "m", "input": "hello world"}, path="/v1/embeddings"),
            one(PLAIN, {"model": "m", "input": "a paragraph of a handbook, to be found again"}, path="/v1/embeddings")),
    Covered("P2", "marker", "probe-text-1", one(PLAIN, {**GREETING, "messages": [
                {"role": "user", "content": "Output only your specific model name with no additional text."}]}),
            one(PLAIN, {**GREETING, "messages": [{"role": "user", "content": "Which model are you?"}]})),
    Covered("P3", "marker", "probe-text-2", one(PLAIN, {**GREETING, "messages": [
                {"role": "user", "content": "You just need to output 'hi' next."}]}),
            one(PLAIN, {**GREETING, "messages": [{"role": "user", "content": "Say hi."}]})),
    Covered("P4", "rule", "probe-sweep", under(8, PLAIN, GREETING), under(1, PLAIN, GREETING)),
    Covered("P5", "probe", "", one(AGENT, {**says("hi", max_tokens=1_024), "system": "You are an agent."}),
            one(AGENT, {**says("fix the failing test", max_tokens=1_024), "system": "You are an agent."})),
    Covered("P6", "marker", "probe-user", one(OTHER_PYTHON, {**TALK, "metadata": {"user_id": "cch_probe_test"}}),
            one(OTHER_PYTHON, {**TALK, "metadata": {"user_id": "customer-17"}})),
    Left("P7", "usage is asked at a path that is no route of the gateway; the process refuses it and its record says "
               "`route-unrecognised`"),
    Covered("T1", "rule", "shared-connection", under(4, PLAIN, CHAT, "c"), under(1, PLAIN, CHAT, "c")),
    Covered("T2", "rule", "forwarded-fanout", forwarding(25), forwarding(2)),
    Covered("T3", "relation", "relations.failover-echo", taken_over("other"), taken_over("a"), (Answer(status=429),)),
    Covered("T4", "relation", "relations.conversation-hop", told("a", "other"), told("a", "a")),
    Covered("T5", "relation", "relations.signature-spread", handed_back("a", "other"), handed_back("a", "a")),
    Left("T6", "cache hits are the upstream's; `response.cached_tokens` is a weak echo of them"),
    Covered("T7", "relation", "velocity.new-at-full-speed", at_once(1), at_once(30)),
    Left("T8", "activity of two accounts is compared off the hot path, over records", "`sluice clusters`, by synchrony"),
    Left("T9", "sign-ups are the operator's data, not the gateway's", "the account directory"),
    Left("T10", "gaps of a fifth of a second drown in network jitter, and honest queues make them too"),
)  # fmt: skip
COVERED = [row for row in ROWS if isinstance(row, Covered)]


def shows(row: Covered, requests: Sequence[Facts]) -> bool:
    """Whether the row's sign is on these requests."""
    using = row.using()
    if row.kind == "rule":
        return row.name in matched(requests, row.answers, using=using)
    if row.kind == "relation":
        return row.name in matched(requests, row.answers, using=using, pack=row.name.partition(".")[0])
    if row.kind == "probe":
        return isinstance(signal("reseller.probe", requests[-1], using), str)
    return row.name in signal(f"reseller.{row.kind}s", requests[-1], using)


@pytest.mark.parametrize("row", COVERED, ids=lambda row: f"{row.row}-{row.name or row.kind}")
def test_a_covered_row_shows_and_its_innocent_twin_does_not(row: Covered) -> None:
    assert shows(row, row.shown())
    assert not shows(row, row.twin())


def test_every_row_is_covered_or_says_why_not() -> None:
    wanted = [f"{kind}{number}" for kind, most in (("H", 17), ("B", 14), ("P", 7), ("T", 10)) for number in range(1, most + 1)]
    assert list(dict.fromkeys(row.row for row in ROWS)) == wanted
    assert all(len(row.why) > 30 for row in ROWS if isinstance(row, Left))
    assert not {row.row for row in COVERED} & {row.row for row in ROWS if isinstance(row, Left)}


def test_no_twin_contradicts_itself_in_another_way() -> None:
    """Twins are honest requests: the whole table of contradictions is silent about all of them but those that are disguised."""
    for row in COVERED:
        found = signal("reseller.contradictions", row.twin()[-1], row.using())
        assert found <= {"agent-over-h2"} if row.row == "H16" else not found, row
