"""What a window knows of one key beyond plain counts: its distinct values, or how often each was seen.

Most keys have few values. A single one lies in one whole number, up to `FEW` of them packed in `bytes`: for each a code with
the slot of the newest slice it was seen in (distinct), or a code, a slot and a count (top share, quantile). A key with more
gets an object of its own, `Distinct` or `Tally`. All forms answer alike, so nobody can tell when one became the other. Which
slice is the newest of a key stands beside its cell (`pages`).

**Codes.** A text stands as 61 bits of Python's keyed hash (SipHash on CPython, whose key is drawn when the process starts), so
a value takes eight bytes instead of a hundred. That any two of n different values of one key are taken for one has a chance of
n²/2⁶²: 10⁻¹⁰ with 20,000 values, 2·10⁻⁹ at the largest cap the language allows. Nobody outside can look for such a pair as
long as PYTHONHASHSEED is not set to a number. Nothing else here is approximate, and codes never leave the process.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from struct import Struct
from typing import Final

from gateway.state.operations import SLICES, Count, Window, bin_of, edge_of, rank_among
from gateway.values import AtLeast

Reading = int | float | AtLeast | None
FEW: Final = 24
PART: Final = 1_024
OTHERS: Final = 0
SLOT: Final = SLICES - 1
SLOT_BITS: Final = 3
COUNT_BITS: Final = 32
CODE: Final = 2**61 - 1
_CODES: Final = [Struct(f"<{count}q") for count in range(FEW + 1)]
TALLIES: Final = [Struct(f"<{count}Q{count}I") for count in range(FEW + 1)]


def code_of(text: str) -> int:
    """The 61 bits that stand for a text in a tally, never `OTHERS`."""
    return hash(text) & CODE or 1


class Distinct:
    """Many distinct values: codes in rising order, in parts of at most `PART`, so that none is dear to put one into."""

    __slots__ = ("_count", "_firsts", "_full_until", "_newest", "_parts")

    def __init__(self, newest: int = -1, full: int = 0, codes: Sequence[int] = ()) -> None:
        self._newest = newest
        self._full_until = newest + full
        self._count = len(codes)
        self._parts = [array("q", sorted(codes))]
        self._firsts: list[int] = []

    def add(self, at: int, value: int | str, window: Window) -> None:
        self.see(at, value, window)

    def read(self, at: int, window: Window) -> Reading:
        return self.see(at, None, window)

    def see(self, at: int, value: int | str | None, window: Window) -> Reading:
        """Count a value (None: only look), then read."""
        if at > self._newest:
            self._advance(at)
        if value is not None and at > self._newest - SLICES:
            least = hash(str(value)) & ~SLOT
            part = self._parts[bisect_right(self._firsts, least)] if self._firsts else self._parts[0]
            place = bisect_left(part, least)
            if place < len(part) and part[place] <= least | SLOT:
                part[place] = newer(part[place], least | at & SLOT, self._newest)
            elif self._count >= window.cap:
                self._full_until = max(self._full_until, at + SLICES)
            else:
                part.insert(place, least | at & SLOT)
                self._count += 1
                if len(part) > PART:
                    self._split(part)
        return AtLeast(self._count) if self._full_until > self._newest else self._count

    def _split(self, part: array[int]) -> None:
        half = len(part) // 2
        where = bisect_left(self._firsts, part[half] & ~SLOT)
        self._firsts.insert(where, part[half] & ~SLOT)
        self._parts[where : where + 1] = [part[:half], part[half:]]

    def _advance(self, at: int) -> None:
        for number, part in enumerate(self._parts):
            self._parts[number] = array("q", [part[place] for place in covered(part, self._newest, at)])
        self._count = sum(map(len, self._parts))
        if not self._count:
            self._parts, self._firsts = self._parts[:1], []
        self._newest = at


class Tally:
    """How often each code of a window was seen, by slot and in all."""

    __slots__ = ("_counts", "_newest", "_totals")

    def __init__(self, newest: int, codes: Sequence[int], counts: Sequence[int]) -> None:
        self._newest = newest
        self._counts = dict(zip(codes, counts, strict=True))
        self._totals = totals_of(codes, counts)

    def add(self, at: int, value: int | str, window: Window) -> None:
        if at > self._newest:
            self._advance(at)
        if at > self._newest - SLICES:
            code = named(value, window, self._totals)
            self._totals[code] = self._totals.get(code, 0) + 1
            code = code << SLOT_BITS | at & SLOT
            self._counts[code] = self._counts.get(code, 0) + 1

    def read(self, at: int, window: Window) -> Reading:
        if at > self._newest:
            self._advance(at)
        return told(self._totals, window)

    def _advance(self, at: int) -> None:
        codes = list(self._counts)
        left = [codes[place] for place in covered(codes, self._newest, at)]
        self._counts = {code: self._counts[code] for code in left}
        self._totals = totals_of(left, list(self._counts.values()))
        self._newest = at


def named(value: int | str, window: Window, totals: dict[int, int]) -> int:
    """The code under which a tally counts a value.

    Past `cap` values of a top share new ones are counted together as `OTHERS`: they still weigh in the whole, so the share
    never reads too high.
    """
    if window.kind is Count.QUANTILE:
        return bin_of(int(value))
    code = code_of(str(value))
    return OTHERS if code not in totals and len(totals) >= window.cap else code


def told(totals: dict[int, int], window: Window) -> Reading:
    """What a tally reads.

    A top share: the share that the most frequent value has of all, 1.0 when one value is everything. A quantile: the least
    value of the bin at its rank, never more than the true value, and less than 1/128 below it.
    """
    whole = sum(totals.values())
    if not whole:
        return None
    if window.kind is Count.TOP_SHARE:
        if OTHERS in totals:
            return max((count for code, count in totals.items() if code != OTHERS), default=0) / whole
        return max(totals.values()) / whole
    left = rank_among(whole, window.rank)
    for place in sorted(totals):
        left -= totals[place]
        if left <= 0:
            return edge_of(place)
    return None


def totals_of(codes: Sequence[int], counts: Sequence[int]) -> dict[int, int]:
    """How often each code was seen in all slices."""
    totals: dict[int, int] = {}
    for place, code in enumerate(codes):
        code >>= SLOT_BITS
        totals[code] = totals.get(code, 0) + counts[place]
    return totals


def covered(codes: Sequence[int], newest: int, at: int) -> list[int]:
    """The places of codes whose slice is still covered when `at` follows `newest` as the newest slice."""
    most = SLICES - (at - newest)
    return [place for place, code in enumerate(codes) if (newest - code & SLOT) < most]


def newer(known: int, code: int, newest: int) -> int:
    """Of the same value's two codes the one whose slice is newer."""
    return known if (newest - known & SLOT) <= (newest - code & SLOT) else code


# Packed forms

Codes = int | bytes | Distinct | None
Counts = int | bytes | Tally | None


def unpacked_codes(cell: int | bytes | None) -> tuple[int, ...]:
    """The codes of a distinct's cell that is no object."""
    if isinstance(cell, bytes):
        return _CODES[len(cell) >> 3].unpack(cell)
    return () if cell is None else (cell,)


def packed_codes(codes: Sequence[int], newest: int, full: int) -> Codes:
    """The cell of a distinct. full: for how many slices more it is."""
    if len(codes) > FEW:
        return Distinct(newest, full, codes)
    return _CODES[len(codes)].pack(*codes) if len(codes) > 1 else codes[0] if codes else None


def unpacked_counts(cell: int | bytes | None) -> tuple[list[int], list[int]]:
    """The codes and counts of a tally's cell that is no object."""
    if isinstance(cell, bytes):
        size = len(cell) // 12
        fields = TALLIES[size].unpack(cell)
        return list(fields[:size]), list(fields[size:])
    return ([], []) if cell is None else ([cell >> COUNT_BITS], [cell & 2**COUNT_BITS - 1])


def packed_counts(codes: Sequence[int], counts: Sequence[int], newest: int) -> Counts:
    """The cell of a tally."""
    if len(codes) > FEW or (counts and max(counts) >= 2**COUNT_BITS):
        return Tally(newest, codes, counts)
    if len(codes) > 1:
        return TALLIES[len(codes)].pack(*codes, *counts)
    return codes[0] << COUNT_BITS | counts[0] if codes else None
