"""Mutants: which are made, which are not because nothing could tell them apart, and what kills, accepts and outlives them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.replay.altered_limits import amounts
from gateway.replay.cases import load_tests
from gateway.replay.mutants import mutants
from gateway.replay.mutation import Sweep, sweep
from gateway.replay.rule_tests import run
from tests.judging import CATALOGUE, policy

HEAD = "pack: p\nversion: 1\nlanguage: 1\n"
RULE = "  - {id: p.r, title: t, family: client, owner: o, mode: enforce, "
LISTS = "lists: {some: {type: country, values: [NO, SE, DK, FI]}}\n"


def changes(rule: str, lists: str = "", seen: frozenset[str] = frozenset()) -> list[str]:
    """The changes made of one rule, written as the rest of its mapping; its action is observe unless it says otherwise."""
    then = "" if "then:" in rule else ", then: {action: observe}"
    found = mutants(policy(f"{HEAD}{lists}rules:\n{RULE}{rule}{then}}}\n"), CATALOGUE, lambda names: lambda signal: seen)
    return [mutant.id.removeprefix("p.r: ") for mutant in found if not mutant.id.startswith("p.r: then")]


def of_leaf(when: str, **more: str) -> list[str]:
    return [
        change.split(": ", 1)[1] for change in changes(f"when: {when}", **more) if change.startswith("leaf") and ": " in change
    ]


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("{request.size: {gte: 8}}", ["gte 8 becomes gte 7", "gte 8 becomes gte 9"]),
        ("{request.size: {gt: 0}}", ["gt 0 becomes gt 1"]),
        ("{request.size: {eq: 3}}", ["eq 3 becomes eq 2", "eq 3 becomes eq 4"]),
        ("{request.size: {between: [3, 4]}}", [
            f"between [3, 4] becomes between {pair}" for pair in ("[2, 4]", "[4, 4]", "[3, 3]", "[3, 5]")]),
        ("{account.age: {lt: 30d}}", ["lt 30d becomes lt 29d", "lt 30d becomes lt 31d", "lt 30d becomes lte 30d"]),
        ("{account.age: {gte: 2w}}", ["gte 2w becomes gte 1w", "gte 2w becomes gte 3w", "gte 2w becomes gt 2w"]),
        ("{client.family: {starts_with: curl}}", ["starts_with curl becomes contains curl"]),
        ("{client.country: {in: [NO]}}", []),
        ("{client.country: {in: [NO, SE]}}", [
            f"in [NO, SE] becomes in [NO, SE] without {item}" for item in ("NO", "SE")]),
        ("{client.ip: {within: [10.0.0.0/8, 192.0.2.0/24]}}", [
            "within [10.0.0.0/8, 192.0.2.0/24] becomes within [10.0.0.0/8, 192.0.2.0/24] without 10.0.0.0/8",
            "within [10.0.0.0/8, 192.0.2.0/24] becomes within [10.0.0.0/8, 192.0.2.0/24] without 192.0.2.0/24"]),
        ("{request.stream: true}", []),
        ("{account.id: {present: true}}", []),
    ],
)  # fmt: skip
def test_comparisons_are_moved_by_the_smallest_step_that_could_be_seen(when: str, found: list[str]) -> None:
    assert of_leaf(when) == found


def test_every_leaf_is_negated_and_left_out_and_groups_are_swapped() -> None:
    when = "{any: [{id: a, request.stream: true}, {all: [{id: b, client.country: NO}, {id: c, request.size: {gt: 5}}]}]}"
    assert [change for change in changes(f"when: {when}") if "gt 5" not in change] == [
        "the condition: any becomes all", "leaf a left out", "leaf a negated", "the condition: part 2 left out",
        "the condition, part 2: all becomes any", "leaf b left out", "leaf b negated", "leaf c left out", "leaf c negated",
    ]  # fmt: skip
    assert changes("when: {id: a, request.stream: true}") == ["leaf a negated", "leaf a left out"]
    assert changes("when: {none: [{id: a, request.stream: true}]}") == [
        "the condition: none becomes any", "leaf a left out", "leaf a negated",
    ]  # fmt: skip


def test_measures_change_their_window_keys_filter_and_a_cap_that_could_be_seen() -> None:
    ratio = (
        "measures: {n: {distinct: client.ip, per: [account.id, client.country], window: 1h, cap: 40, "
        "where: {all: [{request.stream: true}, {request.size: {gte: 1}}]}}, "
        "unread: {count: true, per: [account.id], window: 1h}, "
        "part: {ratio: [n, m]}, m: {count: true, per: [account.id], window: 2h}}"
    )
    found = changes(f"{ratio}, when: {{part: {{gte: 0.5}}}}")
    assert [change for change in found if change.startswith("measure") and ": where" not in change] == [
        "measure n: window 1h becomes 30m", "measure n: window 1h becomes 2h", "measure n: per without account.id",
        "measure n: per without client.country", "measure n: cap 40 becomes 20",
        "measure m: window 2h becomes 1h", "measure m: window 2h becomes 4h", "measure m: per without account.id",
    ]  # fmt: skip
    assert [change for change in found if ": where" in change][:3] == [
        "measure n: where left out", "measure n: where the condition: all becomes any",
        "measure n: where leaf request.stream.eq left out",
    ]  # fmt: skip
    counted = "measures: {n: {distinct: client.ip, per: [account.id], window: 8s, cap: 40}}"
    assert changes(f"{counted}, when: {{n: {{gte: 8}}}}")[-3:] == [
        "leaf n.gte left out", "measure n: window 8s becomes 16s", "measure n: per without account.id",
    ]  # fmt: skip
    assert changes(f"{counted}, when: {{n: {{lt: 8}}}}")[-1] == "measure n: cap 40 becomes 20"
    ranked = "measures: {n: {quantile: request.size, rank: 0.95, per: [account.id], window: 8s}}"
    assert changes(f"{ranked}, when: {{n: {{gte: 8}}}}")[-1] == "measure n: rank 0.95 becomes 0.9"


def test_steps_are_moved_left_out_and_strengthened_where_it_could_be_seen() -> None:
    throttle = "{from: 6, action: throttle, limit: 9/minute, per: [account.id]}"
    steps = f"then: {{of: n, steps: [{{from: 5, action: tag, tag: a}}, {throttle}]}}"
    counted = "measures: {n: {count: true, per: [account.id], window: 1h}}"
    found = [change for change in changes(f"{counted}, when: {{n: {{gte: 5}}}}, {steps}") if change.startswith("step")]
    assert found == [
        "step from 5: observe in place of tag", "step from 5: deny in place of tag",
        "step from 6: observe in place of throttle", "step from 6: deny in place of throttle",
        "step from 6: limit 9 requests/minute becomes 8 requests/minute",
        "step from 6: limit 9 requests/minute becomes 10 requests/minute",
        "step from 6: limit 9 requests/minute becomes 9 requests/30s",
        "step from 6: limit 9 requests/minute becomes 9 requests/2m",
        "step from 6: limit window fixed becomes moving", "step from 6: per without account.id",
        "step from 5 left out", "step from 6 left out", "step from 6 starts at 7",
    ]  # fmt: skip
    early = [
        change for change in changes(f"{counted}, when: {{n: {{gte: 4}}}}, {steps}") if change.startswith("step from 5 starts")
    ]
    assert early == ["step from 5 starts at 4"]


def test_what_stands_around_a_rule_is_changed_too() -> None:
    around = (
        "when: {id: a, request.stream: true}, corroborate: {families: 3, within: 1h, per: [account.id], else: tag}, "
        "exceptions: {agreed: {fields: [account.id, client.country], entries: []}}, abstain_for: [benchmark, relay]"
    )
    assert changes(around)[2:] == [
        "corroborate left out", "corroborate: 3 families become 2", "corroborate: 3 families become 4",
        "corroborate: within 1h becomes 30m", "corroborate: within 1h becomes 2h", "corroborate: per without account.id",
        "corroborate: else tag becomes observe", "exception agreed: fields without account.id",
        "exception agreed: fields without client.country", "abstain_for without benchmark", "abstain_for without relay",
    ]  # fmt: skip


PLAN = f"""{HEAD}prices: {{small-*: {{input: 0.1, output: 0.4}}}}
limits:
  - {{id: p.limit, per: [account.id], limit: LIMIT, on_missing: skip, mode: enforce}}
"""


def of_limit(written: str) -> dict[str, str]:
    """The changes of a plan limit, each with its hint, without those of its key."""
    (plan,) = policy(PLAN.replace("LIMIT", written)).limits
    return {change.said: change.hint for change in amounts(plan.limit)}


@pytest.mark.parametrize(
    ("written", "below", "above"),
    [
        ("5 usd/day", "4 usd/day", "6 usd/day"),
        ("2.5 usd/hour", "2.4 usd/hour", "2.6 usd/hour"),
        ("1 usd/day", "0.9 usd/day", "1.1 usd/day"),
        ("0.01 usd/day", "0.009 usd/day", "0.011 usd/day"),
        ("200000 tokens/10s", "199999 tokens/10s", "200001 tokens/10s"),
        ("60 requests/minute", "59 requests/minute", "61 requests/minute"),
        ("8 concurrent", "7 concurrent", "9 concurrent"),
    ],
)
def test_limits_are_moved_by_the_smallest_step_that_is_written(written: str, below: str, above: str) -> None:
    assert list(of_limit(written))[:2] == [f"limit {written} becomes {below}", f"limit {written} becomes {above}"]


def test_hints_speak_in_the_unit_of_the_limit() -> None:
    assert list(of_limit("5 usd/day").values())[1] == (
        "a case whose answers cost 5 to 6 usd in a period, and whether more is refused"
    )
    assert next(iter(of_limit("7 tokens/day").values())) == (
        "a case whose answers take 6 tokens in a period, and whether one more is refused"
    )


def test_a_concurrent_limit_has_no_window_and_a_lease_that_no_case_can_tell_apart() -> None:
    found = of_limit("2 concurrent, lease: 4m")
    assert list(found) == ["limit 2 concurrent becomes 1 concurrent", "limit 2 concurrent becomes 3 concurrent"]


def test_mutants_stand_where_the_changed_part_stands() -> None:
    pack = policy(f"""{HEAD}rules:
  - id: p.r
    title: t
    family: client
    owner: o
    measures:
      n: {{count: true, per: [account.id], window: 1h}}
    when: {{n: {{gte: 5}}}}
    corroborate: {{families: 2, within: 1h, per: [account.id]}}
    exceptions:
      agreed: {{fields: [account.id], entries: []}}
    abstain_for: [benchmark]
    then:
      of: n
      steps:
        - {{from: 5, action: tag, tag: a}}
        - {{from: 9, action: deny}}
    mode: enforce
""")
    lines = {
        mutant.id.removeprefix("p.r: "): mutant.place.line
        for mutant in mutants(pack, CATALOGUE, lambda n: lambda s: frozenset())
    }
    wanted = {
        "leaf n.gte negated": 11, "measure n: window 1h becomes 30m": 10, "corroborate left out": 12,
        "corroborate: 2 families become 3": 12, "exception agreed: fields without account.id": 14,
        "abstain_for without benchmark": 15, "step from 5: deny in place of tag": 19, "step from 9 left out": 20,
        "step from 9 starts at 10": 20,
    }  # fmt: skip
    assert {said: lines[said] for said in wanted} == wanted


def test_lists_lose_items_that_tests_give_gain_one_and_are_emptied() -> None:
    seen = frozenset({"DK", "FR"})
    found = [change for change in changes('when: {client.country: "@some"}', LISTS, seen) if change.startswith("p: list")]
    assert found == [
        "p: list some without DK", "p: list some without FI", "p: list some without NO", "p: list some with FR",
        "p: list some emptied",
    ]  # fmt: skip
    assert [change for change in changes("when: {client.country: NO}", LISTS) if change.startswith("p: list")] == []


def test_no_mutant_is_called_like_another_and_none_is_the_policy_itself() -> None:
    twice = policy(f"{HEAD}rules:\n{RULE}when: {{any: [{{request.size: {{gt: 5}}}}, {{all: [{{request.size: {{gt: 5}}}}, "
                   "{request.stream: true}]}]}, then: {action: observe}}\n")  # fmt: skip
    found = mutants(twice, CATALOGUE, lambda names: lambda signal: frozenset())
    assert len({mutant.id for mutant in found}) == len(found)
    for mutant in found:
        assert all(rule.canonical() != twice.rules[0].canonical() for rule in mutant.rules.values())


PACK = f"""{HEAD}{LISTS}rules:
  - id: p.abroad
    title: t
    family: network
    owner: o
    measures: {{n: {{count: true, per: [account.id], window: 1h}}}}
    when: {{all: [{{id: listed, client.country: "@some"}}, {{id: many, n: {{gte: 3}}}}]}}
    then: {{action: tag, tag: abroad}}
    mode: enforce
limits:
  - {{id: p.plan, per: [account.id], limit: 5 requests/minute, when: {{account.plan: free}}, on_missing: skip, mode: enforce}}
"""
CASES = """
cases:
  - name: three requests from one of each
    sequence:
      - {given: {account.id: a, client.country: NO}, times: 2}
      - {given: {account.id: b, client.country: DK}, times: 2}
      - {given: {account.id: a, client.country: SE}}
    expect: {p.abroad: match, action: tag, matched: {p.abroad: 1}}
  - {name: elsewhere, sequence: [{given: {account.id: a, client.country: FR}, times: 4}], expect: {p.abroad: no_match}}
  - {name: by nobody, given: {client.country: NO}, expect: {p.abroad: unknown}}
  - name: the limit
    sequence: [{given: {account.plan: free, account.id: a}, times: 6, every: 5s}]
    expect: {limits: {p.plan: refused}, refused: {p.plan: 1}}
"""
SURVIVORS = {
    "p.abroad: measure n: window 1h becomes 30m",
    "p.abroad: measure n: window 1h becomes 2h",
    "p.plan: limit 5 requests/minute becomes 5 requests/30s",
    "p.plan: limit 5 requests/minute becomes 5 requests/2m",
    "p.plan: limit window fixed becomes moving",
    "p.plan: per without account.id",
    "p.plan: leaf account.plan.eq left out",
    "p.plan: on_missing skip becomes refuse",
    "p.plan: on_missing skip becomes share",
    "p: list some without DK",
}


def swept(folder: Path, cases: str, ticks: list[tuple[int, int]] | None = None, jobs: int = 1) -> Sweep:
    file = folder / "p.test.yaml"
    file.write_text(cases)
    found = policy(PACK)
    tests = load_tests([file], found, CATALOGUE)
    results = run(tests.cases, found, CATALOGUE)
    assert results.failures == ()
    heard: list[tuple[int, int]] = [] if ticks is None else ticks
    return sweep(tests, results, found, CATALOGUE, lambda done, total: heard.append((done, total)), jobs)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_sweep_names_exactly_what_no_case_notices(tmp_path: Path, jobs: int) -> None:
    ticks: list[tuple[int, int]] = []
    found = swept(tmp_path, CASES, ticks, jobs)
    assert {mutant.id for mutant in found.survivors} == SURVIVORS
    assert (found.mutants, found.killed, found.clean) == (len(ticks), len(ticks) - len(SURVIVORS), False)
    assert ticks == [(done, len(ticks)) for done in range(1, len(ticks) + 1)]
    assert all(mutant.hint.startswith(("a case", "cases")) for mutant in found.survivors)
    assert all(mutant.place.line for mutant in found.survivors)


def test_a_process_that_dies_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.replay.mutation._Runner.kills", lambda runner, mutant: os._exit(7))
    with pytest.raises(RuntimeError, match="ended early"):
        swept(tmp_path, CASES, jobs=2)


def test_the_hinted_cases_kill(tmp_path: Path) -> None:
    hinted = """
  - name: forty minutes later
    sequence: [{given: {account.id: a, client.country: NO}, times: 2}, {after: 40m, given: {account.id: a, client.country: NO}}]
    expect: {p.abroad: match}
  - name: seventy minutes later
    sequence: [{given: {account.id: a, client.country: NO}, times: 2}, {after: 70m, given: {account.id: a, client.country: NO}}]
    expect: {p.abroad: no_match}
  - name: in the list
    sequence: [{given: {account.id: a, client.country: DK}, times: 3}]
    expect: {p.abroad: match}
"""
    alive = {mutant.id for mutant in swept(tmp_path, CASES + hinted).survivors}
    assert SURVIVORS - alive == {
        "p.abroad: measure n: window 1h becomes 30m", "p.abroad: measure n: window 1h becomes 2h", "p: list some without DK",
    }  # fmt: skip


def test_accepted_survivors_are_no_findings_and_stale_ones_are(tmp_path: Path) -> None:
    listed = "accepted:\n" + "".join(f'  - {{mutant: "{name}", reason: known}}\n' for name in sorted(SURVIVORS))
    found = swept(tmp_path, CASES + listed)
    assert (found.survivors, found.stale, found.clean) == ((), (), True)
    assert {mutant.id: accepted.reason for mutant, accepted in found.accepted} == dict.fromkeys(SURVIVORS, "known")
    stale = (
        listed + '  - {mutant: "p.abroad: leaf listed negated", reason: it is killed}\n  - {mutant: nothing, reason: none}\n'
    )
    again = swept(tmp_path, CASES + stale)
    assert [accepted.mutant for accepted in again.stale] == ["p.abroad: leaf listed negated", "nothing"]
    assert not again.clean


def test_a_policy_without_mutants_is_not_clean(tmp_path: Path) -> None:
    (tmp_path / "p.test.yaml").write_text("cases: []\n")
    nothing = policy(HEAD)
    tests = load_tests([tmp_path / "p.test.yaml"], nothing, CATALOGUE)
    assert not sweep(tests, run(tests.cases, nothing, CATALOGUE), nothing, CATALOGUE).clean


CONCURRENT = f"""{HEAD}limits:
  - {{id: p.open, per: [account.id], limit: 2 concurrent, lease: 10s, on_missing: share, mode: enforce}}
"""
OPEN = """
cases:
  - name: the third of three that are open at once
    sequence: [{given: {account.id: a}, times: 3, every: 1s, lasts: 5s}]
    expect: {limits: {p.open: refused}, refused: {p.open: 1}}
  - name: the second of two
    sequence: [{given: {account.id: a}, times: 2, lasts: 5s}]
    expect: {limits: {p.open: room}}
  - name: of another account
    sequence: [{given: {account.id: a}, times: 2, lasts: 5s}, {given: {account.id: b}}]
    expect: {limits: {p.open: room}}
  - name: nobody's, which all share
    sequence: [{given: {}, times: 3, lasts: 5s}]
    expect: {limits: {p.open: refused}}
  - name: nobody's first
    given: {}
    expect: {limits: {p.open: room}}
"""


def test_the_hinted_cases_kill_every_mutant_of_a_concurrent_limit(tmp_path: Path) -> None:
    (tmp_path / "p.test.yaml").write_text(OPEN)
    loaded = policy(CONCURRENT)
    tests = load_tests([tmp_path / "p.test.yaml"], loaded, CATALOGUE)
    results = run(tests.cases, loaded, CATALOGUE)
    assert [str(failure) for failure in results.failures] == []
    found = sweep(tests, results, loaded, CATALOGUE)
    assert [mutant.id for mutant in found.survivors] == []
    assert found.killed == 5
