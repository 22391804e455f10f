"""WebSockets in somebody else's app: judged by their handshake; on a path of a protocol refused, unless declared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway import PolicyMiddleware
from gateway.audit.record import record
from gateway.config import load_config
from gateway.decision import Mode
from gateway.errors import ConfigError
from gateway.failing import Fail
from tests.web.running import KEY

PACK = """
pack: try
version: 1
language: 1
rules:
  - {id: try.tag, title: marked, family: client, owner: tests, mode: enforce, when: {request.path: {starts_with: /v1/}},
     then: {action: tag, tag: seen}}
  - {id: try.deny, title: no such client, family: client, owner: tests, mode: enforce, when: {request.path: /denied},
     then: {action: deny}, public: {code: not-for-you, message: This client is not for you.}}
"""
HEADERS = {"authorization": f"Bearer {KEY}", "sluice-tags": "forged"}


async def echo(socket: WebSocket) -> None:
    """Says what it was given, and then whatever it hears."""
    await socket.accept()
    await socket.send_json({"tags": socket.headers.get("sluice-tags"), "action": str(socket.state.sluice.outcome.action)})
    await socket.send_text(await socket.receive_text())
    await socket.close()


async def hang_up(socket: WebSocket) -> None:
    await socket.close()


async def fail(socket: WebSocket) -> None:
    raise RuntimeError("a defect of the app's own")


class Guarded:
    """An app behind the middleware, and what was recorded of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        (folder / "pack.yaml").write_text(PACK)
        self.records: list[dict[str, Any]] = []
        routes = [WebSocketRoute(path, echo) for path in ("/v1/responses", "/v1/models", "/own")]
        inner = Starlette(
            routes=[
                *routes,
                WebSocketRoute("/denied", echo),
                WebSocketRoute("/closed", hang_up),
                WebSocketRoute("/fails", fail),
            ]
        )
        self.app = PolicyMiddleware(
            inner, folder / "pack.yaml", sink=lambda judged, answer: self.records.append(record(judged, answer)), **settings
        )
        self.client = TestClient(self.app)

    def talk(self, path: str) -> list[Any]:
        with self.client.websocket_connect(path, headers=HEADERS) as socket:
            told = socket.receive_json()
            socket.send_text("hello")
            return [told, socket.receive_text()]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/models"])
def test_a_socket_where_requests_are_inspected_is_refused(path: str, tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with pytest.raises(WebSocketDenialResponse) as refused:
        guarded.talk(path)
    assert refused.value.status_code == 403
    assert "no-websockets" in refused.value.text
    (told,) = guarded.records
    assert (told["exchange"]["cause"], told["outcome"]["by"]) == ("websocket", ["intake:websocket"])
    assert told["answer"] == {"status": 403, "end": "refused"}


@pytest.mark.parametrize("declared", [{"websockets": Fail.OPEN}, {"config": "gateway.yaml"}, {"mode": Mode.SHADOW}])
def test_it_passes_where_that_is_declared_and_the_record_says_so(declared: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("fail: {websocket: open}\naudit: {records: audit}\n")
    if "config" in declared:
        declared = {"config": tmp_path / "gateway.yaml"}
    shadow = "mode" in declared
    guarded = Guarded(tmp_path, **declared)
    told, echoed = guarded.talk("/v1/responses")
    assert echoed == "hello"
    assert told == ({"tags": None, "action": "allow"} if shadow else {"tags": "seen", "action": "tag"})
    (written,) = guarded.records
    assert written["exchange"]["cause"] == "websocket"
    assert written["answer"] == {"status": 101, "end": "complete"}


def test_sockets_of_the_apps_own_pass_and_are_recorded_as_such(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    assert guarded.talk("/own")[1] == "hello"
    assert guarded.records[0]["exchange"]["cause"] == "route-unrecognised"
    assert guarded.records[0]["answer"] == {"status": 101, "end": "complete"}


def test_rules_hold_for_sockets_too(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with pytest.raises(WebSocketDenialResponse) as refused:
        guarded.talk("/denied")
    assert (refused.value.status_code, "not-for-you" in refused.value.text) == (403, True)
    assert guarded.records[0]["outcome"]["by"] == ["try.deny"]


def test_a_server_without_words_for_it_closes_the_socket(tmp_path: Path) -> None:
    guarded, sent = Guarded(tmp_path), []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/responses", "headers": [], "query_string": b""}
    asyncio.run(guarded.app(scope, receive, send))
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


def test_how_the_app_ends_it_is_recorded(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with pytest.raises(WebSocketDisconnect), guarded.client.websocket_connect("/closed"):
        pass
    with pytest.raises(RuntimeError, match="of the app's own"), guarded.client.websocket_connect("/fails"):
        pass
    assert [one["answer"] for one in guarded.records] == [{"status": 403, "end": "complete"}, {"end": "upstream-failed"}]


def test_the_process_cannot_be_told_to_let_them_pass(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("upstreams: {openai: {url: 'http://127.0.0.1:1'}}\nfail: {websocket: open}\n")
    with pytest.raises(ConfigError, match="carries no WebSockets"):
        load_config(tmp_path / "gateway.yaml")
