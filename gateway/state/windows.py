"""Sliding windows of counts, sums, distinct values, top shares and quantiles, in memory.

One `Table` holds one declared window for every key. Keys are kept in two generations: a key that is used moves to the
young one; when the time that keys are kept (`operations.kept`) has passed, the old one is dropped whole. Memory is thus
bounded by the keys active in the last two such times, and by `max_keys`, without a sweep.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from gateway.state.operations import NO_ZERO, SLICES, Count, Window, bin_of, bounded, edge_of, kept, rank_among
from gateway.values import AtLeast

Reading = int | float | AtLeast | None


class Counter:
    """A count or sum of integers over the slices of a window; what is counted, a slice and the whole are each `bounded`."""

    __slots__ = ("_newest", "_slices", "_total")

    def __init__(self) -> None:
        self._newest = -1
        self._slices = [0] * SLICES
        self._total = 0

    def add(self, at: int, value: int | str, window: Window) -> None:
        self._advance(at)
        if at > self._newest - SLICES:
            before = self._slices[at % SLICES]
            after = self._slices[at % SLICES] = bounded(before + bounded(int(value)))
            self._total += after - before

    def read(self, at: int, window: Window) -> Reading:
        self._advance(at)
        return bounded(self._total)

    def _advance(self, at: int) -> None:
        if at <= self._newest:
            return
        for passed in range(max(self._newest + 1, at - SLICES + 1), at + 1):
            self._total -= self._slices[passed % SLICES]
            self._slices[passed % SLICES] = 0
        self._newest = at


class Distinct:
    """The distinct values of a window: each value with the newest slice it was seen in, at most `cap` of them."""

    __slots__ = ("_full_until", "_newest", "_seen")

    def __init__(self) -> None:
        self._newest = -1
        self._full_until = -1
        self._seen: dict[str, int] = {}

    def add(self, at: int, value: int | str, window: Window) -> None:
        self._advance(at)
        if at <= self._newest - SLICES:
            return
        text = str(value)
        known = self._seen.get(text)
        if known is None and len(self._seen) >= window.cap:
            self._full_until = max(self._full_until, at + SLICES)
        elif known is None or known < at:
            self._seen[text] = at

    def read(self, at: int, window: Window) -> Reading:
        self._advance(at)
        return AtLeast(len(self._seen)) if self._full_until > self._newest else len(self._seen)

    def _advance(self, at: int) -> None:
        if at > self._newest:
            oldest = at - SLICES
            self._seen = {value: seen for value, seen in self._seen.items() if seen > oldest}
            self._newest = at


Value = TypeVar("Value", str | None, int)


class Tally(Generic[Value]):
    """How often each value of a window was seen, by slice and in all; the base of what reads such counts."""

    __slots__ = ("_newest", "_slices", "_totals")

    def __init__(self) -> None:
        self._newest = -1
        self._slices: list[dict[Value, int]] = [{} for _ in range(SLICES)]
        self._totals: dict[Value, int] = {}

    def _count(self, at: int, value: Value) -> None:
        part = self._slices[at % SLICES]
        part[value] = part.get(value, 0) + 1
        self._totals[value] = self._totals.get(value, 0) + 1

    def _advance(self, at: int) -> None:
        if at <= self._newest:
            return
        for passed in range(max(self._newest + 1, at - SLICES + 1), at + 1):
            for value, count in self._slices[passed % SLICES].items():
                if self._totals[value] == count:
                    del self._totals[value]
                else:
                    self._totals[value] -= count
            self._slices[passed % SLICES] = {}
        self._newest = at


class TopShare(Tally[str | None]):
    """The share that the most frequent value has of all: 1.0 when one value is everything.

    Past `cap` values new ones are counted together as «others» (None): they still weigh in the whole, so the share
    never reads too high.
    """

    __slots__ = ()

    def add(self, at: int, value: int | str, window: Window) -> None:
        self._advance(at)
        if at > self._newest - SLICES:
            text = str(value)
            full = text not in self._totals and len(self._totals) >= window.cap
            self._count(at, None if full else text)

    def read(self, at: int, window: Window) -> Reading:
        self._advance(at)
        whole = sum(self._totals.values())
        named = max((count for text, count in self._totals.items() if text is not None), default=0)
        return named / whole if whole else None


class Quantile(Tally[int]):
    """How often each bin of values was seen (`operations.bin_of`), and so which value stands at a rank.

    A reading is the least value of its bin: never more than the true value, and less than 1/128 below it.
    """

    __slots__ = ()

    def add(self, at: int, value: int | str, window: Window) -> None:
        self._advance(at)
        if at > self._newest - SLICES:
            self._count(at, bin_of(int(value)))

    def read(self, at: int, window: Window) -> Reading:
        self._advance(at)
        left = rank_among(sum(self._totals.values()), window.rank)
        for place in sorted(self._totals):
            left -= self._totals[place]
            if left <= 0:
                return edge_of(place)
        return None


Cell = Counter | Distinct | TopShare | Quantile
CELLS: dict[Count, type[Cell]] = {
    Count.COUNT: Counter, Count.SUM: Counter, Count.DISTINCT: Distinct, Count.TOP_SHARE: TopShare, Count.QUANTILE: Quantile,
}  # fmt: skip


class Table:
    """One window under every key; `evicted` counts the keys that `max_keys` pushed out, old generation first."""

    def __init__(self, window: Window, max_keys: int) -> None:
        self.window = window
        self.max_keys = max_keys
        self.evicted = 0
        self._cell = CELLS[window.kind]
        self._kept = kept(window.length)
        self._young: dict[tuple[str, ...], Cell] = {}
        self._old: dict[tuple[str, ...], Cell] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def see(self, key: tuple[str, ...], value: int | str | None, at: int) -> Reading:
        """Count `value` under `key` (None: only look), then read the window, at the time `at` (µs)."""
        if at >= self._turn:
            self._next_generation(at)
        cell = self._young.get(key) or self._old.pop(key, None)
        if cell is None:
            if value is None:
                return None if self.window.kind in NO_ZERO else 0
            cell = self._cell()
        self._young[key] = cell
        if len(self) > self.max_keys:
            crowd = self._old or self._young
            del crowd[next(iter(crowd))]
            self.evicted += 1
        part = self.window.slice_of(at)
        if value is not None:
            cell.add(part, value, self.window)
        return cell.read(part, self.window)

    def forgotten(self, at: int) -> bool:
        """Whether nothing in here can matter at the time `at` (µs) any more."""
        return at >= self._turn + self._kept

    def _next_generation(self, at: int) -> None:
        self._old = {} if self.forgotten(at) else self._young
        self._young = {}
        self._turn = at + self._kept
