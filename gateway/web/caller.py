"""Whoever asks an upstream: the request goes on a connection of the pool, and once more on another where that is safe.

Safe is what RFC 9110 §9.2.2 and RFC 9112 §9.3.1 allow a proxy: an idempotent method, on a connection that had served before
and closed with nothing come back. A POST is never sent twice: that it was not processed cannot be known from a closed
connection. Before a connection is used again the kernel is asked whether its end has come (`Link.usable`), so that such a
call fails, with 502, only where the upstream closes while the request is on its way to it.

Where a protocol has several upstreams, the next is asked if one gives no connection: then nothing was sent, so that this is
safe whatever is asked. An answer is an answer: whatever its status, nobody else is asked after it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.decision import Public
from gateway.facts import End
from gateway.web.exchange import Headers
from gateway.web.link import Broke, Link, Listener
from gateway.web.pool import Full, Pool, Stopped
from gateway.web.wire import LAST_CHUNK, chunk_of

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is told where there is no answer, and what the record says: before an answer has begun, or within it."""

    status: int
    public: Public
    extra: tuple[tuple[str, str], ...] = ()
    unbegun: End = End.UPSTREAM_FAILED
    begun: End = End.UPSTREAM_CUT


_LATER: Final = (("retry-after", "10"),)
_SOON: Final = (("retry-after", "1"),)
FAILURES: Final[Mapping[Broke | None, Failure]] = {
    None: Failure(502, Public("no-upstream", "No upstream is set up for this protocol.")),
    Broke.UNREACHABLE: Failure(502, Public("upstream-unreachable", "The upstream could not be reached.")),
    Broke.TIMED_OUT: Failure(504, Public("upstream-timeout", "The upstream did not answer in time.")),
    Broke.CUT: Failure(502, Public("upstream-interrupted", "The upstream broke off its answer.")),
    Broke.BUSY: Failure(503, Public("upstream-busy", "Too many requests to the upstream are open."), _SOON),
    Broke.RESTING: Failure(503, Public("upstream-resting", "The upstream fails; it is left alone for a while."), _LATER),
    Broke.STOPPED: Failure(
        503, Public("gateway-stopping", "The gateway is being stopped; ask again."), _SOON, End.STOPPED, End.STOPPED
    ),
}


class Caller(Listener):
    """Asks for one answer, which `arrived` is given piece by piece; or `broken` is told why there is none."""

    _link: Link | None = None
    _opening: asyncio.Task[None] | None = None
    _pool: Pool
    _method = _route = ""
    _data: tuple[bytes, bytes] = (b"", b"")
    _again = False
    _partly = False
    _in_chunks = False
    _uploaded = False
    _waiting: list[bytes] | None = None

    def call(self, pool: Pool, method: str, head: bytes, body: bytes, route: str = "") -> None:
        """Send a request with all of its body. route: its name, by which it may have time-outs of its own."""
        self._pool, self._method, self._data, self._route = pool, method, (head, body), route
        link = pool.take()
        if link is None:
            self._opening = pool.loop.create_task(self._open())
        else:
            self._ask(link)

    def call_with_more(self, pool: Pool, method: str, head: bytes, body: bytes, route: str = "", *, in_chunks: bool) -> None:
        """Send a request with the beginning of its body; `upload` sends the rest. Such a request is sent once only."""
        self._partly, self._in_chunks, self._waiting = True, in_chunks, []
        self.call(pool, method, head, chunk_of(body) if in_chunks else body, route)

    def upload(self, data: bytes, last: bool) -> None:
        """More of the body. What comes before there is a connection waits for it."""
        self._uploaded = self._uploaded or last
        if self._in_chunks:
            data = chunk_of(data) + (LAST_CHUNK if last else b"")
        if self._waiting is not None:
            self._waiting.append(data)
            self.upload_full(True)
        elif self._link is not None:
            self._link.unfinished = not last
            self._link.send(data)

    def hang_up(self) -> None:
        """Want no answer any more."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._link is not None:
            link, self._link = self._link, None
            link.hang_up()

    @abstractmethod
    def arrived(self, status: int, headers: Headers, sized: bool, chunk: bytes, last: bool) -> None: ...

    @abstractmethod
    def broken(self, why: Broke) -> None:
        """There is no whole answer, and no further try."""

    @abstractmethod
    def upload_full(self, full: bool) -> None: ...

    def lost(self, why: Broke, *, stale: bool) -> None:
        self._link = None
        if stale and not self._again and not self._partly and self._method in IDEMPOTENT:
            self._again = True
            self._opening = self._pool.loop.create_task(self._open())
        else:
            self.broken(why)

    def _ask(self, link: Link) -> None:
        self._link = link
        link.unfinished = self._partly and not self._uploaded
        link.ask(self, *self._data, bare=self._method == "HEAD", waits=self._pool.waits(self._route))
        if self._waiting:
            link.send(b"".join(self._waiting))
            self.upload_full(link.full)
        self._waiting = None

    async def _open(self) -> None:
        tried: list[Pool] = []
        while True:
            try:
                link = self._pool.take() or await self._pool.connect()
                self._opening = None
                self._ask(link)
                return
            except Stopped:
                why = Broke.STOPPED
                break
            except Full:
                why = Broke.BUSY
            except TimeoutError:
                why = Broke.TIMED_OUT
            except Exception:  # the library may raise what it does not name; the asker is answered all the same
                why = Broke.UNREACHABLE
            tried.append(self._pool)
            other = self._pool.group.pick(tried) if self._pool.group is not None and self._link is None else None
            if other is None:
                break
            self._data = moved(self._data[0], self._pool, other), self._data[1]
            self._pool = other
        self._opening = None
        self.hang_up()
        self.broken(why)


def moved(head: bytes, before: Pool, after: Pool) -> bytes:
    """The head of a request to one upstream as it goes to another. Its lines begin where its target ends, and there first."""
    line, _, rest = head.partition(before.lines)
    method, _, target = line.partition(b" ")
    return method + b" " + after.base + target.removeprefix(before.base) + after.lines + rest
