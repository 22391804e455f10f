"""A tap on answers: finds the usage a model call really had while the bytes pass by, holding back none of them.

JSON answers are gathered up to a bound and read at the end; event streams are cut into events as they pass, however the
chunks fall, and only events that speak of usage are parsed. Compressed answers are read through a decompressor of the
tap's own.
"""

from __future__ import annotations

import json
import zlib
from typing import Final

from gateway.facts import Usage
from gateway.protocol import Dialect

MOST_JSON: Final = 2 * 2**20
MOST_EVENT: Final = 2**20
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


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

    def feed(self, chunk: bytes) -> None:
        """Look at some bytes of the answer."""
        if not self._readable:
            return
        if self._inflate is not None:
            try:
                chunk = self._inflate.decompress(chunk, MOST_JSON)
            except zlib.error:
                self._readable = False
                return
        self._held += chunk
        if self._events:
            self._cut()
        elif len(self._held) > MOST_JSON:
            self._readable = False
            self._held.clear()

    def close(self) -> None:
        """The answer is over: read what was gathered."""
        if self._readable and self._held:
            self._event(bytes(self._held)) if self._events else self._document(bytes(self._held))
        self._held.clear()

    def _cut(self) -> None:
        while True:
            end = self._held.find(b"\n\n")
            wide = self._held.find(b"\r\n\r\n")
            if wide >= 0 and (end < 0 or wide < end):
                end, width = wide, 4
            elif end >= 0:
                width = 2
            else:
                break
            self._event(bytes(self._held[:end]))
            del self._held[: end + width]
        if len(self._held) > MOST_EVENT:
            self._held.clear()

    def _event(self, event: bytes) -> None:
        if b'"usage"' not in event and (self.model or b'"model"' not in event):
            return
        data = b"\n".join(
            line[5:].lstrip() for line in event.replace(b"\r", b"").split(b"\n") if line.startswith(b"data:")
        )
        if data.startswith(b"{"):
            self._document(data)

    def _document(self, data: bytes) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(document, dict):
            return
        for holder in (document, document.get("message"), document.get("response")):
            if isinstance(holder, dict) and isinstance(holder.get("model"), str):
                self.model = holder["model"]
        self.usage = self._dialect.usage(document, self.usage)
