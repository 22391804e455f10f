"""Mutants of a policy: the same policy with one thing changed, which a good rule test should notice.

Mutants are made of compiled rules and limits, so they run on the engine that live traffic uses. Only what can be seen in a
decision is changed: texts for people and evidence are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from gateway.decision import Action
from gateway.errors import Place
from gateway.language.conditions import All, Leaf
from gateway.language.lists import ValueList
from gateway.language.measures import SHORTEST, window
from gateway.language.policy import FAMILIES, KINDS, Corroborate, Effect, Note, PlanLimit, Policy, Response, Rule, RuleException
from gateway.replay.altered import Altered, Seen, SeenBy, conditions, nearby
from gateway.replay.altered_limits import amounts
from gateway.replay.altered_measures import keys, lists, measures, measures_read, with_measure
from gateway.signals import Catalogue
from gateway.state.operations import Count
from gateway.values import FLOAT, INT, duration_text

WEAKER: Final = Effect(Action.OBSERVE)
STRONGER: Final = Effect(Action.DENY, 403)
ON_MISSING: Final = ("refuse", "share", "skip")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. id: its name, stable while the rule is. rules, limits, lists: what stands in place of the real ones."""

    id: str
    place: Place
    hint: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    limits: Mapping[str, PlanLimit] = field(default_factory=dict)
    lists: Mapping[tuple[str, str], ValueList] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """The rules and limits that are changed: cases that name none of them cannot notice."""
        return frozenset({*self.rules, *self.limits})

    @property
    def subject(self) -> str:
        """One of them; the same one for all mutants that change the same."""
        return min(self.names, default="")


def mutants(policy: Policy, catalogue: Catalogue, seen: SeenBy) -> list[Mutant]:
    """Every mutant of a policy, in the order of its rules, limits and lists. seen: what the cases of some rules give."""
    found: list[Mutant] = []
    for rule in policy.rules:
        for change in _rules(rule, catalogue, seen(frozenset({rule.id}))):
            place = change.place or rule.place
            found.append(Mutant(f"{rule.id}: {change.said}", place, change.hint, rules={rule.id: change.value}))
    for plan in policy.limits:
        for limited in _limits(plan, seen(frozenset({plan.limit.id}))):
            place, name = limited.place or plan.place, plan.limit.id
            found.append(Mutant(f"{name}: {limited.said}", place, limited.hint, limits={name: limited.value}))
    for key in sorted(policy.lists):
        found += [
            Mutant(f"{key[0]}: {relisted.said}", relisted.place or Place(key[0]), relisted.hint, *relisted.value)
            for relisted in lists(policy, key, seen)
        ]
    counts: dict[str, int] = {}
    for index, mutant in enumerate(found):  # leaves without ids of their own can share a name
        counts[mutant.id] = number = counts.get(mutant.id, 0) + 1
        if number > 1:
            found[index] = replace(mutant, id=f"{mutant.id} ({number})")
    return found


def _rules(rule: Rule, catalogue: Catalogue, seen: Seen) -> Iterator[Altered[Rule]]:
    for condition in conditions(rule.when, seen):
        yield condition.within(lambda when: replace(rule, when=when))
    for name, measure in measures_read(rule):
        for changed in measures(measure, rule, catalogue, seen):
            yield changed.within(partial(with_measure, rule, measure), f"measure {name}: ", rule.at(f"measures/{name}"))
    for response in _responses(rule):
        yield response.within(lambda response: replace(rule, response=response))
    if rule.corroborate is not None:
        where, hint = rule.at("corroborate"), "a case without corroboration, and its action"
        yield Altered("corroborate left out", hint, replace(rule, corroborate=None), where)
        for need in _corroborate(rule.corroborate):
            yield need.within(lambda need: replace(rule, corroborate=need), "corroborate: ", where)
    for place, exception in enumerate(rule.exceptions):
        for other in _exceptions(exception):
            where = rule.at(f"exceptions/{exception.name}")
            yield other.within(partial(_with_exception, rule, place), f"exception {exception.name}: ", where)
    for kind in rule.abstain_for:
        rest = tuple(other for other in rule.abstain_for if other != kind)
        hint = f"a case inside a declared workload of kind {kind} that expects it under 'abstained'"
        yield Altered(f"abstain_for without {kind}", hint, replace(rule, abstain_for=rest), rule.at("abstain_for"))


def _responses(rule: Rule) -> Iterator[Altered[Response]]:
    response = rule.response
    for place, effect in enumerate(response.effects):
        named = f"step from {_number(response.starts[place])}" if response.of else "then"
        where = rule.at(f"steps/{place}" if response.of else "then")

        def put(other: Effect, place: int = place) -> Response:
            effects = response.effects
            return replace(response, effects=(*effects[:place], other, *effects[place + 1 :]))

        yield from (change.within(put, f"{named}: ", where) for change in _effects(effect))
    if response.of is None:
        return
    declared = rule.measures[response.of]
    for place, start in enumerate(response.starts):
        named, where = f"step from {_number(start)}", rule.at(f"steps/{place}")
        if len(response.starts) > 1:
            rest = response.starts[:place] + response.starts[place + 1 :]
            effects = response.effects[:place] + response.effects[place + 1 :]
            hint = f"a case in which {response.of} is {_number(start)}, and its action"
            yield Altered(f"{named} left out", hint, Response(effects, response.of, rest), where)
        for other in nearby(FLOAT if declared.type is FLOAT else INT, start):
            starts = (*response.starts[:place], other, *response.starts[place + 1 :])
            if list(starts) != sorted(set(starts)) or (other < start and place == 0 and _reached(rule, start)):
                continue
            hint = f"a case in which {response.of} is {_number(max(start, other) if other < start else start)}, and its action"
            yield Altered(f"{named} starts at {_number(other)}", hint, replace(response, starts=starts), where)


def _number(value: float) -> str:
    return f"{value:g}"


def _reached(rule: Rule, start: float) -> bool:
    """Whether the condition already demands what the first step begins with, so that a lower beginning changes nothing."""
    needed = rule.when.parts if isinstance(rule.when, All) else (rule.when,)
    return any(
        isinstance(part, Leaf)
        and part.name == rule.response.of
        and part.operator.name in ("gte", "gt")
        and part.operand >= start
        for part in needed
    )


def _effects(effect: Effect) -> Iterator[Altered[Effect]]:
    for other in (WEAKER, STRONGER):
        if other.action is not effect.action:
            hint = f"a case that expects the action {effect.action}"
            yield Altered(f"{other.action} in place of {effect.action}", hint, other)
    if effect.ask:
        hint = f"a case that expects '{effect.ask}' under 'asked' or 'would_ask'"
        yield Altered(f"ask {effect.ask} left out", hint, replace(effect, ask=""))
        kind = next(kind for kind in KINDS if kind != effect.ask)
        yield Altered(f"ask {effect.ask} becomes {kind}", hint, replace(effect, ask=kind))
    if effect.limit is None:
        return
    for change in amounts(effect.limit):
        yield change.within(lambda limit: replace(effect, limit=limit))
    for rest, without in keys(effect.per):
        hint = f"a case in which another {without} has used the limit up"
        yield Altered(f"per without {without}", hint, replace(effect, per=rest))


def _corroborate(need: Corroborate) -> Iterator[Altered[Corroborate]]:
    for families in (need.families - 1, need.families + 1):
        if 1 < families <= len(FAMILIES):
            hint = f"a case in which {min(families, need.families)} families agree, and its action"
            yield Altered(f"{need.families} families become {families}", hint, replace(need, families=families))
    for within in (need.within // 2, need.within * 2):
        low, high = sorted((within, need.within))
        if within >= SHORTEST:
            hint = f"a case in which the other family matched between {duration_text(low)} and {duration_text(high)} ago"
            changed = replace(need, within=within, notes=_renoted(need, within, f"within {within}"))
            yield Altered(f"within {duration_text(need.within)} becomes {duration_text(within)}", hint, changed)
    for rest, without in keys(need.per):
        hint = f"a case in which the other family matched another {without}"
        yield Altered(f"per without {without}", hint, replace(need, per=rest, notes=_renoted(need, need.within, f"by {rest}")))
    other = Action.TAG if need.otherwise is Action.OBSERVE else Action.OBSERVE
    hint = "a case without corroboration, and its action"
    yield Altered(f"else {need.otherwise} becomes {other}", hint, replace(need, otherwise=other))


def _renoted(need: Corroborate, within: int, note: str) -> dict[tuple[str, bool], Note]:
    labels = {key: f"{old.label}, changed: {note}" for key, old in need.notes.items()}
    return {key: Note(label, window(label, Count.COUNT, within)) for key, label in labels.items()}


def _exceptions(exception: RuleException) -> Iterator[Altered[RuleException]]:
    for place, name in enumerate(exception.fields):
        entries = tuple(replace(entry, values=entry.values[:place] + entry.values[place + 1 :]) for entry in exception.entries)
        fields = exception.fields[:place] + exception.fields[place + 1 :]
        hint = f"a case with an entry under 'exceptions' whose {name} is another"
        yield Altered(f"fields without {name}", hint, replace(exception, fields=fields, entries=entries))


def _with_exception(rule: Rule, place: int, other: RuleException) -> Rule:
    return replace(rule, exceptions=(*rule.exceptions[:place], other, *rule.exceptions[place + 1 :]))


def _limits(plan: PlanLimit, seen: Seen) -> Iterator[Altered[PlanLimit]]:
    for change in amounts(plan.limit):
        yield change.within(lambda limit: replace(plan, limit=limit))
    for rest, without in keys(plan.per):
        hint = f"a case in which another {without} has used the limit up"
        yield Altered(f"per without {without}", hint, replace(plan, per=rest))
    if plan.when is not None:
        if not isinstance(plan.when, Leaf):
            yield Altered("concerns everybody", "a case that it does not concern, with 'limits'", replace(plan, when=None))
        for condition in conditions(plan.when, seen):
            yield condition.within(lambda when: replace(plan, when=when))
    for word in ON_MISSING:
        if word != plan.on_missing:
            hint = "a case whose key is missing, more often than the limit allows, with 'limits'"
            yield Altered(f"on_missing {plan.on_missing} becomes {word}", hint, replace(plan, on_missing=word))
