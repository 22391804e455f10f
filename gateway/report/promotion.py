"""Whether a rule may be enforced: its `gate` held against what a replay over labelled traffic showed.

Wrongly matched is a benign account on which the rule matched and nothing exempted it, whatever its response was lowered to:
what is asked is how often the condition is wrong, not how much harm it did. Days are those (UTC) on which benign exchanges were
seen, so that two records a month apart are two days. Records that do not hold what the rule reads show nothing, however many
they are: a gate is not met by traffic in which any of it is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.language.policy import Promotion, Rule
from gateway.report.bounds import seen_for, upper_95
from gateway.report.counted import Report
from gateway.report.lacking import NOT_RECORDED


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rule stands before its gate. accounts: benign ones seen; matched: wrongly, of them; days: with benign traffic.

    unrecorded: exchanges the rule could not be evaluated on, by the signal that their record does not hold. upper_95: the
    one-sided 95 % bound of the share wrongly matched. enough_at: how many benign accounts would meet the bound if
    no further one were matched; None where none would.
    """

    gate: Promotion
    accounts: int
    matched: int
    days: int
    upper_95: float
    enough_at: int | None
    unrecorded: Mapping[str, int]

    @property
    def met(self) -> bool:
        """Whether nothing more is needed."""
        return not self.lacking()

    def lacking(self) -> list[str]:
        """What is still needed, in words."""
        gate, found = self.gate, []
        if self.accounts < gate.min_benign_accounts:
            found.append(f"{gate.min_benign_accounts - self.accounts:,} more benign accounts")
        if self.days < gate.min_days:
            found.append(f"{gate.min_days - self.days:,} more days of benign traffic")
        if self.upper_95 > gate.max_upper_95:
            found.append(f"a bound of at most {gate.max_upper_95:g}: {self._for_the_bound()}")
        found += [f"records that hold {name} (exchanges without it: {count:,})" for name, count in self.unrecorded.items()]
        return found

    def _for_the_bound(self) -> str:
        if self.enough_at is None:
            return f"no traffic reaches it with {self.matched:,} accounts wrongly matched"
        more = max(0, self.enough_at - self.accounts)
        return f"{more:,} more benign accounts reach it if none of them is matched"

    def rows(self) -> list[tuple[str, str, str, bool]]:
        """What is demanded, each with what was seen, what is asked for, and whether that is met."""
        gate, wrong = self.gate, f"{self.matched:,} of {self.accounts:,} matched"
        return [
            ("benign accounts", f"{self.accounts:,}", f"at least {gate.min_benign_accounts:,}",
             self.accounts >= gate.min_benign_accounts),
            ("days of benign traffic", f"{self.days:,}", f"at least {gate.min_days:,}", self.days >= gate.min_days),
            ("wrongly matched, upper 95 % bound", f"{self.upper_95:.3g} ({wrong})", f"at most {gate.max_upper_95:g}",
             self.upper_95 <= gate.max_upper_95),
            ("records that hold what it reads", ", ".join(self.unrecorded) or "all", "all", not self.unrecorded),
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "gate": asdict(self.gate), "benign_accounts": self.accounts, "matched": self.matched, "days": self.days,
            "upper_95": self.upper_95, "enough_at": self.enough_at, "unrecorded": dict(self.unrecorded), "met": self.met,
            "needed": self.lacking(),
        }  # fmt: skip


def standing(rule: Rule, gate: Promotion, report: Report) -> Standing:
    """How a rule stands by what a report counted. Raises ExtraError where bounds cannot be computed here."""
    labels = report.labels
    harvesting = {tally.account for tally in report.parts() if labels.harvests(tally.label)}
    benign = [tally for tally in report.parts() if labels.benign(tally.label) and tally.account not in harvesting]
    accounts = {tally.account for tally in benign}
    matched = {tally.account for tally in benign if rule.id in tally.rules and tally.rules[rule.id].counts[0]}
    bound, enough = upper_95(len(matched), len(accounts)), seen_for(len(matched), gate.max_upper_95)
    unrecorded = dict(sorted(report.rules[rule.id].lacking.signals[NOT_RECORDED].items()))
    return Standing(gate, len(accounts), len(matched), len(report.benign_days), bound, enough, unrecorded)
