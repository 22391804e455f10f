"""The PROXY protocol through raw sockets: a running process before the stub provider, and what its records show."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import PolicyMiddleware
from gateway.audit.record import record
from gateway.web.proxied import SIGNATURE
from gateway.web.server import HEADER_WAIT, ProxiedProtocol, protocol_for
from tests.web.running import KEY, PROMPT, Gateway, gateway
from tests.web.test_proxied import TLVS, V1, V1_IPV6, v2, v4, v6

BALANCER, STRANGER = "127.0.0.9", "127.0.0.8"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
ACCOUNTS = f"accounts: [{{id: acme, credentials: ['sha256:{DIGEST}'], plan: paid}}]\n"
PACK = """
pack: try
version: 1
language: 1
rules:
  - {id: try.connection, title: seen, family: client, owner: tests, mode: enforce,
     when: {client.connection: {present: true}}, then: {action: observe}}
"""


def test_the_protocol_is_only_spoken_where_it_is_set() -> None:
    assert not issubclass(protocol_for({"trusted_proxies": ["10.0.0.0/8"]}), ProxiedProtocol)
    assert issubclass(protocol_for({"trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True}), ProxiedProtocol)


@pytest.fixture(scope="module")
def _proxied(stub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("proxied")
    (folder / "accounts.yaml").write_text(ACCOUNTS)
    settings = (
        f"upstreams: {{openai: {{url: {stub}}}}}\nidentity: {{directory: accounts.yaml}}\n"
        f"client_address: {{trusted_proxies: [{BALANCER}/32, 198.51.100.0/24], proxy_protocol: true}}\n"
    )
    with gateway(folder, settings, PACK) as running:
        yield running


@pytest.fixture
def proxied(_proxied: Gateway) -> Iterator[Gateway]:
    """A gateway whose balancer speaks the PROXY protocol from BALANCER; it must be well after the test."""
    yield _proxied
    _proxied.check()


@dataclass
class Client:
    """One raw connection."""

    connection: socket.socket

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.002)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.connection.recv(1)
            assert byte, f"closed after {head!r}"
            head += byte
        length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
        body = b""
        while len(body) < length:
            body += self.connection.recv(length - len(body))
        return int(head.split()[1]), body

    def closed(self) -> bytes:
        """Everything until the connection was closed."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.connection.recv(65_536):
                found += piece
        return found


@contextlib.contextmanager
def connected(gateway: Gateway, source: str = BALANCER) -> Iterator[Client]:
    with socket.create_connection(
        ("127.0.0.1", gateway.port), timeout=HEADER_WAIT + 8, source_address=(source, 0)
    ) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Client(connection)


def request(key: str = KEY, *headers: str) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1", "host: a", f"authorization: Bearer {key}", "content-type: application/json",
        f"content-length: {len(body)}", *headers,
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("header", "address"),
    [(V1, "203.0.113.9"), (V1_IPV6, "2001:db8::9"), (v2(v4() + TLVS), "203.0.113.9"), (v2(v6(), 0x21), "2001:db8::9")],
    ids=["v1", "v1 IPv6", "v2", "v2 IPv6"],
)
def test_the_records_show_the_caller(header: bytes, address: str, proxied: Gateway) -> None:
    with proxied.recording(3) as records, connected(proxied) as client:
        whole = header + request()  # the request right behind the header
        client.send(whole)
        assert client.answer()[0] == 200
        client.send(request("sk-nobody-knows", "x-forwarded-for: 8.8.8.8"))  # the connection is kept alive
        assert client.answer()[0] == 401
        client.send(*[bytes([byte]) for byte in request()[:40]], request()[40:])
        assert client.answer()[0] == 200
    assert [record["signals"]["client.ip"] for record in records] == [address] * 3
    assert records[1]["exchange"]["cause"] == "credential-unknown"
    connections = {record["signals"]["client.connection"] for record in records}
    assert len(connections) == 1
    assert connections.pop().startswith(f"{address}:4711#")


@pytest.mark.parametrize("header", [V1, v2(v6() + TLVS, 0x21)], ids=["v1", "v2"])
def test_a_header_in_single_bytes_and_two_requests_behind_it(header: bytes, proxied: Gateway) -> None:
    with proxied.recording(2) as records, connected(proxied) as client:
        client.send(*[bytes([byte]) for byte in header])
        client.send(request() + request())
        assert [client.answer()[0], client.answer()[0]] == [200, 200]
    assert all(record["signals"]["client.ip"] in ("203.0.113.9", "2001:db8::9") for record in records)


def test_the_balancers_own_connection_keeps_its_address(proxied: Gateway) -> None:
    with proxied.recording() as records, connected(proxied) as client:
        client.send(v2(b"", 0, 0x20) + request())
        assert client.answer()[0] == 200
    assert records[0]["signals"]["client.ip"] == BALANCER
    assert "client.connection" not in records[0]["signals"]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(b"", 0), v2(bytes(216), 0x31)], ids=["v1", "v2", "local sockets"])
def test_a_caller_without_an_address_cannot_make_one_up(header: bytes, proxied: Gateway) -> None:
    with proxied.recording() as records, connected(proxied) as client:
        client.send(header + request(KEY, "x-forwarded-for: 8.8.8.8"))
        assert client.answer()[0] == 200
    assert "client.ip" not in records[0]["signals"]
    assert records[0]["signals"]["client.connection"].startswith("#")


def test_a_trusted_proxy_behind_the_balancer_is_believed(proxied: Gateway) -> None:
    """Caller → HTTP proxy → balancer: the balancer names the proxy, and the proxy names the caller."""
    with proxied.recording() as records, connected(proxied) as client:
        client.send(b"PROXY TCP4 198.51.100.4 192.0.2.1 4711 443\r\n" + request(KEY, "x-forwarded-for: 8.8.8.8, 203.0.113.77"))
        assert client.answer()[0] == 200
    assert records[0]["signals"]["client.ip"] == "203.0.113.77"
    assert "client.connection" not in records[0]["signals"]


def test_strangers_speak_http_and_nothing_else(proxied: Gateway) -> None:
    for header in (V1, v2(v4())):
        with proxied.recording(0), connected(proxied, STRANGER) as client:
            client.send(header + request())
            assert client.closed().startswith(b"HTTP/1.1 400 ")
    with proxied.recording() as records, connected(proxied, STRANGER) as client:
        client.send(request(KEY, "x-forwarded-for: 8.8.8.8"))
        assert client.answer()[0] == 200
    assert records[0]["signals"]["client.ip"] == STRANGER


@pytest.mark.parametrize(
    "sent",
    [
        request(),
        b"\x00" * 65_536,
        b"PROXY " + b"x" * 100_000,
        v2(b"", size=65_535) + bytes(65_535),
        V1[:-2] + b"\n" + request(),
    ],
    ids=["no header", "garbage", "a line without end", "oversize", "a line feed only"],
)
def test_balancers_that_do_not_speak_it_are_closed_with_one_line(sent: bytes, proxied: Gateway) -> None:
    before = proxied.errors.count("closed a connection")
    with proxied.recording(0), connected(proxied) as client:
        with contextlib.suppress(ConnectionError):
            client.send(sent)
        assert client.closed() == b""
    told = [json.loads(line)["text"] for line in proxied.errors.splitlines()]
    lines = [text for text in told if "closed a connection" in text][before:]
    assert len(lines) == 1
    assert f"from {BALANCER}: " in lines[0]
    assert lines[0].endswith("have it speak the PROXY protocol, or take it out of client_address.trusted_proxies")


def test_a_connection_that_ends_within_the_header_leaves_nothing(proxied: Gateway) -> None:
    before = proxied.errors
    with proxied.recording(0):
        for sent in (b"", V1[:20], SIGNATURE):
            with connected(proxied) as client:
                client.send(sent)
    assert proxied.errors == before


def test_a_slow_header_is_waited_for_and_not_for_ever(proxied: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        silent, half, quick = (stack.enter_context(connected(proxied)) for _ in range(3))
        half.send(v2(v4())[:17])
        quick.send(V1[:9])
        time.sleep(1)
        quick.send(V1[9:])
        assert silent.closed() == half.closed() == b""
        assert HEADER_WAIT - 0.5 < time.monotonic() - begun < HEADER_WAIT + 5
        quick.send(request())
        assert quick.answer()[0] == 200  # where the header was whole, the wait is over for good
    assert proxied.errors.count("no whole PROXY header within 10 s") == 2


def test_a_refused_credential_is_recorded_with_its_address_though_no_rule_asks(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a refused request reached the app")

    async def ask(inside: PolicyMiddleware) -> int:
        transport = httpx.ASGITransport(inside, client=("10.0.0.1", 1))
        headers = {"authorization": "Bearer sk-nobody-knows", "x-forwarded-for": "8.8.8.8, 203.0.113.9"}
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return (await client.post("/v1/chat/completions", json={"model": "m", "messages": []}, headers=headers)).status_code

    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "accounts.yaml").write_text(ACCOUNTS)
    (tmp_path / "gateway.yaml").write_text(
        "identity: {directory: accounts.yaml}\nclient_address: {trusted_proxies: [10.0.0.0/8]}\npolicy: [pack.yaml]\n"
    )
    records: list[dict[str, Any]] = []
    inside = PolicyMiddleware(app, config=tmp_path / "gateway.yaml", sink=lambda *settled: records.append(record(*settled)))
    assert asyncio.run(ask(inside)) == 401
    assert [entry["signals"]["client.ip"] for entry in records] == ["203.0.113.9"]
    assert records[0]["exchange"]["cause"] == "credential-unknown"
