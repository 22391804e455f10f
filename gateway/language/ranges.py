"""Which values one name may have: the ground under every judgement on conditions.

A `Claim` says of one comparison that it ends in a certain way, or that it does not. `possible` tells whether one value of the
name (a typed value, «at least N», or none at all) can meet several claims at once.

Comparisons of numbers change their answer only at the numbers they name, so trying each of those and its neighbours is exact;
`Leaf.test` itself does the trying, and no operator is restated here. Equalities are sets, finite or all but finitely many.
Text patterns, networks and sets contradict each other where that is plain. Whatever is not decided counts as possible:
«impossible» is a proof, «possible» is one only where a value is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from gateway.language.conditions import Leaf, Truth
from gateway.language.operators import Networks, Operand, Operator, pattern
from gateway.language.text import TextView
from gateway.values import ASN, BOOL, COUNTRY, FLOAT, IP, STRING, AtLeast, Missing, Type

_AROUND: Final = re.compile(r"[\^$]|\\[^dDsSwW]|[\\]$")
ABSENT: Final = Missing("no value")
MOST_TRIED: Final = 2_000


@dataclass(frozen=True, slots=True)
class Domain:
    """The values a name may have. low and high: of numbers, both included. capped: it may also read «at least N»."""

    type: Type
    low: float = -math.inf
    high: float = math.inf
    capped: bool = False

    def holds(self, number: float) -> bool:
        return self.low <= number <= self.high


@dataclass(frozen=True, slots=True)
class Claim:
    """That a leaf ends as `truth` (holds), or in one of the two other ways (not holds).

    key: what the leaf speaks of, the same for equal measures whatever a rule calls them.
    """

    leaf: Leaf
    key: str
    domain: Domain
    truth: Truth
    holds: bool = True

    def accepts(self, value: object) -> bool:
        return (self.leaf.test(value) is self.truth) is self.holds

    @property
    def affirms(self) -> bool:
        """Whether it asks a present value, which leaves nothing unknown, to pass the leaf's test."""
        return (self.truth is True) is self.holds


class Unshown:
    """In place of a value: there may be one, but none was found."""


UNSHOWN: Final = Unshown()

# What a step of a graded response asks of its measure; «at least N» stands at the step of N, as in `readings.step_of`.
STEP: Final = Operator(
    "step", Operand.PAIR, lambda kind: kind.ordered, lambda v, x: bool(x[0] <= v < x[1]), "stands at the step",
    lambda n, x: bool(x[0] <= n < x[1]),
)  # fmt: skip
_SETS: Final = {"eq": True, "in": True, "ne": False, "not_in": False}


def possible(claims: Sequence[Claim]) -> object | None:
    """A value that meets every claim (all on one key), UNSHOWN where there may be one, or None where there is none."""
    if all(claim.accepts(ABSENT) for claim in claims):
        return ABSENT
    present = [claim for claim in claims if claim.leaf.operator.operand is not Operand.FLAG]
    flags = (claim for claim in claims if claim.leaf.operator.operand is Operand.FLAG)
    if not all(claim.accepts(True) for claim in flags):
        return None
    domain = (present or claims)[0].domain
    if any(claim.truth is None and claim.holds for claim in present) and not domain.capped:
        return None
    if domain.type.ordered:
        return _number(present, domain)
    decided = [claim for claim in present if claim.truth is not None]
    return _elements(decided) if domain.type.element else _member(decided, domain.type)


def always(leaf: Leaf) -> bool:
    """Whether every text, address or network passes the test. Of regular expressions only the plainly empty ones are known."""
    if isinstance(leaf.operand, Networks):
        return leaf.operand.everything
    if leaf.operator.operand is Operand.PATTERN:
        return _matches_all(str(leaf.operand.pattern))
    return leaf.type is STRING and leaf.operator.name in ("contains", "starts_with", "ends_with") and leaf.operand == ""


def _matches_all(written: str) -> bool:
    """Whether a pattern is found in every text: it finds the empty text, and asks nothing of what stands around it.

    One `^` before such a pattern, or one `$` behind it, asks nothing either: a text begins and ends somewhere.
    """
    bare = written[1:] if written.startswith("^") else written[:-1] if written.endswith("$") else written
    try:
        return not _AROUND.search(bare) and pattern(bare).search(b"") is not None
    except ValueError:  # nothing without what was taken off
        return False


def implies(first: Leaf, second: Leaf) -> bool:
    """Whether every text, address or network that passes the first test passes the second."""
    if first.view is not second.view:
        return False
    one, other, left, right = first.operator.name, second.operator.name, first.operand, second.operand
    if isinstance(left, Networks) and isinstance(right, Networks):
        return left.inside(right)
    if one == other == "matches":
        return first.shown == second.shown
    if not isinstance(left, str) or not isinstance(right, str):
        return one == other and left == right
    within = {
        "starts_with": left.startswith(right) if one in ("starts_with", "eq") else False,
        "ends_with": left.endswith(right) if one in ("ends_with", "eq") else False,
        "contains": right in left if one in ("starts_with", "ends_with", "contains", "eq") else False,
        "eq": left == right if one == "eq" else False,
    }
    return within.get(other, False)


def excludes(first: Leaf, second: Leaf) -> bool:
    """Whether no text, address or network passes both tests."""
    if first.view is not second.view:
        return False
    left, right = first.operand, second.operand
    if isinstance(left, Networks) and isinstance(right, Networks):
        return left.apart(right)
    if first.operator.name != second.operator.name:
        return False
    if first.operator.name == "starts_with":
        return not (left.startswith(right) or right.startswith(left))
    return first.operator.name == "ends_with" and not (left.endswith(right) or right.endswith(left))


def _numbers(claims: Sequence[Claim]) -> set[float] | None:
    """Every number the claims name; None where an operator is not of numbers, or they are too many."""
    found: set[float] = set()
    for claim in claims:
        operand = claim.leaf.operand
        if isinstance(operand, (tuple, frozenset)):
            if len(operand) > MOST_TRIED:
                return None
            found.update(operand)
        elif isinstance(operand, (int, float)):
            found.add(operand)
        else:
            return None
    return {number for number in found if math.isfinite(number)}


def _number(claims: Sequence[Claim], domain: Domain) -> object | None:
    numbers = _numbers(claims)
    if numbers is None:
        return UNSHOWN
    ends = {end for end in (domain.low, domain.high) if math.isfinite(end)}
    tried = set(_near(numbers | ends or {0}, domain.type is not FLOAT))
    for number in sorted(tried):
        if domain.holds(number) and all(claim.accepts(number) for claim in claims):
            return number
    for number in sorted(set(_near(numbers | {0}, True)) if domain.capped else ()):
        if 0 <= number <= domain.high and all(claim.accepts(AtLeast(int(number))) for claim in claims):
            return AtLeast(int(number))
    return None


def _near(numbers: set[float], whole: bool) -> Iterator[float]:
    """Every number and one value from each stretch between two of them and beyond the outermost."""
    for number in numbers:
        if whole:
            below = math.floor(number)
            yield from (below - 1, below, below + 1, below + 2)
        else:
            yield from (math.nextafter(number, -math.inf), float(number), math.nextafter(number, math.inf))


def _member(claims: Sequence[Claim], kind: Type) -> object | None:
    inside: frozenset[Any] | None = frozenset({True, False}) if kind is BOOL else None
    outside: set[Any] = set()
    patterns = []
    for claim in claims:
        leaf = claim.leaf
        positive = _SETS.get(leaf.operator.name) if leaf.view is TextView.RAW else None
        if positive is None:
            patterns.append(claim)
            continue
        named = leaf.operand if isinstance(leaf.operand, frozenset) else frozenset({leaf.operand})
        if positive is claim.affirms:
            inside = named if inside is None else inside & named
        else:
            outside |= named
    if inside is None:
        return None if _clash(patterns) else UNSHOWN if patterns else _another(kind, outside)
    left = inside - outside
    if len(left) > MOST_TRIED and patterns:
        return UNSHOWN
    return next((value for value in sorted(left, key=repr) if all(claim.accepts(value) for claim in patterns)), None)


def _clash(claims: Sequence[Claim]) -> bool:
    wanted = [claim.leaf for claim in claims if claim.affirms]
    unwanted = [claim.leaf for claim in claims if not claim.affirms]
    if any(always(leaf) for leaf in unwanted) or any(implies(leaf, other) for leaf in wanted for other in unwanted):
        return True
    return any(excludes(leaf, other) for leaf, other in combinations(wanted, 2))


_OTHERS: Final = {STRING: "~{}", COUNTRY: "~{}", ASN: 1, IP: "192.0.2.{}"}


def _another(kind: Type, taken: set[Any]) -> object:
    """A value that is none of those taken."""
    shape = _OTHERS.get(kind)
    for number in range(1, len(taken) + 2) if shape is not None and len(taken) < 250 else ():
        value = shape.format(number) if isinstance(shape, str) else number
        if value not in taken:
            return value
    return UNSHOWN


def _elements(claims: Sequence[Claim]) -> object | None:
    """A set that holds what it must and lacks what it must not."""
    needed: set[Any] = set()
    barred: set[Any] = set()
    choices: list[frozenset[Any]] = []
    unmet: list[frozenset[Any]] = []
    exact: list[frozenset[Any]] = []
    for claim in claims:
        word, operand = claim.leaf.operator.name, claim.leaf.operand
        if word == "eq":
            exact += [operand] if claim.affirms else []
            continue
        every = word == "all_of" or word == "contains"
        named = frozenset({operand}) if word == "contains" else operand
        if claim.affirms:
            needed.update(named if every else ())
            choices += [] if every else [named]
        else:
            unmet += [named] if every else []
            barred.update(named if not every or len(named) == 1 else ())
    if exact:
        return exact[0] if all(claim.accepts(exact[0]) for claim in claims) else None
    if needed & barred or any(named <= barred for named in choices) or any(named <= needed for named in unmet):
        return None
    shown = frozenset(needed | {min(named - barred, key=repr) for named in choices if not named & needed})
    return shown if all(claim.accepts(shown) for claim in claims) else UNSHOWN
