"""Conditions, changed in one place: what a mutant's condition looks like, and which case would tell it from the real one.

Every change is a new condition tree; nothing is changed in place. Changes that no value can tell apart are left out where that
is cheap to see: of whole numbers `gt 7` is `gte 8`, a count never falls below zero, one part alone is `all` and `any` at once.
The ideas are those of mutation testing (DeMillo, Lipton and Sayward 1978), on the few kinds of nodes that rules have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any as Anything
from typing import Final, Generic, TypeVar

from gateway.errors import Place
from gateway.language.conditions import All, Any, Condition, Leaf, No
from gateway.language.operators import OPERATORS, Networks, Operand
from gateway.language.text import TextView
from gateway.values import FLOAT, INT, TIMESTAMP, Type, duration_text, parse_duration

T = TypeVar("T")
S = TypeVar("S")
DAY: Final = 86_400_000_000
BOUNDARY: Final = {"gt": "gte", "gte": "gt", "lt": "lte", "lte": "lt"}
LOOSER: Final = {"starts_with": "contains", "ends_with": "contains"}
MOST_ITEMS: Final = 3
_SWAPPED: Final[Mapping[type, type[All] | type[Any]]] = {All: Any, Any: All, No: Any}


@dataclass(frozen=True, slots=True)
class Altered(Generic[T]):
    """Something with one change. said: what was changed, in words that name it. hint: the case that would notice."""

    said: str
    hint: str
    value: T
    place: Place | None = None

    def within(self, build: Callable[[T], S], said: str = "", place: Place | None = None) -> Altered[S]:
        """The same change to what this is a part of. place: where that part stands, if the change has no place of its own."""
        return Altered(f"{said}{self.said}", self.hint, build(self.value), self.place or place)


Seen = Callable[[str], frozenset[Anything]]
SeenBy = Callable[[frozenset[str]], Seen]


def conditions(condition: Condition, seen: Seen) -> Iterator[Altered[Condition]]:
    """Every change of a condition. seen: the values of a signal that tests give."""
    yield from _within(condition, "the condition", seen)
    if isinstance(condition, Leaf):
        yield Altered(
            f"leaf {condition.id} left out", f"a case in which {condition} is false", always(condition), condition.place
        )


def _within(condition: Condition, path: str, seen: Seen) -> Iterator[Altered[Condition]]:
    if isinstance(condition, Leaf):
        yield from (altered.within(_same, f"leaf {condition.id}") for altered in leaves(condition, seen))
        return
    kind, parts = type(condition), condition.parts
    if len(parts) > 1 or kind is No:
        to = _SWAPPED[kind]
        hint = "a case in which one part holds and another does not" if kind is not No else "a case in which a part holds"
        yield Altered(f"{path}: {kind.word} becomes {to.word}", hint, to(parts), next(condition.leaves()).place)
    for place, part in enumerate(parts):
        rest = _rest(kind, parts, place)
        named = f"leaf {part.id}" if isinstance(part, Leaf) else f"{path}: part {place + 1}"
        hint = f"a case in which only {part} keeps the rule from matching, or alone makes it match"
        yield Altered(f"{named} left out", hint, rest, next(part.leaves()).place)
        for altered in _within(part, f"{path}, part {place + 1}", seen):
            yield altered.within(_put(kind, parts, place))


def _same(condition: Condition) -> Condition:
    return condition


def _put(kind: type[All] | type[Any] | type[No], parts: tuple[Condition, ...], place: int) -> Callable[[Condition], Condition]:
    return lambda part: kind((*parts[:place], part, *parts[place + 1 :]))


def leaves(leaf: Leaf, seen: Seen) -> Iterator[Altered[Condition]]:
    """Every change of one comparison."""
    yield Altered(" negated", f"a case in which {leaf} is true", No((leaf,)), leaf.place)
    word = leaf.operator.name
    for operand, shown in operands(leaf, seen):
        changed = replace(leaf, operand=operand, shown=shown, source=None)
        yield Altered(f": {word} {leaf.shown} becomes {word} {shown}", _telling(leaf, changed), changed, leaf.place)
    other = BOUNDARY.get(word) if leaf.type is not INT else None
    for name in filter(None, (other, LOOSER.get(word))):
        changed = replace(leaf, operator=OPERATORS[name])
        hint = (
            f"a case in which {leaf.name} is exactly {leaf.shown}"
            if other
            else f"a case with {leaf.shown} elsewhere in the text"
        )
        yield Altered(f": {word} {leaf.shown} becomes {name} {leaf.shown}", hint, changed, leaf.place)
    if leaf.view is TextView.NORMALISED:
        changed = replace(leaf, view=TextView.RAW)
        yield Altered(": the text as it is", f"a case in which {leaf.name} is written in disguise", changed, leaf.place)


def operands(leaf: Leaf, seen: Seen) -> Iterator[tuple[Anything, str]]:
    """Other operands of a comparison: the next ones on both sides, or a list without one item. Lists by name have their own."""
    need, show = leaf.operator.operand, leaf.type.show
    if need is Operand.VALUE and leaf.type.ordered:
        yield from ((value, show(value)) for value in nearby(leaf.type, leaf.operand))
    elif need is Operand.PAIR:
        low, high = leaf.operand
        pairs = [(value, high) for value in nearby(leaf.type, low) if value <= high]
        pairs += [(low, value) for value in nearby(leaf.type, high) if value >= low]
        yield from (((one, two), f"[{show(one)}, {show(two)}]") for one, two in pairs)
    elif need is Operand.LIST and leaf.source is None and len(leaf.operand) > 1:
        for item in chosen(leaf.operand, seen(leaf.name)):
            yield leaf.operand - {item}, f"{leaf.shown} without {leaf.type.scalar.show(item)}"
    elif need is Operand.NETWORKS and leaf.source is None and "," in leaf.shown:
        texts = leaf.shown[1:-1].split(", ")
        for text in texts[:MOST_ITEMS]:
            yield Networks(frozenset(texts) - {text}), f"{leaf.shown} without {text}"


def nearby(kind: Type, value: Anything) -> list[Anything]:
    """The next values on both sides that a person would write: one more and one less, or five hundredths of a fraction."""
    if kind is FLOAT:
        found = [float(f"{value * part:.6g}") for part in (0.95, 1.05)]
    else:
        step = {INT: 1, TIMESTAMP: DAY}.get(kind) or _unit(value)
        found = [value - step, value + step]
    return [other for other in found if other >= 0 and other != value]


def _unit(duration: int) -> int:
    text = duration_text(duration) if duration else "1s"
    return parse_duration("1" + text.lstrip("0123456789"))


def chosen(items: frozenset[Anything], seen: frozenset[Anything]) -> list[Anything]:
    """A few items that stand for all: those that tests give come first."""
    return sorted(items, key=lambda item: (item not in seen, str(item)))[:MOST_ITEMS]


def mapped(condition: Condition, change: Callable[[Leaf], Leaf]) -> Condition:
    """The same condition with every leaf changed."""
    if isinstance(condition, Leaf):
        return change(condition)
    return type(condition)(tuple(mapped(part, change) for part in condition.parts))


def without(condition: Condition, leaf_id: str) -> Condition | None:
    """The condition with a leaf taken out of the group it stands in; None where there is no such leaf."""
    if isinstance(condition, Leaf):
        return always(condition) if condition.id == leaf_id else None
    for place, part in enumerate(condition.parts):
        if isinstance(part, Leaf) and part.id == leaf_id:
            return _rest(type(condition), condition.parts, place)
        if not isinstance(part, Leaf) and (inner := without(part, leaf_id)) is not None:
            return _put(type(condition), condition.parts, place)(inner)
    return None


def always(leaf: Leaf) -> Condition:
    """A condition that is true whatever the leaf's value is: that there is one, or that there is none."""
    given = replace(leaf, operator=OPERATORS["present"], operand=True, shown="true", source=None, view=TextView.RAW)
    return Any((given, No((given,))))


def _rest(kind: type[All] | type[Any] | type[No], parts: tuple[Condition, ...], place: int) -> Condition:
    """A group without one of its parts; without its last one `all` and `none` hold, and `any` does not."""
    if len(parts) > 1:
        return kind(parts[:place] + parts[place + 1 :])
    nothing = always(next(parts[0].leaves()))
    return No((nothing,)) if kind is Any else nothing


def flipped(condition: Condition, leaf: Leaf, truth: bool) -> Condition:
    """The condition with one leaf that is always true, or always false."""
    if isinstance(condition, Leaf):
        return (always(leaf) if truth else No((always(leaf),))) if condition is leaf else condition
    return type(condition)(tuple(flipped(part, leaf, truth) for part in condition.parts))


def _telling(leaf: Leaf, changed: Leaf) -> str:
    """The value that tells two comparisons apart, where one of the operands does."""
    for value in (leaf.operand, changed.operand):
        if not isinstance(value, (tuple, frozenset, Networks)) and leaf.test(value) is not changed.test(value):
            return f"a case in which {leaf.name} is {leaf.type.show(value)}"
    return f"a case in which {leaf.name} is where {leaf.operator.name} {leaf.shown} and {changed.shown} differ"
