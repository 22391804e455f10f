"""The operators of the rule language: one table. Documentation and error texts are listed from it.

`test` compares a present value with the operand. `bounded` answers the same for a count that hit its cap («at least
N»): True or False where that already decides, None where it does not. Operators marked `columns` can be computed over
whole columns as well, with the same meaning.
"""

from __future__ import annotations

import ipaddress
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import re2

from gateway.values import CIDR, IP, STRING, Type

Bounded = Callable[[int, Any], bool | None]
MAX_PATTERN: Final = 4_000
_LOWER: Final = 2**128 - 1
_HIGHEST: Final = ((4, 2**32 - 1), (6, _LOWER))


class Operand(StrEnum):
    """What stands to the right of an operator."""

    VALUE = "one value"
    LIST = 'a list of values or "@name"'
    PAIR = "two values, low and high, both included"
    PATTERN = "a regular expression (RE2)"
    NETWORKS = 'a list of networks or "@name"'
    FLAG = "true or false"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. `fits` tells which signal types it may follow."""

    name: str
    operand: Operand
    fits: Callable[[Type], bool]
    test: Callable[[Any, Any], bool]
    meaning: str
    bounded: Bounded = lambda count, operand: None
    columns: bool = True


class Networks:
    """A set of IP networks, searched by bisection over merged ranges: 8 bytes a range for IPv4, about 100 for IPv6."""

    __slots__ = ("_ranges",)

    def __init__(self, texts: frozenset[str]) -> None:
        packed: dict[int, list[int]] = {4: [], 6: []}
        for text in texts:
            low, high, version = _span(text)
            packed[version].append(low << 128 | high)
        self._ranges = {version: _merged(pairs, version) for version, pairs in packed.items()}

    def __contains__(self, text: str) -> bool:
        """Whether an address, or the whole of a network, lies in one range."""
        low, high, version = _span(text)
        lows, highs = self._ranges[version]
        place = bisect_right(lows, low) - 1
        return place >= 0 and high <= highs[place]

    def inside(self, other: Networks) -> bool:
        """Whether every address of these networks lies in the other ones."""
        for version in (4, 6):
            lows, highs = other._ranges[version]
            for low, high in zip(*self._ranges[version], strict=True):
                place = bisect_right(lows, low) - 1
                if place < 0 or high > highs[place]:
                    return False
        return True

    @property
    def everything(self) -> bool:
        """Whether every address there is lies in these networks."""
        ranges = ((*self._ranges[version], most) for version, most in _HIGHEST)
        return all(len(lows) == 1 and lows[0] == 0 and highs[0] == most for lows, highs, most in ranges)

    def apart(self, other: Networks) -> bool:
        """Whether no address lies in both."""
        for version in (4, 6):
            lows, highs = other._ranges[version]
            for low, high in zip(*self._ranges[version], strict=True):
                place = bisect_right(lows, high) - 1
                if place >= 0 and highs[place] >= low:
                    return False
        return True


def _merged(pairs: list[int], version: int) -> tuple[Sequence[int], Sequence[int]]:
    """Lows and highs of ranges that neither overlap nor touch, rising; pairs are low and high in one number each."""
    lows, highs = (array("I"), array("I")) if version == 4 else ([], [])
    pairs.sort()
    for pair in pairs:
        low, high = pair >> 128, pair & _LOWER
        if highs and low <= highs[-1] + 1:
            highs[-1] = max(highs[-1], high)
        else:
            lows.append(low)
            highs.append(high)
    return lows, highs


def _span(text: str) -> tuple[int, int, int]:
    """First and last address of a network or an address, and its version."""
    head, _, length = text.partition("/")
    version, bits = (6, 128) if ":" in head else (4, 32)
    low = int(ipaddress.IPv6Address(head) if version == 6 else ipaddress.IPv4Address(head))
    return low, low | ((1 << bits - int(length)) - 1 if length else 0), version


def _found(pattern: Any, text: str) -> bool:
    # a lone surrogate (`\ud800` in JSON) has no UTF-8; a caller must not be able to break a rule by sending one
    return pattern.search(text.encode("utf-8", "replace")) is not None


def _any(kind: Type) -> bool:
    return True


def _single(kind: Type) -> bool:
    return kind.element is None


def _ordered(kind: Type) -> bool:
    return kind.ordered


def _text(kind: Type) -> bool:
    return kind is STRING


def _text_or_set(kind: Type) -> bool:
    return kind is STRING or kind.element is not None


def _set(kind: Type) -> bool:
    return kind.element is not None


def _address(kind: Type) -> bool:
    return kind in (IP, CIDR)


def _decided(holds: Callable[[int, Any], bool], result: bool) -> Bounded:
    return lambda count, operand: result if holds(count, operand) else None


OPERATORS: dict[str, Operator] = {
    op.name: op
    for op in (
        Operator("eq", Operand.VALUE, _single, lambda v, x: bool(v == x), "is the value",
                 _decided(lambda n, x: n > x, False)),
        Operator("ne", Operand.VALUE, _single, lambda v, x: bool(v != x), "is present and another value",
                 _decided(lambda n, x: n > x, True)),
        Operator("in", Operand.LIST, _single, lambda v, x: v in x, "is one of the values",
                 _decided(lambda n, x: all(n > item for item in x), False)),
        Operator("not_in", Operand.LIST, _single, lambda v, x: v not in x, "is present and none of the values",
                 _decided(lambda n, x: all(n > item for item in x), True)),
        Operator("lt", Operand.VALUE, _ordered, lambda v, x: bool(v < x), "is less than",
                 _decided(lambda n, x: n >= x, False)),
        Operator("lte", Operand.VALUE, _ordered, lambda v, x: bool(v <= x), "is at most",
                 _decided(lambda n, x: n > x, False)),
        Operator("gt", Operand.VALUE, _ordered, lambda v, x: bool(v > x), "is more than",
                 _decided(lambda n, x: n > x, True)),
        Operator("gte", Operand.VALUE, _ordered, lambda v, x: bool(v >= x), "is at least",
                 _decided(lambda n, x: n >= x, True)),
        Operator("between", Operand.PAIR, _ordered, lambda v, x: bool(x[0] <= v <= x[1]), "is from low to high, both included",
                 _decided(lambda n, x: n > x[1], False)),
        Operator("contains", Operand.VALUE, _text_or_set, lambda v, x: x in v, "holds the text, or the element"),
        Operator("starts_with", Operand.VALUE, _text, lambda v, x: bool(v.startswith(x)), "begins with the text"),
        Operator("ends_with", Operand.VALUE, _text, lambda v, x: bool(v.endswith(x)), "ends with the text"),
        Operator("matches", Operand.PATTERN, _text, lambda v, x: _found(x, v),
                 "a linear-time regular expression is found in it"),
        Operator("any_of", Operand.LIST, _set, lambda v, x: not v.isdisjoint(x), "the set holds at least one of the values"),
        Operator("all_of", Operand.LIST, _set, lambda v, x: bool(v >= x), "the set holds all of the values"),
        Operator("within", Operand.NETWORKS, _address, lambda v, x: v in x,
                 "the address, or the whole network, lies in one of the networks"),
        Operator("present", Operand.FLAG, _any, lambda v, x: bool(x), "there is a value; never unknown"),
    )
}  # fmt: skip


def pattern(text: str) -> Any:
    """A compiled RE2 pattern. Raises ValueError with the engine's reason."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"a regular expression of more than {MAX_PATTERN} characters; split it, or use a list")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # thousands of groups would cost gigabytes at every search
    options.max_mem = 4 * 1024 * 1024
    try:
        return re2.compile(text, options=options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{text!r} is not a linear-time regular expression: {reason}") from None
