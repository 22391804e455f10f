"""HTTP/1.1 as bytes: the heads that go to an upstream and back to a client, and what must not be in them. No I/O.

Hop-by-hop headers stop here in both directions, as does everything that `Connection` names (RFC 9110 §7.6.1). The caller's
own forwarding headers are not passed to a provider. An upstream is asked only for encodings that the usage tap can read.
Every body that goes on is framed anew, so that no reader behind us can see other borders than we did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import Final, TypeVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.audit.trace import HEADERS as CONTEXT
from gateway.credentials import carries
from gateway.web.exchange import OWN_PREFIX, Headers, replaced

HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
NOT_FORWARDED: Final = HOP_BY_HOP | {
    b"host", b"content-length", b"expect", b"accept-encoding", b"forwarded", b"via", b"x-real-ip", b"x-client-ip",
    b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip", b"cf-connecting-ipv6", b"fastly-client-ip",
    b"x-original-forwarded-for", b"x-envoy-external-address",
}  # fmt: skip
FORWARDING_PREFIX: Final = b"x-forwarded-"
READABLE: Final = ("gzip", "deflate")
BODILESS: Final = frozenset({204, 304})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
_NEVER: Final = re.compile(r"q=0(\.0*)?")
_UNWRITABLE: Final = re.compile(rb"[^\x21-\x7e]")
Kept = TypeVar("Kept")
_LONGEST_REMEMBERED: Final = 256
_REMEMBERED: Final = 2_048  # names that callers choose: a cap on what is kept of them


def remembered(work: Callable[[bytes], Kept]) -> Callable[[bytes], Kept]:
    """Keep what some work said of short names; callers choose them, so that both their number and their length are bounded."""
    kept = lru_cache(_REMEMBERED)(work)

    @wraps(work)
    def said(name: bytes) -> Kept:
        return kept(name) if len(name) <= _LONGEST_REMEMBERED else work(name)

    return said


def target_of(base: bytes, path: bytes, query: bytes) -> bytes:
    """The request target below an upstream's own path, byte for byte as it was asked where that can be written."""
    asked = path + b"?" + query if query else path
    return base + _UNWRITABLE.sub(lambda found: b"%%%02X" % found[0][0], asked)


@remembered
def goes_up(name: bytes) -> bool:
    """Whether a request header (lower-case) goes on to the upstream as it came."""
    read = name.replace(b"_", b"-")  # as some servers do
    return read not in NOT_FORWARDED and not read.startswith(FORWARDING_PREFIX) and not replaced(name.decode("latin-1"))


@remembered
def named_by(connection: bytes) -> frozenset[bytes]:
    """The header names that a `Connection` header names; it cannot name away what we wrote or judged a caller by."""
    names = {token.strip().lower() for token in connection.split(b",")}
    return frozenset(name for name in names if not _ours(name.decode("latin-1")))


@remembered
def readable(offered: bytes) -> bytes:
    """The encodings that an upstream is asked for, of those a caller offered."""
    parts = [part.partition(";") for part in offered.decode("latin-1").lower().replace(" ", "").split(",")]
    wanted = {coding for coding, _, weight in parts if not _NEVER.fullmatch(weight)}
    return (", ".join(coding for coding in READABLE if coding in wanted) or "identity").encode()


def request_head(start: bytes, headers: Iterable[tuple[bytes, bytes]], added: Headers, length: int | None) -> bytes:
    """The head of a request to an upstream: `request_lines` and `request_end`."""
    return request_lines(start, headers) + request_end(added, length)


def request_lines(start: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What of a request head is the same in every request with these lines.

    start: the request line and the lines that every request to an upstream begins with; headers: the caller's, names in lower
    case. Raises ValueError where a header would begin another line.
    """
    lines, named, offered = [start], frozenset[bytes](), b""
    for name, value in headers:
        if name == b"connection":
            named |= named_by(value)
        elif name == b"accept-encoding":
            offered = offered + b"," + value if offered else value
        elif goes_up(name):
            lines.append(b"%b: %b\r\n" % (name, value))
    if named:  # rare: most callers name nothing but keep-alive
        lines = [line for line in lines if line.partition(b":")[0] not in named]
    lines.append(b"accept-encoding: %b\r\n" % readable(offered))
    return _whole(lines, start.count(b"\n") + len(lines) - 1)


def request_end(added: Headers, length: int | None) -> bytes:
    """The rest of a request head. added: ours; length: of the body, None where it goes in chunks, negative where there is none.

    Raises ValueError where a header would begin another line.
    """
    lines = [b"%b: %b\r\n" % pair for pair in added]
    if length is None:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif length >= 0:
        lines.append(b"content-length: %d\r\n" % length)
    lines.append(b"\r\n")
    return _whole(lines, len(lines))


def answer_head(status: int, headers: Headers, *, chunked: bool, close: bool) -> bytes:
    """The head of an answer to a client: the headers given, and how the body is framed and the connection goes on.

    Raises ValueError where a header would begin another line.
    """
    lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % pair for pair in headers)]
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    if close:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    return _whole(lines, len(lines))


def chunk_of(data: bytes) -> bytes:
    """One chunk of a chunked body; empty data is none, as that would end it."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _whole(lines: list[bytes], count: int) -> bytes:
    head = b"".join(lines)
    if head.count(b"\n") != count or head.count(b"\r") != count:
        raise ValueError("a header holds a line break")
    return head


def _ours(name: str) -> bool:
    """Headers that the gateway wrote or judged a caller by, which a caller must not be able to name away."""
    return name.startswith(OWN_PREFIX) or name in CONTEXT or carries(name)
