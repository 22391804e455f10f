"""Two conditions compared: on which values the new one holds where the old one did not, and the other way round.

Conditions of the same build are compared comparison by comparison, so that the reason can name the one that changed; a measure
whose definition changed is taken along where its readings can only grow, shrink or become surer. Where the builds differ, or
comparisons pull in opposite directions, the whole is put to `logic`: a proof decides, and without one nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from math import gcd
from typing import Final, NamedTuple

from gateway.language.conditions import All, Any, Condition, Leaf, No
from gateway.language.direction import Direction, nested, together
from gateway.language.logic import Declared, Found, implication
from gateway.language.measures import Measure, Ratio
from gateway.language.operators import Networks
from gateway.state.operations import SLICES, Count
from gateway.values import duration_text

EQUAL, WIDER, NARROWER, OPEN = Direction.EQUAL, Direction.WIDER, Direction.NARROWER, Direction.OPEN
NO_MEASURES: Final[Declared] = {}
_RISING: Final = ("gt", "gte")
_FALLING: Final = ("lt", "lte")


class Reading(Enum):
    """How the readings of a measure changed with its definition, on the same exchanges."""

    SAME = "the same"
    MORE = "never lower"
    LESS = "never higher"
    SURER = "the same, and decided more often"
    VAGUER = "the same, and decided less often"
    OTHER = "other readings"

    @property
    def back(self) -> Reading:
        return _BACK.get(self, self)


_BACK: Final = {
    Reading.MORE: Reading.LESS, Reading.LESS: Reading.MORE, Reading.SURER: Reading.VAGUER, Reading.VAGUER: Reading.SURER,
}  # fmt: skip


class Sides(NamedTuple):
    """The measures of both sides, and how those of the same name differ."""

    old: Declared
    new: Declared
    readings: Mapping[str, Reading]


class Ways(NamedTuple):
    """How the values that make a condition true changed, and those that make it false."""

    true: Direction
    false: Direction


def sides(old: Declared, new: Declared) -> Sides:
    """Both sides' measures, with one label for equal readings and two for others.

    Labels alone do not tell: a list inside a definition may have changed, and one definition can be written in two ways.
    """
    readings = {name: reading(old[name], new[name]) for name in old.keys() & new.keys()}
    before = dict(old)
    for name, found in readings.items():
        same = found is Reading.SAME
        label = new[name].label if same else f"{old[name].label} (before)"
        if same is not (old[name].label == new[name].label):
            before[name] = replace(old[name], label=label)
    return Sides(before, new, readings)


def compare(old: Condition, new: Condition, both: Sides) -> tuple[Direction, list[str]]:
    """Which way the condition changed, with the reasons; no reasons where nothing did."""
    reasons: list[str] = []
    ways = _aligned(old, new, both, reasons)
    if not reasons and ways.true is EQUAL:
        return EQUAL, []
    if ways.true in (EQUAL, WIDER, NARROWER):
        return ways.true, reasons
    forth = implication(old, both.old, new, both.new)
    back = implication(new, both.new, old, both.old)
    if Found.NONE in (forth, back):
        return nested(forth is Found.NONE, back is Found.NONE), reasons
    known = all(both.readings.get(leaf.name, Reading.SAME) is Reading.SAME for one in (old, new) for leaf in one.leaves())
    shown = forth is back is Found.SHOWN and known
    return (Direction.BOTH if shown else OPEN), reasons


def ends_unknown_alike(old: Condition, new: Condition, both: Sides) -> bool:
    """Whether both conditions are unknown for the same values."""
    return (
        implication(old, both.old, new, both.new, None) is Found.NONE
        and implication(new, both.new, old, both.old, None) is Found.NONE
    )


def _aligned(old: Condition, new: Condition, both: Sides, reasons: list[str]) -> Ways:
    if isinstance(old, Leaf) and isinstance(new, Leaf):
        return _leaf(old, new, both, reasons)
    if isinstance(old, Leaf) or isinstance(new, Leaf) or type(old) is not type(new):
        single = _only(old, new)
        if single is not None:
            return _aligned(*single, both, reasons)
        reasons.append(f"condition '{old}' -> '{new}'")
        return Ways(OPEN, OPEN)
    true, false = [], []
    for before, after in _paired(old.parts, new.parts):
        if before is not None and after is not None:
            way = _aligned(before, after, both, reasons)
        else:
            reasons.append(f"part '{after}' added" if after is not None else f"part '{before}' removed")
            asks_more = (after is not None) is isinstance(old, All)
            way = Ways(NARROWER, WIDER) if asks_more else Ways(WIDER, NARROWER)
        true.append(way.true)
        false.append(way.false)
    found = Ways(together(true), together(false))
    return Ways(found.false, found.true) if isinstance(old, No) else found


def _only(old: Condition, new: Condition) -> tuple[Condition, Condition] | None:
    """A comparison beside a group as two groups: `all` and `any` of one part are that part."""
    if isinstance(old, Leaf) and isinstance(new, (All, Any)):
        return type(new)((old,)), new
    if isinstance(new, Leaf) and isinstance(old, (All, Any)):
        return old, type(old)((new,))
    return None


def _paired(old: Sequence[Condition], new: Sequence[Condition]) -> Iterator[tuple[Condition | None, Condition | None]]:
    """Parts that belong together: comparisons by id, groups by their kind and order, whatever is left alone."""
    left = {_name(part, parts[:place]): part for parts in (old,) for place, part in enumerate(parts)}
    for place, part in enumerate(new):
        before = left.pop(_name(part, new[:place]), None)
        yield before, part
    yield from ((part, None) for part in left.values())


def _name(part: Condition, before: Sequence[Condition]) -> tuple[str, int]:
    word = f"leaf {part.id} of {part.name}" if isinstance(part, Leaf) else part.word
    alike = (other for other in before if (isinstance(other, Leaf) and isinstance(part, Leaf) and other.id == part.id
             and other.name == part.name) or (not isinstance(other, Leaf) and type(other) is type(part)))  # fmt: skip
    return word, sum(1 for _ in alike)


def _leaf(old: Leaf, new: Leaf, both: Sides, reasons: list[str]) -> Ways:
    if old.name != new.name or (old.name in both.old) is not (new.name in both.new):
        reasons.append(f"leaf {old.id}: '{old}' -> '{new}'")
        return Ways(OPEN, OPEN)
    measured = both.readings.get(new.name, Reading.SAME)
    ways = Ways(EQUAL, EQUAL)
    if not _same(old, new):
        reasons.append(_reason(old, new))
        ways = Ways(_by(old, new, True, both), _by(old, new, False, both))
    if measured is Reading.SAME:
        return ways
    found = measure_changes(new.name, both.old[new.name], both.new[new.name], both.new)
    reasons += [said for said in found if said not in reasons]
    by_measure = _through(measured, old, both.new[new.name])
    return Ways(together((ways.true, by_measure.true)), together((ways.false, by_measure.false)))


def _same(old: Leaf, new: Leaf) -> bool:
    """Whether two comparisons are the same; a list that both name may have other items."""
    if old.operator is not new.operator or old.view is not new.view:
        return False
    if isinstance(old.operand, Networks) and isinstance(new.operand, Networks):
        return old.operand.inside(new.operand) and new.operand.inside(old.operand)
    return bool(old.operand == new.operand) if old.source or new.source else old.shown == new.shown


def _by(old: Leaf, new: Leaf, truth: bool, both: Sides) -> Direction:
    """How the values for which a comparison ends as `truth` changed, taking the measure's readings for the same."""
    forth, back = (implication(*pair, truth) for pair in ((old, both.new, new, both.new), (new, both.new, old, both.new)))
    if Found.NONE in (forth, back):
        return nested(forth is Found.NONE, back is Found.NONE)
    return Direction.BOTH if forth is back is Found.SHOWN else OPEN


def _through(measured: Reading, leaf: Leaf, declared: Measure | Ratio) -> Ways:
    """What changed readings do to one comparison."""
    word = leaf.operator.name
    if measured in (Reading.SURER, Reading.VAGUER):
        if word == "present":
            return Ways(EQUAL, EQUAL) if isinstance(declared, Measure) else Ways(OPEN, OPEN)
        return Ways(WIDER, WIDER) if measured is Reading.SURER else Ways(NARROWER, NARROWER)
    if measured is Reading.OTHER or word not in (*_RISING, *_FALLING):
        return Ways(OPEN, OPEN)
    more = (measured is Reading.MORE) is (word in _RISING)
    return Ways(WIDER, NARROWER) if more else Ways(NARROWER, WIDER)


def _reason(old: Leaf, new: Leaf) -> str:
    if old.operator is not new.operator or old.view is not new.view:
        return f"leaf {new.id}: '{old}' -> '{new}'"
    if isinstance(old.operand, frozenset) and isinstance(new.operand, frozenset):
        more, less = _counted(new.operand - old.operand, "added"), _counted(old.operand - new.operand, "removed")
        return f"values of leaf {new.id}: " + ", ".join(filter(None, (more, less)))
    if old.source is not None and old.source == new.source:
        return f"list {old.source[1]} of leaf {new.id} has other items"
    what = "threshold" if new.type.ordered else "value"
    return f"{what} of leaf {new.id} {old.shown} -> {new.shown}"


def _counted(items: frozenset[object], what: str) -> str:
    shown = sorted(map(str, items))
    return f"{len(shown)} {what} ({', '.join(shown[:5])}{', …' if len(shown) > 5 else ''})" if shown else ""


def reading(old: Measure | Ratio, new: Measure | Ratio) -> Reading:
    """How the readings of a measure changed with its definition.

    A longer window never counts less, if it is long enough that its oldest slice begins no later; so does a wider `where`. A
    higher cap on different values decides more. A cap can hide values from longer windows, so of the rest nothing is said.
    """
    if isinstance(old, Ratio) or isinstance(new, Ratio):
        if not isinstance(old, Ratio) or not isinstance(new, Ratio):
            return Reading.OTHER
        over, under = reading(old.over, new.over), reading(old.under, new.under)
        return over if under is Reading.SAME else Reading.OTHER
    one, other = old.window, new.window
    where = _where(old, new)
    if (one.kind, one.rank, old.of, old.per, old.settled) != (other.kind, other.rank, new.of, new.per, new.settled):
        return Reading.OTHER
    capped = one.kind in (Count.DISTINCT, Count.TOP_SHARE)
    longer = EQUAL if one.length == other.length else WIDER if covers(one.length, other.length) else (
        NARROWER if covers(other.length, one.length) else OPEN)  # fmt: skip
    if capped and longer is EQUAL and where is EQUAL:
        if one.cap == other.cap:
            return Reading.SAME
        found = Reading.SURER if one.kind is Count.DISTINCT else Reading.OTHER
        return found if other.cap > one.cap else found.back
    change = together((longer, where))
    if change is EQUAL:
        return Reading.SAME
    if one.kind is not Count.COUNT:
        return Reading.OTHER
    return {WIDER: Reading.MORE, NARROWER: Reading.LESS}.get(change, Reading.OTHER)


def covers(short: int, long: int) -> bool:
    """Whether a longer window (µs) always begins no later than a shorter one, so that it holds all that the other one holds.

    A window begins SLICES − 1 of its slices before the current one. The longer one begins latest when a slice of it has just
    begun; the shorter one can then be within its slice by all but the measure that both slices share.
    """
    one, other = short // SLICES, long // SLICES
    return long > short and (SLICES - 1) * other + gcd(one, other) >= SLICES * one


def _where(old: Measure, new: Measure) -> Direction:
    if old.where is None or new.where is None:
        return EQUAL if old.where is new.where else WIDER if new.where is None else NARROWER
    return compare(old.where, new.where, Sides(NO_MEASURES, NO_MEASURES, {}))[0]


def measure_changes(name: str, old: Measure | Ratio, new: Measure | Ratio, known: Declared) -> Iterator[str]:
    """What changed in the definition of a measure. known: the measures of the new rule, by which the parts of a ratio go."""
    if isinstance(old, Ratio) and isinstance(new, Ratio):
        names = {measure.label: called for called, measure in known.items()}
        yield from measure_changes(names.get(new.over.label, name), old.over, new.over, known)
        yield from measure_changes(names.get(new.under.label, name), old.under, new.under, known)
        return
    if isinstance(old, Ratio) or isinstance(new, Ratio):
        yield f"measure {name} is another: '{old.label}' -> '{new.label}'"
        return
    if (old.window.kind, old.of, old.window.rank) != (new.window.kind, new.of, new.window.rank):
        yield f"measure {name} counts something else: '{old.label}' -> '{new.label}'"
    if old.per != new.per:
        yield f"keys of measure {name} {', '.join(old.per)} -> {', '.join(new.per)}"
    if old.window.length != new.window.length:
        yield f"window of measure {name} {duration_text(old.window.length)} -> {duration_text(new.window.length)}"
    if old.window.cap != new.window.cap:
        yield f"cap of measure {name} {old.window.cap} -> {new.window.cap}"
    if _where(old, new) is not EQUAL:
        yield f"what measure {name} counts '{old.where or 'everything'}' -> '{new.where or 'everything'}'"
    if old.window.kind is new.window.kind is Count.DISTINCT and old.per == new.per and reading(old, new) is Reading.OTHER:
        yield f"a full cap of {new.window.cap} hides values from measure {name}, so that neither way is proven"
