"""Measures and lists, changed in one place, for mutants: windows, keys, filters, caps and items.

A changed measure gets a label of its own, so that its window stays apart from the real one. Measures that no condition reads
are left alone, and so are caps that could not be seen: «at least N» decides `gte` and `gt` as the true number would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from gateway.language.conditions import Leaf
from gateway.language.lists import ValueList
from gateway.language.measures import MILLION, SHORTEST, Measure, Ratio
from gateway.language.measures import window as window_of
from gateway.language.operators import Networks, Operand
from gateway.language.policy import PlanLimit, Policy, Rule
from gateway.replay.altered import Altered, Seen, SeenBy, chosen, conditions, mapped
from gateway.replay.played import parts
from gateway.signals import Catalogue
from gateway.state.operations import Count
from gateway.values import duration_text


def measures_read(rule: Rule) -> Iterator[tuple[str, Measure]]:
    """The measures that the condition or the steps read, those inside ratios included, with a name for each."""
    used = {leaf.name for leaf in rule.when.leaves()} | {rule.response.of}
    wanted = {
        part.label
        for name, declared in rule.measures.items() if name in used
        for part in ((declared.over, declared.under) if isinstance(declared, Ratio) else (declared,))
    }  # fmt: skip
    names = {measure.label: name for name, measure in rule.measures.items()}
    for measure in parts(rule):
        if measure.label in wanted:
            yield names.get(measure.label, measure.label), measure


def measures(measure: Measure, rule: Rule, catalogue: Catalogue, seen: Seen) -> Iterator[Altered[Measure]]:
    """Every change of one measure of a rule."""
    for altered in (*_windows(measure), *_filters(measure, seen), *_bounds(measure, rule)):
        yield altered.within(partial(_relabelled, catalogue, altered.said))


def _windows(measure: Measure) -> Iterator[Altered[Measure]]:
    window, said = measure.window, duration_text(measure.window.length)
    for other in (window.length // 2, window.length * 2):
        if other >= SHORTEST:
            low, high = sorted((window.length, other))
            hint = f"a case whose exchanges lie between {duration_text(low)} and {duration_text(high)} back"
            changed = replace(measure, window=replace(window, length=other))
            yield Altered(f"window {said} becomes {duration_text(other)}", hint, changed)
    for rest, without in keys(measure.per):
        hint = f"a case with several {without}, of which each is below the threshold"
        yield Altered(f"per without {without}", hint, replace(measure, per=rest))


def _filters(measure: Measure, seen: Seen) -> Iterator[Altered[Measure]]:
    if measure.where is None:
        return
    if not isinstance(measure.where, Leaf):
        hint = f"a case with exchanges for which {measure.where} does not hold"
        yield Altered("where left out", hint, replace(measure, where=None))
    for altered in conditions(measure.where, seen):
        yield altered.within(lambda where: replace(measure, where=where), "where ")


def _bounds(measure: Measure, rule: Rule) -> Iterator[Altered[Measure]]:
    window = measure.window
    if window.kind is Count.QUANTILE:
        for rank in (window.rank - MILLION // 20, window.rank + MILLION // 20):
            hint = f"a case in which one in twenty {measure.of} is far from the others"
            said = f"rank {window.rank / MILLION:g} becomes {rank / MILLION:g}"
            if 0 < rank < MILLION:
                yield Altered(said, hint, replace(measure, window=replace(window, rank=rank)))
    if _cap_matters(measure, rule) and window.cap > 1:
        half = window.cap // 2
        hint = f"a case with more than {half} different {measure.of}"
        yield Altered(f"cap {window.cap} becomes {half}", hint, replace(measure, window=replace(window, cap=half)))


def _cap_matters(measure: Measure, rule: Rule) -> bool:
    """Whether a cap at work could be seen: «at least N» decides `gte` and `gt` as the true number would."""
    if measure.window.kind is Count.TOP_SHARE:
        return True
    if measure.window.kind is not Count.DISTINCT:
        return False
    inside = any(isinstance(one, Ratio) and measure in (one.over, one.under) for one in rule.measures.values())
    names = {name for name, declared in rule.measures.items() if declared == measure}
    return inside or any(leaf.name in names and leaf.operator.name not in ("gte", "gt") for leaf in rule.when.leaves())


def _relabelled(catalogue: Catalogue, said: str, measure: Measure) -> Measure:
    """A changed measure with a label, a window and a time of counting of its own."""
    label, old = f"{measure.label}, {said}", measure.window
    named = [*([measure.of] if measure.of else []), *(leaf.name for leaf in (measure.where.leaves() if measure.where else ()))]
    cut = window_of(label, old.kind, old.length, old.cap, old.rank)
    return replace(measure, label=label, window=cut, settled=any(catalogue[name].late for name in named))


def with_measure(rule: Rule, old: Measure, new: Measure) -> Rule:
    def changed(declared: Measure | Ratio) -> Measure | Ratio:
        if isinstance(declared, Measure):
            return new if declared == old else declared
        over, under = (new if part == old else part for part in (declared.over, declared.under))
        return replace(declared, label=f"({over.label}) / ({under.label})", over=over, under=under)

    return replace(rule, measures={name: changed(declared) for name, declared in rule.measures.items()})


def keys(per: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key left out, and which; the last one leaves one counter for everybody."""
    for name in per:
        yield tuple(other for other in per if other != name), name


class Relisted(NamedTuple):
    """What stands in place of the real rules, limits and lists, because one list is another."""

    rules: Mapping[str, Rule]
    limits: Mapping[str, PlanLimit]
    lists: Mapping[tuple[str, str], ValueList]


def lists(policy: Policy, key: tuple[str, str], seen: SeenBy) -> Iterator[Altered[Relisted]]:
    """A list without one of its items, with one that tests give and it lacks, and empty; nothing where no rule reads it."""
    whole = policy.lists[key]
    reading = [(rule.id, leaf) for rule in policy.rules for leaf in _all_leaves(rule) if leaf.source == key]
    reading += [
        (plan.limit.id, leaf) for plan in policy.limits if plan.when for leaf in plan.when.leaves() if leaf.source == key
    ]
    used, given_to = {leaf.name for _, leaf in reading}, seen(frozenset(name for name, _ in reading))
    values, given = frozenset(whole.values), frozenset(value for name in used for value in given_to(name))
    others = sorted((value for value in given - values if whole.type.holds(value)), key=str)[:1]
    show = whole.type.show
    changes = [(f"without {show(item)}", values - {item}) for item in (chosen(values, given) if len(values) > 1 else ())]
    changes += [(f"with {show(item)}", values | {item}) for item in others] + [("emptied", frozenset())]
    for said, items in changes if used else ():
        change = partial(_relisted, key, items, said)
        rules = {rule.id: found for rule in policy.rules if (found := _relist_rule(rule, change)) is not rule}
        limits = {
            plan.limit.id: replace(plan, when=mapped(plan.when, change))
            for plan in policy.limits
            if plan.when and any(leaf.source == key for leaf in plan.when.leaves())
        }
        hint = f"a case in which {' or '.join(sorted(used))} is in the list" if said == "emptied" else "a case with this value"
        relisted = Relisted(rules, limits, {key: replace(whole, values=items)})
        yield Altered(f"list {key[1]} {said}", hint, relisted, whole.place)


def _all_leaves(rule: Rule) -> Iterator[Leaf]:
    yield from rule.when.leaves()
    for measure in parts(rule):
        yield from measure.where.leaves() if measure.where is not None else ()


def _relisted(key: tuple[str, str], items: frozenset[object], said: str, leaf: Leaf) -> Leaf:
    if leaf.source != key:
        return leaf
    operand = Networks(frozenset(map(str, items))) if leaf.operator.operand is Operand.NETWORKS else items
    return replace(leaf, operand=operand, shown=f"{leaf.shown} {said}")


def _relist_rule(rule: Rule, change: Callable[[Leaf], Leaf]) -> Rule:
    if all(change(leaf) is leaf for leaf in _all_leaves(rule)):
        return rule
    found = replace(rule, when=mapped(rule.when, change))
    for measure in parts(rule):
        if measure.where is not None and any(change(leaf) is not leaf for leaf in measure.where.leaves()):
            label, old = f"{measure.label}, another list", measure.window
            cut = window_of(label, old.kind, old.length, old.cap, old.rank)
            found = with_measure(found, measure, replace(measure, label=label, where=mapped(measure.where, change), window=cut))
    return found
