"""OpenTelemetry spans: SERVER → policy → and, when the request went upstream, CLIENT.

Laid out from settled records by the trail's thread, never on the hot path, with ids drawn when the exchange was judged.
`conventions` says what stands in them; the policy span has one event for each rule that matched, with its evidence. Sampling
was decided at judge time, so everything that arrives here is exported, as far as the endpoint keeps up (`delivery`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from gateway.audit.content import LARGEST
from gateway.audit.conventions import (
    CALL,
    CLIENT,
    CONTENT,
    EVIDENCE,
    OTHER,
    POLICY,
    RULE,
    SERVER,
    Attribute,
    Matched,
    Settled,
    Subject,
    method_of,
    operation_of,
)  # fmt: skip
from gateway.audit.delivery import Delivery, Endpoint
from gateway.audit.identifiers import IDENTIFIERS
from gateway.audit.otlp import LONGEST_VALUE, MOST_EVENTS, Kind, Pairs, Place, event, pairs, request, request_of, span
from gateway.audit.senders import TRACES, sender_of
from gateway.breaker import Breaker
from gateway.decision import RuleEnd, Verdict
from gateway.facts import Answer
from gateway.judgement import Judgement
from gateway.readings import rule_values
from gateway.values import Failed, Missing

SCOPE: Final = "sluicegate"
ONE_US: Final = 1_000  # ns
LONGEST_CONTENT: Final = 8 * LARGEST  # JSON of the most that may be captured; what was cut of that is said in the record
EVENT: Final = "security_rule.match"
MOST_FIXED: Final = 8_192  # ends of rules of which is kept what is said of them
UNTOLD: Final = Missing("not in the record")
Server = tuple[str, int]


def beginning_of(service: str = SCOPE) -> tuple[bytes, bytes]:
    """What every request begins with: the resource, as the SDK finds it (`OTEL_RESOURCE_ATTRIBUTES` too), and the scope."""
    return request_of(Resource.create({"service.name": service}).attributes, SCOPE, version("sluicegate"))  # type: ignore[arg-type]


class OtelSpans:
    """Lays out spans and has them delivered. servers: the upstream of each protocol that has but one, as host and port."""

    def __init__(self, endpoint: Endpoint, servers: Mapping[str, Server] | None = None, *, dropping: bool = False) -> None:
        self._delivery = Delivery(sender_of(endpoint, TRACES, partial(request, beginning_of())), dropping=dropping)
        self._servers = servers or {}
        self._fixed: dict[RuleEnd, tuple[bytes, ...]] = {}
        self._policy = ""

    def emit(self, judgement: Judgement, answer: Answer, entry: Mapping[str, Any]) -> None:
        """The spans of one exchange."""
        self._delivery.put(self.laid_out(judgement, answer, entry))

    @property
    def breaker(self) -> Breaker:
        """Whether the endpoint is asked now."""
        return self._delivery.breaker

    def close(self) -> None:
        self._delivery.close()

    def health(self) -> dict[str, object]:
        return self._delivery.health()

    def laid_out(self, judgement: Judgement, answer: Answer, entry: Mapping[str, Any]) -> list[bytes]:
        """The spans of one exchange as bytes: SERVER, policy and, where the request went upstream, CLIENT."""
        trace, facts = judgement.trace, judgement.facts
        assert trace is not None
        settled = Settled(judgement, answer, entry, self._servers.get(facts.protocol or ""))
        start = facts.at * ONE_US
        judged, end = start + judgement.judged_in, start + (answer.duration or 0) * ONE_US
        method = method_of(facts)
        known = "HTTP" if method is OTHER else method
        server = span(
            Place(trace.trace_id, trace.server, trace.parent, trace.state, remote=trace.parent != 0),
            f"{known} {facts.template}" if facts.template else known, Kind.SERVER, (start, end), _pairs(SERVER, settled),
            failed="" if answer.status is not None and answer.status >= 500 else None,
        )  # fmt: skip
        inner = span(
            Place(trace.trace_id, trace.policy, trace.server, trace.state), "sluice.judge", Kind.INTERNAL, (start, judged),
            _pairs(POLICY, settled), self._events(judgement, judged, entry),
        )  # fmt: skip
        if judgement.outcome.refusal is not None:
            return [server, inner]
        table = (*CALL, *CLIENT) if facts.call is not None else CLIENT
        said = _pairs(CONTENT, settled, LONGEST_CONTENT) if judgement.capture else Pairs()
        known_of, content = _pairs(table, settled), said.encoded
        failed = settled.failed if settled.failed else "" if (answer.status or 0) >= 400 else None
        client = span(
            Place(trace.trace_id, trace.client, trace.server, trace.state), _call_name(settled, known), Kind.CLIENT,
            (judged, end), Pairs([*known_of.encoded, *content], known_of.dropped), failed=failed,
        )  # fmt: skip
        return [server, inner, client]

    def _events(self, judgement: Judgement, at: int, entry: Mapping[str, Any]) -> Sequence[bytes]:
        """One for each rule that matched; where there are too many, the strongest come first and the others are counted."""
        ends = [end for end in judgement.outcome.decision.ends if end.verdict is Verdict.MATCH]
        if len(ends) > MOST_EVENTS:
            ends.sort(key=lambda end: (end.action, end.would), reverse=True)
        return [event(EVENT, at, self._rule(judgement, end, entry)) for end in ends]

    def _rule(self, judgement: Judgement, end: RuleEnd, entry: Mapping[str, Any]) -> Pairs:
        found = pairs((EVIDENCE + name, shown) for name, shown in evidence(judgement, end.rule, entry).items())
        return Pairs([*self._said(judgement, end), *found.encoded], found.dropped)

    def _said(self, judgement: Judgement, end: RuleEnd) -> tuple[bytes, ...]:
        """What an event says of the rule itself, which is the same for every match of it: laid out once for each policy."""
        policy = judgement.engine.policy
        if policy.digest != self._policy:
            self._fixed.clear()
            self._policy = policy.digest
        found = self._fixed.get(end)
        if found is None:
            rule = policy.rule(end.rule)
            assert rule is not None
            matched = Matched(rule, end, policy.packs[rule.pack])
            found = tuple(_pairs(RULE, matched).encoded)
            if len(self._fixed) < MOST_FIXED:
                self._fixed[end] = found
        return found


def evidence(judgement: Judgement, rule_id: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """The values a rule names as its evidence, as a person would write them; absent ones are left out.

    What says who somebody is (`IDENTIFIERS`) is told as the record has it, which may be a hash.
    """
    rule = judgement.engine.policy.rule(rule_id)
    if rule is None:
        return {}
    values = rule_values(rule, judgement.view, judgement.evaluated.values)
    shown = {}
    for name in rule.evidence:
        value = entry["signals"].get(name, UNTOLD) if name in IDENTIFIERS and name not in rule.measures else values(name)
        kind = rule.measures[name].type if name in rule.measures else judgement.view.catalogue[name].type
        if not isinstance(value, (Missing, Failed)):
            shown[name] = kind.show(value)
    return shown


def _pairs(table: Sequence[Attribute[Subject]], subject: Subject, longest: int = LONGEST_VALUE) -> Pairs:
    return pairs([(one.name, one.read(subject)) for one in table], longest)


def _call_name(settled: Settled, method: str) -> str:
    """The name of a call. With its model only where the upstream knows it: callers can invent names of models without end."""
    call, status = settled.call, settled.answer.status
    if call is None:
        return method
    knows = call.model and status is not None and status < 400
    return f"{operation_of(settled.facts)} {call.model}" if knows else operation_of(settled.facts)
