"""Requests on one connection, one behind the other: clients that do not read, that offer upgrades, that end in rubbish."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.web import wire
from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, LANE, Gateway, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
OFFER = b"GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"


@pytest.fixture(scope="module")
def _before(host: str, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\nclients: {{take: 2s}}\n"
    with gateway(tmp_path_factory.mktemp("pipelines"), settings, PACK, host) as running:
        yield running


@pytest.fixture
def running(_before: Gateway) -> Iterator[Gateway]:
    yield _before
    _before.check()


def post(do: str = "sized", *headers: str, body: bytes = GOOD) -> bytes:
    lines = [f"POST {CHAT}?do={do} HTTP/1.1", "host: g", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def everything(connection: socket.socket) -> bytes:
    """What comes until the connection ends."""
    found = b""
    try:
        while data := connection.recv(2**18):
            found += data
    except ConnectionError:
        pass
    return found


def test_a_client_that_does_not_read_begins_no_new_work(running: Gateway, keeping: Keeping) -> None:
    """Answers of 40 KiB, each of which is over before it was taken: no more are begun than fill the buffers."""
    asked, sent, before = post("some"), 0, len(keeping.got)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", running.port))
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 50 * 2**20:
                sent += connection.send(asked * 200)
        begun, now = 0, -1
        while begun != now:
            begun, now = len(keeping.got) - before, begun
            time.sleep(0.5)
    assert 0 < begun < 400 < sent / len(asked) / 2
    assert httpx.post(running.url + CHAT, content=GOOD, timeout=15, trust_env=False).content == BODY


def test_more_offers_to_upgrade_in_one_go_than_calls_may_nest(running: Gateway, keeping: Keeping) -> None:
    """With nothing for a rule to look at: it is about as many requests as one read may bring."""
    number = sys.getrecursionlimit() + 200
    before = len(keeping.got)
    with running.recording(number + 1), socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(OFFER * number + post("sized", "connection: close"))
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(BODY) == len(keeping.got) - before == number + 1


def test_an_offer_with_a_body_in_pieces_among_others(running: Gateway, keeping: Keeping) -> None:
    offer = post("sized", "connection: upgrade", "upgrade: h2c")
    asked = (offer + OFFER + post()) * 3 + post("sized", "connection: close")
    before = len(keeping.got)
    with running.recording(10), socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        for place in range(0, len(asked), 61):
            connection.sendall(asked[place : place + 61])
            time.sleep(0.002)
        assert everything(connection).count(BODY) == 10
    assert [got.body for got in keeping.got[before:]] == [GOOD, b"", GOOD] * 3 + [GOOD]


@pytest.mark.parametrize("pause", [0.1, 0.0], ids=["while it is served", "in the same breath"])
def test_rubbish_behind_a_request_never_stands_in_its_answer(pause: float, running: Gateway, host: str) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(post("slow") + (b"" if pause else b"RUBBISH\x01\r\n\r\n"))
        if pause:
            time.sleep(pause)
            connection.sendall(b"RUBBISH\x01\r\n\r\n")
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 ") <= (0 if pause else 1)
    if answer:  # nothing was begun: what came with the rubbish is refused with it
        assert host == LANE
        assert answer.startswith(b"HTTP/1.1 400 ")
    time.sleep(0.4)


def test_rubbish_in_a_running_answer_never_stands_in_it(shaky: Gateway, faulty: Faulty) -> None:
    with shaky.recording() as records, socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
        connection.sendall(post("endless_stream"))
        head = connection.recv(65_536)
        connection.sendall(b"RUBBISH\x01\r\n\r\n")
        answer = head + everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"400" not in answer
    assert records[0]["answer"]["end"] == "client-gone"
    assert faulty.last.gone.wait(2)


@pytest.mark.parametrize("work", [wire.goes_up, wire.named_by, wire.readable])
def test_what_is_remembered_of_callers_names_stays_small(work: object) -> None:
    """Both the number of the names and their length are bounded: long ones are worked out anew each time."""
    kept = work.__closure__  # type: ignore[attr-defined]
    caches = [cell.cell_contents for cell in kept if hasattr(cell.cell_contents, "cache_info")]
    caches[0].cache_clear()
    for number in range(5_000):
        work(b"x-%d" % number)  # type: ignore[operator]
        work(b"x-%d-" % number + b"y" * 10_000)  # type: ignore[operator]
    assert caches[0].cache_info().currsize == caches[0].cache_info().maxsize <= 2_048
    assert caches[0].cache_info().misses == 5_000


# Some of a body that comes between judging and forwarding.


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_comes_while_its_request_is_held_goes_on_whole(
    chunked: bool, host: str, keeping: Keeping, tmp_path: Path
) -> None:
    """The rule that holds it decides by the account, so that it holds what is seen in part too."""
    holding = PACK.replace("when: {request.model: delayed}", "when: {request.size: {gte: 5000}}")
    settings = (
        f"upstreams: {{openai: {{url: {keeping.url}}}}}\nlargest_body: 16MiB\ninspect_window: 8KiB\n"
        "fail: {body-beyond-window: open}\n"
    )
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 100_000}]}).encode()
    with (
        gateway(tmp_path, settings, holding, host) as running,
        running.recording() as records,
        socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection,
    ):
        head = f"POST {CHAT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
        connection.sendall(f"{head}{framing}\r\n\r\n".encode())
        for place in range(0, len(body), 20_000):
            piece = body[place : place + 20_000]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            time.sleep(0.01)
        connection.sendall(b"0\r\n\r\n" if chunked else b"")
        assert everything(connection).endswith(BODY)
    assert records[0]["outcome"]["action"] == "delay"
    assert keeping.got[-1].body == body
