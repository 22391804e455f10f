"""State in this process: the default. Answers a batch in place, as a plain function call."""

from __future__ import annotations

from gateway.state.limits import MAX_KEYS, Limits
from gateway.state.operations import Batch, Reply, Window
from gateway.state.windows import Table


class MemoryState:
    """Windows and limits of one process. Several workers would each have one of their own: share Redis instead.

    max_keys: keys kept per window and per period of limits; past it the ones used longest ago go.
    """

    local = True

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.max_keys = max_keys
        self.limits = Limits(max_keys)
        self.shadow_limits = Limits(max_keys)  # apart, so that shadow keys never push a live one out
        self._tables: dict[str, Table] = {}

    def apply(self, batch: Batch) -> Reply:
        """Every operation of the batch, at the batch's time."""
        for take, at in batch.returns:
            (self.shadow_limits if take.limit.shadow else self.limits).give_back(take, at, max(batch.at, batch.over))
        readings = [self._table(sight.window, batch.at).see(sight.key, sight.value, batch.at) for sight in batch.sights] \
            if batch.sights else []  # fmt: skip
        rooms = self.limits.take(batch.takes, batch.at) if batch.takes else []
        shadow = self.shadow_limits.take(batch.shadow_takes, batch.at) if batch.shadow_takes else []
        return Reply(readings, rooms, shadow)

    def health(self) -> dict[str, object]:
        tables = self._tables.values()
        return {
            "kind": "memory",
            "keys": sum(len(table) for table in tables) + len(self.limits) + len(self.shadow_limits),
            "evicted": sum(table.evicted for table in tables) + self.limits.evicted + self.shadow_limits.evicted,
        }

    def _table(self, window: Window, at: int) -> Table:
        table = self._tables.get(window.digest)
        if table is None:
            # a window that is new after a reload: the moment to let go of those that left with the old policy
            self._tables = {digest: kept for digest, kept in self._tables.items() if not kept.forgotten(at)}
            table = self._tables[window.digest] = Table(window, self.max_keys)
        return table
