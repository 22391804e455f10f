"""Limits, changed in one place, for mutants: the amount, the period, how the window moves.

A change reads as its author would have written it: in the unit of the limit, by the smallest step that is written. A concurrent
limit has no window: it is told apart by how many exchanges are open at once. Its lease is for a process that died, and renewed
for all others: no case can tell it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final

from gateway.replay.altered import Altered
from gateway.state.operations import NANO, TOKEN_UNITS, Limit, Pace, Unit
from gateway.values import SECOND, duration_text

_PERIODS: Final = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day"}
_NOTICED: Final[Mapping[Unit, Callable[[str, str], str]]] = {
    Unit.REQUESTS: lambda low, high: f"cases in which exchange {high} of a period is the last, and whether it is refused",
    **dict.fromkeys(
        TOKEN_UNITS,
        lambda low, high: f"a case whose answers take {low} tokens in a period, and whether one more is refused",
    ),
    Unit.USD: lambda low, high: f"a case whose answers cost {low} to {high} usd in a period, and whether more is refused",
    Unit.CONCURRENT: lambda low, high: f"cases in which exchange {high} of those open at once ('lasts') is the last",
}


def spelled(limit: Limit) -> str:
    """A limit as a pack writes it: `5 usd/day`, `8 concurrent`."""
    if limit.unit is Unit.CONCURRENT:
        return f"{limit.amount} concurrent"
    return f"{_amount(limit)} {limit.unit}/{_PERIODS.get(limit.period) or _seconds(limit.period)}"


def amounts(limit: Limit) -> Iterator[Altered[Limit]]:
    """Every change of a limit."""
    step = _step(limit)
    for amount in (limit.amount - step, limit.amount + step):
        changed = replace(limit, amount=amount)
        if amount > 0:
            low, high = (_amount(one) for one in sorted((limit, changed), key=lambda one: one.amount))
            hint = _NOTICED[limit.unit](low, high)
            yield Altered(f"limit {spelled(limit)} becomes {spelled(changed)}", hint, changed)
    if limit.unit is Unit.CONCURRENT:
        return
    for period in (limit.period // 2, limit.period * 2):
        if period:
            changed = replace(limit, period=period)
            short, long = (_seconds(seconds) for seconds in sorted((period, limit.period)))
            hint = f"a case with exchanges between {short} and {long} apart"
            yield Altered(f"limit {spelled(limit)} becomes {spelled(changed)}", hint, changed)
    pace = Pace.MOVING if limit.pace is Pace.FIXED else Pace.FIXED
    hint = "a case whose exchanges lie on both sides of a full period since midnight"
    yield Altered(f"limit window {limit.pace} becomes {pace}", hint, replace(limit, pace=pace))


def _step(limit: Limit) -> int:
    """The smallest step that is written: one unit; of money one of its last written digit, a tenth of that near zero."""
    if limit.unit is not Unit.USD:
        return 1
    step = NANO
    while limit.amount % step or (limit.amount <= step and step > 1):
        step //= 10
    return step


def _amount(limit: Limit) -> str:
    return f"{(Decimal(limit.amount) / NANO).normalize():f}" if limit.unit is Unit.USD else str(limit.amount)


def _seconds(seconds: int) -> str:
    return duration_text(seconds * SECOND)
