"""One connection to an upstream: our own HTTP/1.1 client protocol on llhttp, which hands answers on as they come.

It serves one request at a time and knows its owner only as a `Listener`, told after each read in one call all that the read
brought. Interim answers (1xx) are dropped, 103 among them: its early links are for browsers; 101 breaks the answer, as
nothing was offered. Trailers are dropped. An answer without a length ends with the connection; one whose framing llhttp
refuses (two lengths, a length and chunks, folded lines) is no answer. Nothing is retried here.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from gateway.failing import OUT
from gateway.web.exchange import Headers
from gateway.web.wire import BODILESS, HOP_BY_HOP, named_by

if TYPE_CHECKING:
    from gateway.web.pool import Pool

LARGEST_HEAD: Final = 256 * 2**10
MOST_FIELDS: Final = 512
STATUSES: Final = range(200, 600)
SWITCHING: Final = 101


class Broke(Enum):
    """Why there is no whole answer."""

    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    CUT = "cut"
    BUSY = "busy"
    RESTING = "resting"
    STOPPED = "stopped"


_TOLD: Final = {Broke.TIMED_OUT: "did not answer in time", Broke.CUT: "broke off its answer"}


class Listener(Protocol):
    """Who asked. Each of these is called outside the parser, and may hang up or ask again at once."""

    def arrived(self, status: int, headers: Headers, sized: bool, chunk: bytes, last: bool) -> None:
        """Some of the answer. status: that of its head, 0 if that was told before; sized: whether it states its length."""
        ...

    def lost(self, why: Broke, *, stale: bool) -> None:
        """There will be no more. stale: the connection had served before and nothing at all came back."""
        ...

    def upload_full(self, full: bool) -> None:
        """Stop sending the body, or go on."""
        ...


class Link(asyncio.Protocol):
    """One open connection. close: gives it back to whoever opened it; now: seconds, for time-outs."""

    def __init__(self, pool: Pool, transport: asyncio.Transport, close: Callable[[], None], now: Callable[[], float]) -> None:
        self.transport = transport
        self.touched = self.asked = now()
        self.read = self.total = 0.0
        self.waits_for_us = self.full = False
        self.unfinished = False  # some of the request is still to be sent: whatever comes next would be taken for that
        self.reads = self.served = 0
        self._pool, self._close, self._now = pool, close, now
        self._poll = _polling(transport)
        self._listener: Listener | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._status = self._told = self._head_size = 0
        self._raw: Headers = []
        self._bodiless = self._sized = self._chunked = self._complete = self._reusable = self._junk = self._bare = False

    @property
    def idle(self) -> bool:
        return self._listener is None

    @property
    def usable(self) -> bool:
        """Whether it is open, and nothing has come that nobody asked for, its end included, as far as this machine knows.

        The kernel is asked, because what it has may still wait for its turn in the loop.
        """
        return not self.transport.is_closing() and not (self._poll is not None and self._poll(0))

    def ask(self, listener: Listener, head: bytes, body: bytes, *, bare: bool, waits: tuple[float, float]) -> None:
        """Send a request; bare: its answer has no body whatever its head says (HEAD).

        waits: seconds between two reads of the answer, and for all of it (0: any).
        """
        self._listener, self._bare = listener, bare
        self.read, self.total = waits
        self._status = self._told = self._head_size = 0
        self._bodiless = self._sized = self._chunked = self._complete = self._reusable = self._junk = False
        self.waits_for_us = False
        self.reads = 0
        self.touched = self.asked = self._now()
        self.transport.writelines((head, body) if body else (head,))

    def send(self, data: bytes) -> None:
        """More of the request's body, framed."""
        self.touched = self._now()
        if not self.transport.is_closing():  # its end is told by `connection_lost`
            self.transport.write(data)

    def hang_up(self) -> None:
        """The asker wants no more: the connection goes with the answer it would still bring."""
        self._listener = None
        self.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        self._pool.forget(self)
        self.transport.abort()
        self._close()

    def fail(self, why: Broke) -> None:
        """Give the answer up, and tell the asker."""
        listener, self._listener = self._listener, None
        self.drop()
        if listener is not None:
            stale = why is Broke.CUT and self.served > 0 and self.reads == 0
            if not stale and why is not Broke.STOPPED:
                self._pool.met(f"it {_TOLD.get(why, why.value)}")
            listener.lost(why, stale=stale)

    def hold(self, held: bool) -> None:
        """Read no more until told otherwise: the asker cannot take it. No time-out runs meanwhile."""
        if held is self.waits_for_us or self._listener is None:
            return
        self.waits_for_us = held
        self.touched = self._now()
        if held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # From the transport

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if listener is None:  # nobody asked: whatever this is, the next answer must not begin with it
            self.drop()
            return
        self.reads += 1
        self.touched = self._now()
        if not self._status:
            self._head_size += len(data)
        broken = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            broken = True
        if self._told and len(self._pieces) == 1 and not (broken or self._complete or self._junk or self._bodiless):
            listener.arrived(0, self._headers, self._sized, self._pieces.pop(), False)  # most of what comes of a stream
            return
        broken = broken or self._junk or (not self._status and self._head_size > LARGEST_HEAD)
        self._hand_on(listener, broken)

    def _hand_on(self, listener: Listener, broken: bool) -> None:
        whole = self._complete or (self._bodiless and self._status > 0)
        if not self._status:
            self._pieces.clear()
        if whole:
            self.hold(False)
            self._listener = None
            sent = not self.unfinished and not self.transport.get_write_buffer_size()
            if sent and self._reusable and self._complete and not broken:
                self.served += 1
                self._pool.give(self)
            else:
                self.drop()
        status, self._told = (0 if self._told else self._status), self._status
        if status:
            self._pool.met(f"it answered {status}" if status in OUT else "")
        chunk = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces.clear()
        if status or chunk or whole:
            listener.arrived(status, self._headers, self._sized, chunk, whole)
        if broken and not whole:
            self.fail(Broke.CUT)

    def eof_received(self) -> None:
        """Nothing to add: the transport closes, and `connection_lost` says what that meant."""

    def connection_lost(self, exc: Exception | None) -> None:
        listener = self._listener
        ends = listener is not None and exc is None and self._status and not self._sized and not self._complete
        if ends and not self._chunked:
            assert listener is not None
            self._listener = None
            self.drop()
            listener.arrived(0 if self._told else self._status, self._headers, False, b"", True)
            return
        self.fail(Broke.CUT)

    def pause_writing(self) -> None:
        self.full = True
        if self._listener is not None:
            self._listener.upload_full(True)

    def resume_writing(self) -> None:
        self.full = False
        self.touched = self._now()
        if self._listener is not None:
            self._listener.upload_full(False)

    # From the parser

    def on_message_begin(self) -> None:
        self._junk |= self._complete
        self._raw = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # trailers are not kept
            self._raw.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._status:  # trailers end here too, or a second answer begins, which nobody asked for
            return
        if status < STATUSES.start and status != SWITCHING:
            return
        self._sort(self._raw, status)
        self._junk |= status not in STATUSES or len(self._raw) > MOST_FIELDS
        if self._head_size > LARGEST_HEAD:  # which counts whole reads
            self._junk |= sum(len(name) + len(value) for name, value in self._raw) > LARGEST_HEAD
        self._bodiless = self._bare or status in BODILESS
        if not self._junk:
            self._status = status

    def _sort(self, raw: Headers, status: int) -> None:
        """Take from the headers what goes on, and how the body is framed."""
        self._sized = self._chunked = False
        named = frozenset[bytes]()
        kept: Headers = []
        for pair in raw:
            name = pair[0]
            if name == b"content-length":
                self._sized = True
                if status in BODILESS:  # it speaks of another answer (RFC 9110 §8.6), and not every server can say so
                    continue
            elif name in HOP_BY_HOP:
                if name == b"transfer-encoding":
                    self._chunked = pair[1].lower() == b"chunked"
                    self._junk |= not self._chunked
                elif name == b"connection":
                    named |= named_by(pair[1])
                continue
            kept.append(pair)
        self._headers = [pair for pair in kept if pair[0] not in named] if named else kept

    def on_body(self, body: bytes) -> None:
        if not (self._bodiless or self._complete):
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()  # later it always says no


def _polling(transport: asyncio.Transport) -> Callable[[int], object] | None:
    """What tells whether something waits to be read on a connection; None where the system has no such call."""
    opened = transport.get_extra_info("socket")
    if opened is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return poll.poll
