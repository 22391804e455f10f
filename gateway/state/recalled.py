"""What an account's earlier answers left behind: marks, for finding out how much of a prompt came back from them.

**Marks** are keyed hashes of 64 bits, of which 34 are used: 11 choose one of `PLACES` places of a key's memory, 20 stand
there as a tag beside the slice of time, counted modulo 4,096, in which they were kept. A newer mark takes the place of an
older one, so a memory never grows and no mark is searched for. Redis keeps the same numbers in the same places (`batch.lua`),
so that every store answers alike.

**Error.** A mark that was never kept is taken for one that was with a chance of at most 2⁻²⁰. One that was kept is lost once
another came to its place: of the last n marks kept under a key a share of about e^(-m/2048) is left, m being those kept
since, so that half are left after 1,420. What is read is therefore never much too high, and too low for accounts with more
answers than fit. A mark is remembered for its length less up to an eighth of it, and never longer, until 4,096 slices (512
lengths) have gone by.

**Memory.** A key takes `BYTES_PER_KEY` bytes and less than 1,000 around them, from its first mark on. There are at most
`most` keys: past them one is let go for each new one, of those that kept marks once only the one unused for longest, so that
a flood of keys pushes out itself. When those that came again are more than three quarters of all, it is the one of them
unused for longest. `let_go` counts them; a key that was let go reads 0 of what it had.
"""

from __future__ import annotations

from array import array
from typing import Final

from gateway.state.operations import SLICES, Recall, kept

PLACES: Final = 2_048
MOST_KEYS: Final = 8_192
BYTES_PER_KEY: Final = 4 * PLACES
_PLACE_BITS: Final = 11
_SLICE_BITS: Final = 12
_TAG: Final = 2**20 - 1
_TURN: Final = 2**_SLICE_BITS
_CLEARED: Final = 2

Name = tuple[str, tuple[str, ...]]


def places_of(recall: Recall) -> list[tuple[int, int]]:
    """The place and the tag of each mark; a tag is never 0, which stands for nothing."""
    return [(mark & PLACES - 1, mark >> _PLACE_BITS & _TAG or 1) for mark in recall.marks]


def slice_of(recall: Recall, at: int) -> int:
    """The slice of the time `at` (µs), modulo 4,096."""
    return at // (recall.length // SLICES) % _TURN


class _Memory:
    """What is remembered under one key. until: when all of it is out of date (µs)."""

    __slots__ = ("cells", "until")

    def __init__(self) -> None:
        self.cells = array("I", bytes(BYTES_PER_KEY))
        self.until = 0


class Recalled:
    """The memories of every key, in this process. most: how many of them; 8 KiB each."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self.most = most
        self.let_go = 0
        self._once: dict[Name, _Memory] = {}
        self._again: dict[Name, _Memory] = {}

    def __len__(self) -> int:
        return len(self._once) + len(self._again)

    def see(self, recall: Recall, at: int) -> int:
        """Look for marks, or keep them, at the time `at` (µs); how many were found."""
        if recall.keep:
            self._keep(recall, at)
            return 0
        name = recall.name, recall.key
        memory = self._again.get(name) or self._once.get(name)
        if memory is None:
            return 0
        now, cells = slice_of(recall, at), memory.cells
        found = 0
        for place, tag in places_of(recall):
            cell = cells[place]
            found += cell >> _SLICE_BITS == tag and (now - cell) % _TURN < SLICES
        return found

    def _keep(self, recall: Recall, at: int) -> None:
        memory = self._memory((recall.name, recall.key), at)
        memory.until = max(memory.until, at + kept(recall.length))
        now, cells = slice_of(recall, at), memory.cells
        for place, tag in places_of(recall):
            cells[place] = tag << _SLICE_BITS | now

    def _memory(self, name: Name, at: int) -> _Memory:
        """The memory of a key, made where there is none. Dictionaries are in the order of last use."""
        found = self._again.pop(name, None) or self._once.pop(name, None)
        if found is not None:
            self._again[name] = found
            return found
        for crowd in (self._once, self._again):
            for _ in range(_CLEARED):
                oldest = next(iter(crowd), None)
                if oldest is None or crowd[oldest].until > at:
                    break
                del crowd[oldest]
        while len(self) >= self.most:
            many = len(self._again) * 4 > self.most * 3 or not self._once
            crowd = self._again if many else self._once
            del crowd[next(iter(crowd))]
            self.let_go += 1
        made = self._once[name] = _Memory()
        return made
