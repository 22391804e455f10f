"""How the process ends: what is under way has its time, what is left then is told so, settled and recorded. Both hosts."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.web.conftest import PACK
from tests.web.faulty import Faulty
from tests.web.running import KEY, PATIENCE, Gateway, gateway

CHAT = "/v1/chat/completions"
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


def body(stream: bool, model: str = "m") -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()


class Asking:
    """A request in a thread of its own. found: its status and body once it is over; first: set with the first bytes."""

    def __init__(self, url: str, stream: bool, model: str = "m") -> None:
        self.first, self.found = threading.Event(), (0, b"")
        self.headers: httpx.Headers = httpx.Headers()
        self._thread = threading.Thread(target=self._ask, args=(url, body(stream, model)))
        self._thread.start()

    def _ask(self, url: str, content: bytes) -> None:
        with (
            httpx.Client(trust_env=False, timeout=30) as client,
            client.stream("POST", url, content=content, headers=HEADERS) as got,
        ):
            said = b""
            with contextlib.suppress(httpx.RemoteProtocolError):
                for piece in got.iter_raw():
                    said += piece
                    self.first.set()
            self.found, self.headers = (got.status_code, said), got.headers

    def end(self) -> tuple[int, bytes]:
        self._thread.join(PATIENCE)
        return self.found


def started(host: str, faulty: Faulty, folder: Path, stop: str) -> Any:
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}, anthropic: {{url: {faulty.url}}}}}\nstop: {{{stop}}}\n"
    return gateway(folder, settings, PACK, host)


def ended(running: Gateway, began: float) -> float:
    """Seconds until the process ended by itself."""
    assert running.process.wait(PATIENCE) in (0, -signal.SIGTERM)
    return time.monotonic() - began


def told(running: Gateway) -> list[str]:
    return sorted(record["answer"]["end"] for record in running.records())


def test_a_stream_that_ends_in_time_is_not_disturbed(host: str, faulty: Faulty, tmp_path: Path) -> None:
    with started(host, faulty, tmp_path, "grace: 20s") as running:
        asking = Asking(f"{running.url}{CHAT}?do=slow_stream", True)
        assert asking.first.wait(PATIENCE)
        began = time.monotonic()
        running.process.terminate()
        status, said = asking.end()
        took = ended(running, began)
    assert (status, said.count(b"[DONE]")) == (200, 1)
    assert took < 10, "it does not wait for longer than anything is under way"
    assert told(running) == ["complete"]


def test_what_is_left_after_the_grace_is_told_so_and_settled(host: str, faulty: Faulty, tmp_path: Path) -> None:
    with started(host, faulty, tmp_path, "grace: 1s") as running, socket.create_connection(("127.0.0.1", running.port)) as half:
        half.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-length: 50\r\n\r\nhalf".encode())
        streams = [
            Asking(f"{running.url}/v1/messages?do=hang_stream", True),
            Asking(f"{running.url}{CHAT}?do=hang_stream", True),
        ]
        silent = Asking(f"{running.url}{CHAT}?do=hang_head", False, "narrow")
        assert all(one.first.wait(PATIENCE) for one in streams)
        time.sleep(0.2)
        began = time.monotonic()
        running.process.terminate()
        time.sleep(0.5)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", running.port), timeout=1) as late:
            assert late.recv(1) == b"", "nothing new is accepted"
        answers = [one.end() for one in streams]
        status, said = silent.end()
        took = ended(running, began)
    assert 0.9 < took < 6
    assert [code for code, _ in answers] == [200, 200]
    assert b"event: error" in answers[0][1]
    assert all(b"The gateway is being stopped" in text for _, text in answers)
    assert (status, json.loads(said)["error"]["code"]) == (503, "gateway-stopping")
    assert silent.headers["retry-after"] == "1"
    assert told(running) == ["stopped"] * 3


def test_it_serves_on_while_it_is_announced(host: str, faulty: Faulty, tmp_path: Path) -> None:
    with started(host, faulty, tmp_path, "announce: 1500ms, grace: 5s") as running:
        began = time.monotonic()
        running.process.terminate()
        time.sleep(0.5)
        assert httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 503
        assert httpx.get(f"{running.url}/healthz", trust_env=False).status_code == 200
        answer = httpx.post(f"{running.url}{CHAT}?do=plain_json", content=body(False), headers=HEADERS, trust_env=False)
        assert answer.status_code == 200
        assert 1.4 < ended(running, began) < 5
    assert told(running) == ["complete"]


def test_a_request_that_is_held_back_is_not_sent_any_more(host: str, faulty: Faulty, tmp_path: Path) -> None:
    pack = PACK.replace("hold: 300ms", "hold: 10s")
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\nstop: {{grace: 200ms}}\n"
    with gateway(tmp_path, settings, pack, host) as running:
        held = Asking(f"{running.url}{CHAT}?do=plain_json", False, "delayed")
        time.sleep(2.0)
        began = time.monotonic()
        running.process.terminate()
        status, said = held.end()
        took = ended(running, began)
    assert (status, json.loads(said)["error"]["code"]) == (503, "gateway-stopping")
    assert took < 7, "it is not waited for"
    assert told(running) == ["stopped"]
