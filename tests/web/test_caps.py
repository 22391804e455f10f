"""How many connections clients may have open: all of them together, and one address."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, Gateway, gateway
from tests.web.test_waits import CHAT, GOOD

MANY = b"Too many connections are open."


BALANCER = "127.0.0.2"


def connected(running: Gateway, begin: bytes = b"") -> socket.socket:
    """A connection; one that begins with something comes from the balancer."""
    source = (BALANCER if begin else "127.0.0.1", 0)
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=8, source_address=source)
    connection.sendall(begin)
    time.sleep(0.02)
    return connection


def told(connection: socket.socket) -> bytes:
    """What a connection that is one too many is told, once it is closed."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65_536):
            found += data
    return found


def asked(running: Gateway) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=8) as client:
        return client.post(running.url + CHAT, content=GOOD, headers={"authorization": f"Bearer {KEY}"})


@pytest.mark.parametrize("cap", ["connections: 3", "per_address: 3"])
def test_one_more_is_told_so_and_the_others_are_served(cap: str, keeping: Keeping, tmp_path: Path) -> None:
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\nclients: {{{cap}}}\n"
    with gateway(tmp_path, settings, PACK) as running:
        time.sleep(0.1)
        held = [connected(running) for _ in range(3)]
        for _ in range(5):
            with connected(running) as beyond:
                answer = told(beyond)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert answer.endswith(MANY)
        held.pop().close()
        time.sleep(0.1)
        assert asked(running).content == BODY
        for one in held:
            one.close()
        time.sleep(0.1)
        clients = httpx.get(f"{running.url}/healthz", trust_env=False).json()["parts"]["clients"]
        assert clients == {"connections": 1, "turned_away": 5}


def test_proxies_are_not_counted_but_those_they_speak_for(keeping: Keeping, tmp_path: Path) -> None:
    """With the PROXY protocol a connection is its caller's; a proxy that speaks HTTP may open as many as it likes."""
    settings = (
        f"upstreams: {{openai: {{url: {keeping.url}}}}}\nclients: {{per_address: 2, head: 5s}}\n"
        f"client_address: {{trusted_proxies: [{BALANCER}/32], proxy_protocol: true}}\n"
    )
    local = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
    with gateway(tmp_path, settings, PACK) as running:
        of_one = [connected(running, b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n") for _ in range(3)]
        of_site = [connected(running, b"PROXY TCP6 2001:db8::%d ::1 1 2\r\n" % number) for number in range(1, 4)]
        others = [connected(running, b"PROXY TCP4 203.0.113.1%d 10.0.0.1 1 2\r\n" % number) for number in range(4)]
        own = [connected(running, local) for _ in range(4)]
        for beyond in (of_one.pop(), of_site.pop()):
            with beyond:
                assert told(beyond).endswith(MANY)
        head = b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n"
        for one in (*of_one, *of_site, *others, *own):
            one.sendall(head)
            assert one.recv(65_536).startswith(b"HTTP/1.1 200 ")
            one.close()


def test_no_cap_is_no_cap(keeping: Keeping, tmp_path: Path) -> None:
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}}}\nclients: {{connections: 0, per_address: 0}}\n"
    with gateway(tmp_path, settings, PACK) as running, contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connected(running))
        assert asked(running).content == BODY
