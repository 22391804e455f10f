"""The upstreams of a process, as gateway.yaml names them: by protocol, one or several with their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import aiohttp

from gateway.config import Config
from gateway.errors import ConfigError, Place, Problem, did_you_mean
from gateway.failing import Dependency, Fail
from gateway.registry import Registry
from gateway.web.balance import Group
from gateway.web.link import Broke
from gateway.web.pool import Pool, Upstream


class Pools:
    """The upstreams of a process, by protocol; where a protocol has several, with their weights. Raises ConfigError.

    now: seconds, of any clock that does not go back. mode: what is declared for those that fail.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream | Sequence[tuple[Upstream, int]]],
        now: Callable[[], float],
        mode: Fail = Fail.DEGRADE,
    ) -> None:
        self._single: dict[str, Pool] = {}
        self._groups: dict[str, Group] = {}
        self._all: list[Pool] = []
        for name, found in upstreams.items():
            weighted = [(found, 1)] if isinstance(found, Upstream) else found
            members = [(Pool(upstream, name, now), weight) for upstream, weight in weighted]
            self._all += [pool for pool, _ in members]
            if len(members) == 1:
                self._single[name] = members[0][0]
            else:
                self._groups[name] = Group(members, mode)
        self._closed = mode is Fail.CLOSED
        picks = self._groups or self._closed
        self.get: Callable[[str], Pool | Broke | None] = self._picked if picks else self._single.get
        self._connector: aiohttp.TCPConnector | None = None

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._all)

    def _picked(self, name: str) -> Pool | Broke | None:
        """Whom to ask, or why nobody is asked."""
        if (group := self._groups.get(name)) is not None:
            return group.pick() or Broke.RESTING
        pool = self._single.get(name)
        return Broke.RESTING if self._closed and pool is not None and not pool.breaker.admits() else pool

    async def open(self) -> None:
        """Needs a running loop."""
        self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
        for pool in self._all:
            pool.open(self._connector)

    def problems(self) -> dict[str, str]:
        """Why the last try to connect failed, by protocol, where it did; of several upstreams, of each."""
        found: dict[str, str] = {}
        for pool in self._all:
            if pool.problem:
                found[pool.name] = "; ".join(filter(None, (found.get(pool.name), pool.problem)))
        return found

    def health(self) -> dict[str, object]:
        """connections: open to all upstreams, those idle of them, and how many requests wait for one."""
        counts = [pool.counts for pool in self._all]
        told = dict(zip(("connections", "idle", "waiting"), map(sum, zip(*counts, strict=True)), strict=True)) if counts else {}
        return {**told, **{name: group.health() for name, group in self._groups.items()}}

    def stop(self) -> None:
        """Ask nobody any more, and tell those who wait for an answer that there will be none."""
        for pool in self._all:
            pool.close()

    async def close(self) -> None:
        self.stop()
        if self._connector is not None:
            await self._connector.close()


def pools_of(config: Config, registry: Registry, now: Callable[[], float]) -> Pools:
    """The upstreams of a config. Raises ConfigError, also for time-outs of a route that its protocol does not have."""
    problems: list[Problem] = []
    found: dict[str, list[tuple[Upstream, int]]] = {}
    for name, up in config.upstreams.items():
        ways = [way for marks in registry.routes.values() for way in marks.values()]
        known = sorted({route.name for dialect, route in ways if dialect.name == name})
        for route in set(up.routes) - set(known):
            message = f"upstreams.{name}.routes: protocol '{name}' has no route '{route}'"
            problems.append(Problem(Place(config.source), message, did_you_mean(route, known) or "known: " + ", ".join(known)))
        found[name] = [
            (Upstream(url, up.connect, up.read, up.total, up.proxy, up.connections, up.ca_file, up.routes), weight)
            for url, weight in up.urls
        ]
    if problems:
        raise ConfigError(problems)
    return Pools(found, now, config.fail.of(Dependency.UPSTREAM))
