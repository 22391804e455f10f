"""Law 9: no prompt, no key at rest. Secrets are planted in every place a caller, an upstream or an operator can put one, and
looked for in everything that a real gateway and the commands over its ledger put out."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway import PolicyMiddleware
from gateway.cli import main
from gateway.config import load_config
from gateway.web.app import build
from tests.collector import Collector, collector
from tests.ledgers import ledger
from tests.serving import served
from tests.web.running import free_port

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PROMPTS = ("user", "system", "tool-schema", "tool-result", "end-user", "metadata", "malformed", "stop", "assistant", "answer",
           "stream", "upstream-error", "answer-header", "reasoning")  # fmt: skip
KEYS = ("bearer", "api-key", "cookie", "query", "path", "custom", "second", "basic", "goog", "session", "forwarded", "short",
        "known-path")  # fmt: skip
OPERATOR = ("hash-key", "otlp-header", "records-url", "records-sig", "admin-token")
CANARY = {name: f"canary{place:02d}x{name.replace('-', '')}q7Z" for place, name in enumerate((*PROMPTS, *KEYS, *OPERATOR))}
PACK = """
pack: nine
version: 1
language: 1
rules:
  - {id: nine.denied, title: Denied, family: identity, owner: tests, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}, public: {code: not-you, message: Not for you.}, evidence: [prompt.template, client.network]}
  - {id: nine.all, title: All, family: content, owner: tests, when: {prompt.whole: {present: true}}, mode: enforce,
     then: {action: observe}, evidence: [
     prompt.template, prompt.kin, prompt.close_kin, prompt.system, prompt.tools, prompt.whole, prompt.opening, prompt.slots,
     prompt.structure, client.session, client.device, client.fingerprint, client.body_shape, client.sdk_tuple, client.ip,
     reseller.markers,
     request.parameters]}
"""
SEED = "4f9c" * 8  # half of a private key


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Answers with canaries: whole, streamed, and as an error."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    said, status, kind = {"content": CANARY["answer"], "reasoning": CANARY["reasoning"]}, 200, b"application/json"
    if b"fail-upstream" in body:
        status, text = 500, json.dumps({"error": {"message": CANARY["upstream-error"]}}).encode()
    elif b'"stream": true' in body or b'"stream":true' in body:
        kind = b"text/event-stream"
        chunk = {"choices": [{"delta": {"content": CANARY["stream"]}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        text = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    else:
        usage = {"prompt_tokens": 3, "completion_tokens": 4}
        text = json.dumps({"model": "m-1", "choices": [{"message": said}], "usage": usage}).encode()
    headers = [(b"content-type", kind), (b"x-answer", CANARY["answer-header"].encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def chat(**more: Any) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"properties": {CANARY["tool-schema"]: {}}}}}
    messages = [
        {"role": "system", "content": CANARY["system"]},
        {"role": "assistant", "content": CANARY["assistant"]},
        {"role": "tool", "tool_call_id": "t", "content": CANARY["tool-result"]},
        {"role": "user", "content": CANARY["user"]},
    ]
    body = {"model": "m", "messages": messages, "tools": [tool], "user": CANARY["end-user"], "stop": [CANARY["stop"]]}
    return {**body, "metadata": {"session_id": CANARY["metadata"]}, **more}


def headers(**more: str) -> dict[str, str]:
    usual = {"authorization": f"Bearer sk-{CANARY['bearer']}", "cookie": f"sid={CANARY['cookie']}", "x-own": CANARY["custom"]}
    return {**usual, "x-session-id": CANARY["session"] * 2, "x-forwarded-user": CANARY["forwarded"], **more}


def ask(url: str) -> list[str]:
    """Everything that is asked; the references of what was refused."""
    basic = base64.b64encode(f"u:{CANARY['basic']}".encode()).decode()
    query = f"?key={CANARY['query']}&do=x"
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        answers = [
            client.post(CHAT + query, json=chat(), headers=headers()),
            client.post(CHAT, json=chat(stream=True), headers=headers()),
            client.post(CHAT, json=chat(model="fail-upstream"), headers=headers()),
            client.post(CHAT, json=chat(model="forbidden"), headers=headers()),
            client.post(CHAT, json=chat(), headers=headers(**{"x-api-key": CANARY["api-key"]})),
            client.post(CHAT, json=chat(), headers=headers(authorization=f"Basic {basic}")),
            client.post(CHAT, json=chat(), headers=headers(**{"x-goog-api-key": CANARY["goog"]})),
            client.post(CHAT, content=f'{{"messages": "{CANARY["malformed"]}'.encode(), headers=headers()),
            client.post(CHAT, content=CANARY["malformed"].encode(), headers=headers(**{"content-type": "text/plain"})),
            client.post(f"/v1/sk-proj-{CANARY['path']}0123456789abcdef/chat", json=chat(), headers=headers()),
            client.post(f"/v1/sk-{CANARY['short'][:16]}/chat", json=chat(), headers=headers()),
            client.post(MESSAGES, json={**chat(), "max_tokens": 3}, headers={"x-api-key": CANARY["second"]}),
            client.get("/v1/models" + query, headers=headers()),
            client.get(f"/v1/models/sk-proj-{CANARY['known-path']}0123456789", headers=headers()),
        ]
    return [found for answer in answers if (found := answer.headers.get("sluice-reference"))]


class Left:
    """What the gateway put out: by name, the bytes."""

    def __init__(self, folder: Path, endpoint: Collector, health: str) -> None:
        self.outputs = {"stderr": (folder / "stderr").read_bytes(), "spans": endpoint.raw(), "health": health.encode()}
        self.outputs |= {str(file.relative_to(folder)): file.read_bytes() for file in (folder / "audit").rglob("*.*")}
        self.folder = folder

    def run(self, *arguments: object, name: str = "", codes: tuple[int, ...] = (0, 1)) -> None:
        command = [str(one) for one in arguments]
        done = CliRunner().invoke(main, command)
        assert done.exit_code in codes, done.output
        self.outputs[name or " ".join(command[:3])] = done.output.encode()


@pytest.fixture(scope="module", params=["plain", "hashed", "sealed"])
def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("nine")
    (folder / "hash.key").write_text(CANARY["hash-key"] * 3)
    (folder / "sign.key").write_text(SEED * 2)
    (folder / "otlp.header").write_text(CANARY["otlp-header"])
    (folder / "pack.yaml").write_text(PACK)
    config = folder / "gateway.yaml"
    with collector() as endpoint, served(upstream) as behind:
        config.write_text(
            f"policy: [pack.yaml]\nidentity: {{hash_key_file: hash.key}}\n"
            f"upstreams: {{openai: {{url: 'http://127.0.0.1:{behind}'}}, anthropic: {{url: 'http://127.0.0.1:{behind}'}}}}\n"
            f"audit: {{identifiers: {request.param}, sign: {{file: sign.key}},\n"
            f"  otlp: {{endpoint: '{endpoint.url}', headers: {{x-key: {{file: otlp.header}}}}}}}}\n"
            f"metrics: {{listen: '127.0.0.1:{(told := free_port())}'}}\n"
            f"admin: {{tokens: {{oncall: {{token: {CANARY['admin-token']}0123456789}}}}}}\n"
        )
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            gateway = build(load_config(config))
            with served(gateway.app, lifespan="on", http=gateway.protocol) as port:
                references = ask(f"http://127.0.0.1:{port}")
                health = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).text
                metrics = httpx.get(f"http://127.0.0.1:{told}/metrics", trust_env=False).content
        (folder / "stderr").write_text(errors.getvalue())
        found = Left(folder, endpoint, health)
    found.outputs["metrics"] = metrics
    assert len(ledger(folder / "audit")) == 14
    for reference in references[:2]:
        for view in ("operator", "caller"):
            found.run("explain", reference, "--view", view, "--verbose", "--config", config)
    found.run("config", config)
    for command in (["audit", "verify", folder / "audit"], ["audit", "query", folder / "audit", "--config", config],
                    ["audit", "export", folder / "audit", "--format", "jsonl", "--config", config],
                    ["dry-run", folder / "audit", "--config", config, "--format", "json"], ["asked", folder / "audit"],
                    ["clusters", folder / "audit"]):  # fmt: skip
        found.run(*command)
    found.run("dry-run", folder / "audit", "--config", config, "--format", "html", name="page")
    for place, url in enumerate(("memory://me:{}@host/a.jsonl", "s3://me:/{}+@bucket/*.gz", "memory://a.gz?sig={}")):
        word = CANARY["records-sig" if "?" in url else "records-url"]
        found.run("dry-run", url.format(word), "--config", config, name=f"url {place}", codes=(3,))
    return found


@pytest.mark.parametrize("name", CANARY)
def test_no_canary_is_in_any_output(left: Left, name: str) -> None:
    word = CANARY[name].encode()
    forms = {word, base64.b64encode(word).rstrip(b"=")[:-2], word.hex().encode(), word[:-3], word.lower()}
    assert {output: form for output, text in left.outputs.items() for form in forms if form in text} == {}


def test_the_secrets_of_the_operator_are_in_no_output(left: Left) -> None:
    assert [output for output, text in left.outputs.items() if SEED.encode() in text] == []


def test_the_search_finds_what_is_there(left: Left) -> None:
    """The outputs are those of these exchanges: what may be in them is."""
    assert b"forbidden" in left.outputs["audit/1/00000001.jsonl"]
    assert b"nine.denied" in left.outputs["spans"]
    assert b"14 records" in left.outputs[f"audit verify {left.folder}/audit"]
    assert b"sluice_decisions_total{" in left.outputs["metrics"]
    assert b"nine.denied" in left.outputs["page"] and b'class="chart"' in left.outputs["page"]
    assert all("…" in left.outputs[f"url {place}"].decode() for place in range(3))
    assert len(left.outputs) > 17


CONTENT = "policy: [pack.yaml]\naudit:\n  content: {{routes: [chat.completions]}}\n  identifiers: {}\n  otlp: '{}'\n"


def kept(folder: Path, identifiers: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """The spans and records of everything that is asked, where content of one route of two is captured."""
    folder.mkdir()
    (folder / "pack.yaml").write_text(PACK)
    with collector() as endpoint, served(upstream) as behind:
        (folder / "gateway.yaml").write_text(
            CONTENT.format(identifiers, endpoint.url)
            + f"upstreams: {{openai: {{url: 'http://127.0.0.1:{behind}'}}, anthropic: {{url: 'http://127.0.0.1:{behind}'}}}}\n"
        )
        gateway = build(load_config(folder / "gateway.yaml"))
        with served(gateway.app, lifespan="on", http=gateway.protocol) as port:
            ask(f"http://127.0.0.1:{port}")
    return endpoint.spans(), ledger(folder / "audit")


def kept_inside(folder: Path, identifiers: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """The same of the middleware around an app of one's own."""
    folder.mkdir()
    (folder / "pack.yaml").write_text(PACK)
    with collector() as endpoint:
        (folder / "gateway.yaml").write_text(CONTENT.format(identifiers, endpoint.url))
        app = PolicyMiddleware(upstream, config=folder / "gateway.yaml")
        with served(app) as port:
            ask(f"http://127.0.0.1:{port}")
        assert app.trail is not None
        app.trail.close()
    return endpoint.spans(), ledger(folder / "audit")


SENT, ANSWERED = {"user", "system", "assistant", "tool-result"}, {"answer", "stream"}


@pytest.mark.parametrize("identifiers", ["hashed", "sealed"])
@pytest.mark.parametrize("face", [kept, kept_inside])
def test_content_is_kept_of_the_routes_that_opted_in_and_the_record_says_so(
    tmp_path: Path, identifiers: str, face: Callable[[Path, str], tuple[list[Any], list[dict[str, Any]]]]
) -> None:
    spans, records = face(tmp_path / "nine", identifiers)
    assert {entry["exchange"].get("route") for entry in records} > {"chat.completions"}
    for entry in records:
        found = {name for name, word in CANARY.items() if word in json.dumps(entry)}
        if entry["exchange"].get("route") != "chat.completions":
            assert (found, "content" in entry) == (set(), False)
        elif identifiers == "sealed":
            assert (found, entry["content"]) == (set(), {"captured": True, "sealed": True})
        else:
            assert found <= SENT | ANSWERED
            assert entry["content"]["captured"] is True
    texts = [{name for name, word in CANARY.items() if word in str(span)} for span in spans]
    assert set().union(*texts) == (SENT | ANSWERED if identifiers == "hashed" else set())
    told = set().union(*({name for name, word in CANARY.items() if word in json.dumps(entry)} for entry in records))
    assert told == set().union(*texts)
