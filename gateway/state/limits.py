"""Limits: those in requests through the `limits` library, on a storage of ours whose clock is the batch.

`limits` reads the wall clock in its stock storages, so it could not replay recorded time; its `Storage` base class is
the seam it offers. Its strategies do the arithmetic of fixed and moving windows. The library speaks in seconds, and a
float of seconds cannot tell «exactly one period ago» from «a moment less», so the storage keeps whole microseconds. Tokens,
money and leases, which are given back, are `holdings`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from functools import lru_cache
from typing import TypeVar
from zlib import crc32

from limits import RateLimitItemPerSecond
from limits.storage import MovingWindowSupport, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter

from gateway.decision import Room
from gateway.state.holdings import Holdings
from gateway.state.operations import Limit, Pace, Take, Unit, joined, kept
from gateway.values import SECOND

MAX_KEYS = 1_000_000
SHARED = 1_024
_SWEPT = 2
Kept = TypeVar("Kept", tuple[int, int], "array[int]")


class ClockedStorage(Storage, MovingWindowSupport):
    """A `limits` storage in memory for limits of one period (seconds); its owner sets `now` (µs) before each use.

    Fixed windows lie on the epoch grid; a late hit counts in the window that is kept. Keys lie in the order of their
    last hit, so the first ones are the first to pass: each hit drops a few that have.

    No counter that holds something is ever dropped, because its key would be admitted anew. Past `max_keys` a new key counts
    on one of at most `SHARED` counters of its amount, found by a checksum of the key, and stays there until that one has
    passed: such keys are admitted too rarely, never too often. `shared` counts these hits.
    """

    STORAGE_SCHEME = None

    def __init__(self, period: int, max_keys: int = MAX_KEYS) -> None:
        super().__init__()
        self.now = 0
        self.max_keys = max_keys
        self.shared = 0
        self._sharing = False
        self._period = period * SECOND
        self._lateness = kept(self._period) - self._period
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()  # its first item is found at once, a dict's is not
        self._entries: OrderedDict[str, array[int]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        key = self._hit(self._counts, key)
        count, ends = self._counts.pop(key, (0, 0))
        if ends <= self.now:
            count, ends = 0, self.ends(self.now)
        self._counts[key] = (count + amount, ends)
        self._sweep(self._counts)
        return count + amount

    def get(self, key: str) -> int:
        return self.standing(key, Pace.FIXED)[0]

    def get_expiry(self, key: str) -> float:
        return self.standing(key, Pace.FIXED)[1] / SECOND

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        key = self._hit(self._entries, key)
        entries = self._entries.pop(key, None) or array("q")
        del entries[: bisect_right(entries, self.now - self._period)]
        fits = len(entries) + amount <= limit
        if fits:
            for _ in range(amount):
                insort(entries, self.now)
        if entries:
            self._entries[key] = entries
            self._sweep(self._entries)
        return fits

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        count, resets = self.standing(key, Pace.MOVING)
        return (resets - self._period) / SECOND, count

    def standing(self, key: str, pace: Pace) -> tuple[int, int]:
        """How many units the current window holds, and when (µs) the first of them is free again."""
        if pace is Pace.FIXED:
            count, ends = self._counts.get(self._where(self._counts, key), (0, 0))
            return (count, ends) if ends > self.now else (0, self.ends(self.now))
        entries = self._entries.get(self._where(self._entries, key)) or array("q")
        start = bisect_right(entries, self.now - self._period)
        return len(entries) - start, (entries[start] if start < len(entries) else self.now) + self._period

    def give_back(self, key: str, pace: Pace, at: int) -> None:
        """Undo one take made at the time `at` (µs); nothing happens where its window is no longer the one kept."""
        if pace is Pace.FIXED:
            key = self._where(self._counts, key)
            count, ends = self._counts.get(key, (0, 0))
            if count and ends == self.ends(at):
                self._counts[key] = (count - 1, ends)
        elif entries := self._entries.get(key := self._where(self._entries, key)):
            place = bisect_left(entries, at)
            if place < len(entries) and entries[place] == at:
                del entries[place]
            if not entries:
                del self._entries[key]

    def ends(self, at: int) -> int:
        """When (µs) the fixed window that holds the time `at` (µs) ends."""
        return (at // self._period + 1) * self._period

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self)
        self._counts.clear()
        self._entries.clear()
        return count

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._counts) + len(self._entries)

    def _where(self, table: OrderedDict[str, Kept], key: str) -> str:
        """The counter of a key: its own, or the one it shares."""
        if key in table or (not self._sharing and len(table) < self.max_keys):
            return key
        shared = f"shared/{key.rsplit('/', 3)[1]}/{crc32(key.encode('utf-8', 'surrogatepass')) % min(SHARED, self.max_keys)}"
        if shared in table and self._passes(table[shared]) > self.now - self._lateness:
            return shared
        return key if len(table) < self.max_keys else shared

    def _hit(self, table: OrderedDict[str, Kept], key: str) -> str:
        found = self._where(table, key)
        if found != key:
            self.shared += 1
            self._sharing = True
        return found

    def _passes(self, kept: tuple[int, int] | array[int]) -> int:
        return kept[1] if isinstance(kept, tuple) else kept[-1] + self._period

    def _sweep(self, table: OrderedDict[str, Kept]) -> None:
        for _ in range(_SWEPT):
            if not table:
                return
            first = next(iter(table))
            if self._passes(table[first]) + self._lateness > self.now:
                break
            del table[first]


class Limits:
    """Looks at and takes limits; a set of takes succeeds together or takes nothing.

    For takes in order of time a moving window never admits more than its amount in any stretch of its period, a fixed
    one in any stretch of its grid. max_keys: counters of their own kept per period and pace; the keys past them share.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.max_keys = max_keys
        self._periods: dict[int, _Period] = {}
        self._holdings = Holdings(max_keys)

    def take(self, takes: list[Take], at: int) -> list[Room]:
        """Take every take's units if all limits have room, else none. `at` is µs since 1970."""
        # a counter that is named twice needs the units of both, or the set would overdraw it
        fits = [self._fits(take, needed(take, takes), at) for take in takes]
        if all(fits):
            for take in takes:
                self._hit(take, at)
        return [_room(take.limit, fit, self._standing(take, at)) for fit, take in zip(fits, takes, strict=True)]

    def give_back(self, take: Take, at: int, now: int) -> None:
        """Undo a take made at the time `at` (µs), or as many of its units as it says (`holdings` says where)."""
        if take.limit.unit is not Unit.REQUESTS:
            self._holdings.give_back(take, at, now)
            return
        storage = self._period(take.limit.period, at).storage
        storage.give_back(item(take.limit).key_for(*name(take)), take.limit.pace, at)

    @property
    def shared(self) -> int:
        """Takes of keys that found no counter of their own."""
        return self._holdings.shared + sum(period.storage.shared for period in self._periods.values())

    def __len__(self) -> int:
        return len(self._holdings) + sum(len(period.storage) for period in self._periods.values())

    def _fits(self, take: Take, units: int, at: int) -> bool:
        if take.limit.unit is not Unit.REQUESTS:
            return self._holdings.standing(take, at)[0] + units <= take.limit.amount
        return self._limiter(take, at).test(item(take.limit), *name(take), cost=units)

    def _hit(self, take: Take, at: int) -> None:
        if take.limit.unit is not Unit.REQUESTS:
            self._holdings.take(take, at)
        else:
            self._limiter(take, at).hit(item(take.limit), *name(take))

    def _standing(self, take: Take, at: int) -> tuple[int, int]:
        if take.limit.unit is not Unit.REQUESTS:
            return self._holdings.standing(take, at)
        storage = self._period(take.limit.period, at).storage
        return storage.standing(item(take.limit).key_for(*name(take)), take.limit.pace)

    def _limiter(self, take: Take, at: int) -> RateLimiter:
        return self._period(take.limit.period, at).limiters[take.limit.pace]

    def _period(self, seconds: int, at: int) -> _Period:
        period = self._periods.get(seconds)
        if period is None:
            period = self._periods[seconds] = _Period(ClockedStorage(seconds, self.max_keys))
        period.storage.now = at
        return period


class _Period:
    """The counters of all limits of one period, and the strategies that run on them."""

    def __init__(self, storage: ClockedStorage) -> None:
        self.storage = storage
        self.limiters: dict[Pace, RateLimiter] = {
            Pace.FIXED: FixedWindowRateLimiter(storage),
            Pace.MOVING: MovingWindowRateLimiter(storage),
        }


def needed(take: Take, takes: list[Take]) -> int:
    """The units that a set of takes needs of the counter that one of them names."""
    return sum(other.cost for other in takes if other.limit == take.limit and other.key == take.key)


@lru_cache(maxsize=4_096)
def item(limit: Limit) -> RateLimitItemPerSecond:
    """The `limits` item of a limit."""
    return RateLimitItemPerSecond(limit.amount, limit.period)


def name(take: Take) -> tuple[str, str]:
    """The identifiers of a counter, escaped; shadow limits count on counters of their own."""
    return ("shadow" if take.limit.shadow else "live"), joined((take.limit.id, *take.key))


def _room(limit: Limit, allowed: bool, standing: tuple[int, int]) -> Room:
    count, resets = standing
    return Room(limit.id, allowed, max(0, limit.amount - count), resets, limit.shadow)
