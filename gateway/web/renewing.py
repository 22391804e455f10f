"""Renews the leases of exchanges that are under way, for as long as there are any: one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.gate import Gate
from gateway.values import SECOND


class Renewing:
    """Has a gate's leases renewed in time. clock: µs since 1970."""

    def __init__(self, gate: Gate, clock: Callable[[], int]) -> None:
        self._gate, self._clock = gate, clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        gate.holding = self.wake

    def wake(self, within: int) -> None:
        """Look within so many µs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # judged in a thread of its own: the next one in this loop wakes us, in good time
            return
        when = loop.time() + within / SECOND
        if self._timer is not None and loop is self._loop:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._loop, self._timer = loop, loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        if pause := await self._gate.renew_remote(self._clock()):
            self.wake(pause)
