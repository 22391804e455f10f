"""The audit record: one decision as one JSON object, enough to explain it and to decide it again.

What stands in a record, and nothing else: ids and times; method, path (without its query), protocol and route; the values
of the signals that were resolved, with the reasons of those that were missing or failed; every measure; every rule that
did not simply fail to match; both decisions; the declared workloads in whose scope it is; what was done; how the answer
ended. Prompts, credentials and raw keys do not: signals carry keyed hashes only. Where an operator has content captured on a
route, it stands under `content`, which says so. `ids and latencies` are the fields that
differ between two runs of the same exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

from gateway.audit.content import captured
from gateway.decision import Decision, Outcome, Refusal, Room, RuleEnd, Verdict
from gateway.declarations import Standing, standing_of
from gateway.evaluation import reader
from gateway.facts import Answer, End, Facts
from gateway.judgement import Judgement
from gateway.language.policy import Policy
from gateway.signals import NOT_RECORDED, Signal, View
from gateway.values import AtLeast, Failed, Missing, timestamp_text

VERSION: Final = 1
LONGEST_PATH: Final = 512
LONGEST_METHOD: Final = 32
SHAPES: Final = 1_024  # layouts kept: exchanges judged by one policy resolve few different sets of signals
Reader = Callable[[Mapping[str, Any]], tuple[Any, ...]]
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
    if measured := _known_errors(outcome.decision, engine.policy):
        entry["measured"] = measured
    if judgement.capture:
        entry["content"] = captured(facts.call, answer, judgement.capture)
    if judgement.halt:
        entry["policy"]["halt"] = judgement.halt
    if outcome.cause:
        entry["exchange"]["cause"] = str(outcome.cause)
    if outcome.state_error:
        entry["state_error"] = outcome.state_error
    if judgement.failing:
        entry["failing"] = judgement.failing
    if judgement.settle_error:
        entry["settle_error"] = judgement.settle_error
    if judgement.trace is not None:
        trace = judgement.trace
        entry["trace"] = {"trace_id": f"{trace.trace_id:032x}", "span_id": f"{trace.server:016x}", "kept": judgement.kept}
    return entry


def _known_errors(decision: Decision, policy: Policy) -> dict[str, Any]:
    """What is known now of the errors of the rules that matched, by rule."""
    rules = (policy.rule(end.rule) for end in decision.ends if end.verdict is Verdict.MATCH)
    return {rule.id: rule.measured.plain() for rule in rules if rule is not None and rule.measured is not None}


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
    values |= {
        name: Missing(reason) for name, reason in entry.get("missing", {}).items()
        if reason != NOT_RECORDED.reason or (name in view_types and view_types[name].settled)
    }  # fmt: skip
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
    values: dict[str, Any] = view.resolved
    laid = _laid_out(tuple(values), tuple(map(type, values.values())), after)
    told = dict(zip(laid.told, laid.read(values), strict=True))
    for name in laid.shaped:
        told[name] = view.catalogue[name].type.plain(told[name])
    found = {"signals": told, "missing": {name: values[name].reason for name in laid.missing}}
    return {**found, "failed": {name: values[name].reason for name in laid.failed}} if laid.failed else found


def _measures(measures: Mapping[str, object]) -> dict[str, object]:
    laid = _laid_out(tuple(measures), tuple(map(type, measures.values())))
    found = dict(zip(laid.all, laid.read_all(measures), strict=True))
    for label in laid.measured:
        found[label] = _measured(found[label])
    return found


class _Layout(NamedTuple):
    """How values by name are laid out in a record, by name: all of them; those that stand there as values; those that are
    missing; those that failed. shaped: of those told, signals whose JSON form is another; measured: of all, measures like that.
    """

    all: tuple[str, ...]
    read_all: Reader
    told: tuple[str, ...]
    read: Reader
    missing: tuple[str, ...]
    failed: tuple[str, ...]
    shaped: tuple[str, ...]
    measured: tuple[str, ...]


@lru_cache(maxsize=SHAPES)
def _laid_out(names: tuple[str, ...], kinds: tuple[type, ...], after: frozenset[str] = frozenset()) -> _Layout:
    """The layout of values of these classes. after: names of those that stand elsewhere, unless they are missing or failed."""
    by = dict(sorted(zip(names, kinds, strict=True)))
    told = tuple([name for name, kind in by.items() if kind not in (Missing, Failed) and name not in after])
    return _Layout(
        tuple(by), reader(tuple(by)), told, reader(told),
        missing=tuple([name for name, kind in by.items() if kind is Missing]),
        failed=tuple([name for name, kind in by.items() if kind is Failed]),
        shaped=tuple([name for name in told if by[name] not in _AS_THEY_ARE]),
        measured=tuple([name for name, kind in by.items() if kind in (AtLeast, Missing, Failed)]),
    )  # fmt: skip


def _rule(end: RuleEnd) -> dict[str, Any]:
    """What a record says of a rule's end."""
    found = end.plain
    if found is None:
        found = rule_end(end)
        object.__setattr__(end, "plain", found)
    return {**found}


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
    if answer.end not in (End.COMPLETE, End.REFUSED):  # only then they say what the usage does not
        entry |= {name: count for name, count in (("events", answer.events), ("size", answer.size)) if count}
    return entry
