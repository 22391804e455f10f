"""All windows of one process: which table counts a window, and the readings of everything that one exchange asks.

An exchange asks for the same few keys dozens of times, and most of what it looks for is not there. So the row of a key is
looked for once for all sights that share the key object, and a look under a key of whose page a table keeps nothing is answered
without as much as touching the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.state.cells import Reading
from gateway.state.operations import NO_ZERO, Sight, Window
from gateway.state.pages import BELOW, BIT, Page
from gateway.state.rows import BITS, WITHIN, Key, Rows
from gateway.state.windows import Table

_Entry = tuple[int, Reading, Table]  # of a window: its bit in `Rows.kept`, what it reads of a key it does not keep, its table


class Tables:
    """The tables of windows by digest, and the rows they share. max_keys: kept by each table."""

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.rows = Rows()
        self._entries: dict[str, _Entry] = {}
        self._free = list[int]()

    def __iter__(self) -> Iterator[Table]:
        return iter([table for _, _, table in self._entries.values()])

    def see(self, sights: list[Sight], at: int) -> list[Reading]:
        """The readings of all sights at the time `at` (µs), in their order."""
        entries, rows, readings = self._entries, self.rows, list[Reading]()
        tell, kept, overdue = readings.append, rows.kept, list[Table]()
        found: dict[int, int] = {}
        last: Key | None = None
        row = number = tables = 0
        for window, key, value in sights:
            entry = entries.get(window.digest)
            if entry is None:
                entry, found, last = self._table(window, at), {}, None  # a table that leaves may let go of a row
            bit, nothing, table = entry
            if key is not last:
                last, row = key, self._row(key, found)
                number = row >> BITS  # that of a key without a row is -1, which no page has
                tables = kept.get(number, 0)
            if value is None and not tables & bit and at >= rows.doubts:
                tell(nothing)
                continue
            if not table.since <= at < table.until:
                table.turn(at)
            page = table.pages.get(number)
            if page is None or not page.kept & BIT[row & WITHIN]:
                if value is None:
                    tell(nothing if at >= table.doubts else table.doubted)
                    continue
                page, row, found = self._made(table, key, row, found)
                number = row >> BITS
                tables = kept[number]
            place = row & WITHIN
            where = place if page.dense else (page.kept & BELOW[place]).bit_count()
            tell(table.see(page, where, row, value))
            if table.overdue:
                overdue.append(table)
        for table in overdue:  # only now: rows stay as they were found
            table.free_some()
        return readings

    def _row(self, key: Key, found: dict[int, int]) -> int:
        """The row of a key, -1 where it has none yet. found: those of the key objects that were looked for before."""
        row = found.get(id(key), -1)
        if row < 0 and (row := self.rows.find(key)) >= 0:
            found[id(key)] = row
        return row

    def _made(self, table: Table, key: Key, row: int, found: dict[int, int]) -> tuple[Page, int, dict[int, int]]:
        """Have a table keep a key: its page, its row, and the rows that are still found."""
        released = self.rows.released
        row = table.make(key, row)
        if self.rows.released != released:  # one that was pushed out: its row may be another key's now
            found = {}
        found[id(key)] = row
        return table.pages[row >> BITS], row, found

    def _table(self, window: Window, at: int) -> _Entry:
        # a window that is new after a reload: the moment to let go of those that left with the old policy
        for digest in [digest for digest, (_, _, table) in self._entries.items() if table.forgotten(at)]:
            bit, _, table = self._entries.pop(digest)
            table.close()
            self._free.append(bit)
        bit = self._free.pop() if self._free else 1 << len(self._entries)
        table = Table(window, self.max_keys, self.rows, bit)
        table.turn(at)  # what is only looked at is never turned again, and is forgotten, and made anew, as seldom as its keys
        entry = self._entries[window.digest] = bit, None if window.kind in NO_ZERO else 0, table
        return entry
