"""JSON, read strictly: UTF-8, no key twice in one object (two readers would disagree on which counts), no NaN, bounded depth.

There are two readers, and what is refused is always the slow one's word. The fast one is msgspec, which takes the last of two
equal keys; so its value is written out again and the colons are counted. A colon stands behind every key, and in texts; what
was dropped took at least its own along. So as many colons in as out mean that nothing was dropped, as long as no text
hides a colon behind an escape; wherever that does not hold, or anything is odd, the slow reader decides.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final, NoReturn

import msgspec

from gateway.protocol import Unreadable

MAX_DEPTH: Final = 100
_COLON: Final = b"\\u003"
_DECODER: Final = msgspec.json.Decoder()
_ENCODER: Final = msgspec.json.Encoder()


def strict_json(raw: bytes) -> Any:
    """The value of a JSON text. Raises Unreadable, saying what is wrong and where."""
    try:
        value = _DECODER.decode(raw)
        kept = _ENCODER.encode(value).count(b":")
    except (ValueError, OverflowError, RecursionError):  # ValueError: no JSON, broken UTF-8 and overlong integers alike
        return slow_json(raw)
    if raw.count(b":") != kept or (kept and _COLON in raw):
        return slow_json(raw)
    _shallow(raw, value)
    return value


def slow_json(raw: bytes) -> Any:
    """The same, by the reader that sees every key. Raises Unreadable."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Unreadable(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise Unreadable("a number in it has too many digits") from None
    _shallow(raw, value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Unreadable(f"the key '{twice[:80]}' stands twice in one object")
    return found


def _number(text: str) -> float:
    found = float(text)
    if not isfinite(found):
        raise Unreadable(f"the number {text[:40]} in it is too large")
    return found


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


def _shallow(raw: bytes, value: Any) -> None:
    """Raises Unreadable where a value is nested too deep, looking only where there are brackets enough for it."""
    braces = raw.count(b"{")
    if (braces > MAX_DEPTH or braces + raw.count(b"[") > MAX_DEPTH) and _depth(value) > MAX_DEPTH:
        raise Unreadable(f"it is nested deeper than {MAX_DEPTH} levels")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH + 1:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if type(item) is dict:
                inner += item.values()
            elif type(item) is list:
                inner += item
        kinds = set(map(type, inner))
        level = [one for one in inner if type(one) is dict or type(one) is list] if dict in kinds or list in kinds else []
    return depth
