"""Spans as a real OTLP endpoint receives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.audit.delivery import Endpoint
from gateway.audit.spans import OtelSpans
from gateway.audit.trace import begin
from gateway.audit.trail import Trail
from gateway.facts import Answer, Call, End, Facts, Message, Usage
from gateway.gate import Gate
from gateway.web.intake import Intake
from tests.collector import Collector, attributes, collector
from tests.judging import CATALOGUE, START, policy
from tests.ledgers import ledger

PACK = """
pack: demo
version: 3
language: 1
rules:
  - id: demo.large
    title: A large answer is asked for
    family: content
    owner: tests
    references: ["ATLAS:AML.T0024.002"]
    when: {request.max_tokens: {gte: 100}}
    then: {action: tag, tag: large}
    evidence: [request.max_tokens]
    mode: enforce
  - id: demo.denied
    title: A model that nobody may use
    family: identity
    owner: tests
    when: {request.model: forbidden}
    then: {action: deny}
    evidence: [request.model]
    mode: enforce
  - id: demo.shadow
    title: A rule on trial
    family: client
    owner: tests
    when: {request.model: {present: true}}
    then: {action: deny}
    mode: shadow
"""
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def settle(
    spans: OtelSpans,
    model: str = "m-1",
    answer: Answer | None = None,
    parent: str | None = PARENT,
    kept: bool = True,
    packs: tuple[str, ...] = (PACK,),
) -> str:
    call = Call(
        "chat",
        model,
        True,
        {"max_tokens": 128, "temperature": 0.5},
        "SECRET-SYSTEM",
        (Message("user", "SECRET-PROMPT"),),
        max_tokens=128,
    )
    exchange = Facts(
        at=START, path="/v1/chat/completions", protocol="openai", route="chat.completions", template="/v1/chat/completions",
        headers=(("user-agent", "curl/8"), ("authorization", "Bearer sk-SECRET")), credential="0123456789abcdef", size=321,
        peer="198.51.100.7", call=call,
    )  # fmt: skip
    trail = Trail(None, spans)
    gate = Gate(policy(*packs), CATALOGUE, sink=trail)
    judgement = gate.judge(exchange)
    judgement.trace, judgement.kept = begin([("traceparent", parent)] if parent else []), kept
    gate.settle(judgement, answer or Answer(200, Usage(12, 34, 5), End.COMPLETE, "m-1-2026", 1_500, 9_000))
    trail.close()
    return judgement.outcome.reference


def exported(act: Callable[[OtelSpans], object]) -> tuple[Collector, list[Any]]:
    with collector() as endpoint:
        spans = OtelSpans(Endpoint(endpoint.url))
        act(spans)
    return endpoint, endpoint.spans()


def by_kind(spans: list[Any]) -> dict[int, Any]:
    return {span.kind: span for span in spans}


def test_three_spans_with_the_right_parents() -> None:
    _, spans = exported(settle)
    kinds = by_kind(spans)
    server, inner, client = (kinds[k] for k in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT))
    assert {span.trace_id.hex() for span in spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert server.parent_span_id.hex() == "00f067aa0ba902b7"
    assert inner.parent_span_id == client.parent_span_id == server.span_id
    assert len({span.span_id for span in spans}) == 3
    assert (server.name, inner.name, client.name) == ("POST /v1/chat/completions", "sluice.judge", "chat m-1")


def test_times_are_the_exchanges_own() -> None:
    _, spans = exported(settle)
    server = by_kind(spans)[Span.SPAN_KIND_SERVER]
    assert server.start_time_unix_nano == START * 1_000
    assert server.end_time_unix_nano == (START + 9_000) * 1_000


def test_names_are_the_conventions() -> None:
    _, spans = exported(settle)
    server, client = (attributes(by_kind(spans)[kind]) for kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT))
    assert server["http.request.method"] == "POST"
    assert server["http.route"] == server["url.path"] == "/v1/chat/completions"
    assert server["http.response.status_code"] == 200
    assert server["user_agent.original"] == "curl/8"
    assert not any(name.startswith("gen_ai.") for name in server)
    wanted = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m-1",
        "gen_ai.request.max_tokens": 128, "gen_ai.request.temperature": 0.5, "gen_ai.response.model": "m-1-2026",
        "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 34, "gen_ai.usage.cache_read.input_tokens": 5,
    }  # fmt: skip
    assert wanted.items() <= client.items()


def test_what_was_asked_and_which_workload_covers_it_are_told() -> None:
    asking = PACK.replace("tag: large}", "tag: large, ask: benchmark}")
    workloads = """workloads:
  - {id: declared, kind: batch, accounts: ["key:0123456789abcdef"], from: 2020-01-01, until: 2040-01-01, owner: o, evidence: e}
"""
    _, spans = exported(lambda sink: settle(sink, packs=(asking, workloads)))
    told = attributes(by_kind(spans)[Span.SPAN_KIND_INTERNAL])
    assert (list(told["sluice.asked"]), list(told["sluice.workloads"])) == (["benchmark"], ["declared"])
    _, spans = exported(settle)
    plain = attributes(by_kind(spans)[Span.SPAN_KIND_INTERNAL])
    assert not {"sluice.asked", "sluice.workloads"} & plain.keys()


def test_one_event_per_matched_rule_with_evidence() -> None:
    _, spans = exported(settle)
    inner = by_kind(spans)[Span.SPAN_KIND_INTERNAL]
    events = {attributes(event)["security_rule.name"]: attributes(event) for event in inner.events}
    assert events.keys() == {"demo.large", "demo.shadow"}
    large = events["demo.large"]
    assert large["security_rule.category"] == "content"
    assert large["security_rule.ruleset.name"] == "demo"
    assert large["security_rule.version"] == "3"
    assert large["security_rule.reference"] == "ATLAS:AML.T0024.002"
    assert large["sluice.evidence.request.max_tokens"] == "128"
    assert large["sluice.rule.action"] == "tag"
    assert (events["demo.shadow"]["sluice.rule.action"], events["demo.shadow"]["sluice.rule.would"]) == ("allow", "deny")
    assert attributes(inner)["sluice.would"] == "deny"


def test_a_refusal_has_no_client_span() -> None:
    _, spans = exported(lambda otel: settle(otel, model="forbidden", answer=Answer(403, end=End.REFUSED)))
    assert {span.kind for span in spans} == {Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL}
    assert attributes(by_kind(spans)[Span.SPAN_KIND_INTERNAL])["sluice.action"] == "deny"


def test_a_broken_upstream_is_an_error_on_the_client_span() -> None:
    _, spans = exported(lambda otel: settle(otel, answer=Answer(200, end=End.UPSTREAM_CUT)))
    assert attributes(by_kind(spans)[Span.SPAN_KIND_CLIENT])["error.type"] == "upstream-cut"


def test_the_reference_a_caller_sees_stands_in_the_trace() -> None:
    references: list[str] = []
    _, spans = exported(lambda otel: references.append(settle(otel)))
    assert attributes(by_kind(spans)[Span.SPAN_KIND_SERVER])["sluice.reference"] == references[0]


def test_no_trace_context_starts_a_trace_of_its_own() -> None:
    _, spans = exported(lambda otel: settle(otel, parent="00-junk"))
    assert by_kind(spans)[Span.SPAN_KIND_SERVER].parent_span_id == b""
    assert len({span.trace_id for span in spans}) == 1


def test_what_was_not_kept_is_not_exported() -> None:
    _, spans = exported(lambda otel: settle(otel, kept=False))
    assert spans == []


def test_prompts_and_keys_appear_nowhere() -> None:
    endpoint, spans = exported(settle)
    assert spans
    assert b"SECRET" not in endpoint.raw()


def test_losses_are_counted() -> None:
    with collector() as endpoint:
        endpoint.status = 400
        spans = OtelSpans(Endpoint(endpoint.url))
        settle(spans)
    assert spans.health()["lost"] == 3
    assert spans.health()["exported"] == 0


def test_records_go_to_the_file_as_well(tmp_path: Path) -> None:
    with collector() as endpoint:
        trail = Trail(tmp_path / "audit", OtelSpans(Endpoint(endpoint.url)))
        gate = Gate(policy(PACK), CATALOGUE, sink=trail)
        judgement = gate.judge(Facts(at=START, call=Call("chat", "m", messages=(Message("user", "SECRET"),))))
        judgement.trace = begin([])
        gate.settle(judgement, Answer(200))
        trail.close()
    (entry,) = ledger(tmp_path / "audit")
    assert entry["trace"]["span_id"] in {span.span_id.hex() for span in endpoint.spans()}
    assert "SECRET" not in json.dumps(entry)


def test_the_intake_never_puts_a_raw_key_into_facts() -> None:
    from gateway.registry import load as load_registry
    from gateway.web.intake import Body, Head

    intake = Intake(load_registry({}), b"a key of the tests' own")
    head = Head("POST", "/v1/chat/completions", headers=(("authorization", "Bearer sk-SECRET"),))
    found = intake.facts(head, Body(raw=b'{"messages": []}'), START)
    assert found.credential is not None
    assert "SECRET" not in found.credential
    assert "SECRET" not in repr(found)


def test_text_that_no_exporter_can_encode_costs_nobody_a_span() -> None:
    def three(otel: OtelSpans) -> None:
        for model in ("good", "\ud800", "good too"):
            settle_on(otel, model)

    def settle_on(otel: OtelSpans, model: str) -> None:
        call = Call("chat", model, messages=(Message("user", "x"),))
        trail = Trail(None, otel)
        gate = Gate(policy(PACK), CATALOGUE, sink=trail)
        judgement = gate.judge(Facts(at=START, call=call))
        judgement.trace = begin([])
        gate.settle(judgement, Answer(200, model=model))
        trail.flush()

    def run(otel: OtelSpans) -> None:
        three(otel)
        otel.close()
        assert otel.health()["exported"] == 9

    _, spans = exported(run)
    assert len(spans) == 9
