"""Law 1: the same exchanges through process, middleware and dry run give identical audit records (ids and latencies aside)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.record import record, stable
from gateway.config import load_config
from gateway.errors import Place
from gateway.failing import FailModes
from gateway.gate import Gate
from gateway.language.compile import load
from gateway.registry import load as load_registry
from gateway.replay.driver import replay
from gateway.replay.sources import Reader
from gateway.signals import View
from gateway.web.app import build
from gateway.web.exchange import Door
from gateway.web.intake import Head, Intake
from gateway.web.middleware import PolicyMiddleware
from tests.captures import sendable
from tests.ledgers import ledger
from tests.serving import served

KEY = b"a key of the tests' own"
PROTOCOLS = ("openai", "anthropic", "gemini")
RULES = Path(__file__).parents[2] / "rules"
ANSWER = {"model": "stub", "usage": {"prompt_tokens": 10, "completion_tokens": 5, "input_tokens": 10, "output_tokens": 5}}
PLAN = """
pack: plan
version: 1
language: 1
prices: {"*": {input: 3, output: 12}}
rules:
  - {id: plan.short, title: less for some, family: client, owner: o, when: {request.size: {gte: 1}}, share: 50%, mode: enforce,
     then: {action: restrict, to: {max_tokens: 7, logprobs: false}}, abstain_for: [batch]}
  - {id: plan.mark, title: t, family: client, owner: o, when: {client.runtime: node}, mode: enforce,
     then: {action: tag, tag: seen}}
  - {id: plan.ask, title: t, family: client, owner: o, when: {request.stream: true}, then: {action: observe, ask: batch},
     abstain_for: [batch], mode: enforce, evidence: [workload.kind, workload.within_items]}
  - {id: plan.typical, title: t, family: volume, owner: o, when: {typical: {gte: 100}}, then: {action: observe}, mode: enforce,
     measures: {typical: {quantile: request.size, rank: 0.5, per: [account.id], window: 1h}}}
limits:
  - {id: plan.tokens, per: [account.id], limit: 100000 tokens/minute, window: moving, on_missing: skip, mode: enforce}
  - {id: plan.money, per: [account.id], limit: 5 usd/day, on_missing: share, mode: enforce}
  - {id: plan.slots, per: [account.id], limit: 1 concurrent, on_missing: skip, mode: enforce}
  - {id: plan.requests, per: [account.id], limit: 3/minute, on_missing: skip, mode: enforce}
  - {id: plan.trial, per: [client.network], limit: 2/minute, window: moving, on_missing: skip, mode: shadow}
"""


DECLARED = {
    "id": "declared", "kind": "batch", "ceiling": "3 requests/hour", "items": 1, "from": "2020-01-01", "until": "2040-01-01",
    "owner": "tests", "evidence": "generated",
}  # fmt: skip


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Answers everything with the same usage."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = json.dumps(ANSWER).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    plan = tmp_path_factory.mktemp("policy") / "plan.yaml"
    plan.write_text(PLAN)
    workloads = plan.with_name("workloads.yaml")
    workloads.write_text(json.dumps({"workloads": [{**DECLARED, "accounts": [_busiest_account()]}]}))
    return [RULES, plan, workloads]


def _busiest_account() -> str:
    registry = load_registry({"identity": {"hash_key": KEY}})
    reader = Reader(Intake(registry, KEY), registry.signals)
    seen = [reader.exchange(json.dumps(row).encode(), Place("capture")) for row in sendable()]
    ids = Counter(View.of(one.facts, registry.signals).get("account.id") for one in seen)
    return next(str(name) for name, _ in ids.most_common() if isinstance(name, str))


@pytest.fixture(scope="module")
def by_dry_run(policies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    registry = load_registry({"identity": {"hash_key": KEY}})
    file = tmp_path_factory.mktemp("captures") / "captures.jsonl"
    rows = [{**capture, "response": {"status": 200, **ANSWER}} for capture in sendable()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = Reader(Intake(registry, KEY), registry.signals)
    policy = load(policies, registry.signals)
    found = [record(one.judgement, one.answer) for one in replay(reader.exchanges([str(file)]), policy, registry.signals)]
    assert reader.unreadable == 0
    return [stable(entry) for entry in found]


def by_process(policies: list[Path], folder: Path, lane: bool) -> list[dict[str, Any]]:
    now: dict[str, Any] = {"ts": 0}  # the process is built before its first exchange
    with served(upstream) as port:
        (folder / "gateway.yaml").write_text(
            f"upstreams: {json.dumps({name: {'url': f'http://127.0.0.1:{port}'} for name in PROTOCOLS})}\n"
            f"policy: {[str(path) for path in policies]}\nidentity: {{hash_key_file: key}}\naudit: {{identifiers: plain}}\n"
        )
        (folder / "key").write_bytes(KEY)

        def address(head: Head) -> Head:
            return replace(head, peer=now["client_ip"], connection=now["conn"])

        process = build(load_config(folder / "gateway.yaml"), clock=lambda: now["ts"] * 1_000_000, address=address)
        with served(process.app, lifespan="on", http=process.protocol if lane else "auto") as gateway:
            for capture in sendable():
                now.update(capture)
                send_raw(gateway, capture)
                process.trail.flush()
    return [stable(entry) for entry in ledger(folder / "audit")]


def send_raw(port: int, capture: dict[str, Any]) -> None:
    """Send a capture byte for byte and read the whole answer."""
    lines = [f"{capture['method']} {capture['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in capture["headers"])]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + capture["body_raw"].encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        while len(body) < length and capture["method"] != "HEAD":
            body += connection.recv(65_536)


def by_middleware(policies: list[Path]) -> list[dict[str, Any]]:
    registry = load_registry({"identity": {"hash_key": KEY}})
    now: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    gate = Gate(
        load(policies, registry.signals), registry.signals, fail=FailModes(), sink=lambda j, a: found.append(record(j, a))
    )
    door = Door(Intake(registry, KEY), gate, clock=lambda: now["ts"] * 1_000_000, timer=lambda: 0)
    app = PolicyMiddleware(upstream, door=door)

    async def run() -> None:
        for capture in sendable():
            now.update(capture)
            path, _, query = capture["path"].partition("?")
            host, _, port = capture["conn"].rpartition(":")
            scope = {
                "type": "http", "method": capture["method"], "path": path, "query_string": query.encode(),
                "http_version": "1.1", "extensions": {"sluice.connection": {"id": capture["conn"]}},
                "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in capture["headers"]],
                "client": (host, int(port)),
            }  # fmt: skip
            sent = False

            async def receive(body: bytes = capture["body_raw"].encode()) -> dict[str, Any]:
                nonlocal sent
                first, sent = not sent, True
                return {"type": "http.request", "body": body if first else b"", "more_body": False}

            async def send(message: Any) -> None:
                pass

            await app(scope, receive, send)

    asyncio.run(run())
    return [stable(entry) for entry in found]


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "app"])
def test_process_and_dry_run_give_the_same_records(
    lane: bool, policies: list[Path], by_dry_run: list[dict[str, Any]], tmp_path: Path
) -> None:
    live = by_process(policies, tmp_path, lane)
    assert len(live) == len(by_dry_run) == len(sendable())
    for one, other in zip(live, by_dry_run, strict=True):
        assert one == other


def test_middleware_and_dry_run_give_the_same_records(policies: list[Path], by_dry_run: list[dict[str, Any]]) -> None:
    live = by_middleware(policies)
    assert len(live) == len(by_dry_run)
    for one, other in zip(live, by_dry_run, strict=True):
        assert one == other


def test_the_traffic_exercises_the_policy(by_dry_run: list[dict[str, Any]]) -> None:
    """Guards the guards: records that are all alike would prove nothing."""
    actions = {entry["outcome"]["action"] for entry in by_dry_run}
    verdicts = {rule["verdict"] for entry in by_dry_run for rule in entry["rules"]}
    assert {"allow", "tag", "restrict", "throttle", "deny"} <= actions
    assert {len(entry["limits"]) for entry in by_dry_run} >= {5}
    assert {"match", "unknown"} <= verdicts
    assert any(room.get("shadow") and not room["allowed"] for entry in by_dry_run for room in entry["limits"])


def test_the_declared_workload_of_these_records_covers_some_and_is_passed_by_others(by_dry_run: list[dict[str, Any]]) -> None:
    standing = [entry["workloads"][0] for entry in by_dry_run if "workloads" in entry]
    assert {one["covers"] for one in standing} == {True, False}
    assert len(standing) < len(by_dry_run)
