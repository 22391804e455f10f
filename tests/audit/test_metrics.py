"""Metrics: one table, over Prometheus and over OTLP alike; bounded labels; exports that are lost are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.counted import MODELS, Counted
from gateway.audit.delivery import Endpoint
from gateway.audit.exposed import Exporter, prometheus_name
from gateway.audit.metrics import INSTRUMENTS, Kind, Source
from gateway.dependencies import Dependencies
from gateway.facts import Answer, Call, Usage
from gateway.gate import Gate
from gateway.tally import OTHER, Counters, Histogram
from tests.collector import METRICS, Collector, collector, grpc_collector
from tests.judging import CATALOGUE, START, facts, policy
from tests.web.conftest import PACK
from tests.web.conftest import faulty as faulty  # a fixture
from tests.web.faulty import Faulty
from tests.web.running import KEY, ROOT, free_port, gateway

DOCS = (ROOT / "examples/README.md").read_text()
HEALTH = {"policy": {"digest": "d", "version": 1, "mode": "enforce", "reloads": 2, "problem": ""}, "parts": {}}


def named(endpoint: Collector) -> dict[str, Any]:
    """The metrics of the last request."""
    (resource,) = endpoint.requests[-1].resource_metrics
    return {one.name: one for scope in resource.scope_metrics for one in scope.metrics}


def test_counters_and_histograms() -> None:
    counters: Counters[str] = Counters(OTHER, 2)
    for key in ("a", "b", "c", "d", "a"):
        counters.add(key)
    assert dict(counters.items()) == {"a": 2, "b": 1, OTHER: 2}
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.observe(value)
    assert (histogram.counts, histogram.total, histogram.least, histogram.most) == ([2, 1, 1], 12.0, 0.5, 9)


def test_models_that_callers_make_up_are_bounded() -> None:
    counted = Counted()
    gate = Gate(policy("pack: p\nversion: 1\nlanguage: 1\n"), CATALOGUE, sink=counted)
    for number in range(3 * MODELS):
        call = Call("chat", model=f"made-up-{number}")
        judgement = gate.judge(facts({}, START, call=call, protocol="openai", route="chat.completions"))
        gate.settle(judgement, Answer(status=200, usage=Usage(input_tokens=1, output_tokens=2)))
    assert counted.settled == gate.judged == 3 * MODELS
    calls = dict(counted.calls.items())
    assert len(calls) == MODELS + 1
    assert sum(calls[OTHER, OTHER, OTHER].counts) == 2 * MODELS
    assert len(counted.tokens.items()) == 2 * MODELS + 1


@pytest.mark.parametrize("row", INSTRUMENTS, ids=lambda row: row.name)
def test_every_metric_is_documented(row: Any) -> None:
    name = prometheus_name(row) + ("_total" if row.kind is Kind.COUNTER else "")
    labels = ", ".join(f"`{label}`" for label in row.labels) or "none"
    assert f"| `{row.name}` | `{name}` | {row.kind} | {labels} | {row.meaning} |" in DOCS


def test_the_catalogue_names_no_other() -> None:
    assert DOCS.split("## Metrics")[1].count("\n| `") == len(INSTRUMENTS)
    assert len({row.name for row in INSTRUMENTS}) == len(INSTRUMENTS)


def test_exports_that_are_not_taken_are_counted_and_told_later() -> None:
    counted = Counted()
    with collector(METRICS) as endpoint:
        exporter = Exporter(
            Endpoint(endpoint.url), 3_600, lambda: Source(counted, Dependencies(), HEALTH, exports=exporter.counts)
        )
        endpoint.status = 400
        exporter.send()
        assert exporter.counts == {"delivered": 0, "lost": 1}
        endpoint.status = 200
        exporter.send()
        assert exporter.counts == {"delivered": 1, "lost": 1}
        points = named(endpoint)["sluice.metrics.exports"].sum.data_points
        assert {point.attributes[0].value.string_value: point.as_int for point in points} == {"delivered": 0, "lost": 1}
        exporter.close()
        assert len(endpoint.requests) == 2, "it sends once more at its end"


@pytest.mark.parametrize("over", [collector, grpc_collector])
def test_they_go_as_traces_do_with_headers_and_packed(over: Any) -> None:
    with over(kind=METRICS) as endpoint:
        to = Endpoint(endpoint.url, {"x-tenant": "acme"}, gzip=True)
        exporter = Exporter(to, 3_600, lambda: Source(Counted(), Dependencies(), HEALTH, exports=exporter.counts))
        exporter.send()
        exporter.close()
    assert exporter.counts == {"delivered": 2, "lost": 0}
    assert [one["x-tenant"] for one in endpoint.headers] == ["acme"] * 2
    assert named(endpoint)["sluice.answer.size"].sum.data_points[0].as_int == 0


def test_a_process_tells_both_the_same(faulty: Faulty, tmp_path: Path) -> None:
    port = free_port()
    with collector(METRICS) as endpoint:
        settings = (
            f"upstreams: {{openai: {{url: {faulty.url}}}}}\n"
            f"metrics: {{listen: '127.0.0.1:{port}', otlp: '{endpoint.url}', every: 1h}}\n"
        )
        with gateway(tmp_path / "g", settings, PACK) as running:
            for model in ("m", "m", "forbidden"):
                body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
                url, headers = f"{running.url}/v1/chat/completions?do=plain_json", {"authorization": f"Bearer {KEY}"}
                httpx.post(url, json=body, headers=headers, trust_env=False, timeout=10)
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=10).text
            running.check()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert set(families) == {prometheus_name(row) for row in INSTRUMENTS}
        decisions = {(one.labels["action"], one.labels["mode"]): one.value for one in families["sluice_decisions"].samples}
        assert decisions == {("allow", "enforce"): 2.0, ("deny", "enforce"): 1.0}
        assert families["sluice_breaker_position"].samples[0].value == 0
        assert KEY not in text
        told = named(endpoint)
        points = told["sluice.decisions"].sum.data_points
        assert sorted(point.as_int for point in points) == [1, 2]
        (tokens,) = {p.sum for p in told["gen_ai.client.token.usage"].histogram.data_points if "input" in str(p.attributes)}
        assert tokens == 22
        assert families["process_memory_usage_bytes"].samples[0].value > 10e6
