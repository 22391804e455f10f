"""The gateway process: a Starlette app with health routes, and everything else through the policy to the upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from gateway.audit.spans import OtelSpans
from gateway.audit.trail import Trail
from gateway.config import Config, StateSettings
from gateway.errors import ConfigError, Place, Problem, StateError
from gateway.gate import Gate, RemoteState
from gateway.language.compile import load
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch
from gateway.values import SECOND
from gateway.web.exchange import Door
from gateway.web.intake import Head, Intake
from gateway.web.middleware import PolicyMiddleware, Receive, Scope, Send, timer, wall_clock
from gateway.web.upstream import Proxy, Upstream

REFRESH: Final = 1.0


@dataclass(slots=True)
class Process:
    """The parts of a running gateway, for health and for those who start it."""

    config: Config
    registry: Registry
    gate: Gate
    trail: Trail
    proxy: Proxy
    app: Starlette = field(default_factory=Starlette)

    async def probe(self) -> None:
        """Ask shared state that last failed once more, so that it is seen to be back even while no requests come."""
        state = self.gate.state
        if not isinstance(state, MemoryState) and state.health().get("problem"):
            with contextlib.suppress(StateError):  # health() says what it was
                await state.apply(Batch(0))

    def health(self) -> dict[str, object]:
        """What works, what does not, and what is in force."""
        parts: dict[str, dict[str, object]] = {name: thing.health() for name, thing in self.registry.watched.items()}
        parts["audit"] = self.trail.health()
        parts["state"] = {**self.gate.state.health(), "failures": self.gate.state_failures}
        problems = [f"{name}: {part['problem']}" for name, part in parts.items() if part.get("problem")]
        if not self.config.lasting_key:
            parts["identity"] = {"note": "no hash key is set: hashes will not join with those of another run"}
        policy = {"digest": self.gate.policy.digest, "version": self.gate.policy.version, "mode": str(self.gate.mode)}
        return {"status": "degraded" if problems else "ok", "problems": problems, "policy": policy, "parts": parts}


def build(config: Config, clock: Callable[[], int] = wall_clock, address: Callable[[Head], Head] | None = None) -> Process:
    """Assemble the gateway of a config. Raises ConfigError, PolicyError or StateError.

    clock (µs since 1970) and address (the head as the host should have seen it) are for tests that replay traffic.
    """
    registry = load_registry(config.settings)
    policy, state = load(config.policy, registry.signals), open_state(config.state)
    spans = OtelSpans(config.otlp) if config.otlp else None
    trail = Trail(config.records, spans)
    gate = Gate(policy, registry.signals, state=state, mode=config.mode, fail=config.fail, sink=trail)
    intake = Intake(registry, config.hash_key, config.largest_body)
    door = Door(intake, gate, clock, timer, config.largest_body, config.keep)
    upstreams = {name: Upstream(up.url, up.connect, up.read) for name, up in config.upstreams.items()}
    process = Process(config, registry, gate, trail, Proxy(upstreams, registry))
    judged = PolicyMiddleware(process.proxy, door=door, address=address)
    health = Health(process)
    process.app = Starlette(
        routes=[Route("/healthz", health), Route("/readyz", health), Mount("/", judged)], lifespan=lambda _: _lifespan(process)
    )
    return process


def open_state(settings: StateSettings) -> MemoryState | RemoteState:
    """State by its URI: memory://, or redis://… Raises StateError for a URI of neither."""
    if settings.url.startswith("memory:"):
        return MemoryState()
    try:
        from gateway.state.redis import RedisState  # only needed, and only installed, where Redis is used
    except ModuleNotFoundError:
        problem = Problem(Place("state.url"), "needs the redis package", "install sluicegate[redis], or use memory://")
        raise ConfigError([problem]) from None
    return RedisState(settings.url, timeout=settings.timeout / SECOND, prefix=settings.prefix)


class Health:
    """Answers /healthz (200 while the process serves) and /readyz (503 while anything is degraded)."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.process.probe()
        health = self.process.health()
        ready = scope["path"] != "/readyz" or health["status"] == "ok"
        body = json.dumps(health).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if ready else 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _lifespan(process: Process) -> AsyncIterator[None]:
    await process.proxy.open()
    refresher = asyncio.ensure_future(_refresh(process.registry))
    try:
        yield
    finally:
        refresher.cancel()
        await process.proxy.close()
        close = getattr(process.gate.state, "close", None)
        if close is not None:
            await close()
        await asyncio.to_thread(process.trail.close)


async def _refresh(registry: Registry) -> None:
    """Read changed files again, off the loop."""
    while True:
        await asyncio.sleep(REFRESH)
        for thing in registry.watched.values():
            await asyncio.to_thread(thing.refresh)
