"""The audit record: one decision as one JSON object, enough to explain it and to decide it again.

What stands in a record, and nothing else: ids and times; method, path (without its query), protocol and route; the values
of the signals that were resolved, with the reasons of those that were missing or failed; every measure; every rule that
did not simply fail to match; both decisions; the declared workloads in whose scope it is; what was done; how the answer
ended. Prompts, credentials and raw keys do not: signals carry keyed hashes only. `ids and latencies` are the fields that
differ between two runs of the same exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Final

from gateway.decision import Decision, Outcome, Refusal, Room, RuleEnd, Verdict
from gateway.declarations import Standing, standing_of
from gateway.facts import Answer, End, Facts
from gateway.judgement import Judgement
from gateway.signals import Signal, View
from gateway.values import AtLeast, Failed, Missing, timestamp_text

VERSION: Final = 1
LONGEST_PATH: Final = 512
LONGEST_METHOD: Final = 32
SHAPES: Final = 1_024  # layouts kept: exchanges judged by one policy resolve few different sets of signals
_AS_THEY_ARE: Final = frozenset({str, bool, float})  # whose JSON form is the value itself, whatever the type of the signal
_USAGE: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_used: Final = attrgetter(*_USAGE)
VARIABLE: Final = ("id", "reference", "timing", "trace")


def record(judgement: Judgement, answer: Answer) -> dict[str, Any]:
    """The audit record of a settled exchange."""
    outcome, facts, engine = judgement.outcome, judgement.facts, judgement.engine
    answered = {**_answer(answer), **_answered(judgement.view, engine.answered)}
    entry: dict[str, Any] = {
        "v": VERSION,
        "id": outcome.id,
        "reference": outcome.reference,
        "at": timestamp_text(facts.at),
        "policy": {"digest": engine.policy.digest, "version": engine.policy.version, "mode": str(judgement.mode)},
        "exchange": _exchange(facts),
        **_signals(judgement.view, engine.after),
        **_declarations(judgement.view),
        "measures": _measures(outcome.decision.measures),
        "rules": [_rule(end) for end in outcome.decision.ends],
        "decision": decided(outcome.decision, enforced=True),
        "would": decided(outcome.decision, enforced=False),
        "limits": [_room(room) for room in outcome.rooms],
        "outcome": {"action": str(outcome.action), "would": str(outcome.would), **_done(outcome)},
        "answer": answered,
        "timing": {"judged_ns": judgement.judged_in, "first_byte_us": answer.first_byte, "duration_us": answer.duration},
    }
    if outcome.cause:
        entry["exchange"]["cause"] = str(outcome.cause)
    if outcome.state_error:
        entry["state_error"] = outcome.state_error
    if judgement.settle_error:
        entry["settle_error"] = judgement.settle_error
    if judgement.trace is not None:
        trace = judgement.trace
        entry["trace"] = {"trace_id": f"{trace.trace_id:032x}", "span_id": f"{trace.server:016x}", "kept": judgement.kept}
    return entry


def _declarations(view: View) -> dict[str, Any]:
    """The declared workloads in whose scope it is, and the signals of them that a rule test gave in their place."""
    found: dict[str, Any] = {}
    if standing := standing_of(view):
        found["workloads"] = [declared(one) for one in standing]
    if view.facts.recorded is not None:
        given = sorted(name for name in view.resolved if view.catalogue[name].derived and name in view.facts.recorded)
        found |= {"given": given} if given else {}
    return found


def _done(outcome: Outcome) -> dict[str, Any]:
    """What was done, besides the action."""
    found = _refusal(outcome.refusal)
    if outcome.asked:
        found["asked"] = [{"kind": one.kind, "by": list(one.by)} for one in outcome.asked]
    if outcome.tags:
        found["tags"] = list(outcome.tags)
    if outcome.delay:
        found["delay_us"] = outcome.delay
    if outcome.restriction is not None:
        found |= {"restriction": outcome.restriction.plain(), "restricted": outcome.restriction.said()}
    return found


def stable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record without ids and latencies: equal for equal exchanges, whatever face they came through."""
    return {key: value for key, value in entry.items() if key not in VARIABLE}


def recorded_signals(entry: Mapping[str, Any], view_types: Mapping[str, Any]) -> dict[str, object]:
    """The signal values of a record, typed again. Raises ValueError for a value that does not fit its type.

    What the policy declared is left out: it is found anew under the policy that the record is evaluated by. Only a rule test
    can give such a value; its record says so under `given`.
    """
    values: dict[str, object] = {}
    for name, plain in entry.get("signals", {}).items():
        signal = view_types.get(name)
        values[name] = signal.type.parse(plain) if signal else plain
    values |= {name: Missing(reason) for name, reason in entry.get("missing", {}).items()}
    values |= {name: Failed(reason) for name, reason in entry.get("failed", {}).items()}
    kept = {*entry.get("given", ())}
    return {
        name: value for name, value in values.items() if name in kept or name not in view_types or not view_types[name].derived
    }


def recorded_answer(entry: Mapping[str, Any], catalogue: Mapping[str, Any]) -> dict[str, object]:
    """The values of a record's signals that were known after the answer, typed again. Raises as `recorded_signals`."""
    told, lacked = entry.get("answer", {}).get("signals", {}), entry.get("missing", {})
    values = {name: catalogue[name].type.parse(plain) for name, plain in told.items() if name in catalogue}
    return values | {name: Missing(reason) for name, reason in lacked.items() if name in catalogue and catalogue[name].settled}


def recorded_measures(entry: Mapping[str, Any]) -> dict[str, object]:
    """The measures of a record, as the engine knew them."""
    values: dict[str, object] = {}
    for label, plain in entry.get("measures", {}).items():
        if isinstance(plain, dict):
            (kind, said) = next(iter(plain.items()))
            values[label] = {"at_least": AtLeast, "missing": Missing, "failed": Failed}[kind](said)
        else:
            values[label] = plain
    return values


def _exchange(facts: Facts) -> dict[str, Any]:
    entry = {
        "method": facts.method[:LONGEST_METHOD], "path": facts.path[:LONGEST_PATH],
        "http_version": facts.http_version, "protocol": facts.protocol,
        "route": facts.route, "size": facts.size, "seen": facts.seen,
    }  # fmt: skip
    return {key: value for key, value in entry.items() if value is not None}


def _signals(view: View, after: frozenset[str]) -> dict[str, Any]:
    """The signals by what became of them, each in the order of names. after: those that stand with the answer."""
    told, catalogue = _ordered(view.resolved), view.catalogue
    kinds = tuple(map(type, told.values()))
    missing, failed, shaped = _apart(tuple(told), kinds)
    lacked = {name: told.pop(name).reason for name in missing}
    broken = {name: told.pop(name).reason for name in failed}
    for name in shaped:
        told[name] = catalogue[name].type.plain(told[name])
    for name in told.keys() & after:
        del told[name]
    found = {"signals": told, "missing": lacked}
    return {**found, "failed": broken} if broken else found


def _measures(measures: Mapping[str, object]) -> dict[str, object]:
    found = _ordered(measures)
    if len(kinds := {*map(type, found.values())}) > 1 or int not in kinds:
        for label, value in found.items():
            if type(value) is not int:
                found[label] = _measured(value)
    return found


def _ordered(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values in the order of records, by name."""
    names, read = _order(tuple(values))
    return dict(zip(names, read(values), strict=True))


@lru_cache(maxsize=SHAPES)
def _order(names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """Names sorted, and what reads their values in that order."""
    ordered = tuple(sorted(names))
    return ordered, itemgetter(*ordered) if len(ordered) > 1 else lambda values: tuple([values[name] for name in ordered])


@lru_cache(maxsize=SHAPES)
def _apart(names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[tuple[str, ...], ...]:
    """Of signals with values of these classes: those that are missing, that failed, and whose JSON form is another."""
    by = dict(zip(names, kinds, strict=True))
    shaped = tuple([name for name, kind in by.items() if kind not in _AS_THEY_ARE and kind not in (Missing, Failed)])
    return tuple([name for name in names if by[name] is Missing]), tuple([name for name in names if by[name] is Failed]), shaped


@lru_cache(maxsize=4_096)
def _remembered(end: RuleEnd) -> dict[str, Any]:
    return rule_end(end)


def _rule(end: RuleEnd) -> dict[str, Any]:
    """What a record says of a rule's end; that of errors speaks of values, of which there is no end."""
    return rule_end(end) if end.error else {**_remembered(end)}


def _measured(value: object) -> object:
    if isinstance(value, AtLeast):
        return {"at_least": value.count}
    if isinstance(value, Missing):
        return {"missing": value.reason}
    return {"failed": value.reason} if isinstance(value, Failed) else value


def rule_end(end: RuleEnd) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": end.rule, "mode": str(end.mode), "verdict": str(end.verdict)}
    if end.verdict is Verdict.MATCH:
        entry |= {"action": str(end.action), "would": str(end.would)}
    optional = {
        "asks": end.asks, "would_ask": end.would_ask if end.would_ask != end.asks else "",
        "missing": list(end.missing), "error": end.error, "excepted": end.excepted,
        "corroborated_by": list(end.corroborated), "step": end.step, "abstained": end.abstained,
    }  # fmt: skip
    return entry | {key: value for key, value in optional.items() if value not in ("", [], None)}


def declared(standing: Standing) -> dict[str, Any]:
    """A declared workload in whose scope an exchange is: whether it covers it, and of what it declares whether that holds.

    A truth is null where it was not known, or not counted because no rule asks for workloads of this kind.
    """
    workload = standing.workload
    entry: dict[str, Any] = {"id": workload.id, "kind": workload.kind, "covers": standing.covers, "in_time": standing.in_time}
    entry |= {"within_ceiling": standing.within_ceiling} if workload.ceiling else {}
    return entry | ({"within_items": standing.within_items} if workload.items else {})


def decided(decision: Decision, enforced: bool) -> dict[str, Any]:
    """One view of a decision, as records hold it: the action, and the rules that asked for it."""
    action = decision.action if enforced else decision.would
    by = [
        end.rule for end in decision.ends
        if end.verdict is Verdict.MATCH and (end.action if enforced else end.would) is action and action
    ]  # fmt: skip
    return {"action": str(action), "by": by}


def _room(room: Room) -> dict[str, Any]:
    entry = {
        "id": room.limit,
        "allowed": room.allowed,
        "remaining": room.remaining,
        "resets_at": timestamp_text(room.resets_at),
    }
    return {**entry, "shadow": True} if room.shadow else entry


def _refusal(refusal: Refusal | None) -> dict[str, Any]:
    if refusal is None:
        return {}
    entry = {"status": refusal.status, "code": refusal.public.code, "by": list(refusal.by)}
    return {**entry, "retry_after": refusal.retry_after} if refusal.retry_after is not None else entry


def _answered(view: View, known: Iterable[Signal]) -> dict[str, Any]:
    """What stands in no other field of the answer: values of signals that are recorded once it is known, in their order."""
    values = {signal.name: view.get(signal.name) for signal in known}
    told = {name: value for name, value in values.items() if not isinstance(value, (Missing, Failed))}
    return {"signals": {name: view.catalogue[name].type.plain(value) for name, value in told.items()}} if told else {}


def _answer(answer: Answer) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if answer.status is not None:
        entry["status"] = answer.status
    entry["end"] = str(answer.end)
    if answer.model is not None:
        entry["model"] = answer.model
    if usage := {name: value for name, value in zip(_USAGE, _used(answer.usage), strict=True) if value is not None}:
        entry["usage"] = usage
    if answer.events and answer.end is not End.COMPLETE:  # only then it says what the usage does not
        entry["events"] = answer.events
    return entry
