"""The types of signal values, and the values that stand for «no value».

Rules compare typed values only, so a comparison that could never hold is found at load time. Times and
durations are integer microseconds throughout: sums and windows are then exact on every machine, and the same
in the event engine and in columns.

`Missing` and `Failed` are values, not exceptions: Kleene logic treats both as unknown, and the record keeps
the reason. `AtLeast` is a count that hit its cap.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import iso3166

SECOND: Final = 1_000_000
LONGEST: Final = 36_525 * 86_400 * SECOND
_UNITS: Final = {
    "us": 1, "ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND, "w": 604_800 * SECOND,
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+)(us|ms|s|m|h|d|w)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800
_LAST: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Missing:
    """A value that is not there, and why (`no geo database`, `not given`)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A provider that broke while computing a value. Acts as unknown; the rule ends as `error`."""

    reason: str


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A count that reached its cap: the true number is `count` or more."""

    count: int


@dataclass(frozen=True, slots=True)
class Type:
    """A value type. `element` is set for sets only."""

    name: str
    element: Type | None = None

    def __str__(self) -> str:
        return f"set of {self.element}" if self.element else self.name

    @property
    def scalar(self) -> Type:
        """The element type of a set, or the type itself."""
        return self.element or self

    @property
    def ordered(self) -> bool:
        return self in _ORDERED

    @property
    def exact(self) -> type:
        """The class that values of this type are of."""
        return frozenset if self.element else _CLASSES[self.name]

    def parse(self, literal: object) -> object:
        """The typed value of a literal from YAML, CSV or JSON. Raises ValueError with a sentence for people."""
        if self.element:
            items = literal if isinstance(literal, (list, tuple, set, frozenset)) else [literal]
            return frozenset(self.element.parse(item) for item in items)
        return _PARSERS[self.name](literal)

    def holds(self, value: object) -> bool:
        """Whether a value is of this type as far as one look tells (the elements of a set are not looked at)."""
        return isinstance(value, frozenset) if self.element else type(value) is _CLASSES[self.name]

    def plain(self, value: object) -> object:
        """The JSON form of a typed value; `parse` reads it back to an equal value."""
        if isinstance(value, frozenset):
            return sorted(self.scalar.plain(item) for item in value)  # type: ignore[type-var]
        return f"{value}us" if self is DURATION else timestamp_text(value) if self is TIMESTAMP else value  # type: ignore[arg-type]

    def show(self, value: object) -> str:
        """The value as a person would write it in a rule."""
        if isinstance(value, AtLeast):
            return f"at least {value.count}"
        if isinstance(value, frozenset):
            return "[" + ", ".join(sorted(self.scalar.show(item) for item in value)) + "]"
        return duration_text(value) if self is DURATION and isinstance(value, int) else str(self.plain(value))


STRING: Final = Type("string")
INT: Final = Type("int")
FLOAT: Final = Type("float")
BOOL: Final = Type("bool")
DURATION: Final = Type("duration")
TIMESTAMP: Final = Type("timestamp")
COUNTRY: Final = Type("country")
ASN: Final = Type("asn")
IP: Final = Type("ip")
CIDR: Final = Type("cidr")
_CLASSES: Final[dict[str, type]] = {
    "string": str, "int": int, "float": float, "bool": bool, "duration": int, "timestamp": int, "country": str, "asn": int,
    "ip": str, "cidr": str,
}  # fmt: skip
TYPES: Final = {t.name: t for t in (STRING, INT, FLOAT, BOOL, DURATION, TIMESTAMP, COUNTRY, ASN, IP, CIDR)}
_ORDERED: Final = frozenset({INT, FLOAT, DURATION, TIMESTAMP})


def set_of(element: Type) -> Type:
    """The type of a set of `element`s."""
    return Type("set", element)


def duration_text(microseconds: int) -> str:
    """A duration in the largest unit that states it exactly: `30d`, `90s`, `1500us`."""
    for unit, size in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return "0s"


def timestamp_text(microseconds: int) -> str:
    """RFC 3339 in UTC with six decimals, so that the text reads back to the same microsecond."""
    seconds, rest = divmod(microseconds, SECOND)
    return f"{_second_text(seconds)}.{rest:06d}Z"


@lru_cache(1_024)
def _second_text(seconds: int) -> str:
    """A whole second: many exchanges are of the same one, and windows of limits end at few."""
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat(timespec="seconds")


def parse_duration(literal: object) -> int:
    """Microseconds of `30s`, `5m`, `12h`, `30d`, `2w`, `250ms`, `1500us`."""
    found = _DURATION.fullmatch(str(literal))
    if found and (len(found[1]) > 16 or int(found[1]) * _UNITS[found[2]] > LONGEST):
        raise ValueError(f"{literal!r} is longer than 100 years")
    if found is None:
        raise ValueError(f"{literal!r} is not a duration; write a whole number and a unit, such as 30s, 5m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def parse_timestamp(literal: object) -> int:
    """Microseconds since 1970 of an RFC 3339 text (with offset) or of a number of seconds."""
    if isinstance(literal, (int, float)) and not isinstance(literal, bool) and _FIRST <= literal <= _LAST:
        return round(literal * SECOND)
    try:
        moment = datetime.fromisoformat(str(literal))
    except ValueError:
        raise ValueError(f"{literal!r} is not a time; write it as 2026-11-01T00:00:00Z") from None
    found = (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)
    if not _FIRST * SECOND <= found < (_LAST + 1) * SECOND:
        raise ValueError(f"{literal!r} lies outside the years 1 to 9999")
    return found


def _string(literal: object) -> str:
    if not isinstance(literal, str):
        raise ValueError(f"{literal!r} is not text; put it in quotes")
    return literal


def _int(literal: object) -> int:
    if isinstance(literal, bool) or not isinstance(literal, int):
        raise ValueError(f"{literal!r} is not a whole number")
    return literal


def _float(literal: object) -> float:
    if isinstance(literal, bool) or not isinstance(literal, (int, float)) or not math.isfinite(literal):
        raise ValueError(f"{literal!r} is not a number")
    return float(literal) + 0.0  # minus zero is zero


def _bool(literal: object) -> bool:
    if not isinstance(literal, bool):
        raise ValueError(f"{literal!r} is not true or false")
    return literal


def _country(literal: object) -> str:
    code = literal.upper() if isinstance(literal, str) and literal.isascii() else ""
    if code not in iso3166.countries_by_alpha2:
        raise ValueError(f"{literal!r} is not an ISO 3166-1 alpha-2 country code")
    return code


def _asn(literal: object) -> int:
    digits = str(literal).upper().removeprefix("AS")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10) or not 0 < int(digits) < 2**32:
        raise ValueError(f"{literal!r} is not an AS number; write 64500 or AS64500")
    return int(digits)


def _ip(literal: object) -> str:
    try:
        return str(ipaddress.ip_address(str(literal)))
    except ValueError:
        raise ValueError(f"{literal!r} is not an IP address") from None


def _cidr(literal: object) -> str:
    try:
        interface = ipaddress.ip_interface(str(literal))
    except ValueError:
        raise ValueError(f"{literal!r} is not a network; write it as 203.0.113.0/24") from None
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{literal!r} is an address within a network; write the network as {interface.network}")
    return str(interface.network)


_PARSERS: Final[dict[str, Callable[[object], object]]] = {
    "string": _string, "int": _int, "float": _float, "bool": _bool, "duration": parse_duration,
    "timestamp": parse_timestamp, "country": _country, "asn": _asn, "ip": _ip, "cidr": _cidr,
}  # fmt: skip
