"""Judgements on a policy that loads: what is legal but wrong.

Each finding names its place and the mend. Law 7 is kept here: content alone never acts, volume alone never denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.decision import Action
from gateway.errors import Problem
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy, Rule

Judge = Callable[[Policy], Iterator[Problem]]


def lint(policy: Policy) -> list[Problem]:
    """Every finding, in file order."""
    return sorted(problem for judge in JUDGEMENTS for problem in judge(policy))


def _strongest(rule: Rule) -> Action:
    return max(effect.action for effect in rule.response.effects)


def content_alone(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        if rule.family == "content" and _strongest(rule) > Action.TAG and rule.corroborate is None:
            mend = "add 'corroborate' with 2 families, or let it observe or tag"
            yield Problem(rule.place, f"content rule '{rule.id}' acts alone", mend)


def volume_denies(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        if rule.family == "volume" and _strongest(rule) > Action.THROTTLE and rule.corroborate is None:
            yield Problem(rule.place, f"volume rule '{rule.id}' does more than throttle", "throttle, or corroborate")


def unsourced_lists(policy: Policy) -> Iterator[Problem]:
    for (pack, name), found in policy.lists.items():
        for what in ("source", "date"):
            if not getattr(found, what):
                mend = f"write '# {what}: …' on top of the file, or '{what}' beside the values"
                yield Problem(found.place, f"list '{name}' of pack '{pack}' does not say its {what}", mend)


def unused_lists(policy: Policy) -> Iterator[Problem]:
    for (pack, name), found in policy.lists.items():
        rules = [rule.when for rule in policy.rules if rule.pack == pack]
        wheres = [m.where for m in policy.measures if m.where] + [plan.when for plan in policy.limits if plan.when]
        used = any(leaf.source == (pack, name) for condition in [*rules, *wheres] for leaf in condition.leaves())
        if not used:
            yield Problem(found.place, f"list '{name}' of pack '{pack}' is not used", "remove it")


def unused_measures(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        used = {leaf.name for leaf in rule.when.leaves()} | {rule.response.of or ""} | set(rule.evidence)
        parts = {part.label for name in used & rule.measures.keys() for part in _parts(rule, name)}
        for name, measure in rule.measures.items():
            if name not in used and measure.label not in parts:
                yield Problem(rule.place, f"measure '{name}' of rule '{rule.id}' is not used", "remove it")


def unnamed_mitigations(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        known = {leaf.id for leaf in rule.when.leaves()} | {"corroborate"} | {exception.name for exception in rule.exceptions}
        for honest in rule.false_positives:
            if honest.mitigated_by not in known:
                yield Problem(rule.place, f"'{honest.mitigated_by}' mitigates nothing: rule '{rule.id}' has no such leaf",
                              "name a leaf, an exception, or corroborate")  # fmt: skip


def no_evidence(policy: Policy) -> Iterator[Problem]:
    for rule in policy.rules:
        if _strongest(rule).refuses and not rule.evidence:
            what = f"rule '{rule.id}' refuses requests but names no evidence"
            yield Problem(rule.place, what, "list the values under 'evidence'")


def _parts(rule: Rule, name: str) -> Iterator[Measure | Ratio]:
    measure = rule.measures[name]
    yield measure
    if isinstance(measure, Ratio):
        yield from (measure.over, measure.under)


JUDGEMENTS: tuple[Judge, ...] = (
    content_alone, volume_denies, unsourced_lists, unused_lists, unused_measures, unnamed_mitigations, no_evidence,
)  # fmt: skip
