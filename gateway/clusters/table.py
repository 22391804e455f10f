"""Who was seen with what, in bounded memory and whatever the order of records: columns of numbers, merged now and then.

A row says that a node showed a value in a slot: how often, first and last when (µs). Values are 64-bit hashes; two of a
million values share one with a probability of 3e-8. Rows that say the same are merged when the columns have doubled, so the
cost is n log n in all. Past `most` rows a table looks at half of the values only, then at a quarter, chosen by their hashes:
what is kept is kept whole, so links of kept values lose nothing and others are not seen at all. `share` says how much is
kept. How many times it was halved depends on the set of rows, not on their order. A count over a halved table is the count of
what is kept divided by `share`, with a relative standard error of sqrt((1 / share - 1) / n) for n true values.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

PENDING: Final = 2**18
MOST: Final = 4_000_000
CACHED: Final = 2**16
_SPREAD: Final = 0x9E3779B97F4A7C15
_WORD: Final = 2**64 - 1


class Hashes:
    """64-bit hashes of texts, the last many of them remembered. They are stable: no process, seed or order changes them."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= CACHED:
                self._known.clear()
            found = self._known[text] = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        return found


class Table:
    """Rows (value, node, slot) with count, first and last. by_slot: past `most` rows slots are left out, not values."""

    def __init__(self, most: int = MOST, by_slot: bool = False) -> None:
        self._most, self._by_slot = most, by_slot
        self._halvings = 0
        self._merged = 0
        self.values, self.nodes, self.slots = array("Q"), array("I"), array("q")
        self.counts, self.firsts, self.lasts = array("Q"), array("q"), array("q")

    @property
    def share(self) -> float:
        """Which share of the values is looked at: 1, 1/2, 1/4 …"""
        return 1.0 / (1 << self._halvings)

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: int, node: int, at: int, slot: int = 0) -> None:
        """Take one sighting."""
        if self._halvings and not self._kept(value, slot):
            return
        self.values.append(value)
        self.nodes.append(node)
        self.slots.append(slot)
        self.counts.append(1)
        self.firsts.append(at)
        self.lasts.append(at)
        if len(self.values) - self._merged >= max(PENDING, self._merged):
            self.merge()

    def merge(self, rank: list[int] | None = None) -> None:
        """Sort the rows by value, node and slot, and merge those that say the same. rank: new numbers of the nodes."""
        nodes = array("I", (rank[node] for node in self.nodes)) if rank is not None else self.nodes
        keys = [v << 96 | n << 64 | (s & _WORD) for v, n, s in zip(self.values, nodes, self.slots, strict=True)]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        values, slots, counts, firsts, lasts = self.values, self.slots, self.counts, self.firsts, self.lasts
        self._clear()
        heads: list[int] = []
        before = -1
        for row in order:
            if keys[row] != before:
                before = keys[row]
                heads.append(row)
                self.counts.append(counts[row])
                self.firsts.append(firsts[row])
                self.lasts.append(lasts[row])
                continue
            self.counts[-1] += counts[row]
            if firsts[row] < self.firsts[-1]:
                self.firsts[-1] = firsts[row]
            if lasts[row] > self.lasts[-1]:
                self.lasts[-1] = lasts[row]
        for column, held in zip((self.values, self.nodes, self.slots), (values, nodes, slots), strict=True):
            column.extend(map(held.__getitem__, heads))
        while len(self.values) > self._most:
            self._halvings += 1
            self._keep()
        self._merged = len(self.values)

    def groups(self) -> Iterator[tuple[int, range]]:
        """Each value with its rows, in the order of values; of a merged table."""
        begin, values = 0, self.values
        for row in range(1, len(values) + 1):
            if row == len(values) or values[row] != values[begin]:
                yield values[begin], range(begin, row)
                begin = row

    def _kept(self, value: int, slot: int) -> bool:
        told = ((slot // 60) & _WORD if self._by_slot else value) * _SPREAD & _WORD
        return told >> (64 - self._halvings) == 0

    def _keep(self) -> None:
        kept = [row for row in range(len(self.values)) if self._kept(self.values[row], self.slots[row])]
        old = self._columns()
        self._clear()
        for column, held in zip(self._columns(), old, strict=True):
            column.extend(held[row] for row in kept)

    def _columns(self) -> tuple[array[int], ...]:
        return self.values, self.nodes, self.slots, self.counts, self.firsts, self.lasts

    def _clear(self) -> None:
        self.values, self.nodes, self.slots = array("Q"), array("I"), array("q")
        self.counts, self.firsts, self.lasts = array("Q"), array("q"), array("q")
