"""Two gateway processes over one real Redis: the limits of one, declared failure, recovery without a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.state.conftest import Server
from tests.web.faulty import Faulty
from tests.web.running import KEY, PATIENCE, PROMPT, Gateway, gateway

PACK = """
pack: shared
version: 1
language: 1
limits:
  - {id: shared.requests, per: [account.id], limit: 6 requests/hour, window: moving, on_missing: refuse, mode: enforce}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def settings(faulty: Faulty, redis: Server, fail: str) -> str:
    state = f"state: {{url: '{redis.url}'}}\nfail: {{state: {fail}}}\n"
    return f"upstreams: {{openai: {{url: {faulty.url}}}}}\n{state}"


def ask(running: Gateway, key: str = KEY) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{running.url}/v1/chat/completions", json=BODY, headers=headers, timeout=10, trust_env=False)


def test_two_gateways_are_one(faulty: Faulty, redis: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HASH_KEY", "a key that both of them have")
    mine = settings(faulty, redis, "closed")
    with gateway(tmp_path / "one", mine, PACK) as one, gateway(tmp_path / "two", mine, PACK) as two:
        statuses = [ask(running).status_code for _ in range(5) for running in (one, two)]
    assert sorted(statuses) == [200] * 6 + [429] * 4


@pytest.mark.parametrize(("fail", "status"), [("closed", 503), ("open", 200)])
def test_redis_gone_and_back(faulty: Faulty, redis: Server, tmp_path: Path, fail: str, status: int) -> None:
    with gateway(tmp_path / "g", settings(faulty, redis, fail), PACK) as running:
        with running.recording():
            assert ask(running).status_code == 200
        redis.kill()
        with running.recording() as records:
            answer = ask(running)
        assert answer.status_code == status
        assert f"127.0.0.1:{redis.port}" in records[0]["state_error"]
        assert any(rule["verdict"] == "unknown" for rule in records[0]["rules"])
        if status == 503:
            assert answer.json()["error"]["code"] == "temporarily-unavailable"
            assert answer.headers["retry-after"] == "5"
            assert records[0]["outcome"]["by"] == ["state"]
        ready = httpx.get(f"{running.url}/readyz", trust_env=False)
        assert ready.status_code == status  # where it is declared open it serves on
        health = ready.json()
        assert (health["status"], health["problems"][0][:7]) == ("degraded", "state: ")
        assert health["dependencies"]["state"]["mode"] == fail
        assert health["dependencies"]["state"][f"127.0.0.1:{redis.port}"]["failures"] > 0
        assert records[0]["failing"] == {"state": fail}
        redis.start()
        deadline = time.monotonic() + PATIENCE
        while httpx.get(f"{running.url}/healthz", trust_env=False).json()["status"] != "ok" and time.monotonic() < deadline:
            time.sleep(0.05)
        with running.recording() as records:
            assert ask(running).status_code == 200
        assert not {"state_error", "failing"} & records[0].keys()
        running.check()
