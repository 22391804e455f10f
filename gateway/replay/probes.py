"""Values worth supposing: for each comparison the nearest ones on its other side.

Nothing here judges. A probe is only a proposal, with the words for the range it stands for; whether it changes anything is
found by evaluating it (`changes`). Between two neighbouring rungs no comparison of the ladder can change its answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

import iso3166

from gateway.language.conditions import Leaf
from gateway.language.lists import ValueList
from gateway.language.operators import Operand
from gateway.values import ASN, BOOL, CIDR, COUNTRY, DURATION, FLOAT, IP, SECOND, STRING, AtLeast, Failed, Missing, Type

MOST_THRESHOLDS: Final = 64
MOST_ITEMS: Final = 8
ABSENT: Final = Missing("supposed to be absent")
Lists = Mapping[tuple[str, str], ValueList]
Proposal = tuple[object, str]


@dataclass(frozen=True, slots=True)
class Rung:
    """A value beside a threshold, and what to call the range that begins there, coming from above and from below."""

    value: int | float
    down: str
    up: str


def spoken(kind: Type, value: object) -> str:
    """A value for people: durations to their two largest units, numbers without a needless fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and kind is not FLOAT:
        value = int(value) if value.is_integer() else value
    if isinstance(value, float):
        return f"{value:.6g}"
    if kind is not DURATION or not isinstance(value, int) or value < SECOND:
        return kind.show(value)
    seconds = value // SECOND
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    while not parts[0][0]:
        parts = parts[1:]
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def ladder(
    kind: Type, thresholds: Iterable[int | float], near: float, highest: float | None, lowest: float | None
) -> list[Rung]:
    """The rungs of an ordered value, rising: each threshold with its neighbours, within the bounds."""
    nearest = sorted({float(t) if kind is FLOAT else t for t in thresholds}, key=lambda t: abs(t - near))[:MOST_THRESHOLDS]
    found: dict[int | float, Rung] = {}
    for threshold in nearest:
        said = spoken(kind, threshold)
        for value, down, up in _around(kind, threshold):
            rung = Rung(value, f"{down} {said}", f"{up} {said}")
            if value == threshold or value not in found:
                found[value] = rung
    return [
        found[value] for value in sorted(found) if (highest is None or value <= highest) and (lowest is None or value >= lowest)
    ]


def _around(kind: Type, threshold: float) -> list[tuple[int | float, str, str]]:
    at = [(threshold, "at most", "at least")]
    if kind is FLOAT:
        below, above = math.nextafter(threshold, -math.inf), math.nextafter(threshold, math.inf)
    else:
        below, above = math.ceil(threshold) - 1, math.floor(threshold) + 1
        at = [(int(threshold), "at most", "at least")] if float(threshold).is_integer() else []
    return [(below, "below", "below"), *at, (above, "above", "above")]


def thresholds_of(leaf: Leaf) -> list[int | float]:
    """The numbers at which an ordered comparison can change its answer."""
    if leaf.operator.operand is Operand.FLAG:
        return []
    operand = leaf.operand
    numbers = operand if isinstance(operand, (tuple, frozenset)) else [operand]
    return [number for number in numbers if isinstance(number, (int, float)) and not isinstance(number, bool)]


def height(value: object) -> int | float | None:
    """The number that an ordered value stands at, or None where it is missing or failed."""
    number = value.count if isinstance(value, AtLeast) else value
    return number if isinstance(number, (int, float)) else None


def proposals(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    """Values that may turn this comparison, with words for what they stand for. taken: what its name is compared with."""
    if leaf.operator.operand is Operand.FLAG:
        yield ABSENT, "absent"
        yield from ((found, "present") for found in outside(leaf.type.scalar, taken, leaf.type))
    elif leaf.operator.name in _PROPOSE:
        yield from _PROPOSE[leaf.operator.name](leaf, None if isinstance(value, (Missing, Failed)) else value, taken, lists)


def outside(kind: Type, taken: frozenset[Any], whole: Type) -> Iterator[object]:
    """One valid value of a type that is none of those taken, where there is one."""
    for candidate in _SAMPLES.get(kind, lambda: iter(range(len(taken) + 1)))():
        if candidate not in taken:
            yield frozenset({candidate}) if whole.element else candidate
            return


def network_texts(leaf: Leaf, lists: Lists) -> frozenset[str]:
    """The networks that a `within` names."""
    if leaf.source is not None:
        return lists[leaf.source].values
    return frozenset(leaf.shown.strip("[]").split(", "))


def items_of(leaf: Leaf) -> list[Any]:
    """The values that a comparison names, in a stable order."""
    operand = leaf.operand
    return sorted(operand, key=str)[:MOST_ITEMS] if isinstance(operand, frozenset) else [operand]


def _named(leaf: Leaf, several: str) -> str:
    return leaf.shown if not isinstance(leaf.operand, frozenset) else f"{several} {leaf.shown}"


def _one(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    if leaf.type is BOOL:
        yield from ((flag, spoken(BOOL, flag)) for flag in (False, True))
        return
    yield from ((item, _named(leaf, "one of")) for item in items_of(leaf))
    said = f"not {leaf.shown}" if not isinstance(leaf.operand, frozenset) else f"none of {leaf.shown}"
    yield from ((found, said) for found in outside(leaf.type, taken, leaf.type))


def _members(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    held = value if isinstance(value, frozenset) else frozenset()
    wanted = leaf.operand if isinstance(leaf.operand, frozenset) else frozenset({leaf.operand})
    if leaf.operator.name == "all_of":
        yield held | wanted, f"with all of {leaf.shown}"
        yield from ((held - {item}, f"without {leaf.type.scalar.show(item)}") for item in items_of(leaf))
    else:
        yield from ((held | {item}, f"with {leaf.type.scalar.show(item)}") for item in items_of(leaf))
        yield held - wanted, f"without {leaf.shown}"


def _contains(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    if leaf.type.element:
        yield from _members(leaf, value, taken, lists)
        return
    text = value if isinstance(value, str) else ""
    yield text + leaf.operand, f"text that holds {leaf.shown}"
    yield from ((kept, f"text without {leaf.shown}") for kept in (text.replace(leaf.operand, ""), ""))


def _edges(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    text, first = value if isinstance(value, str) else "", leaf.operator.name == "starts_with"
    edge = "begins" if first else "ends"
    yield leaf.operand + text if first else text + leaf.operand, f"text that {edge} with {leaf.shown}"
    cut = text.removeprefix(leaf.operand) if first else text.removesuffix(leaf.operand)
    yield from ((kept, f"text that {edge} otherwise") for kept in (cut, ""))


def _pattern(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    """A text for the pattern is only guessed (its own letters); where the guess fails nothing is claimed."""
    written = leaf.shown[1:-1]
    for guess in (written, re.sub(r"\\+[bB]|\(\?[a-z]+[:)]|[\\^$()]", "", written)):
        yield guess, f"text in which {leaf.shown} is found"
    yield "", f"text in which {leaf.shown} is not found"


def _within(leaf: Leaf, value: object, taken: frozenset[Any], lists: Lists) -> Iterator[Proposal]:
    for text in sorted(network_texts(leaf, lists))[:MOST_ITEMS]:
        yield text if leaf.type is CIDR else str(ip_network(text).network_address), f"an address within {leaf.shown}"
    samples = _SAMPLES[leaf.type]()
    yield from ((found, f"an address outside {leaf.shown}") for found in samples if not leaf.test(found))


_PROPOSE: Final[dict[str, Callable[[Leaf, object, frozenset[Any], Lists], Iterator[Proposal]]]] = {
    "eq": _one, "ne": _one, "in": _one, "not_in": _one, "contains": _contains, "starts_with": _edges, "ends_with": _edges,
    "matches": _pattern, "any_of": _members, "all_of": _members, "within": _within,
}  # fmt: skip
_SAMPLES: Final[dict[Type, Callable[[], Iterable[Any]]]] = {
    BOOL: lambda: (False, True),
    COUNTRY: lambda: sorted(iso3166.countries_by_alpha2),
    STRING: lambda: ("another", *(f"another-{number}" for number in range(MOST_ITEMS))),
    ASN: lambda: range(64_496, 64_512),
    IP: lambda: ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "10.0.0.1", "100.64.0.1"),
    CIDR: lambda: ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8", "100.64.0.0/10"),
}
