"""How the process speaks HTTP/1.1: uvicorn's httptools protocol, with four things mended.

- A request head has a bound; a longer one is answered 431. (httptools itself keeps reading.)
- An offer to upgrade (`Upgrade: h2c`, as Java's client and `curl --http2` send it with every call) is declined the way
  RFC 9110 §7.8 asks for: by serving the request as if nothing had been offered. httptools drops the body instead.
- Each connection has an id of its own (the ASGI extension `sluice.connection`): a port is soon used again by somebody else.
- Trailers are dropped; uvicorn would add them to the headers of a request that is already being served.

Use it as `uvicorn.Config(app, http=Protocol)`.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

CONNECTION: Final = "sluice.connection"
LARGEST_HEAD: Final = 256 * 2**10
TOO_LARGE: Final = b"The request line and headers are too large."
INVALID: Final = "Invalid HTTP request received."


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    _numbers = itertools.count(1)
    _in_head = False
    _head_size = 0
    _declining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = f"{self.client[0]}:{self.client[1]}#{next(self._numbers)}" if self.client else ""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(INVALID)
            return
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self._refuse_head()

    def on_message_begin(self) -> None:
        if not self._declining:
            self._in_head, self._head_size = True, 0
            super().on_message_begin()
            self.scope["extensions"] = {CONNECTION: {"id": self._connection}}

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head and not self._declining:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._declining:
            self._in_head = False
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._declining = False
        super().on_message_complete()

    def _decline(self, rest: bytes) -> None:
        """Read the body after all, with a new parser that is told how the body is framed and nothing else."""
        framing = [b"%s: %s\r\n" % pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self._declining = True
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n" + rest)

    def _refuse(self, message: str) -> None:
        self.logger.warning(message)
        self.send_400_response(message)

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            length = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(TOO_LARGE)
            self.transport.write(STATUS_LINE[431] + length + b"connection: close\r\n\r\n" + TOO_LARGE)
        self.transport.close()
