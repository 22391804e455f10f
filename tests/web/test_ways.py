"""Ways to an upstream: TLS with an authority of one's own, HTTP proxies, and what is said where there is none. Both hosts."""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import trustme

from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, free_port, gateway

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
BASIC = "basic " + base64.b64encode(b"me:s3cret-way").decode()


class Secured(Keeping):
    """The provider that keeps its connections, behind TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(connection, server_side=True) as secured:
            super()._serve(secured, number)


@dataclass
class Tunnels:
    """A small HTTP proxy that opens tunnels (CONNECT) to whatever is asked for. heads: what it was told; status: its answer."""

    status: bytes = b"200 Connection established"
    heads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listening.accept()[0],), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        head = b""
        with near, contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                head += near.recv(65_536)
            self.heads.append(head.decode().lower())
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            near.sendall(b"HTTP/1.1 " + self.status + b"\r\n\r\n")
            if not self.status.startswith(b"200"):
                return
            with socket.create_connection((host, int(port))) as far:
                other = {near: far, far: near}
                while True:
                    for side in select.select([near, far], [], [])[0]:
                        if not (data := side.recv(65_536)):
                            return
                        other[side].sendall(data)


class SecuredTunnels(Tunnels):
    """The proxy, behind TLS. It passes plain requests on, too, one for each connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__(heads=[])

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(near, server_side=True) as secured:
            self._relay(secured)

    def _relay(self, near: ssl.SSLSocket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := near.recv(65_536)):
            head += data
        self.heads.append(head.decode().lower())
        method, target, _ = head.split(b" ", 2)
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        name, _, port = place.decode().rpartition(":")
        with socket.create_connection((name, int(port))) as far:
            if method == b"CONNECT":
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                far.sendall(head.replace(b"http://" + place, b"", 1))
            threading.Thread(target=self._back, args=(far, near), daemon=True).start()
            while data := near.recv(65_536):
                far.sendall(data.replace(b"http://" + place, b"", 1) if method != b"CONNECT" else data)

    def _back(self, far: socket.socket, near: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65_536):
                near.sendall(data)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA) -> Iterator[Secured]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Secured(context)
    yield server
    server.close()


@pytest.fixture
def tunnels() -> Iterator[Tunnels]:
    proxy = Tunnels()
    yield proxy
    proxy.close()


def ask(url: str, client: httpx.Client, do: str = "sized") -> httpx.Response:
    return client.post(f"{url}{CHAT}?do={do}", content=GOOD, headers=JSON)


def test_an_upstream_behind_tls_whose_authority_is_named(
    host: str, secured: Secured, authority: trustme.CA, tmp_path: Path, client: httpx.Client
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = f"upstreams: {{openai: {{url: 'https://localhost:{secured.port}', ca_file: ca.pem}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, running.recording(5):
        answers = [ask(running.url, client, do) for do in ("sized", "chunked", "trailers", "sized", "until_close")]
        running.check()
    assert [answer.content for answer in answers] == [BODY] * 5
    assert secured.connections == 1


@pytest.mark.parametrize("named", ["another", "none", "host"])
def test_a_certificate_that_is_not_believed(
    named: str, host: str, secured: Secured, authority: trustme.CA, tmp_path: Path, client: httpx.Client
) -> None:
    """Of another authority, of one nobody named, and for another name: nothing is sent, and operators are told what to mend."""
    (authority if named == "host" else trustme.CA()).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    at, believed = ("127.0.0.1" if named == "host" else "localhost"), ("" if named == "none" else ", ca_file: ca.pem")
    settings = f"upstreams: {{openai: {{url: 'https://{at}:{secured.port}'{believed}}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running:
        with running.recording(2) as records:
            for _ in range(2):
                answer = ask(running.url, client)
                assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream-unreachable")
                assert "certificate" not in answer.text
        health = client.get(f"{running.url}/healthz").json()
        errors = running.errors
        running.check()
    assert [record["answer"]["end"] for record in records] == ["upstream-failed"] * 2
    assert health["ready"]
    assert [problem for problem in health["problems"] if "upstreams.openai" in problem and "certificate" in problem]
    assert errors.count("name its authority's file in upstreams.openai.ca_file") == 1
    assert not secured.got


def test_a_tunnel_through_a_proxy_to_tls(
    host: str, secured: Secured, tunnels: Tunnels, authority: trustme.CA, tmp_path: Path, client: httpx.Client
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    proxy = f"http://me:s3cret-way@127.0.0.1:{tunnels.port}"
    settings = f"upstreams: {{openai: {{url: 'https://localhost:{secured.port}', ca_file: ca.pem, proxy: '{proxy}'}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, running.recording(3):
        assert [ask(running.url, client).content for _ in range(3)] == [BODY] * 3
        assert "s3cret-way" not in running.errors
    assert len(tunnels.heads) == secured.connections == 1
    assert tunnels.heads[0].startswith(f"connect localhost:{secured.port} http/1.1\r\n")
    assert f"proxy-authorization: {BASIC.lower()}\r\n" in tunnels.heads[0]
    assert KEY not in tunnels.heads[0]
    assert b"proxy-authorization" not in secured.got[-1].head.lower()
    assert secured.got[-1].target == f"{CHAT}?do=sized"


@pytest.mark.parametrize("inner", [True, False], ids=["to TLS", "to plain HTTP"])
def test_a_proxy_that_is_reached_over_tls(
    inner: bool, host: str, secured: Secured, keeping: Keeping, authority: trustme.CA, tmp_path: Path, client: httpx.Client
) -> None:
    """Both certificates are verified, the proxy's and, within its tunnel, the upstream's."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    proxy, upstream = SecuredTunnels(context), secured if inner else keeping
    url = f"{'https' if inner else 'http'}://localhost:{upstream.port}"
    way = f"https://me:s3cret-way@localhost:{proxy.port}"
    settings = f"upstreams: {{openai: {{url: '{url}', ca_file: ca.pem, proxy: '{way}'}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, running.recording(3):
        answers = [ask(running.url, client) for _ in range(3)]
        assert [answer.content for answer in answers] == [BODY] * 3, running.errors
        assert "s3cret-way" not in running.errors
    assert f"proxy-authorization: {BASIC.lower()}\r\n" in proxy.heads[0]
    assert proxy.heads[0].startswith("connect " if inner else "post http://localhost")
    proxy.close()


@pytest.mark.parametrize("unbelieved", ["proxy", "upstream"])
def test_neither_the_proxy_nor_the_upstream_behind_it_is_believed_unasked(
    unbelieved: str, host: str, authority: trustme.CA, tmp_path: Path, client: httpx.Client
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in ("proxy", "upstream")}
    for name, context in contexts.items():
        (trustme.CA() if name == unbelieved else authority).issue_cert("localhost").configure_cert(context)
    proxy, upstream = SecuredTunnels(contexts["proxy"]), Secured(contexts["upstream"])
    way = f"https://me:s3cret-way@localhost:{proxy.port}"
    settings = f"upstreams: {{openai: {{url: 'https://localhost:{upstream.port}', ca_file: ca.pem, proxy: '{way}'}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, running.recording():
        answer, errors = ask(running.url, client), running.errors
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream-unreachable")
    assert "upstreams.openai" in errors
    assert "s3cret-way" not in errors
    assert (bool(proxy.heads), upstream.got) == (unbelieved == "upstream", [])
    proxy.close()
    upstream.close()


@pytest.mark.parametrize("there", [True, False], ids=["refuses", "is not there"])
def test_a_proxy_that_opens_no_way(there: bool, host: str, tunnels: Tunnels, tmp_path: Path, client: httpx.Client) -> None:
    tunnels.status = b"407 Proxy Authentication Required"
    proxy = f"http://me:s3cret-way@127.0.0.1:{tunnels.port if there else free_port()}"
    settings = f"upstreams: {{openai: {{url: 'https://localhost:1', proxy: '{proxy}', connect: 2s}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running, running.recording():
        answer = ask(running.url, client)
        errors, health = running.errors, client.get(f"{running.url}/healthz").text
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream-unreachable")
    assert ("the proxy refused the way with 407" if there else "the proxy cannot be reached") in errors
    assert "upstreams.openai.proxy" in errors
    assert "s3cret-way" not in errors + health + answer.text


def test_proxies_of_the_environment_are_not_taken(
    host: str, keeping: Keeping, tunnels: Tunnels, tmp_path: Path, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{tunnels.port}")
    with gateway(tmp_path, f"upstreams: {{openai: {{url: {keeping.url}}}}}\n", PACK, host) as running, running.recording():
        assert ask(running.url, client).content == BODY
    assert not tunnels.heads


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    server = Keeping()
    yield server
    server.close()


def test_more_at_once_than_the_upstream_may_have(host: str, keeping: Keeping, tmp_path: Path, client: httpx.Client) -> None:
    """They wait for a connection as long as connecting may take; then they are told, in their protocol's shape."""
    settings = f"upstreams: {{openai: {{url: {keeping.url}, connections: 1, connect: 100ms}}}}\n"
    with gateway(tmp_path, settings, PACK, host) as running:
        with running.recording(2) as records, socket.create_connection(("127.0.0.1", running.port), timeout=8) as first:
            head = f"POST {CHAT}?do=slow HTTP/1.1\r\nhost: g\r\ncontent-length: {len(GOOD)}\r\nconnection: close\r\n\r\n"
            first.sendall(head.encode() + GOOD)
            while not keeping.got:
                pass
            answer = ask(running.url, client)
            assert first.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert ask(running.url, client).content == BODY
        running.check()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream-busy")
    assert answer.headers["retry-after"] == "1"
    assert sorted(record["answer"]["end"] for record in records) == ["complete", "upstream-failed"]
    assert keeping.connections == 1
