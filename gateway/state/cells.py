"""What a window knows of one key beyond plain counts: its distinct values, or how often each was seen.

Most keys have few values. A single one lies in the word that every key has (`pages`), up to `FEW` of them packed in `bytes`:
for each a code with the slot of the newest slice it was seen in (distinct), or a code, a slot and a count (top share,
quantile). A key with more gets an object of its own, `Distinct` or `Tally`. All forms answer alike, so nobody can tell when one
became the other.

**Codes.** A text stands as 49 bits of Python's keyed hash (SipHash on CPython, whose key is drawn when the process starts), or
44 in a top share, so that a value takes eight bytes instead of a hundred. That any two of n different values of one key are
taken for one has a chance of n²/2⁵⁰: 9·10⁻¹⁰ with a thousand values, 4·10⁻⁷ with 20,000, 9·10⁻⁶ at the largest cap the
language allows; in a top share n²/2⁴⁵, 7·10⁻⁹ with 500. Nobody outside can look for such a pair as long as PYTHONHASHSEED
is not set to a number. Nothing else here is approximate, and codes never leave the process.
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
CODE: Final = 2**49 - 1
SHARE_CODE: Final = 2**44 - 1
FULL_BITS: Final = 4
HEAD_BITS: Final = FULL_BITS + 1
CODES: Final = [Struct(f"<{count + 1}q") for count in range(FEW + 1)]
TALLIES: Final = [Struct(f"<q{count}Q{count}I") for count in range(FEW + 1)]


def code_of(value: int | str) -> int:
    """The 49 bits that stand for a value of a distinct, never 0."""
    return hash(str(value)) & CODE or 1


def share_of(value: int | str) -> int:
    """The 44 bits that stand for a value of a top share, never `OTHERS`."""
    return hash(str(value)) & SHARE_CODE or 1


class Distinct:
    """Many distinct values: codes in rising order, in parts of at most `PART`, so that none is dear to put one into."""

    __slots__ = ("_count", "_firsts", "_full_until", "_parts", "newest", "regular")

    def __init__(self, newest: int = -1, full: int = 0, codes: Sequence[int] = (), regular: int = 0) -> None:
        self.newest = newest
        self.regular = regular
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
        if at > self.newest:
            self._advance(at)
        if value is not None and at > self.newest - SLICES:
            least = code_of(value) << SLOT_BITS
            part = self._parts[bisect_right(self._firsts, least)] if self._firsts else self._parts[0]
            place = bisect_left(part, least)
            if place < len(part) and part[place] <= least | SLOT:
                part[place] = newer(part[place], least | at & SLOT, self.newest)
            elif self._count >= window.cap:
                self._full_until = max(self._full_until, at + SLICES)
            else:
                part.insert(place, least | at & SLOT)
                self._count += 1
                if len(part) > PART:
                    self._split(part)
        return AtLeast(self._count) if self._full_until > self.newest else self._count

    def _split(self, part: array[int]) -> None:
        half = len(part) // 2
        where = bisect_left(self._firsts, part[half] & ~SLOT)
        self._firsts.insert(where, part[half] & ~SLOT)
        self._parts[where : where + 1] = [part[:half], part[half:]]

    def _advance(self, at: int) -> None:
        for number, part in enumerate(self._parts):
            self._parts[number] = array("q", [part[place] for place in covered(part, self.newest, at)])
        self._count = sum(map(len, self._parts))
        if not self._count:
            self._parts, self._firsts = self._parts[:1], []
        self.newest = at


class Tally:
    """How often each code of a window was seen, by slot and in all; of all codes together, and of the most frequent value."""

    __slots__ = ("_counts", "_most", "_totals", "_whole", "newest", "regular")

    def __init__(self, newest: int, codes: Sequence[int], counts: Sequence[int], regular: int = 0) -> None:
        self.newest = newest
        self.regular = regular
        self._most = self._whole = 0
        self._lay_out(codes, counts)

    def add(self, at: int, value: int | str, window: Window) -> None:
        if at > self.newest:
            self._advance(at)
        if at > self.newest - SLICES:
            code = named(value, window, self._totals)
            often = self._totals[code] = self._totals.get(code, 0) + 1
            if often > self._most and code != OTHERS:
                self._most = often
            self._whole += 1
            code = code << SLOT_BITS | at & SLOT
            self._counts[code] = self._counts.get(code, 0) + 1

    def read(self, at: int, window: Window) -> Reading:
        if at > self.newest:
            self._advance(at)
        if window.kind is Count.QUANTILE:
            return told(self._totals, window)
        return self._most / self._whole if self._whole else None

    def _advance(self, at: int) -> None:
        codes = list(self._counts)
        left = [codes[place] for place in covered(codes, self.newest, at)]
        self._lay_out(left, [self._counts[code] for code in left])
        self.newest = at

    def _lay_out(self, codes: Sequence[int], counts: Sequence[int]) -> None:
        self._counts = dict(zip(codes, counts, strict=True))
        self._totals = totals_of(codes, counts)
        self._whole = sum(counts)
        self._most = most_of(self._totals)


def most_of(totals: dict[int, int]) -> int:
    """How often the most frequent value was seen."""
    return max(totals.values() if OTHERS not in totals else [totals[code] for code in totals if code != OTHERS], default=0)


def named(value: int | str, window: Window, totals: dict[int, int]) -> int:
    """The code under which a tally counts a value.

    Past `cap` values of a top share new ones are counted together as `OTHERS`: they still weigh in the whole, so the share
    never reads too high.
    """
    if window.kind is Count.QUANTILE:
        return bin_of(int(value))
    code = share_of(value)
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
        return most_of(totals) / whole
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


# Packed forms: a head of the newest slice, for how many slices more the cap was hit, and whether the key is a regular


def head_of(newest: int, full: int, regular: int) -> int:
    return (newest << FULL_BITS | full) << 1 | regular


def packed_codes(newest: int, full: int, regular: int, codes: Sequence[int]) -> bytes | Distinct:
    """The form of several values of a distinct. full: for how many slices more the cap was hit."""
    if len(codes) > FEW:
        return Distinct(newest, full, codes, regular)
    return CODES[len(codes)].pack(head_of(newest, full, regular), *codes)


def packed_counts(newest: int, regular: int, codes: Sequence[int], counts: Sequence[int]) -> bytes | Tally:
    """The form of several values of a tally."""
    if len(codes) > FEW or max(counts, default=0) >= 2**32:
        return Tally(newest, codes, counts, regular)
    return TALLIES[len(codes)].pack(head_of(newest, 0, regular), *codes, *counts)
