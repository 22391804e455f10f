"""Row numbers of keys: a key is kept once, however many windows count under it.

Windows keep what they know of a key in pages of `PAGE` rows (`windows`). Keys that were first counted by the same window fill
the same pages, so that a window under addresses does not pay for the rows of accounts. A row is held by every window that
keeps something of its key, and is free again when the last one lets go; a page whose rows are all free is gone.

Nothing is bounded here: rows live as long as windows hold them, and every window has a bound and an expiry of its own.
"""

from __future__ import annotations

from array import array
from typing import Final

BITS: Final = 10
PAGE: Final = 1 << BITS
WITHIN: Final = PAGE - 1
Key = str | tuple[str, ...]


class _Page:
    """Some rows: whose they are, how many windows hold each, and which are free."""

    __slots__ = ("free", "held", "keys", "region")

    def __init__(self, number: int, region: str) -> None:
        self.region = region
        self.keys: list[Key | None] = [None] * PAGE
        self.held = array("H", bytes(2 * PAGE))
        self.free = list(range((number + 1) * PAGE - 1, number * PAGE - 1, -1))


class Rows:
    """The rows of all keys. find: the row of a key, or None; a key of one part is that part itself."""

    __slots__ = ("_made", "_open", "_pages", "_rows", "find")

    def __init__(self) -> None:
        self._rows: dict[Key, int] = {}
        self.find = self._rows.get
        self._pages: dict[int, _Page] = {}
        self._open: dict[str, dict[int, _Page]] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pages(self) -> int:
        return len(self._pages)

    def hold(self, key: Key, region: str) -> int:
        """The row of a key, held once more. region: whose pages a new row is in, such as a window's digest."""
        row = self.find(key)
        if row is not None:
            self._pages[row >> BITS].held[row & WITHIN] += 1
            return row
        pages = self._open.setdefault(region, {})
        if not pages:
            pages[self._made] = self._pages[self._made] = _Page(self._made, region)
            self._made += 1
        number = next(iter(pages))
        page = pages[number]
        row = page.free.pop()
        if not page.free:
            del pages[number]
        page.keys[row & WITHIN], page.held[row & WITHIN] = key, 1
        self._rows[key] = row
        return row

    def let_go(self, row: int) -> None:
        """One window holds the row no more."""
        number, place = row >> BITS, row & WITHIN
        page = self._pages[number]
        page.held[place] -= 1
        if page.held[place]:
            return
        key = page.keys[place]
        assert key is not None, "a row that is held has a key"
        del self._rows[key]
        page.keys[place] = None
        page.free.append(row)
        pages = self._open.setdefault(page.region, {})
        pages[number] = page
        if len(page.free) == PAGE:
            del self._pages[number], pages[number]
            if not pages:
                del self._open[page.region]
