"""How the process speaks HTTP/1.1: uvicorn's httptools protocol, with five things mended.

- What llhttp takes of a head, but somebody behind us may take for something else, is refused (`check_head`).
- A request head has a bound; a longer one is answered 431. (httptools itself keeps reading.)
- An offer to upgrade (`Upgrade: h2c`, as Java's client and `curl --http2` send it with every call) is declined the way
  RFC 9110 §7.8 asks for: by serving the request as if nothing had been offered. httptools drops the body instead.
- Each connection has an id of its own (the ASGI extension `sluice.connection`): a port is soon used again by somebody else.
- Trailers are dropped; uvicorn would add them to the headers of a request that is already being served.

Where `client_address.proxy_protocol` is set, connections from trusted proxies begin with a PROXY header (`proxied`), and all
that follows sees the caller whom it names: peer, address, connection. Others are not believed: what they send is HTTP, and a
PROXY header is not (400).

Use it as `uvicorn.Config(app, http=protocol_for(settings))`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.addresses import Networks, number
from gateway.incidents import report
from gateway.web.proxied import Opening, Refused

try:
    import fcntl
    import termios
except ImportError:  # not everywhere
    fcntl = None  # type: ignore[assignment]

CONNECTION: Final = "sluice.connection"
LARGEST_HEAD: Final = 256 * 2**10
TOO_LARGE: Final = b"The request line and headers are too large."
INVALID: Final = "Invalid HTTP request received."
_HOST: Final = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)(?:[/?].*)?", re.IGNORECASE)
HEADER_WAIT: Final = 10.0  # seconds for a whole PROXY header; the specification asks for at least 3


def _names(target: bytes, host: bytes | None) -> bool:
    """Whether a request target is a whole URL of this host."""
    found = _ABSOLUTE.fullmatch(target)
    return found is not None and (host is None or found[1].lower() == host.lower())


def untaken(transport: asyncio.Transport) -> int:
    """How many bytes written are still here: those the kernel would not take, and with them those its other side has not.

    Of the latter only some systems tell. A kernel may hold megabytes, and asks for no more before a good part of them is gone.
    """
    waiting = transport.get_write_buffer_size()
    opened = transport.get_extra_info("socket")
    if not waiting or opened is None or fcntl is None:
        return waiting
    try:
        (held,) = struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return waiting
    return waiting + int(held)


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    _numbers = itertools.count(1)
    _in_head = False
    _head_size = 0
    _declining = False
    _serving: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._name()

    def connection_lost(self, exc: Exception | None) -> None:
        """Told to the request that is being served too; uvicorn tells it to the newest one, which may wait behind it."""
        serving, self._serving = self._serving, None
        super().connection_lost(exc)
        if serving is not None and not serving.response_complete:
            serving.disconnected = True
            serving.message_event.set()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._serving = cycle
        super()._start_asgi_task(cycle, app)

    def _name(self) -> None:
        """Give the connection its id; a caller without an address has connections of its own all the same."""
        self._connection = f"{'{}:{}'.format(*self.client) if self.client else ''}#{next(self._numbers)}"

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = memoryview(rest)[offer.args[0] :]
                    self._decline()
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
            self.check_head()
            super().on_headers_complete()

    def check_head(self) -> None:
        """What else a head must be, so that nobody on the way could read it otherwise (RFC 9112 §2.3, §3.2, §6.1).

        One Host, well-formed; no coding but one `chunked`, and that in HTTP/1.1 only; a target without a fragment, which names
        no other host and nobody's password. Raises ValueError, which the parser turns into 400.
        """
        host, coding, version = None, None, self.parser.get_http_version()
        for name, value in self.headers:
            if name == b"host":
                if host is not None or not _HOST.fullmatch(value):
                    raise ValueError("a request has exactly one Host, and it is a name or address")
                host = value
            elif name == b"transfer-encoding":
                if coding is not None or value.strip(b" \t").lower() != b"chunked" or version == "1.0":
                    raise ValueError("a request body is sent as it is, or in chunks")
                coding = value
        if (host is None and version != "1.0") or version not in ("1.0", "1.1"):
            raise ValueError("a request has exactly one Host, in HTTP/1.1")
        if b"#" in self.url or (self.url[:1] not in (b"/", b"*") and not _names(self.url, host)):
            raise ValueError("a request target is a path, or names this host")

    def on_message_complete(self) -> None:
        self._declining = False
        super().on_message_complete()

    def _decline(self) -> None:
        """Have the body read after all, by a new parser that is told how the body is framed and nothing else."""
        framing = [b"%s: %s\r\n" % pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self._declining = True
        self.read_body_after_all()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")

    def read_body_after_all(self) -> None:
        """The request that was taken for complete is not."""
        self.cycle.more_body = True
        self.cycle.message_event.clear()

    def _refuse(self, message: str) -> None:
        report("client.refused", message)
        cycle = self.cycle
        under_way = cycle is not None and not cycle.response_complete and (self._answering(cycle) or self.pipeline)
        if under_way:  # a 400 would stand inside the answer to an earlier request, or in its place
            self.transport.close()
        else:
            self.send_400_response(message)

    def _answering(self, cycle: Any) -> bool:
        """Whether this request is being served, so that what is wrong is a later one, or there is an answer to spoil."""
        return bool(cycle.response_started or not cycle.more_body)

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            length = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(TOO_LARGE)
            self.transport.write(STATUS_LINE[431] + length + b"connection: close\r\n\r\n" + TOO_LARGE)
        self.transport.close()


class ProxiedProtocol(Protocol):
    """One connection where trusted balancers, and they alone, speak the PROXY protocol. trusted: their networks."""

    trusted: ClassVar[Networks] = Networks()
    _opening: Opening | None = None
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = number(self.client[0]) if self.client else None
        if peer is not None and peer in self.trusted:
            self._opening = Opening()
            self._waiting = self.loop.call_later(HEADER_WAIT, self._shut, f"no whole PROXY header within {HEADER_WAIT:.0f} s")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._opening is not None:
            data = self._opened(data)
        if data:
            super().data_received(data)

    def _opened(self, data: bytes) -> bytes:
        """Read on in the PROXY header; the bytes behind it, or none."""
        assert self._opening is not None
        found = None if self.transport.is_closing() else self._opening.feed(data)
        if found is None:
            return b""
        if isinstance(found, Refused):
            self._shut(found.reason)
            return b""
        self._opening = None
        self._stop_waiting()
        if not found.local:
            self.client = found.client
            self._name()
        return found.rest

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _shut(self, reason: str) -> None:
        self._stop_waiting()
        mend = "have it speak the PROXY protocol, or take it out of client_address.trusted_proxies"
        report("client.refused", f"closed a connection from {self.client[0] if self.client else ''}: {reason}; {mend}")
        self.transport.close()


def protocol_for(client_address: Mapping[str, Any]) -> type[Protocol]:
    """The protocol for a section `client_address` of gateway.yaml."""
    if not client_address.get("proxy_protocol"):
        return Protocol
    members = {"trusted": Networks(client_address["trusted_proxies"])}
    return cast("type[Protocol]", type("TrustingProtocol", (ProxiedProtocol,), members))
