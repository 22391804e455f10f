"""Rule tests, run: what of each case's expectations did not hold, and what no case expects.

An empty run fails, and so does a rule without a hit, a miss and an unknown. The difference between what was expected and what
was found is told by one table (`FOUND`), which mutation testing reads as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from gateway.decision import RuleEnd
from gateway.errors import Place, did_you_mean
from gateway.language.policy import Policy
from gateway.replay.cases import Case, exchanges
from gateway.replay.expectations import TRUTHS, Expected
from gateway.replay.played import Exchanges, Played, overfull, play, play_shuffled, prepared
from gateway.replay.probes import spoken
from gateway.replay.reasons import reasons
from gateway.signals import Catalogue

_WORDS: Final = {truth: word for word, truth in TRUTHS.items()}
VERDICTS: Final = ("match", "no_match", "unknown")
ORDERLESS: Final = ("missing", "leaves", "step", "excepted")


class Complaint(NamedTuple):
    """An expectation of a rule or limit that did not hold. key: the word it stands under, `verdict` for how a rule ends."""

    name: str
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that did not hold. place: where it is written. why: what decided, with the values of the exchange."""

    case: Case
    message: str
    place: Place
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"{self.place}: {self.case.name}: {self.message}", *self.why))


@dataclass(frozen=True, slots=True)
class Results:
    """A test run. uncovered: what rules lack (`region.unsupported: no case expects unknown`). played: each case as it ran."""

    ran: int
    failures: tuple[Failure, ...]
    uncovered: tuple[str, ...]
    played: tuple[Played, ...] = field(default=(), repr=False, compare=False)

    @property
    def passed(self) -> bool:
        return bool(self.ran) and not self.failures and not self.uncovered


def run(cases: Sequence[Case], policy: Policy, catalogue: Catalogue) -> Results:
    """Run every case on a state of its own; every rule of the policy must be covered."""
    failures: list[Failure] = []
    ran: list[Played] = []
    ends: dict[tuple[str, str], tuple[RuleEnd, ...]] = {}
    for case in cases:
        made = list(exchanges(case, catalogue))
        played = play(made, prepared(policy, case), catalogue)
        ran.append(played)
        ends[case.place.path, case.name] = played.last.outcome.decision.ends
        failures += _failures(case, played, complaints(case.expected, played))
        if case.shuffle is not None:
            failures += _shuffled(case, made, played)
    for case in cases:
        if case.same_as:
            pair = ends[case.place.path, case.name], ends[case.place.path, case.same_as]
            unlike = _unlike(*pair, policy)
            failures += [Failure(case, f"not the same as '{case.same_as}': {message}", case.place) for message in unlike]
    order = {id(case): place for place, case in enumerate(cases)}
    failures.sort(key=lambda failure: order[id(failure.case)])
    return Results(len(cases), tuple(failures), tuple(uncovered(cases, policy)), tuple(ran))


def uncovered(cases: Sequence[Case], policy: Policy) -> Iterator[str]:
    """What rules lack; evasions cover nothing."""
    for rule in policy.rules:
        seen = {case.expected.verdicts.get(rule.id) for case in cases if not case.evasion}
        yield from (f"{rule.id}: no case expects {verdict}" for verdict in VERDICTS if verdict not in seen)


def _failures(case: Case, played: Played, found: Iterator[Complaint], prefix: str = "") -> Iterator[Failure]:
    """Complaints with their places and reasons; what is counted over all exchanges has none in the last one."""
    for name, key, message in found:
        place = case.expected.at(f"{key}/{name}", key, name) or case.place
        why = () if key in ("matched", "refused") else reasons(played, name, key)
        yield Failure(case, f"{prefix}{name}: {message}", place, why)


def complaints(expected: Expected, played: Played) -> Iterator[Complaint]:
    """What of these expectations does not hold, the cheapest to look at first."""
    for rule_id, wanted in expected.verdicts.items():
        found = played.end(rule_id)
        if str(found.verdict) != wanted:
            lacked = f" (lacked {', '.join(found.missing)})" if found.missing else ""
            got = f"{found.verdict}{lacked}{found.error and ': ' + found.error}"
            yield Complaint(rule_id, "verdict", f"expected {wanted}, got {got}")
        for key, detail in expected.details.items():
            yield from (Complaint(rule_id, key, message) for message in FOUND[key](rule_id, detail, played))
    for rule_id, span in expected.matched.items():
        if (count := played.matched.get(rule_id, 0)) not in span:
            message = f"expected {span} of {len(played.answers)} exchanges to match, got {count}"
            yield Complaint(rule_id, "matched", message)
    for name, span in expected.refused.items():
        if (count := played.refused.get(name, 0)) not in span:
            message = f"expected {span} of {len(played.answers)} exchanges to be refused, got {count}"
            yield Complaint(name, "refused", message)
    for limit_id, stand in expected.limits.items():
        if (answer := played.stand(limit_id)) != stand:
            yield Complaint(limit_id, "limits", f"expected {stand}, got {answer}")


def narrowed(expected: Expected, name: str) -> Expected:
    """The expectations that speak of one rule or limit."""
    verdicts, matched, refused, limits = (
        {key: wanted for key, wanted in table.items() if key == name}
        for table in (expected.verdicts, expected.matched, expected.refused, expected.limits)
    )
    return Expected(verdicts, expected.details if verdicts else {}, matched, refused, limits)  # type: ignore[arg-type]


def _shuffled(case: Case, made: Exchanges, played: Played) -> Iterator[Failure]:
    prefix = "delivered out of order: "
    rules = [rule for rule in played.policy.rules if rule.id in case.expected.verdicts]
    for label in overfull(made, rules):
        said = f"'{label}' can reach its cap, and which values it keeps depends on the order; remove 'shuffle'"
        yield Failure(case, f"{prefix}{said}", case.place)
    details = {key: value for key, value in case.expected.details.items() if key in ORDERLESS}
    again = play_shuffled(made, played.answers, case.shuffle or 0, rules, played)
    held_to = replace(case.expected, details=details, matched={}, refused={}, limits={})
    yield from _failures(case, again, complaints(held_to, again), prefix)


def _unlike(these: Sequence[RuleEnd], those: Sequence[RuleEnd], policy: Policy) -> Iterator[str]:
    by_rule = [{end.rule: end for end in ends} for ends in (these, those)]
    for rule_id in sorted({*by_rule[0], *by_rule[1]}):
        here, there = (_told(ends.get(rule_id), policy) for ends in by_rule)
        if here != there:
            yield f"{rule_id}: {here} here, {there} there"


def _told(end: RuleEnd | None, policy: Policy) -> str:
    if end is None:
        return "no_match"
    lacked = f" (lacked {', '.join(end.missing)})" if end.missing else ""
    step = f" at the step{_bound(policy, end.rule, end.step)}" if end.step is not None else ""
    return f"{end.verdict}{lacked}{step}, {end.action} and {end.would}"


def _bound(policy: Policy, rule_id: str, step: int | None) -> str:
    """A step as people name it: by its lower bound."""
    rule = policy.rule(rule_id)
    response = rule.response if rule is not None else None
    if rule is None or response is None or response.of is None or step is None or step >= len(response.starts):
        return ""
    return f" from {spoken(rule.measures[response.of].type, response.starts[step])}"


def _missing(rule_id: str, wanted: Sequence[str], played: Played) -> Iterator[str]:
    found = played.end(rule_id).missing
    for name in wanted:
        if name not in found:
            yield f"expected {name} to be missing, missing were: {', '.join(found) or 'none'}"


def _leaves(rule_id: str, wanted: dict[str, bool | None], played: Played) -> Iterator[str]:
    rule = played.policy.rule(rule_id)
    leaves = played.leaves(rule) if rule is not None else {}
    for leaf, truth in wanted.items():
        if leaf not in leaves:
            yield f"no leaf '{leaf}'; {did_you_mean(leaf, list(leaves))}"
        elif leaves[leaf] is not truth:
            yield f"expected leaf {leaf} to be {_WORDS[truth]}, got {_WORDS[leaves[leaf]]}"


def _error(rule_id: str, wanted: str, played: Played) -> Iterator[str]:
    found = played.end(rule_id).error
    if wanted not in found:
        yield f"expected an error with {wanted!r}, got {found!r}"


def _step(rule_id: str, wanted: int, played: Played) -> Iterator[str]:
    found = played.end(rule_id).step
    if found != wanted:
        named = [
            "none" if step is None else f"{step}{f' ({bound[1:]})' if (bound := _bound(played.policy, rule_id, step)) else ''}"
            for step in (wanted, found)
        ]
        yield f"expected step {named[0]}, got {named[1]}"


def _equal(key: str) -> Callable[[str, Any, Played], Iterator[str]]:
    def compare(rule_id: str, wanted: Any, played: Played) -> Iterator[str]:
        found = getattr(played.end(rule_id), key)
        if str(found) != str(wanted):
            yield f"expected {key} {wanted}, got {'none' if found in ('', None) else found}"

    return compare


def _asked(name: str) -> Callable[[str, Any, Played], Iterator[str]]:
    def compare(rule_id: str, wanted: Any, played: Played) -> Iterator[str]:
        found = getattr(played.end(rule_id), name) or "none"
        if found != str(wanted):
            yield f"expected {'asked' if name == 'asks' else name} {wanted}, got {found}"

    return compare


FOUND: Final[dict[str, Callable[[str, Any, Played], Iterator[str]]]] = {
    "missing": _missing, "leaves": _leaves, "error": _error, "step": _step,
    **{key: _equal(key) for key in ("action", "would", "excepted", "abstained")},
    "asked": _asked("asks"), "would_ask": _asked("would_ask"),
}  # fmt: skip
