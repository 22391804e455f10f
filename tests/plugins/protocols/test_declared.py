"""Declared routes: recognised, judged on all that can be seen, and wrong declarations told with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.facts import Cause, Facts
from gateway.registry import load as load_registry
from gateway.web.intake import NO_SOCKETS, Body, Head, Intake

UPSTREAM = "upstreams: {openai: {url: 'http://127.0.0.1:9'}}\n"
ROUTES = """routes:
  - {method: POST, path: /v1/rerank, protocol: openai, judge: json}
  - {method: GET, path: /v1/vector_stores/*/files/*, protocol: openai}
  - {method: POST, path: "/v1/notes/*", protocol: anthropic, judge: text}
  - {method: POST, path: "/openai/deployments/*/chat/completions", protocol: openai, judge: chat.completions}
"""


def intake(tmp_path: Path, text: str) -> Intake:
    file = tmp_path / "gateway.yaml"
    file.write_text(UPSTREAM + text)
    return Intake(load_registry(load_config(file, {}).settings), b"a key of the tests' own")


def sent(door: Intake, method: str, path: str, raw: bytes = b"", kind: str = "application/json") -> Facts:
    return door.facts(Head(method, path, headers=(("content-type", kind), ("x-api-key", "k"))), Body(raw=raw), 0)


def test_any_json_is_read_for_what_it_says(tmp_path: Path) -> None:
    raw = json.dumps({"model": "r", "query": "find", "documents": [{"text": "one"}, ["two", 3]], "stream": True}).encode()
    found = sent(intake(tmp_path, ROUTES), "POST", "/v1/rerank", raw)
    assert (found.cause, found.protocol, found.route, found.template) == (None, "openai", "declared", "/v1/rerank")
    call = found.call
    assert call is not None
    assert (call.operation, call.model, call.stream, call.messages[0].text) == ("generic", "r", True, "r\nfind\none\ntwo")
    assert found.credential is not None


def test_strictness_is_the_same(tmp_path: Path) -> None:
    door = intake(tmp_path, ROUTES)
    assert sent(door, "POST", "/v1/rerank", b'{"a": 1, "a": 2}').cause is Cause.BODY_MALFORMED
    assert sent(door, "POST", "/v1/rerank", b"{}", "text/plain").cause is Cause.MEDIA_TYPE


def test_a_route_may_be_judged_by_its_head_alone(tmp_path: Path) -> None:
    found = sent(intake(tmp_path, ROUTES), "GET", "/v1/vector_stores/a/files/b")
    assert (found.cause, found.call, found.template) == (None, None, "/v1/vector_stores/*/files/*")


@pytest.mark.parametrize(("raw", "texts"), [("héllo".encode(), ["héllo"]), (b"\x00\x01", []), (b"", [])])
def test_any_body_may_be_text(tmp_path: Path, raw: bytes, texts: list[str]) -> None:
    found = sent(intake(tmp_path, ROUTES), "POST", "/v1/notes/x", raw, "application/octet-stream")
    assert (found.cause, found.protocol, found.body) == (None, "anthropic", None)
    assert found.call is not None
    assert [message.text for message in found.call.messages] == texts


def test_a_path_may_have_the_bodies_of_a_known_route(tmp_path: Path) -> None:
    door = intake(tmp_path, ROUTES)
    raw = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    found = sent(door, "POST", "/openai/deployments/d-1/chat/completions", raw)
    assert (found.route, found.call and found.call.operation) == ("chat.completions", "chat")
    assert sent(door, "POST", "/openai/deployments/d-1/chat/completions", b'{"messages": 1}').cause is Cause.BODY_MALFORMED


@pytest.mark.parametrize("path", ["/v1/rerank/", "/v1/rerank/x", "/v1/vector_stores/a/b/files/c", "/v1/vector_stores//files/b"])
def test_what_is_not_declared_stays_unknown(tmp_path: Path, path: str) -> None:
    for method in ("GET", "POST"):
        assert sent(intake(tmp_path, ROUTES), method, path).cause is Cause.ROUTE_UNRECOGNISED


def test_a_websocket_is_told_what_to_do(tmp_path: Path) -> None:
    head = Head("GET", "/v1/realtime", headers=(("connection", "upgrade"), ("upgrade", "WebSocket")))
    found = intake(tmp_path, "").facts(head, Body(), 0)
    assert (found.cause, found.detail) == (Cause.ROUTE_UNRECOGNISED, NO_SOCKETS)


def told(tmp_path: Path, **changes: Any) -> str:
    route = {"method": "POST", "path": "/v1/rerank", "protocol": "openai", "judge": "json"} | changes
    with pytest.raises(ConfigError) as error:
        intake(tmp_path, f"routes: [{json.dumps(route)}]\n")
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "opnai"}, "gateway.yaml:2:10: unknown protocol 'opnai'; did you mean 'openai'?"),
        ({"judge": "chat.completion"}, "no 'chat.completion' among openai's routes; did you mean 'chat.completions'?"),
        ({"path": "/v1/chat/completions"}, "POST /v1/chat/completions is known already, as openai's chat.completions"),
        ({"path": "/v1/a*"}, "'/v1/a*' is no path to declare; write it as /v1/rerank"),
        ({"path": "/v1/../x"}, "is no path to declare"),
        ({"path": "v1"}, "is no path to declare"),
        ({"path": "/v1/x?y=1"}, "is no path to declare"),
        ({"path": "/healthz"}, "is no path to declare"),
        ({"method": "FETCH"}, "'FETCH' is none of GET, POST"),
        ({"upstream": "x"}, "unknown key 'upstream' in a route"),
    ],
)
def test_wrong_declarations_are_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in told(tmp_path, **changes)


def test_a_route_declared_twice_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known already, as openai's declared"):
        intake(tmp_path, "routes:" + ROUTES.split("\n")[1].replace("  - ", " [") + "," + ROUTES.split("\n")[1][4:] + "]\n")
