"""The state of a replay in columns: what windows read comes from columns, what limits hold from the state itself.

With it the gate judges one exchange as it always does; nothing is decided by other code.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.columns.values import Ints
from gateway.columns.windows import Reading
from gateway.decision import Room
from gateway.state.limits import MAX_KEYS
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply, Take

Readings = Mapping[str, Reading]


class ColumnState(MemoryState):
    """Answers looks at windows, by the digest of the window, for the row it was told to stand at.

    trying: limits are only asked for, and have room; `took` says whether they were.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        super().__init__(max_keys)
        self.trying = self.took = False
        self._columns: dict[str, list[object]] = {}
        self._row = 0

    def load(self, readings: Readings, rows: Ints) -> None:
        """Have these rows at hand, to be stood at by their place here."""
        self._columns = {digest: reading.at(rows) for digest, reading in readings.items()}

    def stand(self, row: int) -> None:
        """Answer for this row from now on."""
        self._row, self.took = row, False

    def apply(self, batch: Batch) -> Reply:
        columns, row = self._columns, self._row
        readings = [columns[window.digest][row] if window.digest in columns else 0 for window, _, _ in batch.sights]
        self.took = self.took or bool(batch.takes or batch.shadow_takes)
        if self.trying:
            return Reply(readings, _roomy(batch.takes), _roomy(batch.shadow_takes))  # type: ignore[arg-type]
        for take, at in batch.returns:
            (self.shadow_limits if take.limit.shadow else self.limits).give_back(take, at, max(batch.at, batch.over))
        rooms = self.limits.take(batch.takes, batch.at) if batch.takes else []
        shadow = self.shadow_limits.take(batch.shadow_takes, batch.at) if batch.shadow_takes else []
        return Reply(readings, rooms, shadow)  # type: ignore[arg-type]


def _roomy(takes: list[Take]) -> list[Room]:
    return [Room(take.limit.id, True, take.limit.amount, 0, take.limit.shadow) for take in takes]
