"""Kleene logic, over every small tree and every combination of true, false, missing and failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from gateway.errors import Place
from gateway.language.conditions import All, Any, Condition, Leaf, No, Truth, lacking, spoken
from gateway.language.operators import OPERATORS
from gateway.values import BOOL, Failed, Missing
from tests.judging import policy

NAMES = ("a", "b", "c")
VALUES: dict[str, object] = {"true": True, "false": False, "missing": Missing("not given"), "failed": Failed("it broke")}
LEAVES = tuple(Leaf(name, name, OPERATORS["eq"], True, "true", BOOL, Place("f")) for name in NAMES)
NUMBER: dict[Truth, int] = {True: 1, None: 0, False: -1}
TRUTH: dict[int, Truth] = {number: truth for truth, number in NUMBER.items()}


def trees() -> Iterator[Condition]:
    """Every tree of two levels over three leaves: `x`, `g(x…)` and `g(x, h(y, z))`."""
    yield LEAVES[0]
    for group in (All, Any, No):
        for count in (1, 2, 3):
            yield group(LEAVES[:count])
        for inner in (All, Any, No):
            yield group((LEAVES[0], inner(LEAVES[1:])))
            yield group((inner(LEAVES[1:]),))


def kleene(condition: Condition, truths: dict[str, Truth]) -> Truth:
    """The definition: false < unknown < true; `all` is the least, `any` the greatest, `none` the negated greatest."""
    if isinstance(condition, Leaf):
        return truths[condition.name]
    numbers = [NUMBER[kleene(part, truths)] for part in condition.parts]
    return TRUTH[{"all": min(numbers), "any": max(numbers), "none": -max(numbers)}[condition.word]]


def truths_of(chosen: tuple[str, ...]) -> dict[str, Truth]:
    return {name: {"true": True, "false": False}.get(word) for name, word in zip(NAMES, chosen, strict=True)}


@pytest.mark.parametrize("condition", list(trees()), ids=str)
def test_every_tree_is_kleene(condition: Condition) -> None:
    for chosen in product(VALUES, repeat=3):
        values = {name: VALUES[word] for name, word in zip(NAMES, chosen, strict=True)}
        assert condition.evaluate(values.__getitem__) is kleene(condition, truths_of(chosen)), chosen


@pytest.mark.parametrize("condition", list(trees()), ids=str)
def test_what_is_lacking_is_what_would_decide(condition: Condition) -> None:
    for chosen in product(VALUES, repeat=3):
        values = {name: VALUES[word] for name, word in zip(NAMES, chosen, strict=True)}
        if condition.evaluate(values.__getitem__) is not None:
            continue
        missing, failure = lacking(condition, values.__getitem__)
        assert list(missing) == sorted(missing)
        assert all(truths_of(chosen)[name] is None for name in missing)
        assert bool(failure) == any(isinstance(values[name], Failed) for name in missing)
        decided = [
            kleene(condition, truths_of(chosen) | dict(zip(missing, given, strict=True)))
            for given in product((True, False), repeat=len(missing))
        ]
        assert set(decided) == {True, False}, "given what is lacking, the condition must be decided, either way"


def test_a_part_that_is_decided_lacks_nothing() -> None:
    condition = All((Any((LEAVES[0], LEAVES[1])), LEAVES[2]))
    values = {"a": True, "b": Failed("irrelevant"), "c": Missing("not given")}
    assert lacking(condition, values.__getitem__) == (("c",), "")
    assert lacking(condition, (values | {"a": False}).__getitem__) == (("b", "c"), "b: irrelevant")


def rule(when: str) -> str:
    return f"""pack: p
version: 1
language: 1
lists: {{region: {{type: country, values: [NO]}}}}
rules:
  - {{id: p.r, title: t, family: network, owner: o, mode: enforce, then: {{action: observe}}, when: {when}}}
"""


SAME = [
    ("{client.country: NO}", "{client.country: {eq: NO}}"),
    ("{client.country: no}", "{client.country: [NO]}"),
    ("{client.country: NO, request.stream: true}", "{all: [{request.stream: true}, {client.country: NO}]}"),
    ("{id: named, client.country: NO}", "{all: [{client.country: NO}]}"),
    ("{client.json_style: compact}", "{client.json_style: {any_of: [compact]}}"),
    ("{request.size: {gt: 5, lt: 9}}", "{all: [{request.size: {lt: 9}}, {request.size: {gt: 5}}]}"),
    ("{any: [{client.country: NO}, {any: [{request.stream: true}]}]}", "{any: [{request.stream: true}, {client.country: NO}]}"),
    (
        "{none: [{any: [{client.country: NO}, {request.stream: true}]}]}",
        "{none: [{request.stream: true}, {client.country: NO}]}",
    ),
    ("{account.age: {lt: 60m}}", "{account.age: {lt: 1h}}"),
    ("{client.ip: '2001:DB8::1'}", "{client.ip: '2001:db8:0::1'}"),
    ("{client.asn: AS64500}", "{client.asn: 64500}"),
    ("{any: [{client.country: NO}, {client.country: NO}]}", "{client.country: NO}"),
]
DIFFERENT = [
    ("{request.model: [a, b]}", "{request.model: ['a, b']}"),
    ("{request.model: ['@region']}", "{request.model: ['region']}"),
    ("{request.model: {in: ['@a', b]}}", "{request.model: {in: [a, b]}}"),
    ("{client.country: '@region'}", "{client.country: NO}"),
    ("{none: [{client.country: NO}]}", "{client.country: NO}"),
    (
        "{none: [{client.country: NO}, {request.stream: true}]}",
        "{none: [{all: [{client.country: NO}, {request.stream: true}]}]}",
    ),
    ("{any: [{client.country: NO}, {request.stream: true}]}", "{all: [{client.country: NO}, {request.stream: true}]}"),
    ("{any: [{request.model: a}, {request.path: b}]}", "{any: [{request.model: 'a, request.path eq b'}]}"),
    ("{request.model: {matches: a}}", "{request.model: {contains: a}}"),
    ("{request.size: {gt: 5}}", "{request.size: {gte: 5}}"),
]


def canonical(when: str) -> object:
    return policy(rule(when)).rules[0].when.canonical()


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_meaning_has_one_canonical_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)
    assert spoken(canonical(one)) == spoken(canonical(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_meaning_has_different_canonical_forms(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)
    assert spoken(canonical(one)) != spoken(canonical(other))


def test_a_condition_reads_as_a_sentence() -> None:
    found = policy(
        rule("{any: [{client.country: '@region'}, {none: [{request.size: {gte: 5}}, {request.model: 'my model'}]}]}")
    )
    when = found.rules[0].when
    assert str(when) == "any(client.country in @region, none(request.size gte 5, request.model eq 'my model'))"
    assert spoken(when.canonical()) == "any(client.country in @p/region, none(request.model eq 'my model', request.size gte 5))"


@pytest.mark.parametrize("wrong", [None, object(), "text", ["a"]])
def test_a_value_of_the_wrong_type_is_unknown_whatever_stands_before_it(wrong: object) -> None:
    found = policy(rule("{all: [{request.size: {gte: 5}}, {request.stream: true}]}")).rules[0].when
    assert isinstance(found, All)
    for when in (found, All(found.parts[::-1])):
        assert when.evaluate({"request.size": wrong, "request.stream": False}.__getitem__) is False
        values = {"request.size": wrong, "request.stream": True}.__getitem__
        assert when.evaluate(values) is None
        assert lacking(when, values) == (("request.size",), f"request.size: {type(wrong).__name__} is no int")
