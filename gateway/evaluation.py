"""How every rule of a policy ends on one exchange: conditions by the compiled program, then exemptions, then corroboration.

The program says which conditions hold or are unknown, for all rules at once; what happens to those few is decided here. Two
views never mix: the enforced one, which shadow rules cannot touch, and the would-be one, in which they act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final

from gateway.decision import Action, Mode, RuleEnd, Verdict
from gateway.language.conditions import Group, Leaf, Truth, lacking
from gateway.language.emit import compiled
from gateway.language.measures import Ratio
from gateway.language.policy import Corroborate, Effect, Policy, Rule
from gateway.language.text import TextView
from gateway.readings import abstention_of, biting, exception_of, generates, mode_of, rule_values, step_of
from gateway.signals import Catalogue, View
from gateway.values import Failed, Missing

TOLD: Final = 4_096
_PLAIN: Final = frozenset(
    {
        "eq",
        "ne",
        "in",
        "not_in",
        "lt",
        "lte",
        "gt",
        "gte",
        "between",
        "contains",
        "starts_with",
        "ends_with",
        "any_of",
        "all_of",
        "present",
    }
)  # never undecided on a value of its type
_KINDS: Final = (str, int, float, bool, frozenset)


@dataclass(slots=True)
class Ended:
    """One rule on one exchange while it is being decided; the effects are None in a view that does not see it.

    missing: what an unknown lacked, or that without which a throttle cannot count, or a restriction cannot take, and so
    yields. told: how it is told, where that is known before any limit has answered.
    """

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
    told: RuleEnd | None = None

    @property
    def shadowed(self) -> bool:
        """Whether its throttle counts on a shadow counter for the would-be view, which may differ from the enforced one."""
        return self.mode is not Mode.ENFORCE or self.rule.corroborate is not None or self.rule.share < 1

    @property
    def counts(self) -> bool:
        """Whether this match stands (an excepted or abstained one neither acts nor corroborates)."""
        return self.verdict is Verdict.MATCH and not self.excepted and not self.abstained


@dataclass(slots=True)
class Evaluated:
    """Every rule that did not simply fail to match, and the values of the measures."""

    ends: list[Ended]
    values: dict[str, object]


_OBSERVE: Final = Effect(Action.OBSERVE)
_OTHERWISE: Final = {Action.OBSERVE: _OBSERVE, Action.TAG: Effect(Action.TAG, tag="uncorroborated")}


class Rules:
    """The rules of a policy that are not off, and the compiled program that says which of their conditions hold."""

    def __init__(self, policy: Policy, catalogue: Catalogue) -> None:
        program = compiled(policy, catalogue)
        self.rules, self.run = program.rules, program.run
        self._told: dict[tuple[object, ...], RuleEnd] = {}
        self._corroborating = any(rule.corroborate for rule in self.rules)
        self._sure = [self._always(rule) for rule in self.rules]
        self._lacking = [_Lacking.of(rule) for rule in self.rules]

    def ends(self, view: View, measured: dict[str, object], resting: Mapping[str, str]) -> list[Ended]:
        """Every rule that did not simply fail to match, in the policy's order, before corroboration.

        resting: rules in quarantine, with the reason; whatever their conditions say, they end as errors.
        """
        try:
            truths = self.run(view.get, view.resolved, measured)
        except Exception:  # a value that breaks when looked at: asked rule by rule, so that only its own rules end as errors
            walked = enumerate([_walked(rule, view, measured) for rule in self.rules])
            truths = [(place, truth) for place, truth in walked if truth is not False]
        if not truths and not resting:
            return []
        ends = []
        for place, truth in truths:
            sure = self._sure[place] if truth else self._unknown(place, view, measured)
            ends.append(self._ended(self.rules[place], truth, view, measured) if sure is None else sure)
        return self._rested(ends, resting, view) if resting else ends

    def corroborate(self, ends: list[Ended], seen: Sequence[tuple[Corroborate, str, bool]]) -> None:
        """Lower the effects of matches that lack corroboration. seen: the families noted earlier, by spec and view."""
        if not self._corroborating:
            return
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
                kept = {family for spec, family, view in seen if view is enforced and spec.shares_notes(need)}
                found = families[enforced] | kept | {end.rule.family}
                if not enforced:
                    end.corroborated = tuple(sorted(found - {end.rule.family}))
                if len(found) < need.families:
                    if enforced:
                        end.effect = _lowered(end.effect, need.otherwise)
                    else:
                        end.would = _lowered(end.would, need.otherwise)

    def told(self, end: Ended, full: Mapping[str, bool], would_full: Mapping[str, bool]) -> RuleEnd:
        """A rule's end as it is told once limits have answered. Told ends are few, so equal ones are one object."""
        step = end.step if end.rule.response.of else None
        what = (
            end.rule.id, end.mode, end.verdict, _action(end.effect, full), _action(end.would, would_full),
            end.missing, end.error, end.excepted, end.corroborated, step, end.abstained, _asks(end.effect), _asks(end.would),
        )  # fmt: skip
        found = self._told.get(what)
        if found is None:
            found = RuleEnd(*what)
            if len(self._told) < TOLD:  # errors tell of values, of which there is no end
                self._told[what] = found
        return found

    def _always(self, rule: Rule) -> Ended | None:
        """The end of every match of a rule of which nothing but its condition looks at the exchange; else None."""
        if rule.exceptions or rule.abstain_for or rule.corroborate or rule.response.of is not None or rule.share < 1:
            return None
        (effect,) = rule.response.effects
        if effect.limit is not None or effect.restriction is not None:
            return None
        enforced = effect if rule.mode is Mode.ENFORCE else None
        end = Ended(rule, Verdict.MATCH, rule.mode, would=effect, effect=enforced, step=0)
        end.told = self.told(end, {}, {})
        return end

    def _unknown(self, place: int, view: View, measured: Mapping[str, object]) -> Ended | None:
        """The end of a rule that is unknown, if all that decides it is which values are missing; equal ends are one object."""
        known = self._lacking[place]
        if known is None:
            return None
        classes = known.classes(view, measured)
        found = known.ends.get(classes)
        if found is None and all(one in pair for one, pair in zip(classes, known.usual, strict=True)):
            found = self._ended(self.rules[place], None, view, dict(measured))
            found.told = self.told(found, {}, {})
            if len(known.ends) < TOLD:
                known.ends[classes] = found
        return found

    def _ended(self, rule: Rule, truth: Truth, view: View, measured: dict[str, object]) -> Ended:
        try:
            mode = mode_of(rule, view)
            values = rule_values(rule, view, measured)
            if truth is None:
                missing, failure = lacking(rule.when, values)
                return Ended(rule, Verdict.ERROR if failure else Verdict.UNKNOWN, mode, missing, failure)
            excepted = exception_of(rule, view) if rule.exceptions else ""
            abstained = abstention_of(rule, view) if rule.abstain_for else ""
        except Exception as error:  # a rule that breaks (a provider of the wrong type) must not decide for the others
            return Ended(rule, Verdict.ERROR, rule.mode, error=f"{type(error).__name__}: {error}")
        if excepted or abstained:
            return Ended(rule, Verdict.MATCH, mode, excepted=excepted, abstained=abstained)
        step = step_of(rule, values)
        effect = rule.response.effects[step] if step is not None else _OBSERVE
        keyless = tuple([name for name in effect.per if isinstance(view.get(name), (Missing, Failed))])
        if effect.restriction is not None:
            found = biting(effect.restriction, view)
            effect = replace(effect, restriction=found) if found is not None else replace(_OBSERVE, ask=effect.ask)
            keyless = ("request.operation",) if generates(view) is None else ()
        enforced = effect if mode is Mode.ENFORCE else None
        return Ended(rule, Verdict.MATCH, mode, keyless, would=effect, effect=enforced, step=step)

    def _rested(self, ends: list[Ended], resting: Mapping[str, str], view: View) -> list[Ended]:
        """The ends with those of the rules in quarantine, which are errors whatever their conditions say."""
        found = {end.rule.id: end for end in ends}
        for rule in self.rules:
            if rule.id in resting:
                found[rule.id] = Ended(rule, Verdict.ERROR, mode_of(rule, view), error=resting[rule.id])
        return [found[rule.id] for rule in self.rules if rule.id in found]


@dataclass(frozen=True, slots=True)
class _Lacking:
    """What decides how a rule ends that is unknown: which of its values are there. signals, labels: what its leaves look at.

    usual: of each, the classes of which its end is made once: that of its type, and that of what is missing.
    """

    signals: tuple[str, ...]
    labels: tuple[str, ...]
    usual: tuple[tuple[type, type], ...]
    ends: dict[tuple[type, ...], Ended] = field(default_factory=dict)
    read: Callable[[Mapping[str, object]], tuple[object, ...]] = field(init=False, repr=False, compare=False)
    read_measures: Callable[[Mapping[str, object]], tuple[object, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", reader(self.signals))
        object.__setattr__(self, "read_measures", reader(self.labels))

    @classmethod
    def of(cls, rule: Rule) -> _Lacking | None:
        """None for a rule of which more than that decides: a share, a group within a group, a comparison that may not hold."""
        parts = rule.when.parts if isinstance(rule.when, Group) else (rule.when,)
        leaves = [part for part in parts if isinstance(part, Leaf)]
        ratios = [leaf for leaf in leaves if isinstance(rule.measures.get(leaf.name), Ratio)]
        plain = all(leaf.operator.name in _PLAIN and leaf.view is TextView.RAW for leaf in leaves)
        if len(leaves) < len(parts) or ratios or not plain or rule.share < 1:
            return None
        types = {leaf.name: leaf.type for leaf in leaves}
        signals, measures = sorted(types.keys() - rule.measures.keys()), sorted(types.keys() & rule.measures.keys())
        usual = [(Missing, next(kind for kind in _KINDS if types[name].holds(kind()))) for name in [*signals, *measures]]
        return cls(tuple(signals), tuple(rule.measures[name].label for name in measures), tuple(usual))

    def classes(self, view: View, measured: Mapping[str, object]) -> tuple[type, ...]:
        """The class of each value."""
        try:
            return tuple(map(type, self.read(view.resolved) + self.read_measures(measured)))
        except KeyError:  # not all of them have been looked at
            found = [*map(view.get, self.signals), *map(measured.get, self.labels)]
            return tuple(map(type, found))


def reader(names: tuple[str, ...]) -> Callable[[Mapping[str, object]], tuple[object, ...]]:
    """What reads the values of these names, in their order. It raises KeyError where one is not there."""
    return itemgetter(*names) if len(names) > 1 else lambda values: tuple([values[name] for name in names])


def _walked(rule: Rule, view: View, measured: Mapping[str, object]) -> Truth:
    """A rule's truth by the tree walk; what breaks is unknown, and told when the rule's end is."""
    try:
        return rule.when.evaluate(rule_values(rule, view, dict(measured)))
    except Exception:  # the same value breaks again in `_ended`, which says how
        return None


def _lowered(effect: Effect | None, otherwise: Action) -> Effect | None:
    return _OTHERWISE[otherwise] if effect is not None and effect.action > otherwise else effect


def _asks(effect: Effect | None) -> str:
    return effect.ask if effect is not None else ""


def _action(effect: Effect | None, full: Mapping[str, bool]) -> Action:
    if effect is None:
        return Action.ALLOW
    if effect.limit is not None and not full.get(effect.limit.id):
        return Action.OBSERVE
    return effect.action
