"""One decision, explained from its audit record alone, by the functions that decided.

The record's signal values and measures are put back where they stood and the same engine evaluates the same rules. If that
gives another answer than the record holds, this says so loudly instead of telling a story.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.audit.record import decided, recorded_measures, rule_end
from gateway.decision import Decision, Mode, Room, RuleEnd, Verdict
from gateway.enforcement import CAUSE_ANSWERS
from gateway.engine import Engine, Evaluated
from gateway.errors import ReplayError
from gateway.facts import Cause
from gateway.gate import under
from gateway.language.conditions import Condition, Leaf
from gateway.language.policy import Policy, Rule
from gateway.readings import rule_values
from gateway.replay.sources import Exchange
from gateway.signals import Catalogue, View
from gateway.state.operations import Reply
from gateway.values import DURATION, SECOND, AtLeast, Failed, Missing, Type, parse_timestamp

_TRUTH: Final = {True: "true", False: "false", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision evaluated again. same_policy: whether the record was made by this policy."""

    entry: Mapping[str, Any]
    engine: Engine
    view: View
    evaluated: Evaluated
    decision: Decision
    same_policy: bool


def explain(exchange: Exchange, entry: Mapping[str, Any], policy: Policy, catalogue: Catalogue) -> Explanation:
    """Evaluate a record again. Raises ReplayError when the same policy now gives another answer."""
    engine = Engine(under(policy, Mode(entry["policy"]["mode"])))
    view = View(exchange.facts, catalogue)
    measures = recorded_measures(entry)
    prepared = engine.prepare(view, limits=False)
    notes = [spec.notes[family, enforced].label for spec, family, enforced in prepared.noted]
    readings = [measures.get(label, Missing("not recorded")) for label in prepared.labels]
    evaluated = engine.evaluate(view, prepared, Reply([*readings, *(measures.get(label, 0) for label in notes)]))  # type: ignore[list-item]
    decision = engine.decide(evaluated, _rooms(entry))
    same = entry["policy"]["digest"] == policy.digest
    if same:
        _compare(entry, decision)
    return Explanation(entry, engine, view, evaluated, decision, same)


def tell(explanation: Explanation, only: str | None = None) -> Iterator[str]:
    """The explanation as lines of text. `only` names one rule; else every rule that did not simply fail to match."""
    yield from _head(explanation)
    ended = {end.rule: end for end in explanation.decision.ends}
    for rule in explanation.engine.policy.rules:
        end = ended.get(rule.id)
        if rule.mode is not Mode.OFF and (rule.id == only if only else end is not None):
            yield ""
            yield from _rule(rule, end or RuleEnd(rule.id, rule.mode, Verdict.NO_MATCH))
            yield from _condition(rule.when, rule, explanation, "  ")


def _head(explanation: Explanation) -> Iterator[str]:
    entry, policy = explanation.entry, explanation.engine.policy
    exchange, outcome, made_by = entry["exchange"], entry["outcome"], entry["policy"]
    yield f"{entry['reference']}  {entry['at']}  {exchange['method']} {exchange['path']}"
    yield _line("policy", f"{made_by['digest'][:19]}… version {made_by['version']}, mode {made_by['mode']}")
    if not explanation.same_policy:
        yield _line("", f"evaluated below by another policy: {policy.digest[:19]}… version {policy.version}")
    for name in ("account.id", "client.ip", "client.country"):
        if name in entry["signals"]:
            yield _line(name, entry["signals"][name])
    answered = f", status {outcome['status']}, code {outcome['code']}" if "status" in outcome else ""
    yield _line("outcome", f"{outcome['action']}{answered}")
    yield _line("would", f"{outcome['would']} (as if every shadow rule were enforced)")
    if "cause" in exchange:
        yield _line("cause", f"{exchange['cause']}: {CAUSE_ANSWERS[Cause(exchange['cause'])][1].message}")
    for name in ("state_error", "settle_error"):
        if name in entry:
            yield _line(name, entry[name])
    for room in entry["limits"]:
        said = "had room" if room["allowed"] else "had no room"
        shadow = ", shadow" if room.get("shadow") else ""
        yield _line("limit", f"{room['id']}{shadow}: {said}, {room['remaining']} left, resets {room['resets_at']}")


def _line(name: str, text: str) -> str:
    return f"{name:<16}{text}"


def _rule(rule: Rule, end: RuleEnd) -> Iterator[str]:
    yield f"{rule.id}  {end.verdict}  ({rule.family}, {rule.mode})  {rule.title}"
    if end.verdict is Verdict.MATCH:
        yield f"  action {end.action}, would be {end.would}" + (f", step {end.step + 1}" if end.step is not None else "")
        if rule.corroborate is not None:
            others = ", ".join(end.corroborated) or "none"
            yield f"  corroboration: needs {rule.corroborate.families} families; other families seen: {others}"
    if end.excepted:
        yield f"  exempted by exception {end.excepted}"
    if end.error:
        yield f"  error: {end.error}"


def _condition(condition: Condition, rule: Rule, explanation: Explanation, indent: str) -> Iterator[str]:
    values = rule_values(rule, explanation.view, explanation.evaluated.values)
    truth = _TRUTH[condition.evaluate(values)]
    if not isinstance(condition, Leaf):
        yield f"{indent}{condition.word}: {truth}"
        for part in condition.parts:
            yield from _condition(part, rule, explanation, indent + "  ")
        return
    value = values(condition.name)
    shown = f"({value.reason})" if isinstance(value, (Missing, Failed)) else _spoken(condition.type, value)
    label = rule.measures[condition.name].label if condition.name in rule.measures else ""
    yield f"{indent}{truth:<8}{condition}; it is {shown}{_margin(condition, value)}" + (f"   [{label}]" if label else "")


def _margin(leaf: Leaf, value: object) -> str:
    number = value.count if isinstance(value, AtLeast) else value
    ordered = leaf.operator.name in ("lt", "lte", "gt", "gte")
    if not ordered or isinstance(number, bool) or not isinstance(number, (int, float)):
        return ""
    distance = abs(number - leaf.operand)
    return f", {_spoken(leaf.type, round(distance, 6) if isinstance(distance, float) else distance)} from the threshold"


def _spoken(kind: Type, value: object) -> str:
    """A value for people: durations to their two largest units."""
    if kind is not DURATION or not isinstance(value, int) or value < SECOND:
        return kind.show(value)
    seconds = value // SECOND
    parts = [(seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    while not parts[0][0]:
        parts = parts[1:]
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def _rooms(entry: Mapping[str, Any]) -> list[Room]:
    return [
        Room(room["id"], room["allowed"], room["remaining"], parse_timestamp(room["resets_at"]), room.get("shadow", False))
        for room in entry["limits"]
    ]


def _compare(entry: Mapping[str, Any], decision: Decision) -> None:
    again = [rule_end(end) for end in decision.ends]
    views = {"decision": decided(decision, enforced=True), "would": decided(decision, enforced=False)}
    if again == entry["rules"] and all(entry[name] == view for name, view in views.items()):
        return
    before = {end["id"]: end for end in entry["rules"]}
    after = {end["id"]: end for end in again}
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    first = differing[0] if differing else "the decision"
    raise ReplayError(
        f"{entry['reference']}: evaluated again, {first} ends as {after.get(first, {}).get('verdict', 'no_match')} where the"
        f" record says {before.get(first, {}).get('verdict', 'no_match')}: the record was altered, or the engine changed"
    )
