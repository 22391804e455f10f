"""Connections to one upstream: opened by aiohttp's connector, kept here between requests, and the time-outs of all of them.

The connector brings name look-ups with a cache, happy eyeballs, TLS with one context for all, and HTTP proxies; it is asked
only where no idle connection is at hand. Proxies are those of the settings: the environment's (`HTTPS_PROXY` and its kin) are
not looked at, as a gateway's way out is not to depend on who started it. So many connections are open at most; who finds none
waits for the next that comes free, in order, as long as connecting may take. Time-outs are kept by one look over all
connections a few times in the time they allow, so that a request costs no timer; they are late by at most a quarter.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from gateway.breaker import Breaker
from gateway.errors import ConfigError, Place, Problem
from gateway.incidents import report
from gateway.values import SECOND
from gateway.web.balance import LONGEST, REST, Group
from gateway.web.link import Broke, Link

IDLE: Final = 15 * SECOND  # many servers close after 20 s or more; a call that meets such a close fails
MOST_IDLE: Final = 512
MOST: Final = 1_024  # as Envoy's clusters have unless told otherwise; a connection is a file, and callers' are as many again
_LOOKS: Final = 4
_LONGEST_LOOK: Final = 1.0


class Full(Exception):
    """As many connections are open as may be, and none came free in time."""


class Stopped(Exception):
    """This process asks nobody any more."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a protocol's requests go. Times are µs: to connect, between two reads of an answer, and for all of it (0: any).

    proxy: the URL of an HTTP proxy on the way, empty where there is none. connections: the most that are open at once.
    ca_file: the authorities whose certificates are believed, in place of the system's. routes: `read` and `total` of those
    routes, by name, that have their own.
    """

    url: str
    connect: int = 5 * SECOND
    read: int = 300 * SECOND
    total: int = 0
    proxy: str = ""
    connections: int = MOST
    ca_file: Path | None = None
    routes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Pool:
    """The connections to one upstream. `open` and all after it needs a running loop. Raises ConfigError for a bad ca_file.

    problem: why the last try to connect failed, empty since one succeeded. group: the others that may be asked in its place.
    now: seconds, of any clock that does not go back, for the breaker.
    """

    def __init__(self, upstream: Upstream, name: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self.upstream, self.name = upstream, name
        self.breaker = Breaker(now, rest=REST, longest=LONGEST)
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
        self._tls: ssl.SSLContext | bool = True  # aiohttp's own context, which believes what the system does
        if upstream.ca_file is not None and "https" in (url.scheme, self._proxy.scheme if self._proxy is not None else ""):
            self._tls = _believing(upstream.ca_file, name)
        self._usual = upstream.read / SECOND, upstream.total / SECOND
        self._waits = {route: (read / SECOND, total / SECOND) for route, (read, total) in upstream.routes.items()}
        self.group: Group | None = None
        self.opened = 0
        self.problem = ""
        self._taken = 0  # connections open or being opened
        self._waiting: OrderedDict[asyncio.Future[Link | None], None] = OrderedDict()
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._connector: aiohttp.TCPConnector | None = None
        self._looking: asyncio.TimerHandle | None = None

    def open(self, connector: aiohttp.TCPConnector) -> None:
        """Use this connector from now on."""
        self._connector = connector
        self.loop = asyncio.get_running_loop()
        allowed = [IDLE / SECOND, *(wait for waits in (self._usual, *self._waits.values()) for wait in waits if wait)]
        self._pause = min(_LONGEST_LOOK, min(allowed) / _LOOKS)
        self._looking = self.loop.call_later(self._pause, self._look)

    def close(self) -> None:
        """Break off what is still running, tell those who asked, and close everything."""
        if self._looking is not None:
            self._looking.cancel()
        self._connector = None
        for link in list(self._links):
            link.fail(Broke.STOPPED)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Stopped())

    @property
    def where(self) -> str:
        """Which upstream this is, without a password that may stand in its URL."""
        return f"{self.name} {self._url.with_user(None)}"

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many connections are open, how many of them idle, and how many requests wait for one."""
        return len(self._links), len(self._idle), len(self._waiting)

    def waits(self, route: str) -> tuple[float, float]:
        """Seconds between two reads of an answer on this route, and for all of it (0: any)."""
        return self._waits.get(route, self._usual)

    def met(self, problem: str) -> None:
        """What a request met here: why it has no answer, empty where it has one."""
        if problem or self.breaker.failures:
            self.breaker.met(good=not problem, problem=problem)

    def take(self) -> Link | None:
        """An idle connection, the one used last, if there is one that its other side has not closed."""
        while self._idle:
            link = self._idle.pop()
            if link.usable:
                return link
            link.drop()
        return None

    async def connect(self) -> Link:
        """A connection where none is idle: a new one, or, where as many are open as may be, the next that comes free.

        Raises Full, Stopped, TimeoutError, or OSError or aiohttp.ClientError where the upstream cannot be reached.
        """
        while self._taken >= self.upstream.connections:
            link = await self._next()
            if link is None:
                break
            if link.usable:
                return link
            link.drop()
        else:
            self._taken += 1
        try:
            link = await self._new()
        except BaseException as error:  # whoever leaves meanwhile gives the place back too
            self._place_free(None)
            if isinstance(error, Exception) and not isinstance(error, Stopped):
                self._troubled(error)
                self.met(self.problem)
            raise
        self.problem = ""
        return link

    def give(self, link: Link) -> None:
        """Keep a connection for the next request."""
        self._place_free(link)

    def forget(self, link: Link) -> None:
        """A connection is gone."""
        if link in self._links:
            self._links.discard(link)
            if link in self._idle:
                self._idle.remove(link)
            self._place_free(None)

    async def _new(self) -> Link:
        if self._connector is None:
            raise Stopped
        seconds = self.upstream.connect / SECOND
        request = aiohttp.ClientRequest("GET", self._url, loop=self.loop, proxy=self._proxy, ssl=self._tls)
        opened = await self._connector.connect(request, [], aiohttp.ClientTimeout(connect=seconds, sock_connect=seconds))
        transport = opened.transport
        if self._connector is None:  # meanwhile
            opened.close()
            raise Stopped
        if transport is None or transport.is_closing():  # its end was told to nobody who would tell us
            opened.close()
            raise ConnectionError("closed as soon as it was open")
        link = Link(self, transport, opened.close, self.loop.time)
        transport.set_protocol(link)
        self._links.add(link)
        self.opened += 1
        return link

    async def _next(self) -> Link | None:
        """What comes free next: a connection, or (None) the place of one, for whoever has waited longest."""
        waiter: asyncio.Future[Link | None] = self.loop.create_future()
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(self.upstream.connect / SECOND):
                return await waiter
        except BaseException as error:  # out of time, or gone: what was handed over in the same moment is the next one's
            self._waiting.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._place_free(waiter.result())
            if isinstance(error, TimeoutError):
                raise Full from None
            raise

    def _place_free(self, link: Link | None) -> None:
        """A connection, or (None) the place of one, came free."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(link)
                return
        if link is None:
            self._taken -= 1
        elif len(self._idle) < MOST_IDLE:
            self._idle.append(link)
        else:
            link.drop()

    def _troubled(self, error: Exception) -> None:
        """Remember why there is no connection, and tell operators, unless they were told the same last."""
        told = f"{self.upstream.url}: {_reason(error, self.name)}"
        if told != self.problem:
            report("upstream.unavailable", f"upstream {self.name}, {told}")
        self.problem = told

    def _look(self) -> None:
        """Close what has been idle for long, and give up what takes too long."""
        self._looking = self.loop.call_later(self._pause, self._look)
        now = self.loop.time()
        for link in list(self._links):
            if link.idle:
                if now - link.touched > IDLE / SECOND:
                    link.drop()
            elif (now - link.touched > link.read and not link.waits_for_us) or (link.total and now - link.asked > link.total):
                link.fail(Broke.TIMED_OUT)


def _believing(file: Path, name: str) -> ssl.SSLContext:
    """TLS with these authorities alone. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=str(file))
    except OSError as error:  # so are those of TLS
        problem = Problem(Place(f"upstreams.{name}.ca_file"), f"{file}: {_system(error)}", "name a PEM file with certificates")
        raise ConfigError([problem]) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _reason(error: Exception, name: str) -> str:
    """Why there is no connection, and how to mend it, without a password that may stand in a URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        return f"its certificate is not believed: {why}; name its authority's file in upstreams.{name}.ca_file"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the way with {error.status}; see upstreams.{name}.proxy"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy cannot be reached: {_system(error)}; see upstreams.{name}.proxy"
    if isinstance(error, TimeoutError):
        return f"no connection in time; see upstreams.{name}.connect"
    return f"it cannot be reached: {_system(error)}; see upstreams.{name}.url"


def _system(error: Exception) -> str:
    inner = getattr(error, "os_error", error)
    return getattr(inner, "strerror", None) or type(inner).__name__
