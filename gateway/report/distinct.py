"""How many different texts there were, in bounded memory."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import Final

from gateway.clusters.table import Hashes

SIZE: Final = 4_096
_SPACE: Final = 2**64


class Distinct:
    """Counts different texts: exactly below `size`, then by the least `size` of their hashes (Bar-Yossef et al., RANDOM 2002).

    The relative standard error of an estimate is 1/sqrt(size): 1.6 % for 4,096.
    """

    __slots__ = ("_hashed", "_heap", "_held", "_size")

    def __init__(self, hashed: Hashes, size: int = SIZE) -> None:
        self._hashed, self._size = hashed, size
        self._heap: list[int] = []
        self._held: set[int] = set()

    def add(self, text: str) -> None:
        """Take one text."""
        value = self._hashed(text)
        if value in self._held:
            return
        if len(self._heap) < self._size:
            heappush(self._heap, -value)
        elif value < -self._heap[0]:
            self._held.discard(-heapreplace(self._heap, -value))
        else:
            return
        self._held.add(value)

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return len(self._heap) < self._size

    @property
    def count(self) -> int:
        """How many different texts there were."""
        return len(self._heap) if self.exact else round((self._size - 1) * _SPACE / -self._heap[0])
