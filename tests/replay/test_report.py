"""What a dry run reports: nothing merged, nothing blamed on an account that it did not do."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console

from gateway.errors import Place
from gateway.facts import Answer, Cause, Facts
from gateway.replay.driver import replay
from gateway.replay.report import Report, show
from gateway.replay.sources import Exchange
from tests.judging import CATALOGUE, START, facts, policy

POLICY = policy("""
pack: r
version: 1
language: 1
rules:
  - {id: r.shadow, title: Trial, family: identity, owner: tests, when: {request.model: m}, then: {action: deny}, mode: shadow}
  - {id: r.off, title: Resting, family: identity, owner: tests, when: {request.model: m}, then: {action: deny}, mode: off}
limits:
  - {id: r.limit, per: [account.id], limit: 2/minute, on_missing: skip, mode: enforce}
""")


def exchange(number: int, found: Facts, label: str | None = None) -> Exchange:
    return Exchange(Place("f", number, 1), f"{number:032x}", found, Answer(200), label)


def traffic() -> Iterator[Exchange]:
    for number in range(4):
        yield exchange(number, facts({"account.id": "a", "request.model": "m"}, START + number), "chat")
    yield exchange(5, facts({"account.id": "b"}, START + 5), "chat")
    yield exchange(6, facts({"account.id": "c"}, START + 6, cause=Cause.BODY_MALFORMED), "chat")
    yield exchange(7, facts({}, START + 7))


def report() -> dict:  # type: ignore[type-arg]
    found = Report(POLICY)
    for one in replay(traffic(), POLICY, CATALOGUE):
        found.add(one)
    return found.as_dict(7, 0)


def test_outcomes_and_what_they_would_be() -> None:
    found = report()
    assert found["outcomes"] == {"allow": 4, "deny": 1, "throttle": 2}
    assert found["would"] == {"allow": 2, "deny": 5}


def test_rules_keep_their_verdicts_apart_and_rest_when_off() -> None:
    (rule,) = report()["rules"]
    assert {key: rule[key] for key in ("id", "mode", "match", "unknown", "error", "accounts")} == {
        "id": "r.shadow", "mode": "shadow", "match": 4, "unknown": 3, "error": 0, "accounts": 1,
    }  # fmt: skip
    assert rule["missing"] == {"request.model": 3}


def test_an_unreadable_request_is_not_held_against_its_account() -> None:
    found = {account["id"]: (account["strongest"], account["would"]) for account in report()["accounts"]}
    assert found == {
        "a": ("throttle", "deny"),
        "b": ("allow", "allow"),
        "c": ("allow", "allow"),
        "(no account)": ("allow", "allow"),
    }
    assert report()["labels"] == {"chat": {"accounts": 3, "exchanges": 6, "matched": 1, "acted_on": 1, "would_act_on": 1}}


def test_labels_of_ones_own_come_first() -> None:
    found = Report(POLICY, {"a": "mine"})
    for one in replay(traffic(), POLICY, CATALOGUE):
        found.add(one)
    assert found.as_dict(7, 0)["labels"]["mine"]["exchanges"] == 4


def test_the_table_shows_the_same() -> None:
    out = io.StringIO()
    show(report(), Console(file=out, width=140))
    for text in ("r.shadow", "7 read, 0 unreadable", "allow 4, deny 1, throttle 2", "request.model"):
        assert text in out.getvalue()
