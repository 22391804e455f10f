"""Pages: what one window knows of `rows.PAGE` neighbouring rows, in arrays.

A page of counts starts with two bytes for a slice and widens to eight when a number needs them; a page of anything else
holds a cell for each row (`cells`). `marks` says of each row when its window last used it (`windows`), 0 when the window does
not keep it; `unsure` until which slice its counts may lack something, and is only made when something was pushed out.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final, Protocol

from gateway.state.cells import (
    CODE,
    COUNT_BITS,
    FEW,
    SLOT,
    SLOT_BITS,
    TALLIES,
    Codes,
    Counts,
    Distinct,
    Reading,
    Tally,
    covered,
    named,
    newer,
    packed_codes,
    packed_counts,
    told,
    totals_of,
    unpacked_codes,
    unpacked_counts,
)
from gateway.state.operations import LARGEST_AMOUNT, SLICES, Count, Window, bin_of, bounded, edge_of
from gateway.state.rows import PAGE
from gateway.values import AtLeast

_FULL_BITS: Final = 4
_FULL: Final = 2**_FULL_BITS - 1
_COMMON: Final = 8_192
_MOST: Final = 2**COUNT_BITS - 1
_NONE: Final = bytes(8 * PAGE)
_EMPTY: Final = {code: array(code, [0] * SLICES) for code in "Hq"}


class Page(Protocol):
    """What a table asks of its pages; places are rows within the page, and `at` a slice."""

    marks: array[int]
    unsure: array[int] | None

    def make(self, place: int, at: int, unsure: int) -> None:
        """Begin anew for a row that is not kept, at a slice."""
        ...

    def see(self, place: int, at: int, value: int | str | None, window: Window) -> Reading: ...

    def let_go(self, place: int) -> bool:
        """Forget a row; whether the page holds no other."""
        ...


class _Marked:
    """What all pages have."""

    __slots__ = ("kept", "marks", "unsure")

    def __init__(self) -> None:
        self.marks = array("I", _NONE[: 4 * PAGE])
        self.unsure: array[int] | None = None
        self.kept = 0

    def make(self, place: int, at: int, unsure: int) -> None:
        self.kept += 1
        if self.unsure is not None:
            self.unsure[place] = unsure
        elif unsure > at:
            self.unsure = array("q", _NONE)
            self.unsure[place] = unsure

    def let_go(self, place: int) -> bool:
        self.kept -= 1
        return not self.kept


class Counters(_Marked):
    """Counts or sums of integers: the newest slice, eight slices and their sum; each is `bounded`."""

    __slots__ = ("newest", "slices", "totals")

    def __init__(self, common: dict[int, int]) -> None:
        super().__init__()
        self.newest = array("q", _NONE)
        self.slices = array("H", _NONE * (SLICES * 2 // 8))
        self.totals = array("I", _NONE[: 4 * PAGE])

    def make(self, place: int, at: int, unsure: int) -> None:
        super().make(place, at, unsure)
        self.newest[place] = at
        self._clear(place)

    def see(self, place: int, at: int, value: int | str | None, window: Window) -> Reading:
        newest = self.newest[place]
        if at > newest:
            self._advance(place, newest, at)
            newest = at
        if value is not None and at > newest - SLICES:
            where = place * SLICES + (at & SLOT)
            before = self.slices[where]
            after = before + 1 if value == 1 else before + bounded(int(value))
            if not -LARGEST_AMOUNT <= after <= LARGEST_AMOUNT:
                after = bounded(after)
            total = self.totals[place] + after - before
            try:
                self.slices[where] = after
                self.totals[place] = total
            except OverflowError:
                self.slices, self.totals = array("q", self.slices), array("q", self.totals)
                self.slices[where] = after
                self.totals[place] = total
        return bounded(self.totals[place])

    def _advance(self, place: int, newest: int, at: int) -> None:
        self.newest[place] = at
        if at - newest >= SLICES:
            self._clear(place)
            return
        slices, first = self.slices, place * SLICES
        for passed in range(newest + 1, at + 1):
            if left := slices[first + (passed & SLOT)]:
                self.totals[place] -= left
                slices[first + (passed & SLOT)] = 0

    def _clear(self, place: int) -> None:
        if self.totals[place] or self.slices.typecode == "q":
            self.slices[place * SLICES : (place + 1) * SLICES] = _EMPTY[self.slices.typecode]
            self.totals[place] = 0


class Distincts(_Marked):
    """Distinct values. `heads` holds the newest slice, and in its low bits for how many slices more the cap was hit.

    What is asked most is answered first: a value that was seen in this slice already, and a new one that finds a place.
    common: single values that many keys of the window have, kept once.
    """

    __slots__ = ("_common", "cells", "heads")

    def __init__(self, common: dict[int, int]) -> None:
        super().__init__()
        self._common = common
        self.heads = array("q", _NONE)
        self.cells: list[Codes] = [None] * PAGE

    def make(self, place: int, at: int, unsure: int) -> None:
        super().make(place, at, unsure)
        self.heads[place] = at << _FULL_BITS

    def see(self, place: int, at: int, value: int | str | None, window: Window) -> Reading:
        cell = self.cells[place]
        if isinstance(cell, Distinct):
            return cell.see(at, value, window)
        if self.heads[place] == at << _FULL_BITS and value.__class__ is str:
            code = hash(value) & ~SLOT | at & SLOT
            if cell == code:
                return 1
            if cell.__class__ is bytes:
                count, packed = len(cell) >> 3, code.to_bytes(8, "little", signed=True)
                if packed[1:] not in cell:
                    if count < FEW and count < window.cap:
                        self.cells[place] = cell + packed
                        return count + 1
                elif code in unpacked_codes(cell):
                    return count
        return self._see(place, at, value, window)

    def let_go(self, place: int) -> bool:
        self.cells[place] = None
        return super().let_go(place)

    def _see(self, place: int, at: int, value: int | str | None, window: Window) -> Reading:
        head, cell = self.heads[place], self.cells[place]
        assert not isinstance(cell, Distinct)
        newest, full, codes = head >> _FULL_BITS, head & _FULL, list(unpacked_codes(cell))
        if at > newest:
            codes = [codes[place] for place in covered(codes, newest, at)]
            full, newest = max(0, full - (at - newest)), at
        if value is not None and at > newest - SLICES:
            code = hash(str(value)) & ~SLOT | at & SLOT
            known = next((place for place, other in enumerate(codes) if other | SLOT == code | SLOT), None)
            if known is not None:
                codes[known] = newer(codes[known], code, newest)
            elif len(codes) >= window.cap:
                full = max(full, at + SLICES - newest)
            else:
                codes.append(code)
        if len(codes) == 1:
            if len(self._common) >= _COMMON:
                self._common.clear()
            codes[0] = self._common.setdefault(codes[0], codes[0])
        self.heads[place], self.cells[place] = newest << _FULL_BITS | full, packed_codes(codes, newest, full)
        return AtLeast(len(codes)) if full else len(codes)


class Tallies(_Marked):
    """Top shares and quantiles: the newest slice, and a cell for each row."""

    __slots__ = ("cells", "newest")

    def __init__(self, common: dict[int, int]) -> None:
        super().__init__()
        self.newest = array("q", _NONE)
        self.cells: list[Counts] = [None] * PAGE

    def make(self, place: int, at: int, unsure: int) -> None:
        super().make(place, at, unsure)
        self.newest[place] = at

    def see(self, place: int, at: int, value: int | str | None, window: Window) -> Reading:
        cell, newest = self.cells[place], self.newest[place]
        if isinstance(cell, Tally):
            if value is not None:
                cell.add(at, value, window)
            return cell.read(at, window)
        if at == newest and value is not None and cell is not None:
            code = bin_of(int(value)) if window.kind is Count.QUANTILE else hash(str(value)) & CODE or 1
            reading = self._again(place, cell, code, at, window)
            if reading is not None:
                return reading
        codes, counts = unpacked_counts(cell)
        if at > newest:
            left = covered(codes, newest, at)
            if len(left) < len(codes):
                codes, counts = [codes[place] for place in left], [counts[place] for place in left]
            self.newest[place] = newest = at
        totals = totals_of(codes, counts)
        if value is not None and at > newest - SLICES:
            code = named(value, window, totals)
            totals[code] = totals.get(code, 0) + 1
            code = code << SLOT_BITS | at & SLOT
            if code in codes:
                counts[codes.index(code)] += 1
            else:
                codes.append(code)
                counts.append(1)
        self.cells[place] = packed_counts(codes, counts, newest)
        return told(totals, window)

    def let_go(self, place: int) -> bool:
        self.cells[place] = None
        return super().let_go(place)

    def _again(self, place: int, cell: int | bytes, code: int, at: int, window: Window) -> Reading:
        """Count what was seen in the newest slice already: what is asked most. None where it was not."""
        slotted = code << SLOT_BITS | at & SLOT
        if isinstance(cell, int):
            if cell >> COUNT_BITS != slotted or cell & _MOST == _MOST:
                return None
            self.cells[place] = cell + 1
            return edge_of(code) if window.kind is Count.QUANTILE else 1.0
        size = len(cell) // 12
        fields = list(TALLIES[size].unpack(cell))
        if slotted not in fields:
            return None
        found = fields.index(slotted)
        if found >= size or fields[size + found] >= _MOST:
            return None
        fields[size + found] += 1
        self.cells[place] = TALLIES[size].pack(*fields)
        return told(totals_of(fields[:size], fields[size:]), window)


PAGES: Final[dict[Count, Callable[[dict[int, int]], Page]]] = {
    Count.COUNT: Counters, Count.SUM: Counters, Count.DISTINCT: Distincts, Count.TOP_SHARE: Tallies, Count.QUANTILE: Tallies,
}  # fmt: skip
