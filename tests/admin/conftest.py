"""A gateway with an admin listener, before the stub provider."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.conftest import stub as stub  # a fixture
from tests.web.running import Gateway, free_port, gateway

OPERATOR, READER = "operator-token-0123456789-abcdef", "reader-token-0123456789-abcdefgh"


@dataclass
class Administered:
    """A running gateway and its admin listener."""

    gateway: Gateway
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", token: str | None = READER, **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.request(method, f"{self.url}{path}", headers=headers, trust_env=False, timeout=20, **more)  # type: ignore[arg-type]

    def call(self, model: str, key: str = "sk-one") -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=20)


@contextlib.contextmanager
def administered(
    folder: Path, stub: str, more: str = "", pack: str = PACK, rate: int = 100_000, host: str = "127.0.0.1", tls: str = ""
) -> Iterator[Administered]:
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "operator").write_text(OPERATOR)
    secured = f"tls: {tls}, " if tls else ""
    settings = (
        f"upstreams: {{openai: {{url: {stub}}}, anthropic: {{url: {stub}}}}}\n"
        f"admin: {{listen: '{host}:{port}', {secured}rate: {rate},"
        f" tokens: {{oncall: {{token: {{file: operator}}, role: operate}}, dashboards: {{token: {READER}}}}}}}\n{more}"
    )
    with gateway(folder, settings, pack) as running:
        yield Administered(running, port)


@pytest.fixture(scope="module")
def admin(stub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    with administered(tmp_path_factory.mktemp("admin"), stub) as running:
        yield running
