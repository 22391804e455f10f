"""Every operator against present, missing and failed values, and against counts that hit their cap."""

from __future__ import annotations

import pytest

from gateway.errors import PolicyError
from gateway.language.conditions import Leaf, Truth
from gateway.language.lists import ValueList
from gateway.language.operators import OPERATORS, Networks, Operand, pattern
from gateway.language.reader import Reader
from gateway.strict.document import parse
from gateway.strict.shapes import Problems
from gateway.values import COUNTRY, STRING, TYPES, AtLeast, Failed, Missing, Type, set_of
from tests.judging import policy

KINDS = {
    "text": STRING,
    "words": set_of(STRING),
    "country": COUNTRY,
    **{name: TYPES[name] for name in ("int", "float", "bool", "duration", "timestamp", "asn", "ip", "cidr")},
}
DAY = 86_400_000_000


def leaf(name: str, written: str) -> Leaf:
    """The comparison of a value of the kind that `name` says, as written in a rule."""

    def no_list(_: str) -> ValueList | None:
        return None

    problems = Problems()
    found = Reader(KINDS, no_list, problems).condition(parse(f"{{{name}: {written}}}", "leaf.yaml"))
    assert not problems.found
    assert isinstance(found, Leaf)
    return found


PRESENT: list[tuple[str, str, object, Truth]] = [
    ("text", "{eq: abc}", "abc", True),
    ("text", "{eq: abc}", "ABC", False),
    ("text", "abc", "abc", True),
    ("country", "no", "NO", True),
    ("country", "NO", "SE", False),
    ("bool", "true", True, True),
    ("bool", "true", False, False),
    ("asn", "AS64500", 64500, True),
    ("ip", '"2001:DB8::1"', "2001:db8::1", True),
    ("float", "1", 1.0, True),
    ("text", "{ne: abc}", "abd", True),
    ("text", "{ne: abc}", "abc", False),
    ("country", "[NO, SE]", "SE", True),
    ("country", "{in: [NO, SE]}", "DK", False),
    ("int", "[1, 2]", 2, True),
    ("country", "{not_in: [NO, SE]}", "DK", True),
    ("country", "{not_in: [NO, SE]}", "NO", False),
    ("int", "{lt: 5}", 4, True),
    ("int", "{lt: 5}", 5, False),
    ("int", "{lte: 5}", 5, True),
    ("int", "{lte: 5}", 6, False),
    ("int", "{gt: 5}", 6, True),
    ("int", "{gt: 5}", 5, False),
    ("int", "{gte: 5}", 5, True),
    ("int", "{gte: 5}", 4, False),
    ("duration", "{lt: 30d}", 30 * DAY - 1, True),
    ("duration", "{lt: 30d}", 30 * DAY, False),
    ("timestamp", "{gte: 1970-01-02}", DAY, True),
    ("timestamp", "{gte: 1970-01-02}", DAY - 1, False),
    ("float", "{lte: 0.05}", 0.05, True),
    ("float", "{lte: 0.05}", 0.0500001, False),
    ("int", "{between: [2, 4]}", 2, True),
    ("int", "{between: [2, 4]}", 4, True),
    ("int", "{between: [2, 4]}", 5, False),
    ("int", "{between: [3, 3]}", 3, True),
    ("int", "{between: [2, 4]}", 1, False),
    ("text", "{contains: gpt}", "my-gpt-4", True),
    ("text", "{contains: gpt}", "my-GPT-4", False),
    ("words", "{contains: a}", frozenset({"a", "b"}), True),
    ("words", "a", frozenset({"ab"}), False),
    ("text", "{starts_with: gpt}", "gpt-4", True),
    ("text", "{starts_with: gpt}", "my-gpt", False),
    ("text", "{ends_with: mini}", "gpt-mini", True),
    ("text", "{ends_with: mini}", "mini-gpt", False),
    ("text", "{matches: '^gpt-[0-9]+$'}", "gpt-41", True),
    ("text", "{matches: '^gpt-[0-9]+$'}", "gpt-4o", False),
    ("text", "{matches: 'a'}", "\ud800a", True),
    ("text", "{matches: 'å'}", "blåbær", True),
    ("text", "{matches: '^a'}", "\ud800a", False),
    ("words", "{any_of: [a, b]}", frozenset({"b", "c"}), True),
    ("words", "[a, b]", frozenset({"c"}), False),
    ("words", "{any_of: [a]}", frozenset(), False),
    ("words", "{all_of: [a, b]}", frozenset({"a", "b", "c"}), True),
    ("words", "{all_of: [a, b]}", frozenset({"a"}), False),
    ("ip", "{within: [10.0.0.0/8, '2001:db8::/32']}", "10.255.255.255", True),
    ("ip", "{within: [10.0.0.0/8]}", "11.0.0.0", False),
    ("ip", "{within: [10.0.0.0/8, '2001:db8::/32']}", "2001:db8:ffff::1", True),
    ("ip", "{within: [10.0.0.1]}", "10.0.0.1", True),
    ("ip", "{within: [10.0.0.0/8]}", "2001:db8::1", False),
    ("ip", "{within: [10.0.0.0/25, 10.0.0.128/25]}", "10.0.0.128", True),
    ("cidr", "{within: [10.0.0.0/8]}", "10.1.2.0/24", True),
    ("cidr", "{within: [10.1.2.0/25]}", "10.1.2.0/24", False),
    ("cidr", "{within: [10.1.2.0/25, 10.1.2.128/25]}", "10.1.2.0/24", True),
    ("cidr", "203.0.113.0/24", "203.0.113.0/24", True),
    ("cidr", "{within: ['2001:db8::/32']}", "2001:db8:1::/64", True),
    ("text", "{present: true}", "", True),
    ("text", "{present: false}", "", False),
    ("int", "{present: true}", 0, True),
    ("words", "{present: true}", frozenset(), True),
    ("int", "{present: true}", AtLeast(3), True),
]

CAPPED: list[tuple[str, int, Truth]] = [
    ("{eq: 4}", 5, False),
    ("{eq: 5}", 5, None),
    ("{eq: 6}", 5, None),
    ("{ne: 4}", 5, True),
    ("{ne: 5}", 5, None),
    ("{in: [1, 4]}", 5, False),
    ("{in: [1, 6]}", 5, None),
    ("{not_in: [1, 4]}", 5, True),
    ("{not_in: [5]}", 5, None),
    ("{lt: 5}", 5, False),
    ("{lt: 6}", 5, None),
    ("{lte: 4}", 5, False),
    ("{lte: 5}", 5, None),
    ("{gt: 4}", 5, True),
    ("{gt: 5}", 5, None),
    ("{gte: 5}", 5, True),
    ("{gte: 6}", 5, None),
    ("{between: [1, 4]}", 5, False),
    ("{between: [1, 5]}", 5, None),
    ("{between: [9, 12]}", 5, None),
    ("{present: true}", 5, True),
    ("{present: false}", 5, False),
]


@pytest.mark.parametrize(("name", "written", "value", "truth"), PRESENT)
def test_a_present_value(name: str, written: str, value: object, truth: Truth) -> None:
    assert leaf(name, written).test(value) is truth


@pytest.mark.parametrize(("written", "count", "truth"), CAPPED)
def test_a_count_that_hit_its_cap(written: str, count: int, truth: Truth) -> None:
    assert leaf("int", written).test(AtLeast(count)) is truth


@pytest.mark.parametrize(("written", "count", "truth"), CAPPED)
def test_at_least_n_agrees_with_every_number_it_may_stand_for(written: str, count: int, truth: Truth) -> None:
    found = leaf("int", written)
    possible = {found.test(number) for number in range(count, count + 10)}
    assert possible == ({True, False} if truth is None else {truth})


@pytest.mark.parametrize("absent", [Missing("not given"), Failed("ValueError: no")])
@pytest.mark.parametrize(("name", "written"), sorted({(name, written) for name, written, _, _ in PRESENT}))
def test_an_absent_value_is_unknown_and_never_false(name: str, written: str, absent: object) -> None:
    truth = leaf(name, written).test(absent)
    assert truth is {"{present: true}": False, "{present: false}": True}.get(written)


def test_every_operator_is_covered_true_and_false_and_where_counts_can_stand_capped() -> None:
    seen = {(leaf(name, written).operator.name, truth) for name, written, _, truth in PRESENT}
    assert seen == {(name, truth) for name in OPERATORS for truth in (True, False)}
    on_counts = {name for name, operator in OPERATORS.items() if operator.fits(TYPES["int"])}
    assert {leaf("int", written).operator.name for written, _, _ in CAPPED} == on_counts


def test_operators_that_cannot_follow_a_type_do_not_load() -> None:
    written = {
        Operand.VALUE: "x",
        Operand.LIST: "[x]",
        Operand.PAIR: "[x, x]",
        Operand.PATTERN: "x",
        Operand.NETWORKS: "[10.0.0.0/8]",
        Operand.FLAG: "true",
    }
    kinds: dict[str, Type] = {
        "client.country": TYPES["country"],
        "client.ip": TYPES["ip"],
        "request.size": TYPES["int"],
        "request.model": STRING,
        "client.json_style": set_of(STRING),
        "account.age": TYPES["duration"],
    }
    refused = 0
    for signal, kind in kinds.items():
        for name, operator in OPERATORS.items():
            if operator.fits(kind):
                continue
            refused += 1
            rule = (
                f"{{id: p.r, title: t, family: network, owner: o, mode: enforce, then: {{action: observe}}, "
                f"when: {{{signal}: {{{name}: {written[operator.operand]}}}}}}}"
            )
            with pytest.raises(PolicyError, match=f"'{name}' cannot follow '{signal}', which is {kind}; use one of"):
                policy(f"pack: p\nversion: 1\nlanguage: 1\nrules: [{rule}]\n")
    assert refused > 40


def test_a_pattern_is_linear_or_is_refused() -> None:
    assert pattern("(a+)+$").search("a" * 50_000 + "b") is None
    for bad in (r"(a)\1", "(?=a)", "(?<!a)b", "(", "a{5000}", "(" * 2_000):
        with pytest.raises(ValueError, match="is not a linear-time regular expression: "):
            pattern(bad)


def test_networks_merge_and_are_searched_whole() -> None:
    every = Networks(frozenset(f"10.{n}.0.0/16" for n in range(256)))
    assert "10.0.0.0/8" in every
    assert "10.0.0.0/7" not in every
    assert "9.255.255.255" not in every
    assert "::1" not in Networks(frozenset())
