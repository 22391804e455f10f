"""Traces through the running process: the caller's context in, ours to the upstream, spans at a real OTLP endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.config import load_config
from gateway.web.app import build
from tests.collector import attributes, collector
from tests.ledgers import ledger_text
from tests.serving import served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = {"model": "m", "messages": [{"role": "user", "content": "CANARY-PROMPT"}]}
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "who=CANARY-BAGGAGE", "authorization": "Bearer sk-CANARY-KEY"}


def test_one_trace_from_caller_to_upstream(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        body = json.dumps({"model": "m-1", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with collector() as endpoint, served(upstream) as port:
        (tmp_path / "gateway.yaml").write_text(
            f"upstreams: {{openai: {{url: 'http://127.0.0.1:{port}'}}}}\naudit: {{records: audit, otlp: '{endpoint.url}'}}\n"
        )
        process = build(load_config(tmp_path / "gateway.yaml", {}))
        with served(process.app, lifespan="on") as gateway:
            answer = httpx.post(f"http://127.0.0.1:{gateway}/v1/chat/completions", json=BODY, headers=HEADERS)
            refused = httpx.post(
                f"http://127.0.0.1:{gateway}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}
            )
        spans = endpoint.spans()
    assert (answer.status_code, refused.status_code) == (200, 400)
    ours = {span.kind: span for span in spans if span.trace_id.hex() == TRACE}
    server, inner, client = (ours[k] for k in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT))
    assert server.parent_span_id.hex() == PARENT
    assert inner.parent_span_id == client.parent_span_id == server.span_id
    assert seen[0]["traceparent"] == f"00-{TRACE}-{client.span_id.hex()}-01"
    assert "baggage" not in seen[0]
    assert attributes(client)["gen_ai.usage.output_tokens"] == 4
    assert len(spans) == 5
    records = ledger_text(tmp_path / "audit")
    assert len(records.splitlines()) == 2
    for output in (records, endpoint.raw().decode("latin-1")):
        assert "CANARY" not in output
    health = process.health()["parts"]
    assert isinstance(health, dict)
    assert health["traces"] == {"made": 5, "exported": 5, "lost": 0, "waiting": 0, "problem": ""}
