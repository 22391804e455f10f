"""What is owed to shared state: returns that it did not take because it did not answer.

Only what may safely be done twice is kept, because nobody knows whether the lost batch was done. A lease is given back by
its owner's name, so any number of times. Use beyond what was held back, counted twice, makes a limit admit too little; not
counted, too much: it is kept. Units to be given back would make room twice and are not kept: they stay taken until they leave
their window. Leases renewed are not kept either: the next look renews them (`held`).

What is owed rides on the batches that follow, so it costs no round trip, and waits while the state does not answer: nothing is
sent a second time before an answer has shown that whatever an earlier, lost batch had to do is done or never will be (a Redis
that stalled works off what lies in its sockets before it answers anything newer). Leases that came back with that first answer
are given back once more after it, for the same reason.

So what holds, of a state that fails for a while and of the limits it kept:

- requests, tokens and money never admit more than they say: a take that was perhaps counted stays counted. Too little is
  admitted until it has left the window: at most what the lost batches asked for, and of use beyond what was held back as much
  again for each failure that it met;
- a lease is never lost to others for longer than its period, and is free as soon as the state answers twice;
- what was not counted at all: requests let pass by `fail: {state: open}`, and what is still owed when a process is killed or
  when more than `MOST` wait: then the oldest is let go, which is a lease that ends by itself, or use that is never counted.
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
        if not self._answers:
            return []
        riders = [self._waiting.popleft() for _ in range(min(len(self._waiting), RIDERS))]
        batch.returns = [*riders, *batch.returns]
        return riders

    def answered(self, batch: Batch) -> None:
        """The state took a batch."""
        if not self._answers:
            self._waiting.extend(_leases(batch.returns))
        self._answers = True

    def lost(self, batch: Batch) -> None:
        """Nobody knows whether the state took a batch."""
        self._answers = False
        self._waiting.extend(
            (take, at) for take, at in batch.returns if (take.cost > 0) is (take.limit.unit is Unit.CONCURRENT)
        )


def leases(batch: Batch) -> list[Take]:
    """The leases that a batch takes: what may be given back even though nobody knows whether they were taken."""
    return [take for take in (*batch.takes, *batch.shadow_takes) if take.limit.unit is Unit.CONCURRENT]


def _leases(returns: Iterable[Return]) -> list[Return]:
    return [(take, at) for take, at in returns if take.limit.unit is Unit.CONCURRENT and take.cost > 0]
