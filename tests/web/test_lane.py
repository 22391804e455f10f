"""HTTP/1.1 on both sides of the process, byte by byte: framing, order, reuse, retries, time-outs, back-pressure. Both hosts."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.keeping import BODY, LARGE, Keeping
from tests.web.running import KEY, LANE, Gateway, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
USAGE = {"input_tokens": 3, "output_tokens": 4}


@pytest.fixture(scope="module")
def _gateway(host: str, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {keeping.url}, read: 2s}}}}\nclients: {{idle: 5s}}\n"
    with gateway(tmp_path_factory.mktemp("lane"), settings, PACK, host) as running:
        yield running


@pytest.fixture
def running(_gateway: Gateway) -> Iterator[Gateway]:
    yield _gateway
    _gateway.check()


def post(do: str = "sized", *headers: str, version: str = "1.1", target: str = CHAT) -> bytes:
    lines = [f"POST {target}?do={do} HTTP/{version}", "host: g", f"content-length: {len(GOOD)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + GOOD


def get(do: str = "sized", *headers: str) -> bytes:
    return "\r\n".join([f"GET /v1/models?do={do} HTTP/1.1", "host: g", *headers, "", ""]).encode()


def talk(running: Gateway, *pieces: bytes, patience: float = 8) -> bytes:
    """Everything that comes back until the connection ends; the last piece should ask for that."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=patience) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.03)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


# The upstream's side.


@pytest.mark.parametrize("do", ["sized", "chunked", "trailers", "interim"])
def test_connections_to_the_upstream_are_used_again(do: str, running: Gateway, keeping: Keeping, client: httpx.Client) -> None:
    with running.recording():
        client.post(f"{running.url}{CHAT}?do={do}", content=GOOD, headers=JSON)
    before, first = keeping.connections, len(keeping.got)
    with running.recording(20) as records:
        for _ in range(20):
            answer = client.post(f"{running.url}{CHAT}?do={do}", content=GOOD, headers=JSON)
            assert (answer.status_code, answer.content) == (200, BODY)
            assert not {"x-late", "x-usage", "trailer", "link"} & set(answer.headers)
    assert keeping.connections == before
    assert len({got.connection for got in keeping.got[first:]}) == 1
    assert [record["answer"]["usage"] for record in records] == [USAGE] * 20


@pytest.mark.parametrize("do", ["until_close", "old"])
def test_an_answer_may_end_with_its_connection(do: str, running: Gateway, client: httpx.Client) -> None:
    with running.recording(2) as records:
        for _ in range(2):
            assert client.post(f"{running.url}{CHAT}?do={do}", content=GOOD, headers=JSON).content == BODY
    assert [record["answer"]["end"] for record in records] == ["complete"] * 2


@pytest.mark.parametrize(("do", "status"), [("no_content", 204), ("not_modified", 304)])
def test_answers_without_a_body(do: str, status: int, running: Gateway) -> None:
    answer = talk(running, get(do), get("sized", "connection: close"))
    assert statuses(answer) == [status, 200]
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"transfer-encoding" not in head
    assert answer.endswith(BODY)


@pytest.mark.parametrize(
    "do", ["both_framings", "two_lengths", "odd_length", "odd_coding", "switching", "long_head", "many_fields"]
)
def test_an_answer_whose_borders_are_in_doubt_is_none(do: str, running: Gateway, client: httpx.Client) -> None:
    with running.recording() as records:
        answer = client.post(f"{running.url}{CHAT}?do={do}", content=GOOD, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream-interrupted")
    assert records[0]["answer"]["end"] == "upstream-failed"


def test_what_nobody_asked_for_is_given_to_nobody(running: Gateway, keeping: Keeping, client: httpx.Client) -> None:
    with running.recording(2):
        answers = [
            client.post(f"{running.url}{CHAT}?do={do}", content=GOOD, headers=JSON) for do in ("more_than_asked", "chunked")
        ]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, BODY)] * 2
    assert keeping.got[-1].connection != keeping.got[-2].connection


def test_a_stale_connection_costs_a_get_nothing(running: Gateway, keeping: Keeping, client: httpx.Client) -> None:
    with running.recording():
        client.get(f"{running.url}/v1/models")
    before, keeping.stale = len(keeping.got), 1
    with running.recording():
        answer = client.get(f"{running.url}/v1/models?do=chunked")
    assert (answer.status_code, answer.content) == (200, BODY)
    first, second = keeping.got[before:]
    assert first.connection != second.connection
    assert first.head == second.head


def test_a_post_is_never_sent_twice(running: Gateway, keeping: Keeping, client: httpx.Client) -> None:
    with running.recording():
        client.get(f"{running.url}/v1/models")
    before, keeping.stale = len(keeping.got), 1
    with running.recording() as records:
        answer = client.post(running.url + CHAT, content=GOOD, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream-interrupted")
    assert len(keeping.got) == before + 1
    assert records[0]["answer"]["end"] == "upstream-failed"


def test_a_fresh_connection_that_closes_is_no_reason_to_ask_again(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording():
        assert client.get(f"{shaky.url}/v1/models?do=no_answer").status_code == 502


def test_a_slow_client_holds_the_upstream_back(running: Gateway, keeping: Keeping) -> None:
    keeping.written = 0
    with running.recording() as records, socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(post("large", "connection: close"))
        time.sleep(2.5)  # longer than the time between two reads that is allowed: it is not the upstream that is slow
        assert 0 < keeping.written < LARGE / 2
        received = 0
        while data := connection.recv(2**20):
            received += len(data)
    assert received > LARGE
    assert records[0]["answer"]["end"] == "complete"


# The client's side.


def test_pipelined_requests_are_answered_in_order(running: Gateway) -> None:
    """Known routes, the app's own and refusals, in one write."""
    refused = (
        post()
        .replace(b'"m"', b'"forbidden"')
        .replace(b"content-length: %d" % len(GOOD), b"content-length: %d" % (len(GOOD) + 8))
    )
    asked = [post("slow"), b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n", refused, get("slow"), refused,
             b"GET /v1/nothing HTTP/1.1\r\nhost: g\r\n\r\n", post("chunked", "connection: close")]  # fmt: skip
    with running.recording(6):
        answer = talk(running, b"".join(asked))
    assert statuses(answer) == [200, 200, 403, 200, 403, 404, 200]
    assert answer.index(b'"kept-1"') < answer.index(b'"status": "ok"') < answer.index(b"not-for-you")


def test_very_many_pipelined_refusals(running: Gateway) -> None:
    with running.recording(801):
        answer = talk(running, b"DELETE /v1/models HTTP/1.1\r\nhost: g\r\n\r\n" * 400
                      + b"POST /v1/embeddings HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\n\r\n{" * 400
                      + get("sized", "connection: close"), patience=30)  # fmt: skip
    assert statuses(answer) == [404] * 400 + [400] * 400 + [200]


def test_a_request_in_single_bytes(running: Gateway) -> None:
    asked = post("chunked", "connection: close")
    with running.recording():
        answer = talk(running, *(asked[place : place + 1] for place in range(60)), asked[60:])
    assert statuses(answer) == [200]


def test_an_old_client_gets_no_chunks(running: Gateway, host: str) -> None:
    answer = talk(running, post("chunked", version="1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    if host == LANE:  # uvicorn itself sends chunks to anybody
        assert b"transfer-encoding" not in head
        assert body == BODY


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_sized_answer_to_any_client(version: str, running: Gateway) -> None:
    answer = talk(running, post("sized", "connection: close", version=version))
    assert answer.partition(b"\r\n\r\n")[2] == BODY


def test_an_absolute_target_is_the_same_route(running: Gateway, keeping: Keeping) -> None:
    asked = post("sized", "connection: close", target="http://g" + CHAT)
    with running.recording():
        assert statuses(talk(running, asked)) == [200]
    assert keeping.got[-1].target == f"{CHAT}?do=sized"
    assert b"host: 127.0.0.1:%d\r\n" % keeping.port in keeping.got[-1].head


@pytest.mark.parametrize(
    "headers",
    [("content-length: 5", "transfer-encoding: chunked"), ("transfer-encoding: chunked", "transfer-encoding: chunked"),
     ("transfer-encoding: gzip",), ("transfer-encoding: chunked, gzip",), ("content-length: 5, 5",), ("content-length: 0x5",),
     ("content-length: 5 ", "content-length: 5"), ("x-a: b", " folded: yes"), ("x-a : b",), ("host: other",), ("x-a",)],
    ids=lambda headers: " | ".join(headers),
)  # fmt: skip
def test_a_request_whose_borders_are_in_doubt_is_refused(headers: tuple[str, ...], running: Gateway, keeping: Keeping) -> None:
    before = len(keeping.got)
    asked = "\r\n".join([f"POST {CHAT} HTTP/1.1", "host: g", *headers, "", ""]).encode() + b"5\r\nhello\r\n0\r\n\r\n"
    with running.recording(0):
        assert statuses(talk(running, asked)) == [400]
    assert len(keeping.got) == before


def test_a_request_names_its_host(running: Gateway) -> None:
    with running.recording(0):
        assert statuses(talk(running, b"GET /v1/models HTTP/1.1\r\n\r\n")) == [400]
        assert statuses(talk(running, b"GET /healthz HTTP/1.1\r\n\r\n")) == [400]
    with running.recording():
        assert statuses(talk(running, b"GET /v1/models HTTP/1.0\r\n\r\n")) == [200]


def test_an_idle_connection_is_closed(running: Gateway) -> None:
    address = ("127.0.0.1", running.port)
    with socket.create_connection(address, timeout=12) as connection, socket.create_connection(address, timeout=12) as used:
        with running.recording():
            connection.sendall(get())
            answer = b""
            while not answer.endswith(BODY):
                answer += connection.recv(65_536)
        started, asked = time.monotonic(), 0
        connection.settimeout(1)
        while True:  # beside it one that is used: by its requests it is seen how long the idle one had, on any machine
            with contextlib.suppress(TimeoutError):
                assert connection.recv(1) == b""
                break
            with running.recording():
                asked += 1
                used.sendall(get())
                answer = b""
                while not answer.endswith(BODY):
                    answer += used.recv(65_536)
    assert time.monotonic() - started > 4
    assert 1 <= asked <= 9


def test_a_client_that_leaves_while_it_is_held_is_not_served(host: str, running: Gateway, keeping: Keeping) -> None:
    before = len(keeping.got)
    delayed = (
        post().replace(b'"m"', b'"delayed"').replace(b"content-length: %d" % len(GOOD), b"content-length: %d" % (len(GOOD) + 6))
    )
    with running.recording() as records, socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(delayed)
        time.sleep(0.05)
    assert records[0]["answer"] == {"end": "client-gone"}
    assert len(keeping.got) == before or host != LANE  # an app learns of it only after it has asked


def test_an_answer_is_told_not_to_be_buffered(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording():
        answer = client.post(f"{shaky.url}{CHAT}?do=split_stream", content=GOOD, headers=JSON)
    assert answer.headers["x-accel-buffering"] == "no"


# Ways to the upstream.


def test_an_http_proxy_on_the_way_is_told_the_whole_url(
    host: str, keeping: Keeping, tmp_path: Path, client: httpx.Client
) -> None:
    settings = (
        f"upstreams: {{openai: {{url: 'http://api.example/base', proxy: 'http://me:secret@127.0.0.1:{keeping.port}'}}}}\n"
    )
    with gateway(tmp_path, settings, PACK, host) as running, running.recording():
        assert client.post(f"{running.url}{CHAT}?a=b", content=GOOD, headers=JSON).content == BODY
    assert keeping.got[-1].target == f"http://api.example/base{CHAT}?a=b"
    head = keeping.got[-1].head.lower()
    assert b"\r\nhost: api.example\r\n" in head
    assert b"\r\nproxy-authorization: basic bwu6c2vjcmv0\r\n" in head


def test_an_answer_may_have_a_time_for_all_of_it(host: str, faulty: Faulty, tmp_path: Path, client: httpx.Client) -> None:
    settings = f"upstreams: {{openai: {{url: {faulty.url}, total: 1s}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running:
        with running.recording() as records:
            started = time.monotonic()
            answer = client.post(f"{running.url}{CHAT}?do=endless_stream", content=GOOD, headers=JSON)
        assert 0.9 < time.monotonic() - started < 3
        assert b"upstream-timeout" in answer.content
        assert records[0]["answer"]["end"] == "upstream-cut"
        assert faulty.last.gone.wait(2)
