"""Measures: what they count, by what keys, over which time, through the real gate."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.facts import Answer, Usage
from gateway.gate import Gate
from gateway.language.measures import Measure, Ratio
from gateway.language.program import ratio
from gateway.values import DURATION, FLOAT, INT, SECOND, AtLeast, Failed, Missing
from tests.judging import CATALOGUE, START, judge, policy

HOUR = 3_600 * SECOND


def pack(measures: str, when: str = "{request.path: {present: true}}", name: str = "p") -> str:
    return f"""
pack: {name}
version: 1
language: 1
rules:
  - id: {name}.r
    title: t
    family: network
    owner: o
    measures: {measures}
    when: {when}
    then: {{action: observe}}
    mode: enforce
"""


def gate(measures: str) -> Gate:
    return Gate(policy(pack(measures)), CATALOGUE)


def reading(gate: Gate, values: Mapping[str, object], at: int = START, answer: Answer | None = None, name: str = "n") -> object:
    """The named measure as one exchange saw it."""
    declared = gate.policy.rules[0].measures[name]
    assert isinstance(declared, Measure)
    return judge(gate, values, at, answer).outcome.decision.measures[declared.label]


def test_types_follow_what_is_counted() -> None:
    rule = policy(
        pack("""{
      a: {count: true, per: [account.id], window: 1h}, b: {sum: request.size, per: [account.id], window: 1h},
      c: {sum: account.age, per: [account.id], window: 1h}, d: {distinct: client.ip, per: [account.id], window: 1h},
      e: {top_share: client.ip, per: [account.id], window: 1h}, f: {ratio: [d, a]}, g: {ratio: [b, a]}}""")
    ).rules[0]
    assert {name: measure.type for name, measure in rule.measures.items()} == {
        "a": INT,
        "b": INT,
        "c": DURATION,
        "d": INT,
        "e": FLOAT,
        "f": FLOAT,
        "g": FLOAT,
    }
    assert isinstance(rule.measures["f"], Ratio)


def test_a_measure_counts_the_request_it_judges() -> None:
    counting = gate("{n: {count: true, per: [account.id], window: 1h}}")
    assert [reading(counting, {"account.id": "a"}, START + n) for n in range(3)] == [1, 2, 3]


def test_keys_are_apart_and_a_missing_key_is_no_key() -> None:
    counting = gate("{n: {count: true, per: [account.id, client.country], window: 1h}}")
    assert reading(counting, {"account.id": "a", "client.country": "NO"}) == 1
    assert reading(counting, {"account.id": "a", "client.country": "SE"}) == 1
    assert reading(counting, {"account.id": "a"}) == Missing("no client.country: not given")
    assert reading(counting, {"client.country": "NO"}) == Missing("no account.id: not given")
    assert reading(counting, {}) == Missing("no account.id: not given")
    assert reading(counting, {"account.id": "a", "client.country": "NO"}) == 2


def test_where_says_what_is_counted_and_unknown_is_not() -> None:
    counting = gate("{n: {count: true, per: [account.id], window: 1h, where: {account.age: {lt: 30d}}}}")
    ages = ["1d", "29d", "30d", None, "2d"]
    values = [{"account.id": "a", **({"account.age": age} if age else {})} for age in ages]
    assert [reading(counting, one) for one in values] == [1, 2, 2, 2, 3]


def test_sums_and_shares() -> None:
    counting = gate(
        "{n: {sum: request.size, per: [account.id], window: 1h}, t: {top_share: client.ip, per: [account.id], window: 1h}}"
    )
    seen = [{"account.id": "a", "request.size": size, "client.ip": f"10.0.0.{size}"} for size in (5, 5, 5, 7)]
    assert [reading(counting, one) for one in seen] == [5, 10, 15, 22]
    assert reading(counting, {"account.id": "a"}, name="t") == 0.75
    assert reading(counting, {"account.id": "other"}, name="t") == Missing("nothing counted yet")


def test_distinct_counts_sets_whole_and_stops_at_its_cap() -> None:
    counting = gate("{n: {distinct: client.json_style, per: [account.id], window: 1h, cap: 3}}")
    styles = [["a", "b"], ["b", "a"], ["a,b"], ["a/b"], ["a", "b", "c"]]
    found = [reading(counting, {"account.id": "a", "client.json_style": style}) for style in styles]
    assert found == [1, 1, 2, 3, AtLeast(3)]


def test_nothing_older_than_the_window_counts_and_everything_in_seven_eighths_does() -> None:
    counting = gate("{n: {count: true, per: [account.id], window: 8h}}")
    start = START - START % (8 * HOUR)
    assert reading(counting, {"account.id": "a"}, start) == 1
    assert reading(counting, {"account.id": "a"}, start + 7 * HOUR - 1) == 2
    assert reading(counting, {"account.id": "a"}, start + 8 * HOUR) == 2
    assert reading(counting, {"account.id": "a"}, start + 17 * HOUR) == 1


def test_a_measure_on_the_answer_counts_when_the_exchange_is_over() -> None:
    counting = gate("{n: {count: true, per: [account.id], window: 1h, where: {response.status: {gte: 500}}}}")
    answers = [Answer(500), Answer(200), Answer(503), Answer(), Answer(200)]
    assert [reading(counting, {"account.id": "a"}, answer=answer) for answer in answers] == [0, 1, 1, 2, 2]
    summing = gate("{n: {sum: response.output_tokens, per: [account.id], window: 1h}}")
    used = [Answer(200, Usage(1, 10)), Answer(200), Answer(200, Usage(1, 30)), Answer(200)]
    assert [reading(summing, {"account.id": "a"}, answer=answer) for answer in used] == [0, 10, 10, 40]


RATIO = (
    "{a: {count: true, per: [account.id], window: 1h, where: {request.stream: true}}, "
    "b: {count: true, per: [account.id], window: 1h, where: {request.n: {present: true}}}, r: {ratio: [a, b]}}"
)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ({"account.id": "a", "request.stream": True}, "unknown"),
        ({"account.id": "a", "request.n": 1}, "no_match"),
        ({"account.id": "a", "request.n": 1, "request.stream": True}, "match"),
        ({"request.n": 1, "request.stream": True}, "unknown"),
    ],
)
def test_a_ratio_over_nothing_is_unknown(values: dict[str, object], ends: str) -> None:
    found = judge(Gate(policy(pack(RATIO, "{r: {gte: 0.5}}")), CATALOGUE), values).outcome.decision.ends
    assert (str(found[0].verdict) if found else "no_match") == ends


def test_a_ratio_over_a_capped_count_is_unknown() -> None:
    counted = (
        "a: {distinct: request.path, per: [account.id], window: 1h, cap: 2}, b: {count: true, per: [account.id], window: 1h}"
    )
    judging = Gate(policy(pack(f"{{{counted}, r: {{ratio: [a, b]}}}}", "{r: {gte: 0.5}}")), CATALOGUE)
    ends = [judge(judging, {"account.id": "a", "request.path": f"/{n}"}).outcome.decision.ends[0] for n in range(3)]
    assert [str(end.verdict) for end in ends] == ["match", "match", "unknown"]
    assert ends[2].missing == ("r",)


def test_equal_definitions_are_one_measure_whatever_their_names_and_order() -> None:
    one = pack("{n: {count: true, per: [account.id, client.ip], window: 60m, where: {request.stream: true, request.n: 1}}}")
    two = pack(
        "{m: {window: 1h, per: [client.ip, account.id], count: true, "
        "where: {all: [{request.n: {eq: 1}}, {request.stream: true}]}}}",
        name="q",
    )
    assert len(policy(one, two).measures) == 1


@pytest.mark.parametrize(
    "other",
    [
        "{distinct: client.ip, per: [account.id], window: 2h, where: {request.model: [a, b]}}",
        "{distinct: client.ip, per: [account.org], window: 1h, where: {request.model: [a, b]}}",
        "{distinct: client.network, per: [account.id], window: 1h, where: {request.model: [a, b]}}",
        "{distinct: client.ip, per: [account.id], window: 1h, where: {request.model: ['a, b']}}",
        "{distinct: client.ip, per: [account.id], window: 1h}",
        "{distinct: client.ip, per: [account.id], window: 1h, where: {request.model: [a, b]}, cap: 5}",
        "{top_share: client.ip, per: [account.id], window: 1h, where: {request.model: [a, b]}}",
        "{count: true, per: [account.id], window: 1h, where: {request.model: [a, b]}}",
    ],
)
def test_different_definitions_are_different_counters(other: str) -> None:
    first = pack("{n: {distinct: client.ip, per: [account.id], window: 1h, where: {request.model: [a, b]}}}")
    found = policy(first, pack(f"{{n: {other}}}", name="q")).measures
    assert len({measure.window.digest for measure in found}) == 2


def test_lists_of_one_name_in_two_packs_are_two_lists() -> None:
    def counting(name: str, country: str) -> str:
        text = pack(
            "{n: {count: true, per: [account.id], window: 1h, where: {client.country: '@theirs'}}}", "{n: {gte: 1}}", name
        )
        return text.replace("rules:", f"lists: {{theirs: {{type: country, values: [{country}]}}}}\nrules:")

    judging = Gate(policy(counting("p", "NO"), counting("q", "SE")), CATALOGUE)
    ended = [end.rule for end in judge(judging, {"account.id": "a", "client.country": "SE"}).outcome.decision.matches()]
    assert ended == ["q.r"]


def test_a_rule_that_is_off_counts_nothing() -> None:
    off = policy(
        pack("{n: {count: true, per: [account.id], window: 1h}}", "{n: {gte: 1}}").replace("mode: enforce", "mode: off")
    )
    decision = judge(Gate(off, CATALOGUE), {"account.id": "a"}).outcome.decision
    assert (decision.measures, decision.ends) == ({}, ())


def test_numbers_too_large_to_divide_are_an_error_and_break_nothing() -> None:
    assert ratio(10**400, 3) == Failed("numbers too large to divide")
    assert ratio(10**400, 10**400) == 1.0
