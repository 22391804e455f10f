"""Request bodies beyond the inspection window: refused unless declared otherwise, then judged in part and passed on whole."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, Gateway, gateway

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
WINDOW, LARGEST = 64 * 2**10, 16 * 2**20
LARGE_RULE = """  - {id: try.large, title: large, family: volume, owner: tests, mode: enforce,
     when: {request.size: {gte: 4000000}}, then: {action: tag, tag: large}}
limits:"""
RULES = PACK.replace("limits:", LARGE_RULE)


@pytest.fixture(scope="module")
def keeping() -> Iterator[Keeping]:
    server = Keeping()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["open", "closed"])
def fail(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def _windowed(host: str, fail: str, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = (
        f"upstreams: {{openai: {{url: {keeping.url}}}}}\nlargest_body: 16MiB\ninspect_window: 64KiB\n"
        f"fail: {{body-beyond-window: {fail}}}\n"
    )
    with gateway(tmp_path_factory.mktemp("windowed"), settings, RULES, host) as running:
        yield running


@pytest.fixture
def windowed(_windowed: Gateway) -> Iterator[Gateway]:
    yield _windowed
    _windowed.check()


def body_of(size: int) -> bytes:
    frame = json.dumps({"model": "m", "messages": [{"role": "user", "content": ""}]})
    return frame.replace('""', '"' + "word " * (size // 5) + '"').encode()


def pieces(whole: bytes, size: int = 10_000) -> Iterator[bytes]:
    for place in range(0, len(whole), size):
        yield whole[place : place + size]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [70_000, 5 * 2**20])
def test_a_body_beyond_the_window(
    size: int, chunked: bool, fail: str, windowed: Gateway, keeping: Keeping, client: httpx.Client
) -> None:
    body, before = body_of(size), len(keeping.got)
    with windowed.recording() as records:
        answer = client.post(windowed.url + CHAT, content=pieces(body) if chunked else body, headers=JSON)
    exchange = records[0]["exchange"]
    assert exchange["cause"] == "body-beyond-window"
    if fail == "closed":
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body-too-large")
        assert len(keeping.got) == before
        assert "seen" not in exchange
        assert records[0]["outcome"]["by"] == ["intake:body-beyond-window"]
        return
    assert (answer.status_code, answer.content) == (200, BODY)
    assert keeping.got[-1].body == body
    assert (b"transfer-encoding: chunked" in keeping.got[-1].head) is chunked
    assert exchange["seen"] == WINDOW
    assert exchange["size"] == (WINDOW if chunked else len(body))
    assert (b"sluice-tags: large" in keeping.got[-1].head) is (not chunked and size > 4_000_000)
    assert records[0]["answer"]["end"] == "complete"


def test_a_body_within_the_window_is_seen_whole(windowed: Gateway, client: httpx.Client) -> None:
    with windowed.recording() as records:
        assert client.post(windowed.url + CHAT, content=body_of(WINDOW - 1_000), headers=JSON).status_code == 200
    assert not {"seen", "cause"} & set(records[0]["exchange"])


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_not_accepted_at_all_is_refused_all_the_same(
    chunked: bool, fail: str, windowed: Gateway, keeping: Keeping, client: httpx.Client
) -> None:
    body, before = body_of(LARGEST + 2**20), len(keeping.got)
    with windowed.recording() as records:
        try:
            answer = client.post(windowed.url + CHAT, content=pieces(body, 2**20) if chunked else body, headers=JSON)
            assert answer.status_code == 413
        except (httpx.WriteError, httpx.ReadError):  # it was still sending
            assert chunked and fail == "open"
    assert records[0]["answer"]["end"] == "refused"
    assert len(keeping.got) == before


def test_a_slow_upstream_holds_the_client_back(fail: str, windowed: Gateway, keeping: Keeping, client: httpx.Client) -> None:
    if fail == "closed":  # nothing goes on; the body is thrown away as it comes
        with windowed.recording():
            assert client.post(windowed.url + CHAT, content=body_of(12 * 2**20), headers=JSON).status_code == 413
        return
    body, sent = body_of(12 * 2**20), 0
    head = f"POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    keeping.reading.clear()
    with windowed.recording(), socket.create_connection(("127.0.0.1", windowed.port), timeout=8) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        connection.sendall(head)
        connection.settimeout(1.5)
        try:
            while sent < len(body):
                sent += connection.send(body[sent : sent + 2**16])
        except TimeoutError:
            pass
        held = sent
        keeping.reading.set()
        connection.settimeout(8)
        connection.sendall(body[sent:])
        assert b" 200 " in connection.recv(65_536)
    assert held < len(body)
    assert keeping.got[-1].body == body


def test_a_client_that_leaves_while_its_body_goes_on(fail: str, windowed: Gateway, keeping: Keeping) -> None:
    before = len(keeping.got)
    with (
        windowed.recording(int(fail == "open")) as records,
        socket.create_connection(("127.0.0.1", windowed.port), timeout=8) as connection,
    ):
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: 1000000\r\n\r\n".encode() + body_of(2**19))
        time.sleep(0.3)
    assert [record["answer"]["end"] for record in records] == ["client-gone"] * len(records) or fail == "closed"
    assert len(keeping.got) == before


class Hasty:
    """An upstream that answers 401 as soon as it has a head, keeps the connection, and notes what comes on each."""

    def __init__(self) -> None:
        self.got: list[bytearray] = []
        self._serving: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._serving.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._serving[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        got = bytearray()
        self.got.append(got)
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                if b"POST " in data:
                    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")
                got += data

    def close(self) -> None:
        """Once the gateway is gone, and its connections with it."""
        self._listening.close()
        for thread in self._serving:
            thread.join(10)


def test_a_connection_on_which_some_of_a_body_is_still_owed_serves_nobody_else(host: str, tmp_path: Path) -> None:
    """What came next would be taken for the rest of that body, and what stands in it for a request that nobody judged."""
    hasty = Hasty()
    settings = (
        f"upstreams: {{openai: {{url: {hasty.url}}}}}\nlargest_body: 16MiB\ninspect_window: 4KiB\n"
        "fail: {body-beyond-window: open}\n"
    )
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    with gateway(tmp_path, settings, RULES, host) as running, socket.create_connection(("127.0.0.1", running.port)) as owing:
        owing.settimeout(10)
        owing.sendall(head.encode() + b"content-length: 9000\r\n\r\n" + body_of(9_000)[:8_000])
        assert owing.recv(65_536).startswith(b"HTTP/1.1 401")
        for _ in range(3):
            assert httpx.post(running.url + CHAT, content=body_of(500), headers=JSON, timeout=10).status_code == 401
    hasty.close()
    assert [bytes(got).count(b"POST ") for got in hasty.got if b"content-length: 9000" in got] == [1]
