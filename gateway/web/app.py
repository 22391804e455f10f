"""The gateway process: a Starlette app with health routes, and everything else through the policy to the upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from gateway.addresses import Networks
from gateway.audit.trail import Trail
from gateway.config import Config
from gateway.errors import StateError
from gateway.failing import Dependency
from gateway.gate import Gate, Sink
from gateway.halting import HaltFile
from gateway.literals import is_local
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch
from gateway.values import SECOND
from gateway.web.door import Assembly, assemble, seconds, wall_clock
from gateway.web.intake import Head
from gateway.web.lane import lane_of
from gateway.web.metering import Metering
from gateway.web.middleware import PolicyMiddleware, Receive, Scope, Send
from gateway.web.pools import Pools, pools_of
from gateway.web.reload import Reloader
from gateway.web.server import Protocol, protocol_for
from gateway.web.service import Service, Waits
from gateway.web.upstream import Proxy
from gateway.web.workers import Seat


@dataclass(slots=True)
class Process:
    """The parts of a running gateway, for health and for those who start it."""

    assembly: Assembly
    pools: Pools
    reloader: Reloader
    service: Service
    seat: Seat | None = None
    stopping: bool = False
    halts: HaltFile | None = None
    metering: Metering | None = None
    app: Starlette = field(default_factory=Starlette)
    release: Callable[[], None] = lambda: None

    @property
    def gate(self) -> Gate:
        return self.assembly.gate

    @property
    def trail(self) -> Trail:
        assert self.assembly.trail is not None, "a process always keeps records"
        return self.assembly.trail

    async def reload(self) -> bool:
        """Load the policy of the config's paths again and put it in force; False where the one in force was kept."""
        return await self.reloader.ask()

    def stop(self) -> None:
        """Leave nothing under way: those who wait for an answer are told that there will be none."""
        self.pools.stop()
        self.service.stop()
        self.release()

    async def probe(self) -> None:
        """Ask shared state and a directory that last failed once more, to see them back even while no requests come."""
        state = self.gate.state
        if not isinstance(state, MemoryState) and state.health().get("problem"):
            with contextlib.suppress(StateError):  # health() says what it was
                await state.apply(Batch(0))
        lookup = self.assembly.registry.lookup
        if lookup is not None and lookup.health().get("problem"):
            await lookup.fetch("", bytes(32))  # nobody's key

    @property
    def protocol(self) -> type[Protocol]:
        """How the server of this process speaks HTTP: known routes go the lane, everything else to the app."""
        return lane_of(protocol_for(self.assembly.config.settings.get("client_address", {})), self.service)

    def health(self) -> dict[str, object]:
        """What works, what does not, and what is in force."""
        registry = self.assembly.registry
        parts: dict[str, dict[str, object]] = {name: thing.health() for name, thing in registry.watched.items()}
        parts["audit"] = self.trail.health()
        if (traces := self.trail.traces()) is not None:
            parts["traces"] = traces  # an endpoint that takes no spans keeps nobody from being served
        parts["state"] = {**self.gate.state.health(), "failures": self.gate.asking.failures, "leases": self.gate.leases}
        if self.gate.asking.share is not None:
            parts["state"]["share"] = self.gate.asking.share.health()
        problems = [f"{name}: {part['problem']}" for name, part in parts.items() if part.get("problem")]
        if not self.assembly.config.lasting_key:
            parts["identity"] = {"note": "no hash key is set: hashes will not join with those of another run"}
        policy = {"digest": self.gate.policy.digest, "version": self.gate.policy.version, "mode": str(self.gate.mode)}
        dependencies = self.gate.dependencies  # with the last good policy, or edition of a file, it is as ready as before
        ready = not self.stopping and dependencies.ready(self.assembly.door.clock())
        if self.gate.halt is not None:
            policy["halt"] = self.gate.halt.plain()
        if self.halts is not None and self.halts.problem:
            problems.append(f"halt: {self.halts.problem}")
        reloads = self.reloader.health()
        if reloads["problem"]:
            problems.append(f"policy: the last reload was refused: {reloads['problem']}")
        problems += [f"upstreams.{name}: {problem}" for name, problem in self.pools.problems().items()]
        if self.seat is not None:
            parts["worker"] = self.seat.health()
            problems += [f"workers: {problem}"] if (problem := parts["worker"]["problem"]) else []
        parts["clients"], parts["upstreams"] = self.service.health(), self.pools.health()
        parts["rules"] = self.gate.quarantine.health()
        if parts["rules"]["problem"]:
            problems.append(f"rules: {parts['rules']['problem']}")
        status = "degraded" if problems else "ok"
        return {
            "status": status,
            "ready": ready,
            "problems": problems,
            "policy": {**policy, **reloads},
            "parts": parts,
            "dependencies": dependencies.health(),
        }


def build(
    config: Config,
    clock: Callable[[], int] = wall_clock,
    address: Callable[[Head], Head] | None = None,
    sink: Sink | None = None,
) -> Process:
    """Assemble the gateway of a config. Raises ConfigError, PolicyError or StateError.

    clock (µs since 1970) and address (the head as the host should have seen it) are for tests that replay traffic. sink: told
    of every settled judgement, besides the trail.
    """
    assembly = assemble(config, clock, sink)
    pools = pools_of(config, assembly.registry, seconds)
    trusted = config.settings.get("client_address", {}).get("trusted_proxies", ())
    service = Service(assembly.door, pools, address, Waits.of(config.waits), Networks(trusted))
    for pool in pools:
        assembly.gate.dependencies.watch(Dependency.UPSTREAM, pool.where, pool.breaker)
    process = Process(assembly, pools, Reloader(assembly.gate, config.policy, clock, config.source), service)
    judged = PolicyMiddleware(Proxy(process.pools), door=assembly.door, address=address)
    process.release = judged.release
    if config.admin is not None:
        process.halts = HaltFile(config.admin.halt, assembly.gate.obey)
        process.halts.look(clock())
    health = Health(process)
    process.app = Starlette(
        routes=[Route("/healthz", health), Route("/readyz", health), Mount("/", judged)], lifespan=lambda _: _lifespan(process)
    )
    return process


class Health:
    """Answers /healthz (200 while the process serves) and /readyz (503 while anything is degraded).

    Everybody who reaches the gateway may ask, so details are told only where that is this machine, and no admin listener is set
    up that has them.
    """

    def __init__(self, process: Process) -> None:
        self.process, config = process, process.assembly.config
        self.open = config.admin is None and is_local(config.host or "localhost")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.process.assembly.door.refresher.tick()  # type: ignore[union-attr]
        await self.process.probe()
        health = self.process.health() | {"tasks": len(asyncio.all_tasks())}
        if not self.open:
            health = {name: health[name] for name in ("status", "ready")}
        ready = scope["path"] != "/readyz" or health["ready"]
        body = json.dumps(health).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if ready else 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _lifespan(process: Process) -> AsyncIterator[None]:
    await process.pools.open()
    _listen_for_reload(process)
    metering = process.metering = Metering(process)
    every = process.assembly.config.watch / SECOND
    watching = [asyncio.ensure_future(process.reloader.watch(every))] if every else []
    if process.halts is not None:
        watching.append(asyncio.ensure_future(_obey(process.halts, process.assembly.door.clock)))
    try:
        yield
    finally:
        for watch in watching:
            watch.cancel()
        await asyncio.to_thread(metering.close)
        await process.pools.close()
        if (lookup := process.assembly.registry.lookup) is not None:
            await lookup.close()
        close = getattr(process.gate.state, "close", None)
        if close is not None:
            await close()
        await asyncio.to_thread(process.trail.close)


async def _obey(halts: HaltFile, clock: Callable[[], int]) -> None:
    """Look every second whether a halt was ordered, here or of another process, or came to its end."""
    while True:
        halts.look(clock())
        await asyncio.sleep(1)


def _listen_for_reload(process: Process) -> None:
    """Have SIGHUP load the policy again, where there is such a signal and this thread is the one that gets it."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, process.reloader.ask)
