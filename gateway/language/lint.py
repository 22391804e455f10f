"""Judgements on a policy that loads: what is legal but wrong.

Each judgement is a function of the `Subject` that yields places, messages and mends; its docstring is its help text, its name
the word findings are counted by. Nothing here reads a clock: what depends on the date is told it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getdoc

from gateway.language.findings import Finding, Severity
from gateway.language.judgements.conditions import (
    always_true,
    implied_rules,
    never_true,
    swallowing_exceptions,
    unreachable_steps,
)  # fmt: skip
from gateway.language.judgements.declared import (
    expired_entries,
    heavy_measures,
    stale_lists,
    unsourced_lists,
    unused_lists,
    unused_measures,
)  # fmt: skip
from gateway.language.judgements.responses import (
    content_alone,
    impossible_gates,
    keyless_throttles,
    no_evidence,
    unnamed_mitigations,
    volume_denies,
)  # fmt: skip
from gateway.language.judgements.subject import Judge, Subject
from gateway.language.judgements.workloads import (
    ending_workloads,
    idle_asks,
    idle_items,
    overlapping_workloads,
    unreachable_ceilings,
    unread_workloads,
)  # fmt: skip
from gateway.language.policy import Policy
from gateway.signals import Catalogue


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement and how bad what it finds is."""

    judge: Judge
    severity: Severity = Severity.WARNING

    @property
    def name(self) -> str:
        """The word findings carry, such as `never-true`."""
        return self.judge.__name__.replace("_", "-")

    @property
    def meaning(self) -> str:
        """What it looks for, in a sentence."""
        return getdoc(self.judge) or ""

    def findings(self, subject: Subject) -> Iterator[Finding]:
        """What it finds."""
        for found in self.judge(subject):
            yield Finding(found.place, found.message, found.mend, self.name, self.severity)


JUDGEMENTS: tuple[Judgement, ...] = (
    Judgement(never_true, Severity.ERROR), Judgement(always_true), Judgement(implied_rules),
    Judgement(swallowing_exceptions, Severity.ERROR), Judgement(unreachable_steps),
    Judgement(content_alone, Severity.ERROR), Judgement(volume_denies, Severity.ERROR), Judgement(no_evidence),
    Judgement(unnamed_mitigations), Judgement(keyless_throttles), Judgement(impossible_gates, Severity.ERROR),
    Judgement(unsourced_lists), Judgement(stale_lists), Judgement(unused_lists), Judgement(unused_measures),
    Judgement(heavy_measures), Judgement(expired_entries, Severity.ERROR), Judgement(idle_asks), Judgement(unread_workloads),
    Judgement(idle_items), Judgement(unreachable_ceilings), Judgement(overlapping_workloads),
    Judgement(ending_workloads, Severity.NOTE),
)  # fmt: skip


def lint(policy: Policy, *, today: int | None = None, catalogue: Catalogue | None = None) -> list[Finding]:
    """Every finding, in file order.

    today: µs since 1970; without it nothing that depends on the date is judged. catalogue: the signals, so that those which
    are never missing are known.
    """
    subject = Subject(policy, today, catalogue)
    return sorted(finding for judgement in JUDGEMENTS for finding in judgement.findings(subject))
