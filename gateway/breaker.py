"""A circuit breaker: whether something that fails is asked again now. No I/O, no clock of its own.

Closed, everything is asked. Where AFTER asks in a row failed it opens: nothing is asked until it has rested, longer each time
in a row, up to the longest. Then it is half open: one ask finds out, and all others are answered as before; if that one fails
it opens again, if it succeeds it closes. After Michael Nygard's pattern («Release It!», 2007). One asker that never says what
it met holds the others up for one rest, no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

AFTER: Final = 3
REST: Final = 1.0  # seconds
LONGEST: Final = 30.0


class Position(StrEnum):
    """What a breaker does with the next ask."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Breaker:
    """now: seconds, of any clock that does not go back. changed: told whenever it opens or closes.

    failures: in a row. opened: how often it opened, ever. problem: what the last failure was, empty since a success.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        after: int = AFTER,
        rest: float = REST,
        longest: float = LONGEST,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._now, self._after, self._rest, self._longest = now, after, rest, longest
        self.changed = changed
        self.failures = self.opened = 0
        self.problem = ""
        self._rests = 0  # in a row
        self._until = self._trying = 0.0

    @property
    def position(self) -> Position:
        if not self._rests:
            return Position.CLOSED
        return Position.OPEN if self._now() < self._until else Position.HALF_OPEN

    @property
    def failing(self) -> bool:
        """Whether the last ask failed, be it open or not."""
        return self.failures > 0

    @property
    def wait(self) -> float:
        """Seconds until it may be asked again."""
        return max(0.0, self._until - self._now()) if self._rests else 0.0

    @property
    def free(self) -> bool:
        """Whether one may ask now, without doing so."""
        return not self._rests or self._now() >= max(self._until, self._trying)

    def admits(self) -> bool:
        """Whether to ask now. Whoever is told so says afterwards what it `met`."""
        if not self._rests:
            return True
        if not self.free:
            return False
        self._trying = self._now() + self._rest
        return True

    def met(self, *, good: bool, problem: str = "") -> None:
        """What an ask met."""
        if good:
            if self.failures:
                self.failures, self._rests, self.problem, self._trying = 0, 0, "", 0.0
                self.changed()
            return
        self.failures += 1
        self.problem = problem or self.problem
        now, self._trying = self._now(), 0.0
        if self.failures >= self._after and self._until <= now:  # what was on its way when it opened counts once
            self._rests += 1
            self.opened += 1
            self._until = now + min(self._longest, self._rest * self._rests)
        self.changed()

    def health(self) -> dict[str, object]:
        """Its position, failures in a row, how often it opened, and in how many seconds it may be asked again."""
        told: dict[str, object] = {"breaker": str(self.position), "failures": self.failures, "opened": self.opened}
        return told | ({"asked_in": round(self.wait, 3)} if self.wait else {})
