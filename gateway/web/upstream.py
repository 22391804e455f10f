"""The proxy as an ASGI app: passes a judged request to the upstream of its protocol and streams the answer back.

What the process's own lane does not serve comes this way, over the same connections. Nothing is buffered but what the
client is slow to take, up to a bound. A client that goes away cancels the upstream call; an upstream that fails or breaks off
is answered in the shape of the protocol called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final
from urllib.parse import quote

from gateway.web.caller import FAILURES, Caller, Failure
from gateway.web.exchange import Headers
from gateway.web.link import Broke
from gateway.web.middleware import Handle, Receive, Scope, Send, answer
from gateway.web.pool import Pool
from gateway.web.pools import Pools
from gateway.web.wire import request_head, target_of

MOST_HELD: Final = 64 * 2**10


class Proxy:
    """Passes requests on. pools: the upstreams by protocol."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        handle: Handle = scope["state"]["sluice"]
        dialect = handle.exchange.dialect
        pool = self.pools.get(dialect.name) if dialect else None
        if not isinstance(pool, Pool):
            await _fail(handle, FAILURES[pool], send)
            return
        asked = Asked()
        watcher = asyncio.ensure_future(_watch(receive, asked, handle.exchange.partly))
        try:
            _ask(asked, pool, handle, scope)
            await _pass_on(asked, handle, send)
        finally:
            watcher.cancel()
            asked.hang_up()


class Asked(Caller):
    """One call whose answer is awaited."""

    def __init__(self) -> None:
        self.gone = False
        self.why: Broke | None = None
        self._held: deque[tuple[int, Headers, bytes, bool]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def arrived(self, status: int, headers: Headers, sized: bool, chunk: bytes, last: bool) -> None:
        self._held.append((status, headers, chunk, last))
        self._size += len(chunk)
        if last:
            self._link = None
        elif self._size > MOST_HELD and self._link is not None:
            self._link.hold(True)
        self._news.set()

    def broken(self, why: Broke) -> None:
        self.why = why
        self._news.set()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.hang_up()
        self._news.set()

    def upload_full(self, full: bool) -> None:
        (self._room.clear if full else self._room.set)()

    async def room(self) -> None:
        """Wait until more of the body may be sent."""
        await self._room.wait()

    async def next(self) -> tuple[int, Headers, bytes, bool] | None:
        """What came next: status (0 after the first time), headers, bytes, whether they are the last; None where it ended."""
        while not self._held and not self.gone and self.why is None:
            self._news.clear()
            await self._news.wait()
        if not self._held or self.gone:
            return None
        found = self._held.popleft()
        self._size -= len(found[2])
        if not self._held and self._link is not None:
            self._link.hold(False)
        return found


def _ask(asked: Asked, pool: Pool, handle: Handle, scope: Scope) -> None:
    exchange = handle.exchange
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    start = scope["method"].encode() + b" " + target_of(pool.base, path, scope.get("query_string", b"")) + pool.lines
    body = exchange.body() if exchange.reads_body else b""
    head = request_head(start, handle.plan.kept(scope["headers"]), handle.plan.added, exchange.length_up)
    if exchange.partly:
        asked.call_with_more(pool, scope["method"], head, body, exchange.route, in_chunks=exchange.length_up is None)
    else:
        asked.call(pool, scope["method"], head, body, exchange.route)


async def _pass_on(asked: Asked, handle: Handle, send: Send) -> None:
    while found := await asked.next():
        status, headers, chunk, last = found
        if status:
            await send({"type": "http.response.start", "status": status, "headers": headers})
        if chunk or last:
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
        if last:
            return
    if asked.why is not None and not asked.gone:
        await _broken(handle, FAILURES[asked.why], send)


async def _broken(handle: Handle, failure: Failure, send: Send) -> None:
    if not handle.exchange.begun:
        await _fail(handle, failure, send)
        return
    handle.ended(failure.begun)
    event = handle.exchange.interruption(failure.public)
    if event is not None:
        await send({"type": "http.response.body", "body": event})
    # Anything else is left unfinished on purpose: the server then cuts the connection, so that the client cannot take
    # half an answer for a whole one.


async def _fail(handle: Handle, failure: Failure, send: Send) -> None:
    handle.ended(failure.unbegun)
    await answer(handle.exchange.error(failure.status, failure.public, list(failure.extra)), send)


async def _watch(receive: Receive, asked: Asked, partly: bool) -> None:
    """Send on what is still to come of the body, and leave when the client does."""
    try:
        if partly and not (await receive())["more_body"]:  # the part that was judged and is on its way
            asked.upload(b"", last=True)
            partly = False
        while (message := await receive())["type"] != "http.disconnect":
            if partly:
                partly = bool(message.get("more_body"))
                asked.upload(message.get("body", b""), last=not partly)
                await asked.room()
    finally:  # also where a server's receive breaks: nobody would tell us any more
        asked.leave()
