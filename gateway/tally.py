"""Plain counting for metrics: integers that the hot path adds to, and others read. Nothing here locks or waits.

Readers in other threads see each number as it was at some moment; what is keyed by something a caller controls has a cap, past
which it is counted under `OTHER`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

OTHER: Final = "other"
MOST: Final = 1_000
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
Key = TypeVar("Key", bound=Hashable)


class Histogram:
    """How often a number fell at or below each bound, the sum of all, the least and the most. bounds: ascending."""

    __slots__ = ("bounds", "counts", "least", "most", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = self.least = self.most = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.least = value if not self.total or value < self.least else self.least
        self.most = max(value, self.most)
        self.total += value


class Counters(Generic[Key]):
    """Counts by key, at most `most` of them; the rest goes to `other`."""

    def __init__(self, other: Key, most: int = MOST) -> None:
        self._other, self._most = other, most
        self._counts: dict[Key, int] = {}

    def add(self, key: Key, count: int = 1) -> None:
        counts = self._counts
        if key not in counts and len(counts) >= self._most:
            key = self._other
        counts[key] = counts.get(key, 0) + count

    def items(self) -> list[tuple[Key, int]]:
        return list(self._counts.items())


class Histograms(Generic[Key]):
    """Histograms by key, at most `most` of them; the rest goes to `other`."""

    def __init__(self, other: Key, bounds: Sequence[float] = SECONDS, most: int = MOST) -> None:
        self._other, self._bounds, self._most = other, bounds, most
        self._found: dict[Key, Histogram] = {}

    def observe(self, key: Key, value: float) -> None:
        found = self._found.get(key)
        if found is None:
            key = key if len(self._found) < self._most else self._other
            found = self._found.setdefault(key, Histogram(self._bounds))
        found.observe(value)

    def items(self) -> list[tuple[Key, Histogram]]:
        return list(self._found.items())
