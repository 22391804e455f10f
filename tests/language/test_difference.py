"""The static difference: what it says of two policies is never contradicted by running both.

`tests/policies/difference/NAME.old.yaml` and `NAME.new.yaml` say on top of the new file, line by line, what is said of them.
"""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.check import _kind as kind_of
from gateway.decision import Action, Mode
from gateway.engine import Ended
from gateway.facts import Answer
from gateway.gate import Gate
from gateway.language.compared import Reading, _through, compare, covers, reading, sides
from gateway.language.compile import load
from gateway.language.difference import Change, Difference, Kind, Step, difference
from gateway.language.direction import Direction, together
from gateway.state.memory import MemoryState
from gateway.state.operations import SLICES, Count, Window
from gateway.state.windows import Distinct
from gateway.values import SECOND, AtLeast, Failed, Missing
from tests.judging import CATALOGUE, START, facts, policy
from tests.language.test_ranges import MEASURES, compiled, rule_of, trees, worlds
from tests.strategies import Plain, Sent, conditions, exchanges, packs, rules, text
from tests.strategies import facts as sent_facts

FILES = Path(__file__).parents[1] / "policies/difference"
NAMES = sorted(file.name.removesuffix(".old.yaml") for file in FILES.glob("*.old.yaml"))


def told(found: Difference) -> list[str]:
    """The difference in lines, as the files state it."""
    lines = [_line(change) for change in found.changes]
    lines += [f"pack {one.pack}: {one.old} -> {one.new} {one.step}" + (" owed" if one.owed else "") for one in found.packs]
    return lines


def _line(change: Change) -> str:
    why = f": {'; '.join(change.reasons)}" if change.reasons else ""
    return f"{change.what} {change.id}: {kind_of(change)} ({change.step}){why}"


@pytest.mark.parametrize("name", NAMES)
def test_a_difference_says_exactly_what_changed(name: str) -> None:
    old, new = FILES / f"{name}.old.yaml", FILES / f"{name}.new.yaml"
    stated = [line.removeprefix("# ") for line in new.read_text().splitlines() if line.startswith("# ")]
    assert told(difference(load([old], CATALOGUE), load([new], CATALOGUE))) == stated
    assert stated


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_against_itself(name: str) -> None:
    for side in ("old", "new"):
        loaded = load([FILES / f"{name}.{side}.yaml"], CATALOGUE)
        found = difference(loaded, loaded)
        assert {(change.kind, change.direction, change.step) for change in found.changes} <= {
            (Kind.EQUAL, Direction.EQUAL, Step.NONE)
        }
        assert found.findings == ()


@st.composite
def altered(draw: st.DrawFn, when: Plain, others: st.SearchStrategy[Plain]) -> Plain:
    """A condition near another one: a part taken out, put in or exchanged, a number moved, a word changed."""
    found = copy.deepcopy(when)
    for _ in range(draw(st.integers(1, 2))):
        found = _alter(draw, found, others)
    return found


def _alter(draw: st.DrawFn, when: Plain, others: st.SearchStrategy[Plain]) -> Plain:
    (word, below), *_ = when.items()
    if word in ("all", "any", "none"):
        how = draw(st.sampled_from(["inside", "inside", "drop", "add", "word"]))
        if how == "drop" and len(below) > 1:
            return {word: below[1:]}
        if how == "add":
            return {word: [*below, draw(others)]}
        if how == "word":
            return {draw(st.sampled_from(["all", "any", "none"])): below}
        return {word: [_alter(draw, below[0], others), *below[1:]]}
    if not isinstance(below, dict):
        return draw(others)
    (operator, operand), *_ = below.items()
    if isinstance(operand, int) and not isinstance(operand, bool) and operand > 0:
        return {word: {operator: operand - draw(st.integers(0, 1))}}
    return draw(st.one_of(others, st.just({"any": [when, draw(others)]}), st.just({"all": [when, draw(others)]})))


FEW = st.sampled_from(
    [["request.size"], ["requests"], ["addresses", "request.stream"], ["client.country"], ["request.model"], ["client.ip"]]
)
NEAR = FEW.flatmap(lambda names: trees(names).flatmap(lambda when: st.tuples(st.just(when), altered(when, trees(names)))))


@settings(max_examples=150, deadline=None)
@given(NEAR)
def test_a_condition_goes_the_way_it_is_said_to_go(pair: tuple[Plain, Plain]) -> None:
    old, new = compiled(rule_of(pair[0], "p.a"), rule_of(pair[1], "p.b"))
    way, reasons = compare(old.when, new.when, sides(old.measures, new.measures))
    assert way is Direction.EQUAL or reasons
    for values in worlds(old.when, new.when):
        look = lambda name, values=values: values[name]  # noqa: E731
        before, after = old.when.evaluate(look) is True, new.when.evaluate(look) is True
        assert_goes(way, int(before), int(after))


def assert_goes(way: Direction, before: int, after: int) -> None:
    assert way is not Direction.EQUAL or before == after
    assert way is not Direction.WIDER or after >= before
    assert way is not Direction.NARROWER or after <= before


DEFINITIONS: list[Plain] = [
    {"count": True, "per": ["account.id"], "window": "8s"},
    {"count": True, "per": ["account.id"], "window": "9s"},
    {"count": True, "per": ["account.id"], "window": "10s"},
    {"count": True, "per": ["account.id"], "window": "16s"},
    {"count": True, "per": ["account.id"], "window": "16s", "where": {"request.size": {"gte": 2}}},
    {"count": True, "per": ["account.id"], "window": "16s", "where": {"request.size": {"gte": 4}}},
    {"count": True, "per": ["account.id"], "window": "24s", "where": {"request.size": {"gte": 4}}},
    {"distinct": "client.ip", "per": ["account.id"], "window": "16s", "cap": 2},
    {"distinct": "client.ip", "per": ["account.id"], "window": "16s", "cap": 3},
    {"distinct": "client.ip", "per": ["account.id"], "window": "16s", "cap": 4},
    {"distinct": "client.ip", "per": ["account.id"], "window": "32s", "cap": 4},
    {"sum": "request.size", "per": ["account.id"], "window": "16s"},
    {"sum": "request.size", "per": ["account.id"], "window": "32s"},
]
TIMELINE = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(1, 6), st.sampled_from(["a", "a", None])),
    min_size=8,
    max_size=30,
)
COMPARED = st.sampled_from(["gt", "gte", "lt", "lte", "eq", "ne"])
HEIGHTS = {"count": [1, 2, 3, 5], "distinct": [1], "sum": [4, 9]}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_changed_measure_takes_its_rule_the_way_that_is_said(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["count", "distinct", "sum"]))
    alike = st.sampled_from([one for one in DEFINITIONS if kind in one])
    one, other = data.draw(alike), data.draw(alike)
    ratio = kind != "sum" and data.draw(st.booleans())
    heights = st.sampled_from([0.3, 0.5, 1.0] if ratio else HEIGHTS[kind])
    test, moved = ({data.draw(COMPARED): data.draw(heights)} for _ in range(2))
    word = data.draw(st.sampled_from(["all", "none"]))
    written = []
    for definition, threshold in ((one, test), (other, data.draw(st.sampled_from([test, moved])))):
        measures = {"m": definition, "n": {"count": True, "per": ["account.id"], "window": "1m"}, "r": {"ratio": ["m", "n"]}}
        written.append(rule_of({word: [{"r" if ratio else "m": threshold}]}, measures=measures))
    old, new = (policy(text({"pack": "p", "version": 1, "language": 1, "rules": [rule]})) for rule in written)
    (change,) = difference(old, new).changes
    gates, at = [Gate(old, CATALOGUE), Gate(new, CATALOGUE)], START
    for after, address, size, account in data.draw(TIMELINE):
        at += after * SECOND
        given_values = {"client.ip": f"10.0.0.{address}", "request.size": size, **({"account.id": account} if account else {})}
        before, now = (int(bool(matched(gate, facts(given_values, at)))) for gate in gates)
        assert_goes(change.direction, before, now)


def changed_readings(measured: Reading) -> list[tuple[object, object]]:
    """Every pair of small readings, before and after, that a kind of change allows."""
    exact, capped = list(range(7)), [AtLeast(number) for number in range(7)]
    more = [(old, new) for old in exact for new in exact if new >= old]
    surer = [(old, old) for old in exact]
    surer += [(old, new) for old in capped for new in exact if new >= old.count]
    surer += [(old, new) for old in capped for new in capped if new.count >= old.count]
    missing = [(value, value) for value in (Missing("no key"), Failed("it broke"))]
    pairs: dict[Reading, list[tuple[object, object]]] = {Reading.MORE: [*more], Reading.SURER: [*surer]}
    pairs[Reading.LESS], pairs[Reading.VAGUER] = ([(new, old) for old, new in found] for found in (more, surer))
    return pairs[measured] + missing


@pytest.mark.parametrize("measured", [Reading.MORE, Reading.LESS, Reading.SURER, Reading.VAGUER])
@pytest.mark.parametrize("word", ["eq", "ne", "lt", "lte", "gt", "gte", "between", "in", "not_in", "present"])
def test_changed_readings_take_comparisons_the_way_that_is_said(measured: Reading, word: str) -> None:
    operands: list[Any] = [True, False] if word == "present" else [[2, 4], [3, 3]] if word == "between" else (
        [[2, 4], [5]] if word in ("in", "not_in") else [0, 3, 6])  # fmt: skip
    for operand in operands:
        (rule,) = compiled(rule_of({"requests": {word: operand}}))
        (leaf,) = rule.when.leaves()
        ways = _through(measured, leaf, rule.measures["requests"])
        for old, new in changed_readings(measured):
            before, after = leaf.test(old), leaf.test(new)
            assert_goes(ways.true, int(before is True), int(after is True))
            assert_goes(ways.false, int(before is False), int(after is False))
    if word in ("lt", "lte", "gt", "gte"):
        assert Direction.OPEN not in ways


@pytest.mark.parametrize(("short", "long"), [(8, 9), (8, 10), (8, 16), (60, 68), (60, 69), (60, 70), (64, 65), (3_600, 7_200)])
def test_a_longer_window_counts_no_less_only_where_it_begins_no_later(short: int, long: int) -> None:
    windows = [Window("w", Count.COUNT, length * SECOND) for length in (short, long)]

    def begins(window: Window, at: int) -> int:
        """Where the oldest slice begins that a window still covers at this time (µs)."""
        return (window.slice_of(at) - SLICES + 1) * (window.length // SLICES)

    times = [START + step * windows[1].length // SLICES for step in range(2_000)]
    sound = all(begins(windows[1], at) <= begins(windows[0], at) for at in times)
    assert covers(short * SECOND, long * SECOND) is sound
    assert not covers(long * SECOND, short * SECOND)


def test_what_is_counted_beside_may_fill_a_cap_so_that_less_is_read() -> None:
    """Why a wider `where` of a distinct measure is not called wider: values that came while it was full are never seen."""
    window = Window("w", Count.DISTINCT, SLICES * SECOND, cap=2)
    old, new = Distinct(), Distinct()
    for at, value, counted_before in ((0, "a", False), (0, "b", False), (1, "c", True), (1, "d", True)):
        new.add(at, value, window)
        if counted_before:
            old.add(at, value, window)
    assert (old.read(SLICES, window), new.read(SLICES, window)) == (2, AtLeast(0))


def matched(gate: Gate, sent: Any) -> list[Ended]:
    judgement = gate.judge(sent)
    gate.settle(judgement, Answer())
    return [end for end in judgement.evaluated.ends if end.counts]


THENS: list[Plain] = [
    {"action": "allow"},
    {"action": "observe"},
    {"action": "tag", "tag": "odd"},
    {"action": "delay", "hold": "2s"},
    {"action": "delay", "hold": "3s"},
    {"action": "verify"},
    {"action": "deny", "status": 451},
    {"of": "requests", "steps": [{"from": 1, "action": "tag", "tag": "x"}, {"from": 3, "action": "deny"}]},
    {"of": "requests", "steps": [{"from": 1, "action": "tag", "tag": "x"}, {"from": 2, "action": "deny"}]},
    {"of": "requests", "steps": [{"from": 2, "action": "observe"}, {"from": 3, "action": "verify"}]},
]
CORROBORATES: list[Plain | None] = [
    None,
    {"families": 2, "within": "1m", "per": ["account.id"], "else": "tag"},
    {"families": 2, "within": "1m", "per": ["account.id"], "else": "observe"},
    {"families": 2, "within": "10m", "per": ["account.id"], "else": "tag"},
    {"families": 3, "within": "10m", "per": ["account.id"], "else": "tag"},
    {"families": 2, "within": "1m", "per": ["account.id", "client.country"], "else": "tag"},
]
ENTRIES: list[list[Plain]] = [
    [],
    [{"values": ["a"], "reason": "r", "owner": "o", "expires": START // SECOND + 20}],
    [{"values": ["a"], "reason": "r", "owner": "o", "expires": "2030-01-01"}],
    [{"values": [one], "reason": "r", "owner": "o", "expires": "2030-01-01"} for one in ("a", "b")],
]


PARTS: dict[str, st.SearchStrategy[Any]] = {
    "then": st.sampled_from(THENS),
    "mode": st.sampled_from(["enforce", "enforce", "shadow"]),
    "share": st.sampled_from([None, None, "30%", "60%"]),
    "exceptions": st.sampled_from(ENTRIES).map(lambda entries: {"known": {"fields": ["account.id"], "entries": entries}}),
    "corroborate": st.sampled_from(CORROBORATES),
}


@st.composite
def changed_rules(draw: st.DrawFn) -> tuple[Plain, Plain]:
    """A rule of the shared world, and the same with one or two things changed."""
    base = draw(rules("p.r", Mode.ENFORCE, throttles=False))
    old = base | {part: draw(values) for part, values in PARTS.items()}
    new = copy.deepcopy(old)
    for what in draw(st.lists(st.sampled_from(["when", *PARTS]), min_size=1, max_size=2)):
        new[what] = draw(altered(old["when"], conditions()) if what == "when" else PARTS[what])
    return _written(old), _written(new)


def _written(rule: Plain) -> Plain:
    """Without what stands for nothing: only an enforced rule has a share."""
    found = {key: value for key, value in rule.items() if value is not None}
    return found if found["mode"] == "enforce" else {key: value for key, value in found.items() if key != "share"}


@settings(max_examples=150, deadline=None)
@given(changed_rules(), packs("q", throttles=False), exchanges())
def test_a_rule_goes_the_way_it_is_said_to_go(pair: tuple[Plain, Plain], others: Plain, sent: list[Sent]) -> None:
    lists = others["lists"]
    both = [{"pack": "p", "version": 1, "language": 1, "lists": lists, "rules": [rule]} for rule in pair]
    old, new = (policy(text(pack), text(others)) for pack in both)
    change = next(change for change in difference(old, new).changes if change.id == "p.r")
    before, after = (_played(one, sent) for one in (old, new))
    for then, now in zip(before, after, strict=True):
        for view in (0, 1):
            assert_goes(change.direction, then[view], now[view])


def _played(loaded: Any, sent: list[Sent]) -> list[tuple[int, int]]:
    """What the rule asks for on each exchange, enforced and as if it were: −1 where it does not match."""
    gate, at, found = Gate(loaded, CATALOGUE, state=MemoryState()), START, []
    for one in sent:
        at += one.after * SECOND
        end = next((end for end in matched(gate, sent_facts(one, at)) if end.rule.id == "p.r"), None)
        found.append((_asks(end.effect), _asks(end.would)) if end is not None else (-1, -1))
    return found


def _asks(effect: Any) -> int:
    return -1 if effect is None else int(effect.action)


@pytest.mark.parametrize(("first", "second"), list(product(Direction, Direction)))
def test_directions_together(first: Direction, second: Direction) -> None:
    found = together((first, second))
    assert found is together((second, first))
    assert together((first, first.back)) in (first, Direction.BOTH)
    if first is Direction.EQUAL:
        assert found is second


def test_readings_of_the_same_and_of_another_measure() -> None:
    measures = compiled(rule_of({"requests": {"gte": 1}}))[0].measures
    for name, other in product(MEASURES, MEASURES):
        assert (reading(measures[name], measures[other]) is Reading.SAME) is (name == other)


def test_every_change_is_told_with_its_place() -> None:
    for name in NAMES:
        found = difference(load([FILES / f"{name}.old.yaml"], CATALOGUE), load([FILES / f"{name}.new.yaml"], CATALOGUE))
        assert all(change.place.line and change.place.path.endswith(".yaml") for change in found.changes)


def test_actions_are_all_compared() -> None:
    """Every action stands in one order with every other, but a throttle with room left yields to what acts on every match."""
    words = {"tag": {"tag": "x"}, "delay": {"hold": "1s"}, "throttle": {"limit": "5/minute", "per": ["account.id"]},
             "restrict": {"to": {"n": 1}}}  # fmt: skip
    for one, other in product(Action, Action):
        thens = [{"action": str(action), **words.get(str(action), {})} for action in (one, other)]
        old, new = (policy(text({"pack": "p", "version": 1, "language": 1, "rules": [
            rule_of({"client.country": "NO"}, then=then)]})) for then in thens)  # fmt: skip
        (change,) = difference(old, new).changes
        weak = {one, other} & {Action.TAG, Action.DELAY, Action.RESTRICT}
        if Action.THROTTLE in (one, other) and weak:
            assert change.direction is Direction.BOTH
        else:
            way = Direction.EQUAL if one is other else Direction.WIDER if other > one else Direction.NARROWER
            assert change.direction is way
