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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.counting import Counting
from gateway.decision import Action, Decision, Mode, Room, RuleEnd
from gateway.declarations import Declarations, kinds_read
from gateway.evaluation import Ended as Ended
from gateway.evaluation import Evaluated as Evaluated
from gateway.evaluation import Rules
from gateway.language.policy import Corroborate, Effect, PlanLimit, Policy
from gateway.language.program import NOTHING_COUNTED
from gateway.protocol import Hearing
from gateway.readings import generates, key_of, labels_of, reserved, used
from gateway.recalling import Asked, Recalling
from gateway.signals import Catalogue, View, only_after
from gateway.state.operations import METERED, NO_ZERO, Batch, Reply, Sight, Take, Unit
from gateway.values import AtLeast, Missing

NO_STATE = Missing("state unavailable")
NOBODY_RESTS: Mapping[str, str] = {}
NO_CATALOGUE: Catalogue = {}
_SIGHT = tuple.__new__  # twice as fast as the class itself, which names its fields first
_ALLOW, _VERIFY = Action.ALLOW, Action.VERIFY  # looked up once: members of an enumeration are not cheap to get


@dataclass(slots=True)
class Prepared:
    """The first batch of an exchange, and how to read its replies.

    labels: the measure of each sight, then notes. refusing: plan limits that refuse because their key is missing; unpriced:
    those that refuse because they know no price for the model.
    """

    batch: Batch
    labels: list[str] = field(default_factory=list)
    noted: list[tuple[Corroborate, str, bool]] = field(default_factory=list)
    plans: list[PlanLimit] = field(default_factory=list)
    shadow_plans: list[PlanLimit] = field(default_factory=list)
    refusing: list[PlanLimit] = field(default_factory=list)
    unpriced: list[PlanLimit] = field(default_factory=list)
    values: dict[str, object] = field(default_factory=dict)
    recalled: Asked = field(default_factory=list)

    @property
    def turned_away(self) -> bool:
        """Whether a plan limit refuses without being asked."""
        return bool(self.refusing or self.unpriced)


class Engine:
    """One policy, ready to run. Rules and limits in mode `off` are left out.

    catalogue: what signals cost, so that those that cost more are asked for last; it changes no answer. after: the names of
    its signals that are known once an exchange is over; answered: those of them that every record holds.
    """

    def __init__(self, policy: Policy, catalogue: Catalogue = NO_CATALOGUE) -> None:
        self.policy = policy
        self.rules = Rules(policy, catalogue)
        limits = [effect.limit for rule in self.rules.rules for effect in rule.response.effects if effect.limit]
        self._shadows = {id(limit): replace(limit, shadow=True) for limit in limits}  # the policy keeps them, so ids stay true
        self._limits = [limit for limit in policy.limits if limit.mode is not Mode.OFF]
        self._plans = {plan.limit.id: plan for plan in self._limits}
        rules = self.rules.rules
        counted = {label for rule in rules for measure in rule.measures.values() for label in labels_of(measure)}
        measures = [measure for measure in policy.measures if measure.label in counted]
        self._counting = Counting(measures, catalogue)
        self.after = only_after(catalogue)
        self.answered = tuple([catalogue[name] for name in sorted(self.after) if catalogue[name].recorded])
        self._recalling = Recalling(rules, catalogue)
        self._may_be_empty = any(measure.window.kind in NO_ZERO for measure in measures)
        specs = [rule.corroborate for rule in rules if rule.corroborate]
        self._corroborations = [spec for spec in policy.corroborations if any(spec.shares_notes(other) for other in specs)]
        views = [(family, enforced) for family in sorted({rule.family for rule in rules}) for enforced in (True, False)]
        self._notes = [
            (spec.per, tuple((spec, *view) for view in views), tuple(spec.notes[view].window for view in views))
            for spec in self._corroborations
        ]
        self.declarations = Declarations(policy.workloads, kinds_read(rules))
        acting = [rule for rule in rules if rule.mode is Mode.ENFORCE]
        kinds = kinds_read(acting, evidence=False)
        parts = [part for work in policy.workloads if work.kind in kinds for part in (work.ceiling, work.items) if part]
        self._needed = {name for rule in acting for measure in rule.measures.values() for name in labels_of(measure)}
        self._needed |= {part.measure.label for part in parts}
        self._vouching = [rule.corroborate for rule in acting if rule.corroborate]

    def prepare(self, view: View, limits: bool = True, owner: str = "") -> Prepared:
        """The first batch. `limits` is False for an exchange that is refused anyway and so must take nothing.

        owner: the name under which the exchange holds leases.
        """
        prepared = Prepared(Batch(view.facts.at))
        if self.declarations:
            self._declare(view, prepared)
        labels, sights, values = self._counting.sights(view, over=False)
        prepared.labels += labels
        prepared.batch.sights += sights
        prepared.values |= values
        if view.facts.recorded is not None and not view.facts.whole:
            prepared.values = self._counting.unrecorded(view) | prepared.values
        prepared.recalled = self._recalling.asked(view)
        prepared.batch.recalls = [recall for _, recall in prepared.recalled]
        for per, noted, windows in self._notes:
            key = key_of(per, view)
            if isinstance(key, tuple):
                prepared.noted += noted
                prepared.batch.sights += [_SIGHT(Sight, (window, key, None)) for window in windows]
        for plan in self._limits if limits else ():
            self._plan(plan, view, prepared, owner)
        return prepared

    def needs(self, prepared: Prepared) -> bool:
        """Whether the first batch holds something that an enforced rule or limit needs; losing any other refuses nobody."""
        if prepared.batch.takes or not self._needed.isdisjoint(prepared.labels):
            return True
        if self._recalling.needed(prepared.recalled):
            return True
        return any(spec.shares_notes(other) for spec, _, _ in prepared.noted for other in self._vouching)

    def evaluate(
        self, view: View, prepared: Prepared, reply: Reply | None, resting: Mapping[str, str] = NOBODY_RESTS
    ) -> Evaluated:
        """Every rule's end. `reply` answers the first batch; None when the state did not answer.

        resting: rules in quarantine, with the reason; whatever their conditions say, they end as errors.
        """
        readings: Sequence[object] = reply.readings if reply is not None else [NO_STATE] * len(prepared.batch.sights)
        values: dict[str, object] = dict(zip(prepared.labels, readings))  # noqa: B905 - notes follow, and naming that is dear
        if self._may_be_empty and None in readings:
            values |= {label: NOTHING_COUNTED for label, reading in values.items() if reading is None}
        if prepared.values:
            values |= prepared.values
        if prepared.recalled:
            self._recalling.told(view, prepared.recalled, reply.recalled if reply is not None else NO_STATE)
        if view.declared is not None:
            view.declared.settle(values)
        ends = self.rules.ends(view, values, resting)
        if not prepared.noted and not ends:
            return Evaluated(ends, values)
        seen: list[tuple[Corroborate, str, bool]] = []
        notes = readings[len(prepared.labels) :] if prepared.noted else ()
        if any(notes):
            for noted, reading in zip(prepared.noted, notes, strict=True):
                if (isinstance(reading, int) and reading > 0) or (isinstance(reading, AtLeast) and reading.count > 0):
                    corroborate, family, enforced = noted
                    values[corroborate.notes[family, enforced].label] = reading
                    seen.append(noted)
        if ends:
            self.rules.corroborate(ends, seen)
        return Evaluated(ends, values)

    def throttles(self, view: View, evaluated: Evaluated) -> Batch | None:
        """The second batch: the limits of matched throttles. None when there are none, or something stronger refuses."""
        if not evaluated.ends:
            return None
        limited, refused, would_be = [], False, False
        for end in evaluated.ends:
            effect, would = end.effect, end.would
            refused = refused or (effect is not None and effect.action >= _VERIFY)
            would_be = would_be or (would is not None and would.action >= _VERIFY)
            if (effect is not None and effect.limit) or (would is not None and would.limit):
                limited.append(end)
        if refused or not limited:
            return None
        batch = Batch(view.facts.at)
        for end in limited:
            if (take := _take(end.effect, view)) is not None:
                batch.takes.append(take)
            if end.shadowed and not would_be and (take := _take(end.would, view)) is not None:
                batch.shadow_takes.append(Take(self._shadows[id(take.limit)], take.key, take.cost, take.owner))
        return batch if batch else None

    def decide(self, evaluated: Evaluated, rooms: Iterable[Room]) -> Decision:
        """Both decisions. A throttle whose limit had room left yields to the next strongest."""
        if not evaluated.ends:
            return Decision(_ALLOW, _ALLOW, (), evaluated.values)
        full = {room.limit: not room.allowed for room in rooms if not room.shadow}
        shadow_full = {room.limit: not room.allowed for room in rooms if room.shadow}
        action = would = _ALLOW
        ends: list[RuleEnd] = []
        for end in evaluated.ends:
            told = end.told or self.rules.told(end, full, shadow_full if end.shadowed else full)
            ends.append(told)
            action = told.action if told.action > action else action
            would = told.would if told.would > would else would
        return Decision(action, would, tuple(ends), evaluated.values)

    def settled(self, view: View, taken: Iterable[Take], unused: bool) -> list[Take]:
        """What is given back of the takes of an exchange that is over: leases, and what was held back but not used.

        unused: the upstream did not take the request on. `readings.used` says what else is charged.
        """
        found = []
        for take in taken:
            if take.limit.unit is Unit.CONCURRENT:
                found.append(take)
            elif take.limit.unit is not Unit.REQUESTS:
                rest = take.cost - (0 if unused else used(self._plans[take.limit.id], view, take.cost))
                if rest:
                    found.append(Take(take.limit, take.key, rest, take.owner))
        return found

    def settle(self, view: View, evaluated: Evaluated) -> Batch:
        """What is counted once the exchange is over: measures on the answer, and notes of the matches."""
        prepared = Prepared(Batch(view.facts.at, self._counting.sights(view, over=True)[1], recalls=self._recalling.kept(view)))
        if self._counting.hears:
            prepared.batch.sights += self._counting.issued(view)
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

    def hears(self, view: View) -> Hearing:
        """What of an exchange's answer is listened to, because a rule counts or compares by it."""
        return Hearing(self._recalling.hears(view), self._counting.hears)

    def _declare(self, view: View, prepared: Prepared) -> None:
        """Find the declared workloads that cover an exchange, and name what is counted of them."""
        coverage = view.declared = self.declarations.of(view)
        for label, asked in coverage.counting():
            if isinstance(asked, Sight):
                prepared.labels.append(label)
                prepared.batch.sights.append(asked)
            else:
                prepared.values[label] = asked

    def _plan(self, plan: PlanLimit, view: View, prepared: Prepared, owner: str) -> None:
        try:
            applies = plan.when.evaluate(view.get) if plan.when else True
        except Exception:  # a provider of the wrong type acts as unknown, and the limit as its on_missing says
            applies = None
        if applies is False:
            return
        charged = generates(view) if plan.limit.unit in METERED else True
        if charged is False:
            return
        key, cost = key_of(plan.per, view), reserved(plan, view)
        if None in (applies, cost, charged) or not isinstance(key, tuple):
            if plan.on_missing == "skip":
                return
            if plan.on_missing == "refuse" or cost is None:
                (prepared.refusing if cost is not None else prepared.unpriced).append(plan)
                return
            key = ("",)
        shadow, holder = plan.limit.shadow, owner if plan.limit.unit is Unit.CONCURRENT else ""
        (prepared.shadow_plans if shadow else prepared.plans).append(plan)
        (prepared.batch.shadow_takes if shadow else prepared.batch.takes).append(Take(plan.limit, key, cost or 0, holder))


def under(policy: Policy, mode: Mode) -> Policy:
    """The policy as it acts below an overall mode: in shadow, every rule and limit counts on shadow counters."""
    if mode is Mode.ENFORCE:
        return policy
    rules = []
    for rule in policy.rules:
        lowered = rule.mode.under(mode)
        effects = tuple(
            replace(effect, limit=replace(effect.limit, shadow=True)) if effect.limit else effect
            for effect in rule.response.effects
        )
        rules.append(replace(rule, mode=lowered, response=replace(rule.response, effects=effects)))
    limits = [replace(plan, mode=plan.mode.under(mode), limit=replace(plan.limit, shadow=True)) for plan in policy.limits]
    return replace(policy, rules=tuple(rules), limits=tuple(limits))


def _take(effect: Effect | None, view: View) -> Take | None:
    if effect is None or effect.limit is None:
        return None
    key = key_of(effect.per, view)
    return Take(effect.limit, key) if isinstance(key, tuple) else None
