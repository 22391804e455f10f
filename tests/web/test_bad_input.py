"""Bad requests and bad upstreams through the running process: the declared answer, one record, and life goes on."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.web.faulty import ANSWER, Faulty
from tests.web.running import KEY, PROMPT, Gateway

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
SAID = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
GOOD = json.dumps(SAID).encode()
AUTH = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
ANTHROPIC = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}
BIG = 50 * 2**20


def said(**more: Any) -> bytes:
    return json.dumps({**SAID, **more}).encode()


@dataclass(frozen=True)
class Case:
    """A body the gateway must refuse: the answer's status and code, the record's cause, and words of the message."""

    name: str
    body: bytes
    status: int
    code: str
    cause: str
    words: str = ""
    headers: dict[str, str] = field(default_factory=dict)


MALFORMED = (400, "invalid-body", "body-malformed")
CASES = (
    Case("malformed JSON", GOOD[:-5], *MALFORMED, "not JSON"),
    Case("empty body", b"", *MALFORMED, "not JSON"),
    Case("a byte order mark", b"\xef\xbb\xbf" + GOOD, *MALFORMED, "not JSON"),
    Case("nested 10,000 deep", b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", *MALFORMED, "nested deeper"),
    Case("nested 101 deep", b'{"messages": ' + b"[" * 100 + b"]" * 100 + b"}", *MALFORMED, "nested deeper"),
    Case("a key twice", b'{"model": "a", "model": "b", "messages": []}', *MALFORMED, "'model' stands twice"),
    Case("a key twice, once escaped", b'{"model": "a", "mod\\u0065l": "b", "messages": []}', *MALFORMED, "twice"),
    Case("the last of very many keys twice", b"{" + b"".join(b'"k%d": 1, ' % n for n in range(100_000)) + b'"k9": 2}',
         *MALFORMED, "'k9' stands twice"),
    Case("a lone surrogate twice", b'{"\\ud800": 1, "\\ud800": 2}', *MALFORMED, "twice"),
    Case("invalid UTF-8", GOOD.replace(b"canary", b"can\xff\xfe"), *MALFORMED, "not UTF-8 at byte"),
    Case("NaN", said(temperature=float("nan")), *MALFORMED, "NaN"),
    Case("a number of 10,000 digits", b'{"messages": [], "seed": ' + b"9" * 10_000 + b"}", *MALFORMED, "digits"),
    Case("a list", b"[" + GOOD + b"]", *MALFORMED, "JSON object"),
    Case("a string", json.dumps(PROMPT).encode(), *MALFORMED, "JSON object"),
    Case("null", b"null", *MALFORMED, "JSON object"),
    Case("messages null", said(messages=None), *MALFORMED, "'messages' is missing"),
    Case("messages a string", said(messages=PROMPT), *MALFORMED, "'messages' must be a list"),
    Case("a message that is a string", said(messages=[PROMPT]), *MALFORMED, "messages[0] must be an object"),
    Case("a message without a role", said(messages=[{"content": PROMPT}]), *MALFORMED, "messages[0] needs a 'role'"),
    Case("a role of the wrong type", said(messages=[{"role": 7, "content": PROMPT}]), *MALFORMED, "needs a 'role'"),
    Case("content of the wrong type", said(messages=[{"role": "user", "content": 7}]), *MALFORMED, "'content' must be"),
    Case("a part of the wrong type", said(messages=[{"role": "user", "content": [PROMPT]}]), *MALFORMED, "part"),
    Case("stream of the wrong type", said(stream="yes"), *MALFORMED, "'stream' must be"),
    Case("model of the wrong type", said(model=[PROMPT]), *MALFORMED, "'model' must be"),
    Case("model of absurd length", said(model=PROMPT * 1000), *MALFORMED, "'model'"),
    Case("tools of the wrong type", said(tools={"name": PROMPT}), *MALFORMED, "'tools' must be"),
    Case("no JSON by its type", GOOD, 415, "unsupported-media-type", "media-type", "application/json",
         {"content-type": "text/plain"}),
    Case("a form", b"a=" + PROMPT.encode(), 415, "unsupported-media-type", "media-type", "application/json",
         {"content-type": "multipart/form-data; boundary=x"}),
    Case("an unknown encoding", GOOD, 415, "unsupported-encoding", "body-encoding", "gzip", {"content-encoding": "br"}),
    Case("two encodings", gzip.compress(gzip.compress(GOOD)), 415, "unsupported-encoding", "body-encoding", "gzip",
         {"content-encoding": "gzip, gzip"}),
    Case("broken gzip", gzip.compress(GOOD)[:-9], *MALFORMED, "gzip", {"content-encoding": "gzip"}),
    Case("no gzip at all", GOOD, *MALFORMED, "gzip", {"content-encoding": "gzip"}),
    Case("more behind the gzip", gzip.compress(GOOD) + gzip.compress(GOOD), *MALFORMED, "gzip", {"content-encoding": "gzip"}),
    Case("broken deflate", zlib.compress(GOOD)[:-6], *MALFORMED, "deflate", {"content-encoding": "deflate"}),
    Case("a gzip bomb", gzip.compress(b'{"a": "' + b"0" * 200 * 2**20, 1), 413, "body-too-large", "body-too-large", "",
         {"content-encoding": "gzip"}),
    Case("50 MB", b" " * BIG, 413, "body-too-large", "body-too-large"),
)  # fmt: skip


def assert_error(answer: httpx.Response, status: int, code: str, record: dict[str, Any], protocol: str = "openai") -> str:
    """The error has the protocol's shape, names the code, and its reference opens this record. Returns its message."""
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["sluice-reference"] == record["reference"]
    error = body["error"]
    assert error["code"] == code
    assert error["message"].endswith(f"(reference {record['reference']})")
    if protocol == "anthropic":
        assert (body["type"], body["request_id"]) == ("error", record["reference"])
    else:
        assert set(error) == {"message", "type", "param", "code"}
    assert record["answer"]["status"] == status
    return str(error["message"])


def assert_refused(record: dict[str, Any], cause: str) -> None:
    assert record["exchange"]["cause"] == cause
    assert record["outcome"]["action"] == "deny"
    assert record["outcome"]["by"] == [f"intake:{cause}"]
    assert record["answer"]["end"] == "refused"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bodies_that_cannot_be_read(case: Case, shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(shaky.url + CHAT, content=case.body, headers={**AUTH, **case.headers})
    assert case.words in assert_error(answer, case.status, case.code, records[0])
    assert_refused(records[0], case.cause)
    assert records[0]["exchange"]["size"] == len(case.body)


def test_the_other_protocol_has_its_own_shape(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(shaky.url + MESSAGES, content=said(messages=PROMPT), headers=ANTHROPIC)
    assert "'messages' must be a list" in assert_error(answer, 400, "invalid-body", records[0], "anthropic")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert_refused(records[0], "body-malformed")


def chunks(whole: bytes, size: int) -> Iterator[bytes]:
    for place in range(0, len(whole), size):
        yield whole[place : place + size]


def test_a_large_chunked_body_is_refused(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(shaky.url + CHAT, content=chunks(b" " * BIG, 2**20), headers=AUTH)
    assert_error(answer, 413, "body-too-large", records[0])
    assert_refused(records[0], "body-too-large")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(GOOD, None), (gzip.compress(GOOD), "gzip"), (zlib.compress(GOOD), "deflate")],
    ids=["chunked", "gzip", "deflate"],
)
def test_chunked_and_compressed_bodies_work(
    body: bytes, encoding: str | None, shaky: Gateway, faulty: Faulty, client: httpx.Client
) -> None:
    headers = {**AUTH, **({"content-encoding": encoding} if encoding else {})}
    with shaky.recording() as records:
        answer = client.post(shaky.url + CHAT, content=chunks(body, 7), headers=headers)
    assert answer.json() == ANSWER
    assert faulty.last.body == body
    assert faulty.last.values("content-encoding") == ([encoding] if encoding else [])
    assert records[0]["signals"]["request.model"] == "m"
    assert "cause" not in records[0]["exchange"]


def test_null_fields_are_as_good_as_absent(shaky: Gateway, client: httpx.Client) -> None:
    body = said(model=None, stream=None, tools=None, temperature=None, user=None, stop=None)
    with shaky.recording() as records:
        answer = client.post(shaky.url + CHAT, content=body, headers=AUTH)
    assert answer.status_code == 200
    assert records[0]["missing"]["request.model"] == "no model named"


# Bare sockets: what a proper client would not send.


def raw(gateway: Gateway, data: bytes, patience: float = 8) -> bytes:
    """Everything the gateway answers until it closes the connection (ask for that), or falls silent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=patience) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65_536):
            found += chunk
        return found


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "host: gateway", *headers, "", ""]).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_body_too_large_is_refused_before_it_is_sent(shaky: Gateway) -> None:
    asked = request(f"POST {CHAT} HTTP/1.1", "content-type: application/json", f"content-length: {BIG}", "expect: 100-continue")
    with shaky.recording() as records:
        answer = raw(shaky, asked)
    assert status_of(answer) == 413
    assert b"connection: close" in answer
    assert_refused(records[0], "body-too-large")


def test_leave_to_send_a_body_is_given(shaky: Gateway) -> None:
    headers = ("content-type: application/json", f"content-length: {len(GOOD)}", "expect: 100-continue", "connection: close")
    with shaky.recording() as records, socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
        connection.sendall(request(f"POST {CHAT} HTTP/1.1", *headers))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert status_of(connection.recv(65_536)) == 200
    assert records[0]["answer"]["end"] == "complete"


def test_no_leave_is_given_for_a_body_nobody_wants(shaky: Gateway) -> None:
    with shaky.recording() as records:
        answer = raw(shaky, request("POST /v1/nothing HTTP/1.1", "content-length: 9", "expect: 100-continue"))
    assert status_of(answer) == 404
    assert_refused(records[0], "route-unrecognised")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/nothing"), ("DELETE", CHAT), ("PUT", CHAT), ("HEAD", "/v1/models"), ("OPTIONS", CHAT), ("POST", CHAT + "/"),
     ("POST", "//v1/chat/completions"), ("POST", "/V1/chat/completions"), ("GET", "/v1/models/.."),
     ("GET", "/v1/models/%2e%2e"), ("GET", "/v1/models/..%2fchat"), ("GET", "/"), ("BREW", "/v1/models")],
)  # fmt: skip
def test_routes_and_methods_that_are_not_served(method: str, path: str, shaky: Gateway) -> None:
    headers = (f"authorization: Bearer {KEY}", f"content-length: {len(GOOD)}", "connection: close")
    if method == "BREW":  # no method that HTTP knows: the server itself answers
        assert status_of(raw(shaky, request(f"{method} {path} HTTP/1.1", *headers))) == 400
        return
    with shaky.recording() as records:
        head, _, body = raw(shaky, request(f"{method} {path} HTTP/1.1", *headers, body=GOOD)).partition(b"\r\n\r\n")
    assert status_of(head) == 404
    assert b"content-type: application/problem+json" in head
    if method != "HEAD":
        problem = json.loads(body)
        assert problem["type"] == "urn:sluicegate:unknown-route"
        assert (problem["status"], problem["instance"]) == (404, records[0]["reference"])
    assert_refused(records[0], "route-unrecognised")
    assert records[0]["exchange"]["method"] == method


def test_a_websocket_is_refused_as_an_unknown_route(shaky: Gateway) -> None:
    headers = (
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    with shaky.recording() as records:
        answer = raw(shaky, request("GET /v1/realtime HTTP/1.1", *headers))
    assert status_of(answer) == 404
    assert b"connection: close" in answer
    assert_refused(records[0], "route-unrecognised")


def test_an_upgrade_offered_with_a_call_never_costs_its_body(shaky: Gateway, faulty: Faulty) -> None:
    """It is served as if nothing had been offered (`web.server`)."""
    headers = (
        "connection: upgrade, http2-settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABk",
        "content-type: application/json",
    )
    asked = request(f"POST {CHAT} HTTP/1.1", *headers, f"content-length: {len(GOOD)}", body=GOOD)
    with shaky.recording() as records, socket.create_connection(("127.0.0.1", shaky.port), timeout=8) as connection:
        connection.sendall(asked)
        status = status_of(connection.recv(65_536))
    assert (status, len(records)) == (200, 1)
    assert faulty.last.body == GOOD
    assert not faulty.last.values("upgrade") + faulty.last.values("http2-settings")


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", request(f"POST {CHAT} HTTP/1.1", "content-length: -1"),
     request(f"POST {CHAT} HTTP/1.1", "content-length: 5", "content-length: 6"),
     request(f"POST {CHAT} HTTP/1.1", "bad name: x"),
     request(f"POST {CHAT} HTTP/1.1", "content-length: " + "9" * 5000), request(f"POST {CHAT} HTTP/1.1", "x: a\x00b"),
     request("GET /v1/models\xff HTTP/1.1"), request("OPTIONS * HTTP/1.1", "connection: close"),
     request("CONNECT example.org:443 HTTP/1.1", "connection: close"),
     request(f"POST {CHAT} HTTP/1.1", "transfer-encoding: chunked", "connection: close", body=b"zz\r\n")],
    ids=["tls", "no target", "negative length", "two lengths", "bad name", "absurd length", "nul", "raw bytes in the path",
         "options *", "connect", "broken chunk"],
)  # fmt: skip
def test_what_is_not_http_is_closed(junk: bytes, shaky: Gateway) -> None:
    before = len(shaky.records())
    assert raw(shaky, junk)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404", b"")
    assert len(shaky.records()) <= before + 1


def test_header_junk_reaches_the_upstream_or_is_refused_but_never_breaks_us(shaky: Gateway, faulty: Faulty) -> None:
    """Every byte in a header value: what the server lets in goes on unchanged, or the answer is a clean 400."""
    for byte in range(256):
        before = len(faulty.seen)
        value = b"a" + bytes([byte]) + b"b"
        answer = raw(shaky, request("GET /v1/models HTTP/1.1", "connection: close")[:-2] + b"x-junk: " + value + b"\r\n\r\n")
        assert status_of(answer) in (200, 400), (byte, answer)
        if status_of(answer) == 200:
            assert len(faulty.seen) == before + 1
            arrived = faulty.last.values("x-junk")[0].encode("latin-1")
            assert arrived == value, byte


def test_headers_of_a_hundred_kilobytes(shaky: Gateway, faulty: Faulty, client: httpx.Client) -> None:
    long = "v" * 100_000
    with shaky.recording() as records:
        answer = client.get(f"{shaky.url}/v1/models", headers={**AUTH, "x-long": long})
    assert answer.status_code == 200
    assert faulty.last.values("x-long") == [long]
    assert records[0]["answer"]["end"] == "complete"


# Who calls.


def test_no_directory_lets_everybody_pass(plain: Gateway, client: httpx.Client) -> None:
    with plain.recording(2) as records:
        without = client.post(plain.url + CHAT, content=GOOD)
        unknown = client.post(plain.url + CHAT, content=GOOD, headers=AUTH)
    assert (without.status_code, unknown.status_code) == (200, 200)
    assert records[0]["exchange"]["cause"] == "credential-missing"
    assert records[0]["outcome"]["action"] == "allow"
    assert "cause" not in records[1]["exchange"]
    assert records[1]["signals"]["account.id"].startswith("key:")


@pytest.mark.parametrize(("path", "protocol"), [(CHAT, "openai"), (MESSAGES, "anthropic")])
@pytest.mark.parametrize(
    ("headers", "cause"),
    [({}, "credential-missing"), ({"authorization": "Basic dXNlcg=="}, "credential-missing"),
     ({"authorization": "Bearer sk-stranger", "x-api-key": "sk-stranger"}, "credential-unknown")],
    ids=["none", "not a key", "unknown"],
)  # fmt: skip
def test_a_directory_lets_in_those_it_lists(
    headers: dict[str, str], cause: str, path: str, protocol: str, listed: Gateway, client: httpx.Client
) -> None:
    with listed.recording() as records:
        answer = client.post(listed.url + path, content=GOOD, headers=headers)
    assert_error(answer, 401, cause, records[0], protocol)
    assert answer.json()["error"]["type"] == "authentication_error"
    assert_refused(records[0], cause)
    assert "sk-stranger" not in json.dumps(records)


def test_a_listed_key_is_let_in(listed: Gateway, client: httpx.Client) -> None:
    with listed.recording() as records:
        answer = client.post(listed.url + CHAT, content=GOOD, headers=AUTH)
    assert answer.status_code == 200
    assert records[0]["signals"]["account.id"] == "acme"


# Upstreams.


def assert_upstream_failed(
    answer: httpx.Response, status: int, code: str, record: dict[str, Any], protocol: str = "openai"
) -> None:
    assert_error(answer, status, code, record, protocol)
    assert record["outcome"]["action"] == "allow"
    assert record["answer"]["end"] == "upstream-failed"
    assert "cause" not in record["exchange"]


def test_an_upstream_that_is_down(listed: Gateway, client: httpx.Client) -> None:
    with listed.recording() as records:
        answer = client.post(listed.url + MESSAGES, content=GOOD, headers=ANTHROPIC)
    assert_upstream_failed(answer, 502, "upstream-unreachable", records[0], "anthropic")
    assert answer.json()["error"]["type"] == "api_error"


@pytest.mark.parametrize("do", ["no_answer", "junk_answer", "odd_status"])
def test_an_upstream_without_a_proper_answer(do: str, shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do={do}", content=GOOD, headers=AUTH)
    assert_upstream_failed(answer, 502, "upstream-interrupted", records[0])


def test_an_upstream_that_hangs(shaky: Gateway, faulty: Faulty, client: httpx.Client) -> None:
    started = time.monotonic()
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do=hang_head", content=GOOD, headers=AUTH)
    assert 0.9 < time.monotonic() - started < 10
    assert_upstream_failed(answer, 504, "upstream-timeout", records[0])
    assert faulty.last.gone.wait(2)


def test_the_upstreams_own_error_passes_through(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do=unknown_model", content=GOOD, headers=AUTH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.headers["x-request-id"] == "up-1"
    assert "sluice-reference" not in answer.headers
    assert records[0]["answer"] == {"status": 404, "end": "complete"}


@pytest.mark.parametrize("do", ["cut_json", "cut_chunked", "hang_json", "gzip_stream_cut", "cut_frame", "cut_sized_stream"])
def test_half_an_answer_is_never_taken_for_a_whole_one(do: str, shaky: Gateway, client: httpx.Client) -> None:
    """Where no error event would be understood the connection breaks."""
    with shaky.recording() as records, pytest.raises(httpx.RemoteProtocolError):
        client.post(f"{shaky.url}{CHAT}?do={do}", content=GOOD, headers={**AUTH, "accept-encoding": "gzip"})
    assert records[0]["answer"]["end"] == "upstream-cut"
    assert records[0]["answer"]["status"] == 200


@pytest.mark.parametrize(("do", "code"), [("cut_stream", "upstream-interrupted"), ("hang_stream", "upstream-timeout")])
def test_a_stream_that_breaks_says_so(do: str, code: str, shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do={do}", content=said(stream=True), headers=AUTH)
    *_, last = answer.text.removesuffix("\n\n").split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == code
    assert records[0]["reference"] in error["message"]
    assert '"one "' in answer.text
    assert "[DONE]" not in answer.text
    assert records[0]["answer"].pop("size") == len(answer.content)
    assert records[0]["answer"] == {"status": 200, "end": "upstream-cut", "model": "faulty-1", "events": 2}


def test_a_stream_of_messages_that_breaks_says_so(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{MESSAGES}?do=cut_messages", content=said(stream=True), headers=ANTHROPIC)
    assert answer.text.split("\n\n")[-2].startswith('event: error\ndata: {"type": "error"')
    assert records[0]["answer"]["end"] == "upstream-cut"
    assert records[0]["answer"]["usage"] == {"input_tokens": 17, "output_tokens": 1, "cached_tokens": 4}


def test_long_headers_of_an_upstream_pass(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording():
        answer = client.get(f"{shaky.url}/v1/models?do=big_headers")
    assert len(answer.headers["x-policy"]) == 30_000
