"""This process's own share of every limit, for as long as shared state fails and that is declared: `fail: {state: degrade}`.

A share is amount // replicas, so that all processes together never admit more than a limit says while each counts for itself;
a limit smaller than the replicas admits nothing. Shares begin empty and know nothing of what shared state counted before, nor
does shared state hear of them: what one outage admits is at most one amount for each window it touches, besides what was
admitted before it. Takes from a share say so (`Take.own`) and come back to it, whenever that is. Windows are not counted here:
what rules count is unknown meanwhile, because a count that begins in the middle would be wrong and look right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply, Take


class Share:
    """The limits of one of so many replicas. taken: takes that it admitted; refused: those it did not."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.taken = self.refused = 0
        self._state = MemoryState()

    def take(self, batch: Batch) -> tuple[Batch, Reply]:
        """The takes of a batch that shared state did not answer, as they are asked of the share, and its answer."""
        own = Batch(batch.at, takes=self._own(batch.takes), shadow_takes=self._own(batch.shadow_takes))
        reply = self._state.apply(own)
        if all(room.allowed for room in reply.rooms):
            self.taken += len(own.takes)
        else:
            self.refused += 1
        return own, reply

    def keep(self, batch: Batch) -> Batch:
        """Give back what came from here; the rest of a batch, which is shared state's."""
        mine = [pair for pair in batch.returns if pair[0].own]
        if not mine:
            return batch
        self._state.apply(Batch(batch.at, returns=mine, over=batch.over))
        return replace(batch, returns=[pair for pair in batch.returns if not pair[0].own])

    def health(self) -> dict[str, object]:
        """Among how many a limit is shared, and what was taken and refused here."""
        return {"replicas": self.replicas, "taken": self.taken, "refused": self.refused}

    def _own(self, takes: Iterable[Take]) -> list[Take]:
        return [replace(one, limit=replace(one.limit, amount=one.limit.amount // self.replicas), own=True) for one in takes]
