"""OTLP's trace messages as the bytes that are sent, and how large they may grow.

A span is laid out once, in the form it goes out in (opentelemetry-proto, `trace/v1`, stable since 1.0). Objects on the way
there cost two to seven times as much (`python -m tests.bench.spans`), and a thread that builds them keeps requests waiting; so
these few fields are written here, and tests hold them to what the protocol's own classes read.

Everything has a bound. What was cut is said: dropped attributes and events in the protocol's own counts, shortened values by
name in `sluice.cut`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final

LONGEST_VALUE: Final = 1_024  # characters
LONGEST_NAME: Final = 256
MOST_ITEMS: Final = 64
MOST_ATTRIBUTES: Final = 128  # as the SDK has it unless told otherwise; so is the next
MOST_EVENTS: Final = 128
CUT: Final = "sluice.cut"
_INT64: Final = 2**63
_LENGTHS: Final = 1 << 14
_fixed64: Final = Struct("<Q").pack
_double: Final = Struct("<d").pack
Value = str | bool | int | float | Sequence[str]


class Kind(IntEnum):
    """What a span stands for, in the protocol's numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class Pairs:
    """Attributes as bytes, each without the tag of the field it stands in; dropped: how many more there were."""

    encoded: Sequence[bytes] = ()
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a span stands. parent: empty for none; state: other vendors' `tracestate`."""

    trace_id: int
    span_id: int
    parent: int = 0
    state: str = ""
    remote: bool = False


def pairs(values: Iterable[tuple[str, Value | None]], longest: int = LONGEST_VALUE) -> Pairs:
    """Attributes within their bounds: at most MOST_ATTRIBUTES, no text above `longest` characters. None is no value."""
    encoded, cut = [], []
    for name, value in values:
        if value is None:
            continue
        short = _shortened(value, longest)
        if short is not value:
            cut.append(name)
        encoded.append(pair(name, short))
    dropped = max(0, len(encoded) + bool(cut) - MOST_ATTRIBUTES)
    if dropped:
        encoded = encoded[: MOST_ATTRIBUTES - bool(cut)]
    return Pairs([*encoded, pair(CUT, cut[:MOST_ITEMS])] if cut else encoded, dropped)


def pair(name: str, value: Value) -> bytes:
    """One attribute (`KeyValue`), its length before it."""
    kind, inner = _key(name), _value(value)
    return _sized(b"%b\x12%b" % (kind, _sized(inner)))


def event(name: str, at: int, found: Pairs) -> bytes:
    """One event of a span, at a time in ns since 1970."""
    body = [b"\x09", _fixed64(at), b"\x12", _text(name), *_field(b"\x1a", found.encoded)]
    if found.dropped:
        body += [b"\x20", _varint(found.dropped)]
    return _sized(b"".join(body))


def span(
    place: Place,
    name: str,
    kind: Kind,
    times: tuple[int, int],
    found: Pairs,
    events: Sequence[bytes] = (),
    failed: str | None = None,
) -> bytes:
    """One span (`Span`), as it stands in a `ScopeSpans`.

    times: beginning and end, ns since 1970. failed: the message of its error status; None where it has none.
    """
    body = [b"\x0a\x10", place.trace_id.to_bytes(16), b"\x12\x08", place.span_id.to_bytes(8)]
    if place.state:
        body += [b"\x1a", _text(place.state)]
    if place.parent:
        body += [b"\x22\x08", place.parent.to_bytes(8)]
    body += [
        b"\x2a",
        _text(name[:LONGEST_NAME]),
        b"\x30",
        _varint(kind),
        b"\x39",
        _fixed64(times[0]),
        b"\x41",
        _fixed64(times[1]),
    ]
    body += _field(b"\x4a", found.encoded)
    if found.dropped:
        body += [b"\x50", _varint(found.dropped)]
    body += _field(b"\x5a", events[:MOST_EVENTS])
    if len(events) > MOST_EVENTS:
        body += [b"\x60", _varint(len(events) - MOST_EVENTS)]
    if failed is not None:
        body += [b"\x7a", _sized(b"\x12%b\x18\x02" % _text(failed[:LONGEST_NAME]))]
    body.append(b"\x85\x01%b" % (0x300 if place.remote else 0x100).to_bytes(4, "little"))
    return b"\x12" + _sized(b"".join(body))


def request_of(resource: Mapping[str, Value], scope: str, version: str) -> tuple[bytes, bytes]:
    """What a request of spans begins with, for `request`: the resource, and the scope."""
    described = b"\x0a" + _sized(b"".join(_field(b"\x0a", pairs(resource.items()).encoded)))
    return described, b"\x0a" + _sized(b"\x0a%b\x12%b" % (_text(scope), _text(version)))


def request(beginning: tuple[bytes, bytes], spans: Iterable[bytes]) -> bytes:
    """An `ExportTraceServiceRequest` of these spans."""
    resource, scope = beginning
    inside = _sized(b"".join([scope, *spans]))
    return b"\x0a" + _sized(b"%b\x12%b" % (resource, inside))


def _shortened(value: Value, longest: int) -> Value:
    """The value itself, or what of it fits."""
    if isinstance(value, str):
        return value if len(value) <= longest else value[: longest - 1] + "…"
    if isinstance(value, (bool, int, float)):
        return value
    if len(value) <= MOST_ITEMS and all(len(one) <= longest for one in value):
        return value
    return [str(_shortened(one, longest)) for one in value[:MOST_ITEMS]]


def _field(tag: bytes, messages: Sequence[bytes]) -> list[bytes]:
    """A repeated field, as the pieces of which it is made."""
    return [tag, tag.join(messages)] if messages else []


def _value(value: Value) -> bytes:
    """An `AnyValue`. Halves of surrogate pairs, which JSON lets callers send and UTF-8 has no form for, become `?`."""
    if isinstance(value, str):
        return b"\x0a" + _text(value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if -_INT64 <= value < _INT64:
            return b"\x18" + _varint(value % 2**64)
        return b"\x0a" + _text(str(value)[:LONGEST_VALUE])
    if isinstance(value, float):
        return b"\x21" + _double(value)
    return b"\x2a" + _sized(b"".join(_field(b"\x0a", [_sized(_value(one)) for one in value])))


def _text(value: str) -> bytes:
    return _sized(value.encode("utf-8", "replace"))


@lru_cache(4_096)
def _key(name: str) -> bytes:
    """The key of an attribute; names come from this program and from policies, not from callers."""
    return b"\x0a" + _text(name)


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    return _SMALL[number] if number < _LENGTHS else _long(number)


def _long(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL: Final = tuple(_long(number) for number in range(_LENGTHS))
