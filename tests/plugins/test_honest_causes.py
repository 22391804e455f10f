"""Honest traffic that looks like a relay's, from raw bytes through the shipped pack: it is seen, and nothing is done about it.

Each cause stands among the `false_positives` of a rule; each has a guilty twin, so that silence is not blindness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.decision import Action
from gateway.facts import Facts
from gateway.values import SECOND
from tests.plugins.test_relay_rows import agent_tools
from tests.plugins.wires import (
    AGENT,
    CHAT,
    OTHER_PYTHON,
    PLAIN,
    PYTHON,
    START,
    TALK,
    Headers,
    but,
    first,
    judged,
    sent,
    written,
)  # fmt: skip

STRIPPED = first(but(PYTHON, without=["x-stainless-"]), "host", "connection", "accept-encoding")
BASIC = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("Bash", "Read", "Edit", "Write")
]
SDKS = ("OpenAI/Python 2.8.0", "AsyncOpenAI/Python 2.8.0", "OpenAI/JS 6.1.0", "langchain/1", "curl/8.5.0", "LiteLLM/1.2")


def many(headers: Headers, body: object = CHAT, count: int = 20, **more: str) -> list[Facts]:
    """The same request again and again, on connections of its own."""
    return [
        sent(headers, body, at=START + place * 20 * SECOND, **{"connection": f"c{place}", **more})  # type: ignore[arg-type]
        for place in range(count)
    ]


def forwarding(header: str, value: str) -> list[Facts]:
    return [
        sent(but(PYTHON, {header: value.format(place + 1)}), at=START + place * SECOND, connection="c") for place in range(25)
    ]


def found(requests: Sequence[Facts]) -> dict[str, Action]:
    """The rules that matched, and the most that each would do."""
    most: dict[str, Action] = {}
    for played in judged(requests):
        for end in played.judgement.outcome.decision.matches():
            name = end.rule.removeprefix("reseller.")
            most[name] = max(end.action, most.get(name, Action.ALLOW))
    return most


def test_a_proxy_that_writes_headers_anew_is_seen_and_not_acted_upon() -> None:
    assert found(many(STRIPPED)) == {"weak-contradiction": Action.OBSERVE}
    several = [sent(STRIPPED, account=f"o{place % 2}", at=START + place * SECOND) for place in range(20)]
    assert found(several) == {"weak-contradiction": Action.TAG, "shared-connection": Action.TAG}
    escaped = written(CHAT).replace(b"<", b"\\u003c")
    assert found(many(STRIPPED, escaped)) == {"weak-contradiction": Action.OBSERVE, "contradiction": Action.TAG}


def test_a_program_whose_own_tools_bear_an_agents_names_does_not_contradict_itself() -> None:
    assert found(many(PYTHON, {**CHAT, "tools": BASIC})) == {}


def test_a_program_that_copies_an_agents_tools_is_seen_and_not_acted_upon() -> None:
    copied = {**TALK, "tools": agent_tools()}
    assert found(many(OTHER_PYTHON, copied)) == {"weak-contradiction": Action.OBSERVE}
    assert found(many(AGENT, copied)) == {}


def test_an_agent_behind_a_proxy_that_replaces_its_name_is_seen_and_not_acted_upon() -> None:
    body = {**TALK, "system": "x-anthropic-billing-header: v=1;\nBe kind.", "tools": agent_tools()}
    assert found(many(but(AGENT, {"user-agent": "proxy/1.0"}), body)) == {"weak-contradiction": Action.OBSERVE}


def test_keys_of_one_owner_are_not_several_owners_where_no_directory_says_whose_they_are() -> None:
    known = [
        sent(but(PYTHON, {"authorization": f"Bearer sk-{place % 3}"}), account=f"o{place % 3}", at=START + place * SECOND)
        for place in range(12)
    ]
    assert found(known) == {"shared-connection": Action.TAG}
    unknown = [replace(facts, account=None) for facts in known]
    assert len({facts.credential for facts in unknown}) == 3
    assert found(unknown) == {}


def test_a_companys_gateway_before_several_sdks_is_seen_and_not_acted_upon() -> None:
    def mixed(owners: int) -> list[Facts]:
        return [
            sent(but(PLAIN, {"user-agent": SDKS[place % 6]}), account=f"o{place % owners}", at=START + place * SECOND)
            for place in range(60)
        ]

    one = found(mixed(1))
    assert one.pop("mixed-connection") is Action.OBSERVE
    assert set(one.values()) <= {Action.OBSERVE}
    assert found(mixed(2))["mixed-connection"] is Action.TAG


def test_a_product_or_a_cdn_that_forwards_end_users_is_seen_and_not_acted_upon() -> None:
    assert found(forwarding("x-forwarded-for", "8.8.8.{}")) == {"forwarded-fanout": Action.OBSERVE}
    assert found(forwarding("forwarded", "for=8.8.8.{}")) == {"forwarded-fanout": Action.OBSERVE}
    beside = many(STRIPPED, connection="d")
    assert found([*beside, *forwarding("forwarded", "for=8.8.8.{}")])["forwarded-fanout"] is Action.TAG
