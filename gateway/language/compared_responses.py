"""What rules do, compared: effects by their strength, steps stretch by stretch, and what keeps a match from acting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from gateway.decision import Action
from gateway.language.compared import Reading, Sides, covers
from gateway.language.conditions import Leaf
from gateway.language.direction import Aspect, Direction, nested, ordered, together
from gateway.language.logic import Formula, Found, asked, search, step_leaf
from gateway.language.operators import OPERATORS
from gateway.language.policy import Corroborate, Effect, Response, Rule
from gateway.state.operations import Limit, Pace
from gateway.values import BOOL, duration_text

EQUAL, WIDER, NARROWER, OPEN = Direction.EQUAL, Direction.WIDER, Direction.NARROWER, Direction.OPEN
_BY_READING: Final = {Reading.MORE: WIDER, Reading.SURER: WIDER, Reading.LESS: NARROWER, Reading.VAGUER: NARROWER}
_BELOW: Final = Effect(Action.OBSERVE)  # what a match does where its measure stands below the first step, or nowhere


def effects(old: Effect, new: Effect) -> Iterator[Aspect]:
    """Two effects compared: wider is stronger."""
    if old.action is not new.action:
        yield Aspect(_stronger(old.action, new.action), f"action {old.action} -> {new.action}")
        return
    if old.limit is not None and new.limit is not None:
        yield from limits(old.limit, new.limit)
    if old.per != new.per:
        yield Aspect(OPEN, f"keys of the throttle {', '.join(old.per)} -> {', '.join(new.per)}")
    if old.hold != new.hold:
        yield Aspect(ordered(old.hold, new.hold), f"delay {duration_text(old.hold)} -> {duration_text(new.hold)}")
    if old.restriction != new.restriction and old.restriction is not None and new.restriction is not None:
        both = old.restriction.and_also(new.restriction)
        plain = [", ".join(f"{k} {v}" for k, v in one.plain().items()) for one in (old.restriction, new.restriction)]
        said = f"restriction {' -> '.join(plain)}"
        yield Aspect(nested(new.restriction == both, old.restriction == both), said)
    for what, before, after in (("tag", old.tag, new.tag), ("status", old.status, new.status), ("link", old.link, new.link),
                                ("ask", old.ask, new.ask)):  # fmt: skip
        if before != after:
            yield Aspect(EQUAL, f"{what} {before or 'none'} -> {after or 'none'}", told=True)


def _stronger(old: Action, new: Action) -> Direction:
    """A throttle with room left yields, so that it is not surely stronger than what acts on every match."""
    lower = min(old, new)
    if Action.THROTTLE in (old, new) and lower not in (Action.THROTTLE, Action.ALLOW, Action.OBSERVE):
        return Direction.BOTH
    return ordered(old, new)


def limits(old: Limit, new: Limit) -> Iterator[Aspect]:
    """Two limits compared at the same counts: wider lets less through."""
    if old.unit is not new.unit or old.pace is not new.pace:
        yield Aspect(OPEN, f"limit in {old.unit}, {old.pace} -> in {new.unit}, {new.pace}")
        return
    if old.amount != new.amount:
        yield Aspect(ordered(old.amount, new.amount).back, f"limit {_limit(old)} -> {_limit(new)}")
    if old.period != new.period:
        short, long = sorted((old.period, new.period))
        nests = old.pace is Pace.MOVING or long % short == 0
        way = ordered(old.period, new.period) if nests else OPEN
        yield Aspect(way, f"period of the limit {old.period}s -> {new.period}s")


def _limit(limit: Limit) -> str:
    return f"{limit.amount} {limit.unit}/{limit.period}s"


def responses(old: Rule, new: Rule, both: Sides) -> Iterator[Aspect]:
    """Two responses compared wherever both rules match."""
    if old.response.canonical() == new.response.canonical() and _readings_alike(new.response, both):
        return
    names = {name for name in (old.response.of, new.response.of) if name is not None}
    if not names:
        yield from effects(old.response.effects[0], new.response.effects[0])
        return
    if len(names) > 1:
        yield Aspect(OPEN, f"the steps read '{old.response.of}' -> '{new.response.of}'")
        return
    if not all(_readings_alike(response, both) for response in (old.response, new.response)):
        yield _read_otherwise(old.response, new.response, both)
        return
    said: dict[str, Aspect] = {}
    for where, before, after in _stretches(old, new, names.pop(), both):
        for aspect in effects(before, after):
            reason = f"{where}: {aspect.reason}"
            said[reason] = Aspect(aspect.direction, reason, aspect.told)
    yield from said.values()


def _readings_alike(response: Response, both: Sides) -> bool:
    return response.of is None or both.readings.get(response.of, Reading.SAME) is Reading.SAME


def _read_otherwise(old: Response, new: Response, both: Sides) -> Aspect:
    """Steps of a measure whose definition changed: where every step does more than the one below, more is wider."""
    of = new.of or old.of or ""
    ladder = (_BELOW, *new.effects)
    rising = all(direction_of([*effects(low, high)]) in (EQUAL, WIDER) for low, high in pairwise(ladder))
    way = _BY_READING.get(both.readings[of], OPEN) if rising and old.canonical() == new.canonical() else OPEN
    return Aspect(way, f"the steps read '{of}', which counts otherwise")


def _stretches(old: Rule, new: Rule, name: str, both: Sides) -> Iterator[tuple[str, Effect, Effect]]:
    """The stretches of the measure on which both responses are constant and that a match of both can come to."""
    measures = both.new if name in both.new else both.old
    matches: list[Formula] = [asked(old.when, True, both.old), asked(new.when, True, both.new)]
    bounds = sorted({-math.inf, *old.response.starts, *new.response.starts, math.inf})
    for low, high in pairwise(bounds):
        leaf = step_leaf(name, low, high, measures, new.place)
        if search(*matches, asked(leaf, True, measures)).found is not Found.NONE:
            where = f"{name} below {high:g}" if low == -math.inf else f"{name} from {low:g}"
            yield where, _effect_at(old.response, low), _effect_at(new.response, low)
    unread = Leaf(f"{name}.present", name, OPERATORS["present"], True, "true", BOOL, new.place)
    if search(*matches, asked(unread, False, measures)).found is not Found.NONE:
        yield f"{name} missing", _effect_at(old.response, -math.inf), _effect_at(new.response, -math.inf)


def _effect_at(response: Response, height: float) -> Effect:
    if response.of is None:
        return response.effects[0]
    reached = [effect for start, effect in zip(response.starts, response.effects, strict=True) if start <= height]
    return reached[-1] if reached else _BELOW


def corroborations(old: Corroborate | None, new: Corroborate | None) -> Iterator[Aspect]:
    """What else must be found before a match acts: more of it is narrower."""
    if old is None or new is None:
        if old is not new:
            yield Aspect(
                *((NARROWER, "corroboration asked for") if old is None else (WIDER, "corroboration no longer asked for"))
            )
        return
    if old.families != new.families:
        yield Aspect(ordered(old.families, new.families).back, f"families of corroborate {old.families} -> {new.families}")
    if old.within != new.within:
        short, long = sorted((old.within, new.within))
        said = f"corroborated within {duration_text(old.within)} -> {duration_text(new.within)}"
        yield Aspect(ordered(old.within, new.within) if covers(short, long) else OPEN, said)
    if old.per != new.per:
        way = nested({*new.per} <= {*old.per}, {*old.per} <= {*new.per})
        yield Aspect(way, f"keys of corroborate {', '.join(old.per)} -> {', '.join(new.per)}")
    if old.otherwise is not new.otherwise:
        yield Aspect(ordered(old.otherwise, new.otherwise), f"uncorroborated {old.otherwise} -> {new.otherwise}")


def exceptions(old: Rule, new: Rule) -> Iterator[Aspect]:
    """What is exempted: an entry that is added, or lasts longer, is narrower."""
    before, after = _entries(old), _entries(new)
    if before == after:
        return
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    moved = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    counted = ((len(added), "added"), (len(removed), "removed"), (len(moved), "with another expiry"))
    said = ", ".join(f"{number} {what}" for number, what in counted if number)
    way = nested(_covered(after, before), _covered(before, after))
    yield Aspect(way, f"exception entries: {said}")


Entries = Mapping[frozenset[tuple[str, Any]], int]


def _entries(rule: Rule) -> Entries:
    found: dict[frozenset[tuple[str, Any]], int] = {}
    for exception in rule.exceptions:
        for entry in exception.entries:
            key = frozenset(zip(exception.fields, entry.values, strict=True))
            found[key] = max(found.get(key, 0), entry.expires)
    return found


def _covered(entries: Entries, others: Entries) -> bool:
    """Whether each of the entries exempts nothing that one of the others does not exempt at least as long."""
    return all(any(other <= key and others[other] >= until for other in others) for key, until in entries.items())


def abstentions(old: Rule, new: Rule) -> Iterator[Aspect]:
    """Which declared workloads are left alone."""
    if old.abstain_for != new.abstain_for:
        way = nested({*new.abstain_for} <= {*old.abstain_for}, {*old.abstain_for} <= {*new.abstain_for})
        said = f"abstains for {', '.join(old.abstain_for) or 'nobody'} -> {', '.join(new.abstain_for) or 'nobody'}"
        yield Aspect(way, said)


def direction_of(aspects: list[Aspect]) -> Direction:
    """The direction of several aspects together."""
    return together(aspect.direction for aspect in aspects)
