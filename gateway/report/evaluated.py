"""What labels say of a policy: whom each rule finds, whom it finds wrongly and how sure that is, and how soon.

Three views of the same traffic, in this order: *matched* (a rule's condition held, and nothing exempted the caller), *acted
on* (an enforced throttle, verify or deny) and *would act on* (the same as if every shadow rule were enforced). Accounts
without a label are no evidence for or against anything and stand in none of these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.decision import Action
from gateway.report.bounds import bounded, upper_95
from gateway.report.labels import Labels
from gateway.values import SECOND

VIEWS: Final = ("matched", "acted_on", "would_act_on")
ANY: Final = "(any rule or limit)"


@dataclass(slots=True)
class Deeds:
    """What one rule did to one account. counts: exchanges by view. first: when it first matched (µs), if it did."""

    counts: list[int] = field(default_factory=lambda: [0] * len(VIEWS))
    first: int | None = None

    def add(self, at: int, matched: bool, action: Action, would: Action, times: int = 1) -> None:
        """Count so many exchanges, the first of them at a time."""
        counts = self.counts
        counts[0] += times if matched else 0
        counts[1] += times if action.refuses else 0
        counts[2] += times if would.refuses else 0
        if matched and self.first is None:
            self.first = at


@dataclass(slots=True)
class AccountTally:
    """One account over all its exchanges of one label. An account that is pooled may have several: its harvest and its cover.

    first: when it was first seen (µs). deeds: of any rule or limit; rules: by rule.
    """

    account: str
    label: str | None
    org: str | None
    first: int
    exchanges: int = 0
    strongest: Action = Action.ALLOW
    would: Action = Action.ALLOW
    deeds: Deeds = field(default_factory=Deeds)
    rules: dict[str, Deeds] = field(default_factory=dict)


_NOTHING: Final = Deeds()


def evaluation(accounts: Iterable[AccountTally], rules: Iterable[str], labels: Labels) -> dict[str, Any]:
    """Per rule and label: who was found and how soon; per rule: precision, recall, and those found wrongly.

    Of wrongly found accounts and orgs `upper_95` is the exact one-sided 95 % bound of their share; None where scipy is missing.
    """
    known = [tally for tally in accounts if tally.label is not None]
    rows = {ANY: [(tally, tally.deeds) for tally in known]}
    rows |= {rule: [(tally, tally.rules.get(rule, _NOTHING)) for tally in known] for rule in rules}
    return {
        "harvest": sorted({tally.label for tally in known if labels.harvests(tally.label)} - {None}, key=str),
        "rules": [_rule(rule, row, labels) for rule, row in rows.items()] if known else [],
    }


Rows = list[tuple[AccountTally, Deeds]]


def _rule(rule: str, rows: Rows, labels: Labels) -> dict[str, Any]:
    by_label: dict[str, Rows] = {}
    for row in rows:
        by_label.setdefault(str(row[0].label), []).append(row)
    found = {"id": rule, **{view: _view(place, rows, labels) for place, view in enumerate(VIEWS)}}
    return {**found, "labels": {label: _label(below) for label, below in sorted(by_label.items())}}


def _view(place: int, rows: Rows, labels: Labels) -> dict[str, Any]:
    """Precision, recall and wrong finds of a rule in one view."""
    rightly = [row for row in rows if labels.harvests(row[0].label)]
    honestly = [row for row in rows if labels.benign(row[0].label)]
    harvesting = {tally.account for tally, _ in rightly}
    honest = [row for row in honestly if row[0].account not in harvesting]
    right = Found(_accounts(rightly, place), sum(deeds.counts[place] for _, deeds in rightly))
    wrong = Found(_accounts(honest, place), sum(deeds.counts[place] for _, deeds in honestly))
    there = Found(harvesting, sum(tally.exchanges for tally, _ in rightly))
    owners = {tally.org or tally.account for tally, _ in honest}
    hit = {tally.org or tally.account for tally, deeds in honest if deeds.counts[place]}
    return {
        "precision": {
            "accounts": _share(len(right.accounts), len(right.accounts) + len(wrong.accounts)),
            "exchanges": _share(right.exchanges, right.exchanges + wrong.exchanges),
        },
        "recall": {
            "accounts": _share(len(right.accounts), len(there.accounts)),
            "exchanges": _share(right.exchanges, there.exchanges),
        },
        "wrong": {
            "accounts": _wrong(len(wrong.accounts), len({tally.account for tally, _ in honest})),
            "orgs": _wrong(len(hit), len(owners)), "exchanges": wrong.exchanges,
        },
    }  # fmt: skip


class Found(NamedTuple):
    """Accounts by name, and how many exchanges."""

    accounts: set[str]
    exchanges: int


def _accounts(rows: Rows, place: int) -> set[str]:
    return {tally.account for tally, deeds in rows if deeds.counts[place]}


def _wrong(wrong: int, of: int) -> dict[str, Any]:
    return {"found": wrong, "of": of, "upper_95": upper_95(wrong, of) if of and bounded() else None}


def _label(rows: Rows) -> dict[str, Any]:
    """What a rule found of one label, and how long after an account's first exchange it first matched."""
    waits = sorted(deeds.first - tally.first for tally, deeds in rows if deeds.first is not None)
    return {
        "accounts": {"all": len(rows), **{view: sum(d.counts[place] > 0 for _, d in rows) for place, view in enumerate(VIEWS)}},
        "exchanges": {
            "all": sum(tally.exchanges for tally, _ in rows),
            **{view: sum(deeds.counts[place] for _, deeds in rows) for place, view in enumerate(VIEWS)},
        },
        "seconds_to_detection": {"median": _wait(waits, len(rows), 0.5), "p90": _wait(waits, len(rows), 0.9)},
    }  # fmt: skip


def _wait(waits: list[int], accounts: int, share: float) -> float | None:
    """Within how many seconds this share of all accounts was found; None where it never was."""
    place = math.ceil(share * accounts) - 1
    return waits[place] / SECOND if place < len(waits) else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def by_label(accounts: Iterable[AccountTally]) -> dict[str, dict[str, int]]:
    """Accounts and exchanges of each label, and how many accounts had any match, were acted on, and would be."""
    found: dict[str, dict[str, int]] = {}
    for tally in accounts:
        if tally.label is None:
            continue
        empty = {"accounts": 0, "exchanges": 0, "matched": 0, "acted_on": 0, "would_act_on": 0}
        row = found.setdefault(tally.label, empty)
        row["accounts"] += 1
        row["exchanges"] += tally.exchanges
        row["matched"] += bool(tally.rules)
        row["acted_on"] += tally.strongest.refuses
        row["would_act_on"] += tally.would.refuses
    return dict(sorted(found.items()))
