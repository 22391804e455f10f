"""The emitted program gives the truth of every rule exactly as the tree walk does, and nothing of a policy becomes code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import evaluation
from gateway.decision import Mode, Verdict
from gateway.engine import Engine
from gateway.facts import Facts
from gateway.language import emit
from gateway.language.conditions import Truth
from gateway.language.needles import gathered, matcher
from gateway.language.policy import Policy
from gateway.language.program import Program
from gateway.language.terms import Terms
from gateway.language.text import LONGEST
from gateway.readings import rule_values
from gateway.signals import Catalogue, Cost, Signal, View
from gateway.state.operations import Reply
from gateway.strict.shapes import VISIBLE
from gateway.values import STRING, Failed, Missing
from tests.judging import CATALOGUE, START, policy
from tests.language import wide
from tests.strategies import Plain, exchanges, judged, packs, shuffled

SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
FEWER = settings(SETTINGS, max_examples=60)


def walked(found: Policy, view: View, measured: Mapping[str, object]) -> dict[str, Truth]:
    """The truth of every rule by the tree walk."""
    measures = dict(measured)
    return {rule.id: rule.when.evaluate(rule_values(rule, view, measures)) for rule in found.rules}


def run(program: Program, view: View, measured: Mapping[str, object]) -> list[tuple[int, Truth]]:
    return program.run(view.get, view.resolved, measured)


def ran(found: Policy, view: View, measured: Mapping[str, object]) -> dict[str, Truth]:
    """The truth of every rule by the emitted program."""
    program = emit.compiled(found, CATALOGUE)
    ends = run(program, view, measured)
    assert ends == sorted(ends), "rules come in the policy's order"
    truths: dict[str, Truth] = {rule.id: False for rule in program.rules}
    truths |= {program.rules[place].id: truth for place, truth in ends}
    assert all(truth is True or truth is None for _, truth in ends)
    return truths


@SETTINGS
@given(found=wide.policies(), values=wide.signals(), data=st.data())
def test_program_and_tree_walk_agree(found: Policy, values: dict[str, object], data: st.DataObject) -> None:
    measured = data.draw(st.composite(lambda draw: wide.measured(found, draw))())
    assert ran(found, wide.view(values), measured) == walked(found, wide.view(values), measured)


@FEWER
@given(found=wide.policies(10, 20), values=wide.signals(), data=st.data())
def test_they_agree_where_rules_are_found_by_value_and_stand_in_several_parts(
    found: Policy, values: dict[str, object], data: st.DataObject
) -> None:
    measured = data.draw(st.composite(lambda draw: wide.measured(found, draw))())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "_INDEXED", 2)
        patch.setattr(emit, "_WHOLE", 2)
        patch.setattr(emit, "_PART", 3)
        assert ran(found, wide.view(values), measured) == walked(found, wide.view(values), measured)


@FEWER
@given(data=st.data(), whens=st.lists(wide.conditions(), min_size=2, max_size=6), values=wide.signals())
def test_order_of_rules_files_and_parts_changes_neither_truths_nor_what_is_resolved(
    data: st.DataObject, whens: list[Plain], values: dict[str, object]
) -> None:
    written = wide.pack(whens)
    one, two = ({**written, "rules": written["rules"][place::2], "pack": f"w{place}"} for place in (0, 1))
    reordered = [data.draw(shuffled(part)) for part in data.draw(st.permutations([one, two]))]
    before, after = live(values), live(values)
    expected = ran(policy(json.dumps(written)), before, {})
    assert ran(policy(*map(json.dumps, reordered)), after, {}) == expected
    assert set(before.resolved) == set(after.resolved)


@FEWER
@given(found=wide.policies(), values=wide.signals())
def test_a_replay_from_what_was_resolved_gives_the_same_truths(found: Policy, values: dict[str, object]) -> None:
    first = live(values)
    expected = ran(found, first, {})
    again = View.of(Facts(at=START, recorded=dict(first.resolved)), CATALOGUE)
    assert ran(found, again, {}) == expected


def live(values: Mapping[str, object]) -> View:
    """A view in which nothing is resolved until it is asked for."""
    held = wide.view(values)
    return View(held.facts, CATALOGUE)


@FEWER
@given(found=wide.policies(1, 4), values=wide.signals(), data=st.data())
def test_without_a_catalogue_only_the_order_changes(found: Policy, values: dict[str, object], data: st.DataObject) -> None:
    measured = data.draw(st.composite(lambda draw: wide.measured(found, draw))())
    program = emit.compiled(found)
    truths = {program.rules[place].id: truth for place, truth in run(program, wide.view(values), measured)}
    assert truths == {name: truth for name, truth in walked(found, wide.view(values), measured).items() if truth is not False}


def rules(*whens: Plain, modes: tuple[str, ...] = ("enforce",)) -> Policy:
    return policy(json.dumps(wide.pack(list(whens), modes=modes)))


MODES = (Mode.ENFORCE, Mode.SHADOW, Mode.OFF)


@FEWER
@given(written=packs("p", MODES, broken=True, most=6), sent=exchanges())
def test_the_engine_decides_with_the_program_as_with_the_tree_walk(written: Plain, sent: Any) -> None:
    found = judged([written], sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "compiled", walking)
        reference = judged([written], sent)
    for one, other in zip(found, reference, strict=True):
        assert one.outcome == other.outcome


def walking(found: Policy, catalogue: Catalogue) -> Program:
    """A program that walks the trees."""
    rules = tuple(rule for rule in found.rules if rule.mode is not Mode.OFF)

    def run(get: Any, resolved: Mapping[str, object], measured: Mapping[str, object]) -> list[tuple[int, Truth]]:
        values: Any = SimpleNamespace(get=get)
        truths = [rule.when.evaluate(rule_values(rule, values, dict(measured))) for rule in rules]
        return [(place, truth) for place, truth in enumerate(truths) if truth is not False]

    return Program(rules, (), run)


def test_a_program_that_breaks_is_walked_rule_by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should emitted code ever raise on a value, only the rules that look at that value end as errors."""

    def raising(found: Policy, catalogue: Catalogue) -> Program:
        def run(*given: object) -> Any:
            raise RuntimeError("emitted code broke")

        return replace(walking(found, catalogue), run=run)

    monkeypatch.setattr(evaluation, "compiled", raising)
    engine = Engine(rules({"request.model": "a"}, {"request.stream": True}, {"request.stream": False}))
    held = wide.view({"request.model": Breaks(), "request.stream": True})
    ends = engine.evaluate(held, engine.prepare(held), Reply()).ends
    assert [(end.rule.id, end.verdict, end.error) for end in ends] == [
        ("w.r0", Verdict.ERROR, "RuntimeError: no comparison"), ("w.r1", Verdict.MATCH, ""),
    ]  # fmt: skip


def test_rules_that_are_off_are_left_out() -> None:
    found = rules({"request.stream": True}, {"request.stream": False}, modes=("enforce", "off"))
    assert [rule.id for rule in emit.compiled(found).rules] == ["w.r0"]
    assert "r1" not in emit.source(found)


def test_no_rules_is_a_program_too() -> None:
    assert run(emit.compiled(policy("pack: t\nversion: 1\nlanguage: 1\n")), wide.view({}), {}) == []


def test_equal_leaves_are_written_once() -> None:
    leaf = {"request.path": {"matches": "^/v1/"}}
    found = rules({"all": [leaf, {"request.stream": True}]}, {"any": [leaf, {"request.size": {"gt": 5}}]}, {"none": [leaf]})
    assert len(re.findall(r"\bF\d+\(", emit.source(found, CATALOGUE))) == 1


def test_dear_leaves_are_asked_once_across_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "_WHOLE", 1)
    monkeypatch.setattr(emit, "_PART", 1)
    asked: list[object] = []
    inside, outside = ({"client.ip": {"within": [network]}} for network in ("10.0.0.0/8", "192.0.2.0/24"))
    found = rules(
        {"all": [inside, {"request.stream": True}]}, {"none": [outside]}, {"none": [inside]}, {"any": [outside, inside]}
    )
    spied = replace(found, rules=tuple(replace(rule, when=_spied(rule.when, asked)) for rule in found.rules))
    assert len(emit.compiled(spied, CATALOGUE).units) == 5
    view = wide.view({"client.ip": "10.1.1.1", "request.stream": True})
    assert ran(spied, view, {}) == {"w.r0": True, "w.r1": True, "w.r2": False, "w.r3": True}
    assert asked == ["10.1.1.1"] * 2, "two leaves, however many rules they stand in"


def _spied(condition: Any, asked: list[object]) -> Any:
    if hasattr(condition, "parts"):
        return type(condition)(tuple(_spied(part, asked) for part in condition.parts))
    if condition.operator.name != "within":
        return condition

    def test(value: Any, operand: Any) -> bool:
        asked.append(value)
        return bool(condition.operator.test(value, operand))

    return replace(condition, operator=replace(condition.operator, test=test))


def test_what_costs_more_is_asked_last_and_only_if_needed() -> None:
    resolved: list[str] = []

    def signal(name: str, cost: Cost, value: str) -> Signal:
        def resolve(view: View) -> str:
            resolved.append(name)
            return value

        return Signal(name, STRING, "a test's", resolve, cost)

    names = {"account.org": Cost.REMOTE, "request.model": Cost.BODY, "request.path": Cost.HEADER, "account.plan": Cost.STATE}
    catalogue = {name: signal(name, cost, "yes") for name, cost in names.items()}
    written = {"all": [{name: "yes"} for name in names]}
    program = emit.compiled(rules(written), catalogue)
    assert run(program, View(Facts(at=START), catalogue), {}) == [(0, True)]
    assert resolved == ["request.path", "request.model", "account.plan", "account.org"]
    for place, name in enumerate(list(resolved)):
        resolved.clear()
        missing = {**catalogue, name: signal(name, names[name], "no")}
        assert run(program, View(Facts(at=START), missing), {}) == []
        assert len(resolved) == place + 1


def test_an_index_finds_rules_by_value() -> None:
    whens: list[Plain] = [
        {"all": [{"client.country": code}, {"request.stream": True}]} for code in ("NO", "SE", "DK", "KP", "US")
    ]
    found = rules(*whens, {"client.country": {"in": ["NO", "DE"]}}, {"client.country": "FR"})
    source = emit.source(found, CATALOGUE)
    assert re.search(r"for part in AT\d+\.get\(v\d+, NONE\)", source)
    for country in ("NO", "DE", "IT", Missing("no"), Failed("no"), 7, ["NO"]):
        values: dict[str, object] = {"client.country": country, "request.stream": True}
        assert ran(found, wide.view(values), {}) == walked(found, wide.view(values), {})


class Breaks:
    """A value of a class of its own, whose comparison raises what no operator foresees."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


def test_a_value_whose_comparison_breaks_is_unknown() -> None:
    found = rules({"request.model": "a"}, {"any": [{"request.model": "a"}, {"request.stream": True}]})
    assert ran(found, wide.view({"request.model": Breaks(), "request.stream": True}), {}) == {"w.r0": None, "w.r1": True}


NEEDLES = [f"needle {n}" for n in range(9)] + ["(?i)gpt-[0-9]", "a.c", "é", "'\"\\", "x\u200by"]

HAY = ["NEEDLE 5", "GPT-4", "abc", "\ud800", "a\ud800c", "Ｇpt-4", "\n"]


def searching(view: Plain) -> list[Plain]:
    literals: list[Plain] = [{"request.path": {"contains": text, **view}} for text in NEEDLES]
    patterns: list[Plain] = [
        {"request.path": {"matches": p, **view}} for p in ("(?i)gpt-[0-9]", "a.c", "^need", "le 7$", "[é]")
    ]
    return [*literals, *patterns]


@pytest.mark.parametrize("view", [{}, {"view": "normalised"}])
def test_texts_that_many_leaves_search_are_scanned_once_and_the_scan_only_excludes(view: Plain) -> None:
    found = rules(*searching(view), {"all": [{"request.stream": True}, {"request.path": {"contains": "needle 5", **view}}]})
    terms = Terms.of(found.rules, CATALOGUE)
    groups = gathered(list(terms.tests.values()))
    # patterns look at a normalised text in which ASCII characters are kept apart
    assert sorted(map(len, groups.values())) == ([5, 14] if view else [19])
    assert len(re.findall(r"= S\d+_\w+\(", emit.source(found, CATALOGUE))) == len(groups)

    @FEWER
    @given(st.lists(st.sampled_from([*NEEDLES, *HAY]), max_size=5).map("".join))
    def same(text: str) -> None:
        assert ran(found, wide.view({"request.path": text}), {}) == walked(found, wide.view({"request.path": text}), {})
        if not view:
            ((_, tests),) = groups.items()
            assert matcher(tests)(text) >= {test.number for test in tests if test.leaf.test(text)}

    same()


def test_the_views_of_a_text_are_kept_apart() -> None:
    found = rules({"request.path": {"contains": "gpt"}}, {"request.path": {"contains": "gpt", "view": "normalised"}})
    assert ran(found, wide.view({"request.path": "a ＧＰＴ"}), {}) == {"w.r0": False, "w.r1": True}
    assert ran(found, wide.view({"request.path": "a gpt"}), {}) == {"w.r0": True, "w.r1": True}


PADDING = ["\u200b" * LONGEST, "x" * LONGEST, "ﷺ" * 9_000]


@pytest.mark.parametrize("padding", PADDING, ids=["invisible", "plain", "growing"])
def test_of_a_text_that_is_cut_the_program_knows_what_the_tree_walk_knows(padding: str) -> None:
    view = {"view": "normalised"}
    words: list[Plain] = [{word: "gpt-4"} for word in ("eq", "ne", "contains", "starts_with", "ends_with", "matches")]
    words += [{"in": ["GPT-4", "o"]}, {"not_in": ["gpt-4", "o"]}, {"matches": "^gpt"}, {"matches": "gpt-4$"}, {"contains": "1"}]
    whens: list[Plain] = [{"request.path": {**word, **view}} for word in words]
    whens += [{"none": [when]} for when in whens] + [{"request.path": {"contains": "gpt"}}, *searching(view)]
    found = rules(*whens)
    for text in (padding + "gpt-4", "ＧPT-4!" + padding, "gpt-4!" + padding + "gpt-4", "gpt-4", "GPT-l"):
        values: dict[str, object] = {"request.path": text}
        expected = walked(found, wide.view(values), {})
        assert ran(found, wide.view(values), {}) == expected
        if len(text) > 10:
            assert expected["w.r0"] is expected["w.r1"] is expected["w.r4"] is None, "not equal, not other, no end"
            assert expected["w.r2"] is (True if text[0] != padding[0] else None)


def test_a_few_searches_are_not_gathered() -> None:
    terms = Terms.of(rules(*searching({})[:9]).rules, CATALOGUE)
    assert gathered(list(terms.tests.values())) == {}


HOSTILE = [
    "x\n__import__('os').abort()", "'] or 1 or ['", '"""', "\\", "\r\nraise SystemExit", "{x} {v}", "%s", "\u2028import os",
    "#", "X1", "get", "\x85", "é\ufffd", "U", "None",
]  # fmt: skip
_NAME = re.compile(
    r"get|R|M|K|U|out|part|ask|truth|type|str|int|float|bool|frozenset|ABSENT|NONE|NOT_COUNTED|ratio|skeleton|folded|run"
    r"|[vtlnfXTFW]\d+|[gMcS]\d+_\w+|part_\d+|when_\d+_\d+|AT\d+|EACH\d+"
)
_ATTRIBUTES = {"get", "append", "sort", "startswith", "endswith", "isdisjoint"}


def harmless(source: str) -> None:
    """Nothing stands in the source but names made by the emitter, numbers, truth values and names of signals."""
    assert source.isascii()
    for node in ast.walk(ast.parse(source)):
        assert not isinstance(node, (ast.Import, ast.ImportFrom, ast.Lambda, ast.ClassDef, ast.Global, ast.JoinedStr))
        if isinstance(node, ast.Name):
            assert _NAME.fullmatch(node.id), node.id
        if isinstance(node, ast.Attribute):
            assert node.attr in _ATTRIBUTES, node.attr
        if isinstance(node, ast.Constant):
            assert type(node.value) in (int, float, bool, type(None)) or node.value in CATALOGUE, node.value


@FEWER
@given(found=wide.policies())
def test_generated_source_is_harmless(found: Policy) -> None:
    harmless(emit.source(found, CATALOGUE))


@FEWER
@given(
    st.lists(
        st.sampled_from(HOSTILE)
        | st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cc"])).filter(VISIBLE.search),
        min_size=2,
        max_size=4,
    )
)
def test_hostile_texts_stay_values(texts: list[str]) -> None:
    word, other, *_ = texts
    leaf = {"id": other, "request.model": {"in": texts}}
    whens: list[Plain] = [
        leaf, {"request.model": word}, {"request.path": {"contains": other}}, {"request.path": {"starts_with": word}},
        {"requests": {"gte": 1}}, {"client.json_style": {"any_of": texts}},
    ]  # fmt: skip
    written = wide.pack(whens)
    written["rules"][4]["measures"] = {
        "requests": {"count": True, "per": ["account.id"], "window": "1m", "where": {"request.model": word}}
    }
    for rule in written["rules"]:
        rule["title"] = other or "t"
    found = policy(json.dumps(written))
    harmless(emit.source(found, CATALOGUE))
    values: dict[str, object] = {"request.model": word, "request.path": word + other, "client.json_style": frozenset([word])}
    measured = {next(one.label for one in found.measures if one.where and not one.settled and one.of is None): 3}
    truths = ran(found, wide.view(values), measured)
    assert truths == walked(found, wide.view(values), measured)
    assert truths["w.r1"] is truths["w.r2"] is truths["w.r3"] is truths["w.r4"] is True


def test_what_is_shown_is_what_runs() -> None:
    found = rules({"request.model": "a"}, {"requests": {"gte": 3}})
    assert emit.source(found, CATALOGUE) == emit.compiled(found, CATALOGUE).source
    assert "# w.r0: request.model eq a" in emit.source(found, CATALOGUE)
    assert emit.source(found, CATALOGUE) == emit.source(rules({"request.model": "a"}, {"requests": {"gte": 3}}), CATALOGUE)
