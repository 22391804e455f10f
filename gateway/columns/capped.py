"""Windows whose readings depend on the order of events: top shares past their cap, and quantiles; by the state's own objects.

Once a key has more values than the cap of its measure, which of them are kept is decided event by event. So these keys, and no
others, are counted by `gateway.state.cells`; what was held of them before is handed over, and is enough, because until then
nothing had been left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Final

import numpy as np

from gateway.columns.groups import Held, Spans
from gateway.columns.values import Floats, Hashes, Ints
from gateway.columns.windows import Counted
from gateway.state.cells import SLOT, SLOT_BITS, Reading, Tally, share_of
from gateway.state.operations import SLICES, Window

_NEVER: Final = -1


class Coded(str):
    """The hash of a value as a text whose own hash is that number, so that a later process finds the same codes."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __hash__(self) -> int:
        return int(self)


class Capped:
    """The keys of one measure that are counted one event at a time. objects: what they hold, by the hash of the key."""

    def __init__(self, window: Window, objects: dict[int, Tally] | None = None) -> None:
        self.window = window
        self.objects = {} if objects is None else objects

    def copy(self) -> Capped:
        """One that counts on without this one's knowing."""
        return Capped(self.window, deepcopy(self.objects))

    def needs(self, spans: Spans, over: Iterable[int]) -> list[int]:
        """The numbers of the keys to be counted here: those that go `over` the cap, and those that are counted here already."""
        held = np.fromiter(self.objects, np.uint64, len(self.objects))
        gid, here = spans.groups.find(held)
        return sorted({*over, *gid[here].tolist()})

    def see(self, spans: Spans, gids: Iterable[int], counted: Counted, held: Held, late: bool) -> tuple[Ints, Floats]:
        """The rows (of the group) of some keys, and their readings (not a number: nothing)."""
        rows, numbers = list[int](), list[float]()
        for gid in gids:
            first, last = int(spans.groups.starts[gid]), int(spans.groups.starts[gid + 1])
            readings = self._key(
                spans.groups.keys[gid], spans.slices[first:last].tolist(), _values(counted, first, last), held, late
            )
            rows += range(first, last)
            numbers += [np.nan if one is None else one for one in readings]  # type: ignore[misc]
        return np.array(rows, np.int64), np.array(numbers, np.float64)

    def let_go(self, part: int) -> None:
        """Forget what holds nothing any more at a slice."""
        for key in [key for key, one in self.objects.items() if one.newest < part - 2 * SLICES]:
            del self.objects[key]

    def _key(self, key: np.uint64, slices: list[int], values: list[int | str | None], held: Held, late: bool) -> list[Reading]:
        one = self.objects.get(int(key))
        if one is None:
            one = self.objects[int(key)] = self._begun(key, held)
        found: list[Reading] = []
        window = self.window
        for part, value in zip(slices, values, strict=True):
            if value is not None and not late:
                one.add(part, value, window)
            found.append(one.read(part, window))
            if value is not None and late:
                one.add(part, value, window)
        return found

    def _begun(self, key: np.uint64, held: Held) -> Tally:
        """An object that holds what columns held of a key."""
        first, last = np.searchsorted(held.keys, key), np.searchsorted(held.keys, key, side="right")
        slices, values = held.slices[first:last].tolist(), held.values[first:last].tolist()
        newest = max(slices, default=_NEVER)
        codes = [share_of(Coded(value)) << SLOT_BITS | part & SLOT for part, value in zip(slices, values, strict=True)]
        return Tally(newest, codes, held.weights[first:last].tolist())


def _values(counted: Counted, first: int, last: int) -> list[int | str | None]:
    """What is counted of some rows: numbers, or the hashes of texts; None where nothing is."""
    where = counted.where[first:last].tolist()
    if counted.codes is None:
        assert counted.weights is not None, "a quantile ranks numbers"
        return [number if counts else None for number, counts in zip(counted.weights[first:last].tolist(), where, strict=True)]
    hashes: Hashes | None = counted.hashes
    assert hashes is not None, "what counts values is given their hashes"
    numbers = hashes[counted.codes[first:last]].tolist() if len(hashes) else [0] * len(where)
    return [Coded(number) if counts else None for number, counts in zip(numbers, where, strict=True)]
