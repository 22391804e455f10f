"""Declared workloads, compiled: what `workloads.yaml` yields and `gateway.declarations` looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Place
from gateway.language.conditions import Condition, Leaf
from gateway.language.measures import Measure

KINDS: Final = ("benchmark", "integration", "relay", "batch")
CHECKED: Final = ("benchmark", "batch")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How much of a workload is declared: what is counted of it, and the comparison that holds while that is little enough."""

    measure: Measure
    leaf: Leaf


@dataclass(frozen=True, slots=True)
class Workload:
    """A declared campaign. Outside its scope, its time or its ceiling the declaration does nothing, and so past its items.

    when: its scope, over signals; since and until: µs since 1970, the first included, the last not. size: how many items it
    has; items: their count, of the kinds that check themselves (`CHECKED`).
    """

    id: str
    kind: str
    when: Condition
    since: int
    until: int
    owner: str
    evidence: str
    ceiling: Ceiling | None = None
    place: Place = field(compare=False, default=Place(""))
    size: int | None = None
    items: Ceiling | None = None

    def canonical(self) -> object:
        ceiling = [self.ceiling.measure.label, self.ceiling.leaf.canonical()] if self.ceiling else None
        said = [self.id, self.kind, self.when.canonical(), self.since, self.until, ceiling]
        return said if self.size is None else [*said, self.size]
