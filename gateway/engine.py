"""The engine: facts and a policy in, a decision out. Pure: no clock, no I/O, no random.

One exchange goes through four steps. The first and third name state operations; whoever drives them (memory in place,
Redis in one round trip, a replay from recorded time) hands back the replies.

1. `prepare`   which windows to count, which plan limits to take, by what keys;
2. `evaluate`  every rule's condition, then corroboration: order can change nothing;
3. `throttles` which rule limits to take, if any rule that throttles matched and nothing stronger refuses;
4. `decide`    the two decisions, enforced and would-be, which never mix.

Shadow rules see enforced and shadow matches and count on limits of their own; enforced rules see only enforced ones. Where
corroboration can tell the two views apart, an enforced throttle counts for the would-be view on a shadow counter as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from gateway.decision import Action, Decision, Mode, Room, RuleEnd, Verdict
from gateway.language.conditions import lacking
from gateway.language.measures import Measure
from gateway.language.policy import Corroborate, Effect, PlanLimit, Policy, Rule
from gateway.readings import (
    NOTHING_COUNTED, abstention_of, counted, exception_of, key_of, labels_of, mode_of, rule_values, step_of,
)  # fmt: skip
from gateway.signals import View
from gateway.state.operations import Batch, Reply, Sight, Take
from gateway.values import Failed, Missing

NO_STATE = Missing("state unavailable")
NOBODY_RESTS: Mapping[str, str] = {}


@dataclass(slots=True)
class Prepared:
    """The first batch of an exchange, and how to read its replies.

    labels: the measure of each sight, then notes. refusing: plan limits that refuse because their key is missing.
    """

    batch: Batch
    labels: list[str] = field(default_factory=list)
    noted: list[tuple[Corroborate, str, bool]] = field(default_factory=list)
    plans: list[PlanLimit] = field(default_factory=list)
    shadow_plans: list[PlanLimit] = field(default_factory=list)
    refusing: list[PlanLimit] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Ended:
    """One rule on one exchange while it is being decided; the effects are None in a view that does not see it."""

    rule: Rule
    verdict: Verdict
    mode: Mode
    missing: tuple[str, ...] = ()
    error: str = ""
    excepted: str = ""
    effect: Effect | None = None
    would: Effect | None = None
    corroborated: tuple[str, ...] = ()
    step: int | None = None
    abstained: str = ""

    @property
    def shadowed(self) -> bool:
        """Whether its throttle counts on a shadow counter for the would-be view, which may differ from the enforced one."""
        return self.mode is not Mode.ENFORCE or self.rule.corroborate is not None

    @property
    def counts(self) -> bool:
        """Whether this match stands (an excepted or abstained one neither acts nor corroborates)."""
        return self.verdict is Verdict.MATCH and not self.excepted and not self.abstained


@dataclass(slots=True)
class Evaluated:
    """Every rule that did not simply fail to match, and the values of the measures."""

    ends: list[Ended]
    values: dict[str, object]


_OBSERVE = Effect(Action.OBSERVE)
_OTHERWISE = {Action.OBSERVE: _OBSERVE, Action.TAG: Effect(Action.TAG, tag="uncorroborated")}


class Engine:
    """One policy, ready to run. Rules and limits in mode `off` are left out."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._rules = [rule for rule in policy.rules if rule.mode is not Mode.OFF]
        self._limits = [limit for limit in policy.limits if limit.mode is not Mode.OFF]
        self._families = sorted({rule.family for rule in self._rules})
        abstaining = {kind for rule in self._rules for kind in rule.abstain_for}
        self._workloads = [workload for workload in policy.workloads if workload.kind in abstaining]
        counted = {label for rule in self._rules for measure in rule.measures.values() for label in labels_of(measure)}
        counted |= {workload.ceiling.measure.label for workload in self._workloads if workload.ceiling}
        self._measures = [measure for measure in policy.measures if measure.label in counted]
        specs = [rule.corroborate for rule in self._rules if rule.corroborate]
        self._corroborations = [spec for spec in policy.corroborations if any(spec.shares_notes(other) for other in specs)]

    def prepare(self, view: View, limits: bool = True) -> Prepared:
        """The first batch. `limits` is False for an exchange that is refused anyway and so must take nothing."""
        prepared = Prepared(Batch(view.facts.at))
        for measure in self._measures:
            self._sight(measure, view, prepared, count=not measure.settled)
        for corroborate in self._corroborations:
            key = key_of(corroborate.per, view)
            if not isinstance(key, tuple):
                continue
            for family, enforced in product(self._families, (True, False)):
                prepared.noted.append((corroborate, family, enforced))
                prepared.batch.sights.append(Sight(corroborate.notes[family, enforced].window, key, None))
        for plan in self._limits if limits else ():
            self._plan(plan, view, prepared)
        return prepared

    def evaluate(
        self, view: View, prepared: Prepared, reply: Reply | None, resting: Mapping[str, str] = NOBODY_RESTS
    ) -> Evaluated:
        """Every rule's end. `reply` answers the first batch; None when the state did not answer.

        resting: rules in quarantine, with the reason; they are not evaluated and end as errors.
        """
        values = dict(prepared.values)
        readings: list[object] = list(reply.readings) if reply else [NO_STATE] * len(prepared.batch.sights)
        for label, reading in zip(prepared.labels, readings, strict=False):
            values[label] = NOTHING_COUNTED if reading is None else reading
        ends = [ended for rule in self._rules if (ended := self._rule(rule, view, values, resting)) is not None]
        noted = {}
        for (corroborate, family, enforced), reading in zip(prepared.noted, readings[len(prepared.labels) :], strict=True):
            noted[corroborate, family, enforced] = seen = isinstance(reading, int) and reading > 0
            if seen:
                values[corroborate.notes[family, enforced].label] = reading
        self._corroborate(ends, noted)
        return Evaluated(ends, values)

    def throttles(self, view: View, evaluated: Evaluated) -> Batch | None:
        """The second batch: the limits of matched throttles. None when there are none, or something stronger refuses."""
        refused = max((end.effect.action for end in evaluated.ends if end.effect), default=Action.ALLOW) >= Action.VERIFY
        would_be = max((end.would.action for end in evaluated.ends if end.would), default=Action.ALLOW) >= Action.VERIFY
        batch = Batch(view.facts.at)
        for end in evaluated.ends if not refused else ():
            if (take := _take(end.effect, view)) is not None:
                batch.takes.append(take)
            if end.shadowed and not would_be and (take := _take(end.would, view)) is not None:
                batch.shadow_takes.append(replace(take, limit=replace(take.limit, shadow=True)))
        return batch if batch else None

    def decide(self, evaluated: Evaluated, rooms: Iterable[Room]) -> Decision:
        """Both decisions. A throttle whose limit had room left yields to the next strongest."""
        full = {room.limit: not room.allowed for room in rooms if not room.shadow}
        shadow_full = {room.limit: not room.allowed for room in rooms if room.shadow}
        ends = tuple(_end(end, full, shadow_full if end.shadowed else full) for end in evaluated.ends)
        action = max((end.action for end in ends), default=Action.ALLOW)
        would = max((end.would for end in ends), default=Action.ALLOW)
        return Decision(action, would, ends, evaluated.values)

    def settle(self, view: View, evaluated: Evaluated) -> Batch:
        """What is counted once the exchange is over: measures on the answer, and notes of the matches."""
        prepared = Prepared(Batch(view.facts.at))
        for measure in self._measures:
            if measure.settled:
                self._sight(measure, view, prepared, count=True)
        matched = [end for end in evaluated.ends if end.counts]
        for corroborate in self._corroborations if matched else ():
            key = key_of(corroborate.per, view)
            if not isinstance(key, tuple):
                continue
            for enforced in (True, False):
                families = {end.rule.family for end in matched if not enforced or end.mode is Mode.ENFORCE}
                for family in sorted(families):
                    prepared.batch.sights.append(Sight(corroborate.notes[family, enforced].window, key, 1))
        return prepared.batch

    def _sight(self, measure: Measure, view: View, prepared: Prepared, count: bool) -> None:
        key = key_of(measure.per, view)
        if not isinstance(key, tuple):
            prepared.values[measure.label] = key
            return
        try:
            value = counted(measure, view) if count else None
        except Exception as error:  # a provider of the wrong type: its rules end as error, the others go on
            prepared.values[measure.label] = Failed(f"{type(error).__name__}: {error}")
            return
        if isinstance(value, Failed):
            prepared.values[measure.label] = value
            return
        prepared.labels.append(measure.label)
        prepared.batch.sights.append(Sight(measure.window, key, value))

    def _plan(self, plan: PlanLimit, view: View, prepared: Prepared) -> None:
        try:
            applies = plan.when.evaluate(view.get) if plan.when else True
        except Exception:  # a provider of the wrong type acts as unknown, and the limit as its on_missing says
            applies = None
        if applies is False:
            return
        key = key_of(plan.per, view)
        if applies is None or not isinstance(key, tuple):
            if plan.on_missing == "skip":
                return
            if plan.on_missing == "refuse":
                prepared.refusing.append(plan)
                return
            key = ("",)
        shadow = plan.limit.shadow
        (prepared.shadow_plans if shadow else prepared.plans).append(plan)
        (prepared.batch.shadow_takes if shadow else prepared.batch.takes).append(Take(plan.limit, key))

    def _rule(self, rule: Rule, view: View, measured: dict[str, object], resting: Mapping[str, str]) -> Ended | None:
        if rule.id in resting:
            return Ended(rule, Verdict.ERROR, mode_of(rule, view), error=resting[rule.id])
        values = rule_values(rule, view, measured)
        try:
            truth = rule.when.evaluate(values)
            if truth is False:
                return None
            mode = mode_of(rule, view)
            if truth is None:
                missing, failure = lacking(rule.when, values)
                return Ended(rule, Verdict.ERROR if failure else Verdict.UNKNOWN, mode, missing, failure)
            excepted = exception_of(rule, view)
            abstained = abstention_of(rule, self._workloads, view, measured) if rule.abstain_for else ""
        except Exception as error:  # a rule that breaks (a provider of the wrong type) must not decide for the others
            return Ended(rule, Verdict.ERROR, rule.mode, error=f"{type(error).__name__}: {error}")
        if excepted or abstained:
            return Ended(rule, Verdict.MATCH, mode, excepted=excepted, abstained=abstained)
        step = step_of(rule, values)
        effect = rule.response.effects[step] if step is not None else _OBSERVE
        return Ended(rule, Verdict.MATCH, mode, would=effect, effect=effect if mode is Mode.ENFORCE else None, step=step)

    def _corroborate(self, ends: list[Ended], noted: dict[tuple[Corroborate, str, bool], bool]) -> None:
        standing = [end for end in ends if end.counts]
        families = {
            enforced: {end.rule.family for end in standing if not enforced or end.mode is Mode.ENFORCE}
            for enforced in (True, False)
        }
        for end in standing:
            need = end.rule.corroborate
            if need is None:
                continue
            for enforced in (True, False):
                views = ((spec, family) for (spec, family, view), seen in noted.items() if seen and view is enforced)
                kept = {family for spec, family in views if spec.shares_notes(need)}
                found = families[enforced] | kept | {end.rule.family}
                if not enforced:
                    end.corroborated = tuple(sorted(found - {end.rule.family}))
                if len(found) < need.families:
                    if enforced:
                        end.effect = _lowered(end.effect, need.otherwise)
                    else:
                        end.would = _lowered(end.would, need.otherwise)


def _end(end: Ended, full: Mapping[str, bool], would_full: Mapping[str, bool]) -> RuleEnd:
    return RuleEnd(
        end.rule.id, end.mode, end.verdict, _action(end.effect, full), _action(end.would, would_full),
        end.missing, end.error, end.excepted, end.corroborated, end.step if end.rule.response.of else None,
        end.abstained,
    )  # fmt: skip


def _lowered(effect: Effect | None, otherwise: Action) -> Effect | None:
    return _OTHERWISE[otherwise] if effect is not None and effect.action > otherwise else effect


def _take(effect: Effect | None, view: View) -> Take | None:
    if effect is None or effect.limit is None:
        return None
    key = key_of(effect.per, view)
    return Take(effect.limit, key) if isinstance(key, tuple) else None


def _action(effect: Effect | None, full: Mapping[str, bool]) -> Action:
    if effect is None:
        return Action.ALLOW
    if effect.limit is not None and not full.get(effect.limit.id):
        return Action.OBSERVE
    return effect.action
