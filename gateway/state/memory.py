"""State in this process: the default. Answers a batch in place, as a plain function call."""

from __future__ import annotations

from gateway.state.cells import Reading
from gateway.state.limits import MAX_KEYS, Limits
from gateway.state.operations import Batch, Reply, Sight, Window
from gateway.state.recalled import Recalled
from gateway.state.rows import Rows
from gateway.state.windows import Table


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
        self._rows = Rows()
        self._tables: dict[str, Table] = {}

    def apply(self, batch: Batch) -> Reply:
        """Every operation of the batch, at the batch's time."""
        for take, at in batch.returns:
            (self.shadow_limits if take.limit.shadow else self.limits).give_back(take, at, max(batch.at, batch.over))
        readings = self._seen(batch.sights, batch.at) if batch.sights else []
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
        tables = self._tables.values()
        return {
            "kind": "memory",
            "keys": sum(len(table) for table in tables) + len(self.limits) + len(self.shadow_limits),
            "evicted": sum(table.evicted for table in tables),
            "crowded": sum(table.crowded for table in tables),
            "shared": self.limits.shared + self.shadow_limits.shared,
            "recalled": {"keys": len(self.recalled), "let_go": self.recalled.let_go},
        }

    def _seen(self, sights: list[Sight], at: int) -> list[Reading]:
        """The readings of all sights. The row of a key is looked for once: dozens of sights share a few key objects."""
        rows, tables, readings = self._rows, self._tables, list[Reading]()
        found: dict[int, int] = {}
        absent: set[int] = set()
        made, released = rows.made, rows.released
        for window, key, value in sights:
            table = tables.get(window.digest)
            if table is None:
                table = self._table(window, at)
            if rows.made != made:
                absent.clear()
                made = rows.made
            if rows.released != released:  # by the last sight, or with a table that left: a row may be another key's now
                found.clear()
                absent.clear()
                released = rows.released
            name = id(key)
            row = found.get(name, -1)
            if row < 0 and name not in absent:
                row = rows.find(key)
                if row < 0:
                    absent.add(name)
                else:
                    found[name] = row
            readings.append(table.see(key, value, at, row))
        return readings

    def _table(self, window: Window, at: int) -> Table:
        table = self._tables.get(window.digest)
        if table is None:
            # a window that is new after a reload: the moment to let go of those that left with the old policy
            for digest in [digest for digest, other in self._tables.items() if other.forgotten(at)]:
                self._tables.pop(digest).close()
            table = self._tables[window.digest] = Table(window, self.max_keys, self._rows)
        return table
