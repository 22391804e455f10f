"""Names to things: signals, protocols and packs that plugins bring.

Bundled plugins come through the same door as third parties: a module with `register(registry, settings)`. They are
listed in one tuple; others announce themselves under the entry-point group `sluicegate.plugins`. A name brought twice
is an error at start-up; nothing is found by scanning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from gateway.breaker import Breaker
from gateway.errors import ConfigError, Place, Problem
from gateway.facts import LookedUp
from gateway.failing import Dependency
from gateway.protocol import Dialect, Route
from gateway.signals import Signal

BUNDLED = (
    "gateway.plugins.exchange",
    "gateway.plugins.identity",
    "gateway.plugins.address",
    "gateway.plugins.region",
    "gateway.plugins.client",
    "gateway.plugins.reseller",
    "gateway.plugins.prompt",
    "gateway.plugins.suites",
    "gateway.plugins.conversation",
    "gateway.plugins.workloads",
    "gateway.plugins.pace",
    "gateway.plugins.issued",
    "gateway.plugins.echo",
    "gateway.plugins.clusters",
    "gateway.plugins.protocols.openai",
    "gateway.plugins.protocols.anthropic",
    "gateway.plugins.protocols.gemini",
)
LAST = "gateway.plugins.protocols.declared"  # declares routes of protocols that others bring
GROUP = "sluicegate.plugins"

Settings = Mapping[str, Any]


class Watched(Protocol):
    """Something read from a file that may change while we run: a directory, a database."""

    def refresh(self) -> None:
        """Read again if the file changed; keep the last good one where that fails."""
        ...

    def health(self) -> dict[str, object]:
        """What to say of it in health: at least `problem`, empty when all is well."""
        ...


class Lookup(Protocol):
    """An account directory, as hosts ask it: before an exchange is judged, because judging does no I/O.

    Credentials are named by their keyed hash; a directory that is not in memory is asked by the SHA-256 of the key.
    """

    def start(self, timer: Callable[[], int]) -> None:
        """A host is about to judge by it: find out whether it can be asked, and have time pass, by a monotonic clock in µs.

        Until then time stands still, as in a replay. Raises ConfigError where it cannot be asked.
        """
        ...

    def find(self, credential: str) -> LookedUp | None:
        """What is known of a credential in memory; None where the directory must be asked."""
        ...

    async def fetch(self, credential: str, digest: bytes, network: str = "") -> LookedUp:
        """Ask the directory, for a caller of this network. Always answers, at the latest after its time-outs; never raises."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads. It may be asked again after that."""
        ...

    def health(self) -> dict[str, object]:
        """As `Watched` says."""
        ...


class Plugin(Protocol):
    """A module that brings signals or protocols. `settings` holds the sections of gateway.yaml by name."""

    def register(self, registry: Registry, settings: Settings) -> None: ...


class Registry:
    """Everything that can be named in a policy or met on the wire."""

    def __init__(self) -> None:
        self.signals: dict[str, Signal] = {}
        self.dialects: dict[str, Dialect] = {}
        self.routes: dict[tuple[str, str], dict[str, tuple[Dialect, Route]]] = {}
        self._patterns: dict[tuple[str, int], list[tuple[list[str], dict[str, tuple[Dialect, Route]]]]] = {}
        self.watched: dict[str, Watched] = {}
        self.lookup: Lookup | None = None
        self.depended: list[tuple[Dependency, str, Breaker, Callable[[int], str] | None]] = []

    def add_signals(self, signals: Iterable[Signal]) -> None:
        for signal in signals:
            if signal.name in self.signals:
                raise ConfigError([Problem(Place(signal.name), f"two plugins bring the signal '{signal.name}'")])
            self.signals[signal.name] = signal

    def add_dialect(self, dialect: Dialect) -> None:
        if dialect.name in self.dialects:
            raise ConfigError([Problem(Place(dialect.name), f"two plugins bring the protocol '{dialect.name}'")])
        self.dialects[dialect.name] = dialect
        for route in dialect.routes:
            self.add_route(dialect, route, Place(route.path))

    def add_route(self, dialect: Dialect, route: Route, place: Place) -> None:
        """Have a protocol's requests known by one more path. Raises ConfigError, at `place`, where it is known already."""
        marks = self.routes.setdefault((route.method, route.path), {})
        if route.marked_by in marks:
            rivals = f"'{marks[route.marked_by][0].name}' and '{dialect.name}'"
            raise ConfigError([Problem(place, f"the protocols {rivals} both claim this route", "each path is one protocol's")])
        marks[route.marked_by] = (dialect, route)
        segments = route.path.split("/")
        if "*" in segments[:-1] and len(marks) == 1:
            known = self._patterns.setdefault((route.method, len(segments)), [])
            known.append((segments, marks))
            known.sort(key=lambda pair: pair[0].count("*"))

    def add_lookup(self, lookup: Lookup) -> None:
        """Have credentials looked up here. Raises ConfigError where there is such a directory already."""
        if self.lookup is not None:
            raise ConfigError([Problem(Place("identity.directory"), "two plugins bring an account directory")])
        self.lookup = lookup

    def depends(self, name: Dependency, where: str, breaker: Breaker, check: Callable[[int], str] | None = None) -> None:
        """Say that something outside this process is needed. where: which one, without secrets; breaker: told what is met.

        check: why it fails at a time (µs), empty where it does not, for what no look-up finds out.
        """
        self.depended.append((name, where, breaker, check))

    def watch(self, name: str, thing: Watched) -> None:
        """Have a thing refreshed from time to time and shown in health."""
        self.watched[name] = thing

    def route(self, method: str, path: str, sent: Callable[[str], str | None]) -> tuple[Dialect, Route] | None:
        """The protocol and route of an exact method and path; nothing is normalised, so nothing can be disguised.

        Where the path names a verb behind the model (`…/models/large-2:generateContent`), the route's calls are of that model.

        `sent` gives the value of a header, for paths that two protocols share.
        """
        marks, model = self.routes.get((method, path)), ""
        if marks is None and (cut := path.rfind("/")) > 0:
            model, verb, _ = (last := path[cut + 1 :]).partition(":")
            marks = self.routes.get((method, f"{path[:cut]}/*{last[len(model) :]}")) if verb and model else None
            if marks is None:
                marks, model = self.routes.get((method, path[:cut] + "/*")) or self._matching(method, path), ""
        if marks is None:
            return None
        found = next((found for mark, found in marks.items() if mark and sent(mark) is not None), marks.get(""))
        return (found[0], found[1].of_model(model)) if found and model else found

    def _matching(self, method: str, path: str) -> dict[str, tuple[Dialect, Route]] | None:
        """Routes with `*` for a segment inside the path; one with fewer of them goes first."""
        segments = path.split("/")
        known = self._patterns.get((method, len(segments)), ())
        return next((marks for pattern, marks in known if _fits(pattern, segments)), None)


def _fits(pattern: list[str], segments: list[str]) -> bool:
    return all(said == one or (said == "*" and one != "") for said, one in zip(pattern, segments, strict=True))


def load(settings: Settings | None = None, extra: Iterable[Plugin] = ()) -> Registry:
    """A registry with the bundled plugins, the installed ones and `extra`."""
    registry = Registry()
    plugins: list[Any] = [import_module(name) for name in BUNDLED]
    plugins += [point.load() for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]
    plugins += [*extra, import_module(LAST)]
    for plugin in plugins:
        plugin.register(registry, settings or {})
    return registry
