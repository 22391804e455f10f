"""Conditions: Kleene trees over signals and measures.

A `Leaf` is one named comparison; `All`, `Any`, `No` combine. Evaluation gives True, False, or None for unknown.
A missing or failed value makes a leaf unknown, never false; `present` alone is never unknown. The same `Leaf.test`
decides and explains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any as Anything

from gateway.errors import Place
from gateway.language.operators import Operand, Operator
from gateway.language.text import Look, TextView, is_cut, viewed
from gateway.values import STRING, AtLeast, Failed, Missing, Type

Values = Callable[[str], object]
Truth = bool | None
_BARE = re.compile(r"[\w.:/+-]+")
_IN_PART = frozenset({"contains", "starts_with", "any_of", "all_of"})  # true of a part is true of the whole
_OF_THE_END = ("$", "\\z", "\\b", "\\B")
_ONE = {"in": "eq", "not_in": "ne", "any_of": "contains", "all_of": "contains"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison: `name operator operand`.

    shown: the operand for people, unambiguous. source: pack and name of the list it stands for. view: what of a text is
    compared; in the normalised view the operand is normalised already. least: the least value there is, of numbers.
    """

    id: str
    name: str
    operator: Operator
    operand: Anything = field(compare=False)
    shown: str
    type: Type
    place: Place = field(compare=False)
    source: tuple[str, str] | None = None
    view: TextView = TextView.RAW
    least: float = field(default=-math.inf, compare=False)

    def evaluate(self, values: Values) -> Truth:
        return self.test(values(self.name))

    def test(self, value: object) -> Truth:
        """The comparison for one value."""
        absent = isinstance(value, (Missing, Failed))
        if self.operator.operand is Operand.FLAG:
            return absent is not self.operand
        if absent:
            return None
        try:
            if isinstance(value, AtLeast):
                return self.operator.bounded(value.count, self.operand)
            return self.operator.test(value, self.operand) if self.view is TextView.RAW else self._seen(value)
        except (TypeError, AttributeError, ValueError):  # a provider of the wrong type: acts as unknown, see `failure`
            return None

    @property
    def look(self) -> Look:
        """The form of a text that this looks at."""
        if self.view is TextView.RAW:
            return Look.RAW
        return Look.FOLDED if self.operator.operand is Operand.PATTERN else Look.SKELETON

    def _seen(self, value: object) -> Truth:
        """The comparison in the normalised view. Of a text that was cut, only what is found in its first part is known."""
        seen, whole = viewed(value, self.look)
        truth = self.operator.test(seen, self.operand)
        if whole:
            return truth
        if self.operator.operand is Operand.PATTERN:
            return (truth and not any(sign in self.operand.pattern for sign in _OF_THE_END)) or None
        return (truth and self.operator.name in _IN_PART) or None

    def failure(self, value: object) -> str:
        """Why a value that leaves this undecided is an error, or nothing where it is merely missing, capped or cut."""
        if isinstance(value, (Missing, AtLeast)) or (self.view is not TextView.RAW and is_cut(value)):
            return ""
        return f"{self.name}: {value.reason if isinstance(value, Failed) else f'{type(value).__name__} is no {self.type}'}"

    def beyond(self, highest: float) -> Anything:
        """The part of the operand that a value of at most `highest` can never come to, or None."""
        numbers = [self.operand] if not isinstance(self.operand, (tuple, frozenset)) else self.operand
        if self.operator.operand is Operand.FLAG:
            return None
        over = [number for number in numbers if number > highest or (number == highest and self.operator.name == "gt")]
        return max(over, default=None)

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def canonical(self) -> object:
        word, text = self.operator.name, "@" + "/".join(self.source) if self.source else self._meant()
        if word in _ONE and self.source is None and len(self.operand) == 1:
            word, text = _ONE[word], text[1:-1]
        return [self.name, word, text] if self.view is TextView.RAW else [self.name, str(self.view), word, text]

    def _meant(self) -> str:
        """The operand as it is compared: in the normalised view, operands that differ in disguise alone mean the same."""
        as_said = self.view is TextView.RAW or self.operator.operand in (Operand.PATTERN, Operand.FLAG)
        return self.shown if as_said else shown_value(STRING, self.operand)

    def __str__(self) -> str:
        view = "" if self.view is TextView.RAW else f"{self.view} "
        return f"{self.name} {view}{self.operator.name} {self.shown}"


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions combined. Subclasses state how. flattens: the group that adds nothing inside this one; decisive: the truth of
    one part that is the truth of all.
    """

    parts: tuple[Condition, ...]
    word = flattens = ""
    decisive = False

    def evaluate(self, values: Values) -> Truth:
        result: Truth = not self.decisive
        for part in self.parts:
            truth = part.evaluate(values)
            if truth is self.decisive:
                result = truth
                break
            if truth is None:
                result = None
        return self.told(result)

    def told(self, truth: Truth) -> Truth:
        """The group's truth, where this one is what its parts come to."""
        return truth

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def canonical(self) -> object:
        found: dict[str, object] = {}
        for part in self.parts:
            below = part.canonical()
            members = below[self.flattens] if isinstance(below, dict) and self.flattens in below else [below]
            found |= {repr(member): member for member in members}
        ordered = [found[key] for key in sorted(found)]
        return ordered[0] if len(ordered) == 1 and self.word == self.flattens else {self.word: ordered}

    def __str__(self) -> str:
        return f"{self.word}(" + ", ".join(str(part) for part in self.parts) + ")"


class All(Group):
    """True when every part is; false as soon as one is false."""

    __slots__ = ()
    word = flattens = "all"


class Any(Group):
    """True as soon as one part is; false when every part is false."""

    __slots__ = ()
    word = flattens = "any"
    decisive = True


class No(Group):
    """True when every part is false; the negation of `any`."""

    __slots__ = ()
    word, flattens = "none", "any"
    decisive = True

    def told(self, truth: Truth) -> Truth:
        return None if truth is None else not truth


Condition = Leaf | All | Any | No
GROUPS: dict[str, type[All] | type[Any] | type[No]] = {"all": All, "any": Any, "none": No}
RESERVED = frozenset({"id", *GROUPS})


def shown_value(kind: Type, value: object) -> str:
    """A value, or a set of them, for people; quoted where two could otherwise read the same."""
    if isinstance(value, frozenset):
        return "[" + ", ".join(sorted(shown_value(kind, item) for item in value)) + "]"
    text = kind.show(value)
    return repr(text) if kind is STRING and not _BARE.fullmatch(text) else text


def spoken(canonical: object) -> str:
    """The canonical form of a condition in words: equal for equal meaning."""
    if isinstance(canonical, dict):
        ((word, parts),) = canonical.items()
        return f"{word}(" + ", ".join(spoken(part) for part in parts) + ")"
    assert isinstance(canonical, list)
    return " ".join(canonical)


def lacking(condition: Condition, values: Values) -> tuple[tuple[str, ...], str]:
    """The names whose values would decide a condition that ended unknown, and the text of the first failure among them.

    What stands in a part that is true or false all the same is not needed and not named.
    """
    _, undecided = _undecided(condition, values)
    failures = sorted(filter(None, (leaf.failure(values(leaf.name)) for leaf in undecided)))
    return tuple(sorted({leaf.name for leaf in undecided})), failures[0] if failures else ""


def _undecided(condition: Condition, values: Values) -> tuple[Truth, list[Leaf]]:
    """The truth of a condition, and, where it is not known, the leaves for which it is not."""
    if isinstance(condition, Leaf):
        truth = condition.evaluate(values)
        return truth, [condition] if truth is None else []
    result: Truth = not condition.decisive
    found: list[Leaf] = []
    for part in condition.parts:
        truth, leaves = _undecided(part, values)
        if truth is condition.decisive:
            return condition.told(truth), []
        if truth is None:
            result = None
            found += leaves
    return condition.told(result), found
