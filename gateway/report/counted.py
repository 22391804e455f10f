"""What a replay is counted into, exchange by exchange: the numbers of every report.

Memory is bounded: of accounts at most `MOST_ACCOUNTS` are told apart, all others are one. What an account did stands in its
tallies, one for each label that its exchanges bear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.decision import Action, Mode, RuleEnd, Verdict
from gateway.language.policy import Policy
from gateway.report.evaluated import AccountTally, Deeds, by_label, evaluation
from gateway.report.labels import Labels
from gateway.report.lacking import CAUSES, Lacking
from gateway.report.observed import Observed
from gateway.values import SECOND, timestamp_text

COUNTED = "refusals by rules and limits, as if every shadow rule were enforced; those at intake stand apart"
MOST_ACCOUNTS: Final = 1_000_000
FURTHER: Final = "(further accounts)"
DAY: Final = 86_400 * SECOND


@dataclass(slots=True)
class RuleTally:
    """One rule over all exchanges."""

    verdicts: Counter[str] = field(default_factory=Counter)
    accounts: int = 0
    first: int | None = None
    last: int | None = None
    lacked: Counter[str] = field(default_factory=Counter)
    lacking: Lacking = field(default_factory=Lacking)


@dataclass(slots=True)
class AskedTally:
    """Who was asked to declare a kind of workload. would: exchanges, as if every shadow rule were enforced."""

    exchanges: int = 0
    would: int = 0
    accounts: set[str] = field(default_factory=set)

    def add(self, account: str, times: int) -> None:
        self.exchanges += times
        self.accounts.add(account)


class Report:
    """Counts judged exchanges under one policy.

    labels: what is known of accounts and orgs beside the records. warm_up: exchanges that were judged and are not counted here.
    """

    def __init__(self, policy: Policy, labels: Labels | None = None) -> None:
        self.policy, self.labels = policy, labels or Labels()
        self.judged = self.evaluable = self.warm_up = self.pooled = 0
        self.unevaluable: Counter[str] = Counter()
        self.first: int | None = None
        self.last: int | None = None
        self.outcomes: Counter[str] = Counter()
        self.would: Counter[str] = Counter()
        self._declared = {rule.id: rule for rule in policy.rules if rule.mode is not Mode.OFF}
        self.rules = {name: RuleTally() for name in self._declared}
        self.accounts: dict[str, dict[str | None, AccountTally]] = {}
        self.intake: Counter[str] = Counter()
        self.asked: dict[str, AskedTally] = {}
        self.benign_days: set[int] = set()
        self._benign: Counter[bool] = Counter()
        self._benign_at_intake = 0

    def add(self, seen: Observed) -> None:
        """Count one exchange."""
        self.ended(seen, seen.at, 1)
        self.of_account(seen, 1)

    def ended(self, seen: Observed, last: int, times: int) -> None:
        """Count how exchanges ended, of whichever accounts: so many as `seen`, which is the first, until the last (µs)."""
        outcome, at = seen.outcome, seen.at
        self.judged += times
        self.first = at if self.first is None else min(self.first, at)
        self.last = last if self.last is None else max(self.last, last)
        self.outcomes[str(outcome.action)] += times
        self.would[str(outcome.would)] += times
        if seen.turned_away is not None:
            self.intake[str(seen.turned_away)] += times
        for kind in {end.would_ask for end in outcome.decision.ends if end.would_ask}:
            self.asked.setdefault(kind, AskedTally()).would += times
        causes: set[str] = set()
        for end in outcome.decision.ends:
            rule = self.rules[end.rule]
            if cause := rule.lacking.add(self._declared[end.rule], end, seen.unrecorded, seen.missing, times):
                causes.add(cause)
            rule.verdicts[str(end.verdict)] += times
            for name in end.missing:
                rule.lacked[name] += times
            if end.verdict is Verdict.MATCH:
                rule.first = at if rule.first is None else min(rule.first, at)
                rule.last = last if rule.last is None else max(rule.last, last)
        self.unevaluable.update(dict.fromkeys(causes, times))
        self.evaluable += 0 if causes else times

    def of_account(self, seen: Observed, times: int) -> None:
        """Count what was done to an account: so many exchanges of one day and label, `seen` the first. In order of time."""
        tally = self._tally(seen, times)
        tally.exchanges += times
        action, would = seen.by_policy
        tally.strongest = max(tally.strongest, action)
        tally.would = max(tally.would, would)
        if self.labels.benign(tally.label):
            self._benign[would.refuses] += times
            self._benign_at_intake += times if seen.turned_away is not None else 0
            self.benign_days.add(seen.at // DAY)
        for asked in seen.outcome.asked:
            self.asked.setdefault(asked.kind, AskedTally()).add(tally.account, times)
        matches = [end for end in seen.outcome.decision.ends if end.verdict is Verdict.MATCH]
        stands = [self._match(end, tally, seen.at, times) for end in matches]
        tally.deeds.add(seen.at, any(stands), action, would, times)

    def _tally(self, seen: Observed, times: int) -> AccountTally:
        """The tally of an exchange's account under the exchange's label."""
        label, name = self.labels.of(seen.account, seen.org, seen.label), seen.account
        if name not in self.accounts and len(self.accounts) >= MOST_ACCOUNTS:
            name = FURTHER
            self.pooled += times
        parts = self.accounts.setdefault(name, {})
        if label not in parts:
            parts[label] = AccountTally(name, label, seen.org, seen.at)
        return parts[label]

    def _match(self, end: RuleEnd, tally: AccountTally, at: int, times: int) -> bool:
        """Count a match. Whether it stands: neither excepted nor abstained."""
        if not any(end.rule in part.rules for part in self.accounts[tally.account].values()):
            self.rules[end.rule].accounts += 1
        stands = not end.excepted and not end.abstained
        deeds = tally.rules.get(end.rule)
        if deeds is None:
            deeds = tally.rules[end.rule] = Deeds()
        deeds.add(at, stands, end.action, end.would, times)
        return stands

    def parts(self) -> Iterator[AccountTally]:
        """Every tally: one for each account and label."""
        for parts in self.accounts.values():
            yield from parts.values()

    @property
    def benign_share(self) -> float:
        """The share of benign exchanges (labelled, and not as harvesting) that rules and limits would refuse.

        What is refused at intake (a body that cannot be read, an unknown route) says nothing of a policy and stands apart.
        """
        return self._benign[True] / max(1, self._benign.total())

    def as_dict(self, read: int, unreadable: int) -> dict[str, Any]:
        """The report as one JSON-ready object; `unknown` and `error` are never merged with `no_match`.

        Of the records `judged`, `evaluable` are those that every rule could be evaluated on, and `unevaluable` the others by
        cause: one may have several, for different rules.
        """
        records: dict[str, Any] = {"read": read, "unreadable": unreadable, "warm_up": self.warm_up, "judged": self.judged}
        records |= {"evaluable": self.evaluable, "unevaluable": {one: n for one in CAUSES if (n := self.unevaluable[one])}}
        return {
            "policy": {"digest": self.policy.digest, "version": self.policy.version},
            "records": records | ({"of_further_accounts": self.pooled} if self.pooled else {}),
            "period": {"first": _time(self.first), "last": _time(self.last)},
            "outcomes": dict(sorted(self.outcomes.items())),
            "would": dict(sorted(self.would.items())),
            "refused_at_intake": dict(sorted(self.intake.items())),
            "asked": {
                kind: {"exchanges": tally.exchanges, "accounts": len(tally.accounts), "would": tally.would}
                for kind, tally in sorted(self.asked.items())
            },
            "benign": {
                "exchanges": self._benign.total(), "would_refuse": self._benign[True], "share": self.benign_share,
                "counts": COUNTED, "refused_at_intake": self._benign_at_intake,
            },
            "rules": [self._rule(rule_id, tally) for rule_id, tally in sorted(self.rules.items())],
            "accounts": [account_row(name, parts.values(), self.labels) for name, parts in sorted(self.accounts.items())],
            "labels": by_label(self.parts()),
            "evaluation": evaluation(self.parts(), sorted(self.rules), self.labels),
        }  # fmt: skip

    def _rule(self, rule_id: str, tally: RuleTally) -> dict[str, Any]:
        counts = {str(verdict): tally.verdicts[str(verdict)] for verdict in (Verdict.MATCH, Verdict.UNKNOWN, Verdict.ERROR)}
        return {
            "id": rule_id, "mode": str(self._declared[rule_id].mode), **counts, "accounts": tally.accounts,
            "first": _time(tally.first), "last": _time(tally.last), "missing": dict(sorted(tally.lacked.items())),
            "evaluable": self.judged - tally.lacking.exchanges.total(), "unevaluable": tally.lacking.plain(),
        }  # fmt: skip


def label_of(parts: Iterable[AccountTally], labels: Labels) -> str | None:
    """The label of an account whose exchanges bear several: one that means harvesting before any other, else the first."""
    found = [tally.label for tally in parts if tally.label is not None]
    return next(filter(labels.harvests, found), next(iter(found), None))


def account_row(name: str, parts: Iterable[AccountTally], labels: Labels) -> dict[str, Any]:
    """One account, whatever labels its exchanges bear."""
    tallies = list(parts)
    return {
        "id": name, "label": label_of(tallies, labels), "exchanges": sum(tally.exchanges for tally in tallies),
        "strongest": str(max((tally.strongest for tally in tallies), default=Action.ALLOW)),
        "would": str(max((tally.would for tally in tallies), default=Action.ALLOW)),
        "rules": sorted({rule for tally in tallies for rule in tally.rules}),
    }  # fmt: skip


def _time(at: int | None) -> str | None:
    return timestamp_text(at) if at is not None else None
