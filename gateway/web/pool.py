"""Connections to one upstream: opened by aiohttp's connector, kept here between requests, and the time-outs of all of them.

The connector brings name look-ups with a cache, happy eyeballs, TLS with one context for all, and HTTP proxies; it is asked
only where no idle connection is at hand. Time-outs are kept by one look over all connections a few times in the time they
allow, so that a request costs no timer; they are late by at most a quarter.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from gateway.decision import Public
from gateway.values import SECOND
from gateway.web.exchange import Headers
from gateway.web.link import Broke, Link, Listener
from gateway.web.wire import LAST_CHUNK, chunk_of

IDLE: Final = 15 * SECOND  # many servers close after 20 s or more; a call that meets such a close fails
MOST_IDLE: Final = 512
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
NO_UPSTREAM: Final = (502, Public("no-upstream", "No upstream is set up for this protocol."))
FAILURES: Final = {
    Broke.UNREACHABLE: (502, Public("upstream-unreachable", "The upstream could not be reached.")),
    Broke.TIMED_OUT: (504, Public("upstream-timeout", "The upstream did not answer in time.")),
    Broke.CUT: (502, Public("upstream-interrupted", "The upstream broke off its answer.")),
}
_LOOKS: Final = 4
_LONGEST_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a protocol's requests go. Times are µs: to connect, between two reads of an answer, and for all of it (0: any).

    proxy: the URL of an HTTP proxy on the way, empty where there is none.
    """

    url: str
    connect: int = 5 * SECOND
    read: int = 300 * SECOND
    total: int = 0
    proxy: str = ""


class Pool:
    """The connections to one upstream. `open` and everything after it needs a running loop."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        url = URL(upstream.url.rstrip("/"), encoded=True)
        self._proxy = URL(upstream.proxy) if upstream.proxy else None
        self._url = url
        authority = (url.raw_authority.rpartition("@")[2]).encode()
        forwarded = self._proxy is not None and url.scheme == "http"  # a proxy is told the whole URL, unless it tunnels
        self.base = (b"http://" + authority if forwarded else b"") + url.raw_path.rstrip("/").encode()
        self.lines = b" HTTP/1.1\r\nhost: " + authority + b"\r\n"
        if forwarded and self._proxy is not None and self._proxy.user is not None:
            basic = aiohttp.encode_basic_auth(self._proxy.user, self._proxy.password or "")
            self.lines += b"proxy-authorization: " + basic.encode() + b"\r\n"
        self.opened = 0
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._connector: aiohttp.TCPConnector | None = None
        self._looking: asyncio.TimerHandle | None = None

    def open(self, connector: aiohttp.TCPConnector) -> None:
        """Use this connector from now on."""
        self._connector = connector
        self.loop = asyncio.get_running_loop()
        allowed = [self.upstream.read, IDLE, *([self.upstream.total] if self.upstream.total else ())]
        self._pause = min(_LONGEST_LOOK, min(allowed) / SECOND / _LOOKS)
        self._looking = self.loop.call_later(self._pause, self._look)

    def close(self) -> None:
        """Break off what is still running, and close everything."""
        if self._looking is not None:
            self._looking.cancel()
        self._connector = None
        for link in list(self._links):
            link.fail(Broke.CUT)

    def take(self) -> Link | None:
        """An idle connection, the one used last, if there is one."""
        while self._idle:
            link = self._idle.pop()
            if not link.transport.is_closing():
                return link
        return None

    async def connect(self) -> Link:
        """A new connection. Raises TimeoutError, or OSError or aiohttp.ClientError where the upstream cannot be reached."""
        if self._connector is None:
            raise ConnectionError("this process is closing")
        seconds = self.upstream.connect / SECOND
        request = aiohttp.ClientRequest("GET", self._url, loop=self.loop, proxy=self._proxy)
        opened = await self._connector.connect(request, [], aiohttp.ClientTimeout(connect=seconds, sock_connect=seconds))
        transport = opened.transport
        if transport is None:
            opened.close()
            raise ConnectionError("closed as soon as it was open")
        link = Link(self, transport, opened.close, self.loop.time)
        transport.set_protocol(link)
        self._links.add(link)
        self.opened += 1
        return link

    def give(self, link: Link) -> None:
        """Keep a connection for the next request."""
        if len(self._idle) < MOST_IDLE:
            self._idle.append(link)
        else:
            link.drop()

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def _look(self) -> None:
        """Close what has been idle for long, and give up what takes too long."""
        now, up = self.loop.time(), self.upstream
        read, total = up.read / SECOND, up.total / SECOND
        for link in list(self._links):
            if link.idle:
                if now - link.touched > IDLE / SECOND:
                    link.drop()
            elif (now - link.touched > read and not link.waits_for_us) or (total and now - link.asked > total):
                link.fail(Broke.TIMED_OUT)
        self._looking = self.loop.call_later(self._pause, self._look)


class Pools:
    """The upstreams of a process, by protocol."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._pools = {name: Pool(upstream) for name, upstream in upstreams.items()}
        self.get: Callable[[str], Pool | None] = self._pools.get
        self._connector: aiohttp.TCPConnector | None = None

    async def open(self) -> None:
        """Needs a running loop."""
        self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
        for pool in self._pools.values():
            pool.open(self._connector)

    async def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        if self._connector is not None:
            await self._connector.close()


class Caller(Listener):
    """Whoever asks an upstream: takes a connection, or has one opened, and asks once more where that is safe.

    Safe is what RFC 9110 §9.2.2 and RFC 9112 §9.3.1 allow a proxy: an idempotent method, on a connection that had served
    before and closed with nothing come back. A POST is never sent twice: that it was not processed cannot be known from a
    closed connection. It fails with 502, and connections are not kept idle for long.
    """

    _link: Link | None = None
    _opening: asyncio.Task[None] | None = None
    _pool: Pool
    _method = ""
    _data: tuple[bytes, bytes] = (b"", b"")
    _again = False
    _partly = False
    _in_chunks = False
    _uploaded = False
    _waiting: list[bytes] | None = None

    def call(self, pool: Pool, method: str, head: bytes, body: bytes) -> None:
        """Send a request with all of its body."""
        self._pool, self._method, self._data = pool, method, (head, body)
        link = pool.take()
        if link is None:
            self._opening = pool.loop.create_task(self._open())
        else:
            self._ask(link)

    def call_with_more(self, pool: Pool, method: str, head: bytes, body: bytes, *, in_chunks: bool) -> None:
        """Send a request with the beginning of its body; `upload` sends the rest. Such a request is sent once only."""
        self._partly, self._in_chunks, self._waiting = True, in_chunks, []
        self.call(pool, method, head, chunk_of(body) if in_chunks else body)

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
        link.ask(self, *self._data, bare=self._method == "HEAD")
        if self._waiting:
            link.send(b"".join(self._waiting))
            self.upload_full(link.full)
        self._waiting = None

    async def _open(self) -> None:
        try:
            link = await self._pool.connect()
        except TimeoutError:
            why = Broke.TIMED_OUT
        except Exception:  # the library may raise what it does not name; the asker is answered all the same
            why = Broke.UNREACHABLE
        else:
            self._opening = None
            self._ask(link)
            return
        self._opening = None
        self.broken(why)
