"""What pictures are drawn of, gathered while exchanges pass by: over time, in units that compare, template by template.

Memory is bounded: times fall into at most `MOST_BUCKETS` buckets, which grow as traffic goes on; of labels `MOST_LABELS` are
told apart; of templates the `MOST_TEMPLATES` that are seen most, whose rarer half is forgotten when there are more; distinct
counts are estimates beyond some thousands (`distinct`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from gateway.clusters.table import Hashes
from gateway.decision import Action, Verdict
from gateway.report.distinct import Distinct
from gateway.report.observed import Observed
from gateway.values import SECOND, timestamp_text

MOST_BUCKETS: Final = 120
MOST_LABELS: Final = 32
MOST_TEMPLATES: Final = 1_024
UNLABELLED: Final = "(no label)"
OTHERS: Final = "(other labels)"
_MINUTE: Final = 60 * SECOND
_WIDTHS: Final = [_MINUTE * minutes for minutes in (1, 5, 15, 60, 360, 1_440, 10_080)]
_GROWTH: Final = 1.25
_FILLINGS: Final = 512


class OverTime:
    """Exchanges by action, rule and label over time. width: of a bucket, in µs; a larger one is a multiple of it."""

    def __init__(self) -> None:
        self.width = _WIDTHS[0]
        self.buckets: dict[int, Counter[tuple[str, str]]] = {}

    def add(self, seen: Observed, label: str) -> None:
        """Count one exchange."""
        outcome = seen.outcome
        key = seen.at // self.width
        if key not in self.buckets:
            self.buckets[key] = Counter()
            while max(self.buckets) - min(self.buckets) >= MOST_BUCKETS:
                self._widen()
            key = seen.at // self.width
        counts = self.buckets[key]
        counts["action", str(outcome.would)] += 1
        if outcome.would > Action.OBSERVE:
            counts["label", label] += 1
        for end in outcome.decision.ends:
            if end.verdict is Verdict.MATCH and end.would > Action.OBSERVE:
                counts["rule", end.rule] += 1

    def _widen(self) -> None:
        width = next((width for width in _WIDTHS if width > self.width), 2 * self.width)
        merged: dict[int, Counter[tuple[str, str]]] = {}
        for key, counts in self.buckets.items():
            merged.setdefault(key * self.width // width, Counter()).update(counts)
        self.width, self.buckets = width, merged

    def plain(self) -> dict[str, Any]:
        """`times` (beginnings of buckets, also of empty ones), `width_s`, and per kind (action, rule, label) its series."""
        keys = range(min(self.buckets), max(self.buckets) + 1) if self.buckets else range(0)
        names = {
            kind: sorted({n for one in self.buckets.values() for k, n in one if k == kind})
            for kind in ("action", "rule", "label")
        }
        series = {
            kind: {name: [self.buckets[key][kind, name] if key in self.buckets else 0 for key in keys] for name in below}
            for kind, below in names.items()
        }
        return {"times": [timestamp_text(key * self.width) for key in keys], "width_s": self.width // SECOND, **series}


class Units:
    """Of each label: exchanges, conversations (one first user text of one account), tasks (what a conversation began with)."""

    def __init__(self, hashed: Hashes) -> None:
        self._hashed = hashed
        self.exchanges: Counter[str] = Counter()
        self.roots: dict[str, Distinct] = {}
        self.tasks: dict[str, Distinct] = {}

    def add(self, seen: Observed, label: str) -> None:
        """Count one exchange."""
        self.exchanges[label] += 1
        root, slots, turns = seen.text("prompt.root"), seen.text("prompt.slots"), seen.signal("prompt.turns")
        if root is not None:
            self._of(self.roots, label).add(f"{seen.account}\0{root}")
        if slots is not None and not (isinstance(turns, int) and turns > 1):
            self._of(self.tasks, label).add(f"{seen.text('prompt.template')}\0{slots}")

    def _of(self, counts: dict[str, Distinct], label: str) -> Distinct:
        found = counts.get(label)
        if found is None:
            found = counts[label] = Distinct(self._hashed)
        return found

    def plain(self) -> list[dict[str, Any]]:
        """One row a label; None where the signal was never there. `exact` says whether no number is an estimate."""
        return [
            {
                "label": label, "exchanges": count,
                "roots": _count(self.roots.get(label)), "tasks": _count(self.tasks.get(label)),
                "exact": all(one.exact for one in (self.roots.get(label), self.tasks.get(label)) if one is not None),
            }
            for label, count in self.exchanges.most_common()
        ]  # fmt: skip


def _count(distinct: Distinct | None) -> int | None:
    return distinct.count if distinct is not None else None


class _Template:
    """One template: how often it was sent, with how many different fillings, by whom, and how that grew."""

    __slots__ = ("accounts", "count", "fillings", "labels", "next", "points")

    def __init__(self, hashed: Hashes) -> None:
        self.count, self.next = 0, 1.0
        self.fillings, self.accounts = Distinct(hashed, _FILLINGS), Distinct(hashed, _FILLINGS)
        self.labels: Counter[str] = Counter()
        self.points: list[tuple[int, int]] = []

    def add(self, slots: str, account: str, label: str) -> None:
        self.count += 1
        self.fillings.add(slots)
        self.accounts.add(account)
        self.labels[label] += 1
        if self.count >= self.next:
            self.points.append((self.count, self.fillings.count))
            self.next = max(self.count + 1, self.count * _GROWTH)


class Novelty:
    """Of each template: different fillings against exchanges. A fixed set of items levels out; a harvest grows without end."""

    def __init__(self, hashed: Hashes) -> None:
        self._hashed = hashed
        self.templates: dict[str, _Template] = {}

    def add(self, seen: Observed, label: str) -> None:
        """Count one exchange."""
        template, slots = seen.text("prompt.template"), seen.text("prompt.slots")
        if template is None or slots is None:
            return
        found = self.templates.get(template)
        if found is None:
            if len(self.templates) >= MOST_TEMPLATES:
                kept = sorted(self.templates.items(), key=lambda pair: (-pair[1].count, pair[0]))[: MOST_TEMPLATES // 2]
                self.templates = dict(kept)
            found = self.templates[template] = _Template(self._hashed)
        found.add(slots, seen.account, label)

    def plain(self, most: int) -> list[dict[str, Any]]:
        """The templates that are seen most: `points` are (exchanges so far, different fillings so far)."""
        ranked = sorted(self.templates.items(), key=lambda pair: (-pair[1].count, pair[0]))[:most]
        return [
            {
                "template": name, "exchanges": one.count, "fillings": one.fillings.count, "accounts": one.accounts.count,
                "label": one.labels.most_common(1)[0][0], "points": [*one.points, (one.count, one.fillings.count)],
            }
            for name, one in ranked if one.count > 1
        ]  # fmt: skip
