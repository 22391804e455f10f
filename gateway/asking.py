"""How shared state is asked: what is owed rides along, what fails is counted, and what came from a share goes back to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.breaker import Breaker
from gateway.errors import StateError
from gateway.returns import Replied
from gateway.state.operations import Batch, Reply
from gateway.state.owed import Owed
from gateway.state.share import Share


class RemoteState(Protocol):
    """State that is not in this process: a batch is awaited. Raises StateError when it does not answer.

    `later` may keep a batch for some milliseconds, so that it goes with another one; `apply` does not wait.
    """

    local: bool

    @property
    def where(self) -> str: ...

    @property
    def breaker(self) -> Breaker: ...

    async def apply(self, batch: Batch) -> Reply: ...

    async def later(self, batch: Batch) -> Reply: ...

    def health(self) -> dict[str, object]: ...


class Asking:
    """Asks shared state. share: this process's own share of limits, where that is declared. failures: batches not answered."""

    def __init__(self, share: Share | None = None) -> None:
        self.share = share
        self.failures = 0
        self._owed = Owed()
        self._releasing: set[asyncio.Future[Replied]] = set()

    @property
    def owed(self) -> int:
        """Returns that wait for shared state to answer."""
        return len(self._owed)

    async def ask(self, carry: Callable[[Batch], Awaitable[Reply]], batch: Batch) -> Replied:
        """The answer to a batch, or the StateError in its place."""
        if self.share is not None and batch.returns and not (batch := self.share.keep(batch)):
            return Reply()
        self._owed.board(batch)
        try:
            reply = await carry(batch)
        except StateError as error:
            self.failures += 1
            self._owed.lost(batch)
            return error
        except BaseException:  # cancelled on the way: what it gives back is owed as after a time-out
            self._owed.lost(batch)
            raise
        self._owed.answered(batch)
        return reply

    async def abandon(self, state: RemoteState, batch: Batch) -> None:
        """Give back what an exchange took that ends while it is judged, however often it is cancelled."""
        if batch:
            release = asyncio.ensure_future(self.ask(state.apply, batch))
            self._releasing.add(release)
            release.add_done_callback(self._releasing.discard)
            with contextlib.suppress(asyncio.CancelledError):  # the first one goes on to whoever asked
                await asyncio.shield(release)
