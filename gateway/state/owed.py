"""What is owed to shared state: returns that it did not take because it did not answer.

Only what may safely be done twice is kept, because nobody knows whether the lost batch was done. A lease is given back by
its owner's name, so any number of times. Use beyond what was held back, counted twice, makes a limit admit too little, so it
is tried once more and then let go. Units to be given back would make room twice and are not kept: they stay taken until they
leave their window.

What is owed rides on the batches that follow, so it costs no round trip. While the state does not answer, leases stay owed,
and they ride once more on a batch after the first that is answered: the lost batch may have been done as late as that, where a
stalled Redis still had it. A lease that never gets there (this process ends, or more than `MOST` are owed) ends by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.state.operations import Batch, Take, Unit

MOST: Final = 10_000
RIDERS: Final = 64
Return = tuple[Take, int]


class Owed:
    """Returns that wait for a batch to ride on."""

    def __init__(self) -> None:
        self._waiting: deque[Return] = deque(maxlen=MOST)
        self._answers = True

    def __len__(self) -> int:
        return len(self._waiting)

    def board(self, batch: Batch) -> list[Return]:
        """Put some of what is owed on a batch, and say which: `answered` or `lost` wants to know them."""
        riders = [self._waiting.popleft() for _ in range(min(len(self._waiting), RIDERS))]
        batch.returns = [*riders, *batch.returns]
        return riders

    def answered(self, riders: list[Return]) -> None:
        """The state took a batch with these riders."""
        if not self._answers:
            self._waiting.extend(_leases(riders))
        self._answers = True

    def lost(self, batch: Batch, riders: list[Return]) -> None:
        """Nobody knows whether the state took a batch with these riders."""
        self._answers = False
        own = batch.returns[len(riders) :]
        self._waiting.extend([*_leases(riders), *_leases(own), *((take, at) for take, at in own if take.cost < 0)])


def leases(batch: Batch) -> list[Take]:
    """The leases that a batch takes: what may be given back even though nobody knows whether they were taken."""
    return [take for take in (*batch.takes, *batch.shadow_takes) if take.limit.unit is Unit.CONCURRENT]


def _leases(returns: Iterable[Return]) -> list[Return]:
    return [(take, at) for take, at in returns if take.limit.unit is Unit.CONCURRENT]
