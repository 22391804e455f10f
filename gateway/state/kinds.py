"""How each kind of window counts: one function for each, which brings a key's word up to a slice, counts, and reads.

A function is given the page, where in it the key's word is, the newest slice the key was used in, the slice of what is seen,
the value (None: only look) and the window. The 52 bits that a word has for it hold

counts and sums    eight slices of 6 bits, that of slice s at s % 8; larger or negative ones lie in an array, each `bounded`
distinct           the code of one value and the slot of the newest slice it was seen in; 0: none
top share, quantile  the code of one value, how often it was seen (5 bits) and the slot; 0: none

and more values than one are packed as `cells` says. What is asked most is answered first: what was seen in this slice already.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from gateway.state.cells import (
    CODE,
    CODES,
    FEW,
    FULL_BITS,
    OTHERS,
    SHARE_CODE,
    SLOT,
    SLOT_BITS,
    TALLIES,
    Distinct,
    Reading,
    Tally,
    code_of,
    covered,
    named,
    newer,
    packed_codes,
    packed_counts,
    told,
    totals_of,
)
from gateway.state.operations import LARGEST_AMOUNT, SLICES, Count, Window, bin_of, bounded, edge_of
from gateway.state.pages import PAYLOAD, Page
from gateway.values import AtLeast

See = Callable[[Page, int, int, int, "int | str | None", Window], Reading]
_BITS: Final = 6
_MOST: Final = 2**_BITS - 1
_COUNTS: Final[int] = 2 ** (SLICES * _BITS) - 1
_EVEN: Final = sum(_MOST << 2 * _BITS * place for place in range(SLICES // 2))  # every second slice, so that sums find place
_LANE: Final = 2 ** (2 * _BITS) - 1  # the remainder by this is the sum of the lanes
_FULL: Final = 2**FULL_BITS - 1
_ONCE: Final = 1 << SLOT_BITS
_OFTEN_BITS: Final = 5
_OFTEN: Final = 2**_OFTEN_BITS - 1
_TOLD: Final = 2**32 - 1


def _staying(slot: int, passed: int) -> int:
    """What of eight slices stays when so many more follow on the one at a slot."""
    gone = sum(_MOST << (slot + 1 + place & SLOT) * _BITS for place in range(passed))
    return _COUNTS & ~gone


_STAYING: Final = [[_staying(slot, passed) for passed in range(SLICES)] for slot in range(SLICES)]


def count(page: Page, where: int, newest: int, at: int, value: int | str | None, window: Window) -> Reading:
    """Counts and sums."""
    cell = page.cells[where]
    if cell < 0:
        return _summed(page, where, newest, at, value)
    if at > newest:
        passed = at - newest
        cell = page.put(where, at, cell & _STAYING[newest & SLOT][passed] if passed < SLICES else 0)
        newest = at
    if value is not None and at > newest - SLICES:
        shift = (at & SLOT) * _BITS
        after = (cell >> shift & _MOST) + int(value)
        if not 0 <= after <= _MOST:
            slices = [cell >> place * _BITS & _MOST for place in range(SLICES)]
            page.hold(where, array("q", [newest << 1 | page.regular(where), *slices]))
            return _summed(page, where, newest, at, value)
        cell += int(value) << shift
        page.cells[where] = cell
    return ((cell & _EVEN) + (cell >> _BITS & _EVEN)) % _LANE


def _summed(page: Page, where: int, newest: int, at: int, value: int | str | None) -> Reading:
    slices = page.more[~page.cells[where]]
    assert isinstance(slices, array), "what a count keeps beside its word is an array"
    if at > newest:
        for passed in range(max(newest + 1, at - SLICES + 1), at + 1):
            slices[1 + (passed & SLOT)] = 0
        slices[0] = at << 1 | slices[0] & 1
        if at - newest >= SLICES:
            amount = 0 if value is None else int(value)
            if 0 <= amount <= _MOST:
                page.put(where, at, amount << (at & SLOT) * _BITS)
                return amount
        newest = at
    if value is not None and at > newest - SLICES:
        slices[1 + (at & SLOT)] = bounded(slices[1 + (at & SLOT)] + (1 if value == 1 else bounded(int(value))))
    whole = sum(slices) - slices[0]
    return whole if -LARGEST_AMOUNT <= whole <= LARGEST_AMOUNT else bounded(whole)


def distinct(page: Page, where: int, newest: int, at: int, value: int | str | None, window: Window) -> Reading:
    """Distinct values."""
    cell = page.cells[where]
    more = page.more[~cell] if cell < 0 else None
    if isinstance(more, Distinct):
        return more.see(at, value, window)
    if at == newest and value.__class__ is str:
        code = (hash(value) & CODE or 1) << SLOT_BITS | at & SLOT
        if more is None:
            known = cell & PAYLOAD
            if not known:
                page.cells[where] = cell | code
            elif known != code:
                return _distinct(page, where, newest, at, value, window)
            return 1
        if isinstance(more, bytes) and not more[0] & _FULL << 1:
            size, packed = (len(more) >> 3) - 1, code.to_bytes(8, "little")
            if packed[1:] not in more:
                if size < FEW and size < window.cap:
                    page.more[~cell] = more + packed
                    return size + 1
            elif code in CODES[size].unpack(more)[1:]:
                return size
    return _distinct(page, where, newest, at, value, window)


def _distinct(page: Page, where: int, newest: int, at: int, value: int | str | None, window: Window) -> Reading:
    cell, full = page.cells[where], 0
    more = page.more[~cell] if cell < 0 else None
    if isinstance(more, bytes):
        head, *codes = CODES[(len(more) >> 3) - 1].unpack(more)
        full = head >> 1 & _FULL
    else:
        codes = [cell & PAYLOAD] if cell & PAYLOAD else []
    if at > newest:
        codes = [codes[place] for place in covered(codes, newest, at)]
        full, newest = max(0, full - (at - newest)), at
    if value is not None and at > newest - SLICES:
        code = code_of(value) << SLOT_BITS | at & SLOT
        known = next((place for place, other in enumerate(codes) if other | SLOT == code | SLOT), None)
        if known is not None:
            codes[known] = newer(codes[known], code, newest)
        elif len(codes) >= window.cap:
            full = max(full, at + SLICES - newest)
        else:
            codes.append(code)
    if full or len(codes) > 1:
        page.hold(where, packed_codes(newest, full, page.regular(where), codes))
    else:
        page.put(where, newest, codes[0] if codes else 0)
    return AtLeast(len(codes)) if full else len(codes)


def tally(page: Page, where: int, newest: int, at: int, value: int | str | None, window: Window) -> Reading:
    """Top shares and quantiles."""
    cell = page.cells[where]
    more = page.more[~cell] if cell < 0 else None
    if isinstance(more, Tally):
        if value is not None:
            more.add(at, value, window)
        return more.read(at, window)
    if at == newest and value is not None:
        code = bin_of(int(value)) if window.kind is Count.QUANTILE else hash(str(value)) & SHARE_CODE or 1
        if more is None:
            known = cell & PAYLOAD
            if (
                known & ~(_OFTEN << SLOT_BITS) == _alone(code << SLOT_BITS | at & SLOT, 0)
                and 0 < known >> SLOT_BITS & _OFTEN < _OFTEN
            ):
                page.cells[where] = cell + _ONCE
                return edge_of(code) if window.kind is Count.QUANTILE else 1.0
        elif isinstance(more, bytes):
            reading = _again(page, ~cell, more, code << SLOT_BITS | at & SLOT, window)
            if reading is not None:
                return reading
    return _tally(page, where, newest, at, value, window)


def _again(page: Page, place: int, more: bytes, slotted: int, window: Window) -> Reading:
    """Count what was seen in the newest slice already. None where it was not."""
    size = len(more) // 12
    fields = TALLIES[size].unpack(more)
    codes: tuple[int, ...] = fields[1 : size + 1]
    counts: list[int] = list(fields[size + 1 :])
    if slotted not in codes:
        return None
    found = codes.index(slotted)
    if counts[found] >= _TOLD:
        return None
    counts[found] += 1
    page.more[place] = TALLIES[size].pack(fields[0], *codes, *counts)
    if window.kind is Count.TOP_SHARE:
        names = {code >> SLOT_BITS for code in codes}
        if len(names) == size and OTHERS not in names:  # each in one slice only, as it is most often
            return max(counts) / sum(counts)
    return told(totals_of(codes, counts), window)


def _tally(page: Page, where: int, newest: int, at: int, value: int | str | None, window: Window) -> Reading:
    cell = page.cells[where]
    more = page.more[~cell] if cell < 0 else None
    codes: list[int] = []
    counts: list[int] = []
    if isinstance(more, bytes):
        size = len(more) // 12
        _, *fields = TALLIES[size].unpack(more)
        codes, counts = fields[:size], fields[size:]
    elif known := cell & PAYLOAD:
        codes, counts = [known >> SLOT_BITS + _OFTEN_BITS << SLOT_BITS | known & SLOT], [known >> SLOT_BITS & _OFTEN]
    if at > newest:
        left = covered(codes, newest, at)
        codes, counts = [codes[place] for place in left], [counts[place] for place in left]
        newest = at
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
    if len(codes) > 1 or max(counts, default=0) > _OFTEN:
        page.hold(where, packed_counts(newest, page.regular(where), codes, counts))
    else:
        page.put(where, newest, _alone(codes[0], counts[0]) if codes else 0)
    return told(totals, window)


def _alone(code: int, often: int) -> int:
    """What a word holds of a tally's only code."""
    return (code >> SLOT_BITS << _OFTEN_BITS | often) << SLOT_BITS | code & SLOT


KINDS: Final[dict[Count, See]] = {
    Count.COUNT: count, Count.SUM: count, Count.DISTINCT: distinct, Count.TOP_SHARE: tally, Count.QUANTILE: tally,
}  # fmt: skip
