"""From settings to a working door: registry, policy, state, gate, trail; and what has to happen beside the requests."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from gateway.asking import RemoteState
from gateway.audit.content import ContentSettings
from gateway.audit.counted import Counted
from gateway.audit.trail import Trail
from gateway.config import Config, StateSettings, default_config, load_config
from gateway.decision import Mode
from gateway.dependencies import Dependencies
from gateway.errors import ConfigError, Place, Problem, did_you_mean
from gateway.facts import Answer, Cause
from gateway.failing import Dependency, Fail, FailModes
from gateway.gate import Gate, Sink
from gateway.incidents import report
from gateway.judgement import Judgement
from gateway.language.compile import load
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.state.memory import MemoryState
from gateway.state.share import Share
from gateway.values import SECOND
from gateway.web.exchange import Door
from gateway.web.intake import Intake
from gateway.web.renewing import Renewing

REFRESH: Final = SECOND
STINT: Final = 500  # µs of work
REST: Final = 0.001  # seconds between two stints
T = TypeVar("T")


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def timer() -> int:
    """A monotonic clock in microseconds, for latencies."""
    return time.perf_counter_ns() // 1_000


def seconds() -> float:
    """A monotonic clock in seconds, for how long an upstream is left alone."""
    return time.monotonic()


class Refresher:
    """Has changed files read again, off the loop, at most once in REFRESH µs while requests come."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._last = timer()
        self._task: asyncio.Future[None] | None = None

    def tick(self) -> None:
        """Look whether it is time; costs nothing when it is not."""
        now = timer()
        if now - self._last >= REFRESH and (self._task is None or self._task.done()):
            self._last = now
            self._task = asyncio.ensure_future(asyncio.to_thread(self._refresh))

    def _refresh(self) -> None:
        for thing in self._registry.watched.values():
            try:
                politely(thing.refresh)
            except Exception as error:  # a provider may be third-party code: what it does must not keep the others from theirs
                report("file.not-read", "a changed file was not read again", error=error)


def politely(work: Callable[[], T]) -> T:
    """Do a piece of work in this thread in stints of STINT µs with rests in between, wherever in it a function is called.

    Threads of one Python process take turns, and a turn lasts until the other asks for it and has waited; a thread that simply
    worked would take every second turn. So it rests after each stint, and the event loop finds the interpreter free.
    """
    since = timer()

    def breathe(*event: object) -> None:
        nonlocal since
        if timer() - since >= STINT:
            time.sleep(REST)
            since = timer()

    sys.setprofile(breathe)  # of this thread only
    try:
        return work()
    finally:
        sys.setprofile(None)


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything that stands behind a door. trail: None where no records are kept and no traces exported."""

    config: Config
    registry: Registry
    gate: Gate
    trail: Trail | None
    door: Door
    counted: Counted


def assemble(config: Config, clock: Callable[[], int] = wall_clock, sink: Sink | None = None) -> Assembly:
    """The parts of a config. Raises ConfigError, PolicyError or StateError; opens nothing before it knows they fit."""
    registry = load_registry({**config.settings, "clock": clock})
    known_protocols(config, registry)
    policy, state = load(config.policy, registry.signals), open_state(config.state)
    if registry.lookup is not None:
        registry.lookup.start(timer)
    trail = _open_trail(config)
    counted = Counted()
    sinks: list[Sink] = [counted, *(found for found in (trail, sink) if found is not None)]
    share = Share(config.state.replicas or 1) if _degrades(config, state) else None
    gate = Gate(
        policy, registry.signals, state=state, mode=config.mode, fail=config.fail, share=share, sink=_all(sinks),
        dependencies=_watched(config, registry, state), tell=_set_aside,
    )  # fmt: skip
    Renewing(gate, clock)
    window = min(config.largest_body, config.inspect_window)
    intake = Intake(registry, config.hash_key, window)
    link = config.settings.get("declare", {}).get("link", "")
    asked = frozenset(name for name, upstream in config.upstreams.items() if upstream.ask_usage)
    content = _content(config, registry)
    door = Door(intake, gate, clock, timer, config.largest_body, config.keep, Refresher(registry), link, window, asked, content)
    if trail is not None:
        for name, where, breaker in trail.breakers():
            gate.dependencies.watch(name, where, breaker)
        gate.dependencies.bound(lambda: trail.full)
    return Assembly(config, registry, gate, trail, door, counted)


def _content(config: Config, registry: Registry) -> ContentSettings:
    """Of which routes content is captured. Raises ConfigError for one that no protocol has."""
    known = sorted({route.name for marks in registry.routes.values() for _, route in marks.values()})
    wrong = [name for name in config.audit.content.routes if name not in known]
    problems = [
        Problem(
            Place(config.source),
            f"audit.content.routes: no protocol has a route '{name}'",
            did_you_mean(name, known) or "known: " + ", ".join(known),
        )
        for name in wrong
    ]
    if problems:
        raise ConfigError(problems)
    return config.audit.content


def _degrades(config: Config, state: MemoryState | RemoteState) -> bool:
    return not state.local and config.fail.of(Dependency.STATE) is Fail.DEGRADE


def _watched(config: Config, registry: Registry, state: MemoryState | RemoteState) -> Dependencies:
    """What the gate depends on, of all that is there before it; upstreams, records and traces are added where they are."""
    found = Dependencies(config.fail)
    for name, where, breaker, check in registry.depended:
        found.watch(name, where, breaker)
        if check is not None:
            found.check(name, check)
    if not isinstance(state, MemoryState):
        found.watch(Dependency.STATE, state.where, state.breaker)
    return found


def assemble_inside(
    policy: str | Path | Sequence[str | Path] | None,
    file: str | Path | None,
    mode: Mode | None,
    sink: Sink | None,
    websockets: Fail | None = None,
) -> Assembly:
    """The parts for a middleware in somebody else's app, where unrecognised routes are the app's own and pass."""
    config = load_config(Path(file), needs_upstreams=False) if file is not None else default_config()
    named = [policy] if isinstance(policy, (str, Path)) else list(policy or ())
    declared = {} if websockets is None else {Cause.WEBSOCKET: websockets}
    passing = FailModes({**config.fail.causes, Cause.ROUTE_UNRECOGNISED: Fail.OPEN, **declared}, config.fail.dependencies)
    paths = tuple(Path(path) for path in named) or config.policy
    return assemble(replace(config, policy=paths, mode=mode or config.mode, fail=passing, upstreams={}), sink=sink)


def known_protocols(config: Config, registry: Registry) -> None:
    """Raises ConfigError when an upstream is set up for a protocol that no plugin brings."""
    known = list(registry.dialects)
    unknown = [name for name in config.upstreams if name not in known]
    if unknown:
        place = Place(config.source)
        raise ConfigError(
            [Problem(place, f"unknown protocol '{name}' in upstreams", did_you_mean(name, known)) for name in unknown]
        )


def open_state(settings: StateSettings) -> MemoryState | RemoteState:
    """State by its URI: memory://, or redis://… Raises ConfigError or StateError."""
    if settings.url.startswith("memory:"):
        return MemoryState()
    try:
        from gateway.state.redis import RedisState  # only needed, and only installed, where Redis is used
    except ModuleNotFoundError:
        problem = Problem(Place("state.url"), "needs the redis package", "install sluicegate[redis], or use memory://")
        raise ConfigError([problem]) from None
    return RedisState(settings.url, timeout=settings.timeout / SECOND, prefix=settings.prefix)


def _open_trail(config: Config) -> Trail | None:
    if config.records is None and config.otlp is None:
        return None
    seals, spans = config.audit.hides(config.hash_key), None
    if config.otlp is not None:
        from gateway.audit.spans import OtelSpans  # heavy to import, and only needed where traces are exported

        spans = OtelSpans(config.otlp, _servers(config), dropping=config.fail.of(Dependency.OTLP) is Fail.OPEN)
    return Trail(config.records, spans, settings=config.audit.ledger(), seals=seals)


def _servers(config: Config) -> dict[str, tuple[str, int]]:
    """Host and port of the upstream of each protocol that has but one."""
    single = {name: urlsplit(upstream.url) for name, upstream in config.upstreams.items() if len(upstream.urls) == 1}
    usual = {"http": 80, "https": 443}
    return {name: (url.hostname or "", url.port or usual[url.scheme]) for name, url in single.items()}


def _set_aside(text: str) -> None:
    report("rule.set-aside", text)


def _all(sinks: Sequence[Sink]) -> Sink | None:
    def every(judgement: Judgement, answer: Answer) -> None:
        for sink in sinks:
            sink(judgement, answer)

    return sinks[0] if len(sinks) == 1 else every if sinks else None
