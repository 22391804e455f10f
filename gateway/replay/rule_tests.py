"""Rule tests, run: every case through the real gate, at a fixed time, on a state of its own.

An empty run fails, and so does a rule without a hit, a miss and an unknown. A rule in mode `off` is tested as if it were in
shadow, so that it can be made ready before it is switched on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from gateway.decision import Mode, RuleEnd, Verdict
from gateway.errors import did_you_mean
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.policy import Policy, Rule
from gateway.readings import rule_values
from gateway.replay.cases import TRUTHS, Case, exchanges
from gateway.signals import Catalogue

_WORDS: Final = {truth: word for word, truth in TRUTHS.items()}


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that did not hold."""

    case: Case
    message: str

    def __str__(self) -> str:
        return f"{self.case.place}: {self.case.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class Results:
    """A test run. uncovered: what rules lack (`region.unsupported: no case expects unknown`)."""

    ran: int
    failures: tuple[Failure, ...]
    uncovered: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return bool(self.ran) and not self.failures and not self.uncovered


def run(cases: Sequence[Case], policy: Policy, catalogue: Catalogue) -> Results:
    """Run every case on a state of its own; every rule of the policy must be covered."""
    tested = replace(policy, rules=tuple(_awake(rule) for rule in policy.rules))
    failures = [Failure(case, message) for case in cases for message in _run(case, tested, catalogue)]
    expected: dict[str, set[str]] = {rule.id: set() for rule in policy.rules}
    for case in cases:
        for rule_id, verdict in case.expect.items() if not case.evasion else ():
            expected[rule_id].add(verdict)
    uncovered = [
        f"{rule_id}: no case expects {verdict}"
        for rule_id, seen in expected.items()
        for verdict in ("match", "no_match", "unknown")
        if verdict not in seen
    ]
    return Results(len(cases), tuple(failures), tuple(uncovered))


def _awake(rule: Rule) -> Rule:
    return replace(rule, mode=Mode.SHADOW) if rule.mode is Mode.OFF else rule


def _run(case: Case, policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    gate = Gate(policy, catalogue, ids=lambda facts: blake2b(case.name.encode(), digest_size=16).hexdigest(), timer=lambda: 0)
    judgement: Judgement | None = None
    for facts, answer in exchanges(case, catalogue):
        judgement = gate.judge(facts)
        gate.settle(judgement, answer)
    assert judgement is not None
    ends = {end.rule: end for end in judgement.outcome.decision.ends}
    for rule_id, wanted in case.expect.items():
        found = ends.get(rule_id, RuleEnd(rule_id, Mode.ENFORCE, Verdict.NO_MATCH))
        if str(found.verdict) != wanted:
            lacked = f" (lacked {', '.join(found.missing)})" if found.missing else ""
            yield f"{rule_id}: expected {wanted}, got {found.verdict}{lacked}{found.error and ': ' + found.error}"
        yield from _extras(case, rule_id, found, judgement, policy)


def _extras(case: Case, rule_id: str, found: RuleEnd, judgement: Judgement, policy: Policy) -> Iterator[str]:
    rule = policy.rule(rule_id)
    assert rule is not None
    for name in case.extra.get("missing", ()):
        if name not in found.missing:
            yield f"{rule_id}: expected {name} to be missing, missing were: {', '.join(found.missing) or 'none'}"
    values = rule_values(rule, judgement.view, judgement.evaluated.values)
    leaves = {leaf.id: leaf.evaluate(values) for leaf in rule.when.leaves()}
    for leaf, wanted in case.extra.get("leaves", {}).items():
        if leaf not in leaves:
            yield f"{rule_id}: no leaf '{leaf}'; {did_you_mean(leaf, list(leaves))}"
        elif leaves[leaf] is not wanted:
            yield f"{rule_id}: expected leaf {leaf} to be {_WORDS[wanted]}, got {_WORDS[leaves[leaf]]}"
    for key, action in (("action", found.action), ("would", found.would)):
        if key in case.extra and str(action) != case.extra[key]:
            yield f"{rule_id}: expected {key} {case.extra[key]}, got {action}"
