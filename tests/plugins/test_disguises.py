"""What a relay can do to look like its callers, and what of it still shows: every disguise with the rules that see it.

One pool is disguised again and again: several programs of several callers, sent on in turn under the keys of four owners.
What is not named here as seen is a known miss. All of it goes through the real intake, engine and shipped pack.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from gateway.facts import Facts
from gateway.values import SECOND
from tests.plugins.test_relay_rows import agent_tools
from tests.plugins.wires import (
    AGENT,
    CURL,
    PLAIN,
    PYTHON,
    START,
    Headers,
    but,
    first,
    judged,
    matched,
    registry,
    sent,
    signal,
    written,
)  # fmt: skip

OWNERS = 4
ROUNDS = 96
STEP = 20 * SECOND
DECLARED = """workloads:
  - {id: acme.relay, kind: relay, orgs: [o0, o1, o2, o3], from: 2026-01-01, until: 2027-01-01, owner: partnerships,
     evidence: contract}
"""


class Caller(NamedTuple):
    """One program behind the relay: its own headers and body."""

    headers: Headers
    body: dict[str, Any]


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def told(system: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, *turn(text)]


CALLERS = (
    Caller(PYTHON, {"messages": told("You sell shoes.", "which size?"), "model": "m", "temperature": 0.2, "max_tokens": 300}),
    Caller(but(PYTHON, {"user-agent": "AsyncOpenAI/Python 3.1.0"}),
           {"model": "m", "stream": True, "messages": told("You grade essays.", "a < b"), "temperature": 0}),
    Caller(CURL, {"model": "m", "messages": turn("what is rain?"), "stream": True}),
    Caller(but(AGENT, {"x-claude-code-session-id": "s" * 36}),
           {"model": "m", "messages": told("You mend code.", "mend it"), "tools": agent_tools(), "max_tokens": 512,
            "stream": True}),
    Caller(but(PLAIN, {"user-agent": "notes/3.2"}),
           {"messages": told("You sum up notes.", "sum up"), "model": "m", "top_p": 0.9}),
    Caller(PLAIN, {"model": "m", "messages": told("You translate.", "gr\u00fc\u00dfe"), "temperature": 1, "seed": 7}),
)  # fmt: skip


class Sending(NamedTuple):
    """How one request leaves the relay, before a disguise changes it."""

    headers: Headers
    body: bytes
    connection: str
    peer: str
    owner: str


Disguise = Callable[[Sending, Caller], Sending]


def relayed(*disguises: Disguise, callers: Sequence[Caller] = CALLERS, owners: int = OWNERS) -> list[Facts]:
    """The pool's requests in order: callers in turn, keys in turn, one connection, the relay's own transport headers first."""
    found = []
    for place in range(ROUNDS):
        caller = callers[place % len(callers)]
        owner = f"o{(place + place // max(owners, len(callers))) % owners}"
        headers = (
            first(caller.headers, "host")
            if "connection" not in dict(caller.headers)
            else first(caller.headers, "host", "connection")
        )
        sending = Sending(
            (*headers, ("x-forwarded-for", f"8.8.{place % len(callers)}.4")), written(caller.body), "c", "203.0.113.9", owner
        )
        for disguise in disguises:
            sending = disguise(sending, caller)
        path = "/v1/chat/completions"
        found.append(
            sent(sending.headers, sending.body, at=START + place * STEP, path=path, account=sending.owner,
                 connection=sending.connection, peer=sending.peer)
        )  # fmt: skip
    return found


def connection_per_key(sending: Sending, caller: Caller) -> Sending:
    return sending._replace(connection=f"c-{sending.owner}")


def proxy_per_account(sending: Sending, caller: Caller) -> Sending:
    return sending._replace(connection=f"c-{sending.owner}", peer=f"198.51.{sending.owner[1:]}.9")


def upper_case(sending: Sending, caller: Caller) -> Sending:
    return sending._replace(headers=tuple((name.title(), value) for name, value in sending.headers))


def one_agent(sending: Sending, caller: Caller) -> Sending:
    """Headers of the relay's own: one User-Agent, one order."""
    return sending._replace(headers=but(PLAIN, {"user-agent": "python-httpx/0.28.1"}))


def no_forwarding(sending: Sending, caller: Caller) -> Sending:
    return sending._replace(headers=but(sending.headers, without=["x-forwarded-for"]))


def no_stainless(sending: Sending, caller: Caller) -> Sending:
    return sending._replace(headers=but(sending.headers, without=["x-stainless-"]))


def reordered(sending: Sending, caller: Caller) -> Sending:
    """Headers in the order in which the claimed client sends them."""
    return sending._replace(headers=caller.headers)


def sorted_bodies(sending: Sending, caller: Caller) -> Sending:
    """Read, and written anew out of an unordered map: compact, keys in alphabetical order."""
    return sending._replace(body=written(caller.body, sort_keys=True))


def go_bodies(sending: Sending, caller: Caller) -> Sending:
    raw = json.dumps(caller.body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sending._replace(body=raw.replace("<", "\\u003c").encode())


def rewritten(sending: Sending, caller: Caller) -> Sending:
    """Every body in one order of keys, with the same keys."""
    body = {"model": "m", "messages": caller.body["messages"], "max_tokens": 512, "stream": bool(caller.body.get("stream"))}
    return sending._replace(body=written(body))


def as_agent(sending: Sending, caller: Caller) -> Sending:
    """Everything claims to be one agent, from a program with another transport."""
    host, length = ("host", "gateway.example"), ("content-length", "9")
    rest = sorted(pair for pair in AGENT if pair[0] not in ("host", "user-agent", "content-length"))
    return sending._replace(headers=(host, ("user-agent", dict(AGENT)["user-agent"]), length, *rest))


def as_agent_well(sending: Sending, caller: Caller) -> Sending:
    """The same, header for header as the agent sends them."""
    return sending._replace(headers=AGENT)


def pinned(sending: Sending, caller: Caller) -> Sending:
    """Every caller stays on a key, a connection and an exit of its own."""
    place = str(CALLERS.index(caller))
    return Sending(sending.headers, sending.body, f"c-{place}", f"198.51.{place}.9", f"p{place}")


AGENT_ONLY = (CALLERS[3],)
CLEAN = (CALLERS[0], CALLERS[1], CALLERS[4], CALLERS[5])


@dataclass(frozen=True)
class Row:
    """One disguise, the rules that still see it, and why the others do not."""

    name: str
    disguises: tuple[Disguise, ...]
    seen: frozenset[str]
    why: str
    callers: Sequence[Caller] = CALLERS


def row(name: str, disguises: tuple[Disguise, ...], seen: str, why: str, callers: Sequence[Caller] = CALLERS) -> Row:
    return Row(name, disguises, frozenset(seen.split()), why, callers)


ROWS = (
    row("none: headers and bodies passed on, one connection", (),
        "shared-connection mixed-connection mixed-programs weak-contradiction session-spread", "all of it shows"),
    row("header names in another case", (upper_case,),
        "shared-connection mixed-connection mixed-programs weak-contradiction session-spread",
        "names are compared in lower case"),
    row("forwarding headers stripped", (no_forwarding,),
        "shared-connection mixed-connection mixed-programs weak-contradiction session-spread", "the rest does not need them"),
    row("one connection per key", (connection_per_key,),
        "mixed-connection mixed-programs weak-contradiction session-spread", "several programs still share each connection"),
    row("one connection and one exit per account", (proxy_per_account,),
        "mixed-connection mixed-programs weak-contradiction session-spread", "nothing here counts by address"),
    row("SDK headers stripped", (no_stainless,),
        "shared-connection mixed-connection mixed-programs weak-contradiction session-spread",
        "the SDK named always sends them"),
    row("headers in each client's own order", (reordered,),
        "shared-connection mixed-connection mixed-programs session-spread", "no contradiction is left; the sharing is"),
    row("headers in each client's own order, one connection per key", (reordered, connection_per_key),
        "mixed-connection mixed-programs session-spread", "each connection still carries several programs"),
    row("one User-Agent and one header order", (one_agent,),
        "shared-connection mixed-programs account-of-many-programs",
        "bodies show several programs; the agent's tools under another name are too few for each key"),
    row("the same, without an agent among the callers", (one_agent,),
        "shared-connection mixed-programs", "bodies show several programs", CLEAN),
    row("the same, and bodies written anew in alphabetical order", (one_agent, sorted_bodies),
        "shared-connection", "all bodies have one order; only the connection is shared", CLEAN),
    row("the same, and one connection per key", (one_agent, sorted_bodies, connection_per_key),
        "", "a known miss: one program per key, as far as one request shows; conversations that hop are left", CLEAN),
    row("bodies written anew by Go below the callers' headers", (reordered, go_bodies, connection_per_key),
        "mixed-connection contradiction weak-contradiction",
        "escapes and key order are not those of the SDKs named", (*CLEAN, CALLERS[2])),
    row("bodies in one order, one connection per key", (one_agent, rewritten, connection_per_key),
        "", "a known miss, as above", CLEAN),
    row("everything claims to be one agent, sent by Go", (as_agent, connection_per_key),
        "mixed-programs account-of-many-programs weak-contradiction", "header order is Go's, and bodies are several programs'"),
    row("everything claims to be one agent, header for header", (as_agent_well, connection_per_key),
        "mixed-programs", "only bodies differ, on each connection", CLEAN),
    row("the same, with bodies in one order", (as_agent_well, rewritten, connection_per_key),
        "", "a known miss: the claim, the wire and the bodies agree", CLEAN),
    row("an agent's calls under another name", (one_agent, connection_per_key),
        "weak-contradiction", "its tools are its own, to the parameter", AGENT_ONLY),
    row("an agent's calls in its own name, one connection per key", (reordered, connection_per_key),
        "session-spread", "the session it names goes on under several owners", AGENT_ONLY),
    row("every caller on a key, connection and exit of its own", (reordered, pinned),
        "", "a known miss: what is sent is what the caller's client would send"),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_still_shows_of_a_disguise_and_what_does_not(row: Row) -> None:
    assert matched(relayed(*row.disguises, callers=row.callers)) == row.seen


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_with_every_marker_gone_the_same_is_seen(row: Row) -> None:
    assert matched(relayed(*row.disguises, callers=row.callers), using=registry("markers: []\n")) == row.seen


def tags(requests: Sequence[Facts], workloads: str = "") -> set[str]:
    return {tag for played in judged(requests, workloads=workloads) for tag in played.judgement.outcome.tags}


def test_an_honest_relay_is_tagged_until_it_is_declared() -> None:
    honest = relayed(
        one_agent, lambda sending, caller: sending._replace(headers=but(sending.headers, {"via": "1.1 relay.example"}))
    )
    assert "relay-shared-connection" in tags(honest)
    assert tags(honest, DECLARED) == set()
    ends = [end for played in judged(honest, workloads=DECLARED) for end in played.judgement.outcome.decision.matches()]
    assert ends
    assert {end.abstained for end in ends} == {"acme.relay"}


def test_weak_signs_act_only_together() -> None:
    """Several programs on one connection are observed; with several owners on it, they are tagged."""
    apart = relayed(one_agent, connection_per_key, callers=CLEAN)
    assert "mixed-programs" in matched(apart)
    assert tags(apart) == set()
    assert "relay-mixed-programs" in tags(relayed(one_agent, callers=CLEAN))


def honest(*requests: tuple[Headers, dict[str, Any]], connections: int = 1, accounts: int = 1) -> list[Facts]:
    found = []
    for place in range(48):
        headers, body = requests[place % len(requests)]
        account = f"a{place % accounts}"
        found.append(
            sent(headers, body, at=START + place * STEP, account=account, org="one", path="/v1/chat/completions",
                 connection=f"{account}-{place % connections}")
        )  # fmt: skip
    return found


def shapes(headers: Headers, systems: int = 9) -> list[tuple[Headers, dict[str, Any]]]:
    """A framework: many options, many prompts, one order of keys."""
    options: list[dict[str, Any]] = [{}, {"temperature": 0}, {"max_tokens": 9}, {"tools": []}, {"stop": "x"}, {"stream": True}]
    return [
        (
            headers,
            {"messages": told(f"You are number {place % systems}.", "go on"), "model": "m", **options[place % len(options)]},
        )
        for place in range(18)
    ]


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(honest(*((caller.headers, caller.body) for caller in CALLERS), connections=len(CALLERS)),
                     id="a team with several SDKs"),
        pytest.param(honest(*shapes(PYTHON)), id="a framework with many shapes"),
        pytest.param(honest(*shapes(PLAIN), connections=7, accounts=5), id="a framework on several keys of one owner"),
        pytest.param(honest((AGENT, CALLERS[3].body)), id="an agent in its own name"),
        pytest.param(honest(*((PLAIN, caller.body) for caller in CALLERS[:2])), id="two scripts through one library"),
        pytest.param(honest((PYTHON, CALLERS[0].body), (but(PYTHON, {"user-agent": "layer/1.0"}), CALLERS[0].body)),
                     id="an SDK below a layer"),
    ],
)  # fmt: skip
def test_honest_callers_that_look_alike_are_left_alone(requests: list[Facts]) -> None:
    assert matched(requests) == set()


def test_the_fingerprint_survives_what_a_disguise_does_not_touch() -> None:
    plain, disguised = relayed(callers=CLEAN), relayed(connection_per_key, upper_case, callers=CLEAN)
    assert [signal("client.fingerprint", facts) for facts in plain] == [
        signal("client.fingerprint", facts) for facts in disguised
    ]
