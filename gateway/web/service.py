"""What all client connections of a process share: how many there may be, how long each is waited for, and who looks after that.

One look over all connections per second closes those whose client is awaited for too long, so that a request costs no timer.
A client that sends or takes a drop now and then is none that is busy: beyond the waits it has to keep a pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.addresses import Networks, is_ipv4, number, written
from gateway.values import SECOND
from gateway.web.exchange import Door
from gateway.web.heads import Heads
from gateway.web.intake import Head
from gateway.web.pools import Pools

if TYPE_CHECKING:
    from gateway.web.lane import Lane

MOST: Final = 10_000
LEAST: Final = 256
IDLE: Final = 75.0
_LOOKS: Final = 4
_LONGEST_LOOK: Final = 1.0
_SHORTEST_LOOK: Final = 0.05
_TIMES: Final = ("head", "body", "idle", "take")
_SITE: Final = ~(2**64 - 1)  # what of an IPv6 address is one customer's


@dataclass(frozen=True, slots=True)
class Waits:
    """How long clients are waited for, in seconds, late by at most a quarter, or one second; and how many there may be.

    head: for a request to begin on a new connection, and from its first byte to the end of its head; body: between two pieces
    of a body; idle: for the next request on a connection that has served one (many clients keep theirs for 5 s or more, and
    would meet its end were it closed about then); take: for a client that takes nothing of what is sent to it. least: bytes a
    second that a client sends or takes once those are over (0: any pace). connections: open at once, of all clients;
    per_address: of one address, or one /64 network of IPv6 (0: any number).
    """

    head: float = 30.0
    body: float = 120.0
    idle: float = IDLE
    take: float = 300.0
    least: int = LEAST
    connections: int = MOST
    per_address: int = 0

    @classmethod
    def of(cls, clients: Mapping[str, int]) -> Waits:
        """Those of the section `clients` of gateway.yaml, whose times are µs."""
        return cls(**{key: value / SECOND if key in _TIMES else value for key, value in clients.items()})  # type: ignore[arg-type]


@dataclass
class Service:
    """What all connections of a process share.

    address: the head as the host should have seen it, for tests that replay. trusted: networks of proxies, which open the
    connections of many. turned_away: connections that were one too many.
    """

    door: Door
    pools: Pools
    address: Callable[[Head], Head] | None = None
    waits: Waits = field(default_factory=Waits)
    trusted: Networks = field(default_factory=Networks)
    turned_away: int = 0

    def __post_init__(self) -> None:
        waits = self.waits
        self._pause = min(_LONGEST_LOOK, max(_SHORTEST_LOOK, min(waits.head, waits.body, waits.take) / _LOOKS))
        self.connections: set[Lane] = set()
        self.heads = Heads()
        self._looking: asyncio.TimerHandle | None = None
        self._sites: dict[str, int] = {}

    def watch(self, lane: Lane) -> None:
        """Close this connection when its client is awaited for too long."""
        self.connections.add(lane)
        if self._looking is None:
            self._looking = lane.loop.call_later(self._pause, self._look, lane.loop)

    def forget(self, lane: Lane) -> None:
        """A connection is gone."""
        self.connections.discard(lane)
        self._leave(lane)

    def admits(self, lane: Lane) -> bool:
        """Whether there may be this connection too, of the caller that it has just turned out to be of."""
        self._leave(lane)
        waits = self.waits
        lane.site = _site(lane.client[0], self.trusted) if waits.per_address and lane.client else ""
        full = waits.connections and len(self.connections) >= waits.connections and lane not in self.connections
        there = self._sites.get(lane.site, 0)
        if full or (lane.site and there >= waits.per_address):
            lane.site = ""
            self.turned_away += 1
            return False
        if lane.site:
            self._sites[lane.site] = there + 1
        return True

    def stop(self) -> None:
        """Wait no more for clients whose turn it is to send, and hold no request back."""
        for lane in list(self.connections):
            lane.stop()
            if lane.waits:
                lane.transport.close()

    def health(self) -> dict[str, object]:
        """connections: those open now, and how many were one too many."""
        return {"connections": len(self.connections), "turned_away": self.turned_away}

    def _leave(self, lane: Lane) -> None:
        site, lane.site = lane.site, ""
        if site:
            left = self._sites.pop(site) - 1
            if left:
                self._sites[site] = left

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = loop.call_later(self._pause, self._look, loop) if self.connections else None
        now = loop.time()
        self.heads.age(now)
        for lane in list(self.connections):
            if lane.stuck(now):
                lane.transport.abort()
            elif lane.deadline and now > lane.deadline and lane.waits:
                lane.transport.close()


def _site(address: str, trusted: Networks) -> str:
    """Whose connections are counted together; empty for a proxy, which opens those of many."""
    found = number(address)
    if found is None or found in trusted:
        return ""
    return written(found if is_ipv4(found) else found & _SITE)
