"""Remedies: what could be declared so that a decision is another one, and what a refused request would need to pass.

An entry in an exception, a declared workload, corroboration that comes or goes; the fewest rules and limits in the way. Nothing
is judged here: each remedy is a supposition, and whoever asks has it evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gateway.language.campaigns import Workload
from gateway.language.conditions import All
from gateway.language.policy import ExceptionEntry, Policy, Rule
from gateway.replay.explain import Explanation
from gateway.replay.scene import Again, Supposed
from gateway.values import Failed, Missing

Remedy = tuple[dict[str, Any], Supposed]


def remedies(rule: Rule, told: Explanation) -> Iterator[Remedy]:
    """What could be declared about a match that stands: each with the words of the tree."""
    end = next((end for end in told.evaluated.ends if end.rule.id == rule.id), None)
    if end is None or not end.counts:
        return
    yield from _exceptions(rule, told)
    yield from _workloads(rule, told)
    yield from _corroborations(rule, told, end.corroborated)


def _exceptions(rule: Rule, told: Explanation) -> Iterator[Remedy]:
    """An entry for the values of this exchange, in each exception whose shape the rule's author declared."""
    for place, exception in enumerate(rule.exceptions):
        values = tuple(told.view.get(name) for name in exception.fields)
        if any(isinstance(value, (Missing, Failed)) for value in values):
            continue
        entry = ExceptionEntry(values, "supposed", "supposed", told.at + 1, rule.place)
        widened = replace(exception, entries=(*exception.entries, entry))
        shapes = (*rule.exceptions[:place], widened, *rule.exceptions[place + 1 :])
        plain = {n: told.view.catalogue[n].type.plain(v) for n, v in zip(exception.fields, values, strict=True)}
        said = {"exception": {"name": exception.name, "values": plain}}
        yield said, Supposed(policy=swapped(told, replace(rule, exceptions=shapes)))


def _workloads(rule: Rule, told: Explanation) -> Iterator[Remedy]:
    """A declaration that covers this exchange, of a kind that the rule abstains for; or a higher ceiling of one that does."""
    standing = told.standing()
    for workload in standing.workloads:
        higher = _raised(workload, told) if workload.kind in rule.abstain_for else None
        if higher is not None and higher.ceiling is not None:
            others = tuple(higher if other is workload else other for other in standing.workloads)
            what = {"kind": workload.kind, "id": workload.id, "ceiling": higher.ceiling.leaf.operand}
            yield {"workload": what}, Supposed(policy=replace(standing, workloads=others))
    for kind in rule.abstain_for:
        declared = Workload("supposed", kind, All(()), told.at, told.at + 1, "supposed", "supposed")
        said = {"workload": {"kind": kind}}
        yield said, Supposed(policy=replace(standing, workloads=(*standing.workloads, declared)))


def _raised(workload: Workload, told: Explanation) -> Workload | None:
    """A workload with a ceiling as high as its count, where the count is known; else None."""
    ceiling = workload.ceiling
    count = told.evaluated.values.get(ceiling.measure.label) if ceiling is not None else None
    if ceiling is None or not isinstance(count, int) or ceiling.leaf.test(count) is not False:
        return None
    return replace(workload, ceiling=replace(ceiling, leaf=replace(ceiling.leaf, operand=count, shown=str(count))))


def _corroborations(rule: Rule, told: Explanation, seen: tuple[str, ...]) -> Iterator[Remedy]:
    """One more family seen, and none of those that were."""
    need = rule.corroborate
    if need is None:
        return
    others = sorted({other.family for other in told.policy.rules} - {rule.family}, key=lambda family: (family in seen, family))
    for family in others[:1]:
        notes = {need.notes[family, enforced].label: 1 for enforced in (True, False)}
        yield {"corroborated_by": family}, Supposed(measures=notes)
    if seen:
        resting = frozenset(end.rule.id for end in told.evaluated.ends if end.rule.family != rule.family)
        notes = {note.label: 0 for (family, _), note in need.notes.items() if family != rule.family}
        yield {"not_corroborated_by": list(seen)}, Supposed(measures=notes, resting=resting)


def swapped(told: Explanation, rule: Rule) -> Policy:
    """The rules that stand, one of them in another form."""
    standing = told.standing()
    return replace(standing, rules=tuple(rule if other.id == rule.id else other for other in standing.rules))


def to_pass(told: Explanation, enforced: bool) -> dict[str, Any] | None:
    """The fewest rules that would have to stop matching, and limits to have room, for the request to pass.

    None where it passes. `enforced`: the decision in force, else the would-be one. The set is minimal: leave one out and
    the request is refused. `impossible` says what would refuse it all the same.
    """

    def refused(ids: frozenset[str], limits: frozenset[str]) -> Again | None:
        one = told.again(Supposed(resting=ids, room=limits))
        refuses = one.enforced.refusal is not None if enforced else one.enforced.would.refuses
        return one if refuses else None

    if refused(frozenset(), frozenset()) is None:
        return None
    rules = frozenset(end.rule for end in told.decision.ends if (end.action if enforced else end.would).refuses)
    limits = frozenset(room.limit for room in told.scene.rooms if not room.allowed and (not enforced or not room.shadow))
    limits -= {f"rule:{name}" for name in rules}  # without the rule its limit is not asked
    if (still := refused(rules, limits)) is not None:
        by = still.enforced.refusal.by if still.enforced.refusal else ("fail modes",)
        return {"impossible": list(by)}
    for item in sorted(rules):
        if refused(rules - {item}, limits) is None:
            rules -= {item}
    for item in sorted(limits):
        if refused(rules, limits - {item}) is None:
            limits -= {item}
    return {"without_rules": sorted(rules), "with_room": sorted(limits)}
