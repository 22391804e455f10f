"""Rule tests: what passes, what fails and with which words, and what counts as covered."""

from __future__ import annotations

from pathlib import Path

from gateway.replay.cases import load_cases
from gateway.replay.rule_tests import Results, run
from tests.judging import CATALOGUE, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.burst
    title: t
    family: volume
    owner: o
    measures:
      n: {count: true, per: [account.id], window: 1m}
      bad: {count: true, per: [account.id], window: 1h, where: {response.status: 500}}
    when: {any: [{id: many, n: {gte: 3}}, {id: broken, bad: {gte: 2}}]}
    then: {action: throttle, limit: 2/minute, per: [account.id]}
    mode: MODE
"""
HIT = """
  - {name: hit, sequence: [{given: {account.id: a}, times: 3}], expect: {p.burst: match, leaves: {many: true, broken: false}}}
"""[1:]
MISS = "  - {name: miss, given: {account.id: a}, expect: {p.burst: no_match}}\n"
UNKNOWN = "  - {name: unknown, given: {}, expect: {p.burst: unknown, missing: [n, bad], leaves: {many: unknown}}}\n"


def results(cases: str, folder: Path, mode: str = "enforce") -> Results:
    file = folder / "p.test.yaml"
    file.write_text(cases)
    found = policy(PACK.replace("MODE", mode))
    return run(load_cases([file], found, CATALOGUE), found, CATALOGUE)


def messages(cases: str, folder: Path) -> list[str]:
    return [failure.message for failure in results(cases, folder).failures]


def test_a_covered_rule_passes(tmp_path: Path) -> None:
    found = results("cases:\n" + HIT + MISS + UNKNOWN, tmp_path)
    assert (found.ran, found.failures, found.uncovered, found.passed) == (3, (), (), True)


def test_a_rule_that_is_off_is_tested_as_if_in_shadow(tmp_path: Path) -> None:
    assert results("cases:\n" + HIT + MISS + UNKNOWN, tmp_path, "off").passed
    assert results("cases:\n" + HIT + MISS + UNKNOWN, tmp_path, "shadow").passed


def test_an_empty_run_fails(tmp_path: Path) -> None:
    found = results("cases: []\n", tmp_path)
    assert not found.passed
    assert found.uncovered == tuple(f"p.burst: no case expects {verdict}" for verdict in ("match", "no_match", "unknown"))


def test_an_evasion_covers_nothing(tmp_path: Path) -> None:
    found = results("cases:\n" + HIT + UNKNOWN + "evasions:\n" + MISS, tmp_path)
    assert (found.failures, found.uncovered) == ((), ("p.burst: no case expects no_match",))


def test_failures_say_where_what_and_why(tmp_path: Path) -> None:
    found = results("cases:\n" + HIT.replace("match,", "no_match,") + MISS.replace("no_match", "unknown"), tmp_path)
    assert [str(failure) for failure in found.failures] == [
        f"{tmp_path / 'p.test.yaml'}:2:74: hit: p.burst: expected no_match, got match\n    many true: n 3, gte 3",
        f"{tmp_path / 'p.test.yaml'}:3:51: miss: p.burst: expected unknown, got no_match\n"
        "    many false: n 1, wanted gte 3\n    broken false: bad 0, wanted gte 2",
    ]
    assert messages("cases:\n" + UNKNOWN.replace("unknown,", "match,"), tmp_path) == [
        "p.burst: expected match, got unknown (lacked bad, n)"
    ]


def test_extras_are_checked(tmp_path: Path) -> None:
    def extra(written: str) -> list[str]:
        case = "{name: c, sequence: [{given: {account.id: a}, times: 3}], expect: {p.burst: match, " + written + "}}"
        return messages(f"cases:\n  - {case}\n", tmp_path)

    assert extra("leaves: {many: false}") == ["p.burst: expected leaf many to be false, got true"]
    assert extra("leaves: {broken: unknown}") == ["p.burst: expected leaf broken to be unknown, got false"]
    assert extra("leaves: {mnay: true}") == ["p.burst: no leaf 'mnay'; did you mean 'many'?"]
    assert extra("missing: [n]") == ["p.burst: expected n to be missing, missing were: none"]
    assert extra("action: observe") == []
    assert extra("action: throttle, would: deny") == [
        "p.burst: expected action throttle, got observe",
        "p.burst: expected would deny, got observe",
    ]


def test_sequences_count_move_in_time_and_answer(tmp_path: Path) -> None:
    apart = "  - {name: apart, sequence: [{given: {account.id: a}, times: 3, every: 30s}], expect: {p.burst: no_match}}\n"
    others = "  - {name: others, sequence: [{given: {}, times: 3, each: {account.id: 'a{n}'}}], expect: {p.burst: no_match}}\n"
    failing = (
        "  - {name: failing, sequence: [{given: {account.id: a}, times: 2, every: 1m, answer: {status: 500}}, "
        "{given: {account.id: a}}], expect: {p.burst: match, leaves: {broken: true, many: false}}}\n"
    )
    throttled = (
        "  - {name: throttled, sequence: [{given: {account.id: a}, times: 5}], expect: {p.burst: match, action: throttle}}\n"
    )
    assert messages("cases:\n" + apart + others + failing + throttled, tmp_path) == []


def test_the_same_cases_give_the_same_results(tmp_path: Path) -> None:
    text = "cases:\n" + HIT + MISS.replace("no_match", "match") + UNKNOWN
    assert results(text, tmp_path) == results(text, tmp_path)
