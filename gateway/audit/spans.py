"""OpenTelemetry spans: SERVER → policy → and, when the request went upstream, CLIENT.

Built from settled records by the trail's thread, never on the hot path, with ids drawn when the exchange was judged. Names
are the current semantic conventions': `http.*`, `client.*`, `gen_ai.*` on the model call only, `security_rule.*` on one
event per matched rule. Sampling was decided at judge time, so everything that arrives here is exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.facts import Answer, End, Facts
from gateway.judgement import Judgement, Trace
from gateway.readings import rule_values
from gateway.values import Failed, Missing

SCOPE: Final = "sluicegate"
ONE_US: Final = 1_000


class PresetIds(IdGenerator):
    """Hands out the ids that were drawn when the exchange was judged. Used by one thread only."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class CountingExporter(SpanExporter):
    """An exporter that counts what it delivered and what it lost."""

    def __init__(self, inner: SpanExporter) -> None:
        self.inner = inner
        self.exported = self.lost = 0
        self.problem = ""

    def export(self, spans: Any) -> SpanExportResult:
        try:
            result = self.inner.export(spans)
        except Exception as error:  # an exporter may be third-party code; what it cannot send is lost and counted
            result, self.problem = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
            self.problem = ""
        else:
            self.lost += len(spans)
            self.problem = self.problem or f"the traces endpoint takes nothing; {self.lost} spans lost"
        return result

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)


class OtelSpans:
    """Builds and exports spans. endpoint: an OTLP/HTTP traces URL; exporter: something else to export to."""

    def __init__(self, endpoint: str = "", service: str = SCOPE, exporter: SpanExporter | None = None) -> None:
        self._exporter = CountingExporter(exporter or OTLPSpanExporter(endpoint=endpoint, timeout=5))
        self._ids = PresetIds()
        self._made = 0
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            id_generator=self._ids,
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
        )
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=8_192, schedule_delay_millis=500)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer(SCOPE)

    def emit(self, judgement: Judgement, answer: Answer, entry: dict[str, Any]) -> None:
        """The spans of one exchange."""
        trace = judgement.trace
        assert trace is not None
        start = judgement.facts.at * ONE_US
        end = start + (answer.duration or 0) * ONE_US
        judged = start + judgement.judged_in
        server = self._span(trace, trace.server, trace.parent, _server_name(judgement.facts), SpanKind.SERVER, start)
        server.set_attributes(_server_attributes(judgement, answer, entry))
        policy = self._span(trace, trace.policy, trace.server, "sluice.judge", SpanKind.INTERNAL, start)
        policy.set_attributes(_policy_attributes(entry))
        for rule in entry["rules"]:
            if rule["verdict"] == "match":
                policy.add_event("security_rule.match", _rule_attributes(judgement, rule), timestamp=judged)
        policy.end(end_time=judged)
        if judgement.outcome.refusal is None:
            self._client(trace, judgement, answer, entry, judged, end)
        if answer.status is not None and answer.status >= 500:
            server.set_status(Status(StatusCode.ERROR))
        server.end(end_time=end)

    def flush(self) -> None:
        self._provider.force_flush()

    def close(self) -> None:
        self._provider.shutdown()

    def health(self) -> dict[str, object]:
        dropped = max(0, self._made - self._exporter.exported - self._exporter.lost)
        counts = {"made": self._made, "exported": self._exporter.exported, "lost": self._exporter.lost, "not_yet": dropped}
        return {**counts, "problem": self._exporter.problem}

    def _client(self, trace: Trace, judgement: Judgement, answer: Answer, entry: dict[str, Any], start: int, end: int) -> None:
        call = judgement.facts.call
        name = f"{call.operation} {call.model or ''}".strip() if call else judgement.facts.method
        client = self._span(trace, trace.client, trace.server, name, SpanKind.CLIENT, start)
        client.set_attributes(_call_attributes(judgement, answer))
        if answer.end not in (End.COMPLETE, End.REFUSED):
            client.set_attribute("error.type", str(answer.end))
            client.set_status(Status(StatusCode.ERROR, str(answer.end)))
        client.end(end_time=end)

    def _span(self, trace: Trace, span_id: int, parent: int, name: str, kind: SpanKind, start: int) -> api.Span:
        self._ids.trace_id, self._ids.span_id = trace.trace_id, span_id
        context = Context()
        if parent:
            above = SpanContext(trace.trace_id, parent, is_remote=parent == trace.parent, trace_flags=TraceFlags(1))
            context = api.set_span_in_context(NonRecordingSpan(above), context)
        self._made += 1
        return self._tracer.start_span(_sendable(name), context=context, kind=kind, start_time=start)


def _sendable(value: Any) -> Any:
    """The value without what no exporter can encode: halves of surrogate pairs, which JSON lets callers send."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _server_name(facts: Facts) -> str:
    return f"{facts.method} {facts.template}" if facts.template else facts.method


def _server_attributes(judgement: Judgement, answer: Answer, entry: Mapping[str, Any]) -> dict[str, Any]:
    facts, signals = judgement.facts, entry["signals"]
    found = {
        "http.request.method": facts.method,
        "url.path": facts.path,
        "network.protocol.version": facts.http_version,
        "http.response.status_code": answer.status,
        "http.request.body.size": facts.size,
        "client.address": signals.get("client.ip"),
        "geo.country.iso_code": signals.get("client.country"),
        "user_agent.original": facts.header("user-agent"),
        "http.route": facts.template,
        "error.type": str(answer.status) if answer.status and answer.status >= 500 else None,
        "sluice.reference": judgement.outcome.reference,
    }
    return {name: _sendable(value) for name, value in found.items() if value is not None}


def _policy_attributes(entry: Mapping[str, Any]) -> dict[str, Any]:
    rules = entry["rules"]
    told = {
        "sluice.asked": [asked["kind"] for asked in entry["outcome"].get("asked", ())],
        "sluice.workloads": [workload["id"] for workload in entry.get("workloads", ()) if workload["covers"]],
    }
    return {name: value for name, value in told.items() if value} | {
        "sluice.decision.id": entry["id"],
        "sluice.policy.digest": entry["policy"]["digest"],
        "sluice.policy.version": entry["policy"]["version"],
        "sluice.action": entry["outcome"]["action"],
        "sluice.would": entry["outcome"]["would"],
        "sluice.rules.matched": [rule["id"] for rule in rules if rule["verdict"] == "match"],
        "sluice.rules.unknown": [rule["id"] for rule in rules if rule["verdict"] == "unknown"],
        "sluice.rules.error": [rule["id"] for rule in rules if rule["verdict"] == "error"],
    }


def _rule_attributes(judgement: Judgement, end: Mapping[str, Any]) -> dict[str, Any]:
    rule = judgement.engine.policy.rule(end["id"])
    assert rule is not None
    found: dict[str, Any] = {
        "security_rule.name": rule.id,
        "security_rule.description": rule.title,
        "security_rule.category": rule.family,
        "security_rule.ruleset.name": rule.pack,
        "security_rule.version": str(judgement.engine.policy.packs[rule.pack]),
        "sluice.rule.mode": end["mode"],
        "sluice.rule.action": end["action"],
        "sluice.rule.would": end["would"],
    }
    if rule.references:
        found["security_rule.reference"] = rule.references[0]
    for name, shown in evidence(judgement, rule.id).items():
        found[f"sluice.evidence.{name}"] = _sendable(shown)
    return found


def evidence(judgement: Judgement, rule_id: str) -> dict[str, str]:
    """The values a rule names as its evidence, as a person would write them; absent ones are left out."""
    rule = judgement.engine.policy.rule(rule_id)
    if rule is None:
        return {}
    values = rule_values(rule, judgement.view, judgement.evaluated.values)
    shown = {}
    for name in rule.evidence:
        value = values(name)
        kind = rule.measures[name].type if name in rule.measures else judgement.view.catalogue[name].type
        if not isinstance(value, (Missing, Failed)):
            shown[name] = kind.show(value)
    return shown


def _call_attributes(judgement: Judgement, answer: Answer) -> dict[str, Any]:
    facts, usage = judgement.facts, answer.usage
    call = facts.call
    found: dict[str, Any] = {"http.request.method": facts.method, "http.response.status_code": answer.status}
    if call is not None:
        found |= {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": facts.protocol,
            "gen_ai.request.model": call.model,
            "gen_ai.request.max_tokens": call.parameters.get("max_tokens"),
            "gen_ai.request.temperature": call.parameters.get("temperature"),
            "gen_ai.request.stream": call.stream,
            "gen_ai.response.model": answer.model,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        }
    return {name: _sendable(value) for name, value in found.items() if value is not None}
