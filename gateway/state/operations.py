"""The vocabulary of state: what one exchange asks of it, as one batch, and what it answers.

The engine names every operation an exchange needs before it decides; memory answers in place, Redis in one round
trip, a replay from recorded time. Time is in the batch: no store reads a clock.

**Windows.** A window of length W is cut into `SLICES` equal slices aligned to the epoch. It covers the current slice
and the `SLICES - 1` before it: nothing older than W is ever counted, everything younger than W·(1 − 1/SLICES) always
is. Columns can compute the same, because an event's slice depends on its own time only.

**Late events.** An exchange settles at the time it was asked, so events come out of order. A window never turns back: a
late event is counted in its own slice while that is still covered, and is answered with the window as its key last
stood. Stores keep what they know of a key for `kept(length)` after its last use, so that forgetting it is never seen by
events that are late by up to W·(1 − 1/SLICES), or `LATENESS` if that is less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.decision import Room
from gateway.values import SECOND, AtLeast

SLICES: Final = 8
LATENESS: Final = 3_600 * SECOND


class Count(StrEnum):
    """What a window counts."""

    COUNT = "count"
    SUM = "sum"
    DISTINCT = "distinct"
    TOP_SHARE = "top_share"


@dataclass(frozen=True, slots=True)
class Window:
    """A declared window. digest: names it in shared state, equal for equal definitions. cap: most distinct values kept."""

    digest: str
    kind: Count
    length: int
    cap: int = 1_000

    def slice_of(self, at: int) -> int:
        """The number of the slice that holds the time `at` (µs)."""
        return at // (self.length // SLICES)


class Pace(StrEnum):
    """How a limit's window moves: `fixed` restarts on the epoch grid, `moving` looks back from each request."""

    FIXED = "fixed"
    MOVING = "moving"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` requests per `period` seconds for a key."""

    id: str
    amount: int
    period: int
    pace: Pace = Pace.FIXED
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """Look at a window under a key and, unless `value` is None, count it first.

    value: 1 for a count, the amount for a sum, the text for distinct and top share.
    """

    window: Window
    key: tuple[str, ...]
    value: int | str | None


@dataclass(frozen=True, slots=True)
class Take:
    """One unit of a limit under a key."""

    limit: Limit
    key: tuple[str, ...]


@dataclass(slots=True)
class Batch:
    """Everything one exchange asks of the state at one time.

    takes: taken together or not at all. shadow_takes: the same, on counters of their own. returns: units taken earlier by
    a request that was then refused, with the time of the take; they are given back first.
    """

    at: int
    sights: list[Sight] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)
    shadow_takes: list[Take] = field(default_factory=list)
    returns: list[tuple[Take, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.sights or self.takes or self.shadow_takes or self.returns)


@dataclass(slots=True)
class Reply:
    """The answers of one batch, in its order. A reading is an int, a float (top share), an AtLeast, or None (empty)."""

    readings: list[int | float | AtLeast | None] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    shadow_rooms: list[Room] = field(default_factory=list)


def kept(length: int) -> int:
    """How long (µs) a key is remembered after its last use, for a window of this length (µs)."""
    return length + min(length, LATENESS)


def joined(parts: tuple[str, ...]) -> str:
    """Key parts as one text in which no part can pretend to be two.

    >>> joined(("a/b", "c")) == joined(("a", "b/c"))
    False
    """
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
