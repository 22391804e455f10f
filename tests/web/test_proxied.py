"""The parser of the PROXY protocol: every header and every junk, in any pieces."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.proxied import LARGEST, LARGEST_LINE, SIGNATURE, Opened, Opening, Refused

REST = b"GET / HTTP/1.1\r\n\r\n"
TLVS = b"\x03\x00\x04\xff\xff\xff\xff" + b"\x04\x00\x05noop!"  # a checksum that is wrong, and padding


def v2(block: bytes, family: int = 0x11, command: int = 0x21, size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block) if size is None else size) + block


def v4(client: str = "203.0.113.9", port: int = 4711) -> bytes:
    return socket.inet_aton(client) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", port, 443)


def v6(client: str = "2001:db8::9", port: int = 4711) -> bytes:
    there = (socket.inet_pton(socket.AF_INET6, text) for text in (client, "2001:db8::1"))
    return b"".join(there) + struct.pack("!HH", port, 443)


WIDEST = b":".join([b"ffff"] * 8)
V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"
V1_IPV6 = b"PROXY TCP6 2001:DB8::9 2001:db8::1 4711 443\r\n"
CALLER4, CALLER6 = ("203.0.113.9", 4711), ("2001:db8::9", 4711)
GOOD: list[tuple[str, bytes, tuple[str, int] | None, bool]] = [
    ("v1 IPv4", V1, CALLER4, False),
    ("v1 IPv6", V1_IPV6, CALLER6, False),
    ("v1 mapped", b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 4711 443\r\n", CALLER4, False),
    ("v1 widest", b"PROXY TCP6 %b %b 65535 65535\r\n" % (WIDEST, WIDEST), (WIDEST.decode(), 65535), False),
    ("v1 unknown", b"PROXY UNKNOWN\r\n", None, False),
    ("v1 unknown, longest", b"PROXY UNKNOWN " + b"\xff" * 91 + b"\r\n", None, False),
    ("v2 IPv4", v2(v4()), CALLER4, False),
    ("v2 IPv6", v2(v6(), 0x21), CALLER6, False),
    ("v2 mapped", v2(v6("::ffff:203.0.113.9"), 0x21), CALLER4, False),
    ("v2 datagrams", v2(v4(), 0x12), CALLER4, False),
    ("v2 with vectors", v2(v4() + TLVS), CALLER4, False),
    ("v2 with vectors that are none", v2(v4() + b"\x03\xff\xff\x00"), CALLER4, False),
    ("v2 largest", v2(v4() + bytes(LARGEST - 16 - 12)), CALLER4, False),
    ("v2 local", v2(b"", 0, 0x20), None, True),
    ("v2 local with an address", v2(v4() + TLVS, 0x11, 0x20), None, True),
    ("v2 local of no family", v2(b"x", 0xFF, 0x20), None, True),
    ("v2 unspecified", v2(b"", 0), None, False),
    ("v2 unspecified transport", v2(v4(), 0x10), None, False),
    ("v2 local sockets", v2(bytes(216), 0x31), None, False),
]  # fmt: skip
BAD: list[tuple[str, bytes, str]] = [
    ("HTTP", b"GET / HTTP/1.1\r\n\r\n", "does not begin with a PROXY header"),
    ("HTTP that begins alike", b"PUT / HTTP/1.1\r\n\r\n", "does not begin"),
    ("TLS", b"\x16\x03\x01\x02\x00", "does not begin"),
    ("lower case", b"proxy TCP4 203.0.113.9 192.0.2.1 4711 443\r\n", "does not begin"),
    ("blank lines first", b"\r\n\r\nPROXY UNKNOWN\r\n", "does not begin"),
    ("no blank", b"PROXYTCP4 203.0.113.9 192.0.2.1 4711 443\r\n", "does not begin"),
    ("two blanks", b"PROXY TCP4  203.0.113.9 192.0.2.1 4711 443\r\n", "malformed"),
    ("another protocol", b"PROXY UDP4 203.0.113.9 192.0.2.1 4711 443\r\n", "malformed"),
    ("something glued to UNKNOWN", b"PROXY UNKNOWNX\r\n", "malformed"),
    ("no ports", b"PROXY TCP4 203.0.113.9 192.0.2.1\r\n", "malformed"),
    ("one port more", b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2 3\r\n", "malformed"),
    ("a leading zero", b"PROXY TCP4 203.0.113.9 192.0.2.1 04711 443\r\n", "malformed"),
    ("a sign", b"PROXY TCP4 203.0.113.9 192.0.2.1 +4711 443\r\n", "malformed"),
    ("a port too high", b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 65536\r\n", "bad address or port"),
    ("a leading zero in an address", b"PROXY TCP4 203.0.113.09 192.0.2.1 4711 443\r\n", "bad address or port"),
    ("the wrong family", b"PROXY TCP4 2001:db8::9 192.0.2.1 4711 443\r\n", "bad address or port"),
    ("the other wrong family", b"PROXY TCP6 203.0.113.9 2001:db8::1 4711 443\r\n", "bad address or port"),
    ("a zone id", b"PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n", "malformed"),
    ("a line feed only", b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\nHost: x\r\n", "malformed"),
    ("a carriage return only", b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\rx\r\n", "malformed"),
    ("a line without end", b"PROXY TCP4 " + b"1" * LARGEST_LINE, f"longer than {LARGEST_LINE} bytes"),
    ("unknown, one byte too long", b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", f"longer than {LARGEST_LINE} bytes"),
    ("half the signature", SIGNATURE[:-1] + b"X" + bytes(8), "does not begin"),
    ("version 3", v2(v4(), command=0x31), "unknown version or command"),
    ("command 2", v2(v4(), command=0x22), "unknown version or command"),
    ("family 4", v2(v4(), 0x41), "unknown address family"),
    ("transport 3", v2(v4(), 0x13), "unknown address family or transport"),
    ("too short for IPv4", v2(v4()[:-1]), "too short"),
    ("too short for IPv6", v2(v4(), 0x21), "too short"),
    ("too short for local sockets", v2(v6(), 0x31), "too short"),
    ("too long", v2(b"", size=LARGEST - 15), f"longer than {LARGEST} bytes"),
    ("longest there is, local", v2(b"", 0, 0x20, size=65_535), f"longer than {LARGEST} bytes"),
]  # fmt: skip


def fed(pieces: list[bytes]) -> Opened | Refused | None:
    """What comes of these pieces; the rest of what is fed after the answer is appended to its rest."""
    opening, found = Opening(), None
    for place, piece in enumerate(pieces):
        found = opening.feed(piece)
        if isinstance(found, Opened):
            return Opened(found.client, found.local, found.rest + b"".join(pieces[place + 1 :]))
        if found is not None:
            return found
    return None


@pytest.mark.parametrize(("name", "header", "client", "local"), GOOD, ids=[row[0] for row in GOOD])
def test_headers_in_any_pieces(name: str, header: bytes, client: tuple[str, int] | None, local: bool) -> None:
    expected = Opened(client, local, REST)
    whole = header + REST
    assert fed([whole]) == expected
    assert fed([bytes([byte]) for byte in whole]) == expected
    for place in {1, 5, 6, 12, 13, 15, 16, 17, len(header) - 1, len(header)}:
        assert fed([whole[:place], whole[place:]]) == expected
    assert fed([header[:-1]]) is None


@pytest.mark.parametrize(("name", "header", "reason"), BAD, ids=[row[0] for row in BAD])
def test_what_is_no_header(name: str, header: bytes, reason: str) -> None:
    for pieces in ([header], [bytes([byte]) for byte in header]):
        found = fed(pieces)
        assert isinstance(found, Refused)
        assert reason in found.reason


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from([b"", b"PROXY ", SIGNATURE, v2(v4())[:16]]))
def test_any_bytes_are_answered_and_pieces_change_nothing(pieces: list[bytes], start: bytes) -> None:
    whole = start + b"".join(pieces)
    found = fed([whole])
    assert found == fed([start, *pieces])
    assert found == fed([bytes([byte]) for byte in whole])
    assert found is not None or len(whole) < LARGEST


@pytest.mark.parametrize("size", [LARGEST_LINE, LARGEST])
def test_what_is_held_is_bounded(size: int) -> None:
    """However slowly it comes, and whatever it says, no header is waited for beyond its bound."""
    start = b"PROXY UNKNOWN " if size == LARGEST_LINE else v2(b"", size=LARGEST - 16)
    opening = Opening()
    answers = [opening.feed(piece) for piece in (start, *[b"x"] * (size - len(start)))]
    assert answers[-1] is not None
    assert set(answers[:-1]) == {None}
