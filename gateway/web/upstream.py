"""The proxy: an ASGI app that passes a judged request to the upstream of its protocol and streams the answer back.

Nothing is buffered. Hop-by-hop headers stop here in both directions, as does everything that `Connection` names. The
caller's own forwarding headers are not passed to a provider. A client that goes away cancels the upstream call; an
upstream that fails or breaks off is answered in the shape of the protocol called.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.credentials import carries
from gateway.decision import Public
from gateway.facts import End
from gateway.values import SECOND
from gateway.web.exchange import OWN_PREFIX
from gateway.web.middleware import Handle, Receive, Scope, Send, answer

HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
NOT_FORWARDED: Final = HOP_BY_HOP | {
    "host", "content-length", "expect", "accept-encoding", "forwarded", "via", "x-real-ip", "x-client-ip",
    "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip",
    "x-original-forwarded-for", "x-envoy-external-address",
}  # fmt: skip
FORWARDING_PREFIX: Final = "x-forwarded-"
READABLE: Final = ("gzip", "deflate")
LONGEST_FIELD: Final = 64 * 2**10
MOST_FIELDS: Final = 512
STATUSES: Final = range(200, 600)
UNREACHABLE: Final = Public("upstream-unreachable", "The upstream could not be reached.")
TIMED_OUT: Final = Public("upstream-timeout", "The upstream did not answer in time.")
_NEVER: Final = re.compile(r"q=0(\.0*)?")
_BEYOND_ASCII: Final = re.compile(rb"[\x80-\xff]")
BROKEN_OFF: Final = Public("upstream-interrupted", "The upstream broke off its answer.")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a protocol's requests go. Times are µs: to connect, and between two reads of an answer."""

    url: str
    connect: int = 5 * SECOND
    read: int = 300 * SECOND


class Proxy:
    """Passes requests on. `upstreams` maps protocol names to where they go."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self.upstreams = upstreams
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the connection pool; needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=LONGEST_FIELD,
            max_field_size=LONGEST_FIELD,
            max_headers=MOST_FIELDS,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        handle: Handle = scope["state"]["sluice"]
        dialect = handle.exchange.dialect
        upstream = self.upstreams.get(dialect.name) if dialect else None
        if upstream is None:
            await _fail(handle, 502, Public("no-upstream", "No upstream is set up for this protocol."), send)
            return
        gone = asyncio.Event()
        try:
            await self._pass_on(upstream, handle, scope, receive, send, gone)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not gone.is_set() or task is None:
                raise
            task.uncancel()

    async def _pass_on(
        self, upstream: Upstream, handle: Handle, scope: Scope, receive: Receive, send: Send, gone: asyncio.Event
    ) -> None:
        assert self._session is not None, "open() the proxy first"
        exchange = handle.exchange
        watcher = _watch(receive, asyncio.current_task(), gone)
        try:
            async with self._session.request(
                scope["method"],
                _target(upstream, scope),
                headers=request_headers(scope),
                data=exchange.body() if exchange.reads_body else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=upstream.connect / SECOND, sock_read=upstream.read / SECOND
                ),
            ) as response:
                if response.status not in STATUSES:
                    raise aiohttp.ClientPayloadError(f"status {response.status}")
                headers = response_headers(response)
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            await _broken(handle, 504, TIMED_OUT, send)
        except aiohttp.ClientConnectorError:
            await _broken(handle, 502, UNREACHABLE, send)
        except (aiohttp.ClientError, ConnectionError):
            await _broken(handle, 502, BROKEN_OFF, send)
        finally:
            watcher.cancel()


async def _broken(handle: Handle, status: int, public: Public, send: Send) -> None:
    if not handle.exchange.begun:
        await _fail(handle, status, public, send)
        return
    handle.ended(End.UPSTREAM_CUT)
    event = handle.exchange.interruption(public)
    if event is not None:
        await send({"type": "http.response.body", "body": event})
    # Anything else is left unfinished on purpose: the server then cuts the connection, so that the client cannot take
    # half an answer for a whole one.


async def _fail(handle: Handle, status: int, public: Public, send: Send) -> None:
    handle.ended(End.UPSTREAM_FAILED)
    await answer(handle.exchange.error(status, public), send)


def _target(upstream: Upstream, scope: Scope) -> URL:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    asked = _BEYOND_ASCII.sub(lambda found: b"%%%02X" % found[0][0], path + (b"?" + query if query else b""))
    return URL(upstream.url.rstrip("/") + asked.decode(), encoded=True)


def request_headers(scope: Scope) -> CIMultiDict[str]:
    """The headers that go upstream: end-to-end ones, with only encodings that the usage tap can read."""
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in scope["headers"]]
    named = {token.strip().lower() for name, value in pairs if name == "connection" for token in value.split(",")}
    dropped = NOT_FORWARDED | {name for name in named if not _ours(name)}
    kept = CIMultiDict([pair for pair in pairs if pair[0] not in dropped and not pair[0].startswith(FORWARDING_PREFIX)])
    offered = ",".join(value for name, value in pairs if name == "accept-encoding").lower().replace(" ", "")
    parts = [part.partition(";") for part in offered.split(",")]
    wanted = {coding for coding, _, weight in parts if not _NEVER.fullmatch(weight)}
    kept["Accept-Encoding"] = ", ".join(coding for coding in READABLE if coding in wanted) or "identity"
    return kept


def _ours(name: str) -> bool:
    """Headers that the gateway wrote or judged a caller by, which a caller must not be able to name away."""
    return name.startswith(OWN_PREFIX) or name == "traceparent" or carries(name)


def _text(value: bytes) -> str:
    """A header value as the client library must be given it to write the same bytes: it writes UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def response_headers(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """The headers that go back: end-to-end ones, as the upstream wrote them."""
    named = {token.strip().lower() for value in response.headers.getall("connection", []) for token in value.split(",")}
    return [
        (name, value)
        for name, value in response.raw_headers
        if (low := name.decode("latin-1").lower()) not in HOP_BY_HOP and low not in named
    ]


def _watch(receive: Receive, call: asyncio.Task[object] | None, gone: asyncio.Event) -> asyncio.Task[None]:
    """Cancel the call when the client goes away, and say that this was why."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        if call is not None:
            call.cancel()

    return asyncio.ensure_future(until_gone())
