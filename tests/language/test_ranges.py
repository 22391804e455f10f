"""What is proven of conditions without running them is never contradicted by running them.

Small worlds are tried out whole: every combination of the values that a few names may have, missing, failed and capped ones
included. A proof («no values do») must hold in all of them, and values that are shown must do what they are shown for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Verdict
from gateway.gate import Gate
from gateway.language.conditions import Condition
from gateway.language.judgements.responses import least_accounts, upper_95
from gateway.language.lint import lint
from gateway.language.logic import Found, asked, implication, key_of, never, search
from gateway.language.policy import Rule
from gateway.language.ranges import UNSHOWN
from gateway.values import AtLeast, Failed, Missing
from tests.judging import CATALOGUE, facts, policy
from tests.strategies import Plain, conditions, text

NONE = [Missing("not given"), Failed("it broke")]
WORLD: dict[str, list[Any]] = {
    "request.size": [*range(7), *NONE],
    "request.stream": [True, False, *NONE],
    "request.model": ["", "a", "b", "ab", "ba", "abb", "AB", "c", *NONE],
    "client.country": ["NO", "SE", "DK", *NONE],
    "client.ip": ["10.0.0.1", "10.0.0.6", "10.0.1.1", "192.0.2.1", "2001:db8::1", *NONE],
    "client.json_style": [frozenset(found) for found in ((), ("x",), ("y",), ("x", "y"), ("x", "y", "z"), ("z",))] + NONE,
    "requests": [*range(1, 7), *map(AtLeast, range(7)), *NONE],
    "addresses": [*range(5), *map(AtLeast, range(5)), *NONE],
    "top": [0.0, 0.2, 0.25, 0.5, 0.7, 1.0, *NONE],
    "spread": [0.0, 0.2, 0.25, 0.5, 0.7, 1.0, 3.0, *NONE],
}
MEASURES: Plain = {
    "requests": {"count": True, "per": ["account.id"], "window": "1m"},
    "addresses": {"distinct": "client.ip", "per": ["account.id"], "window": "1m", "cap": 4},
    "top": {"top_share": "client.ip", "per": ["account.id"], "window": "1m"},
    "spread": {"ratio": ["addresses", "requests"]},
}
NUMBERS = st.integers(0, 6)
CAPPED = st.integers(0, 3)
SHARES = st.sampled_from([0, 0.2, 0.25, 0.5])
WORDS = st.sampled_from(["", "^", ".*", "a*", "^b?", "a", "b", "ab", "ba", "abb", "B"])
COUNTRIES = st.lists(st.sampled_from(["NO", "SE", "DK", "FI"]), min_size=1, max_size=3, unique=True)
NETWORKS = st.lists(
    st.sampled_from(["0.0.0.0/0", "::/0", "10.0.0.0/30", "10.0.0.0/24", "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]),
    min_size=1,
)
ELEMENTS = st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=2, unique=True)


def ordered(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    one = st.builds(lambda word, value: {word: value}, st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"]), values)
    pair = st.builds(lambda low, high: {"between": sorted([low, high])}, values, values)
    several = st.builds(lambda word, found: {word: found}, st.sampled_from(["in", "not_in"]), st.lists(values, min_size=1))
    return st.one_of(one, one, pair, several, st.builds(lambda flag: {"present": flag}, st.booleans()))


TESTS: dict[str, st.SearchStrategy[Plain]] = {
    "request.size": ordered(NUMBERS),
    "requests": ordered(NUMBERS),
    "addresses": ordered(CAPPED),
    "top": ordered(SHARES),
    "spread": ordered(SHARES),
    "request.stream": st.builds(lambda word, value: {word: value}, st.sampled_from(["eq", "ne", "present"]), st.booleans()),
    "request.model": st.builds(
        lambda word, value: {word: value},
        st.sampled_from(["eq", "ne", "contains", "starts_with", "ends_with", "matches"]),
        WORDS,
    ),
    "client.country": st.builds(lambda word, value: {word: value}, st.sampled_from(["in", "not_in"]), COUNTRIES),
    "client.ip": st.builds(lambda found: {"within": found}, NETWORKS),
    "client.json_style": st.one_of(
        st.builds(lambda word, found: {word: found}, st.sampled_from(["any_of", "all_of"]), ELEMENTS),
        st.builds(lambda found: {"contains": found[0]}, ELEMENTS),
    ),
}


def trees(names: list[str]) -> st.SearchStrategy[Plain]:
    """Conditions over a few names, so that comparisons meet."""
    leaves = st.one_of([TESTS[name].map(lambda test, name=name: {name: test}) for name in names])

    def grouped(below: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
        words = st.sampled_from(["all", "all", "any", "none"])
        return st.builds(lambda word, parts: {word: parts}, words, st.lists(below, min_size=1, max_size=3))

    return st.recursive(leaves, grouped, max_leaves=6)


SMALL = st.lists(st.sampled_from(sorted(WORLD)), min_size=1, max_size=2, unique=True).flatmap(
    lambda names: st.tuples(trees(names), trees(names))
)


def rule_of(when: Plain, name: str = "p.r", **more: Any) -> Plain:
    base = {"id": name, "title": "t", "family": "network", "owner": "o", "mode": "enforce", "then": {"action": "observe"}}
    return {**base, "measures": MEASURES, "when": when, **more}


def compiled(*rules: Plain) -> tuple[Rule, ...]:
    return policy(text({"pack": "p", "version": 1, "language": 1, "rules": list(rules)})).rules


def worlds(*whens: Condition) -> Iterator[dict[str, object]]:
    """Every combination of values of the names in these conditions."""
    names = sorted({leaf.name for when in whens for leaf in when.leaves()})
    for values in product(*(WORLD[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def named(found: Any, rule: Rule) -> dict[str, object]:
    return {name: found[key_of(name, rule.measures)] for name in WORLD if key_of(name, rule.measures) in found}


@settings(max_examples=200, deadline=None)
@given(SMALL)
def test_what_never_or_always_ends_so_does(pair: tuple[Plain, Plain]) -> None:
    (rule,) = compiled(rule_of(pair[0]))
    ends = {rule.when.evaluate(lambda name, values=values: values[name]) for values in worlds(rule.when)}
    for truth in (True, False, None):
        answer = search(asked(rule.when, truth, rule.measures))
        if answer.found is Found.NONE:
            assert truth not in ends
        elif answer.found is Found.SHOWN:
            shown = named(answer.values, rule)
            assert rule.when.evaluate(lambda name, shown=shown: shown.get(name, NONE[0])) is truth
    if never(rule.when, False, rule.measures):
        for values in worlds(rule.when):
            if not any(isinstance(value, (Missing, Failed, AtLeast)) for value in values.values()):
                assert rule.when.evaluate(lambda name, values=values: values[name]) is True


@settings(max_examples=200, deadline=None)
@given(SMALL)
def test_what_is_implied_is_never_missed(pair: tuple[Plain, Plain]) -> None:
    first, second = compiled(rule_of(pair[0], "p.a"), rule_of(pair[1], "p.b"))
    for one, other in ((first, second), (second, first)):
        answer = search(asked(one.when, True, one.measures), asked(other.when, True, other.measures, holds=False))
        for values in worlds(first.when, second.when) if answer.found is Found.NONE else ():
            given_values = lambda name, values=values: values[name]  # noqa: E731
            assert one.when.evaluate(given_values) is not True or other.when.evaluate(given_values) is True
        if answer.found is Found.SHOWN:
            shown = named(answer.values, one)
            look = lambda name, shown=shown: shown.get(name, NONE[0])  # noqa: E731
            assert (one.when.evaluate(look), other.when.evaluate(look) is True) == (True, False)


@settings(max_examples=80, deadline=None)
@given(st.lists(conditions(), min_size=2, max_size=2))
def test_conditions_of_the_shared_world_are_decided(pair: list[Plain]) -> None:
    """Every condition that the other generators build is within reach: nothing is left open but what cannot be shown."""
    from tests.strategies import MEASURES as SHARED

    lists = {"nordic": {"type": "country", "values": ["NO", "SE", "DK"]}}
    rules = [rule_of(when, f"p.r{n}", measures=SHARED) for n, when in enumerate(pair)]
    first, _ = policy(text({"pack": "p", "version": 1, "language": 1, "lists": lists, "rules": rules})).rules
    for truth in (True, False):
        answer = search(asked(first.when, truth, first.measures))
        assert answer.found is not Found.OPEN or UNSHOWN in answer.values.values()
    assert implication(first.when, first.measures, first.when, first.measures) is Found.NONE


def test_a_capped_count_is_not_taken_for_a_number() -> None:
    """«At least 3» passes `gte 3`, but neither half of a split at 4 decides it: the one does not imply the other."""
    split = {"any": [{"requests": {"between": [3, 4]}}, {"requests": {"gt": 4}}]}
    whole, halves = compiled(rule_of({"requests": {"gte": 3}}, "p.a"), rule_of(split, "p.b"))
    assert implication(whole.when, whole.measures, halves.when, halves.measures) is Found.SHOWN
    assert implication(halves.when, halves.measures, whole.when, whole.measures) is Found.NONE
    sized = {"any": [{"request.size": {"between": [3, 4]}}, {"request.size": {"gt": 4}}]}
    whole, halves = compiled(rule_of({"request.size": {"gte": 3}}, "p.a"), rule_of(sized, "p.b"))
    assert implication(whole.when, whole.measures, halves.when, halves.measures) is Found.NONE


STEPS: Plain = {
    "of": "requests",
    "steps": [
        {"from": 2, "action": "observe"},
        {"from": 4, "action": "tag", "tag": "x"},
        {"from": 6, "action": "tag", "tag": "y"},
    ],
}


@settings(max_examples=200, deadline=None)
@given(trees(["requests"]), st.integers(0, 20))
def test_a_step_that_is_never_reached_is_not(when: Plain, most: int) -> None:
    plain = {"pack": "p", "version": 1, "language": 1, "rules": [rule_of(when, then=STEPS)]}
    loaded = policy(text(plain))
    unreached = {finding.message.split()[2] for finding in lint(loaded) if finding.judgement == "unreachable-steps"}
    gate = Gate(loaded, CATALOGUE)
    for _ in range(most):
        for end in gate.judge(facts({"account.id": "a"})).outcome.decision.ends:
            if end.verdict is Verdict.MATCH and end.step is not None:
                assert str((2, 4, 6)[end.step]) not in unreached


@settings(max_examples=80, deadline=None)
@given(trees(["client.country", "request.stream"]), st.lists(st.sampled_from(["NO", "SE", "DK"]), min_size=1, unique=True))
def test_an_exception_that_is_said_to_swallow_does(when: Plain, exempt: list[str]) -> None:
    entries = [{"values": [country], "reason": "r", "owner": "o", "expires": "2030-01-01"} for country in exempt]
    loaded = policy(
        text(
            {
                "pack": "p",
                "version": 1,
                "language": 1,
                "rules": [rule_of(when, exceptions={"x": {"fields": ["client.country"], "entries": entries}})],
            }
        )
    )
    swallowed = any(finding.judgement == "swallowing-exceptions" for finding in lint(loaded))
    gate = Gate(loaded, CATALOGUE)
    for country, stream in product(["NO", "SE", "DK", None], [True, False, None]):
        given_values = {"client.country": country, "request.stream": stream}
        sent = facts({name: value for name, value in given_values.items() if value is not None})
        ends = gate.judge(sent).outcome.decision.ends
        matched = [end for end in ends if end.verdict is Verdict.MATCH]
        assert not swallowed or all(end.excepted for end in matched)


@pytest.mark.parametrize("accounts", [1, 2, 58, 59, 3_000, 29_956, 30_000])
def test_the_bound_of_nothing_seen(accounts: int) -> None:
    assert upper_95(accounts) == pytest.approx(1 - 0.05 ** (1 / accounts), rel=1e-9)
    assert least_accounts(upper_95(accounts)) in (accounts, accounts + 1)


def test_the_gate_that_decisions_name_can_be_met() -> None:
    assert upper_95(30_000) < 0.0001
    assert least_accounts(0) == 0
    assert upper_95(least_accounts(0.0001)) <= 0.0001 < upper_95(least_accounts(0.0001) - 1)


def many(number: int) -> Plain:
    """Rules of the kinds people write, many of which speak of the same names."""
    kinds: list[Any] = [
        lambda n: {"request.model": f"model-{n}"},
        lambda n: {"all": [{"client.country": ["NO", "SE"]}, {"request.size": {"gte": n}}]},
        lambda n: {"any": [{"request.size": {"gt": n}}, {"request.model": {"starts_with": f"m{n}-"}}]},
        lambda n: {"all": [{"requests": {"gte": n + 1}}, {"spread": {"lte": 0.5}}, {"none": [{"request.stream": True}]}]},
        lambda n: {"all": [{"client.ip": {"within": [f"10.{n % 256}.0.0/16"]}}, {"account.id": {"present": True}}]},
    ]
    rules = [rule_of(kinds[n % len(kinds)](n), f"p.r{n}", then={"action": "tag", "tag": f"t{n % 7}"}) for n in range(number)]
    return {"pack": "p", "version": 1, "language": 1, "rules": rules}


def test_a_thousand_rules_are_judged_in_seconds() -> None:
    loaded = policy(text(many(1_000)))
    started = time.process_time()
    found = lint(loaded)
    taken = time.process_time() - started
    assert {finding.judgement for finding in found} >= {"unused-measures"}
    assert taken < 6, f"{taken:.1f} s of processor time; a second or two was measured"


def test_a_knot_of_choices_is_given_up_not_waited_for() -> None:
    """A condition that would take longer than anybody waits is left undecided: nothing is said of it."""
    choices = [{"any": [{"request.size": {"ne": n}}, {"request.model": {"ne": f"m{n}"}}]} for n in range(40)]
    hard = {"all": [*choices, {"none": choices}, *({"any": [{"request.size": n}, {"request.size": n + 60}]} for n in range(9))]}
    (rule,) = compiled(rule_of(hard))
    started = time.process_time()
    assert search(asked(rule.when, True, rule.measures)).found in (Found.OPEN, Found.NONE)
    assert time.process_time() - started < 5
