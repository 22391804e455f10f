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
from typing import Final, NamedTuple

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
    QUANTILE = "quantile"


NO_ZERO: Final = (Count.TOP_SHARE, Count.QUANTILE)  # what reads nothing, instead of 0, where nothing was counted


@dataclass(frozen=True, slots=True)
class Window:
    """A declared window.

    digest: names it in shared state, equal for equal definitions. cap: most distinct values kept. rank: of a quantile, which
    one, in millionths (500,000 is the median).
    """

    digest: str
    kind: Count
    length: int
    cap: int = 1_000
    rank: int = 0

    def slice_of(self, at: int) -> int:
        """The number of the slice that holds the time `at` (µs)."""
        return at // (self.length // SLICES)


class Pace(StrEnum):
    """How a limit's window moves: `fixed` restarts on the epoch grid, `moving` looks back from each request."""

    FIXED = "fixed"
    MOVING = "moving"


class Unit(StrEnum):
    """What a limit counts. Money is counted in billionths of a US dollar (`NANO` of them are one).

    Tokens are those of input and output together; cached ones are part of the input, those of reasoning part of the output.
    """

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT = "input tokens"
    OUTPUT = "output tokens"
    CACHED = "cached tokens"
    REASONING = "reasoning tokens"
    USD = "usd"
    CONCURRENT = "concurrent"


TOKEN_UNITS: Final = frozenset({Unit.TOKENS, Unit.INPUT, Unit.OUTPUT, Unit.CACHED, Unit.REASONING})
METERED: Final = TOKEN_UNITS | {Unit.USD}  # what is held back before the answer and settled by it


NANO: Final = 1_000_000_000
LARGEST_AMOUNT: Final = 2**53 - 1


def bounded(number: int) -> int:
    """The nearest number that every store counts exactly: from -`LARGEST_AMOUNT` to `LARGEST_AMOUNT`.

    >>> bounded(10**400) == LARGEST_AMOUNT
    True
    """
    return number if -LARGEST_AMOUNT <= number <= LARGEST_AMOUNT else LARGEST_AMOUNT if number > 0 else -LARGEST_AMOUNT


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` units per `period` seconds for a key.

    A concurrent limit has at most `amount` leases at a time, each for at most `period` seconds.
    """

    id: str
    amount: int
    period: int
    pace: Pace = Pace.FIXED
    shadow: bool = False
    unit: Unit = Unit.REQUESTS


class Sight(NamedTuple):
    """Look at a window under a key and, unless `value` is None, count it first.

    value: 1 for a count, the amount for a sum and a quantile, the text for distinct and top share. Amounts and sums of them
    end at `bounded`, whatever a caller wrote. A named tuple, because dozens are made for every request.
    """

    window: Window
    key: tuple[str, ...]
    value: int | str | None


class Recall(NamedTuple):
    """Marks to look for among those remembered under a key, or, with `keep`, to remember. name: what they are marks of.

    length: how long they are remembered (µs). `recalled` says how they are kept, in every store alike.
    """

    name: str
    length: int
    key: tuple[str, ...]
    marks: tuple[int, ...]
    keep: bool


@dataclass(frozen=True, slots=True)
class Take:
    """Units of a limit under a key: one request, or tokens or money held back, or one lease of an `owner`.

    Given back, `cost` says how many units; a negative number takes more, whether or not there is room: they were used. A lease
    given back at a negative cost is renewed: its owner is still under way. own: it is of this process's share (`share`).
    """

    limit: Limit
    key: tuple[str, ...]
    cost: int = 1
    owner: str = ""
    own: bool = False


@dataclass(slots=True)
class Batch:
    """Everything one exchange asks of the state at one time.

    takes: taken together or not at all. shadow_takes: the same, on counters of their own. returns: units taken earlier, with
    the time of the take, by a request that was then refused or took another amount; they are given back first. over: when the
    exchange of the returns was over (µs), where that is later than the batch's time.
    """

    at: int
    sights: list[Sight] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)
    shadow_takes: list[Take] = field(default_factory=list)
    returns: list[tuple[Take, int]] = field(default_factory=list)
    over: int = 0
    recalls: list[Recall] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.sights or self.takes or self.shadow_takes or self.returns or self.recalls)


@dataclass(slots=True)
class Reply:
    """The answers of one batch, in its order. A reading is an int, a float (top share), an AtLeast, or None (empty).

    recalled: of each recall, how many of its marks were found (what is only kept finds none).
    """

    readings: list[int | float | AtLeast | None] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    shadow_rooms: list[Room] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)


_EXACT: Final = 128


def bin_of(value: int) -> int:
    """The bin of a whole number: its own below 256, from there one for every 1/128 of the power of two below it.

    Numbers below zero count as zero, those past `LARGEST_AMOUNT` as that. After Gil Tene's HdrHistogram: whole numbers only, so
    that every store bins alike.
    """
    value = min(value, LARGEST_AMOUNT)
    if value < 2 * _EXACT:
        return max(value, 0)
    power = value.bit_length() - 8
    return power * _EXACT + (value >> power)


def edge_of(place: int) -> int:
    """The least value of a bin."""
    if place < 2 * _EXACT:
        return place
    power = place // _EXACT - 1
    return (place - power * _EXACT) << power


def rank_among(count: int, rank: int) -> int:
    """Which of `count` ordered values stands at a rank (millionths): the first is 1."""
    return max(1, -(-count * rank // 1_000_000))


def kept(length: int) -> int:
    """How long (µs) a key is remembered after its last use, for a window of this length (µs)."""
    return length + min(length, LATENESS)


def joined(parts: tuple[str, ...]) -> str:
    """Key parts as one text in which no part can pretend to be two.

    >>> joined(("a/b", "c")) == joined(("a", "b/c"))
    False
    """
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
