"""What spans of one request cost, by the ways there are to build them: `python -m tests.bench.spans`.

The same three spans, with the attributes and events of a real judged exchange, from values to the bytes of a request of 512
spans: through the SDK's tracer, as the SDK's readable spans, as the protocol's generated classes, and as `audit.otlp` writes
them. CPU of one thread, all ways in turns, the least of the rounds; ratios say more than times. Last, the whole of what the
trail's thread does for a request: values read from the record, and spans laid out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from gateway.audit.conventions import CALL, CLIENT, POLICY, RULE, SERVER, Matched, Settled
from gateway.audit.delivery import Endpoint
from gateway.audit.otlp import Kind, Place, event, pairs, request, request_of, span
from gateway.audit.record import record
from gateway.audit.spans import OtelSpans
from gateway.audit.trace import begin
from gateway.decision import Verdict
from gateway.facts import Answer, Call, End, Facts, Message, Usage
from gateway.gate import Gate
from tests.audit.test_spans import PACK
from tests.judging import CATALOGUE, START, policy

BATCH, ROUNDS, REQUESTS = 512, 7, 1_000
Values = dict[str, Any]
KINDS = (SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT)
RESOURCE, SCOPE = Resource.create({"service.name": "sluicegate"}), InstrumentationScope("sluicegate")


def settled() -> Settled:
    """A streamed call that two rules matched."""
    call = Call("chat", "m-1", True, {"max_tokens": 128, "temperature": 0.5}, "", (Message("user", "x"),), max_tokens=128)
    exchange = Facts(
        at=START, path="/v1/chat/completions", protocol="openai", route="chat.completions", template="/v1/chat/completions",
        headers=(("user-agent", "OpenAI/Python 3.54.0"), ("host", "gateway.example")), size=2_048, peer="198.51.100.7",
        call=call,
    )  # fmt: skip
    judgement = Gate(policy(PACK), CATALOGUE).judge(exchange)
    judgement.trace = begin([])
    answer = Answer(200, Usage(12, 34, 5, 6), End.COMPLETE, "m-1-2026", 1_500, 9_000)
    return Settled(judgement, answer, record(judgement, answer))


def values_of(one: Settled) -> tuple[list[Values], list[Values]]:
    """What stands in the three spans, and in the events of the second."""
    spans = [{a.name: a.read(one) for a in table} for table in (SERVER, POLICY, (*CALL, *CLIENT))]
    told = []
    for end in one.judgement.outcome.decision.ends:
        rule = one.judgement.engine.policy.rule(end.rule)
        if end.verdict is Verdict.MATCH and rule is not None:
            told.append({a.name: a.read(Matched(rule, end, 3)) for a in RULE})
    return [{k: v for k, v in each.items() if v is not None} for each in spans], [
        {k: v for k, v in each.items() if v is not None} for each in told
    ]


class Gathered(SpanProcessor):
    """Encodes what the tracer ends, in batches."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)
        if len(self.ended) >= BATCH:
            encode_spans(self.ended).SerializeToString()
            self.ended = []


def by_tracer(spans: list[Values], events: list[Values]) -> Callable[[], None]:
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(Gathered())
    tracer = provider.get_tracer("sluicegate")

    def build() -> None:
        for kind, values in zip(KINDS, spans, strict=True):
            made = tracer.start_span("n", kind=kind, start_time=1)
            made.set_attributes(values)
            for told in events if kind is SpanKind.INTERNAL else ():
                made.add_event("security_rule.match", told, timestamp=1)
            made.end(end_time=2)

    return build


def as_readable(spans: list[Values], events: list[Values]) -> Callable[[], None]:
    context, gathered = SpanContext(1 << 100, 1, False, TraceFlags(1)), Gathered()

    def build() -> None:
        for kind, values in zip(KINDS, spans, strict=True):
            told = [Event("security_rule.match", one, 1) for one in events] if kind is SpanKind.INTERNAL else ()
            gathered.on_end(
                ReadableSpan(
                    "n", context, resource=RESOURCE, attributes=values, events=told, kind=kind, instrumentation_scope=SCOPE,
                    start_time=1, end_time=2,
                )
            )  # fmt: skip

    return build


def _any(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any(one) for one in value]))


def _key_values(values: Values) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in values.items()]


def as_classes(spans: list[Values], events: list[Values]) -> Callable[[], None]:
    gathered: list[Span] = []

    def build() -> None:
        for kind, values in enumerate(spans, 1):
            told = [
                Span.Event(time_unix_nano=1, name="security_rule.match", attributes=_key_values(one))
                for one in (events if kind == 2 else ())
            ]
            gathered.append(
                Span(
                    trace_id=b"1" * 16, span_id=b"1" * 8, name="n", kind=kind, start_time_unix_nano=1, end_time_unix_nano=2,  # type: ignore[arg-type]
                    attributes=_key_values(values), events=told,
                )
            )  # fmt: skip
        if len(gathered) >= BATCH:
            of = ResourceSpans(scope_spans=[ScopeSpans(spans=gathered)])
            ExportTraceServiceRequest(resource_spans=[of]).SerializeToString()
            gathered.clear()

    return build


def as_bytes(spans: list[Values], events: list[Values]) -> Callable[[], None]:
    gathered: list[bytes] = []
    beginning, place = request_of({"service.name": "sluicegate"}, "sluicegate", "1"), Place(1 << 100, 1)

    def build() -> None:
        for kind, values in zip((Kind.SERVER, Kind.INTERNAL, Kind.CLIENT), spans, strict=True):
            told = [event("security_rule.match", 1, pairs(one.items())) for one in events] if kind is Kind.INTERNAL else ()
            gathered.append(span(place, "n", kind, (1, 2), pairs(values.items()), told))
        if len(gathered) >= BATCH:
            request(beginning, gathered)
            gathered.clear()

    return build


def whole(one: Settled) -> Callable[[], None]:
    sink = OtelSpans(Endpoint("http://127.0.0.1:1"))

    def build() -> None:
        sink.laid_out(one.judgement, one.answer, one.entry)

    return build


def cost(build: Callable[[], None]) -> float:
    """µs of CPU a request."""
    began = time.thread_time()
    for _ in range(REQUESTS):
        build()
    return (time.thread_time() - began) / REQUESTS * 1e6


def main() -> None:
    one = settled()
    values, events = values_of(one)
    ways = {
        "the SDK's tracer": by_tracer(values, events), "readable spans of the SDK": as_readable(values, events),
        "the protocol's classes": as_classes(values, events), "as bytes (ours)": as_bytes(values, events),
        "ours, values read too": whole(one),
    }  # fmt: skip
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, build in ways.items():
            least[name] = min(least[name], cost(build))
    print(f"{sum(map(len, values))} attributes in three spans, {len(events)} events; CPU of one request's spans")
    for name, found in least.items():
        print(f"{name:28} {found:7.1f} us  {found / least['as bytes (ours)']:5.1f} x")


if __name__ == "__main__":
    main()
