"""Heads that are known already: what each request says anew is its own, and what is kept is bounded and ages."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from gateway.registry import load
from gateway.web.heads import LASTS, LONGEST, MOST, Heads, Known, lines_of
from gateway.web.intake import Head, Intake
from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import LANE, Gateway, gateway

INTAKE = Intake(load(), b"a key of the tests' own")
CHAT = b"/v1/chat/completions"


def known(*headers: tuple[bytes, bytes], path: bytes = CHAT) -> Known:
    texts = tuple((name.decode(), value.decode()) for name, value in headers)
    told = INTAKE.told(Head("POST", path.decode(), headers=texts))
    return Known(told, ("POST", path, b""), path.decode(), "1.1", True, list(headers), texts, ())


def kept(heads: Heads, *headers: tuple[bytes, bytes], path: bytes = CHAT) -> bool:
    lines = lines_of(b"POST", path, "1.1", list(headers))
    heads.keep(lines, known(*headers, path=path), 0.0)
    return heads.find(lines) is not None


def test_a_head_is_found_by_all_of_its_lines_but_what_each_request_says_anew() -> None:
    heads, first = Heads(), [(b"authorization", b"Bearer a"), (b"content-length", b"3")]
    assert kept(heads, *first)
    assert heads.find(lines_of(b"POST", CHAT, "1.1", [first[0], (b"content-length", b"44")])) is not None
    others = [
        [(b"authorization", b"Bearer b"), first[1]], [first[1], first[0]], [first[0]], [*first, (b"x-api-key", b"c")],
        [(b"authorization", b"Bearer a"), (b"content-length", b"3"), (b"content-length", b"3")],
    ]  # fmt: skip
    assert [heads.find(lines_of(b"POST", CHAT, "1.1", other)) for other in others] == [None] * len(others)
    assert heads.find(lines_of(b"POST", CHAT, "1.0", first)) is None
    assert heads.find(lines_of(b"POST", CHAT + b"?a=b", "1.1", first)) is None


def test_what_cannot_come_again_is_not_kept() -> None:
    assert not kept(Heads(), (b"x-request-id", b"1"))
    assert not kept(Heads(), (b"x-a", b"y" * LONGEST))
    assert not kept(Heads(), path=b"/nobody/knows")


def test_what_is_kept_is_bounded_and_ages() -> None:
    heads = Heads()
    for number in range(3 * MOST):
        kept(heads, (b"authorization", b"Bearer %d" % number))
    assert 0 < len(heads) <= MOST
    heads.age(LASTS)
    assert len(heads) > 0
    heads.age(LASTS + 1)
    assert len(heads) == 0


@pytest.fixture(scope="module")
def running(keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\n"
    with gateway(tmp_path_factory.mktemp("heads"), settings, PACK, LANE) as running:
        yield running
        running.check()


def test_each_request_of_a_known_head_has_its_own_length_key_and_trace(running: Gateway, keeping: Keeping) -> None:
    """Over and over on one connection, by two callers in turn, in bodies of every length."""
    before, sent = len(keeping.got), []
    with running.recording(12) as records, socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        for number in range(12):
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello" * number}]}).encode()
            trace = f"{number + 1:032x}"
            lines = [
                f"POST {CHAT.decode()}?do=sized HTTP/1.1", "Host: g", f"Content-Length: {len(body)}",
                f"Authorization: Bearer sk-{number % 2}", f"traceparent: 00-{trace}-{7:016x}-01", "", "",
            ]  # fmt: skip
            connection.sendall("\r\n".join(lines).encode() + body)
            sent.append((body, trace))
            answer = b""
            while not answer.endswith(BODY):
                answer += connection.recv(65_536)
    for number, (got, record, (body, trace)) in enumerate(zip(keeping.got[before:], records, sent, strict=True)):
        head = (got.head + b"\r\n").lower()
        assert got.body == body
        assert head.count(b"content-length: ") == 1 and b"content-length: %d\r\n" % len(body) in head
        assert b"authorization: bearer sk-%d\r\n" % (number % 2) in head
        assert head.count(b"traceparent") == 1 and trace.encode() in head
        assert (record["exchange"]["size"], record["trace"]["trace_id"]) == (len(body), trace)
    assert len({record["signals"]["account.id"] for record in records}) == 2
