"""State in this process: the default. Answers a batch in place, as a plain function call."""

from __future__ import annotations

from gateway.state.limits import MAX_KEYS, Limits
from gateway.state.operations import Batch, Reply
from gateway.state.recalled import Recalled
from gateway.state.tables import Tables


class MemoryState:
    """Windows and limits of one process. Several workers would each have one of their own: share Redis instead.

    max_keys: keys kept per window, and counters per period of limits. Past it a window pushes keys out (`windows` says which,
    and what then reads «at least N»); a limit never forgets, but lets new keys share counters (`limits`).
    """

    local = True

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.max_keys = max_keys
        self.limits = Limits(max_keys)
        self.shadow_limits = Limits(max_keys)  # apart, so that shadow keys never push a live one out
        self.recalled = Recalled()
        self._tables = Tables(max_keys)

    def apply(self, batch: Batch) -> Reply:
        """Every operation of the batch, at the batch's time."""
        for take, at in batch.returns:
            (self.shadow_limits if take.limit.shadow else self.limits).give_back(take, at, max(batch.at, batch.over))
        readings = self._tables.see(batch.sights, batch.at) if batch.sights else []
        rooms = self.limits.take(batch.takes, batch.at) if batch.takes else []
        shadow = self.shadow_limits.take(batch.shadow_takes, batch.at) if batch.shadow_takes else []
        recalled = [self.recalled.see(recall, batch.at) for recall in batch.recalls] if batch.recalls else []
        return Reply(readings, rooms, shadow, recalled)

    def health(self) -> dict[str, object]:
        """keys: of all windows and limits.

        evicted: keys that windows pushed out. crowded: windows that did so within their length, whose counts of new keys
        therefore read «at least N». shared: takes of limits on counters that several keys share. recalled: accounts whose
        answers left marks, and how many were let go to make room for others.
        """
        tables = list(self._tables)
        return {
            "kind": "memory",
            "keys": sum(len(table) for table in tables) + len(self.limits) + len(self.shadow_limits),
            "evicted": sum(table.evicted for table in tables),
            "crowded": sum(table.crowded for table in tables),
            "shared": self.limits.shared + self.shadow_limits.shared,
            "recalled": {"keys": len(self.recalled), "let_go": self.recalled.let_go},
        }
