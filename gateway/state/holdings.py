"""Limits in tokens, money and requests under way: what the `limits` library has no counters for.

Unlike requests, these are given back: tokens and money once the answer says what was used, a lease when its exchange is
over. Amounts are whole numbers (`operations.Unit`), so that nothing is lost to rounding.

**Buckets.** A fixed window lies on the epoch grid. A moving one is cut into `SLICES` slices and covers the current one and
`SLICES` before it: never less than its period, so no stretch of a period ever holds more than the amount was when taken;
at most an eighth of the period longer, so that room may come back that much late. Units used beyond what was taken still
count: what they overdraw must leave the window before anything is admitted. They lie in the slice of their take, as long as
that is covered when the exchange is over, and in the newest one after that: nobody takes more by being told late. Units that
were not used come back to the slice of their take only: what has left the window with it makes no room a second time.

**Leases.** Each has an owner and ends by itself after the limit's period, so that an exchange that is never settled cannot
hold its slot for good. Those of exchanges that are still under way are renewed before (`held`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar
from zlib import crc32

from gateway.state.operations import METERED, SLICES, Limit, Pace, Take, Unit, bounded, joined, kept
from gateway.values import SECOND

SHARED = 1_024
_SWEPT = 2
_Held = TypeVar("_Held")
SOON = SECOND


class Holding(Protocol):
    """The counter of one limit under one key; times are µs since 1970."""

    def standing(self, limit: Limit, at: int) -> tuple[int, int]:
        """Units held, and when some may be free again."""
        ...

    def take(self, take: Take, at: int) -> None: ...

    def give_back(self, take: Take, at: int, now: int) -> None:
        """Undo a take made at the time `at`; it is now `now`. A negative cost takes that much more."""
        ...

    def gone(self, limit: Limit, at: int) -> bool:
        """Whether nothing is held any more."""
        ...


class Bucket:
    """Units by slice, none of them zero; a fixed window has one slice as long as itself. Looking turns nothing."""

    __slots__ = ("_newest", "_slices")

    def __init__(self) -> None:
        self._newest = -1
        self._slices: dict[int, int] = {}

    def standing(self, limit: Limit, at: int) -> tuple[int, int]:
        length, covered = grid(limit)
        newest = max(self._newest, at // length)
        held = [place for place in self._slices if place > newest - covered]
        return sum([self._slices[place] for place in held]), (min(held, default=newest) + covered) * length

    def take(self, take: Take, at: int) -> None:
        self._add(take.limit, at, at, bounded(take.cost))

    def give_back(self, take: Take, at: int, now: int) -> None:
        self._add(take.limit, at, now, -bounded(take.cost))

    def gone(self, limit: Limit, at: int) -> bool:
        length, covered = grid(limit)
        return self._newest + covered <= at // length

    def _add(self, limit: Limit, at: int, now: int, units: int) -> None:
        length, covered = grid(limit)
        place = at // length
        self._turn(max(place, now // length), covered)
        if place <= self._newest - covered:
            if units <= 0:
                return
            place = self._newest
        left = bounded(self._slices.pop(place, 0) + units)
        if left > 0:
            self._slices[place] = left

    def _turn(self, place: int, covered: int) -> None:
        if place > self._newest:
            self._newest = place
            self._slices = {old: units for old, units in self._slices.items() if old > place - covered}


class Leases:
    """Who holds a slot, and until when."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}

    def standing(self, limit: Limit, at: int) -> tuple[int, int]:
        self._ends = {owner: ends for owner, ends in self._ends.items() if ends > at}
        return len(self._ends), at + SOON

    def take(self, take: Take, at: int) -> None:
        self._ends[take.owner] = at + take.limit.period * SECOND

    def give_back(self, take: Take, at: int, now: int) -> None:
        if take.cost < 0:
            self._ends[take.owner] = now + take.limit.period * SECOND
        else:
            self._ends.pop(take.owner, None)

    def gone(self, limit: Limit, at: int) -> bool:
        return all(ends <= at for ends in self._ends.values())


def grid(limit: Limit) -> tuple[int, int]:
    """The length (µs) of a limit's slices, and how many of them its window covers."""
    period = limit.period * SECOND
    return (period, 1) if limit.pace is Pace.FIXED else (period // SLICES, SLICES + 1)


_KINDS: dict[Unit, Callable[[], Holding]] = {**dict.fromkeys(METERED, Bucket), Unit.CONCURRENT: Leases}


class Holdings:
    """The counters of every limit that is not in requests.

    None that holds something is ever dropped. Past `max_keys` new keys share `SHARED` counters for each limit, found by a
    checksum of the key, until these have passed: they are admitted too rarely, never too often. `shared` counts such takes.
    """

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.shared = 0
        self._sharing = False
        self._held: OrderedDict[tuple[object, ...], tuple[Holding, Limit]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def standing(self, take: Take, at: int) -> tuple[int, int]:
        """Units held under a limit and key at the time `at` (µs), and when (µs) some may be free."""
        found = self._held.get(self._where(take, at))
        return (found[0] if found else _KINDS[take.limit.unit]()).standing(take.limit, at)

    def take(self, take: Take, at: int) -> None:
        """Hold a take's units, whether or not there is room."""
        self._moved(take, at).take(take, at)
        self._sweep(at)

    def give_back(self, take: Take, at: int, now: int) -> None:
        """Give back units taken at the time `at`; the time is now `now` (both µs). What takes more is never lost."""
        if take.cost < 0:
            self._moved(take, now).give_back(take, at, now)
            self._sweep(now)
        elif (found := self._held.get(self._where(take, now))) is not None:
            found[0].give_back(take, at, now)

    def _where(self, take: Take, at: int) -> tuple[object, ...]:
        """The counter of a take: its key's own, or the one that its key shares."""
        limit = take.limit
        named = (limit.id, limit.unit, limit.period, limit.pace)
        own = (*named, take.key)
        if own in self._held or (not self._sharing and len(self._held) < self.max_keys):
            return own
        place = crc32(joined(take.key).encode("utf-8", "surrogatepass")) % min(SHARED, self.max_keys)
        shared = (*named, place)
        if shared in self._held and not self._gone(shared, at):
            return shared
        return own if len(self._held) < self.max_keys else shared

    def _gone(self, name: tuple[object, ...], at: int) -> bool:
        holding, limit = self._held[name]
        return holding.gone(limit, at - (kept(limit.period * SECOND) - limit.period * SECOND))

    def _moved(self, take: Take, at: int) -> Holding:
        """The counter of a take, a new one if need be, behind those that were used before it."""
        name = self._where(take, at)
        if name[-1] != take.key:
            self.shared += 1
            self._sharing = True
        found = self._held.pop(name, None)
        holding = found[0] if found else _KINDS[take.limit.unit]()
        self._held[name] = (holding, take.limit)
        return holding

    def _sweep(self, at: int) -> None:
        for _ in range(_SWEPT):
            first = next(iter(self._held))
            if not self._gone(first, at):
                break
            del self._held[first]
            if not self._held:
                break
