"""Everything a page shows besides the report: gathered exchange by exchange, told as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from gateway.clusters.found import MIN_SIZE, Cluster, find
from gateway.clusters.records import REFUSALS, SIGNALS, Seen, texts_of
from gateway.clusters.table import Hashes
from gateway.errors import Place
from gateway.language.policy import Policy
from gateway.report.counted import Report, label_of
from gateway.report.labels import Labels
from gateway.report.observed import NOBODY, Observed
from gateway.report.pictured import MOST_LABELS, OTHERS, UNLABELLED, Novelty, OverTime, Units
from gateway.report.sweeps import Sweeps
from gateway.values import SECOND, Failed, Missing

MOST_TEMPLATES: Final = 12
MOST_CLUSTERS: Final = 12
MOST_CURVES: Final = 12
_POINTS: Final = 200
_HERE: Final = Place("the replay")


class Pictures:
    """Gathers what pictures are drawn of. Clusters are found as `sluice clusters` finds them."""

    def __init__(self, policy: Policy, labels: Labels) -> None:
        self.labels, hashed = labels, Hashes()
        self.over_time, self.units, self.novelty = OverTime(), Units(hashed), Novelty(hashed)
        self.sweeps, self.seen = Sweeps(policy), Seen()
        self._known: dict[str, str] = {}

    def add(self, seen: Observed) -> None:
        """Gather one exchange."""
        label = self.labels.of(seen.account, seen.org, seen.label)
        shown = self._shown(label)
        self.over_time.add(seen, shown)
        self.units.add(seen, shown)
        self.novelty.add(seen, shown)
        self.sweeps.add(seen, self.side(label))
        self._sight(seen)

    def side(self, label: str | None) -> str:
        """Whether a label means harvesting or honesty, or nobody said."""
        return "unlabelled" if label is None else "harvest" if self.labels.harvests(label) else "honest"

    def _shown(self, label: str | None) -> str:
        if label is None:
            return UNLABELLED
        if label not in self._known:
            self._known[label] = label if len(self._known) < MOST_LABELS else OTHERS
        return self._known[label]

    def _sight(self, seen: Observed) -> None:
        """What ties accounts, for `clusters`."""
        told = {}
        for name in SIGNALS:
            value = seen.signal(name)
            if not isinstance(value, (Missing, Failed)):
                told[name] = texts_of(name, value)
        usage, status = seen.answer.usage, seen.answer.status
        did = (usage.input_tokens or 0, usage.output_tokens or 0, status in REFUSALS, seen.signal("reseller.declared") is True)
        self.seen.exchange(told, seen.at, _HERE, did, seen.account == NOBODY or seen.org is None)

    def plain(self, report: Report) -> dict[str, Any]:
        """`sides` (what each label means), and what was gathered; `found` tells when accounts of each label first matched."""
        sides = {name: self.side(label) for label, name in self._known.items()}
        return {
            "sides": {**sides, UNLABELLED: "unlabelled", OTHERS: "unlabelled"},
            "over_time": self.over_time.plain(), "found": self._found(report), "units": self.units.plain(),
            "novelty": self.novelty.plain(MOST_TEMPLATES), "clusters": self._clusters(report), "sweeps": self.sweeps.plain(),
        }  # fmt: skip

    def _found(self, report: Report) -> dict[str, Any]:
        """Per label, when its accounts first matched any rule: (seconds since the first exchange, accounts so far)."""
        begin, firsts, accounts = report.first or 0, dict[str, list[int]](), Counter[str]()
        for tally in report.parts():
            label = self._shown(tally.label)
            accounts[label] += 1
            if tally.deeds.first is not None:
                firsts.setdefault(label, []).append(tally.deeds.first)
        return {
            label: {
                "of": accounts[label],
                "points": _thinned([((at - begin) / SECOND, n) for n, at in enumerate(sorted(ats), 1)]),
            }
            for label, ats in sorted(firsts.items())
        }

    def _clusters(self, report: Report) -> dict[str, Any]:
        """The largest clusters, with the labels of their accounts and how many of these any rule matched or would refuse."""
        if not self.seen.accounts.accounts:
            return {"found": 0, "accounts": 0, "min_size": MIN_SIZE, "largest": []}
        found = find(self.seen).clusters
        rows = [self._cluster(one, report) for one in found[:MOST_CLUSTERS]]
        return {"found": len(found), "accounts": sum(len(one.accounts) for one in found), "min_size": MIN_SIZE, "largest": rows}

    def _cluster(self, one: Cluster, report: Report) -> dict[str, Any]:
        tallies = {account: list(report.accounts.get(account, {}).values()) for account in one.accounts}
        labels = Counter(self._shown(label_of(parts, self.labels)) for parts in tallies.values())
        return {
            "id": one.id, "accounts": len(one.accounts), "orgs": len(one.orgs), "exchanges": one.units.get("exchanges"),
            "families": {name: evidence.links for name, evidence in sorted(one.families.items())},
            "labels": dict(labels.most_common()),
            "matched": sum(any(tally.rules for tally in parts) for parts in tallies.values()),
            "would_act_on": sum(any(tally.would.refuses for tally in parts) for parts in tallies.values()),
        }  # fmt: skip


def _thinned(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most about `_POINTS` of many points, the last among them."""
    step = max(1, len(points) // _POINTS)
    return points[::step] + (points[-1:] if (len(points) - 1) % step else [])
