"""Rule tests, read: `*.test.yaml` beside a pack.

A case gives signal values and expects how rules end:

    cases:
      - name: Norway is a country, not a boolean
        at: 2026-11-01T00:00:00Z
        given: {client.country: NO, account.billing_country: NO}
        expect: {region.unsupported: no_match}

`sequence` gives several exchanges instead; a step is repeated `times`, `every` so often, and in `each` the text `{n}`
counts. `generate` makes the exchanges of a scenario, `exchanges` reads recorded ones. Expectations speak of the last
exchange; what is not given is missing. `evasions` are known bypasses: they are asserted as misses and cover nothing.
`accepted` lists the mutants that no case kills, each with its reason. `rule_tests` runs what is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gateway.decision import Verdict
from gateway.errors import LoadError, Place, PolicyError, did_you_mean
from gateway.facts import Answer, Facts
from gateway.language.campaigns import Workload
from gateway.language.policy import Policy
from gateway.language.workloads import read_workloads
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.expectations import Expected, read_expected
from gateway.replay.traffic import Context, Part, read_generated, read_given, read_recorded, read_sequence, read_values
from gateway.replay.traffic import exchanges as made
from gateway.signals import Catalogue
from gateway.strict.document import Node, read
from gateway.strict.shapes import Field, Problems, listing, mapping, raw, scalar, text
from gateway.values import parse_timestamp
from gateway.web.intake import Intake

SOURCES: Final = ("given", "sequence", "generate", "exchanges")
CASE_FIELDS: Final = {
    "name": Field(text("name"), required=True),
    "at": Field(scalar(parse_timestamp, "at"), default=parse_timestamp("2026-11-01T00:00:00Z"), doc="when it begins"),
    "given": Field(raw, doc="signal values of one exchange"),
    "sequence": Field(listing(raw, "sequence", empty=False), doc="several exchanges, in order"),
    "generate": Field(raw, doc="the exchanges of a scenario, such as {scenario: ring, accounts: 10, seed: 7}"),
    "exchanges": Field(raw, doc="a file of captures or audit records beside this one"),
    "answer": Field(raw, doc="the upstream's answer: status, input_tokens, output_tokens, cached_tokens, reasoning_tokens"),
    "exceptions": Field(raw, doc="entries of exceptions for this case: rule id, exception, a list of values by field"),
    "shuffle": Field(raw, doc="true, or a seed: the exchanges are also delivered out of order, and it ends the same"),
    "same_as": Field(text("same_as"), doc="the name of a case of this file that must end the same for every rule"),
    "expect": Field(raw, required=True, doc="rule ids and how they end"),
}
ACCEPTED_FIELDS: Final = {
    "mutant": Field(text("mutant"), required=True, doc="a surviving mutant as `sluice test --mutate` names it"),
    "reason": Field(text("reason"), required=True, doc="why no case needs to kill it"),
}
FILE_FIELDS: Final = {
    "cases": Field(listing(raw, "cases"), default=[]),
    "evasions": Field(listing(raw, "evasions"), default=[], doc="known bypasses, asserted as misses"),
    "accepted": Field(listing(raw, "accepted"), default=[], doc="mutants that may survive, each with its reason"),
    "workloads": Field(raw, doc="declared workloads for the cases of this file, written as in workloads.yaml"),
}
Entries = Mapping[str, Mapping[str, tuple[Mapping[str, object], ...]]]


@dataclass(frozen=True, slots=True)
class Case:
    """One test case. at: when it begins (µs). shuffle: the seed of a delivery out of order.

    exempt: entries added to exceptions, by rule and exception. same_as: the case that must end the same.
    """

    name: str
    at: int
    parts: tuple[Part, ...]
    expected: Expected
    place: Place
    evasion: bool = False
    shuffle: int | None = None
    exempt: Entries = field(default_factory=dict)
    same_as: str = ""
    workloads: tuple[Workload, ...] = ()

    @property
    def size(self) -> int:
        """How many exchanges it has."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A mutant that may survive, and why."""

    mutant: str
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Tests:
    """Everything in some test files."""

    cases: tuple[Case, ...]
    accepted: tuple[Accepted, ...] = ()


def load_tests(files: Sequence[Path], policy: Policy, catalogue: Catalogue) -> Tests:
    """The cases and accepted mutants of test files. Raises PolicyError with every problem found."""
    problems, cases, accepted = Problems(raises=PolicyError), [], []
    context = Context(catalogue, Intake(load_registry({}), DRY_RUN_KEY), problems)
    for file in files:
        try:
            node = read(file)
        except LoadError as error:
            problems.found += error.problems
            continue
        entry = mapping(FILE_FIELDS, "a test file")(node, problems)
        if entry is None:
            continue
        workloads = _workloads(entry["workloads"], catalogue, problems)
        reader = _CaseReader(policy, context, workloads)
        here = [case for child in entry["cases"] if (case := reader.case(child, False))]
        here += [case for child in entry["evasions"] if (case := reader.case(child, True))]
        cases += here
        accepted += [found for child in entry["accepted"] if (found := _accepted(child, problems))]
        _names(here, problems)
    if problems.found:
        raise PolicyError(problems.found)
    return Tests(tuple(cases), tuple(accepted))


def load_cases(files: Sequence[Path], policy: Policy, catalogue: Catalogue) -> list[Case]:
    """The cases of test files. Raises PolicyError with every problem found."""
    return list(load_tests(files, policy, catalogue).cases)


def exchanges(case: Case, catalogue: Catalogue) -> Iterator[tuple[Facts, Answer]]:
    """The exchanges of a case, in order, with what the upstream answered."""
    return made(case.parts, case.at, catalogue)


class _CaseReader:
    def __init__(self, policy: Policy, context: Context, workloads: tuple[Workload, ...]) -> None:
        self.policy, self.context, self.problems = policy, context, context.problems
        self.workloads = workloads

    def case(self, node: Node, evasion: bool) -> Case | None:
        before = len(self.problems.found)
        entry = mapping(CASE_FIELDS, "a case")(node, self.problems)
        if entry is None or not isinstance(node.value, dict):
            return None
        given = [key for key in SOURCES if entry[key] is not None]
        if len(given) != 1:
            words = ", ".join(repr(key) for key in SOURCES[:-1])
            self.problems.add(node.place, f"a case needs exactly one of {words} and {SOURCES[-1]!r}", "write one of them")
            return None
        parts = self._parts(node, entry, given[0])
        expected = read_expected(entry["expect"], self.policy, self.problems) if entry["expect"] is not None else Expected()
        if evasion:
            self._misses(node, expected)
        exempt = self._exempt(entry["exceptions"]) if entry["exceptions"] is not None else {}
        shuffle = self._shuffle(entry["shuffle"], parts) if entry["shuffle"] is not None else None
        if len(self.problems.found) > before or entry["name"] is None:
            return None
        return Case(
            entry["name"], entry["at"], tuple(parts), expected, node.place, evasion, shuffle, exempt, entry["same_as"] or "",
            self.workloads,
        )  # fmt: skip

    def _parts(self, node: Node, entry: Mapping[str, Any], source: str) -> list[Part]:
        assert isinstance(node.value, dict)
        if source != "given" and entry["answer"] is not None:
            mend = "write it in the steps of the sequence" if source == "sequence" else "remove it"
            self.problems.add(node.at("answer"), "'answer' belongs to an exchange", mend)
        if source == "exchanges" and "at" in node.value:
            self.problems.add(
                node.value["at"].named, "'at' does not go with 'exchanges': records have their own times", "remove it"
            )
        if source == "given":
            return read_given(entry["given"], entry["answer"], self.context)
        if source == "sequence":
            return read_sequence(entry["sequence"], self.context)
        return (read_generated if source == "generate" else read_recorded)(entry[source], self.context)

    def _misses(self, node: Node, expected: Expected) -> None:
        matching = [rule for rule, verdict in expected.verdicts.items() if verdict == Verdict.MATCH]
        matching += [rule for rule, count in expected.matched.items() if 0 not in count]
        for rule in matching:
            self.problems.add(node.at("expect"), f"an evasion is asserted as a miss, but {rule} matches", "move it to 'cases'")

    def _shuffle(self, node: Node, parts: Sequence[Part]) -> int | None:
        if node.value is False:
            return None
        if node.value is not True and (not isinstance(node.value, int) or node.value < 0):
            self.problems.add(node.place, f"shuffle is true or a seed, not {node.plain()!r}")
        if sum(part.size for part in parts) == 1:
            self.problems.add(node.place, "one exchange cannot be shuffled", "remove it")
        return int(node.value) if isinstance(node.value, int) else None

    def _exempt(self, node: Node) -> Entries:
        """Entries for exceptions, by rule and exception; values stand by field, so that their order cannot be mistaken."""
        found: dict[str, dict[str, tuple[Mapping[str, object], ...]]] = {}
        for rule_id, child in self._below(node, "exceptions"):
            rule = self.policy.rule(rule_id)
            if rule is None:
                known = [rule.id for rule in self.policy.rules]
                self.problems.add(child.named, f"unknown rule '{rule_id}'", did_you_mean(rule_id, known))
                continue
            fields = {exception.name: exception.fields for exception in rule.exceptions}
            for name, rows in self._below(child, f"the exceptions of {rule_id}"):
                if name not in fields:
                    mend = did_you_mean(name, list(fields)) or "it has none"
                    self.problems.add(rows.named, f"{rule_id} has no exception '{name}'", mend)
                    continue
                entries = tuple(self._entry(row, fields[name]) for row in listing(raw, name)(rows, self.problems))
                found.setdefault(rule_id, {})[name] = entries
        return found

    def _entry(self, node: Node, fields: tuple[str, ...]) -> Mapping[str, object]:
        values = read_values(node, self.context)
        if isinstance(node.value, dict) and node.value.keys() != set(fields):
            self.problems.add(node.place, "an entry gives one value for each of " + ", ".join(fields))
        return values

    def _below(self, node: Node, what: str) -> Sequence[tuple[str, Node]]:
        if not isinstance(node.value, dict):
            self.problems.add(node.place, f"{what} must be a mapping, not {node.kind}")
            return []
        return list(node.value.items())


def _workloads(node: Node | None, catalogue: Catalogue, problems: Problems) -> tuple[Workload, ...]:
    if node is None:
        return ()
    return tuple(read_workloads(replace(node, value={"workloads": node}), catalogue, problems))


def _accepted(node: Node, problems: Problems) -> Accepted | None:
    entry = mapping(ACCEPTED_FIELDS, "an accepted mutant")(node, problems)
    if entry is None or entry["mutant"] is None or not entry["reason"]:
        return None
    return Accepted(entry["mutant"], entry["reason"], node.place)


def _names(cases: Sequence[Case], problems: Problems) -> None:
    """Names tell cases apart, and `same_as` names one of them."""
    seen: dict[str, Place] = {}
    for case in cases:
        if case.name in seen:
            problems.add(case.place, f"case '{case.name}' stands twice", f"the first is in line {seen[case.name].line}")
        seen.setdefault(case.name, case.place)
    for case in cases:
        others = [name for name in seen if name != case.name]
        if case.same_as and case.same_as not in others:
            problems.add(case.place, f"same_as names no other case: '{case.same_as}'", did_you_mean(case.same_as, others))
