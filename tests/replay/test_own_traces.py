"""Traces of the gateway itself, from a real process to a real collector, read back: what the records of the same run say."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict

from gateway.audit.record import recorded_signals
from gateway.config import load_config
from gateway.facts import End
from gateway.registry import load
from gateway.replay.exchange import Exchange
from gateway.replay.sources import Reader
from gateway.values import parse_timestamp
from gateway.web.app import build
from gateway.web.intake import Intake
from tests.collector import Collector, collector
from tests.ledgers import ledger_text
from tests.serving import served

REGISTRY = load({"identity": {"hash_key": b"a key of the tests' own"}})
PACK = """
pack: own
version: 1
language: 1
rules:
  - id: own.no
    title: Nobody may
    family: identity
    owner: tests
    when: {request.model: forbidden}
    then: {action: deny}
    mode: enforce
"""
USAGE = {"prompt_tokens": 30, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 20}}
AGENT = {"user-agent": "OpenAI/Python 1.99.0", "authorization": "Bearer sk-fake"}
FACTS = ("method", "path", "protocol", "route", "size")
BOTH = {"client.ip", "client.network", "client.ja4", "client.geo_age", "request.model"}


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps({"model": "m-1", "usage": USAGE, "choices": []}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def written(endpoint: Collector) -> str:
    """What a collector writes to a file of the requests it took: JSON as OTLP has it, with hexadecimal ids."""
    lines = []
    for request in endpoint.requests:
        tree = MessageToDict(request, use_integers_for_enums=True)
        for span in (s for r in tree["resourceSpans"] for scoped in r["scopeSpans"] for s in scoped["spans"]):
            span |= {key: b64decode(span[key]).hex() for key in ("traceId", "spanId", "parentSpanId") if key in span}
        lines.append(json.dumps(tree) + "\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The traces of a run and its audit records: two that pass, one denied, one that cannot be read."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "own.yaml").write_text(PACK)
    with collector() as endpoint, served(upstream) as port:
        (folder / "gateway.yaml").write_text(
            f"policy: [own.yaml]\nupstreams: {{openai: {{url: 'http://127.0.0.1:{port}'}}}}\n"
            f"audit: {{records: audit, otlp: '{endpoint.url}'}}\n"
        )
        process = build(load_config(folder / "gateway.yaml", {}))
        with served(process.app, lifespan="on") as gateway:
            url = f"http://127.0.0.1:{gateway}/v1/chat/completions"
            for model in ("m", "m", "forbidden"):
                body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
                httpx.post(url, json=body, headers=AGENT)
            httpx.post(url, content=b"{", headers={**AGENT, "content-type": "application/json"})
        return written(endpoint), [json.loads(line) for line in ledger_text(folder / "audit").splitlines()]


def read(text: str, folder: Path) -> tuple[list[Exchange], Reader]:
    (folder / "traces.jsonl").write_text(text)
    errors: list[object] = []
    reader = Reader(Intake(REGISTRY, b"key"), REGISTRY.signals, errors.append)
    found = list(reader.exchanges([str(folder / "traces.jsonl")]))
    assert errors == []
    return found, reader


def test_traces_read_back_say_what_the_records_say(run: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    text, records = run
    found, reader = read(text, tmp_path)
    assert len(found) == len(records) == 4
    assert not reader.passed
    for one, entry in zip(found, sorted(records, key=lambda entry: str(entry["at"])), strict=True):
        facts, told, there = one.facts, one.facts.recorded or {}, recorded_signals(entry, REGISTRY.signals)
        assert (facts.at, facts.method, facts.path, facts.protocol, facts.route, facts.size) == (
            parse_timestamp(entry["at"]), *(entry["exchange"][name] for name in FACTS),
        )  # fmt: skip
        assert [told[name] for name in sorted(BOTH & there.keys() & told.keys())] == [
            there[name] for name in sorted(BOTH & there.keys() & told.keys())
        ]
        assert (told["client.ip"], told["client.family"]) == (there["client.ip"], "openai")
        assert (one.answer.status, str(one.answer.end)) == (entry["answer"]["status"], entry["answer"]["end"])
        assert "account.id" not in told  # no span names an account
    assert [one.answer.end for one in found] == [End.COMPLETE, End.COMPLETE, End.REFUSED, End.REFUSED]
    for one in found[:2]:
        usage = one.answer.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, one.answer.model) == (30, 4, 20, "m-1")
        assert {"request.model": "m", "request.max_tokens": 50, "request.operation": "chat"}.items() <= (
            one.facts.recorded or {}
        ).items()


def test_a_call_in_another_export_is_passed_over_and_counted(run: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """A collector may cut a trace in two: the exchange stands with its SERVER span, which tells less without the call."""
    cut, rest = [], []
    for line in run[0].splitlines():
        tree = json.loads(line)
        for span in (s for r in tree["resourceSpans"] for scoped in r["scopeSpans"] for s in scoped["spans"]):
            alone = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "sluicegate"}, "spans": [span]}]}]}
            (cut if span["kind"] == 2 else rest).append(json.dumps(alone) + "\n")
    found, reader = read("".join(cut + rest), tmp_path)
    assert len(found) == 4
    assert dict(reader.passed) == {"spans whose exchange is in another export": len(rest)}
    assert all("request.model" not in (one.facts.recorded or {}) for one in found)
