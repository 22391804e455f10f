"""When an exchange came: `request.hour`.

A number of hours, not an hour of the day: different ones counted over a window say in how many hours somebody was active. It
follows from the time of the exchange alone, so a replay, and a record written before the signal existed, give the same.
"""

from __future__ import annotations

from typing import Final

from gateway.registry import Registry, Settings
from gateway.signals import Signal
from gateway.values import INT, SECOND

HOUR: Final = 3_600 * SECOND


def register(registry: Registry, settings: Settings) -> None:
    registry.add_signals((
        Signal("request.hour", INT, "the hour it came in, counted from 1970 on: different ones are hours of activity",
               lambda view: view.facts.at // HOUR, confounder="scheduled jobs and users in many time zones never sleep",
               derived=True),
    ))  # fmt: skip
