"""Findings: what is wrong with a policy that loads. One vocabulary for everything that judges policies.

A judgement has a name (`never-true`), which SARIF and JSON carry as the rule id and by which findings are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import Problem


class Severity(StrEnum):
    """How bad a finding is. Every one of them makes `sluice check` exit with 1 but a note."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class Finding(Problem):
    """One finding of a judgement: where, what, how to mend it, how bad."""

    judgement: str = ""
    severity: Severity = Severity.WARNING

    @property
    def line(self) -> str:
        """As a person is told of it, the same wherever that is."""
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.place}: {self.severity}: {self.message}{mend} [{self.judgement}]"
