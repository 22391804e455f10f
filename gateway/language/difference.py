"""What changed from one policy to another, read off their text: no traffic is needed, and no rule is run.

Every rule, limit and workload is compared with the one of the same id, all else being equal: which way it went (`KINDS`), why,
and the version step that its pack owes for it. What could not be decided is incomparable, and nothing is guessed. Limits are
compared at the same counts.

`STEPS` says what each version step means. The split is Falco's for its rule files; what is proven is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, TypeVar

from gateway.decision import Action, Mode
from gateway.errors import Place
from gateway.language.campaigns import Workload
from gateway.language.compared import compare, measure_changes, sides
from gateway.language.compared_plans import limit_aspects, workload_aspects
from gateway.language.compared_responses import abstentions, corroborations, exceptions, responses
from gateway.language.direction import Aspect, Direction, modes, ordered, together, told
from gateway.language.findings import Finding, Severity
from gateway.language.policy import PlanLimit, Policy, Rule


class Step(IntEnum):
    """The version step that a change calls for."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3

    def __str__(self) -> str:
        return self.name.lower()


class Kind(StrEnum):
    """What happened to a rule, limit or workload. `KINDS` says what each word means."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    REWORDED = "reworded"
    WIDER = "wider"
    NARROWER = "narrower"
    DIFFERENT = "different"
    INCOMPARABLE = "incomparable"
    EQUAL = "equal"


KINDS: Final[Mapping[Kind, str]] = {
    Kind.ADDED: "it is new",
    Kind.REMOVED: "it is gone",
    Kind.WIDER: "it acts on everything it acted on, or refuses all that it refused, and perhaps on more; proven for all values",
    Kind.NARROWER: "the other way round; a workload goes the way of the rules that abstain for it",
    Kind.DIFFERENT: "it acts on some values that it let be, and lets be some that it acted on",
    Kind.INCOMPARABLE: "none of these could be proven: look at it, or replay traffic (`sluice dry-run --against`)",
    Kind.EQUAL: "it does the same, in other words or in the same ones",
    Kind.MOVED: "it does the same in another mode or pack, or for another owner",
    Kind.REWORDED: "it does the same, and something else is said or shown: title, public text, evidence, references",
}
STEPS: Final[Mapping[Step, str]] = {
    Step.MAJOR: "an enforced rule or limit may act on more, or refuse more",
    Step.MINOR: "something acts on less, observes more, or tells callers or records something else",
    Step.PATCH: "the meaning is the same",
    Step.NONE: "nothing changed",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One rule, limit or workload that is in either policy. packs: that owe the step; none for workloads."""

    what: str
    id: str
    packs: tuple[str, ...]
    kind: Kind
    direction: Direction
    step: Step
    reasons: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class PackStep:
    """What a pack owes: the step its changes call for, and the versions it had and has (None where it is not)."""

    pack: str
    step: Step
    old: int | None
    new: int | None
    place: Place

    @property
    def owed(self) -> bool:
        """Whether behaviour changed without a higher version, or the version went down."""
        if self.old is None or self.new is None:
            return False
        return self.new < self.old or (self.step >= Step.MINOR and self.new == self.old)


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that changed, by id, and what each pack owes."""

    changes: tuple[Change, ...]
    packs: tuple[PackStep, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Packs whose behaviour changed without a higher version."""
        return tuple(
            Finding(pack.place, _owes(pack), f"raise 'version' above {pack.old}", "unraised-version", Severity.ERROR)
            for pack in self.packs
            if pack.owed
        )


def difference(old: Policy, new: Policy) -> Difference:
    """What changed from the old policy to the new one."""
    listening = any(rule.corroborate is not None and rule.mode is Mode.ENFORCE for rule in new.rules)
    changes = [
        *_each(old.rules, new.rules, lambda rule: _rule_added(rule, listening), lambda a, b: _rule(a, b, listening)),
        *_each(old.limits, new.limits, _limit_added, _limit),
        *_each(old.workloads, new.workloads, lambda workload: Step.MINOR, _workload),
    ]
    places = {**old.places, **new.places}
    packs = []
    for name in sorted(old.packs.keys() | new.packs.keys()):
        step = max((change.step for change in changes if name in change.packs), default=Step.NONE)
        packs.append(PackStep(name, step, old.packs.get(name), new.packs.get(name), places[name]))
    return Difference(tuple(sorted(changes, key=lambda change: (change.what, change.id))), tuple(packs))


def _owes(pack: PackStep) -> str:
    if pack.new is not None and pack.old is not None and pack.new < pack.old:
        return f"version of pack '{pack.pack}' went down from {pack.old} to {pack.new}"
    return f"pack '{pack.pack}' behaves in another way ({pack.step} step), but its version is still {pack.new}"


Item = Rule | PlanLimit | Workload
T = TypeVar("T", Rule, PlanLimit, Workload)


def _id(item: Item) -> str:
    return item.limit.id if isinstance(item, PlanLimit) else item.id


def _what(item: Item) -> str:
    return {Rule: "rule", PlanLimit: "limit", Workload: "workload"}[type(item)]


def _packs(*items: Item) -> tuple[str, ...]:
    return tuple(sorted({item.pack for item in items if not isinstance(item, Workload)}))


def _each(
    old: Sequence[T], new: Sequence[T], added: Callable[[T], Step], both: Callable[[T, T], tuple[list[Aspect], Step]]
) -> Iterator[Change]:
    before, after = {_id(item): item for item in old}, {_id(item): item for item in new}
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one is not None and other is not None:
            aspects, step = both(one, other)
            way, reasons = together(aspect.direction for aspect in aspects), tuple(aspect.reason for aspect in aspects)
            yield Change(_what(other), name, _packs(one, other), _kind(aspects), way, step, reasons, other.place)
        elif other is not None:
            way = Direction.NARROWER if isinstance(other, Workload) else Direction.WIDER
            yield Change(_what(other), name, _packs(other), Kind.ADDED, way, added(other), (), other.place)
        elif one is not None:
            way = Direction.WIDER if isinstance(one, Workload) else Direction.NARROWER
            step = Step.PATCH if _resting(one) else Step.MINOR
            yield Change(_what(one), name, _packs(one), Kind.REMOVED, way, step, (), one.place)


def _resting(item: Item) -> bool:
    return not isinstance(item, Workload) and item.mode is Mode.OFF


def _kind(aspects: Sequence[Aspect]) -> Kind:
    behaviour = [aspect for aspect in aspects if not aspect.told]
    if all(aspect.mode for aspect in behaviour):
        moved = any(aspect.mode or aspect.home for aspect in aspects)
        return Kind.MOVED if moved else Kind.REWORDED if aspects else Kind.EQUAL
    way = together(aspect.direction for aspect in behaviour)
    return Kind(str(way))


def _rule_added(rule: Rule, listening: bool) -> Step:
    if rule.mode is Mode.OFF:
        return Step.PATCH
    return Step.MAJOR if rule.mode is Mode.ENFORCE and _acts(rule, listening) else Step.MINOR


def _acts(rule: Rule, listening: bool) -> bool:
    """Whether a match may do more than be recorded: by itself, or by corroborating a rule that does."""
    return listening or any(effect.action > Action.OBSERVE for effect in rule.response.effects)


def _rule(old: Rule, new: Rule, listening: bool) -> tuple[list[Aspect], Step]:
    both = sides(old.measures, new.measures)
    way, reasons = compare(old.when, new.when, both)
    aspects = [Aspect(way, reason) for reason in reasons]
    aspects += [
        *responses(old, new, both), *corroborations(old.corroborate, new.corroborate), *exceptions(old, new),
        *abstentions(old, new), *modes(old.mode, new.mode),
    ]  # fmt: skip
    if old.share != new.share:
        aspects.append(Aspect(ordered(old.share, new.share), f"share {old.share * 100:g}% -> {new.share * 100:g}%"))
    if old.family != new.family:
        aspects.append(Aspect(Direction.OPEN, f"family {old.family} -> {new.family}: other rules it corroborates"))
    silent = Step.PATCH
    shown = [
        *told([("public code", old.public.code, new.public.code), ("public message", old.public.message, new.public.message)]),
        *told([("evidence", sorted(old.evidence), sorted(new.evidence))]), *_unused_measures(old, new, reasons),
    ]  # fmt: skip
    if shown or any(aspect.told for aspect in aspects):
        silent = Step.MINOR
    text = told(
        (name, getattr(old, name), getattr(new, name))
        for name in ("severity", "title", "references", "false_positives", "blind_spots", "gate")
    )
    home = told(((name, getattr(old, name), getattr(new, name)) for name in ("pack", "owner")), home=True)
    aspects += [*shown, *home, *text]
    acts = new.mode is Mode.ENFORCE and _acts(new, listening)
    resting = old.mode is new.mode is Mode.OFF
    return aspects, Step.PATCH if aspects and resting else _step(aspects, acts, silent)


def _unused_measures(old: Rule, new: Rule, said: Sequence[str]) -> Iterator[Aspect]:
    """Measures that changed where only the evidence, or nothing, looks at them."""
    for name in sorted(old.measures.keys() | new.measures.keys()):
        before, after = old.measures.get(name), new.measures.get(name)
        if before is None or after is None:
            yield Aspect(Direction.EQUAL, f"measure {name} {'added' if before is None else 'removed'}", told=True)
        else:
            changes = (change for change in measure_changes(name, before, after, new.measures) if change not in said)
            yield from (Aspect(Direction.EQUAL, change, told=True) for change in changes)


def _step(aspects: Sequence[Aspect], acts: bool, silent: Step) -> Step:
    if not aspects:
        return Step.NONE
    way = together(aspect.direction for aspect in aspects)
    if way is Direction.EQUAL:
        return silent
    return Step.MINOR if way is Direction.NARROWER or not acts else Step.MAJOR


def _limit_added(limit: PlanLimit) -> Step:
    return {Mode.ENFORCE: Step.MAJOR, Mode.SHADOW: Step.MINOR, Mode.OFF: Step.PATCH}[limit.mode]


def _limit(old: PlanLimit, new: PlanLimit) -> tuple[list[Aspect], Step]:
    aspects = limit_aspects(old, new)
    if aspects and old.mode is new.mode is Mode.OFF:
        return aspects, Step.PATCH
    return aspects, _step(aspects, new.mode is Mode.ENFORCE, Step.MINOR if old.public != new.public else Step.PATCH)


def _workload(old: Workload, new: Workload) -> tuple[list[Aspect], Step]:
    aspects = workload_aspects(old, new)
    return aspects, _step(aspects, True, Step.PATCH)
