"""Rule tests, read: `*.test.yaml` beside a pack.

A case gives signal values and expects how rules end:

    cases:
      - name: Norway is a country, not a boolean
        at: 2026-11-01T00:00:00Z
        given: {client.country: NO, account.billing_country: NO}
        expect: {region.unsupported: no_match}

`sequence` gives several exchanges instead; a step is repeated `times`, `every` so often, and in `each` the text `{n}`
counts. Expectations speak of the last exchange. What is not given is missing. `evasions` are known bypasses: they are
asserted as misses and cover nothing. `rule_tests` runs what is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.decision import Action, Verdict
from gateway.errors import LoadError, Place, PolicyError, did_you_mean
from gateway.facts import Answer, Facts, Usage
from gateway.language.policy import Policy
from gateway.signals import Catalogue, Signal
from gateway.strict.document import Node, read
from gateway.strict.shapes import Field, Problems, Read, entries, listing, mapping, one_of, raw, scalar, text, whole
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
TRUTHS: Final = {"true": True, "false": False, "unknown": None}


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


def exchanges(case: Case, catalogue: Catalogue) -> Iterator[tuple[Facts, Answer]]:
    """The exchanges of a case, in order, with what the upstream answered."""
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
        problems.add(node.place, "a case needs either 'given' or 'sequence'", "write one of the two")
        return None
    if entry["sequence"] is not None and entry["answer"] is not None:
        problems.add(node.at("answer"), "'answer' belongs to an exchange", "write it in the steps of the sequence")
    if entry["given"] is not None:
        steps = [Step(_given(entry["given"], catalogue, problems), 1, SECOND, {}, _answer(entry["answer"], problems))]
    else:
        steps = []
        for child in entry["sequence"]:
            before_it = sum(step.times for step in steps)
            if (step := _step(child, before_it, catalogue, problems)) is not None:
                steps.append(step)
    expect, extra = _expect(entry["expect"], policy, problems) if entry["expect"] is not None else ({}, {})
    for rule_id, verdict in expect.items() if evasion else ():
        if verdict == Verdict.MATCH:
            problems.add(node.at("expect"), f"an evasion is asserted as a miss, but {rule_id} matches", "move it to 'cases'")
    if len(problems.found) > before or entry["name"] is None:
        return None
    return Case(entry["name"], entry["at"], tuple(steps), expect, extra, node.place, evasion)


def _step(node: Node, number: int, catalogue: Catalogue, problems: Problems) -> Step | None:
    entry = mapping(_STEP, "a step")(node, problems)
    if entry is None or entry["given"] is None or not entry["times"]:
        return None
    for name, pattern in entry["each"].items():
        place = node.value["each"].at(name) if isinstance(node.value, dict) else node.place
        if (signal := _signal(name, place, catalogue, problems)) is None:
            return None
        try:
            for count in range(number + 1, number + entry["times"] + 1):
                signal.type.parse(pattern.replace("{n}", str(count)))
        except ValueError as error:
            problems.add(place, f"{name}: {error}")
            return None
    given = _given(entry["given"], catalogue, problems)
    return Step(given, entry["times"], entry["every"], entry["each"], _answer(entry["answer"], problems))


def _given(node: Node, catalogue: Catalogue, problems: Problems) -> dict[str, object]:
    if not isinstance(node.value, dict):
        problems.add(node.place, f"given must be a mapping, not {node.kind}")
        return {}
    values: dict[str, object] = {}
    for name, child in node.value.items():
        if (signal := _signal(name, child.named, catalogue, problems)) is None:
            continue
        try:
            values[name] = signal.type.parse(child.plain())
        except ValueError as error:
            problems.add(child.place, f"{name}: {error}")
    return values


def _signal(name: str, place: Place, catalogue: Catalogue, problems: Problems) -> Signal | None:
    signal = catalogue.get(name)
    if signal is None:
        problems.add(place, f"unknown signal '{name}'", did_you_mean(name, list(catalogue)))
    elif signal.settled:
        problems.add(place, f"'{name}' is only known after the answer", "write it under 'answer'")
        return None
    return signal


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
    verdicts: dict[str, str] = {}
    extra: dict[str, Any] = {}
    known, before = [rule.id for rule in policy.rules], len(problems.found)
    for key, child in node.value.items():
        if key in _EXTRA:
            extra[key] = _EXTRA[key](child, problems)
        elif key not in known:
            problems.add(child.named, f"unknown rule '{key}'", did_you_mean(key, [*known, *_EXTRA]))
        elif (verdict := _VERDICT(child, problems)) is not None:
            verdicts[key] = str(verdict)
    if not verdicts and len(problems.found) == before:
        problems.add(node.place, "a case expects something of a rule", "write its id and match, no_match, unknown or error")
    elif len(verdicts) > 1 and extra:
        problems.add(node.place, ", ".join(extra) + " must speak of one rule, but the case names several", "split the case")
    return verdicts, extra


def _truth(node: Node, problems: Problems) -> bool | str | None:
    word = str(node.value).lower() if not isinstance(node.value, (dict, list)) else ""
    if word not in TRUTHS:
        problems.add(node.place, f"a leaf is true, false or unknown, not {node.plain()!r}")
    return word or None


def _leaves(node: Node, problems: Problems) -> dict[str, bool | None]:
    words = entries(_truth, "leaves")(node, problems)
    return {leaf: TRUTHS.get(str(word)) for leaf, word in words.items()}


_ActionWord: Final = StrEnum("_ActionWord", {action.name: str(action) for action in Action})  # type: ignore[misc]
_VERDICT: Final = one_of(Verdict, "a verdict")
_EXTRA: Final[dict[str, Read]] = {
    "missing": listing(text("missing"), "missing", empty=False), "leaves": _leaves,
    "action": one_of(_ActionWord, "action"), "would": one_of(_ActionWord, "would"),
}  # fmt: skip
