"""Usage at the end of OpenAI-shaped streams: asked for where the caller did not ask, and taken out again on the way back.

Streams of chat and completions say what they took only where `stream_options.include_usage` was sent. The body is spliced,
never written anew, so that its spelling and the order of its keys stay the caller's. A server that is asked sends one more
event without choices, and may put `"usage": null` into all others; that is what the caller would not have seen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from gateway.jsontext import strict_json
from gateway.protocol import Unreadable

ROUTES: Final = ("chat.completions", "completions")
_ASKED: Final = b'"stream_options":{"include_usage":true}'
# A quote inside a JSON text is escaped, so these bytes are keys wherever they stand.
_OPTIONS: Final = re.compile(rb'"stream_options"\s*:\s*(?:(null)|\{\s*)')
_INCLUDE: Final = re.compile(rb'"include_usage"\s*:\s*(null|false)')
_NOTHING: Final = re.compile(rb'"usage"\s*:\s*null\s*')
# What follows the last key, or one with nothing but flat values behind it: the brace that ends the event, so it lies on top.
_LAST: Final = re.compile(
    rb"""\s*+:\s*+null(?P<behind>(?:\s*+,\s*+"[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++))*+\s*+\}[\r\n]*+)\Z"""
)
_KEY: Final = b'"usage"'
_SPACE: Final = b" \t\r\n"


def asking(route: str, keys: Collection[str], raw: bytes) -> bytes | None:
    """A body that asks for a stream, asking for its usage too; None where it does so already, or cannot be made to."""
    if route not in ROUTES:
        return None
    if "stream_options" not in keys:
        end = raw.rstrip(_SPACE)
        return b"%s,%s%s" % (end[:-1], _ASKED, raw[len(end) - 1 :]) if keys and end.endswith(b"}") else None
    try:
        document = strict_json(raw)
    except Unreadable:
        return None
    options: Any = document["stream_options"]
    options = {} if options is None else options
    said = options.get("include_usage") if isinstance(options, dict) else True
    if said is not None and said is not False:
        return None
    meant = {**document, "stream_options": {**options, "include_usage": True}}
    return next((spliced for spliced in _spliced(raw) if _says(spliced, meant)), None)


def _spliced(raw: bytes) -> Iterator[bytes]:
    """The body with usage asked for in each place that might be the one; a key of that name may stand deeper too."""
    for found in _OPTIONS.finditer(raw):
        start, end = found.span(1) if found[1] else (found.end(), found.end())
        if found[1]:
            yield raw[:start] + b'{"include_usage":true}' + raw[end:]
            continue
        more = b"" if raw[end : end + 1] == b"}" else b","
        yield raw[:end] + b'"include_usage":true' + more + raw[end:]
        for said in _INCLUDE.finditer(raw, end):
            yield raw[: said.start(1)] + b"true" + raw[said.end(1) :]


def _says(raw: bytes, meant: dict[str, Any]) -> bool:
    try:
        return bool(strict_json(raw) == meant)
    except Unreadable:
        return False


def stripped(event: bytes) -> bytes:
    """One event without what was sent for our asking alone: nothing at all for the last one, `"usage": null` for others."""
    at = event.find(_KEY)
    if at > 0 and (last := _LAST.match(event, at + len(_KEY))) and event.startswith(b"data:") and event.count(b"data:") == 1:
        before = event[:at].rstrip(b" \t")
        if before.endswith(b","):
            return before[:-1] + last["behind"]
    lines = [line for line in event.splitlines() if line.startswith(b"data:")]
    try:
        document = strict_json(b"\n".join(line[5:] for line in lines))
    except Unreadable:
        return event
    if not isinstance(document, dict) or "usage" not in document:
        return event
    if document["usage"] is not None:
        return b"" if document.get("choices") == [] else event
    found = list(_NOTHING.finditer(event)) if len(lines) == 1 else []
    if len(found) != 1:  # one of the same name stands deeper: which is which does not matter enough to guess
        return event
    before, after = event[: found[0].start()], event[found[0].end() :]
    if after.startswith(b","):
        return before + after[1:].lstrip(b" \t")
    before = before.rstrip(b" \t")
    return before[:-1] + after if before.endswith(b",") else before + after
