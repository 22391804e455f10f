"""The leases of exchanges that are under way, and when they are renewed.

A lease ends by itself, so that a process that dies leaves no slot behind; an exchange that lasts longer than its lease must not
lose it meanwhile. So each is renewed whenever a quarter of it is over, for as long as somebody holds the exchange: one that
was dropped without being settled, which is a defect, keeps its slot for one lease and no longer. What a Redis forgot that was
started anew comes back the same way. A renewal that did not get through is not owed: the next look tries again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from weakref import ref

from gateway.state.operations import Batch, Take, Unit
from gateway.values import SECOND

PARTS: Final = 4
MOST: Final = 256  # in one batch, so that a store is not held up
_LONGEST: Final = 60 * SECOND


@dataclass(slots=True)
class _Lease:
    """holder: whoever is under way. at: when it was taken or last renewed (µs)."""

    holder: ref[object]
    take: Take
    at: int

    @property
    def part(self) -> int:
        """How long (µs) after that it is renewed."""
        return self.take.limit.period * SECOND // PARTS


class Held:
    """Leases by the exchange that holds them."""

    def __init__(self) -> None:
        self._leases: dict[str, list[_Lease]] = {}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def pause(self) -> int:
        """How long (µs) until somebody should look again; 0 where nothing is held."""
        return _pause([one for leases in self._leases.values() for one in leases])

    def begin(self, name: str, holder: object, takes: Iterable[Take], at: int) -> int:
        """An exchange took these. How long (µs) until somebody should look after its leases; 0 where there are none."""
        leases = [_Lease(ref(holder), take, at) for take in takes if take.limit.unit is Unit.CONCURRENT]
        if leases:
            self._leases[name] = leases
        return _pause(leases)

    def end(self, name: str) -> None:
        """An exchange is over: what it held is given back by whoever settles it."""
        self._leases.pop(name, None)

    def due(self, at: int) -> Iterator[Batch]:
        """Batches that renew what is to be renewed at the time `at` (µs)."""
        for name in [name for name, leases in self._leases.items() if leases[0].holder() is None]:
            del self._leases[name]
        due = [one for leases in self._leases.values() for one in leases if at - one.at >= one.part]
        for first in range(0, len(due), MOST):
            standing = [one for one in due[first : first + MOST] if self._stands(one)]
            yield Batch(at, returns=[(replace(one.take, cost=-1), at) for one in standing])

    def renewed(self, batch: Batch) -> None:
        """The state took this batch."""
        for take, at in batch.returns:
            for one in self._leases.get(take.owner, ()):
                if take.cost < 0 and one.take.limit == take.limit and one.take.key == take.key:
                    one.at = at

    def _stands(self, lease: _Lease) -> bool:
        """Whether an exchange is still under way, when its turn comes."""
        return lease in self._leases.get(lease.take.owner, ())


def _pause(leases: list[_Lease]) -> int:
    return min(_LONGEST, *(one.part for one in leases)) if leases else 0
