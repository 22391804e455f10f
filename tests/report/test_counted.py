"""What a dry run reports: nothing merged, nothing blamed on an account that it did not do."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gateway.errors import Place
from gateway.facts import Answer, Cause, Facts
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange
from gateway.report.counted import COUNTED, Report
from gateway.report.labels import Labels
from gateway.report.printing import show, write
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
        found.add(one.observed)
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


def test_refusals_at_intake_are_counted_by_cause_and_stand_apart_from_the_share() -> None:
    found = report()
    assert found["refused_at_intake"] == {"body-malformed": 1}
    assert found["benign"] == {
        "exchanges": 6, "would_refuse": 4, "share": 4 / 6, "counts": COUNTED, "refused_at_intake": 1,
    }  # fmt: skip
    out = io.StringIO()
    show(found, Console(file=out, width=200))
    assert "\nrefused at intake: body-malformed 1\n" in out.getvalue()
    assert "benign   6 exchanges, 4 would be refused (66.6667%): refusals by rules and limits" in out.getvalue()
    assert "those at intake stand apart (1)" in out.getvalue()


def test_a_limit_that_refuses_for_want_of_a_key_counts_in_the_share() -> None:
    keyed = policy("""
pack: r
version: 1
language: 1
limits:
  - {id: r.limit, per: [account.org], limit: 2/minute, on_missing: refuse, mode: enforce}
""")
    found = Report(keyed)
    for one in replay([exchange(1, facts({"account.id": "a"}), "chat")], keyed, CATALOGUE):
        found.add(one.observed)
    assert found.benign_share == 1


def test_names_are_never_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = f"r.{'very-' * 30}long"
    found = report()
    found["rules"][0]["id"] = found["accounts"][0]["id"] = long
    found["accounts"][0]["rules"] = [long]
    write(found, "table", None)
    write(found, "table", tmp_path / "out.txt")
    for written in (capsys.readouterr().out, (tmp_path / "out.txt").read_text()):
        assert written.count(long) == 3
        assert "…" not in written.replace(f"{found['policy']['digest'][:19]}…", "")
    narrow = io.StringIO()
    show(found, Console(file=narrow, width=60, force_terminal=True, no_color=True))
    rules = narrow.getvalue().split("Rules")[1].split("Labels")[0]
    rows = re.findall(r"^│(.*?)│", re.sub(r"\x1b\[[0-9;]*m", "", rules), re.MULTILINE)
    assert "".join(row.strip() for row in rows) == long


def test_labels_of_ones_own_come_first() -> None:
    found = Report(POLICY, Labels({"a": "mine"}))
    for one in replay(traffic(), POLICY, CATALOGUE):
        found.add(one.observed)
    assert found.as_dict(7, 0)["labels"]["mine"]["exchanges"] == 4


def test_the_table_shows_the_same() -> None:
    out = io.StringIO()
    show(report(), Console(file=out, width=140))
    for text in ("r.shadow", "7 read, 0 unreadable", "allow 4, deny 1, throttle 2", "request.model"):
        assert text in out.getvalue()
