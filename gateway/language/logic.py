"""What conditions allow, exclude and imply, for every value their names may have: no rule is run.

A condition that is asked to end as true (or false, or unknown) becomes a formula of claims joined by «and» and «or»; a search
with a bounded number of steps looks for values that meet it. Names are taken to be independent of each other, which can only
hide a contradiction, never invent one. So `Found.NONE` is a proof that no exchange can do it; `Found.SHOWN` comes with values
that do; `Found.OPEN` says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any as Anything
from typing import Final

from gateway.errors import Place
from gateway.language.conditions import All, Condition, Group, Leaf, No, Truth
from gateway.language.measures import Measure, Ratio
from gateway.language.ranges import STEP, UNSHOWN, Claim, Domain, possible
from gateway.state.operations import Count

MOST_STEPS: Final = 3_000


@dataclass(frozen=True, slots=True)
class Joined:
    """Formulas of which every one (every) or at least one must hold."""

    parts: tuple[Formula, ...]
    every: bool


Formula = Claim | Joined
NOTHING: Final = Joined((), every=True)
Declared = Mapping[str, Measure | Ratio]


class Found(Enum):
    """How a search ended."""

    NONE = "no values do"
    SHOWN = "these values do"
    OPEN = "not decided"


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a search; `values` by key where it is SHOWN."""

    found: Found
    values: Mapping[str, object] = field(default_factory=dict)


def key_of(name: str, measures: Declared) -> str:
    """What a name speaks of: a measure's label, so that equal measures are one, or the signal itself."""
    return measures[name].label if name in measures else name


def domain_of(leaf: Leaf, measures: Declared) -> Domain:
    """The values that the name of a leaf may have."""
    declared = measures.get(leaf.name)
    if declared is None:
        return Domain(leaf.type, leaf.least)
    low, high = _bounds(declared)
    return Domain(leaf.type, low, high, isinstance(declared, Measure) and leaf.type.ordered)


def _bounds(declared: Measure | Ratio) -> tuple[float, float]:
    if isinstance(declared, Ratio):
        low = min(_bounds(declared.over)[0], _bounds(declared.under)[0])
        return (0 if low >= 0 else -math.inf), math.inf
    kind = declared.window.kind
    if kind is Count.COUNT:  # judged with the current exchange in it, where that is counted at all
        return (1 if declared.where is None and not declared.settled else 0), math.inf
    if kind is Count.DISTINCT:
        return 0, declared.window.cap
    return (0, 1) if kind is Count.TOP_SHARE else (-math.inf, math.inf)


def asked(condition: Condition, truth: Truth, measures: Declared, holds: bool = True) -> Formula:
    """That a condition ends as `truth`, or (not holds) that it ends in another way."""
    if isinstance(condition, Leaf):
        return Claim(condition, key_of(condition.name, measures), domain_of(condition, measures), truth, holds)
    if truth is None:
        decided = tuple(asked(condition, one, measures, not holds) for one in (True, False))
        return Joined(decided, every=holds)
    wanted = not truth if isinstance(condition, No) else truth
    every = (isinstance(condition, All) is wanted) is holds
    return Joined(tuple(asked(part, wanted, measures, holds) for part in condition.parts), every)


def step_leaf(name: str, low: float, high: float, measures: Declared, place: Place) -> Leaf:
    """The comparison that holds while a measure stands at a step: from `low` on and below `high`."""
    return Leaf(f"{name}.step", name, STEP, (low, high), f"[{low:g}, {high:g})", measures[name].type, place)


def search(*formulas: Formula) -> Answer:
    """Values that meet every formula, the proof that there are none, or neither when the bounded search does not tell."""
    searching = _Search()
    found = searching.run(list(formulas), {})
    if found is None:
        return Answer(Found.OPEN if searching.exhausted else Found.NONE)
    values = {key: possible(claims) for key, claims in found.items()}
    return Answer(Found.OPEN if any(value is UNSHOWN for value in values.values()) else Found.SHOWN, values)


class _Search:
    """Depth first: what must hold is gathered before the first choice, and a choice that contradicts it is left at once."""

    def __init__(self) -> None:
        self.left = MOST_STEPS
        self._remembered: dict[tuple[Anything, ...], bool] = {}

    @property
    def exhausted(self) -> bool:
        return self.left <= 0

    def run(self, open_: list[Formula], held: dict[str, tuple[Claim, ...]]) -> dict[str, tuple[Claim, ...]] | None:
        held, choices = dict(held), []
        while open_:
            formula = open_.pop()
            self.left -= 1
            if self.exhausted:
                return None
            if isinstance(formula, Claim):
                if not self._add(formula, held):
                    return None
            elif formula.every or len(formula.parts) == 1:
                open_ += formula.parts
            else:
                choices.append(formula)
        if not choices:
            return held
        choices.sort(key=lambda choice: len(choice.parts))
        rest: list[Formula] = list(choices[1:])
        for part in choices[0].parts:
            found = self.run([*rest, part], held)
            if found is not None:
                return found
        return None

    def _add(self, claim: Claim, held: dict[str, tuple[Claim, ...]]) -> bool:
        before = held.get(claim.key, ())
        if any(_same(claim, other) for other in before):
            return True
        claims = held[claim.key] = (*before, claim)
        known = tuple((id(c.leaf), c.truth, c.holds) for c in claims)
        if known not in self._remembered:
            self._remembered[known] = possible(claims) is not None
        return self._remembered[known]


def _same(claim: Claim, other: Claim) -> bool:
    return claim.leaf is other.leaf and claim.truth is other.truth and claim.holds is other.holds


def never(condition: Condition, truth: Truth, measures: Declared) -> bool:
    """Whether no values make the condition end like this. Proven, never guessed."""
    return search(asked(condition, truth, measures)).found is Found.NONE


def implication(first: Condition, given: Declared, second: Condition, then: Declared, truth: Truth = True) -> Found:
    """Whether the second condition ends as `truth` wherever the first one does.

    NONE: always. SHOWN: there are values where it does not. OPEN: not decided.
    """
    return search(asked(first, truth, given), asked(second, truth, then, holds=False)).found


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The parts of a condition, one level down."""
    yield from condition.parts if isinstance(condition, Group) else ()


def valued(condition: Condition, measures: Declared, values: Mapping[str, object], absent: object) -> Truth:
    """How a condition ends on values by key; a key that is not among them has none."""
    look: Callable[[str], object] = lambda name: values.get(key_of(name, measures), absent)  # noqa: E731
    return condition.evaluate(look)


def tokens(condition: Condition, measures: Declared, weight: Callable[[Token], float]) -> frozenset[Token] | None:
    """What values must show, at least one of it, before the condition can be true; None where it can be without any.

    A token is a key, or a key with the one value an equality asks for. weight: how common a token is; of several sets that
    would each do, the rarest is taken.
    """
    return _needed(condition, True, measures, weight)


Token = tuple[str, Anything]
ANY_VALUE: Final = object()
_FEW: Final = 8


def _needed(condition: Condition, truth: bool, measures: Declared, weight: Callable[[Token], float]) -> frozenset[Token] | None:
    if isinstance(condition, Leaf):
        if condition.operator.name == "present":
            return None if truth is not condition.operand else frozenset({(key_of(condition.name, measures), ANY_VALUE)})
        key, operand = key_of(condition.name, measures), condition.operand
        if truth and condition.operator.name == "eq":
            return frozenset({(key, operand)})
        if truth and condition.operator.name == "in" and len(operand) <= _FEW:
            return frozenset((key, value) for value in operand)
        return frozenset({(key, ANY_VALUE)})
    wanted = not truth if isinstance(condition, No) else truth
    sets = [_needed(part, wanted, measures, weight) for part in condition.parts]
    if isinstance(condition, All) is wanted:
        known = [found for found in sets if found is not None]
        return min(known, key=lambda found: sum(map(weight, found)), default=None)
    joined: set[Token] = set()
    for found in sets:
        if found is None:
            return None
        joined |= found
    return frozenset(joined)


def claimed(leaves: Sequence[Leaf], measures: Declared, truth: Truth, every: bool, holds: bool = True) -> Joined:
    """Claims on several leaves, joined."""
    return Joined(tuple(asked(leaf, truth, measures, holds) for leaf in leaves), every)
