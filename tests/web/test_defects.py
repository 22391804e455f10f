"""A plugin with defects: whatever of it breaks, and when, the client is answered or cut off, what it took is given back,
the exchange stands in the records once, and others are served on. Both hosts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, Gateway, gateway

PLUGIN = """
from gateway.plugins.protocols.openai import OpenAI, read_chat
from gateway.protocol import Route


class Broken(OpenAI):
    name = "broken"
    routes = (Route("broken", "POST", "/v1/broken", read_chat),)

    def usage(self, document, so_far):
        raise RuntimeError("usage")

    def restrict(self, route, document, restriction):
        raise RuntimeError("restrict")

    def error(self, status, public, reference):
        raise RuntimeError("error")

    def ask_for_usage(self, route, keys, raw):
        if b"ask and break" in raw:
            raise RuntimeError("ask")
        return super().ask_for_usage(route, keys, raw)

    def without_usage(self, event):
        raise RuntimeError("without")


def register(registry, settings):
    registry.add_dialect(Broken())
"""
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def running(host: str, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway into which the plugin is installed as any other is: beside its metadata, on the path."""
    folder = tmp_path_factory.mktemp("defects")
    (folder / "site").mkdir()
    (folder / "site" / "broken_plugin.py").write_text(PLUGIN)
    told = folder / "site" / "broken_plugin-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[sluicegate.plugins]\nbroken = broken_plugin\n")
    settings = f"upstreams: {{openai: {{url: {keeping.url}}}, broken: {{url: {keeping.url}}}}}\n"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(folder / "site"))
        with gateway(folder, settings, PACK, host) as found:
            yield found


def asked(model: str = "m", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


@pytest.mark.parametrize(
    ("body", "do", "status", "end"),
    [
        (asked("narrow", user="ask and break", stream=True), "sized", 500, "upstream-failed"),
        (asked("restricted"), "sized", 500, "upstream-failed"),
        (asked("forbidden"), "sized", 500, "refused"),
        (asked("narrow"), "switching", 500, "upstream-failed"),
        (asked("narrow"), "sized", 200, "complete"),
        (asked("narrow", stream=True), "stream", 200, "complete"),
    ],
    ids=["asking for usage", "restricting", "writing a refusal", "writing a failure", "reading usage", "stripping"],
)
def test_what_breaks_breaks_alone(body: bytes, do: str, status: int, end: str, running: Gateway, keeping: Keeping) -> None:
    for _ in range(4):  # more than the slots there are: what broke has given its own back
        with running.recording() as records, socket.create_connection(("127.0.0.1", running.port), timeout=8) as connection:
            lines = [
                f"{name}: {value}"
                for name, value in {**HEADERS, "host": "g", "connection": "close", "content-length": len(body)}.items()
            ]
            connection.sendall("\r\n".join([f"POST /v1/broken?do={do} HTTP/1.1", *lines, "", ""]).encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert records[0]["answer"]["end"] == end
        assert records[0]["answer"].get("status", status) == status
        assert BODY in answer or status != 200 or do == "stream"
        assert b'data: {"usage": 1}' in answer or do != "stream"
    with running.recording():
        said = httpx.post(f"{running.url}/v1/chat/completions", content=asked("narrow"), headers=HEADERS, trust_env=False)
    assert (said.status_code, said.content) == (200, BODY)
    assert "RuntimeError" in running.errors
