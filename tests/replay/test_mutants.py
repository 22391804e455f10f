"""Mutants: which are made, which are not because nothing could tell them apart, and what kills, accepts and outlives them."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        "step from 6: 9 in 60s becomes 8", "step from 6: 9 in 60s becomes 10",
        "step from 6: 9 in 60s becomes 9 in 30s", "step from 6: 9 in 60s becomes 9 in 120s",
        "step from 6: window fixed becomes moving", "step from 6: per without account.id",
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
    "p.plan: limit 5 in 60s becomes 5 in 30s",
    "p.plan: limit 5 in 60s becomes 5 in 120s",
    "p.plan: limit window fixed becomes moving",
    "p.plan: per without account.id",
    "p.plan: leaf account.plan.eq left out",
    "p.plan: on_missing skip becomes refuse",
    "p.plan: on_missing skip becomes share",
    "p: list some without DK",
}


def swept(folder: Path, cases: str, ticks: list[tuple[int, int]] | None = None) -> Sweep:
    file = folder / "p.test.yaml"
    file.write_text(cases)
    found = policy(PACK)
    tests = load_tests([file], found, CATALOGUE)
    results = run(tests.cases, found, CATALOGUE)
    assert results.failures == ()
    heard: list[tuple[int, int]] = [] if ticks is None else ticks
    return sweep(tests, results, found, CATALOGUE, lambda done, total: heard.append((done, total)))


def test_the_sweep_names_exactly_what_no_case_notices(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    found = swept(tmp_path, CASES, ticks)
    assert {mutant.id for mutant in found.survivors} == SURVIVORS
    assert (found.mutants, found.killed, found.clean) == (len(ticks), len(ticks) - len(SURVIVORS), False)
    assert ticks == [(done, len(ticks)) for done in range(1, len(ticks) + 1)]
    assert all(mutant.hint.startswith(("a case", "cases")) for mutant in found.survivors)
    assert all(mutant.place.line for mutant in found.survivors)


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
