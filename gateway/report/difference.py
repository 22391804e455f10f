"""Two policies over one traffic: where only one of them acts, on whom, and which comparison makes the difference.

The static difference of two policies is another matter (`sluice check --against`): here both judged the same exchanges, each
with a state of its own, and what is told is what it came to. One policy against itself differs in nothing. Of a rule both
policies hold, the reason is looked for in this order: comparisons that are true under one and not under the other; its mode; an
exception, a declared workload, corroboration, a step; what its response asks for.

Memory is bounded: of accounts at most `MOST_ACCOUNTS` are told apart, of a rule's reasons `MOST_REASONS`. What went beyond is
counted all the same, and said: a number of accounts is then `at_least` that many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gateway.decision import Action, Mode, RuleEnd, Verdict
from gateway.language.conditions import Leaf
from gateway.language.policy import Rule
from gateway.report.counted import Report, account_row
from gateway.report.observed import Observed
from gateway.values import Failed, Missing, timestamp_text

SIDES: Final = ("policy", "against")
MOST_REASONS: Final = 64
MOST_ACCOUNTS: Final = 100_000
_TRUTH: Final = {True: "true", False: "false", None: "unknown"}
_ABSENT: Final = "not there"
_PARTS: Final = ("mode", "excepted", "abstained", "corroborated", "step")


class Reason(NamedTuple):
    """Why a rule ends otherwise: what differs, and what it is under each policy."""

    what: str
    policy: str
    against: str


@dataclass(slots=True)
class Differing:
    """One rule or limit that acts otherwise. more: by side, exchanges on which it asks for more there; accounts: theirs.

    capped: the sides that have more accounts than are told apart; further: exchanges with reasons beyond those kept.
    """

    more: Counter[str] = field(default_factory=Counter)
    accounts: dict[str, set[str]] = field(default_factory=lambda: {side: set() for side in SIDES})
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, Mapping[str, Any]] = field(default_factory=dict)
    capped: set[str] = field(default_factory=set)
    further: int = 0

    def add(self, side: str, account: str) -> None:
        """Count an exchange."""
        self.more[side] += 1
        known = self.accounts[side]
        if account in known:
            return
        if len(known) < MOST_ACCOUNTS:
            known.add(account)
        else:
            self.capped.add(side)

    def because(self, reason: Reason, example: Mapping[str, Any]) -> None:
        """Count a reason; the first exchange that gives it is its example."""
        if reason in self.reasons or len(self.reasons) < MOST_REASONS:
            self.reasons[reason] += 1
            self.examples.setdefault(reason, example)
        else:
            self.further += 1


class Difference:
    """Counts where two policies differ. here, there: the reports of both, which count every exchange."""

    def __init__(self, here: Report, there: Report) -> None:
        self.here, self.there = here, there
        self.exchanges: Counter[str] = Counter()
        self.rules: dict[str, Differing] = {}
        self.limits: dict[str, Differing] = {}
        self.accounts: dict[str, Counter[str]] = {}
        self.further: Counter[str] = Counter()
        self._rules = [{rule.id: rule for rule in one.policy.rules if rule.mode is not Mode.OFF} for one in (here, there)]

    def add(self, here: Observed, there: Observed) -> None:
        """Compare what both policies made of one exchange."""
        one, other = here.outcome, there.outcome
        if (one.action, one.would) != (other.action, other.would):
            side = SIDES[(one.would, one.action) < (other.would, other.action)]
            self.exchanges[side] += 1
            if here.account in self.accounts or len(self.accounts) < MOST_ACCOUNTS:
                self.accounts.setdefault(here.account, Counter())[side] += 1
            else:
                self.further[side] += 1
        if one.decision.ends != other.decision.ends:
            self._compare_rules(here, there)
        if one.rooms or other.rooms:
            self._compare_limits(here, there)

    def _compare_rules(self, here: Observed, there: Observed) -> None:
        ends = [{end.rule: end for end in seen.outcome.decision.ends} for seen in (here, there)]
        for name in sorted(ends[0].keys() | ends[1].keys()):
            one, other = ends[0].get(name), ends[1].get(name)
            does, did = _deed(one), _deed(other)
            if does == did:
                continue
            found = self.rules.setdefault(name, Differing())
            found.add(SIDES[does < did], here.account)
            rules = [rules.get(name) for rules in self._rules]
            for reason, values in reasons(rules[0], rules[1], here, there, one, other):
                sides = dict(zip(SIDES, values, strict=True))
                found.because(reason, {"at": timestamp_text(here.at), "account": here.account, **sides})

    def _compare_limits(self, here: Observed, there: Observed) -> None:
        full = [{room.limit for room in seen.outcome.rooms if not room.allowed} for seen in (here, there)]
        for name in sorted(full[0] ^ full[1]):
            if not name.startswith("rule:"):
                self.limits.setdefault(name, Differing()).add(SIDES[name in full[1]], here.account)

    def as_dict(self) -> dict[str, Any]:
        """The `difference` of a report. Empty (no exchanges, rules, limits, accounts) where both policies did the same.

        only: by which policy alone an account is refused anything (throttle, verify, deny), enforced and as if every shadow
        rule were enforced; None where by both or by neither. of_further_accounts: exchanges of those beyond the cap, if any.
        """
        further = {"of_further_accounts": {side: self.further[side] for side in SIDES}} if self.further else {}
        return further | {
            "against": {"digest": self.there.policy.digest, "version": self.there.policy.version},
            "outcomes": dict(sorted(self.there.outcomes.items())), "would": dict(sorted(self.there.would.items())),
            "exchanges": {side: self.exchanges[side] for side in SIDES},
            "rules": [self._differing(name, found) for name, found in sorted(self.rules.items())],
            "limits": [self._differing(name, found) for name, found in sorted(self.limits.items())],
            "accounts": [self._account(name, counts) for name, counts in sorted(self.accounts.items())],
        }  # fmt: skip

    def _differing(self, name: str, found: Differing) -> dict[str, Any]:
        row: dict[str, Any] = {"id": name}
        for side in SIDES:
            row[side] = {"exchanges": found.more[side], "accounts": len(found.accounts[side])}
            row[side] |= {"at_least": True} if side in found.capped else {}
        told = sorted(found.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        why = [{**reason._asdict(), "exchanges": count, "example": found.examples[reason]} for reason, count in told]
        row |= {"of_further_reasons": found.further} if found.further else {}
        return {**row, "why": why} if why or found.further else row

    def _account(self, name: str, counts: Counter[str]) -> dict[str, Any]:
        rows = [account_row(name, one.accounts.get(name, {}).values(), one.labels) for one in (self.here, self.there)]
        row: dict[str, Any] = {"id": name, "label": rows[0]["label"], "exchanges": {side: counts[side] for side in SIDES}}
        for side, told in zip(SIDES, rows, strict=True):
            row[side] = {key: told[key] for key in ("strongest", "would", "rules")}
        row["only"] = {view: _only(rows[0][key], rows[1][key]) for view, key in (("enforced", "strongest"), ("would", "would"))}
        return row


def _deed(end: RuleEnd | None) -> tuple[Action, Action, bool]:
    """What a rule's end comes to: what it would ask for, what it asks for, whether it matched at all."""
    if end is None or end.verdict is not Verdict.MATCH:
        return Action.ALLOW, Action.ALLOW, False
    return end.would, end.action, True


def _only(here: str, there: str) -> str | None:
    acts = [Action[one.upper()].refuses for one in (here, there)]
    return None if acts[0] == acts[1] else SIDES[acts[1]]


Told = tuple[Reason, tuple[object, object]]


def reasons(
    rule: Rule | None, other: Rule | None, here: Observed, there: Observed, end: RuleEnd | None, ended: RuleEnd | None
) -> Iterator[Told]:
    """Why a rule ends otherwise under the two policies, with the values that stood there."""
    if rule is None or other is None:
        yield Reason("the rule", *("there" if one else _ABSENT for one in (rule, other))), (None, None)
        return
    compared = list(_comparisons(_leaves(rule, here), _leaves(other, there)))
    if compared:
        yield from compared
        return
    parts = [
        (Reason(part, _said(end, part), _said(ended, part)), (None, None))
        for part in _PARTS
        if _said(end, part) != _said(ended, part)
    ]
    asked = Reason("response", *(str(one.would if one else Action.ALLOW) for one in (end, ended)))
    yield from parts or [(asked, (None, None))]


def _said(end: RuleEnd | None, part: str) -> str:
    value = getattr(end, part) if end is not None else None
    said = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
    return said or "none"


class _Looked(NamedTuple):
    said: str
    truth: str
    value: object


def _leaves(rule: Rule, seen: Observed) -> dict[tuple[str, int], _Looked]:
    """The comparisons of a rule by their id (several may have one), each with its truth and value."""
    values, found, times = seen.values(rule), dict[tuple[str, int], _Looked](), Counter[str]()
    for leaf in rule.when.leaves():
        value = values(leaf.name)
        found[leaf.id, times[leaf.id]] = _Looked(str(leaf), _TRUTH[leaf.test(value)], _shown(leaf, value))
        times[leaf.id] += 1
    return found


def _shown(leaf: Leaf, value: object) -> str:
    if isinstance(value, (Missing, Failed)):
        return f"missing ({value.reason})"
    try:
        return leaf.type.show(value)
    except (TypeError, ValueError):  # a value of the wrong type, as a broken provider gave it
        return type(value).__name__


def _comparisons(here: Mapping[tuple[str, int], _Looked], there: Mapping[tuple[str, int], _Looked]) -> Iterator[Told]:
    keys: Iterable[tuple[str, int]] = dict.fromkeys([*here, *there])
    for key in keys:
        one, other = here.get(key), there.get(key)
        if one is not None and other is not None and one.truth == other.truth:
            continue
        if (one is None or other is None) and "true" in (looked.truth for looked in (one, other) if looked is not None):
            continue  # a comparison that only one policy makes, and that holds, is not what keeps the rule from matching there
        said = [_ABSENT if looked is None else f"{looked.said}: {looked.truth}" for looked in (one, other)]
        yield Reason(f"leaf {key[0]}", *said), (one and one.value, other and other.value)
