"""One rule test, played: its exchanges through the real gate, at fixed times, on a state of its own.

Rule tests, mutants and coverage all play cases with these functions. A refused request has no upstream's answer, as in every
replay. Rules and limits in mode `off` are played as if they were in shadow, so that they can be made ready before they are
switched on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from gateway.decision import Mode, RuleEnd, Verdict
from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.campaigns import Workload
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import ExceptionEntry, PlanLimit, Policy, Rule, RuleException
from gateway.readings import rule_values
from gateway.replay.cases import Case
from gateway.replay.driver import answered
from gateway.replay.expectations import Stand
from gateway.signals import Catalogue
from gateway.state.operations import LATENESS, SLICES, Count
from gateway.values import Missing

Exchanges = Sequence[tuple[Facts, Answer]]
ALWAYS: Final = 2**62
SHADOW: Final = {Mode.OFF: Mode.SHADOW}


@dataclass(frozen=True, slots=True)
class Played:
    """A case after its last exchange.

    matched: in how many exchanges each rule matched. refused: how many each rule and plan limit refused. answers: what was
    answered in the end. policy: the one it ran under.
    """

    last: Judgement
    matched: Mapping[str, int]
    refused: Mapping[str, int]
    answers: tuple[Answer, ...]
    policy: Policy

    def end(self, rule_id: str) -> RuleEnd:
        """How a rule ended on the last exchange."""
        found = (end for end in self.last.outcome.decision.ends if end.rule == rule_id)
        return next(found, RuleEnd(rule_id, Mode.ENFORCE, Verdict.NO_MATCH))

    def leaves(self, rule: Rule) -> dict[str, bool | None]:
        """How the leaves of a rule ended on the last exchange."""
        values = rule_values(rule, self.last.view, self.last.evaluated.values)
        return {leaf.id: leaf.evaluate(values) for leaf in rule.when.leaves()}

    def stand(self, limit_id: str) -> Stand:
        """How a plan limit answered on the last exchange."""
        if limit_id in _refusing(self.last):
            return Stand.REFUSED
        looked_at = any(room.limit == limit_id for room in self.last.outcome.rooms)
        return Stand.ROOM if looked_at else Stand.SKIPPED


@dataclass(slots=True)
class _Course:
    """A gate and the exchanges that are open: each is settled once it has lasted as long as its answer says, in that order."""

    gate: Gate
    open: list[tuple[int, int, Judgement, Answer]] = field(default_factory=list)
    judged: int = 0

    def judge(self, facts: Facts) -> Judgement:
        """Settle what was over when it was asked, renew the leases of what was not, as they were meanwhile; then judge."""
        self.settle(facts.at)
        if self.open:
            self.gate.renew(facts.at)
        self.judged += 1
        return self.gate.judge(facts)

    def answer(self, judgement: Judgement, answer: Answer) -> None:
        """Settle at once, or leave open."""
        if answer.duration:
            heappush(self.open, (judgement.facts.at + answer.duration, self.judged, judgement, answer))
        else:
            self.gate.settle(judgement, answer)

    def settle(self, until: int | None = None) -> None:
        """Settle the open exchanges that are over by then; without a time all of them."""
        while self.open and (until is None or self.open[0][0] <= until):
            _, _, judgement, answer = heappop(self.open)
            self.gate.settle(judgement, answer)


def _course(policy: Policy, catalogue: Catalogue) -> _Course:
    numbers = count(1)
    gate = Gate(policy, catalogue, ids=lambda facts: f"{next(numbers):032x}", timer=_no_time)
    gate.holding = lambda within: None  # whoever judges the next exchange renews first
    return _Course(gate)


def play(exchanges: Exchanges, policy: Policy, catalogue: Catalogue) -> Played:
    """Every exchange judged in order and settled when it is over."""
    course = _course(policy, catalogue)
    matched: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    answers = []
    for facts, recorded in exchanges:
        judgement = course.judge(facts)
        answer = answered(judgement, recorded)
        course.answer(judgement, answer)
        answers.append(answer)
        matched.update(end.rule for end in judgement.outcome.decision.ends if end.verdict is Verdict.MATCH)
        refused.update(_refusing(judgement))
    course.settle()
    return Played(judgement, matched, refused, tuple(answers), policy)


def _refusing(judgement: Judgement) -> set[str]:
    """The rules whose action refuses the exchange, and the plan limits that had no room or lacked their key."""
    outcome = judgement.outcome
    found = {end.rule for end in outcome.decision.ends if end.action.refuses}
    found |= {room.limit for room in outcome.rooms if not room.allowed}
    return found | set(outcome.refusal.by if outcome.refusal is not None else ())


def play_shuffled(exchanges: Exchanges, answers: Sequence[Answer], seed: int, rules: Sequence[Rule], played: Played) -> Played:
    """The same exchanges delivered out of order, each answered as it was in order, the last one still last.

    No exchange comes later than windows promise to count it (`state.operations`, «Late events»). Then every window reads
    the same after the last one. What decisions before it led to (limits taken, corroboration noted) may differ.
    """
    bound = min((LATENESS, *(_lateness(measure) for rule in rules for measure in parts(rule))))
    rng = Random(seed)  # noqa: S311 - repeatable, not secret
    delivered = [(facts.at + rng.randrange(bound), place) for place, (facts, _) in enumerate(exchanges[:-1])]
    order = [*(place for _, place in sorted(delivered)), len(exchanges) - 1]
    course = _course(played.policy, played.last.view.catalogue)
    for place in order:
        judgement = course.judge(exchanges[place][0])
        course.answer(judgement, answers[place])
    course.settle()
    return replace(played, last=judgement)


def overfull(exchanges: Exchanges, rules: Iterable[Rule]) -> list[str]:
    """The measures that may reach their cap in these exchanges: which values a full one keeps depends on the order."""
    kinds = (Count.DISTINCT, Count.TOP_SHARE)
    found = {measure.label for rule in rules for measure in parts(rule) if measure.window.kind in kinds
             and len(_values(measure, exchanges)) > measure.window.cap}  # fmt: skip
    return sorted(found)


def parts(rule: Rule) -> list[Measure]:
    """The measures of a rule, those inside ratios included."""
    found: list[Measure] = []
    for declared in rule.measures.values():
        found += [declared.over, declared.under] if isinstance(declared, Ratio) else [declared]
    return list({measure.label: measure for measure in found}.values())


def prepared(policy: Policy, case: Case) -> Policy:
    """The policy as a case plays it: nothing is off, and its exceptions and workloads are those of the case as well."""
    rules = [_exempted(_awake(rule), case) for rule in policy.rules]
    return rebuilt(policy, rules, [_on(plan) for plan in policy.limits], (*policy.workloads, *case.workloads))


def rebuilt(
    policy: Policy, rules: Iterable[Rule], limits: Iterable[PlanLimit], workloads: Iterable[Workload] | None = None
) -> Policy:
    """The policy with other rules, limits and workloads, and the measures and notes that they need."""
    rules, workloads = tuple(rules), policy.workloads if workloads is None else tuple(workloads)
    measures = {measure.label: measure for rule in rules for measure in parts(rule)}
    measures |= {part.measure.label: part.measure for one in workloads for part in (one.ceiling, one.items) if part}
    specs = {(spec.within, spec.per): spec for rule in rules if (spec := rule.corroborate)}
    return replace(
        policy, rules=rules, limits=tuple(limits), workloads=workloads, measures=tuple(measures.values()),
        corroborations=tuple(specs.values()),
    )  # fmt: skip


def _awake(rule: Rule) -> Rule:
    return replace(rule, mode=SHADOW.get(rule.mode, rule.mode))


def _on(plan: PlanLimit) -> PlanLimit:
    if plan.mode is not Mode.OFF:
        return plan
    return replace(plan, mode=Mode.SHADOW, limit=replace(plan.limit, shadow=True))


def _exempted(rule: Rule, case: Case) -> Rule:
    added = case.exempt.get(rule.id)
    if not added:
        return rule
    return replace(
        rule, exceptions=tuple(_with(exception, added.get(exception.name, ()), case) for exception in rule.exceptions)
    )


def _with(exception: RuleException, rows: Iterable[Mapping[str, object]], case: Case) -> RuleException:
    entries = [
        ExceptionEntry(tuple(row.get(name) for name in exception.fields), "given by a rule test", "tests", ALWAYS, case.place)
        for row in rows
    ]
    return replace(exception, entries=(*exception.entries, *entries))


def _lateness(measure: Measure) -> int:
    return measure.window.length * (SLICES - 1) // SLICES


def _values(measure: Measure, exchanges: Exchanges) -> set[object]:
    found = {(facts.recorded or {}).get(measure.of or "") for facts, _ in exchanges}
    return {value for value in found if value is not None and not isinstance(value, Missing)}


def _no_time() -> int:
    return 0
