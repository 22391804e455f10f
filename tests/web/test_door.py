"""The middleware by gateway.yaml, mounted apps, connections, credentials: what stands behind the door."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from gateway import PolicyMiddleware
from gateway.errors import ConfigError
from gateway.judgement import Judgement
from gateway.web.intake import shown
from gateway.web.middleware import head_of
from gateway.web.server import Protocol
from tests.ledgers import ledger
from tests.serving import served

KEY = "sk-of-the-door-tests"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ACCOUNT = "accounts:\n  - {{id: known, kyc_country: {country}, credentials: ['sha256:{digest}']}}\n"


async def said(request: Request) -> JSONResponse:
    return JSONResponse({"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2}})


SITE = Starlette(routes=[Route("/v1/chat/completions", said, methods=["POST"])])


def directory(folder: Path, country: str) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "accounts.yaml").write_text(ACCOUNT.format(country=country, digest=digest))


def post(app: Any, path: str = "/v1/chat/completions", key: str = KEY, **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
            return await client.post(path, headers=headers, **(more or {"json": BODY}))

    return asyncio.run(send())


def test_a_middleware_by_gateway_yaml(tmp_path: Path) -> None:
    directory(tmp_path, "FR")
    (tmp_path / "gateway.yaml").write_text(
        "identity: {directory: accounts.yaml}\nclient_address: {trusted_proxies: [127.0.0.1/32]}\naudit: {identifiers: plain}\n"
    )
    app = PolicyMiddleware(SITE, config=tmp_path / "gateway.yaml")
    assert post(app, headers={"x-forwarded-for": "203.0.113.9"}).status_code == 200
    assert post(app, key="sk-unknown").status_code == 401
    assert app.trail is not None
    app.trail.flush()
    known, unknown = ledger(tmp_path / "audit")
    assert (known["signals"]["account.id"], known["signals"]["client.ip"]) == ("known", "203.0.113.9")
    assert unknown["exchange"]["cause"] == "credential-unknown"


def test_a_middleware_without_anything_uses_the_bundled_packs() -> None:
    found: list[Judgement] = []
    assert post(PolicyMiddleware(SITE, sink=lambda judgement, answer: found.append(judgement))).status_code == 200
    assert "region" in found[0].engine.policy.packs
    with pytest.raises(ConfigError, match="unknown key 'idenity'"):
        PolicyMiddleware(SITE, config=_written("idenity: {}\n"))


def _written(text: str) -> Path:
    import tempfile

    file = Path(tempfile.mkdtemp()) / "gateway.yaml"
    file.write_text(text)
    return file


def test_an_edit_of_the_directory_is_seen_while_requests_come(tmp_path: Path) -> None:
    directory(tmp_path, "FR")
    (tmp_path / "gateway.yaml").write_text("identity: {directory: accounts.yaml}\n")
    with served(PolicyMiddleware(SITE, config=tmp_path / "gateway.yaml")) as port:
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
        assert httpx.post(url, json=BODY, headers=headers).status_code == 200
        directory(tmp_path, "KP")
        deadline = time.monotonic() + 10
        while (status := httpx.post(url, json=BODY, headers=headers).status_code) == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert status == 451


def test_below_a_mount_the_route_is_recognised() -> None:
    found: list[Judgement] = []
    inner = PolicyMiddleware(SITE, sink=lambda judgement, answer: found.append(judgement))
    assert post(Starlette(routes=[Mount("/llm", app=inner)]), "/llm/v1/chat/completions").status_code == 200
    facts = found[0].facts
    assert (facts.path, facts.route, facts.cause) == ("/v1/chat/completions", "chat.completions", None)


@pytest.mark.parametrize("mode", ["media-type", "body-malformed", "body-encoding"])
@pytest.mark.parametrize("body", ["text", "broken", "encoded"])
def test_a_lenient_body_never_excuses_a_credential(tmp_path: Path, mode: str, body: str) -> None:
    directory(tmp_path, "FR")
    (tmp_path / "gateway.yaml").write_text(f"identity: {{directory: accounts.yaml}}\nfail: {{{mode}: open}}\n")
    app = PolicyMiddleware(SITE, config=tmp_path / "gateway.yaml")
    kinds = {"text": {"content-type": "text/plain"}, "broken": {}, "encoded": {"content-encoding": "br"}}
    answer = post(app, key="sk-unknown", content=b"{", headers={"content-type": "application/json", **kinds[body]})
    assert answer.status_code in (400, 401, 415)
    excused = {"media-type": "text", "body-malformed": "broken", "body-encoding": "encoded"}[mode] == body
    assert (answer.status_code == 401) is excused


def test_only_a_server_that_tells_connections_apart_gives_them_ids() -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("203.0.113.9", 40_000)}
    assert head_of(scope).connection is None
    told = {**scope, "extensions": {"sluice.connection": {"id": "203.0.113.9:40000#7"}}}
    assert head_of(told).connection == "203.0.113.9:40000#7"


def test_a_port_used_again_is_another_connection() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(str(head_of(scope).connection))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with served(app, http=Protocol) as port, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        mine = probe.getsockname()[1]
        probe.close()
        for _ in range(2):
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no waiting for late bytes
                connection.bind(("127.0.0.1", mine))
                connection.settimeout(5)
                connection.connect(("127.0.0.1", port))
                for _ in range(2):
                    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert connection.recv(4_096).startswith(b"HTTP/1.1 204")
    first, again, second, once_more = seen
    assert first == again != second == once_more


def test_whoever_holds_back_the_end_of_a_body_saves_up_no_quota(tmp_path: Path) -> None:
    """Limits count when a request is whole: twelve begun over three seconds and ended at once are twelve at once."""
    pack = "pack: p\nversion: 1\nlanguage: 1\nrules: []\nlimits:\n  - {id: p.r, per: [account.id], limit: 2 requests/second,"
    (tmp_path / "p.yaml").write_text(f"{pack} window: moving, on_missing: refuse, mode: enforce}}\n")
    app, body = PolicyMiddleware(SITE, policy=tmp_path / "p.yaml"), json.dumps(BODY).encode()
    found: list[int] = []

    async def one(begin: float, whole: asyncio.Event) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield body[:5]
            await whole.wait()
            yield body[5:]

        await asyncio.sleep(begin)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            found.append((await client.post("/v1/chat/completions", headers=headers, content=parts())).status_code)

    async def all_of_them() -> None:
        whole = asyncio.Event()
        asyncio.get_running_loop().call_later(3.2, whole.set)
        await asyncio.gather(*(one(number / 4, whole) for number in range(12)))

    asyncio.run(all_of_them())
    assert sorted(found) == [200, 200, *[429] * 10]


@pytest.mark.parametrize(
    "key", ["sk-canary-0123456789abcdef", "sk-canary6789abcdef", "gsk_canary6789abcd", "x:sk-canary6789abc"]
)
def test_a_path_nobody_knows_is_kept_without_what_may_be_keys(tmp_path: Path, key: str) -> None:
    (tmp_path / "gateway.yaml").write_text("audit: {records: audit}\n")
    app = PolicyMiddleware(SITE, config=tmp_path / "gateway.yaml")
    assert post(app, path=f"/v1/{key}/models").status_code == 404
    assert app.trail is not None
    app.trail.flush()
    record = ledger(tmp_path / "audit")[-1]
    assert (record["exchange"]["path"], "canary" in json.dumps(record)) == ("/v1/…/models", False)


def test_a_path_nobody_knows_keeps_its_other_segments() -> None:
    for path in ("/v1/desk-lamps/models", "/v1/sk-1/models", "/task-lists-of-mine"):
        assert shown(path) == path
