"""A tap on answers: finds the usage a model call really had while the bytes pass by, holding back none of them.

JSON answers are gathered up to a bound and read at the end (beyond it only their end is kept, where the usage of long
answers stands); event streams are cut into events as they pass, however the
chunks fall, and only events that speak of usage are parsed. Compressed answers are read through a decompressor of the
tap's own.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from typing import Any, Final

from gateway.facts import Usage
from gateway.protocol import Dialect

MOST_JSON: Final = 2 * 2**20
MOST_EVENT: Final = 2**20
END_KEPT: Final = 2**16
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_LONGEST: Final = 4
# These bytes cannot stand inside a JSON string, where the quotes would be escaped: they are a key.
_USAGE_KEY: Final = re.compile(rb'"(usage|usageMetadata)"\s*:\s*(?=\{)')

_MODEL_KEYS: Final = ("model", "modelVersion")


class Tap:
    """Watches one answer. `usage` and `model` are filled as they become known."""

    def __init__(self, dialect: Dialect, content_type: str, encoding: str) -> None:
        self.usage = Usage()
        self.model: str | None = None
        self._dialect = dialect
        self._events = content_type.startswith("text/event-stream")
        self._readable = self._events or content_type.startswith("application/json")
        self._inflate = zlib.decompressobj(_WBITS[encoding]) if encoding in _WBITS else None
        if encoding not in _WBITS and encoding not in ("", "identity"):
            self._readable = False
        self._held = bytearray()
        self._searched = 0
        self._lost = False

    @property
    def between_events(self) -> bool:
        """Whether an event of ours would be understood here: a plain event stream, no event of which stands half done."""
        return self._events and self._readable and self._inflate is None and not self._lost and not self._held.strip()

    def feed(self, chunk: bytes) -> None:
        """Look at some bytes of the answer."""
        if not self._readable:
            return
        if self._inflate is not None:
            try:
                chunk = self._inflate.decompress(chunk, MOST_JSON)
                self._readable = not self._inflate.unconsumed_tail
            except zlib.error:
                self._readable = False
        self._held += chunk
        if self._events:
            self._cut()
        elif len(self._held) > MOST_JSON:
            del self._held[:-END_KEPT]
            self._lost = True

    def close(self) -> None:
        """The answer is over: read what was gathered."""
        if self._readable and self._held:
            data = bytes(self._held)
            if self._events:
                self._event(data)
            elif self._lost:
                self._end_of_document(data)
            else:
                self._document(data)
        self._held.clear()

    def _cut(self) -> None:
        start = 0
        for end, after in [found.span() for found in _BLANK_LINE.finditer(self._held, self._searched)]:
            if not self._lost:
                self._event(bytes(self._held[start:end]))
            self._lost, start = False, after
        del self._held[:start]
        if len(self._held) > MOST_EVENT:  # the rest of this event is not worth the memory
            del self._held[:-_LONGEST]
            self._lost = True
        self._searched = max(0, len(self._held) - _LONGEST + 1)

    def _event(self, event: bytes) -> None:
        if b'"usage' not in event and (self.model or b'"model' not in event):
            return
        data = b"\n".join(line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:"))
        if data.startswith(b"{"):
            self._document(data)

    def _end_of_document(self, data: bytes) -> None:
        keys = list(_USAGE_KEY.finditer(data))
        if not keys:
            return
        with contextlib.suppress(ValueError, RecursionError):
            used, _ = json.JSONDecoder().raw_decode(data[keys[-1].end() :].decode("utf-8", "replace"))
            self.usage = self._dialect.usage({keys[-1][1].decode(): used}, self.usage)

    def _document(self, data: bytes) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        for part in document if isinstance(document, list) else [document]:  # some streams are one array of answers
            if isinstance(part, dict):
                self._part(part)

    def _part(self, document: dict[str, Any]) -> None:
        for holder in (document, document.get("message"), document.get("response")):
            if isinstance(holder, dict):
                self.model = next((holder[key] for key in _MODEL_KEYS if isinstance(holder.get(key), str)), self.model)
        self.usage = self._dialect.usage(document, self.usage)
