"""Whose look-up goes out next: a directory has few connections, and strangers must not take them all.

Three kinds of look-ups share the slots: of credentials that were known before, renewals of those in the background, and of
credentials that nobody has seen. A part of the slots is kept for each kind, so that keys made up at random hold up neither
the accounts that are known nor the news that one of them was taken out. What waits does so in turns between networks (fair
queueing, as in Nagle, RFC 970): one network that asks for very many waits for itself. Where too many wait, the newest of
whichever network has most waiting is turned away. Nothing here reads a clock; who waits brings his own time-out.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a look-up is for. Whoever stands first is let in first."""

    KNOWN = "known"
    RENEWAL = "renewal"
    STRANGE = "strange"


_SHARE: Final = {Kind.KNOWN: 4, Kind.RENEWAL: 8, Kind.STRANGE: 8}  # of how many slots one is kept


class FullError(Exception):
    """Too many wait already. It stays within this room."""


Queues = dict[str, dict[asyncio.Future[None], None]]


class Lanes:
    """slots: look-ups under way at once; most: how many of a kind may wait."""

    def __init__(self, slots: int, most: int) -> None:
        self._free, self._most = slots, most
        self._kept = {kind: slots // share for kind, share in _SHARE.items()}
        self._under_way = dict.fromkeys(Kind, 0)
        self._waiting: dict[Kind, Queues] = {kind: {} for kind in Kind}
        self._count = dict.fromkeys(Kind, 0)

    async def enter(self, kind: Kind, network: str = "") -> None:
        """Wait for a slot; who has one must `leave`. Raises FullError. May be cancelled while it waits."""
        if self._fits(kind):
            self._take(kind)
            return
        turn = self._queued(kind, network)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(kind)  # it was let in and cancelled in the same moment
            raise
        finally:
            self._unqueued(kind, network, turn)

    def leave(self, kind: Kind) -> None:
        """Give the slot back, to whoever waits for it."""
        self._free += 1
        self._under_way[kind] -= 1
        for other in Kind:
            while self._fits(other) and (turn := self._next(other)) is not None:
                self._take(other)
                turn.set_result(None)

    def _fits(self, kind: Kind) -> bool:
        """Whether enough is left for the other kinds when this one takes a slot."""
        others = sum(max(0, self._kept[other] - self._under_way[other]) for other in Kind if other is not kind)
        return self._free > others

    def _take(self, kind: Kind) -> None:
        self._free -= 1
        self._under_way[kind] += 1

    def _queued(self, kind: Kind, network: str) -> asyncio.Future[None]:
        queues = self._waiting[kind]
        if self._count[kind] >= self._most:
            longest = max(queues, key=lambda name: len(queues[name]))
            if len(queues[longest]) <= len(queues.get(network, ())):
                raise FullError
            last = next(reversed(queues[longest]))
            self._unqueued(kind, longest, last)
            if not last.done():
                last.set_exception(FullError())
        turn = asyncio.get_running_loop().create_future()
        queues.setdefault(network, {})[turn] = None
        self._count[kind] += 1
        return turn

    def _next(self, kind: Kind) -> asyncio.Future[None] | None:
        """The first of the network whose turn it is, which then stands behind the others; None where nobody waits."""
        queues = self._waiting[kind]
        while queues:
            network = next(iter(queues))
            turn = next(iter(queues[network]))
            self._unqueued(kind, network, turn)
            if network in queues:
                queues[network] = queues.pop(network)
            if not turn.done():  # cancelled, and not yet told
                return turn
        return None

    def _unqueued(self, kind: Kind, network: str, turn: asyncio.Future[None]) -> None:
        queues = self._waiting[kind]
        if turn in queues.get(network, ()):
            del queues[network][turn]
            self._count[kind] -= 1
            if not queues[network]:
                del queues[network]
