"""Rule tests: `*.test.yaml` beside a pack, run through the real gate at a fixed time.

A case gives signal values and expects how rules end:

    cases:
      - name: Norway is a country, not a boolean
        at: 2026-11-01T00:00:00Z
        given: {client.country: NO, account.billing_country: NO}
        expect: {region.unsupported: no_match}

`sequence` gives several exchanges instead; a step is repeated `times`, `every` so often, and in `each` the text `{n}`
counts. Expectations speak of the last exchange. What is not given is missing. An empty run fails, and so does a rule
without a hit, a miss and an unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from gateway.decision import Mode, RuleEnd, Verdict
from gateway.errors import LoadError, Place, PolicyError, Problem, did_you_mean
from gateway.facts import Answer, Facts, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.engine import rule_values
from gateway.language.policy import Policy
from gateway.signals import Catalogue
from gateway.strict.document import Node, read
from gateway.strict.shapes import Field, Problems, entries, listing, mapping, raw, scalar, text, whole
from gateway.values import SECOND, Missing, parse_duration, parse_timestamp

NOT_GIVEN: Final = Missing("not given")
_STEP: Final = {
    "given": Field(raw, required=True), "times": Field(whole("times", 1, 100_000), default=1),
    "every": Field(scalar(parse_duration, "every"), default=SECOND), "each": Field(entries(text("each"), "each"), default={}),
    "answer": Field(raw),
}  # fmt: skip
_CASE: Final = {
    "name": Field(text("name"), required=True),
    "at": Field(scalar(parse_timestamp, "at"), default=parse_timestamp("2026-11-01T00:00:00Z")),
    "given": Field(raw, doc="signal values of one exchange"),
    "sequence": Field(listing(raw, "sequence", empty=False), doc="several exchanges, in order"),
    "answer": Field(raw, doc="response.* values, for measures on answers"),
    "expect": Field(raw, required=True, doc="rule ids and how they end"),
}
_FILE: Final = {
    "cases": Field(listing(raw, "cases"), default=[]),
    "evasions": Field(listing(raw, "evasions"), default=[], doc="known bypasses, asserted as misses"),
}
_EXTRA: Final = ("missing", "leaves", "action", "would")


@dataclass(frozen=True, slots=True)
class Step:
    """Exchanges of one case: the values given, repeated."""

    given: Mapping[str, object]
    times: int
    every: int
    each: Mapping[str, str]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Case:
    """One test case. expect: rule id to verdict; extra: missing, leaves, action, would."""

    name: str
    at: int
    steps: tuple[Step, ...]
    expect: Mapping[str, str]
    extra: Mapping[str, Any]
    place: Place
    evasion: bool


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


def load_cases(files: Sequence[Path], policy: Policy, catalogue: Catalogue) -> list[Case]:
    """The cases of test files. Raises PolicyError with every problem found."""
    problems, found = Problems(), []
    for file in files:
        try:
            entry = mapping(_FILE, "a test file")(read(file), problems)
        except LoadError as error:
            problems.found += error.problems
            continue
        for key in ("cases", "evasions") if entry else ():
            found += [case for node in entry[key] if (case := _case(node, policy, catalogue, key == "evasions", problems))]
    if problems.found:
        raise PolicyError(problems.found)
    return found


def run(cases: Sequence[Case], policy: Policy, catalogue: Catalogue) -> Results:
    """Run every case on a state of its own; every rule of the policy must be covered."""
    failures = [Failure(case, message) for case in cases for message in _run(case, policy, catalogue)]
    expected: dict[str, set[str]] = {rule.id: set() for rule in policy.rules}
    for case in cases:
        for rule_id, verdict in case.expect.items():
            expected[rule_id].add(verdict)
    uncovered = [
        f"{rule_id}: no case expects {verdict}"
        for rule_id, seen in expected.items()
        for verdict in ("match", "no_match", "unknown")
        if verdict not in seen
    ]
    return Results(len(cases), tuple(failures), tuple(uncovered))


def _run(case: Case, policy: Policy, catalogue: Catalogue) -> Iterator[str]:
    gate = Gate(policy, catalogue, ids=lambda facts: blake2b(case.name.encode(), digest_size=16).hexdigest(), timer=lambda: 0)
    judgement: Judgement | None = None
    for facts, answer in _exchanges(case, catalogue):
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
            yield f"{rule_id}: expected leaf {leaf} to be {wanted}, got {leaves[leaf]}"
    for key, action in (("action", found.action), ("would", found.would)):
        if key in case.extra and str(action) != case.extra[key]:
            yield f"{rule_id}: expected {key} {case.extra[key]}, got {action}"


def _exchanges(case: Case, catalogue: Catalogue) -> Iterator[tuple[Facts, Answer]]:
    at, number = case.at, 0
    for step in case.steps:
        for _ in range(step.times):
            number += 1
            values = dict(step.given)
            for name, pattern in step.each.items():
                values[name] = catalogue[name].type.parse(pattern.replace("{n}", str(number)))
            given: dict[str, object] = {name: values.get(name, NOT_GIVEN) for name in catalogue}
            yield Facts(at=at, recorded=given), step.answer
            at += step.every


def _case(node: Node, policy: Policy, catalogue: Catalogue, evasion: bool, problems: Problems) -> Case | None:
    before = len(problems.found)
    entry = mapping(_CASE, "a case")(node, problems)
    if entry is None:
        return None
    if (entry["given"] is None) == (entry["sequence"] is None):
        problems.add(node.place, "a case needs either 'given' or 'sequence'")
        return None
    if entry["given"] is not None:
        steps = [Step(_given(entry["given"], catalogue, problems), 1, SECOND, {}, _answer(entry["answer"], problems))]
    else:
        steps = [step for child in entry["sequence"] if (step := _step(child, catalogue, problems)) is not None]
    expect, extra = _expect(entry["expect"], policy, problems) if entry["expect"] is not None else ({}, {})
    if len(problems.found) > before or entry["name"] is None:
        return None
    return Case(entry["name"], entry["at"], tuple(steps), expect, extra, node.place, evasion)


def _step(node: Node, catalogue: Catalogue, problems: Problems) -> Step | None:
    entry = mapping(_STEP, "a step")(node, problems)
    if entry is None or entry["given"] is None or not entry["times"]:
        return None
    for name in entry["each"]:
        if name not in catalogue:
            problems.add(node.place, f"unknown signal '{name}'", did_you_mean(name, list(catalogue)))
            return None
    given = _given(entry["given"], catalogue, problems)
    return Step(given, entry["times"], entry["every"], entry["each"], _answer(entry["answer"], problems))


def _given(node: Node, catalogue: Catalogue, problems: Problems) -> dict[str, object]:
    if not isinstance(node.value, dict):
        problems.add(node.place, f"given must be a mapping, not {node.kind}")
        return {}
    values: dict[str, object] = {}
    for name, child in node.value.items():
        signal = catalogue.get(name)
        if signal is None:
            problems.add(child.place, f"unknown signal '{name}'", did_you_mean(name, list(catalogue)))
            continue
        try:
            values[name] = signal.type.parse(child.plain())
        except ValueError as error:
            problems.add(child.place, str(error))
    return values


_ANSWER: Final = {
    "status": Field(whole("status", 100, 599)), "input_tokens": Field(whole("input_tokens")),
    "output_tokens": Field(whole("output_tokens")),
}  # fmt: skip


def _answer(node: Node | None, problems: Problems) -> Answer:
    entry = mapping(_ANSWER, "an answer")(node, problems) if node is not None else None
    if entry is None:
        return Answer()
    return Answer(entry["status"], Usage(entry["input_tokens"], entry["output_tokens"]))


def _expect(node: Node, policy: Policy, problems: Problems) -> tuple[dict[str, str], dict[str, Any]]:
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.place, f"expect must be a mapping of rule ids to verdicts, not {node.kind}")
        return {}, {}
    verdicts, extra = {}, {}
    known = [rule.id for rule in policy.rules]
    for key, child in node.value.items():
        if key in _EXTRA:
            extra[key] = child.plain()
        elif key not in known:
            problems.add(child.place, f"unknown rule '{key}'", did_you_mean(key, known))
        elif child.value not in list(Verdict):
            problems.add(child.place, f"{child.value!r} is none of " + ", ".join(Verdict))
        else:
            verdicts[key] = str(child.value)
    if len(verdicts) != 1 and extra:
        problems.add(node.place, "missing, leaves, action and would need exactly one rule in the case")
    return verdicts, extra
