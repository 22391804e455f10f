"""What breaks when an answer is over: a sink, or the state that is told what was used. The client has its answer by then, and
whole; what is said of it goes to the log, and the next one is served. Both hosts, in this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from gateway.config import load_config
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply
from gateway.web.app import Process, build
from gateway.web.server import Protocol
from tests.web.conftest import PACK
from tests.web.keeping import BODY, Keeping
from tests.web.running import KEY, LANE, PATIENCE, free_port

CHAT = "/v1/chat/completions"
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


class Forgetful(MemoryState):
    """State that fails whenever something is given back, as often as it is told to."""

    failures = 0

    def apply(self, batch: Batch) -> Reply:
        if batch.returns and self.failures:
            self.failures -= 1
            raise RuntimeError("the state broke")
        return super().apply(batch)


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    server = Keeping()
    yield server
    server.close()


@pytest.fixture
def process(keeping: Keeping, tmp_path: Path) -> Process:
    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "gateway.yaml").write_text(f"policy: [pack.yaml]\nupstreams: {{openai: {{url: {keeping.url}}}}}\n")
    found = build(load_config(tmp_path / "gateway.yaml", {}))
    found.gate.state = Forgetful()
    return found


@contextlib.contextmanager
def serving(process: Process, host: str) -> Iterator[str]:
    port = free_port()
    protocol = process.protocol if host == LANE else Protocol
    server = uvicorn.Server(uvicorn.Config(process.app, port=port, http=protocol, ws="none", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}{CHAT}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def ask(url: str, model: str = "m", do: str = "sized", stream: bool = False) -> tuple[int, bytes]:
    document = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = httpx.post(f"{url}?do={do}", content=json.dumps(document), headers=HEADERS, trust_env=False, timeout=8)
    return answer.status_code, answer.content


@pytest.mark.parametrize("do", ["sized", "chunked", "until_close"])
def test_a_sink_that_breaks_costs_nobody_anything(
    do: str, host: str, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[str] = []

    def sink(judgement: object, answer: object) -> None:
        given.append("settled")
        raise RuntimeError("the sink broke")

    process.gate.sink = sink
    with caplog.at_level(logging.ERROR), serving(process, host) as url:
        answers = [ask(url, "narrow", do) for _ in range(5)]  # more than there are slots: each is given back
        refused = ask(url, "forbidden")
    assert answers == [(200, BODY)] * 5
    assert refused[0] == 403
    assert len(given) == 6, "each is settled once, and not again because that failed"
    assert "the sink broke" in caplog.text


def test_so_does_state_that_breaks_while_it_is_told(host: str, process: Process, caplog: pytest.LogCaptureFixture) -> None:
    state = process.gate.state
    assert isinstance(state, Forgetful)
    state.failures = 1
    with caplog.at_level(logging.ERROR), serving(process, host) as url:
        assert ask(url, "narrow") == (200, BODY)
        assert state.failures == 0
        assert [ask(url, "narrow")[0] for _ in range(3)] == [200] * 3, "one slot is lost until its lease ends, not both"
        assert ask(url) == (200, BODY)
    assert "the state broke" in caplog.text


def test_a_stream_is_whole_though_its_settling_breaks(host: str, process: Process) -> None:
    def sink(judgement: object, answer: object) -> None:
        raise RuntimeError("the sink broke")

    process.gate.sink = sink
    with serving(process, host) as url:
        for _ in range(3):
            status, said = ask(url, "narrow", "stream", stream=True)
            assert (status, said) == (200, b'data: {"usage": 1}\n\n')
