"""Everything a replay is counted into: the report, the difference between two policies, and what pictures are drawn of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.language.policy import Policy
from gateway.report.counted import Report
from gateway.report.difference import Difference
from gateway.report.labels import Labels
from gateway.report.observed import Observed


@dataclass(slots=True)
class Counts:
    """Where judged exchanges go. difference: where two policies are compared; `report` is then of the first one."""

    report: Report
    difference: Difference | None = None

    @classmethod
    def of(cls, policy: Policy, labels: Labels | None = None, against: Policy | None = None) -> Counts:
        """Counts that begin at nothing. against: the policy to compare with."""
        report = Report(policy, labels)
        return cls(report, Difference(report, Report(against, labels)) if against is not None else None)

    def take(self, here: Observed, there: Observed | None = None, warm: bool = False) -> None:
        """Count one exchange, as the policy judged it and as the other one did. warm: it falls in the warm-up."""
        if warm:
            self.report.warm_up += 1
            return
        self.report.add(here)
        if self.difference is not None and there is not None:
            self.difference.there.add(there)
            self.difference.add(here, there)

    def as_dict(self, read: int, unreadable: int) -> dict[str, Any]:
        """The whole as one JSON-ready object; see `Report.as_dict` and `Difference.as_dict`."""
        found = self.report.as_dict(read, unreadable)
        return found | ({"difference": self.difference.as_dict()} if self.difference is not None else {})
