"""Sliding windows of counts, sums, distinct values, top shares and quantiles, in memory.

One `Table` holds one declared window for every key. Keys are shared between tables as rows (`rows`); a table keeps what it
knows of them in pages of words (`pages`), made where it needs them, and counts as its kind does (`kinds`).

**Expiry.** A key's last use is known to a tick of some slices, about a quarter of the time that keys are kept
(`operations.kept`). Keys not used for that time are let go within a tick more: each batch frees a few of them, so that none
pays for all.

**Cap.** A table has at most `max_keys` keys. Past them one is pushed out for each new one: the one unused for longest among
those that were seen in one tick only, so that a flood of keys, each seen once or twice, pushes out itself and nobody who comes
regularly. Such regulars go only when they are more than three quarters of all, again the one unused for longest first.

**What a lost key does.** From then on, for the length of the window, every key that the table does not know may be one that
was pushed out. Its counts, sums (of amounts not below zero) and distinct values read «at least N» until the window has passed;
a top share or quantile is that of what was counted since. No table pushes keys out of another.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.state.cells import Distinct, Reading
from gateway.state.kinds import KINDS
from gateway.state.operations import NO_ZERO, SLICES, Window, kept
from gateway.state.pages import NEWEST, Page
from gateway.state.rows import BITS, WITHIN, Key, Rows
from gateway.values import AtLeast

__all__ = ["Distinct", "Reading", "Table"]
_TICKS: Final = 4
_FREED: Final = 4
_READ: Final = 64  # rows that were read, before they are taken out of a journal


class Journal:
    """Rows by the tick in which they were last used, oldest first; a row that was used again later stands here twice."""

    __slots__ = ("_last", "_next", "_note", "_ticks")

    def __init__(self) -> None:
        self._last = -1
        self._note: Callable[[int], None]
        self._ticks: deque[tuple[int, array[int]]] = deque()
        self._next = 0

    def note(self, tick: int, row: int) -> None:
        if self._last != tick or not self._ticks:
            self._last, rows = tick, array("I")
            self._ticks.append((tick, rows))
            self._note = rows.append
        self._note(row)

    @property
    def oldest(self) -> int | None:
        """The tick of what `pop` gives next."""
        return self._ticks[0][0] if self._ticks else None

    def pop(self) -> int:
        rows = self._ticks[0][1]
        row = rows[self._next]
        self._next += 1
        if self._next == len(rows):
            self._ticks.popleft()
            self._next = 0
        elif self._next >= _READ and 2 * self._next >= len(rows):
            del rows[: self._next]  # a tick may be hours, in which keys that push each other out come without end
            self._next = 0
        return row


class Table:
    """One window under every key; `evicted` counts the keys that `max_keys` pushed out.

    rows: those of the other tables, too. bit: which of the bits in `Rows.kept` is this table's.

    Whoever asks (`tables`) first makes the time the present one. What is not kept reads `doubted` before
    `doubts` (µs). overdue: whether `free_some` has something to do.
    """

    def __init__(self, window: Window, max_keys: int, rows: Rows, bit: int) -> None:
        self.window = window
        self.max_keys = max_keys
        self.evicted = 0
        self.bit = bit
        self._rows = rows
        self.doubted: Reading = None if window.kind in NO_ZERO else AtLeast(0)
        self.pages: dict[int, Page] = {}
        self.part = self.since = self.until = self.doubts = 0
        self.overdue = False
        self.kind = KINDS[window.kind]
        self._slice = window.length // SLICES
        self._per_tick, self._ticks = ticks_of(window)
        self._live = 0
        self._regulars = 0
        self._once, self._again = Journal(), Journal()
        self._tick = self._next_tick = 0
        self._doubt = 0

    def __len__(self) -> int:
        return self._live

    @property
    def crowded(self) -> bool:
        """Whether a key was pushed out within the last window, as far as this table knows the time."""
        return self._doubt > self._next_tick - self._per_tick

    def turn(self, at: int) -> None:
        """Make the time `at` (µs) the present one: `part` is its slice, which lasts from `since` until `until`."""
        self.part = part = at // self._slice
        self.since, self.until = part * self._slice, (part + 1) * self._slice
        if part >= self._next_tick:
            self._tick = part // self._per_tick
            self._next_tick = (self._tick + 1) * self._per_tick
            self.overdue = True

    def make(self, key: Key, row: int) -> int:
        """Keep a key that is not kept, from the present slice on. row: what `Rows.find` says of it. Its row."""
        while self._live >= self.max_keys:
            self._push_out(self.part)
        row = self._rows.hold(key, row, self.window.digest)
        page = self.pages.get(row >> BITS)
        if page is None:
            page = self.pages[row >> BITS] = Page(self.part)
            self._rows.kept[row >> BITS] = self._rows.kept.get(row >> BITS, 0) | self.bit
        page.make(row & WITHIN, self.part, self._doubt)
        self._live += 1
        self._once.note(self._tick, row)
        return row

    def see(self, page: Page, where: int, row: int, value: int | str | None) -> Reading:
        """Count `value` under a key that is kept (None: only look), then read the window, in the present slice.

        where: the key's word in its page.
        """
        cell, part = page.cells[where], self.part
        newest = page.base + (cell >> NEWEST) if cell >= 0 else page.newest(where)
        if part > newest and part // self._per_tick != newest // self._per_tick:
            self._used(page, where, row)
        reading = self.kind(page, where, newest, part, value, self.window)
        if page.unsure is not None and page.unsure[row & WITHIN] > part and isinstance(reading, int):
            return AtLeast(reading)
        return reading

    def free_some(self) -> None:
        """Let go of a few keys that were not used for as long as keys are kept."""
        self.overdue = False
        for journal in (self._once, self._again):
            for _ in range(_FREED):
                tick = journal.oldest
                if tick is None or tick + self._ticks >= self._tick:
                    break
                self._freed(journal.pop(), tick)
                self.overdue = True

    def forgotten(self, at: int) -> bool:
        """Whether nothing in here can matter at the time `at` (µs) any more."""
        return at // self._slice >= self._next_tick + self._per_tick * self._ticks

    def close(self) -> None:
        """Let go of every key."""
        for number, page in self.pages.items():
            self._forget(number)
            for place in page.rows():
                self._rows.let_go(number << BITS | place)
        self.pages, self._live = {}, 0

    def _used(self, page: Page, where: int, row: int) -> None:
        """Note the first use of a row in a tick."""
        if not page.regular(where):
            self._regulars += 1
            page.mark(where)
        self._again.note(self._tick, row)

    def _push_out(self, part: int) -> None:
        crowds = (self._once, self._again)
        for crowd in crowds if self._regulars * 4 <= self.max_keys * 3 else crowds[::-1]:
            while (tick := crowd.oldest) is not None:
                if self._freed(crowd.pop(), tick):
                    if tick + self._ticks >= self._tick:
                        self.evicted += 1
                        self._doubt = max(self._doubt, part + SLICES)
                        self.doubts = self._doubt * self._slice
                        self._rows.doubts = max(self._rows.doubts, self.doubts)
                    return

    def _freed(self, row: int, tick: int) -> bool:
        """Let go of a row, unless it was used after this tick."""
        page, place = self.pages.get(row >> BITS), row & WITHIN
        if page is None or (where := page.index(place)) < 0 or page.newest(where) // self._per_tick > tick:
            return False
        self._regulars -= page.regular(where)
        if page.let_go(place):
            del self.pages[row >> BITS]
            self._forget(row >> BITS)
        self._rows.let_go(row)
        self._live -= 1
        return True

    def _forget(self, number: int) -> None:
        """Keep nothing of a page's rows any more."""
        left = self._rows.kept[number] ^ self.bit
        if left:
            self._rows.kept[number] = left
        else:
            del self._rows.kept[number]


def ticks_of(window: Window) -> tuple[int, int]:
    """How many slices a tick of a window has, and for how many ticks its keys are kept."""
    slices = -(-kept(window.length) // (window.length // SLICES))
    per_tick = max(1, slices // _TICKS)
    return per_tick, -(-slices // per_tick)
