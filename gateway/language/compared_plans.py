"""Plan limits and declared workloads, compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.language.campaigns import CHECKED, Workload
from gateway.language.compared import NO_MEASURES, Sides, compare, ends_unknown_alike
from gateway.language.compared_responses import limits
from gateway.language.direction import Aspect, Direction, modes, ordered, told
from gateway.language.policy import PlanLimit
from gateway.state.operations import Unit
from gateway.values import timestamp_text

NOTHING: Final = Sides(NO_MEASURES, NO_MEASURES, {})
_ON_MISSING: Final = ("skip", "share", "refuse")


def limit_aspects(old: PlanLimit, new: PlanLimit) -> list[Aspect]:
    """What changed in a plan limit: wider lets less through."""
    aspects = [*limits(old.limit, new.limit), *modes(old.mode, new.mode), *_applies(old, new)]
    if old.per != new.per:
        aspects.append(Aspect(Direction.OPEN, f"keys {', '.join(old.per)} -> {', '.join(new.per)}"))
    if old.on_missing != new.on_missing:
        way = ordered(_ON_MISSING.index(old.on_missing), _ON_MISSING.index(new.on_missing))
        aspects.append(Aspect(way, f"on_missing {old.on_missing} -> {new.on_missing}"))
    if old.reserve != new.reserve:
        aspects.append(Aspect(_reserve(old, new), f"reserve {old.reserve} -> {new.reserve}"))
    if old.prices != new.prices:
        aspects.append(Aspect(Direction.OPEN, "prices changed"))
    public = [("public code", old.public.code, new.public.code), ("public message", old.public.message, new.public.message)]
    return [*aspects, *told(public), *told([("pack", old.pack, new.pack)], home=True)]


def _reserve(old: PlanLimit, new: PlanLimit) -> Direction:
    """A larger reserve lets less through, unless the limit grew by as much and more: then there is room for what is held."""
    more, grown = new.reserve - old.reserve, new.limit.amount - old.limit.amount
    if old.limit.unit is new.limit.unit is Unit.TOKENS and more * grown > 0 and abs(more) <= abs(grown):
        return Direction.EQUAL
    return ordered(old.reserve, new.reserve)


def _applies(old: PlanLimit, new: PlanLimit) -> Iterator[Aspect]:
    """Whom a limit concerns. Where its `when` is unknown `on_missing` decides, so that must not have shifted either."""
    if old.when is None or new.when is None:
        if old.when is not new.when:
            clear = "skip" in (old.on_missing, new.on_missing) and old.on_missing == new.on_missing
            way = Direction.WIDER if new.when is None else Direction.NARROWER
            yield Aspect(way if clear else Direction.OPEN, f"concerns '{old.when or 'all'}' -> '{new.when or 'all'}'")
        return
    way, reasons = compare(old.when, new.when, NOTHING)
    if way is not Direction.EQUAL and old.on_missing != "skip" and not ends_unknown_alike(old.when, new.when, NOTHING):
        way = Direction.OPEN
    yield from (Aspect(way, reason) for reason in reasons)


def workload_aspects(old: Workload, new: Workload) -> list[Aspect]:
    """What changed in a workload: one that covers more makes the rules that abstain for it act on less."""
    way, reasons = compare(old.when, new.when, NOTHING)
    aspects = [Aspect(way.back, reason) for reason in reasons]
    for what, before, after in (("begins", -old.since, -new.since), ("ends", old.until, new.until)):
        if before != after:
            said = f"{what} {timestamp_text(abs(before))} -> {timestamp_text(abs(after))}"
            aspects.append(Aspect(ordered(before, after).back, said))
    if old.ceiling != new.ceiling or (old.ceiling and new.ceiling and old.ceiling.leaf.operand != new.ceiling.leaf.operand):
        aspects.append(Aspect(_ceiling(old, new), "ceiling changed"))
    if old.size != new.size:
        aspects.append(Aspect(_size(old, new), f"items {old.size or 'none'} -> {new.size or 'none'}"))
    if old.kind != new.kind:
        aspects.append(Aspect(Direction.OPEN, f"kind {old.kind} -> {new.kind}"))
    return [*aspects, *told([("owner", old.owner, new.owner)], home=True), *told([("evidence", old.evidence, new.evidence)])]


def _size(old: Workload, new: Workload) -> Direction:
    """Fewer items are outgrown sooner, so that the rules that abstain for it act on more."""
    if not {old.kind, new.kind} & {*CHECKED}:
        return Direction.EQUAL
    if old.size is None or new.size is None:
        return Direction.NARROWER if new.size is None else Direction.WIDER
    return ordered(old.size, new.size).back


def _ceiling(old: Workload, new: Workload) -> Direction:
    if old.ceiling is None or new.ceiling is None:
        return Direction.NARROWER if new.ceiling is None else Direction.WIDER
    if old.ceiling.measure.label != new.ceiling.measure.label:
        return Direction.OPEN
    return ordered(old.ceiling.leaf.operand, new.ceiling.leaf.operand).back
