"""The exchanges of a rule test, read: given values, sequences of them, generated scenarios, recorded files.

What is written becomes `Part`s; `exchanges` makes facts of them. Signals that are not given are missing. Everything that can
go wrong is found while reading, with its place: a value that does not parse, the hundredth filling of an `each` included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from gateway.errors import Place, RecordError, did_you_mean
from gateway.facts import Answer, Facts, Usage
from gateway.replay.scenarios import SCENARIOS, Scenario
from gateway.replay.sources import Reader
from gateway.signals import Catalogue, Signal
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, entries, listing, mapping, raw, scalar, text, whole
from gateway.values import INT, SECOND, parse_duration
from gateway.web.intake import Intake

MOST: Final = 100_000
_ANSWERED: Final = {
    "status": Field(whole("status", 100, 599), doc="its status"),
    "input_tokens": Field(whole("input_tokens"), doc="tokens of the request, cached ones included"),
    "output_tokens": Field(whole("output_tokens"), doc="tokens of the answer"),
    "cached_tokens": Field(whole("cached_tokens"), doc="input tokens read from a cache"),
    "reasoning_tokens": Field(whole("reasoning_tokens"), doc="output tokens of reasoning"),
}
ANSWER_FIELDS: Final = _ANSWERED | {f"response.{key}": one for key, one in _ANSWERED.items()}
STEP_FIELDS: Final = {
    "given": Field(raw, doc="signal values of every exchange of this step"),
    "after": Field(scalar(parse_duration, "after"), default=0, doc="how long it waits before it begins"),
    "times": Field(whole("times", 1, MOST), default=1, doc="how many exchanges"),
    "every": Field(scalar(parse_duration, "every"), default=SECOND, doc="how far apart they are, and what comes next is"),
    "each": Field(entries(text("each"), "each"), default={}, doc="signal values in which {n} counts the exchanges of the case"),
    "lasts": Field(
        scalar(parse_duration, "lasts"), default=0, doc="how long each stays open: it holds its slots, then settles"
    ),
    "answer": Field(raw, doc="the upstream's answer: status, input_tokens, output_tokens, cached_tokens, reasoning_tokens"),
    "generate": Field(raw, doc="a scenario's exchanges in place of given ones"),
}
COMMON_FIELDS: Final = {
    "scenario": Field(text("scenario"), required=True, doc="one of " + ", ".join(SCENARIOS)),
    "seed": Field(whole("seed"), default=1, doc="the same seed gives the same exchanges"),
    "given": Field(raw, doc="signal values of every exchange, in place of the scenario's"),
    "without": Field(listing(text("without"), "without"), default=[], doc="signals that are missing in every exchange"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """Exchanges with the values given, repeated. every: µs from each to the next, and to what follows. after: µs before it.

    answer: what the upstream answered; its duration says how long the exchange is open.
    """

    given: Mapping[str, object]
    times: int = 1
    every: int = SECOND
    each: Mapping[str, str] = field(default_factory=dict)
    answer: Answer = field(default_factory=Answer)
    after: int = 0

    @property
    def size(self) -> int:
        return self.times


@dataclass(frozen=True, slots=True)
class Generated:
    """The exchanges of a scenario, with some values given in place of its own, or left out."""

    scenario: Scenario
    parameters: Mapping[str, Any]
    seed: int
    given: Mapping[str, object]
    without: frozenset[str]
    after: int = 0

    @property
    def size(self) -> int:
        return self.scenario.size(self.parameters)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Exchanges of a file of captures or audit records, at their own times."""

    exchanges: tuple[tuple[Facts, Answer], ...]

    @property
    def size(self) -> int:
        return len(self.exchanges)


Part = Step | Generated | Recorded


@dataclass(frozen=True, slots=True)
class Context:
    """What traffic is read with. intake: makes facts of captures."""

    catalogue: Catalogue
    intake: Intake
    problems: Problems


def exchanges(parts: Sequence[Part], at: int, catalogue: Catalogue) -> Iterator[tuple[Facts, Answer]]:
    """The exchanges of these parts, in order of time from `at` (µs) on, with what the upstream answered."""
    number = 0
    for part in parts:
        if isinstance(part, Recorded):
            yield from part.exchanges
            continue
        at += part.after
        if isinstance(part, Generated):
            for sent in part.scenario.make(Random(part.seed), part.parameters):  # noqa: S311 - repeatable, not secret
                kept = {name: value for name, value in sent.values.items() if name in catalogue and name not in part.without}
                yield Facts(at=at + sent.after, recorded={**kept, **part.given}, whole=True), sent.answer
            number += part.size
            at += part.parameters["over"]
        else:
            for _ in range(part.times):
                number += 1
                filled = {name: _filled(pattern, number, catalogue[name]) for name, pattern in part.each.items()}
                yield Facts(at=at, recorded={**part.given, **filled}, whole=True), part.answer
                at += part.every


def _filled(pattern: str, number: int, signal: Signal) -> object:
    text = pattern.replace("{n}", str(number))
    return signal.type.parse(int(text) if signal.type is INT and text.isdecimal() else text)


def read_given(node: Node, answer: Node | None, context: Context) -> list[Part]:
    """The one exchange of `given`, with its answer."""
    return [Step(read_values(node, context), answer=_answer(answer, context.problems))]


def read_sequence(nodes: Sequence[Node], context: Context) -> list[Part]:
    """The steps of a `sequence`; those that cannot be read are left out."""
    parts: list[Part] = []
    for node in nodes:
        part = _step(node, sum(part.size for part in parts), context)
        if part is not None:
            parts.append(part)
    if sum(part.size for part in parts) > MOST:
        context.problems.add(
            nodes[0].place, f"the sequence has more than {MOST} exchanges", "a rule test is small; dry-run is not"
        )
    return parts


def read_generated(node: Node, context: Context) -> list[Part]:
    """The exchanges of `generate`, or nothing where it cannot be read."""
    part = _generated(node, context)
    return [part] if part is not None else []


def read_recorded(node: Node, context: Context) -> list[Part]:
    """The exchanges of a file named relative to the test file, or nothing where it cannot be read whole."""
    problems = context.problems
    name = text("exchanges")(node, problems)
    if name is None:
        return []
    before = len(problems.found)
    reader = Reader(context.intake, context.catalogue, on_error=partial(_unreadable, problems))
    try:
        read = reader.exchanges([str(Path(node.place.path).parent / name)])
        found = tuple((one.facts, one.answer) for one in islice(read, MOST + 1))
    except RecordError as error:
        problems.add(node.place, f"exchanges: {error}", "name a .jsonl file beside this one")
        return []
    if len(found) > MOST:
        problems.add(node.place, f"exchanges: {name} has more than {MOST} records", "a rule test is small; dry-run is not")
    if not found and len(problems.found) == before:
        problems.add(node.place, f"exchanges: {name} holds no record", "a test of nothing proves nothing")
    return [Recorded(found)] if found else []


def _unreadable(problems: Problems, error: RecordError) -> None:
    problems.add(error.place, str(error).removeprefix(f"{error.place}: "))


def _step(node: Node, number: int, context: Context) -> Part | None:
    problems = context.problems
    entry = mapping(STEP_FIELDS, "a step")(node, problems)
    if entry is None or not isinstance(node.value, dict):
        return None
    if (entry["given"] is None) == (entry["generate"] is None):
        problems.add(node.place, "a step needs either 'given' or 'generate'", "write one of the two")
        return None
    if entry["generate"] is not None:
        for key in node.value.keys() & STEP_FIELDS.keys() - {"generate", "after"}:
            problems.add(node.value[key].named, f"'{key}' does not go with 'generate'", "write it in a step of its own")
        generated = _generated(entry["generate"], context)
        return replace(generated, after=entry["after"] or 0) if generated is not None else None
    if not entry["times"] or None in (entry["every"], entry["after"], entry["lasts"]):
        return None
    for name, pattern in entry["each"].items():
        place = node.value["each"].at(name)
        if (signal := read_signal(name, place, context)) is None:
            return None
        try:
            for count in range(number + 1, number + entry["times"] + 1):
                _filled(pattern, count, signal)
        except ValueError as error:
            problems.add(place, f"{name}: {error}")
            return None
    given = read_values(entry["given"], context)
    answer = replace(_answer(entry["answer"], problems), duration=entry["lasts"] or None)
    return Step(given, entry["times"], entry["every"], entry["each"], answer, entry["after"])


def _generated(node: Node, context: Context) -> Generated | None:
    problems = context.problems
    if not isinstance(node.value, dict) or "scenario" not in node.value:
        problems.add(node.place, "generate must be a mapping that names a scenario", "such as {scenario: ring}")
        return None
    named = node.value["scenario"]
    scenario = SCENARIOS.get(str(named.value))
    if scenario is None:
        problems.add(named.place, f"unknown scenario {named.plain()!r}", did_you_mean(str(named.value), list(SCENARIOS)))
        return None
    before = len(problems.found)
    entry = mapping({**COMMON_FIELDS, **scenario.fields}, f"scenario '{scenario.name}'")(node, problems)
    if entry is None:
        return None
    given = read_values(entry["given"], context) if entry["given"] is not None else {}
    for name in entry["without"]:
        read_signal(name, node.at("without"), context)
    if len(problems.found) > before:
        return None
    parameters = {name: entry[name] for name in scenario.fields}
    if not parameters["over"]:
        problems.add(node.at("over"), "over: a scenario takes some time", "such as 1h")
        return None
    if scenario.size(parameters) > MOST:
        problems.add(node.place, f"more than {MOST} exchanges", "a rule test is small; dry-run is not")
        return None
    return Generated(scenario, parameters, entry["seed"], given, frozenset(entry["without"]))


def read_values(node: Node, context: Context) -> dict[str, object]:
    """Signal values by name, typed; what cannot be read is left out."""
    if not isinstance(node.value, dict):
        context.problems.add(node.place, f"given must be a mapping, not {node.kind}")
        return {}
    values: dict[str, object] = {}
    for name, child in node.value.items():
        if (signal := read_signal(name, child.named, context)) is None:
            continue
        try:
            values[name] = signal.type.parse(child.plain())
        except ValueError as error:
            context.problems.add(child.place, f"{name}: {error}")
    return values


def read_signal(name: str, place: Place, context: Context) -> Signal | None:
    """The signal of this name, if it is known with the request."""
    signal = context.catalogue.get(name)
    if signal is None:
        context.problems.add(place, f"unknown signal '{name}'", did_you_mean(name, list(context.catalogue)))
    elif signal.settled:
        context.problems.add(place, f"'{name}' is only known after the answer", "write it under 'answer'")
        return None
    return signal


def _answer(node: Node | None, problems: Problems) -> Answer:
    entry = mapping(ANSWER_FIELDS, "an answer")(node, problems) if node is not None else None
    if entry is None or node is None or not isinstance(node.value, dict):
        return Answer()
    for key in _ANSWERED:
        if key in node.value and f"response.{key}" in node.value:
            problems.add(node.value[key].named, f"'{key}' and 'response.{key}' are one value", "write it once")
    said = {key: entry[key] if entry[key] is not None else entry[f"response.{key}"] for key in _ANSWERED}
    return Answer(said.pop("status"), Usage(**said))
