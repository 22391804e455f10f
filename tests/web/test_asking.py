"""What a caller who is asked to declare sees on the answer, and the whole way from being asked to being declared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import PolicyMiddleware
from gateway.audit.record import record
from gateway.web.door import assemble_inside
from tests.web.faulty import Faulty
from tests.web.running import PATIENCE, ROOT, Gateway, free_port, process

CHAT = "/v1/chat/completions"
LINK = "https://example.com/declare"
RULES = """
pack: asking
version: 1
language: 1
rules:
  - {id: asking.relay, title: a relay, family: client, owner: tests, when: {client.family: resale}, mode: enforce,
     abstain_for: [relay], then: {action: tag, tag: relay, ask: relay}}
  - {id: asking.bench, title: a benchmark, family: client, owner: tests, when: {request.model: bench}, mode: enforce,
     abstain_for: [benchmark], then: {action: observe, ask: benchmark}}
  - {id: asking.shadow, title: in shadow, family: client, owner: tests, when: {client.family: resale}, mode: shadow,
     abstain_for: [batch], then: {action: observe, ask: batch}}
  - {id: asking.verify, title: verified, family: client, owner: tests, when: {request.model: verified}, mode: enforce,
     abstain_for: [relay], then: {action: verify, link: "https://example.com/verify", ask: relay}}
  - {id: asking.deny, title: denied, family: client, owner: tests, when: {request.model: denied}, mode: enforce,
     then: {action: deny}}
  - {id: asking.slow, title: throttled, family: client, owner: tests, when: {request.model: slow}, mode: enforce,
     abstain_for: [batch], then: {action: throttle, limit: 1/minute, per: [account.id], ask: batch}}
  - {id: asking.less, title: less, family: client, owner: tests, when: {request.model: less}, mode: enforce,
     then: {action: restrict, to: {n: 1}}}
"""


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with one chunk, or as an event stream, or breaks before it has answered anything."""
    await receive()
    if scope["query_string"] == b"break":
        raise RuntimeError("broken")
    kind = b"text/event-stream" if scope["query_string"] == b"stream" else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": b"data: {}\n\n" if b"event" in kind else b"{}"})


Ask = Callable[..., tuple[httpx.Response, dict[str, Any]]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Asks a middleware around `app`; the answer and its record."""
    (tmp_path / "pack.yaml").write_text(RULES)
    found: list[dict[str, Any]] = []
    assembly = assemble_inside(tmp_path / "pack.yaml", None, None, lambda judged, answer: found.append(record(judged, answer)))

    def one(
        model: str = "m", agent: str = "resale/1", link: str = LINK, query: str = "", **more: Any
    ) -> tuple[httpx.Response, dict[str, Any]]:
        middleware = PolicyMiddleware(app, door=replace(assembly.door, declare=link))

        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=middleware, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                headers = {"user-agent": agent, "authorization": "Bearer sk-one"}
                return await client.post(f"{CHAT}?{query}", json=body(model, **more), headers=headers)

        return asyncio.run(sent()), found[-1]

    return one


def seen(answer: httpx.Response) -> tuple[str | None, str | None]:
    return answer.headers.get("sluice-declare"), answer.headers.get("sluice-reason")


@pytest.mark.parametrize("query", ["", "stream"])
def test_an_answer_that_passes_asks_with_a_code_a_link_and_a_reference(ask: Ask, query: str) -> None:
    answer, entry = ask(query=query)
    assert (answer.status_code, *seen(answer)) == (200, "relay", "declare-relay")
    assert answer.headers["link"] == f'<{LINK}>; rel="help"; title="declare-relay"'
    assert answer.headers.get_list("sluice-reference") == [entry["reference"]]
    assert entry["outcome"]["asked"] == [{"kind": "relay", "by": ["asking.relay"]}]
    assert entry["outcome"]["tags"] == ["relay"]


def test_without_a_link_the_code_alone_is_told(ask: Ask) -> None:
    answer, _ = ask(link="")
    assert seen(answer) == ("relay", "declare-relay")
    assert "link" not in answer.headers


def test_who_is_not_asked_is_told_nothing(ask: Ask) -> None:
    answer, entry = ask(agent="sdk/1")
    assert not [name for name in answer.headers if name.startswith("sluice-") or name == "link"]
    assert "asked" not in entry["outcome"]


def test_a_shadow_rule_is_not_seen_by_the_caller(ask: Ask) -> None:
    answer, entry = ask()
    assert seen(answer)[0] == "relay"
    assert [end.get("would_ask") for end in entry["rules"] if end["id"] == "asking.shadow"] == ["batch"]


def test_several_kinds_are_named_together(ask: Ask) -> None:
    answer, _ = ask("bench")
    assert seen(answer) == ("benchmark, relay", "declare-benchmark")


def test_a_refusal_asks_as_well_and_keeps_its_own_code(ask: Ask) -> None:
    answer, entry = ask("denied")
    assert (answer.status_code, *seen(answer)) == (403, "relay", "declare-relay")
    assert answer.json()["error"]["code"] == "policy-decision"
    assert answer.headers.get_list("sluice-reference") == [entry["reference"]]
    verified, _ = ask("verified", agent="sdk/1")
    assert (verified.status_code, *seen(verified)) == (403, "relay", "declare-relay")
    assert verified.headers.get_list("link") == [
        '<https://example.com/verify>; rel="help"', f'<{LINK}>; rel="help"; title="declare-relay"',
    ]  # fmt: skip


def test_a_throttle_asks_before_it_refuses_and_while_it_does(ask: Ask) -> None:
    found = [ask("slow", agent="sdk/1")[0] for _ in range(2)]
    assert [answer.status_code for answer in found] == [200, 429]
    assert [seen(answer) for answer in found] == [("batch", "declare-batch")] * 2
    assert found[1].headers["retry-after"]


def test_a_restricted_answer_keeps_the_reason_of_the_restriction(ask: Ask) -> None:
    answer, entry = ask("less", n=4)
    assert seen(answer) == ("relay", "reduced-service")
    assert answer.headers["sluice-restricted"] == "n=1"
    assert answer.headers.get_list("sluice-reference") == [entry["reference"]]


# Through the real process


@contextlib.contextmanager
def start(folder: Path, faulty: Faulty) -> Iterator[Gateway]:
    """A gateway with the rules above, no workloads yet, and records of its own."""
    port = free_port()
    (folder / "pack.yaml").write_text(RULES)
    (folder / "workloads.yaml").write_text("workloads: []\n")
    settings = f"listen: 127.0.0.1:{port}\npolicy: [pack.yaml, workloads.yaml]\nupstreams: {{openai: {{url: {faulty.url}}}}}\n"
    (folder / "gateway.yaml").write_text(settings)
    arguments = ["-m", "gateway", "serve", str(folder / "gateway.yaml")]
    with process(arguments, f"http://127.0.0.1:{port}/healthz", folder / "stderr") as running:
        yield Gateway(port, folder, running)


def post(running: Gateway, do: str = "plain_json", model: str = "m") -> httpx.Response:
    headers = {"user-agent": "resale/1", "authorization": "Bearer sk-reseller"}
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{running.url}{CHAT}?do={do}", json=body(model), headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize(("do", "status"), [("plain_json", 200), ("split_stream", 200), ("no_answer", 502)])
def test_the_process_asks_on_answers_and_on_errors_of_the_upstream(
    faulty: Faulty, tmp_path: Path, do: str, status: int
) -> None:
    with start(tmp_path, faulty) as running:
        with running.recording() as records:
            answer = post(running, do)
        assert (answer.status_code, *seen(answer)) == (status, "relay", "declare-relay")
        assert answer.headers.get_list("sluice-reference") == [records[0]["reference"]]
        running.check()


def sluice(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def reload(running: Gateway) -> None:
    """Have the policy loaded again, and wait until it is in force."""
    health = f"{running.url}/healthz"
    before = httpx.get(health, trust_env=False).json()["policy"]["reloads"]
    os.kill(running.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while httpx.get(health, trust_env=False).json()["policy"]["reloads"] == before:
        assert time.monotonic() < deadline, running.errors
        time.sleep(0.02)


def test_from_being_asked_to_being_declared_and_back(faulty: Faulty, tmp_path: Path) -> None:
    """A relay is tagged and asked; the operator declares it and reloads; the rule abstains until the ceiling is passed."""
    declared = tmp_path / "workloads.yaml"
    with start(tmp_path, faulty) as running:
        with running.recording(3) as records:
            answers = [post(running) for _ in range(3)]
        assert [seen(answer)[0] for answer in answers] == ["relay"] * 3
        assert [entry["outcome"]["tags"] for entry in records] == [["relay"]] * 3
        listed = sluice("asked", tmp_path / "audit", "--format", "yaml")
        assert listed.returncode == 0, listed.stderr
        assert sluice("check", *written(declared, listed.stdout, tmp_path)).returncode == 2
        finished = listed.stdout.replace('owner: ""', "owner: partnerships").replace('evidence: ""', "evidence: ticket 7")
        finished = re.sub(r"ceiling: \d+ ", "ceiling: 2 ", finished)
        checked = sluice("check", *written(declared, finished, tmp_path), "--format", "json")
        assert [one["judgement"] for one in json.loads(checked.stdout)["findings"] if "workload" in one["message"]] == []
        reload(running)
        with running.recording(3) as records:
            answers = [post(running) for _ in range(3)]
        ends = [next(end for end in entry["rules"] if end["id"] == "asking.relay") for entry in records]
        (name,) = re.findall(r"- id: (\S+)", finished)
        assert [end.get("abstained") for end in ends] == [name, name, None]
        assert [entry["outcome"].get("tags") for entry in records] == [None, None, ["relay"]]
        assert [seen(answer)[0] for answer in answers] == [None, None, "relay"]
        assert [entry["workloads"][0]["within_ceiling"] for entry in records] == [True, True, False]
        again = sluice("asked", tmp_path / "audit", "--policy", tmp_path / "pack.yaml", "--policy", declared)
        assert f"{name}: above its ceiling" in again.stdout, again.stderr
        running.check()


def written(file: Path, text: str, folder: Path) -> tuple[Path, Path]:
    """The paths to check once the declarations are written."""
    file.write_text(text)
    return folder / "pack.yaml", file
