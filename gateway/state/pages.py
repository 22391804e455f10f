"""Pages: what one window knows of `rows.PAGE` neighbouring rows, a word of eight bytes for each that it keeps.

A word holds, from its highest bit on: a zero; 10 bits for the newest slice that the key was used in, counted from the `base` of
its page; one that says the key is a regular (`windows`); and 52 bits for what `kinds` makes of them. What does not fit there
lies in `more`, and the word is the place in it, below zero. A word of zero is no key's.

While a page has few keys, a bit for each row says which have a word, and the words lie in the order of the rows: where one lies
is how many bits are set below its own. From `_MANY` on it has a word for every row. When the newest slice would need an 11th
bit, all words are counted from a later base: keys that were last used more than `_MARGIN` slices ago then stand as last used
that long ago, with nothing in their window, which nobody can tell but by an event that is later than eight windows.

`unsure` says until which slice a key's counts may lack something, and is only made when something was pushed out.
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Final, Union

from gateway.state.cells import HEAD_BITS, Distinct, Tally
from gateway.state.rows import PAGE

NEWEST: Final = 53
REGULAR: Final = 1 << 52
PAYLOAD: Final = REGULAR - 1
_SPAN: Final = 1 << 63 - NEWEST
_MARGIN: Final = 64
_MANY: Final = PAGE * 3 // 4
_HEAD: Final = Struct("<q")
BIT: Final = [1 << place for place in range(PAGE)]
BELOW: Final = [(1 << place) - 1 for place in range(PAGE)]
More = Union["array[int]", bytes, Distinct, Tally]


class Page:
    """The words of the keys of a page. kept: a bit for each row that has one. dense: whether every row has its place.

    `index` says where in `cells` a row's word is; others that come or go move it.
    """

    __slots__ = ("_free", "base", "cells", "dense", "kept", "more", "unsure")

    def __init__(self, at: int) -> None:
        self.base = at - _MARGIN
        self.cells = array("q")
        self.more: list[More | None] = []
        self.unsure: array[int] | None = None
        self.kept = 0
        self.dense = False
        self._free: list[int] = []

    def index(self, place: int) -> int:
        """Where the word of a row is, -1 when the page keeps none."""
        if not self.kept & BIT[place]:
            return -1
        return place if self.dense else (self.kept & BELOW[place]).bit_count()

    def make(self, place: int, at: int, unsure: int) -> int:
        """Begin anew for a row that is not kept, at a slice; where its word is."""
        if self.unsure is not None:
            self.unsure[place] = unsure
        elif unsure > at:
            self.unsure = array("q", bytes(8 * PAGE))
            self.unsure[place] = unsure
        if not self.dense and len(self.cells) >= _MANY:
            self._spread()
        where = place
        if not self.dense:
            where = (self.kept & BELOW[place]).bit_count()
            self.cells.insert(where, 0)
        self.kept |= BIT[place]
        if 0 < at - self.base < _SPAN:
            self.cells[where] = at - self.base << NEWEST
        else:
            self.put(where, at, 0)
        return where

    def let_go(self, place: int) -> bool:
        """Forget a row; whether the page holds no other."""
        where = self.index(place)
        self._release(self.cells[where])
        if self.dense:
            self.cells[where] = 0
        else:
            self.cells.pop(where)
        self.kept ^= BIT[place]
        return not self.kept

    def rows(self) -> list[int]:
        """The places of the rows that are kept."""
        return [place for place in range(PAGE) if self.kept & BIT[place]]

    def newest(self, where: int) -> int:
        """The newest slice in which a key was used."""
        cell = self.cells[where]
        if cell >= 0:
            return self.base + (cell >> NEWEST)
        more = self.more[~cell]
        if isinstance(more, bytes):
            head: int = _HEAD.unpack_from(more)[0]
            return head >> HEAD_BITS
        assert more is not None, "a word below zero is the place of something"
        return more[0] >> 1 if isinstance(more, array) else more.newest

    def regular(self, where: int) -> int:
        """1 for a key that was marked."""
        cell = self.cells[where]
        if cell >= 0:
            return 1 if cell & REGULAR else 0
        more = self.more[~cell]
        assert more is not None, "a word below zero is the place of something"
        return more[0] & 1 if isinstance(more, (array, bytes)) else more.regular

    def mark(self, where: int) -> None:
        """Note that a key is a regular."""
        cell = self.cells[where]
        more = self.more[~cell] if cell < 0 else None
        if more is None:
            self.cells[where] = cell | REGULAR
        elif isinstance(more, bytes):
            self.more[~cell] = bytes((more[0] | 1,)) + more[1:]
        elif isinstance(more, array):
            more[0] |= 1
        else:
            more.regular = 1

    def put(self, where: int, newest: int, payload: int) -> int:
        """Write a key's word, which is returned; it stays the regular it was."""
        regular = REGULAR if self.regular(where) else 0
        if newest - self.base >= _SPAN:
            self._rebase(newest)
        self._release(self.cells[where])
        cell = self.cells[where] = max(newest - self.base, 1) << NEWEST | regular | payload
        return cell

    def hold(self, where: int, more: More) -> None:
        """Keep in `more` what does not fit in a word."""
        cell = self.cells[where]
        if cell < 0:
            self.more[~cell] = more
        elif self._free:
            place = self._free.pop()
            self.more[place], self.cells[where] = more, ~place
        else:
            self.more.append(more)
            self.cells[where] = -len(self.more)

    def _release(self, cell: int) -> None:
        if cell < 0:
            self.more[~cell] = None
            self._free.append(~cell)

    def _spread(self) -> None:
        cells = array("q", bytes(8 * PAGE))
        for place, cell in zip(self.rows(), self.cells, strict=True):
            cells[place] = cell
        self.cells, self.dense = cells, True

    def _rebase(self, at: int) -> None:
        later = at - _MARGIN - self.base
        for where, cell in enumerate(self.cells):
            if cell > 0:
                kept = (cell >> NEWEST) - later
                self.cells[where] = kept << NEWEST | cell & (REGULAR | PAYLOAD) if kept > 0 else 1 << NEWEST | cell & REGULAR
        self.base += later
