"""The ASGI host: policy around any ASGI app, the gateway process's own proxy included.

Plain ASGI, no framework. Requests on unrecognised routes are judged on what can be seen and passed on, and the record
says so. The decision stands in `scope["state"]["sluice"]` for the app.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.decision import Mode, Outcome
from gateway.enforcement import DEFAULT_CAUSES, Fail, FailModes
from gateway.facts import Cause, End
from gateway.gate import Gate, Sink
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.registry import Settings
from gateway.registry import load as load_registry
from gateway.values import SECOND
from gateway.web.exchange import Door, Exchange, Forward, Headers, Refuse
from gateway.web.intake import Head, Intake

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN: Final = 128 * 2**20


@dataclass(slots=True)
class Handle:
    """What an app behind the middleware finds in `scope["state"]["sluice"]`: the outcome, and a way to say how it ended."""

    outcome: Outcome
    exchange: Exchange

    def ended(self, end: End) -> None:
        """Tell the record that the answer did not end as it should have."""
        self.exchange.ended = end


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def timer() -> int:
    """A monotonic clock in microseconds, for latencies."""
    return time.perf_counter_ns() // 1_000


class PolicyMiddleware:
    """Judges every HTTP request before `app` sees it.

    policy: paths of packs (or one), or a compiled Policy with the `door` it belongs to. settings: the sections of
    gateway.yaml that plugins read (`identity`, `geo`, …). mode: the overall mode. sink: receives every settled judgement;
    see `gateway.audit`. door: everything assembled already, in place of the rest. address: the head as the host should have
    seen it, for tests that replay traffic.
    """

    def __init__(
        self,
        app: App,
        policy: Policy | str | Path | Sequence[str | Path] | None = None,
        *,
        settings: Settings | None = None,
        mode: Mode = Mode.ENFORCE,
        sink: Sink | None = None,
        door: Door | None = None,
        address: Callable[[Head], Head] | None = None,
    ) -> None:
        self.app = app
        self.address = address or (lambda head: head)
        self.door = door or _door(policy, settings or {}, mode, sink)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(self.door, self.address(head_of(scope)))
        if not await _read_body(exchange, scope, receive):
            return
        judgement = await self.door.gate.judge_remote(exchange.facts())
        plan = exchange.judged(judgement)
        try:
            await self._carry_out(plan, exchange, scope, receive, send)
        except asyncio.CancelledError:
            await self._settle(exchange, End.CLIENT_GONE)
            raise
        except BaseException:  # whatever the app raises is the server's to answer; the record is ours to settle
            await self._settle(exchange, End.UPSTREAM_CUT if exchange.begun else End.UPSTREAM_FAILED)
            raise
        await self._settle(exchange, End.UPSTREAM_CUT)

    async def _carry_out(self, plan: Refuse | Forward, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        async def tapped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = exchange.answer_head(message["status"], list(message.get("headers", ())))
                message = {**message, "headers": headers}
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.body":
                exchange.answer_chunk(message.get("body", b""), last)
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
        if plan.delay:
            await asyncio.sleep(plan.delay / SECOND)
        assert exchange.judgement is not None
        state = {**scope.get("state", {}), "sluice": Handle(exchange.judgement.outcome, exchange)}
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in plan.headers]
        await self.app({**scope, "headers": headers, "state": state}, replayed(exchange, receive), tapped)

    async def _settle(self, exchange: Exchange, end: End) -> None:
        found = exchange.finish(end)
        if found is None or exchange.judgement is None:
            return
        if self.door.gate.local:
            self.door.gate.settle(exchange.judgement, found)
        else:  # shielded: a client that goes away must not stop what is counted of it
            await asyncio.shield(self.door.gate.settle_remote(exchange.judgement, found))


def head_of(scope: Scope) -> Head:
    """The request head of an ASGI scope."""
    client = scope.get("client")
    return Head(
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        http_version=scope.get("http_version", "1.1"),
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]),
        peer=client[0] if client else None,
        connection=f"{client[0]}:{client[1]}" if client else None,
        raw_path=(scope.get("raw_path") or b"").decode("latin-1"),
    )


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
            return {"type": "http.request", "body": exchange.body(), "more_body": False}
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.client_gone()
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
        if not message.get("more_body", False) or drained > max(DRAIN, exchange.door.largest):
            return True


def _door(policy: object, settings: Settings, mode: Mode, sink: Sink | None) -> Door:
    registry = load_registry(settings)
    paths = [policy] if isinstance(policy, (str, Path)) else policy
    compiled = paths if isinstance(paths, Policy) else load([Path(str(path)) for path in paths or ()], registry.signals)  # type: ignore[attr-defined]
    fail = FailModes(causes={**DEFAULT_CAUSES, Cause.ROUTE_UNRECOGNISED: Fail.PASS})
    gate = Gate(compiled, registry.signals, mode=mode, sink=sink, fail=fail)
    key = settings.get("identity", {}).get("hash_key") or b"sluicegate"
    return Door(Intake(registry, key), gate, wall_clock, timer)


__all__ = ["Handle", "Headers", "PolicyMiddleware", "answer", "head_of", "replayed"]
