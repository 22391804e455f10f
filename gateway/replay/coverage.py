"""What rule tests prove of a policy, and what they leave open: judgements that `sluice check` makes beside its static ones.

A test that merely passes proves little: a rule may end right for another reason than the one it states. So a leaf counts as
tested only where it alone kept a rule from matching, and a mitigation only where the rule would have matched, or acted, had it
been taken out. Evasions prove nothing of honest callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from gateway.decision import Verdict
from gateway.errors import Place
from gateway.language.conditions import Condition, Leaf
from gateway.language.findings import Finding, Severity
from gateway.language.policy import Policy, Rule
from gateway.readings import rule_values
from gateway.replay.altered import flipped, without
from gateway.replay.cases import Case, exchanges, load_cases
from gateway.replay.played import Played, play, prepared, rebuilt
from gateway.signals import Catalogue


@dataclass(frozen=True, slots=True)
class Shown:
    """A case after it ran: how one rule ended, with the values its names had on the last exchange.

    whole: the same with all rules taking part, which is what corroboration looks at.
    """

    case: Case
    rule: Rule
    played: Played
    whole: Callable[[], Played]

    def truth(self, condition: Condition | None) -> bool | None:
        """What another condition of this rule would have been."""
        if condition is None:
            return None
        return condition.evaluate(rule_values(self.rule, self.played.last.view, self.played.last.evaluated.values))


def judge(policy: Policy, catalogue: Catalogue, files: Sequence[Path]) -> list[Finding]:
    """The judgements of `JUDGEMENTS` on a policy by these test files. Raises PolicyError where a file cannot be loaded."""
    shown: dict[str, list[Shown]] = {rule.id: [] for rule in policy.rules}
    for case in load_cases(files, policy, catalogue):
        if not case.evasion and case.expected.verdicts:
            for one in _shown(case, policy, catalogue):
                shown[one.rule.id].append(one)
    found = [
        finding for rule in policy.rules for judgement in JUDGEMENTS.values() for finding in judgement(rule, shown[rule.id])
    ]
    return sorted(found)


def uncovered_rule(rule: Rule, shown: Sequence[Shown]) -> Iterator[Finding]:
    """A rule without a case that expects it to match, not to match, and to lack a value."""
    expected = {one.case.expected.verdicts[rule.id] for one in shown}
    lacking = [str(verdict) for verdict in (Verdict.MATCH, Verdict.NO_MATCH, Verdict.UNKNOWN) if verdict not in expected]
    if lacking:
        mend = "write cases for it in the pack's .test.yaml file" if not expected else "add one"
        yield _finding("uncovered-rule", rule.place, f"{rule.id}: no case expects {' or '.join(lacking)}", mend)


def untested_leaf(rule: Rule, shown: Sequence[Shown]) -> Iterator[Finding]:
    """A leaf that alone keeps its rule from matching in no case: it could be dropped and no test would notice."""
    misses = [one for one in shown if one.played.end(rule.id).verdict is Verdict.NO_MATCH]
    for leaf in rule.when.leaves() if shown else ():
        if not any(_decides(rule.when, leaf, one) for one in misses):
            message = f"{rule.id}: leaf {leaf.id} alone keeps the rule from matching in no case"
            yield _finding(
                "untested-leaf", leaf.place, message, f"add a no_match case in which only {leaf.id} would have to change"
            )


def unproven_mitigation(rule: Rule, shown: Sequence[Shown]) -> Iterator[Finding]:
    """An honest cause said to be mitigated, without a case that would match, or act, if the mitigation were taken out."""
    for place, cause in enumerate(rule.false_positives) if shown else ():
        proof = _PROOFS.get(cause.mitigated_by, _exception if _is_exception(rule, cause.mitigated_by) else _leaf)
        if not any(proof(rule, cause.mitigated_by, one) for one in shown):
            message = f"{rule.id}: no case shows {cause.mitigated_by} mitigating «{cause.cause}»"
            mend = "add a case that would match or act if it were taken out"
            yield _finding("unproven-mitigation", rule.at(f"false_positives/{place}"), message, mend)


Judgement = Callable[[Rule, Sequence[Shown]], Iterator[Finding]]
JUDGEMENTS: Final[Mapping[str, Judgement]] = {
    "uncovered-rule": uncovered_rule, "untested-leaf": untested_leaf, "unproven-mitigation": unproven_mitigation,
}  # fmt: skip


def _shown(case: Case, policy: Policy, catalogue: Catalogue) -> Iterator[Shown]:
    """The case, played for each rule whose end it expects; with all rules only if somebody asks, because that takes long."""

    def play_with(rules: Sequence[Rule]) -> Played:
        return play(list(exchanges(case, catalogue)), prepared(rebuilt(policy, rules, policy.limits), case), catalogue)

    played = play_with([rule for rule in policy.rules if rule.id in case.expected.verdicts])
    whole = cache(lambda: play_with(policy.rules))
    for rule in played.policy.rules:
        yield Shown(case, rule, played, whole)


def _decides(condition: Condition, leaf: Leaf, shown: Shown) -> bool:
    truth = shown.truth(leaf)
    return truth is not None and shown.truth(flipped(condition, leaf, not truth)) is True


def _leaf(rule: Rule, name: str, shown: Shown) -> bool:
    return shown.played.end(rule.id).verdict is Verdict.NO_MATCH and shown.truth(without(rule.when, name)) is True


def _exception(rule: Rule, name: str, shown: Shown) -> bool:
    return shown.played.end(rule.id).excepted == name


def _is_exception(rule: Rule, name: str) -> bool:
    return any(exception.name == name for exception in rule.exceptions)


def _corroborate(rule: Rule, name: str, shown: Shown) -> bool:
    """Whether the rule matched and did less than it says, because no other family agreed."""
    need = rule.corroborate
    if need is None or shown.played.end(rule.id).verdict is not Verdict.MATCH:
        return False
    end = shown.whole().end(rule.id)
    if end.verdict is not Verdict.MATCH or end.excepted or end.abstained:
        return False
    effects = rule.response.effects
    strongest = effects[end.step or 0] if rule.response.of is None or end.step is not None else None
    alone = len({rule.family, *end.corroborated}) < need.families
    return alone and strongest is not None and strongest.action > need.otherwise


def _abstain(rule: Rule, name: str, shown: Shown) -> bool:
    return bool(shown.played.end(rule.id).abstained)


_PROOFS: Final[Mapping[str, Callable[[Rule, str, Shown], bool]]] = {"corroborate": _corroborate, "abstain_for": _abstain}


def _finding(judgement: str, place: Place, message: str, mend: str) -> Finding:
    return Finding(place, message, mend, judgement, Severity.WARNING)
