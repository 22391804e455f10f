"""Requests that two readers may take for two different things, on bare sockets: each is refused and its connection closed, or
passed once, with the same body, framed anew. Both hosts. The techniques are those of RFC 9112 §11, of the published lists of
obfuscated Transfer-Encodings, and of the tests of llhttp.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.web.conftest import PACK
from tests.web.keeping import Keeping
from tests.web.running import KEY, PATIENCE, Gateway, gateway

CHAT = b"/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
SIZE = len(GOOD)
LENGTH = b"content-length: %d" % SIZE
CODED = b"transfer-encoding: chunked"
LAST = b"0\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n" % (SIZE, GOOD) + LAST
SMUGGLED = b"POST " + CHAT + b"?smuggled=1 HTTP/1.1\r\nhost: evil\r\ncontent-length: %d\r\n\r\n" % SIZE + GOOD
START = b"POST " + CHAT + b" HTTP/1.1"


def head(*lines: bytes, start: bytes = START, host: bytes | None = b"g") -> bytes:
    named = [b"host: " + host] if host is not None else []
    return b"\r\n".join([start, *named, b"authorization: Bearer " + KEY.encode(), *lines, b"", b""])


def posted(start: bytes) -> bytes:
    return head(LENGTH, start=start) + GOOD


CODINGS = (
    b"xchunked", b"chunked, identity", b"identity, chunked", b"identity", b"gzip, chunked", b"chunked, chunked", b"chunked,",
    b", chunked", b"chunked\x0b", b"\x0bchunked", b'"chunked"', b"'chunked'", b"x chunked", b"chunked;a=b", b"chunk", b"",
    b"chunked\x00", b"chunked\r", b"cow", b"cow, chunked", b"chunked\xff",
)  # fmt: skip
LENGTHS = (b"+%d", b"-%d", b"0x%x", b"%d;a", b"%d.0", b"\x0b%d", b"%d\x00", b"%d, %d", b"%d %d", b"%de0", b"\xff%d", b"_%d")
HOSTS = (b"", b"a b", b"a@b", b"a/b", b"a,b", b"a:b:c", b"a:", b"[::1", b"::1", b"g?x", b"g#x", b"a\\b", b"g\x7f", b"g\x00")
SIZES = (
    b"0x%x",
    b"+%x",
    b"-%x",
    b"%x ",
    b" %x",
    b"%x\t",
    b"%x\x00",
    b"",
    b"%x\n",
    b"1_%x",
    b"10000000000000000%x",
    b"g%x",
    b"%x,",
)
VERSIONS = (b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10")
REFUSED = {
    "both lengths and chunks": head(LENGTH, CODED) + CHUNKED,
    "chunks and lengths": head(CODED, b"content-length: 4") + CHUNKED + SMUGGLED,
    **{f"coding {one!r}": head(b"transfer-encoding: " + one) + CHUNKED for one in CODINGS},
    **{f"coding {one!r} and a length": head(b"transfer-encoding: " + one, LENGTH) + GOOD for one in CODINGS},
    "two codings": head(CODED, CODED) + CHUNKED,
    "two codings, the first another": head(b"transfer-encoding: identity", CODED) + CHUNKED,
    "two codings, the second another": head(CODED, b"transfer-encoding: identity") + CHUNKED,
    "coding in HTTP/1.0": head(CODED, start=b"POST " + CHAT + b" HTTP/1.0") + CHUNKED,
    "space before a colon": head(b"transfer-encoding : chunked", LENGTH) + GOOD,
    "tab before a colon": head(b"transfer-encoding\t: chunked", LENGTH) + GOOD,
    "space in a name": head(b"transfer encoding: chunked", LENGTH) + GOOD,
    "folded coding": head(b"transfer-encoding:\r\n chunked") + CHUNKED,
    "folded line": head(b"x: a\r\n transfer-encoding: chunked", LENGTH) + GOOD,
    "folded with a tab": head(b"x: a\r\n\ttransfer-encoding: chunked", LENGTH) + GOOD,
    "folded first line": head(LENGTH, start=START + b"\r\n x: y") + GOOD,
    "CR in a value": head(b"x: y\rtransfer-encoding: chunked", LENGTH) + GOOD,
    "LF in a value": head(b"x: y\ntransfer-encoding: chunked", LENGTH) + GOOD,
    "NUL in a value": head(b"x: y\x00z", LENGTH) + GOOD,
    "NUL in a name": head(b"x\x00y: z", LENGTH) + GOOD,
    "no colon": head(b"nothing", LENGTH) + GOOD,
    "no name": head(b": x", LENGTH) + GOOD,
    "a name that is not ASCII": head(b"x\xff: z", LENGTH) + GOOD,
    "LF throughout": head(LENGTH).replace(b"\r\n", b"\n") + GOOD,
    "LF at the end": head(LENGTH)[:-2] + b"\n" + GOOD,
    "CR at the end": head(LENGTH)[:-2] + b"\r" + GOOD,
    "two lengths": head(LENGTH, b"content-length: 5") + GOOD,
    "the same length twice": head(LENGTH, LENGTH) + GOOD,
    "an endless length": head(b"content-length: 99999999999999999999") + GOOD,
    "an empty length": head(b"content-length:") + GOOD,
    **{f"length {one!r}": head(b"content-length: " + one % ((SIZE,) * one.count(b"%"))) + GOOD for one in LENGTHS},
    "a body without a length": head() + b"\x00" + GOOD,
    "two hosts": head(b"host: evil", LENGTH) + GOOD,
    "the same host twice": head(b"host: g", LENGTH) + GOOD,
    "no host": head(LENGTH, host=None) + GOOD,
    **{f"host {one!r}": head(LENGTH, host=one) + GOOD for one in HOSTS},
    "another host in the target": posted(b"POST http://evil" + CHAT + b" HTTP/1.1"),
    "a user in the target": posted(b"POST http://g@evil" + CHAT + b" HTTP/1.1"),
    "this host as a user": posted(b"POST http://evil@g" + CHAT + b" HTTP/1.1"),
    "another port in the target": posted(b"POST http://g:81" + CHAT + b" HTTP/1.1"),
    "another scheme in the target": posted(b"POST ftp://g" + CHAT + b" HTTP/1.1"),
    "an authority as the target": posted(b"POST g:80 HTTP/1.1"),
    "a fragment": posted(b"POST " + CHAT + b"#x HTTP/1.1"),
    "a space in the target": posted(b"POST " + CHAT + b"?a b HTTP/1.1"),
    "a tab in the first line": posted(b"POST\t" + CHAT + b" HTTP/1.1"),
    "a tunnel": b"CONNECT evil:443 HTTP/1.1\r\nhost: evil:443\r\n\r\n" + SMUGGLED,
    **{f"version {one!r}": posted(b"POST " + CHAT + b" " + one) for one in VERSIONS},
    "a method in small letters": posted(b"post " + CHAT + b" HTTP/1.1"),
    "a space before the first line": b" " + posted(START),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    **{f"chunk {one!r}": head(CODED) + one.replace(b"%x", b"%x" % SIZE) + b"\r\n" + GOOD + b"\r\n" + LAST for one in SIZES},
    "a chunk that ends with LF": head(CODED) + b"%x\r\n" % SIZE + GOOD + b"\n" + LAST,
    "a chunk that does not end": head(CODED) + b"%x\r\n" % SIZE + GOOD + LAST,
    "a chunk that is longer": head(CODED) + b"%x\r\n" % (SIZE - 1) + GOOD + b"\r\n" + LAST,
    "LF after an extension": head(CODED) + b"%x;a\n" % SIZE + GOOD + b"\r\n" + LAST,
    "CR in an extension": head(CODED) + b"%x;a\rb\r\n" % SIZE + GOOD + b"\r\n" + LAST,
    "NUL in an extension": head(CODED) + b"%x;a\x00b\r\n" % SIZE + GOOD + b"\r\n" + LAST,
    "framing in trailers": head(CODED) + CHUNKED[:-2] + b"transfer-encoding: chunked\r\ncontent-length: 7\r\n\r\n",
    "a broken trailer": head(CODED) + CHUNKED[:-2] + b"x y\r\n\r\n",
    "LF after a trailer": head(CODED) + CHUNKED[:-2] + b"x: y\n\n",
}  # fmt: skip
PASSED = {
    "a length": posted(START),
    "chunks": head(CODED) + CHUNKED,
    "chunks, spelled otherwise": head(b"TrANSfer-EnCODing:\tChunKED ") + CHUNKED,
    "a size with zeros": head(CODED) + b"000%x\r\n" % SIZE + GOOD + b"\r\n000\r\n\r\n",
    "an extension": head(CODED) + b"%x;a=b\r\n" % SIZE + GOOD + b"\r\n" + LAST,
    "a quoted extension": head(CODED) + b'%x;a="b;c"\r\n' % SIZE + GOOD + b"\r\n" + LAST,
    "a trailer": head(CODED) + CHUNKED[:-2] + b"x-late: 1\r\n\r\n",
    "an underscore": head(b"transfer_encoding: chunked", b"content_length: 3", LENGTH) + GOOD,
    "a length with zeros": head(b"content-length: 0%d" % SIZE) + GOOD,
    "empty lines before it": b"\r\n\r\n" + posted(START),
    "this host in the target": posted(b"POST http://G" + CHAT + b" HTTP/1.1"),
    "a host with a port": head(LENGTH, host=b"g:8443") + GOOD,
    "an address as the host": head(LENGTH, host=b"[2001:db8::1]:80") + GOOD,
    "framing that Connection names": head(LENGTH, b"connection: content-length, host, authorization") + GOOD,
}


@pytest.fixture(scope="module")
def running(host: str, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\n"
    with gateway(tmp_path_factory.mktemp("smuggling"), settings, PACK, host) as found:
        yield found
        found.check()


def said(running: Gateway, data: bytes, patience: float) -> tuple[list[bytes], bool]:
    """The statuses that came back, and whether the connection was closed."""
    found, closed = b"", False
    with socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
        connection.sendall(data)
        try:
            while more := connection.recv(65_536):
                found += more
                connection.settimeout(patience)
            closed = True
        except TimeoutError:
            pass
        except ConnectionError:  # more of it had been sent than was read
            closed = True
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", found), closed


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(name: str, running: Gateway, keeping: Keeping) -> None:
    keeping.got.clear()
    statuses, closed = said(running, REFUSED[name], 8)
    assert closed
    assert statuses in ([b"400"], [])
    assert not keeping.got


@pytest.mark.parametrize("name", PASSED)
def test_what_cannot_is_passed_once_and_framed_anew(name: str, running: Gateway, keeping: Keeping) -> None:
    keeping.got.clear()
    assert said(running, PASSED[name], 0.15) == ([b"200"], False)
    (got,) = keeping.got
    assert (got.target, got.body) == (CHAT.decode(), GOOD)
    lines = [line.partition(b":") for line in got.head.lower().split(b"\r\n")[1:]]
    framing = [
        (key, value.strip()) for key, _, value in lines if key.replace(b"_", b"-") in (b"content-length", b"transfer-encoding")
    ]
    assert framing == [(b"content-length", b"%d" % SIZE)]
    assert [value.strip() for key, _, value in lines if key == b"host"] == [b"127.0.0.1:%d" % keeping.port]


@pytest.mark.parametrize("start", [b"GET /v1/models HTTP/1.1", b"HEAD /v1/models HTTP/1.1", b"GET /nowhere HTTP/1.1"])
@pytest.mark.parametrize("more", [(), (b"connection: upgrade", b"upgrade: h2c")], ids=["plain", "upgrade"])
def test_a_request_in_a_body_is_none(start: bytes, more: tuple[bytes, ...], running: Gateway, keeping: Keeping) -> None:
    """Whoever does not expect a body there would take it for the next request: it is read as what it is, and goes nowhere."""
    keeping.got.clear()
    statuses, _ = said(running, head(b"content-length: %d" % len(SMUGGLED), *more, start=start) + SMUGGLED, 0.3)
    assert len(statuses) == 1
    assert [(got.target, got.body) for got in keeping.got] in ([], [("/v1/models", b"")])


def test_what_follows_a_request_is_a_request_of_its_own_and_judged(running: Gateway, keeping: Keeping) -> None:
    keeping.got.clear()
    denied = GOOD.replace(b'"m"', b'"forbidden"')
    second = head(b"content-length: %d" % len(denied)) + denied
    statuses, _ = said(running, head(CODED) + CHUNKED + second + posted(START), 0.3)
    assert statuses == [b"200", b"403", b"200"]
    assert len(keeping.got) == 2
    deadline = time.monotonic() + PATIENCE
    while not (refused := [record for record in running.records() if record["answer"].get("status") == 403]):
        assert time.monotonic() < deadline
    assert len(refused) == 1


def test_a_chunk_that_never_ends_is_not_passed(running: Gateway, keeping: Keeping) -> None:
    keeping.got.clear()
    with socket.create_connection(("127.0.0.1", running.port), timeout=0.3) as connection:
        connection.sendall(head(CODED) + b"ffffffffffffffff\r\n" + GOOD + b"\r\n" + LAST + SMUGGLED)
        with pytest.raises(TimeoutError):
            connection.recv(65_536)
    assert not keeping.got
