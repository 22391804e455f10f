"""What a dry run says: one object for programs, tables for people. Everything is counted while the exchanges pass by."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from gateway.decision import Action, Mode, Outcome, Verdict
from gateway.facts import Cause
from gateway.language.policy import Policy
from gateway.replay.driver import Replayed
from gateway.values import Failed, Missing, timestamp_text

NOBODY = "(no account)"
HARVEST = "distill"
COUNTED = "refusals by rules and limits, as if every shadow rule were enforced; those at intake stand apart"
_WIDE = 10_000


@dataclass(slots=True)
class RuleTally:
    """One rule over all exchanges."""

    verdicts: Counter[str] = field(default_factory=Counter)
    accounts: set[str] = field(default_factory=set)
    first: int | None = None
    last: int | None = None
    lacked: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class AskedTally:
    """Who was asked to declare a kind of workload. would: exchanges, as if every shadow rule were enforced."""

    exchanges: int = 0
    would: int = 0
    accounts: set[str] = field(default_factory=set)

    def add(self, account: str) -> None:
        self.exchanges += 1
        self.accounts.add(account)


@dataclass(slots=True)
class AccountTally:
    """One account over all exchanges."""

    label: str | None
    exchanges: int = 0
    strongest: Action = Action.ALLOW
    would: Action = Action.ALLOW
    rules: set[str] = field(default_factory=set)


class Report:
    """Tallies replayed exchanges under one policy. labels: account id to label, in place of the records' own."""

    def __init__(self, policy: Policy, labels: Mapping[str, str] | None = None) -> None:
        self.policy, self.labels = policy, labels or {}
        self.evaluable = 0
        self.first: int | None = None
        self.last: int | None = None
        self.outcomes: Counter[str] = Counter()
        self.would: Counter[str] = Counter()
        self.rules = {rule.id: RuleTally() for rule in policy.rules if rule.mode is not Mode.OFF}
        self.accounts: dict[str, AccountTally] = {}
        self.intake: Counter[str] = Counter()
        self.asked: dict[str, AskedTally] = {}
        self._benign: Counter[bool] = Counter()
        self._benign_at_intake = 0

    def add(self, replayed: Replayed) -> None:
        """Count one exchange."""
        judgement, exchange = replayed.judgement, replayed.exchange
        outcome, at = judgement.outcome, exchange.facts.at
        identity = judgement.view.get("account.id")
        account = NOBODY if isinstance(identity, (Missing, Failed)) else str(identity)
        self.evaluable += 1
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.outcomes[str(outcome.action)] += 1
        self.would[str(outcome.would)] += 1
        tally = self.accounts.setdefault(account, AccountTally(self.labels.get(account, exchange.label)))
        tally.exchanges += 1
        action, would = _by_policy(outcome)
        tally.strongest = max(tally.strongest, action)
        tally.would = max(tally.would, would)
        turned_away = _at_intake(outcome)
        if turned_away is not None:
            self.intake[str(turned_away)] += 1
        if tally.label not in (None, HARVEST):
            self._benign[would.refuses] += 1
            self._benign_at_intake += turned_away is not None
        for asked in outcome.asked:
            self.asked.setdefault(asked.kind, AskedTally()).add(account)
        for kind in {end.would_ask for end in outcome.decision.ends if end.would_ask}:
            self.asked.setdefault(kind, AskedTally()).would += 1
        for end in outcome.decision.ends:
            rule = self.rules[end.rule]
            rule.verdicts[str(end.verdict)] += 1
            rule.lacked.update(end.missing)
            if end.verdict is Verdict.MATCH:
                rule.accounts.add(account)
                tally.rules.add(end.rule)
                rule.first = at if rule.first is None else rule.first
                rule.last = at

    @property
    def benign_share(self) -> float:
        """The share of exchanges of benign accounts (labelled, and not as harvesting) that rules and limits would refuse.

        What is refused at intake (a body that cannot be read, an unknown route) says nothing of a policy and stands apart.
        """
        return self._benign[True] / max(1, self._benign.total())

    def as_dict(self, read: int, unreadable: int) -> dict[str, Any]:
        """The report as one JSON-ready object; `unknown` and `error` are never merged with `no_match`."""
        return {
            "policy": {"digest": self.policy.digest, "version": self.policy.version},
            "records": {"read": read, "unreadable": unreadable, "evaluable": self.evaluable},
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
            "accounts": [
                {"id": name, "label": tally.label, "exchanges": tally.exchanges, "strongest": str(tally.strongest),
                 "would": str(tally.would), "rules": sorted(tally.rules)}
                for name, tally in sorted(self.accounts.items())
            ],
            "labels": self._labels(),
        }  # fmt: skip

    def _rule(self, rule_id: str, tally: RuleTally) -> dict[str, Any]:
        rule = self.policy.rule(rule_id)
        assert rule is not None
        counts = {str(verdict): tally.verdicts[str(verdict)] for verdict in (Verdict.MATCH, Verdict.UNKNOWN, Verdict.ERROR)}
        return {
            "id": rule_id, "mode": str(rule.mode), **counts, "accounts": len(tally.accounts), "first": _time(tally.first),
            "last": _time(tally.last), "missing": dict(sorted(tally.lacked.items())),
        }  # fmt: skip

    def _labels(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for tally in self.accounts.values():
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


def write(report: Mapping[str, Any], form: str, out: Path | None) -> None:
    """Write a report as `json` or `table` to a file, or to standard output. Raises OSError."""
    if form == "json":
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        sys.stdout.write(text) if out is None else out.write_text(text)
        return
    if out is None:
        console = Console()
        show(report, console if console.is_terminal else Console(width=_WIDE))
        return
    with out.open("w") as file:
        show(report, Console(file=file, width=_WIDE))


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables."""
    records, period = report["records"], report["period"]
    console.print(f"policy   {report['policy']['digest'][:19]}… version {report['policy']['version']}")
    console.print(f"records  {records['read']:,} read, {records['unreadable']:,} unreadable")
    if period["first"]:
        console.print(f"period   {period['first']} to {period['last']}")
    console.print("outcome  " + _counts(report["outcomes"]))
    console.print("would    " + _counts(report["would"]) + "   (as if every shadow rule were enforced)")
    if report["refused_at_intake"]:
        console.print("refused at intake: " + _counts(report["refused_at_intake"]))
    console.print("".join(_asked(kind, asked) for kind, asked in report["asked"].items()), end="")
    if report["benign"]["exchanges"]:
        console.print(_benign(report["benign"]))
    rules = Table(_name("rule"), "mode", "match", "accounts", "unknown", "error", "lacked", title="Rules", title_justify="left")
    for rule in report["rules"]:
        lacked = ", ".join(sorted(rule["missing"], key=lambda name: -rule["missing"][name])[:3])
        cells = [rule["id"], rule["mode"], *(f"{rule[key]:,}" for key in ("match", "accounts", "unknown", "error"))]
        rules.add_row(*cells, lacked)
    console.print(rules)
    if report["labels"]:
        labels = Table(
            "label", "accounts", "exchanges", "matched", "acted on", "would act on", title="Labels", title_justify="left"
        )
        for name, row in report["labels"].items():
            labels.add_row(
                escape(name), *(f"{row[key]:,}" for key in ("accounts", "exchanges", "matched", "acted_on", "would_act_on"))
            )
        console.print(labels)
    acted = [account for account in report["accounts"] if account["rules"]]
    if acted:
        table = Table(
            _name("account"), "label", "exchanges", "strongest", "would", _name("rules"), title="Accounts with matches",
            title_justify="left",
        )  # fmt: skip
        for row in acted[:50]:
            table.add_row(
                escape(row["id"]),
                escape(row["label"] or ""),
                f"{row['exchanges']:,}",
                row["strongest"],
                row["would"],
                ", ".join(row["rules"]),
            )
        console.print(table)
        if len(acted) > 50:
            console.print(f"… and {len(acted) - 50:,} more; --format json has them all")


def _name(header: str) -> Column:
    """A column of names, which are folded where it is narrow and never cut."""
    return Column(header, overflow="fold")


def _benign(benign: Mapping[str, Any]) -> str:
    said = f"benign   {benign['exchanges']:,} exchanges, {benign['would_refuse']:,} would be refused ({benign['share']:.4%})"
    return f"{said}: {benign['counts']} ({benign['refused_at_intake']:,})"


def _asked(kind: str, asked: Mapping[str, Any]) -> str:
    accounts = f"{asked['exchanges']:,} exchanges of {asked['accounts']:,} accounts"
    return f"asked    to declare a {kind}: {accounts}; {asked['would']:,} as if every shadow rule were enforced\n"


def _at_intake(outcome: Outcome) -> Cause | None:
    """Why an exchange was refused before any rule or limit could have been asked, if it was."""
    refusal = outcome.refusal
    return outcome.cause if refusal is not None and refusal.by[0].startswith("intake:") else None


def _by_policy(outcome: Outcome) -> tuple[Action, Action]:
    """What rules and limits did, and would do: an unreadable request says nothing of its account."""
    full = Action.THROTTLE if any(not room.allowed for room in outcome.rooms) else Action.ALLOW
    would = max(outcome.decision.would, full)
    if outcome.cause is None and not outcome.state_error:
        would = outcome.would  # with the limits that refuse because their key is missing
    return (outcome.decision.action if _at_intake(outcome) is not None else outcome.action), would


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing"


def _time(at: int | None) -> str | None:
    return timestamp_text(at) if at is not None else None
