"""When conversations begin: densities over a scenario's window, and their inverse."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from gateway.simulate.drawing import Numbers, Shares, uniform
from gateway.simulate.people import HOUR
from gateway.simulate.table import Rhythm

MINUTE: Final = HOUR // 60
_BY_DAY: Final = (1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 9, 10, 10, 10, 9, 8, 7, 6, 5, 4, 3, 2)
_OFFICE: Final = (0, 0, 0, 0, 0, 0, 1, 3, 8, 10, 10, 9, 6, 9, 10, 10, 8, 4, 2, 2, 1, 1, 0, 0)
_NIGHT: Final = (0, 0, 10, 10, 4, *[0] * 19)
_LAUNCH: Final = 2.0  # a launch halves its traffic in about so many days


class Clock:
    """The density of one stream. begins, window: µs, from a full hour on; zone: hours by which its days are shifted."""

    def __init__(self, rhythm: Rhythm, begins: int, window: int, zone: int, synchrony: float) -> None:
        self.rhythm, self.begins, self.window, self.synchrony = rhythm, begins, window, synchrony
        self.edges = np.append(np.arange(0, window, HOUR), window)
        hours = (begins + self.edges[:-1]) // HOUR
        weights = self._weights(hours + zone) * np.diff(self.edges)
        if not weights.sum():  # a window too short to hold a busy hour
            weights = np.diff(self.edges).astype(np.float64)
        self.filled = np.append(0.0, np.cumsum(weights) / weights.sum())

    def _weights(self, hours: Numbers) -> Any:
        days = (hours // 24 + 3) % 7  # 1970 began on a Thursday; Monday is 0
        of_day = {Rhythm.DAY: _BY_DAY, Rhythm.OFFICE: _OFFICE, Rhythm.NIGHT: _NIGHT}.get(self.rhythm)
        if self.rhythm is Rhythm.LAUNCH:
            return 2.0 ** (-(hours - hours[0]) / 24 / _LAUNCH) * np.asarray(_BY_DAY, dtype=np.float64)[hours % 24]
        if of_day is None:
            return np.ones(len(hours))
        found = np.asarray(of_day, dtype=np.float64)[hours % 24]
        return np.where(days < 5, found, found * 0.15) if self.rhythm is Rhythm.OFFICE else found

    def share(self, at: int) -> float:
        """Which share of all roots has begun at a time."""
        return float(np.interp(at - self.begins, self.edges, self.filled))

    def times(self, places: Numbers, count: int, base: int) -> Numbers:
        """When the roots of these numbers, of `count` in all, begin."""
        drawn: Shares = (places + uniform(base, 1, places)) / count
        found = np.interp(drawn, self.filled, self.edges).astype(np.int64) + self.begins
        if self.rhythm is Rhythm.HOURLY:
            return np.asarray(found // HOUR * HOUR + (found % HOUR) // 30)
        if self.synchrony:
            bins = found // (10 * MINUTE) * (10 * MINUTE) + (found % (10 * MINUTE)) // 10
            return np.asarray(np.where(uniform(base, 2, places) < self.synchrony, bins, found))
        return np.asarray(found)
