"""Row numbers of keys: a key is known once, however many windows count under it.

Windows keep what they know of a key in pages of `PAGE` rows (`windows`). Keys that were first counted by the same window fill
the same pages, so that a window under addresses does not pay for the rows of accounts. A row is held by every window that
keeps something of its key, and is free again when the last one lets go; a page whose rows are all free is gone.

**Digests.** A key stands as 64 bits of Python's keyed hash (see `cells`), not as its texts: eight bytes, and about eight more
to find it. That any two of n keys are taken for one has a chance of n²/2⁶⁵: 3·10⁻⁶ with ten million keys. They are found in
segments of `_SLOTS` places, each doubled by itself when it is three quarters full (Fagin's extendible hashing), so that no
request waits for a table of millions to be laid out anew.

Nothing is bounded here: rows live as long as windows hold them, and every window has a bound and an expiry of its own.
"""

from __future__ import annotations

from array import array
from typing import Final

BITS: Final = 10
PAGE: Final = 1 << BITS
WITHIN: Final = PAGE - 1
Key = tuple[str, ...]
_SLOTS: Final = 512
_LAST: Final = _SLOTS - 1
_FULL: Final = _SLOTS * 3 // 4
_SHIFT: Final = 40  # places within a segment come from other bits of the digest than the number of the segment


class _Page:
    """Some rows: the digests they stand for, how many windows hold each, and which are free."""

    __slots__ = ("digests", "free", "held", "region")

    def __init__(self, region: str) -> None:
        self.region = region
        self.digests = array("q", bytes(8 * PAGE))
        self.held = array("H", bytes(2 * PAGE))
        self.free = array("H", range(PAGE - 1, -1, -1))


class _Segment:
    """Rows whose digests end in the same `depth` bits, one more than their number, so that 0 is a free place."""

    __slots__ = ("depth", "rows", "used")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.rows = array("I", bytes(4 * _SLOTS))
        self.used = 0


class Rows:
    """The rows of all keys.

    released: how many rows were, so that whoever remembers what `find` said can tell. kept: by number of a page, a bit for each
    window that keeps something of its rows. doubts: until when (µs) some window may have pushed out a key that it is asked for.
    """

    __slots__ = ("_directory", "_made", "_mask", "_open", "_pages", "_spare", "_used", "doubts", "kept", "released")

    def __init__(self) -> None:
        self._directory = [_Segment(0)]
        self._mask = 0
        self._pages: dict[int, _Page] = {}
        self._open: dict[str, dict[int, _Page]] = {}
        self._spare: list[int] = []
        self._made = self._used = self.released = self.doubts = 0
        self.kept: dict[int, int] = {}

    def __len__(self) -> int:
        return self._used

    @property
    def pages(self) -> int:
        return len(self._pages)

    def find(self, key: Key) -> int:
        """The row of a key, or -1."""
        digest = hash(key)
        rows, place = self._directory[digest & self._mask].rows, digest >> _SHIFT & _LAST
        while found := rows[place]:
            found -= 1
            if self._pages[found >> BITS].digests[found & WITHIN] == digest:
                return found
            place = (place + 1) & _LAST
        return -1

    def hold(self, key: Key, row: int, region: str) -> int:
        """The row of a key, held once more. row: what `find` says. region: whose pages a new row is in: a window's digest."""
        if row >= 0:
            self._pages[row >> BITS].held[row & WITHIN] += 1
            return row
        pages = self._open.setdefault(region, {})
        if not pages:
            number = self._spare.pop() if self._spare else self._made
            self._made = max(self._made, number + 1)
            pages[number] = self._pages[number] = _Page(region)
        number = next(iter(pages))
        page = pages[number]
        within = page.free.pop()
        if not page.free:
            del pages[number]
        digest = hash(key)
        page.digests[within], page.held[within] = digest, 1
        self._used += 1
        row = number << BITS | within
        segment = self._directory[digest & self._mask]
        while segment.used >= _FULL:
            self._split(segment, digest)
            segment = self._directory[digest & self._mask]
        self._put(segment, digest, row)
        return row

    def let_go(self, row: int) -> None:
        """One window holds the row no more."""
        number, within = row >> BITS, row & WITHIN
        page = self._pages[number]
        page.held[within] -= 1
        if page.held[within]:
            return
        self._take_out(page.digests[within], row)
        self._used -= 1
        self.released += 1
        page.free.append(within)
        pages = self._open.setdefault(page.region, {})
        pages[number] = page
        if len(page.free) == PAGE:
            del self._pages[number], pages[number]
            self._spare.append(number)
            if not pages:
                del self._open[page.region]

    def _put(self, segment: _Segment, digest: int, row: int) -> None:
        rows, place = segment.rows, digest >> _SHIFT & _LAST
        while rows[place]:
            place = (place + 1) & _LAST
        rows[place] = row + 1
        segment.used += 1

    def _split(self, full: _Segment, digest: int) -> None:
        """Two segments in place of one that is full; the directory doubles when they need a bit more than it has."""
        if 1 << full.depth > self._mask:
            self._directory *= 2
            self._mask = len(self._directory) - 1
        bit, halves = 1 << full.depth, (_Segment(full.depth + 1), _Segment(full.depth + 1))
        for number in range(digest & (bit - 1), len(self._directory), bit):
            self._directory[number] = halves[number >> full.depth & 1]
        for row in full.rows:
            if row:
                row -= 1
                own = self._pages[row >> BITS].digests[row & WITHIN]
                self._put(halves[own >> full.depth & 1], own, row)

    def _take_out(self, digest: int, row: int) -> None:
        """Free the place of a row, and move those behind it that a search would not reach any more."""
        segment = self._directory[digest & self._mask]
        rows, gap = segment.rows, digest >> _SHIFT & _LAST
        while rows[gap] != row + 1:
            gap = (gap + 1) & _LAST
        place = gap
        while left := rows[place := (place + 1) & _LAST]:
            left -= 1
            home = self._pages[left >> BITS].digests[left & WITHIN] >> _SHIFT & _LAST
            if (place - home & _LAST) >= (place - gap & _LAST):
                rows[gap], gap = left + 1, place
        rows[gap] = 0
        segment.used -= 1
