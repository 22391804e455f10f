"""Everything a replay is counted into: the report, the difference between two policies, and what pictures are drawn of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.language.policy import Policy
from gateway.report.counted import Report
from gateway.report.difference import Difference
from gateway.report.labels import Labels
from gateway.report.observed import Observed
from gateway.report.pictures import Pictures


@dataclass(slots=True)
class Counts:
    """Where judged exchanges go. difference: where two policies are compared; `report` is then of the first one.

    pictures: what a page shows besides; None where none is wanted, because it costs as much as judging does.
    """

    report: Report
    difference: Difference | None = None
    pictures: Pictures | None = None

    @classmethod
    def of(cls, policy: Policy, labels: Labels | None = None, against: Policy | None = None, pictured: bool = False) -> Counts:
        """Counts that begin at nothing. against: the policy to compare with. pictured: whether pictures will be drawn."""
        report = Report(policy, labels)
        difference = Difference(report, Report(against, labels)) if against is not None else None
        return cls(report, difference, Pictures(policy, report.labels) if pictured else None)

    def take(self, here: Observed, there: Observed | None = None, warm: bool = False) -> None:
        """Count one exchange, as the policy judged it and as the other one did. warm: it falls in the warm-up."""
        if warm:
            self.report.warm_up += 1
            return
        self.report.add(here)
        if self.pictures is not None:
            self.pictures.add(here)
        if self.difference is not None and there is not None:
            self.difference.there.add(there)
            self.difference.add(here, there)

    def as_dict(self, read: int, unreadable: int) -> dict[str, Any]:
        """The whole as one JSON-ready object; see `Report.as_dict`, `Difference.as_dict` and `Pictures.plain`."""
        found = self.report.as_dict(read, unreadable)
        if self.difference is not None:
            found["difference"] = self.difference.as_dict()
        if self.pictures is not None:
            found["pictures"] = self.pictures.plain(self.report)
        return found
