"""One decision, evaluated again from its audit record alone, by the functions that decided.

The record's signal values and measures are put back where they stood and the same engine evaluates the same rules, and the
same enforcement makes an outcome of the decision. If that gives another answer than the record holds, this says so loudly
instead of telling a story. `again` evaluates the same exchange under a supposition: that is how changes are claimed.

A record does not hold the fail modes that were in force (they are settings, not facts). So an outcome agrees when one answer
to the troubles that the record names (its cause, its state error) gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

from gateway.audit.record import decided, declared, recorded_measures, rule_end
from gateway.decision import Decision, Mode, Room, Verdict
from gateway.declarations import standing_of
from gateway.enforcement import Trouble
from gateway.engine import Engine, Evaluated, under
from gateway.errors import ReplayError
from gateway.facts import Cause
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy, Rule
from gateway.quarantine import reason_of
from gateway.readings import rule_values
from gateway.replay.exchange import Exchange
from gateway.replay.scene import Again, Scene, Supposed
from gateway.signals import Catalogue, View
from gateway.values import parse_timestamp

_FIELDS: Final = (
    "action", "status", "code", "by", "retry_after", "tags", "delay_us", "restriction", "restricted", "asked", "would",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision evaluated again.

    policy: as it acts below the record's overall mode. trouble: what stood in the way beside rules. now: the evaluation of
    the record as it is. same_policy: whether it was made by this policy. engines: for suppositions. capture: see `captured`.
    """

    entry: Mapping[str, Any]
    policy: Policy
    engine: Engine
    scene: Scene
    trouble: Trouble
    now: Again
    same_policy: bool
    engines: dict[frozenset[str], Engine] = field(default_factory=dict, compare=False, repr=False)
    capture: bool = False

    @property
    def view(self) -> View:
        return self.scene.view

    @property
    def at(self) -> int:
        """When the exchange was asked, in µs since 1970."""
        return self.scene.view.facts.at

    @property
    def evaluated(self) -> Evaluated:
        return self.now.evaluated

    @property
    def decision(self) -> Decision:
        return self.now.decision

    def again(self, supposed: Supposed) -> Again:
        """The same exchange under a supposition."""
        return self.scene.evaluate(self._engine(supposed), self.trouble, supposed)

    def _engine(self, supposed: Supposed) -> Engine:
        if supposed.policy is not None:
            return Engine(supposed.policy, self.view.catalogue)
        labels = frozenset(supposed.measures)
        if labels not in self.engines:
            policy = flattened(self.policy, labels, {end.rule for end in self.decision.ends})
            self.engines[labels] = self.engine if policy is self.policy else Engine(policy, self.view.catalogue)
        return self.engines[labels]

    def standing(self) -> Policy:
        """The policy with only the rules that did not simply fail to match: enough where no condition is supposed otherwise."""
        ended = {end.rule for end in self.decision.ends}
        return replace(self.policy, rules=tuple(rule for rule in self.policy.rules if rule.id in ended))


def explain(exchange: Exchange, entry: Mapping[str, Any], policy: Policy, catalogue: Catalogue) -> Explanation:
    """Evaluate a record again. Raises ReplayError when the same policy now gives another answer."""
    lowered, same = under(policy, Mode(entry["policy"]["mode"])), entry["policy"]["digest"] == policy.digest
    resting = {end["id"]: text for end in entry["rules"] if (text := reason_of(end.get("error", ""))) is not None}
    scene = Scene(View(exchange.facts, catalogue), recorded_measures(entry), _rooms(entry), resting)
    engine, troubles = Engine(lowered, catalogue), list(_troubles(entry))
    found = [scene.evaluate(engine, trouble, Supposed()) for trouble in troubles]
    place = next((place for place, one in enumerate(found) if not _outcome_differs(entry, one)), 0)
    told = Explanation(entry, lowered, engine, scene, troubles[place], found[place], same)
    if same:
        _compare(told)
    _compare_with_the_tree(told)
    return told


def _compare_with_the_tree(told: Explanation) -> None:
    """Conditions are told part by part by walking them: that must say what the compiled program said."""
    ends = {end.rule.id: end for end in told.evaluated.ends if end.rule.id not in told.scene.resting}
    for rule in told.policy.rules:
        end = ends.get(rule.id)
        if rule.mode is Mode.OFF or rule.id in told.scene.resting or (end and end.verdict is Verdict.ERROR):
            continue
        walked = rule.when.evaluate(rule_values(rule, told.view, told.evaluated.values))
        if walked is not (False if end is None else True if end.verdict is Verdict.MATCH else None):
            said = end.verdict if end else Verdict.NO_MATCH
            raise ReplayError(f"{told.entry['reference']}: {rule.id} ends as {said}, but its condition walked says {walked}")


def flattened(policy: Policy, labels: frozenset[str], ended: set[str]) -> Policy:
    """The policy with the ratios of these labels read as if they were counts, so that their value can be supposed.

    Rules that did not match and know nothing of these ratios are left out: they cannot match now either.
    """
    ratios = {m.label for rule in policy.rules for m in rule.measures.values() if isinstance(m, Ratio)} & labels
    if not ratios:
        return policy
    flats = [(rule, flat(rule, ratios)) for rule in policy.rules]
    rules = tuple(changed for rule, changed in flats if rule.id in ended or changed.measures != rule.measures)
    read = {m.label: m for rule in rules for m in rule.measures.values() if isinstance(m, Measure) and m.label in ratios}
    return replace(policy, rules=rules, measures=(*policy.measures, *read.values()))


def flat(rule: Rule, labels: set[str]) -> Rule:
    """One rule with the ratios of these labels read as counts."""
    return replace(
        rule,
        measures={
            name: replace(m.over, label=m.label, of=None, where=None, settled=True, type=m.type)
            if isinstance(m, Ratio) and m.label in labels
            else m
            for name, m in rule.measures.items()
        },
    )


def _rooms(entry: Mapping[str, Any]) -> list[Room]:
    return [
        Room(room["id"], room["allowed"], room["remaining"], parse_timestamp(room["resets_at"]), room.get("shadow", False))
        for room in entry["limits"]
    ]


def _troubles(entry: Mapping[str, Any]) -> Iterator[Trouble]:
    """Every answer that fail modes could have given to what the record says went wrong."""
    cause = Cause(entry["exchange"]["cause"]) if "cause" in entry["exchange"] else None
    down = "state_error" in entry
    causes = (None, cause) if cause else (None,)
    for refused, closed, would in product(causes, (False, True)[: 1 + down], (False, True)[: 1 + bool(cause or down)]):
        yield Trouble(refused, "", closed, would)


def outcome_of(one: Again) -> dict[str, Any]:
    """What records hold of an outcome, of one evaluation."""
    enforced, refusal = one.enforced, one.enforced.refusal
    told: dict[str, Any] = {"action": str(enforced.action), "would": str(enforced.would), "tags": list(enforced.tags)}
    told |= {"delay_us": enforced.delay, "restriction": enforced.restriction.plain() if enforced.restriction else None}
    told["restricted"] = enforced.restriction.said() if enforced.restriction else None
    told["asked"] = [{"kind": asked.kind, "by": list(asked.by)} for asked in enforced.asked]
    if refusal is not None:
        told |= {"status": refusal.status, "code": refusal.public.code, "by": list(refusal.by)}
        told["retry_after"] = refusal.retry_after
    return told


def _outcome_differs(entry: Mapping[str, Any], one: Again) -> str:
    """The first field of the recorded outcome that this evaluation does not give, or the empty text."""
    before, after = entry["outcome"], outcome_of(one)
    for name in _FIELDS:
        if (before.get(name) or None) != (after.get(name) or None):
            return f"the outcome's {name} is {after.get(name)} where the record says {before.get(name)}"
    return ""


def _compare(told: Explanation) -> None:
    differs = "; ".join(filter(None, [_ends_differ(told), _counts_differ(told), _outcome_differs(told.entry, told.now)]))
    if differs:
        reference = told.entry["reference"]
        raise ReplayError(f"{reference}: evaluated again, {differs}: the record was altered, or the engine changed")


def _ends_differ(told: Explanation) -> str:
    entry, decision = told.entry, told.decision
    if differing := differing_rules(told):
        first = differing[0]
        before = {end["id"]: end for end in entry["rules"]}.get(first, {})
        after = {end.rule: rule_end(end) for end in decision.ends}.get(first, {})
        if before.get("verdict") != after.get("verdict"):
            return (
                f"{first} ends as {after.get('verdict', 'no_match')} where the record says {before.get('verdict', 'no_match')}"
            )
        name = next(key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key))
        return f"{first} ends with {name} {after.get(name)} where the record says {before.get(name)}"
    for name, enforced in (("decision", True), ("would", False)):
        if entry[name] != (view := decided(decision, enforced=enforced)):
            return f"the {name} is {view['action']} where the record says {entry[name]['action']} by {entry[name]['by']}"
    return ""


def differing_rules(told: Explanation) -> list[str]:
    """The rules that end otherwise than the record says, by id."""
    before = {end["id"]: end for end in told.entry["rules"]}
    after = {end.rule: rule_end(end) for end in told.decision.ends}
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _counts_differ(told: Explanation) -> str:
    after = told.evaluated.values
    for label in sorted(told.scene.measures.keys() | after.keys()):
        if told.scene.measures.get(label) != after.get(label):
            said, held = after.get(label, "not read"), told.scene.measures.get(label, "nothing")
            return f"measure '{label}' is {said} where the record says {held}"
    standing = [declared(one) for one in standing_of(told.view)]
    if standing != told.entry.get("workloads", []):
        held = ", ".join(one["id"] for one in told.entry.get("workloads", [])) or "none"
        return f"the declared workloads in whose scope it is stand otherwise than the record says of {held}"
    looked_at, recorded = told.now.looked_at, [(room.limit, room.shadow) for room in told.scene.rooms]
    if "state_error" not in told.entry and sorted(looked_at) != sorted(recorded):
        names = ", ".join(sorted({name for name, _ in set(looked_at) ^ set(recorded)}))
        return f"other limits are looked at than the record says: {names}"
    return ""
