"""On which exchanges a rule could not be evaluated, by cause and signal.

An exchange has one cause for a rule, the first of `CAUSES` that there is. *Error*: a provider or a comparison broke. *Not
recorded*: its record does not hold a signal that the rule reads, or that a measure of it counts or counts by, so that another
source would be needed; what a measure counts is not asked where the record says that there is no key to count by. *Missing*:
every such signal was looked for, and some were not there, or a measure is known as «at least» only. On all other exchanges
the rule was evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.decision import RuleEnd, Verdict
from gateway.language.measures import Ratio
from gateway.language.policy import Rule

Told = Callable[[str], bool]
ERROR, NOT_RECORDED, MISSING = CAUSES = ("error", "not_recorded", "missing")


@dataclass(slots=True)
class Lacking:
    """What one rule lacked. exchanges: by cause; signals: of each cause, exchanges by what was lacked."""

    exchanges: Counter[str] = field(default_factory=Counter)
    signals: dict[str, Counter[str]] = field(default_factory=lambda: {cause: Counter() for cause in CAUSES})

    def add(self, rule: Rule, end: RuleEnd, unrecorded: Told, missing: Told, times: int) -> str | None:
        """Count so many exchanges that ended alike. Their cause; None where the rule was evaluated.

        unrecorded, missing: of a signal, whether its record does not hold it, and whether it says that there is none.
        """
        if end.verdict not in _UNEVALUATED:
            return None
        looked_for = [pair for name in end.missing for pair in resting_on(rule, name)]
        lacked = sorted(
            {one for per, signals in looked_for if not any(map(missing, per)) for one in signals if unrecorded(one)}
        )
        cause = ERROR if end.verdict is Verdict.ERROR else NOT_RECORDED if lacked else MISSING
        self.exchanges[cause] += times
        for name in {NOT_RECORDED: lacked, MISSING: end.missing}.get(cause, ()):
            self.signals[cause][name] += times
        return cause

    def plain(self) -> dict[str, Any]:
        """By cause, where there were any: `exchanges`, and of each signal or measure on how many of them it lacked."""
        return {
            cause: {"exchanges": self.exchanges[cause], "signals": dict(sorted(self.signals[cause].items()))}
            for cause in CAUSES if self.exchanges[cause]
        }  # fmt: skip


_UNEVALUATED: Final = (Verdict.UNKNOWN, Verdict.ERROR)


def resting_on(rule: Rule, name: str) -> list[tuple[tuple[str, ...], frozenset[str]]]:
    """The signals that a name in a rule rests on: those of each measure, after the ones that make its key."""
    declared = rule.measures.get(name)
    if declared is None:
        return [((), frozenset((name,)))]
    parts = (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)
    return [(part.per, frozenset((*part.per, *part.counts))) for part in parts]
