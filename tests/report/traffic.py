"""Labelled traffic and packs for the tests of reports: a few accounts whose numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.errors import Place
from gateway.facts import Answer
from gateway.language.policy import Policy
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange
from gateway.report.counts import Counts
from gateway.report.labels import Labels
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy

HOUR = 3_600 * SECOND
DAY = 24 * HOUR


def pack(threshold: int = 3, action: str = "deny", mode: str = "shadow", gate: str = "", more: str = "") -> Policy:
    """One rule: more than so many exchanges in a day with a model that is watched."""
    return policy(f"""
pack: r
version: 1
language: 1
rules:
  - id: r.busy
    title: Busy with a watched model
    family: volume
    owner: tests
    measures: {{requests: {{count: true, per: [account.id], window: 1d}}}}
    when: {{all: [{{id: many, requests: {{gte: {threshold}}}}}, {{id: watched, request.model: m}}]}}
    then: {{action: {action}}}
    mode: {mode}
{gate and f"    gate: {gate}"}
{more}
""")


def exchange(number: int, values: dict[str, Any], at: int, label: str | None = None) -> Exchange:
    return Exchange(Place("f", number, 1), f"{number:032x}", facts(values, at), Answer(200), label)


def sent(account: str, count: int, label: str | None, model: str = "m", every: int = SECOND, at: int = START) -> list[Exchange]:
    values = {"account.id": account, "account.org": f"{account}-org", "request.model": model}
    return [exchange(number, values, at + number * every, label) for number in range(count)]


def labelled() -> Iterator[Exchange]:
    """Two that harvest (one of them slowly), three that are honest (one of them busy), and one of whom nobody knows."""
    yield from sorted(
        [
            *sent("h1", 6, "distill"),
            *sent("h2", 2, "distill"),
            *sent("b1", 5, "bench"),
            *sent("b2", 2, "bench"),
            *sent("c1", 9, "chat", model="other"),
            *sent("u1", 9, None),
        ],
        key=lambda one: one.facts.at,
    )


def counted(
    exchanges: Iterator[Exchange] | list[Exchange],
    judged_by: Policy,
    labels: Labels | None = None,
    against: Policy | None = None,
    pictured: bool = False,
) -> Counts:
    """What a replay is counted into."""
    counts, kept = Counts.of(judged_by, labels, against, pictured), list(exchanges)
    here = replay(kept, judged_by, CATALOGUE)
    there = replay(kept, against, CATALOGUE) if against is not None else None
    for one in here:
        counts.take(one.observed, next(there).observed if there is not None else None)
    return counts
