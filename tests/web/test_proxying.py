"""What passes through the running process, and what must not: headers, targets, bodies, streams, disconnects, usage."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.faulty import MESSAGES, STREAM, Faulty
from tests.web.running import KEY, PATIENCE, PROMPT, Gateway, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}]}).encode()
SAID = {"model": "m", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
STREAMED = json.dumps({**SAID, "stream_options": {"include_usage": True}}).encode()
UNASKED = json.dumps(SAID).encode()
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
FAULTY_USAGE = {"input_tokens": 11, "output_tokens": 7, "cached_tokens": 5}


def echoed(
    gateway: Gateway, client: httpx.Client, headers: dict[str, str], target: str = f"{CHAT}?do=echo", body: bytes = GOOD
) -> Any:
    """What the upstream got."""
    told = client.post(gateway.url + target, content=body, headers={**JSON, **headers}).json()
    told["headers"] = [(name, value) for name, value in told["headers"]]
    told["names"] = {name for name, _ in told["headers"]}
    return told


def test_hop_by_hop_headers_stop_here_on_the_way_up(shaky: Gateway, faulty: Faulty, client: httpx.Client) -> None:
    hops = {"connection": "close, X-Mine ,x-other", "x-mine": "1", "x-other": "2", "keep-alive": "timeout=5", "te": "trailers",
            "trailer": "x", "proxy-authorization": "Basic x", "proxy-connection": "keep-alive"}  # fmt: skip
    told = echoed(shaky, client, {**hops, "x-kept": "yes"})
    assert not told["names"] & set(hops)
    headers = dict(told["headers"])
    assert headers["x-kept"] == "yes"
    assert headers["host"] == f"127.0.0.1:{faulty.port}"
    assert headers["authorization"] == f"Bearer {KEY}"


def test_hop_by_hop_headers_stop_here_on_the_way_down(shaky: Gateway, client: httpx.Client) -> None:
    answer = client.post(f"{shaky.url}{CHAT}?do=echo", content=GOOD, headers=JSON)
    assert not {"x-hop", "keep-alive", "proxy-authenticate", "connection", "transfer-encoding"} & set(answer.headers)
    assert answer.headers["x-kept"] == "yes"
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_forwarding_headers_are_not_passed_on(shaky: Gateway, client: httpx.Client) -> None:
    claims = dict.fromkeys(
        ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix", "forwarded",
         "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"), "203.0.113.9",
    )  # fmt: skip
    told = echoed(shaky, client, claims)
    assert not told["names"] & set(claims)
    assert "203.0.113.9" not in json.dumps(told["headers"])


def test_our_headers_are_ours_alone(plain: Gateway, shaky: Gateway, client: httpx.Client) -> None:
    mine = {"sluice-tags": "trusted", "Sluice-Reference": "sg-1", "sluice_tags": "trusted", "sluice-x": "1"}
    told = echoed(shaky, client, mine)
    assert not [name for name in told["names"] if name.startswith("sluice")]


def test_tags_arrive_even_if_the_caller_names_them_hop_by_hop(shaky: Gateway, client: httpx.Client) -> None:
    body = GOOD.replace(b'"m"', b'"tagged"')
    with shaky.recording() as records:
        told = echoed(shaky, client, {"sluice-tags": "none", "connection": "sluice-tags, traceparent"}, body=body)
    assert [value for name, value in told["headers"] if name == "sluice-tags"] == ["first-mark, second-mark"]
    assert "traceparent" in told["names"]
    assert records[0]["outcome"]["tags"] == ["first-mark", "second-mark"]


@pytest.mark.parametrize(
    "target",
    [f"{CHAT}?do=echo&a=%2F%20+b&&=&c&d=%C3%A9&e=%zz", f"{CHAT}?do=echo&q='()*!~[]|\\^`{{}}\"",
     "/v1/chat%2Dcompletions?do=echo", "/v1/%63hat/completions?do=echo", "/v1/models/org%2Fname%20x?do=echo",
     "/v1/models/ft:m;v=1,2@3?do=echo"],
)  # fmt: skip
def test_targets_are_kept_byte_for_byte(target: str, shaky: Gateway, faulty: Faulty) -> None:
    method = "POST" if "completions" in target else "GET"
    with socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
        head = f"{method} {target} HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    if "%2D" in target:  # no route of that name
        assert answer.startswith(b"HTTP/1.1 404")
        return
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert faulty.last.target == target


@pytest.mark.parametrize(
    "body",
    [b'{ "messages" : [ ],\n\t"model":"m" , "x": 1.50e+3, "y": "\\u00e9\xc3\xa9\\/" }\n', b'{"messages":[],"model":"m"}'],
    ids=["spaced", "compact"],
)
def test_bodies_are_kept_byte_for_byte(body: bytes, shaky: Gateway, client: httpx.Client) -> None:
    told = echoed(shaky, client, {}, body=body)
    assert base64.b64decode(told["body"]) == body
    assert dict(told["headers"])["content-length"] == str(len(body))


def test_header_values_are_kept_byte_for_byte(shaky: Gateway, faulty: Faulty, client: httpx.Client) -> None:
    value = "caf\u00e9 \u2192 \U0001f642".encode()
    client.get(f"{shaky.url}/v1/models", headers=[(b"x-name", value)])
    assert [one.encode("latin-1") for one in faulty.last.values("x-name")] == [value]


def test_the_callers_trace_goes_on_with_a_new_span(shaky: Gateway, client: httpx.Client) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with shaky.recording() as records:
        told = echoed(shaky, client, {"traceparent": f"00-{trace}-{span}-01", "tracestate": "v=1", "baggage": "secret=1"})
    headers = dict(told["headers"])
    version, trace_id, span_id, flags = headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", trace, "01")
    assert span_id != span
    assert headers["tracestate"] == "v=1"
    assert "baggage" not in headers
    assert records[0]["trace"]["trace_id"] == trace
    assert records[0]["trace"]["span_id"] not in (span, span_id)


def test_a_broken_trace_is_replaced(shaky: Gateway, client: httpx.Client) -> None:
    told = echoed(shaky, client, {"traceparent": "00-zz-1-01"})
    assert len(dict(told["headers"])["traceparent"]) == 55


@pytest.mark.parametrize(
    ("offered", "asked"),
    [("gzip, br, zstd", "gzip"), ("br", "identity"), ("", "identity"), ("deflate;q=0.5, gzip", "gzip, deflate"),
     ("gzip;q=0", "identity")],
)  # fmt: skip
def test_only_encodings_are_asked_for_that_the_tap_can_read(
    offered: str, asked: str, shaky: Gateway, client: httpx.Client
) -> None:
    told = echoed(shaky, client, {"accept-encoding": offered})
    assert [value for name, value in told["headers"] if name == "accept-encoding"] == [asked]


# A client that goes away.


@pytest.mark.parametrize(("do", "status"), [("endless_stream", 200), ("hang_head", None)])
def test_a_client_that_goes_away_cancels_the_call(do: str, status: int | None, shaky: Gateway, faulty: Faulty) -> None:
    with shaky.recording() as records:
        before = len(faulty.seen)
        with socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
            head = f"POST {CHAT}?do={do} HTTP/1.1\r\nhost: g\r\ncontent-length: {len(STREAMED)}\r\n\r\n"
            connection.sendall(head.encode() + STREAMED)
            while len(faulty.seen) == before:
                time.sleep(0.01)
            if status:
                assert b'"more "' in connection.recv(65_536) + connection.recv(65_536)
        left = time.monotonic()
        assert faulty.last.gone.wait(2)
    assert faulty.last.gone_at - left < 1
    expected = {"end": "client-gone"} | ({"status": status, "model": "faulty-1"} if status else {})
    events, size = (records[0]["answer"].pop(name, 0) for name in ("events", "size"))
    assert records[0]["answer"] == expected
    assert (size > 0) == bool(status)
    assert bool(events) == (status is not None)


def test_a_client_that_goes_away_while_sending_leaves_nothing(shaky: Gateway, faulty: Faulty) -> None:
    before = len(faulty.seen)
    with shaky.recording(0), socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: 500\r\n\r\n{PROMPT}".encode())
    assert len(faulty.seen) == before


# Usage is found, and the bytes pass unchanged.


@pytest.mark.parametrize("do", ["plain_json", "gzip_json", "split_stream", "gzip_stream"])
def test_usage_is_found(do: str, shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do={do}", content=STREAMED, headers={**JSON, "accept-encoding": "gzip"})
    assert records[0]["answer"] == {"status": 200, "end": "complete", "model": "faulty-1", "usage": FAULTY_USAGE}
    if "stream" in do:
        assert answer.content == STREAM


def test_usage_is_asked_for_and_taken_out_again(shaky: Gateway, faulty: Faulty, client: httpx.Client) -> None:
    """The record has it; the caller, who did not ask, gets every byte but the event with the usage."""
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do=split_stream", content=UNASKED, headers={**JSON, "accept-encoding": "gzip"})
    assert faulty.last.body == UNASKED[:-1] + b',"stream_options":{"include_usage":true}}'
    assert faulty.last.values("accept-encoding") == ["identity"]
    assert faulty.last.values("content-length") == [str(len(faulty.last.body))]
    assert records[0]["answer"] == {"status": 200, "end": "complete", "model": "faulty-1", "usage": FAULTY_USAGE}
    events = STREAM.split(b"\n\n")
    assert answer.content == b"\n\n".join(event for event in events if b'"usage"' not in event)
    with shaky.recording():
        client.post(f"{shaky.url}{CHAT}?do=echo", content=STREAMED, headers=JSON)
    assert faulty.last.body == STREAMED


def test_usage_of_messages_is_found(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}/v1/messages?do=messages", content=STREAMED, headers=JSON)
    assert answer.content == MESSAGES
    usage = {"input_tokens": 17, "output_tokens": 9, "cached_tokens": 4}
    assert records[0]["answer"] == {"status": 200, "end": "complete", "model": "faulty-2", "usage": usage}


def test_compressed_answers_pass_as_they_are(shaky: Gateway, client: httpx.Client) -> None:
    with client.stream("POST", f"{shaky.url}{CHAT}?do=gzip_json", content=GOOD, headers=JSON) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(raw))["model"] == "faulty-1"


def test_fifty_streams_at_once(shaky: Gateway) -> None:
    async def one(client: httpx.AsyncClient) -> tuple[int, float]:
        answer = await client.post(f"{shaky.url}{CHAT}?do=slow_stream", content=STREAMED, headers=JSON)
        return answer.status_code, answer.text.count("data:")

    async def all_of_them() -> list[Any]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(timeout=15, trust_env=False, limits=limits) as client:
            return list(await asyncio.gather(*(one(client) for _ in range(50))))

    started = time.monotonic()
    with shaky.recording(50) as records:
        assert asyncio.run(all_of_them()) == [(200, 5)] * 50
    assert time.monotonic() - started < 8  # one after the other they would take 40 s
    assert {record["answer"]["end"] for record in records} == {"complete"}
    assert len({record["id"] for record in records}) == 50


def test_one_connection_serves_many_requests(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording(20) as records:
        for _ in range(20):
            assert client.post(shaky.url + CHAT, content=GOOD, headers=JSON).status_code == 200
    assert len({record["signals"]["client.connection"] for record in records}) == 1


def test_what_cannot_be_passed_on_is_refused(host: str, faulty: Faulty, tmp_path: Path, client: httpx.Client) -> None:
    """A protocol without an upstream, and a body too large to keep."""
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\nlargest_body: 1KiB\n"
    with gateway(tmp_path, settings, PACK, host) as running:
        before = len(faulty.seen)
        with running.recording(2) as records:
            nowhere = client.post(f"{running.url}/v1/messages", content=GOOD, headers=JSON)
            large = client.post(running.url + CHAT, content=GOOD + b" " * 2_000, headers=JSON)
        running.check()
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (502, "no-upstream")
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body-too-large")
    assert [record["answer"]["end"] for record in records] == ["upstream-failed", "refused"]
    assert len(faulty.seen) == before


def test_a_running_stream_outlives_the_order_to_stop(host: str, faulty: Faulty, tmp_path: Path) -> None:
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, httpx.Client(timeout=10, trust_env=False) as client:
        with client.stream("POST", f"{running.url}{CHAT}?do=slow_stream", content=STREAMED, headers=JSON) as answer:
            chunks = answer.iter_raw()
            first = next(chunks)
            running.process.send_signal(signal.SIGTERM)
            text = first + b"".join(chunks)
        assert text.endswith(b"data: [DONE]\n\n")
        assert running.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert [record["answer"]["end"] for record in running.records()] == ["complete"]
        assert "Traceback" not in running.errors
