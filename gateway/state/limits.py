"""Request limits through the `limits` library, on a storage of ours whose clock is the batch.

`limits` reads the wall clock in its stock storages, so it could not replay recorded time; its `Storage` base class is
the seam it offers. Its strategies do the arithmetic of fixed and moving windows.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from limits import RateLimitItemPerSecond
from limits.storage import MovingWindowSupport, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter

from gateway.decision import Room
from gateway.state.operations import Limit, Pace, Take, joined
from gateway.values import SECOND

MAX_KEYS = 1_000_000


class ClockedStorage(Storage, MovingWindowSupport):
    """A `limits` storage in memory whose time (seconds) is set by its owner before each use.

    Fixed windows lie on the epoch grid. Keys leave when their window has passed; past `max_keys` the key that was
    used longest ago goes first, and `evicted` counts it.
    """

    STORAGE_SCHEME = None

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        super().__init__()
        self.now = 0.0
        self.max_keys = max_keys
        self.evicted = 0
        self._counts: dict[str, tuple[int, float]] = {}
        self._entries: dict[str, list[float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, ends = self._counts.pop(key, (0, 0.0))
        if ends <= self.now:
            count, ends = 0, (self.now // expiry + 1) * expiry
        self._counts[key] = (count + amount, ends)
        self._shrink(self._counts)
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._counts.get(key, (0, 0.0))
        return count if ends > self.now else 0

    def get_expiry(self, key: str) -> float:
        ends = self._counts.get(key, (0, 0.0))[1]
        return ends if ends > self.now else self.now

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        entries = self._entries.pop(key, [])
        del entries[: bisect_left(entries, self.now - expiry + 1e-9)]
        fits = len(entries) + amount <= limit
        if fits:
            for _ in range(amount):
                insort(entries, self.now)
        if entries:
            self._entries[key] = entries
            self._shrink(self._entries)
        return fits

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        entries = self._entries.get(key, [])
        start = bisect_left(entries, self.now - expiry + 1e-9)
        return (entries[start] if start < len(entries) else self.now), len(entries) - start

    def give_back(self, key: str, at: float) -> None:
        """Undo one take made at the time `at` (seconds); nothing happens where its window has passed."""
        if key in self._counts:
            count, ends = self._counts[key]
            if ends > at and count:
                self._counts[key] = (count - 1, ends)
        elif entries := self._entries.get(key):
            place = bisect_left(entries, at)
            if place < len(entries) and entries[place] == at:
                del entries[place]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._counts) + len(self._entries)
        self._counts.clear()
        self._entries.clear()
        return count

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._counts) + len(self._entries)

    def _shrink(self, table: dict[str, object] | dict[str, tuple[int, float]] | dict[str, list[float]]) -> None:
        if len(table) > self.max_keys:
            table.pop(next(iter(table)))
            self.evicted += 1


class Limits:
    """Looks at and takes limits; a set of takes succeeds together or takes nothing."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.storage = ClockedStorage(max_keys)
        self._limiters: dict[Pace, RateLimiter] = {
            Pace.FIXED: FixedWindowRateLimiter(self.storage),
            Pace.MOVING: MovingWindowRateLimiter(self.storage),
        }

    def take(self, takes: list[Take], at: int) -> list[Room]:
        """Take one unit of every limit if all have room, else none. `at` is µs since 1970."""
        self.storage.now = at / SECOND
        fits = [self._limiters[take.limit.pace].test(item(take.limit), *name(take)) for take in takes]
        if all(fits):
            for take in takes:
                self._limiters[take.limit.pace].hit(item(take.limit), *name(take))
        return [self._room(take, fit, at) for take, fit in zip(takes, fits, strict=True)]

    def give_back(self, take: Take, at: int) -> None:
        self.storage.give_back(item(take.limit).key_for(*name(take)), at / SECOND)

    def _room(self, take: Take, allowed: bool, at: int) -> Room:
        limit = take.limit
        stats = self._limiters[limit.pace].get_window_stats(item(limit), *name(take))
        resets = round(stats.reset_time * SECOND)
        if limit.pace is Pace.FIXED and resets <= at:
            resets = (at // (limit.period * SECOND) + 1) * limit.period * SECOND
        return Room(limit.id, allowed, max(0, stats.remaining), max(resets, at), limit.shadow)


def item(limit: Limit) -> RateLimitItemPerSecond:
    """The `limits` item of a limit."""
    return RateLimitItemPerSecond(limit.amount, limit.period)


def name(take: Take) -> tuple[str, str]:
    """The identifiers of a counter, escaped; shadow limits count on counters of their own."""
    return ("shadow" if take.limit.shadow else "live"), joined((take.limit.id, *take.key))
