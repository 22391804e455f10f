"""The PROXY protocol, versions 1 and 2: how a balancer that passes bytes on says for whom it opened a connection.

A parser without I/O: it is fed what comes, in any pieces, and says when it has read the header, or why that is none. The
specification is HAProxy's `proxy-protocol.txt`. Where it leaves a choice:

- Only connections from trusted balancers are read this way, and those must begin with a header: nothing is guessed.
- LOCAL (the balancer's own connection, such as a health check) keeps the address of the connection itself. UNKNOWN, UNSPEC
  and UNIX say that the balancer speaks for somebody without an address: then the caller has none either. The balancer's
  own address would not do in its place: it is trusted, and so would be every X-Forwarded-For that the stranger sends.
- Vectors behind the addresses (TLVs) are skipped, the checksum among them: TCP has one. A header has at most LARGEST bytes.

The PyPI package proxy-protocol is not used: where its reader waits for bytes itself, it does not bound them, and where it is
fed, damaged headers come out as other errors than its own (0.11.3).

Only the process speaks this protocol. `PolicyMiddleware` sits behind somebody else's server, which sees the connection
first: there `client_address.proxy_protocol` means nothing, and that server has to read the header.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.addresses import number, written

LARGEST_LINE: Final = 107
LARGEST: Final = 16 * 2**10
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_NAME: Final = b"PROXY "
_FIXED: Final = 16
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE: Final = re.compile(
    rb"PROXY (?:TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) " + _PORT + rb" " + _PORT + rb"|UNKNOWN(?: .*)?)"
)
_FAMILIES: Final[Mapping[bytes, socket.AddressFamily]] = {b"4": socket.AF_INET, b"6": socket.AF_INET6}


class _Family(IntEnum):
    """The upper half of the 14th byte of version 2."""

    UNSPEC = 0
    INET = 1
    INET6 = 2
    UNIX = 3


_SIZES: Final = {_Family.UNSPEC: 0, _Family.INET: 12, _Family.INET6: 36, _Family.UNIX: 216}  # two addresses, two ports
_SOCKETS: Final = {_Family.INET: socket.AF_INET, _Family.INET6: socket.AF_INET6}
_TRANSPORTS: Final = (0, 1, 2)  # unspecified, stream, datagram


@dataclass(frozen=True, slots=True)
class Opened:
    """A header that was read. client: address and port of the caller, None where it has none. local: the balancer's own
    connection, for nobody else. rest: the bytes behind the header."""

    client: tuple[str, int] | None
    local: bool
    rest: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """These bytes begin no connection. reason: why, in words that hold nothing of what was sent."""

    reason: str


@dataclass(slots=True)
class Opening:
    """The beginning of one connection. Feed it until it answers; then it is spent."""

    _held: bytes = b""

    def feed(self, data: bytes) -> Opened | Refused | None:
        """What the bytes so far are; None while more are needed. No more than LARGEST of them are held."""
        held = self._held = self._held + data
        return _version_1(held) if held[:1] == _NAME[:1] else _version_2(held)


def _version_1(held: bytes) -> Opened | Refused | None:
    if held[: len(_NAME)] != _NAME[: len(held)]:
        return Refused("it does not begin with a PROXY header")
    end = held.find(b"\r\n", 0, LARGEST_LINE)
    if end < 0:
        return Refused(f"the PROXY line is longer than {LARGEST_LINE} bytes") if len(held) >= LARGEST_LINE else None
    found = _LINE.fullmatch(held, 0, end)
    if found is None:
        return Refused("the PROXY line is malformed")
    rest = held[end + 2 :]
    if found[1] is None:
        return Opened(None, False, rest)
    client, server = (_plain(_FAMILIES[found[1]], text.decode()) for text in (found[2], found[3]))
    port = int(found[4])
    if client is None or server is None or max(port, int(found[5])) > 65_535:
        return Refused("the PROXY line holds a bad address or port")
    return Opened((client, port), False, rest)


def _version_2(held: bytes) -> Opened | Refused | None:
    if held[: len(SIGNATURE)] != SIGNATURE[: len(held)]:
        return Refused("it does not begin with a PROXY header")
    if len(held) < _FIXED:
        return None
    (version, command), (family, transport) = divmod(held[12], 16), divmod(held[13], 16)
    size, local = int.from_bytes(held[14:16]), command == 0
    if version != 2 or command > 1:
        return Refused("the PROXY header has an unknown version or command")
    if size > LARGEST - _FIXED:
        return Refused(f"the PROXY header is longer than {LARGEST} bytes")
    if not local:  # a local one's family means nothing
        if family not in _SIZES or transport not in _TRANSPORTS:
            return Refused("the PROXY header has an unknown address family or transport")
        if size < _SIZES[_Family(family)]:
            return Refused("the PROXY header is too short for its addresses")
    if len(held) < _FIXED + size:
        return None
    rest = held[_FIXED + size :]
    if local or transport == 0 or family not in _SOCKETS:
        return Opened(None, local, rest)
    return Opened(_addressed(_Family(family), held[_FIXED : _FIXED + size]), False, rest)


def _addressed(family: _Family, block: bytes) -> tuple[str, int]:
    """Address and port of the caller: both addresses stand first, then both ports."""
    ports = _SIZES[family] - 4
    found = number(socket.inet_ntop(_SOCKETS[family], block[: ports // 2]))
    assert found is not None, "bytes of that size are always an address"
    return written(found), int.from_bytes(block[ports : ports + 2])


def _plain(family: socket.AddressFamily, text: str) -> str | None:
    """An address of exactly this family, in our spelling."""
    found = number(text) if (":" in text) == (family == socket.AF_INET6) else None
    return None if found is None else written(found)
