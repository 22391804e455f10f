"""The HTTP/1.1 protocol of the process: bounded heads, declined upgrades, dropped trailers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from gateway.web.server import LARGEST_HEAD, Protocol
from tests.web.running import PATIENCE, free_port

BODY = b'{"said": "hello"}'
OFFER = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
    told = json.dumps({"method": scope["method"], "path": scope["path"], "body": body.decode(), "headers": headers}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(told)).encode())]})
    await send({"type": "http.response.body", "body": told})


@contextlib.contextmanager
def serving(app: Any) -> Iterator[int]:
    """Where the app is served, by this protocol, in a thread."""
    chosen = free_port()
    config = uvicorn.Config(app, port=chosen, http=Protocol, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield chosen
    server.should_exit = True
    thread.join(PATIENCE)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(echo) as found:
        yield found


def answers(port: int, pieces: list[bytes], count: int = 1) -> list[dict[str, Any]]:
    """Send these pieces one after the other, on one connection; the JSON answers."""
    found: list[dict[str, Any]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        reader = connection.makefile("rb")
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        for _ in range(count):
            assert b" 200 " in reader.readline()
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            found.append(json.loads(reader.read(length)))
    return found


def framed(chunked: bool) -> bytes:
    if not chunked:
        return b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    return b"transfer-encoding: chunked\r\n\r\n" + b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [10_000, 40, 7])
def test_an_offered_upgrade_is_declined_and_the_body_read(size: int, chunked: bool, port: int) -> None:
    first = b"POST /first HTTP/1.1\r\nhost: a\r\n" + OFFER + framed(chunked)
    second = b"POST /second HTTP/1.1\r\nhost: a\r\n" + framed(not chunked)
    data = first + second
    found = answers(port, [data[place : place + size] for place in range(0, len(data), size)], 2)
    assert [(answer["path"], answer["body"]) for answer in found] == [("/first", BODY.decode()), ("/second", BODY.decode())]
    assert ["upgrade", "h2c"] in found[0]["headers"]
    assert "upgrade" not in dict(found[1]["headers"])


def test_an_upgrade_without_a_body_leaves_the_connection_usable(port: int) -> None:
    offer = b"GET /first HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    found = answers(port, [offer, b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n"], 2)
    assert [answer["path"] for answer in found] == ["/first", "/second"]


def test_five_thousand_offers_in_one_go(port: int) -> None:
    offer = b"GET /%d HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    found = answers(port, [b"".join(offer % number for number in range(5_000))], 5_000)
    assert [answer["path"] for answer in found] == [f"/{number}" for number in range(5_000)]


def test_a_request_that_is_served_is_told_that_its_client_is_gone_though_others_wait_behind_it() -> None:
    told: list[str] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        told.append(f"{scope['path']}: {message['type']}")

    with serving(waiting) as port, socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(3)))
        time.sleep(0.2)
        connection.close()
        deadline = time.monotonic() + PATIENCE
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == ["/0: http.disconnect"]


def test_trailers_are_no_headers(port: int) -> None:
    request = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-late: 1\r\n\r\n"
    assert answers(port, [request])[0]["headers"] == [["host", "a"], ["transfer-encoding", "chunked"]]


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"], ids=["target", "one header", "many"]
)
def test_a_head_without_end_is_refused(start: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        connection.sendall(start)
        piece = b"x: y\r\n" * 1_000 if start.endswith(b"1\r\n") else b"y" * 6_000
        for _ in range(40 * LARGEST_HEAD // len(piece)):
            try:
                connection.sendall(piece)
            except ConnectionError:
                break
        try:
            answer = connection.recv(65_536)
        except ConnectionError:  # a reset overtook the answer, as we were still sending
            answer = b""
        assert answer[:13] in (b"", b"HTTP/1.1 431 ")
    assert answers(port, [b"GET /after HTTP/1.1\r\nhost: a\r\n\r\n"])[0]["path"] == "/after"


def test_a_head_that_is_large_but_not_too_large_passes(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * (LARGEST_HEAD // 2) + b"\r\n\r\n"
    assert len(dict(answers(port, [request])[0]["headers"])["x"]) == LARGEST_HEAD // 2


def test_what_is_not_http_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
        connection.sendall(b"\x16\x03\x01\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")
