"""The ASGI host: policy around any ASGI app, the gateway process's own proxy included.

Plain ASGI, no framework. Requests on unrecognised routes are judged on what can be seen and passed on, and the record
says so. The decision stands in `scope["state"]["sluice"]` for the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.decision import Mode, Outcome
from gateway.facts import End
from gateway.failing import Fail
from gateway.gate import Sink
from gateway.values import SECOND
from gateway.web.door import assemble_inside
from gateway.web.exchange import Door, Exchange, Forward, Refuse, replaced
from gateway.web.intake import Head
from gateway.web.server import CONNECTION
from gateway.web.sockets import handshake, refuse, told
from gateway.web.steps import aside

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN: Final = 128 * 2**20
_SCHEMES: Final = {"https": "https", "wss": "https"}


@dataclass(slots=True)
class Handle:
    """What an app behind the middleware finds in `scope["state"]["sluice"]`: the outcome, and a way to say how it ended."""

    outcome: Outcome
    exchange: Exchange
    plan: Forward

    def ended(self, end: End) -> None:
        """Tell the record that the answer did not end as it should have."""
        self.exchange.ended = end


class PolicyMiddleware:
    """Judges every HTTP request, and every WebSocket's handshake, before `app` sees it.

    policy: packs, or folders of packs (or one); the bundled ones if left out. config: a gateway.yaml whose identity, geo,
    state, audit and other sections are used (its `listen` and `upstreams` are not, nor `client_address.proxy_protocol`: the
    server before the app sees the connection first, and has to read PROXY headers itself). mode: the overall mode. sink:
    receives every settled judgement, besides the file that `config` names. door: everything assembled already, in place of
    the rest. address: the head as the host should have seen it, for tests that replay traffic. websockets: whether a WebSocket
    may pass on a path of a protocol, where nobody looks at what is said on it: refused, unless this or `config` declares it.

    Raises ConfigError or PolicyError.
    """

    def __init__(
        self,
        app: App,
        policy: str | Path | Sequence[str | Path] | None = None,
        *,
        config: str | Path | None = None,
        mode: Mode | None = None,
        sink: Sink | None = None,
        door: Door | None = None,
        address: Callable[[Head], Head] | None = None,
        websockets: Fail | None = None,
    ) -> None:
        self.app = app
        self.address = address or (lambda head: head)
        assembly = assemble_inside(policy, config, mode, sink, websockets) if door is None else None
        self.trail = assembly.trail if assembly else None
        self.door: Door = assembly.door if assembly else door  # type: ignore[assignment]
        self._lookup = assembly.registry.lookup if assembly else None
        self._held: set[asyncio.Future[None]] | None = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = scope["type"] == "websocket"
        if not socket and scope["type"] != "http":
            await (self._live(scope, receive, send) if scope["type"] == "lifespan" else self.app(scope, receive, send))
            return
        if self.door.refresher is not None:
            self.door.refresher.tick()
        exchange = Exchange(self.door, self.address(head_of(scope)))
        if not socket and not await _read_body(exchange, scope, receive):
            return
        facts = await aside(exchange.facts) if exchange.heavy else exchange.facts()
        if socket:
            facts = handshake(self.door.intake, exchange, facts)
        if self.door.intake.must_ask(facts):
            facts = await self.door.intake.look_up(exchange.head, facts)
        judgement = await self.door.gate.judge_remote(facts)
        try:
            plan = exchange.judged(judgement)
            await (self._carry_socket if socket else self._carry_out)(plan, exchange, scope, receive, send)
        except asyncio.CancelledError:
            await self._settle(exchange, End.CLIENT_GONE)
            raise
        except BaseException:  # whatever the app raises is the server's to answer; the record is ours to settle
            await self._settle(exchange, End.UPSTREAM_CUT if exchange.begun else End.UPSTREAM_FAILED)
            raise
        await self._settle(exchange, End.UPSTREAM_CUT)

    def release(self) -> None:
        """The process ends: nobody is held back any longer. The app behind knows that, and what to say."""
        held, self._held = self._held or set(), None
        for one in held:
            if not one.done():
                one.set_result(None)

    async def _hold(self, delay: int) -> None:
        """Hold a request back for so long (µs)."""
        if not delay or self._held is None:
            return
        released = asyncio.get_running_loop().create_future()
        self._held.add(released)
        try:
            async with asyncio.timeout(delay / SECOND):
                await released
        except TimeoutError:
            pass
        finally:
            if self._held is not None:
                self._held.discard(released)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app's lifespan. We end before the server hears that the app has: from then on it may stop the loop."""
        ended = False

        async def ending(message: MutableMapping[str, Any]) -> None:
            nonlocal ended
            if not ended and message["type"].startswith("lifespan.shutdown."):
                ended = True
                await self._end()
            await send(message)

        try:
            await self.app(scope, receive, ending)
        finally:
            if not ended:
                await self._end()

    async def _end(self) -> None:
        """The host stops: write what is to be written, and let go of what was assembled here."""
        if self.trail is not None:
            await asyncio.to_thread(self.trail.rest)
        if self._lookup is not None:
            await self._lookup.close()

    async def _carry_out(self, plan: Refuse | Forward, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        async def tapped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = exchange.answer_head(message["status"], list(message.get("headers", ())))
                message = {**message, "headers": headers}
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.body":
                message = {**message, "body": exchange.answer_chunk(message.get("body", b""), last)}
            try:
                await send(message)
            except OSError:  # so do servers say that the client is gone (ASGI 2.4)
                exchange.ended = exchange.ended or End.CLIENT_GONE
                raise
            if last:
                await self._settle(exchange, End.COMPLETE)

        if isinstance(plan, Refuse):
            await answer(plan, tapped)
            return
        await self._hold(plan.delay)
        await self.app(_passed(plan, exchange, scope), replayed(exchange, receive), tapped)
        if exchange.gathering.overrun and not exchange.begun:
            await answer(exchange.too_much(), tapped)

    async def _carry_socket(
        self, plan: Refuse | Forward, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if isinstance(plan, Refuse):
            await refuse(plan, exchange, scope.get("extensions"), receive, send)
        else:
            await self._hold(plan.delay)
            await self.app(_passed(plan, exchange, scope), receive, told(exchange, send))
        if exchange.begun:
            await self._settle(exchange, End.COMPLETE)

    async def _settle(self, exchange: Exchange, end: End) -> None:
        found = exchange.finish(end)
        if found is None or exchange.judgement is None:
            return
        if self.door.gate.local:
            self.door.gate.settle(exchange.judgement, found)
        else:  # shielded: a client that goes away must not stop what is counted of it
            await asyncio.shield(self.door.gate.settle_remote(exchange.judgement, found))


def head_of(scope: Scope) -> Head:
    """The request head of an ASGI scope; below a mount, the path as the mounted app sees it.

    Only a server that tells connections apart (`web.server`) gives them ids: a client's port is soon somebody else's.
    """
    client, below = scope.get("client"), str(scope.get("root_path", ""))
    connection = scope.get("extensions", {}).get(CONNECTION, {}).get("id")
    return Head(
        method=scope.get("method", "GET"),  # which is how a WebSocket begins
        path=str(scope["path"]).removeprefix(below),
        query=scope.get("query_string", b"").decode("latin-1"),
        http_version=scope.get("http_version", "1.1"),
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
        peer=client[0] if client else None,
        connection=connection,
        raw_path=(scope.get("raw_path") or b"").decode("latin-1").removeprefix(below),
        scheme=_SCHEMES.get(scope.get("scheme", "http"), "http"),
    )


def _passed(plan: Forward, exchange: Exchange, scope: Scope) -> Scope:
    """The scope as the app sees it, once the request may go on."""
    assert exchange.judgement is not None
    state = {**scope.get("state", {}), "sluice": Handle(exchange.judgement.outcome, exchange, plan)}
    came = plan.kept([(name.lower(), value) for name, value in scope["headers"]])
    headers = [pair for pair in came if not replaced(pair[0].decode("latin-1"))] + plan.added
    if plan.rewritten:
        headers.append((b"content-length", b"%d" % len(exchange.body())))
    return {**scope, "headers": headers, "state": state}


async def answer(plan: Refuse, send: Send) -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": plan.status, "headers": plan.headers})
    await send({"type": "http.response.body", "body": plan.body})


def replayed(exchange: Exchange, receive: Receive) -> Receive:
    """A receive that hands out once more the body that was read, then goes on with the real one and notes a disconnect."""
    given = not exchange.reads_body

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": exchange.body(), "more_body": exchange.gathering.more}
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.client_gone()
        elif exchange.partly and not exchange.gathering.goes_on(message.get("body", b"")):
            return {"type": "http.disconnect"}
        return message

    return again


async def _read_body(exchange: Exchange, scope: Scope, receive: Receive) -> bool:
    """Read what the exchange wants of the body; False when the client went away.

    A body that is too large is read to its end (up to a bound) and thrown away, because a client that is still sending
    does not see an answer.
    """
    if not exchange.reads_body or exchange.unasked:
        return True
    drained = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        chunk = message.get("body", b"")
        drained += len(chunk)
        exchange.feed(chunk)
        more = bool(message.get("more_body", False))
        exchange.gathering.more = more and exchange.partly
        if not more or exchange.partly or drained > max(DRAIN, exchange.door.largest):
            return True
