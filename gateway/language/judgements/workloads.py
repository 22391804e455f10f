"""Judgements on declared workloads and on rules that ask for declarations: what would do nothing, or more than is seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

from gateway.errors import Problem
from gateway.language.campaigns import CHECKED, Workload
from gateway.language.judgements.subject import NO_MEASURES, Subject, stated
from gateway.language.logic import Found, asked, search
from gateway.language.policy import KINDS, Policy
from gateway.values import SECOND, duration_text, timestamp_text

SOON: Final = 14 * 86_400 * SECOND
FASTEST: Final = 100_000
MOST_PAIRS: Final = 2_000
_OWNERS: Final = ("account.id", "account.org")
_WORDS: Final = ("kind", "id", "within_scope", "within_ceiling", "within_items")
_READS: Final = {**{f"workload.{word}": KINDS for word in _WORDS}, "reseller.declared": ("relay",)}


def idle_asks(subject: Subject) -> Iterator[Problem]:
    """A rule that asks callers to declare a kind of workload for which it does not abstain: declaring would change nothing."""
    for rule in subject.policy.rules:
        for number, effect in enumerate(rule.response.effects):
            if effect.ask and effect.ask not in rule.abstain_for:
                place = rule.at(f"steps/{number}") if rule.response.of else rule.at("then")
                why = "does not abstain for one: declaring changes nothing"
                what = f"rule '{rule.id}' asks for a declared {effect.ask}, but {why}"
                yield Problem(place, what, f"add {effect.ask} to its 'abstain_for', or ask for another kind")


def unread_workloads(subject: Subject) -> Iterator[Problem]:
    """A declared workload of a kind for which no rule abstains and that no rule reads: it does nothing."""
    read = _kinds_read(subject.policy)
    for workload in subject.policy.workloads if subject.policy.rules else ():
        if workload.kind not in read:
            what = f"workload '{workload.id}' does nothing: no rule abstains for a {workload.kind}"
            mend = f"add {workload.kind} to the 'abstain_for' of rules, or declare another kind"
            yield Problem(workload.place, what, mend)


def idle_items(subject: Subject) -> Iterator[Problem]:
    """Items of a workload whose kind does not check itself: they are not counted."""
    for workload in subject.policy.workloads:
        if workload.size is not None and workload.kind not in CHECKED:
            what = f"the items of workload '{workload.id}' are not counted: a {workload.kind} has no end to them"
            yield Problem(workload.place, what, f"remove 'items', or declare a {' or '.join(CHECKED)}")


def unreachable_ceilings(subject: Subject) -> Iterator[Problem]:
    """A ceiling that no caller can come to, so that it bounds nothing."""
    for workload in subject.policy.workloads:
        ceiling = workload.ceiling
        if ceiling is None:
            continue
        most, length = ceiling.leaf.operand, ceiling.measure.window.length
        if most > FASTEST * (length // SECOND):
            what = f"the ceiling of workload '{workload.id}' is never reached: more than {FASTEST:,} requests a second"
            yield Problem(ceiling.leaf.place, what, "write what was agreed")


def overlapping_workloads(subject: Subject) -> Iterator[Problem]:
    """Two declarations of one kind whose scopes and times overlap: where one is above its ceiling the other still covers."""
    for one, other in _pairs(subject.policy.workloads):
        if search(asked(one.when, True, NO_MEASURES), asked(other.when, True, NO_MEASURES)).found is Found.SHOWN:
            what = f"workload '{other.id}' overlaps '{one.id}': the ceiling of either ends where the other still covers"
            yield Problem(other.place, what, "narrow one of them, or make them one")


def ending_workloads(subject: Subject) -> Iterator[Problem]:
    """A declaration that ends soon: from then on its rules act on it again."""
    if subject.today is None:
        return
    for workload in subject.policy.workloads:
        if 0 < workload.until - subject.today <= SOON:
            what = f"workload '{workload.id}' ends on {timestamp_text(workload.until)[:10]}, within {duration_text(SOON)}"
            yield Problem(workload.place, what, f"ask {workload.owner} whether it is to be renewed")


def _pairs(workloads: tuple[Workload, ...]) -> Iterator[tuple[Workload, Workload]]:
    """Pairs of one kind and of one account or organisation whose times overlap, at most `MOST_PAIRS` of them."""
    owned: dict[tuple[str, str, str], list[Workload]] = {}
    for workload in workloads:
        for leaf in workload.when.leaves():
            for value in leaf.operand if leaf.name in _OWNERS else ():
                owned.setdefault((workload.kind, leaf.name, value), []).append(workload)
    found: dict[tuple[str, str], tuple[Workload, Workload]] = {}
    for group in owned.values():
        for one, other in combinations(group, 2):
            if one.since < other.until and other.since < one.until and len(found) < MOST_PAIRS:
                found[one.id, other.id] = one, other
    yield from found.values()


def _kinds_read(policy: Policy) -> set[str]:
    """The kinds that rules abstain for, or that some condition or evidence speaks of."""
    names = {leaf.name for whole in stated(policy) for leaf in whole.condition.leaves()}
    names.update(*(rule.evidence for rule in policy.rules))
    found = {kind for rule in policy.rules for kind in rule.abstain_for}
    found.update(*(kinds for name, kinds in _READS.items() if name in names))
    return found
