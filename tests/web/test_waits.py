"""How long the process waits for clients: for a head, for a body, and for one that takes nothing of its answer."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.keeping import BODY, LARGE, Keeping
from tests.web.running import KEY, PATIENCE, Gateway, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: {len(GOOD)}\r\n".encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: g\r\n"


@pytest.fixture(scope="module")
def _impatient(keeping: Keeping, faulty: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = (
        f"upstreams: {{openai: {{url: {keeping.url}}}, anthropic: {{url: {faulty.url}}}}}\n"
        "clients: {head: 1s, body: 1500ms, take: 2s, least: 10}\n"
    )
    with gateway(tmp_path_factory.mktemp("impatient"), settings, PACK) as running:
        yield running


@pytest.fixture
def running(_impatient: Gateway) -> Iterator[Gateway]:
    yield _impatient
    _impatient.check()


def closed_after(connection: socket.socket, *drops: bytes, each: float = 0.2) -> float:
    """Seconds until the connection ends while these drops are sent, one `each` so many seconds."""
    started = time.monotonic()
    connection.settimeout(each)
    for drop in drops:
        with contextlib.suppress(TimeoutError):
            if connection.recv(65_536) == b"":
                return time.monotonic() - started
        with contextlib.suppress(OSError):
            connection.sendall(drop)
    connection.settimeout(8)
    with contextlib.suppress(ConnectionError):
        assert connection.recv(65_536) == b""
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", HEAD[:20], HEALTH[:20]], ids=["nothing", "some of a head", "of the app's"])
def test_a_head_that_does_not_come_is_not_waited_for(sent: bytes, running: Gateway) -> None:
    with running.recording(0), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(sent)
        assert 0.8 < closed_after(connection) < 2.5


def test_a_head_that_comes_drop_by_drop_has_the_same_time(running: Gateway) -> None:
    with running.recording(0), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        assert 0.8 < closed_after(connection, *(HEAD[place : place + 1] for place in range(40))) < 2.5


def test_the_same_on_a_connection_that_has_served(running: Gateway) -> None:
    with running.recording(1), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(HEAD + b"\r\n" + GOOD)
        while not connection.recv(65_536).endswith(BODY):
            pass
        assert 0.8 < closed_after(connection, *(HEAD[place : place + 1] for place in range(40))) < 2.5


def test_a_body_that_stops_coming_is_not_waited_for(running: Gateway, keeping: Keeping) -> None:
    before = len(keeping.got)
    with running.recording(0), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(HEAD + b"\r\n" + GOOD[:10])
        assert 1.2 < closed_after(connection) < 3
    assert len(keeping.got) == before


def test_a_body_that_keeps_coming_is_waited_for(running: Gateway, keeping: Keeping) -> None:
    with running.recording(1), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(HEAD + b"\r\n")
        for place in range(0, len(GOOD), 12):
            connection.sendall(GOOD[place : place + 12])
            time.sleep(0.6)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert keeping.got[-1].body == GOOD


def test_a_body_that_comes_drop_by_drop_is_not_waited_for(running: Gateway, keeping: Keeping) -> None:
    """Each drop comes in time, but beyond the first wait so many bytes a second are asked for (`least`)."""
    before = len(keeping.got)
    with running.recording(0), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert 1.2 < closed_after(connection, *(GOOD[place : place + 1] for place in range(60)), each=0.4) < 4
    assert len(keeping.got) == before


def holds(running: Gateway, connection: socket.socket) -> bool:
    """Whether the process still has its end of a connection open: what the kernel alone has belongs to no file."""
    ends = f":{running.port:04X} ", f":{connection.getsockname()[1]:04X} "
    for line in Path(f"/proc/{running.process.pid}/net/tcp").read_text().splitlines()[1:]:
        _, here, there, *_, inode = line.split()[:10]
        if (here[8:] + " ", there[8:] + " ") == ends:
            return inode != "0"
    return False


def test_a_client_that_takes_nothing_of_an_answer_is_gone(running: Gateway, keeping: Keeping) -> None:
    """It holds neither its upstream nor its connection for longer than it may; what is settled says that it went."""
    keeping.written, before = 0, len(running.records())
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(HEAD.replace(b"completions ", b"completions?do=large ") + b"\r\n" + GOOD)
        records = running.records_after(before, 1)
        assert records[0]["answer"]["end"] == "client-gone"
        assert 0 < keeping.written < LARGE / 2
        assert not holds(running, connection)


def test_neither_is_one_kept_that_takes_nothing_of_many_answers_that_ended(running: Gateway) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", running.port))
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                connection.sendall((HEAD.replace(b"completions ", b"completions?do=some ") + b"\r\n" + GOOD) * 200)
        assert holds(running, connection)
        deadline = time.monotonic() + 30
        while holds(running, connection) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not holds(running, connection)
    time.sleep(0.5)


def test_a_slow_client_is_not_taken_for_one_that_is_gone(running: Gateway, keeping: Keeping) -> None:
    with running.recording() as records, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        connection.connect(("127.0.0.1", running.port))
        connection.settimeout(8)
        connection.sendall(HEAD.replace(b"completions ", b"completions?do=large ") + b"connection: close\r\n\r\n" + GOOD)
        received, started = 0, time.monotonic()
        while data := connection.recv(2**18):
            received += len(data)
            if time.monotonic() - started < 5:  # longer than one who takes nothing has
                time.sleep(0.1)
    assert received > LARGE
    assert records[0]["answer"]["end"] == "complete"


def test_a_client_that_takes_too_little_of_an_answer_is_gone(keeping: Keeping, tmp_path: Path) -> None:
    """It takes some all the while, but less than is asked for (`least`), which it could."""
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\nclients: {{take: 1s, least: 20000000}}\n"
    with gateway(tmp_path / "g", settings, PACK) as running, running.recording() as records, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.connect(("127.0.0.1", running.port))
        connection.settimeout(PATIENCE)
        connection.sendall(HEAD.replace(b"completions ", b"completions?do=large ") + b"\r\n" + GOOD)
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(2**15):
                received += len(data)
                time.sleep(0.01)
    assert 2**16 < received < LARGE, "it took some"
    assert records[0]["answer"]["end"] == "client-gone"


def test_a_quiet_stream_is_waited_for(running: Gateway, client: httpx.Client) -> None:
    """It is the upstream that says nothing; the client has taken all there was."""
    with running.recording() as records, contextlib.suppress(httpx.ReadTimeout):
        client.post(
            f"{running.url}/v1/messages?do=hang_stream", content=GOOD, headers={"authorization": f"Bearer {KEY}"}, timeout=5
        )
    assert records[0]["answer"]["end"] == "client-gone"
    assert records[0]["answer"]["status"] == 200
