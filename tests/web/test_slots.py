"""Slots of requests under way, through real gateways: none leaks, whatever becomes of the exchange, and none is lost early."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.state.conftest import Server
from tests.web.faulty import Faulty
from tests.web.running import HOSTS, PATIENCE, Gateway, gateway

PACK = """
pack: slots
version: 1
language: 1
limits:
  - {id: slots.one, per: [account.id], limit: 1 concurrent, lease: %s, on_missing: refuse, mode: enforce}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
BREAKS = (
    "cut_json", "cut_chunked", "cut_stream", "cut_sized_stream", "hang_head", "hang_stream", "hang_json", "no_answer",
    "junk_answer", "odd_status", "big_headers",
)  # fmt: skip
STATES = ("memory", "redis")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


def settings(faulty: Faulty, redis: Server, state: str) -> str:
    url = f"state: {{url: '{redis.url}'}}\n" if state == "redis" else ""
    return f"upstreams: {{openai: {{url: {faulty.url}, read: 300ms}}}}\n{url}"


@pytest.fixture(scope="module", params=[(host, state) for host in HOSTS for state in STATES], ids="-".join)
def running(
    request: pytest.FixtureRequest,
    faulty: Faulty,
    redis: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    host, state = request.param
    redis.command("FLUSHALL")
    folder = tmp_path_factory.mktemp("gateway")
    with gateway(folder, settings(faulty, redis, state), PACK % "10m", host) as found:
        yield found


def url_of(running: Gateway, do: str) -> str:
    return f"{running.url}/v1/chat/completions?do={do}"


def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def status(running: Gateway, key: str, do: str = "plain_json") -> int:
    return httpx.post(url_of(running, do), json=BODY, headers=headers(key), timeout=20, trust_env=False).status_code


def freed(running: Gateway, key: str) -> None:
    """Return once the only slot of an account can be taken again."""
    deadline = time.monotonic() + PATIENCE
    while status(running, key) != 200:
        assert time.monotonic() < deadline, "the slot leaked"
        time.sleep(0.02)


@pytest.mark.parametrize("do", BREAKS)
def test_a_slot_is_free_after_whatever_the_upstream_did(running: Gateway, do: str) -> None:
    with contextlib.suppress(httpx.TransportError):
        httpx.post(url_of(running, do), json=BODY, headers=headers(f"sk-{do}"), timeout=20, trust_env=False)
    freed(running, f"sk-{do}")


@pytest.mark.parametrize("do", ["hang_head", "endless_stream", "slow_stream"])
def test_a_slot_is_free_after_its_client_went_away(running: Gateway, do: str) -> None:
    key = f"sk-gone-{do}"
    url, sent = url_of(running, do), headers(key)
    with (
        contextlib.suppress(httpx.TimeoutException),
        httpx.stream("POST", url, json=BODY, headers=sent, timeout=0.2, trust_env=False) as answer,
    ):
        assert answer.status_code == 200
    freed(running, key)


@pytest.mark.parametrize("state", STATES)
def test_a_stream_that_outlasts_its_lease_keeps_its_slot(
    faulty: Faulty,
    redis: Server,
    tmp_path: Path,
    state: str,
) -> None:
    redis.command("FLUSHALL")
    with gateway(tmp_path, settings(faulty, redis, state), PACK % "1s") as running:
        url, sent = url_of(running, "endless_stream"), headers("sk-long")
        with httpx.stream("POST", url, json=BODY, headers=sent, timeout=20, trust_env=False) as answer:
            assert answer.status_code == 200
            began, seen = time.monotonic(), set()
            for _ in answer.iter_raw():
                seen.add(status(running, "sk-long"))
                if time.monotonic() - began > 3:
                    break
        assert seen == {429}
        freed(running, "sk-long")
        running.check()


TOKENS = """
pack: slots
version: 1
language: 1
limits:
  - {id: slots.tokens, per: [account.id], limit: 1000 output tokens/day, reserve: 5, on_missing: refuse, mode: enforce}
"""


@pytest.mark.parametrize("host", HOSTS)
def test_a_stream_that_is_cancelled_is_paid_for_as_far_as_it_went(
    faulty: Faulty, redis: Server, tmp_path: Path, host: str
) -> None:
    """No usage was told yet, and far more went out than was held back: cancelling before the end buys nothing."""
    with gateway(tmp_path, settings(faulty, redis, "memory"), TOKENS, host) as running:
        url, events = url_of(running, "endless_stream"), 0
        with (
            running.recording() as records,
            httpx.stream("POST", url, json=BODY, headers=headers("sk-c"), timeout=20, trust_env=False) as answer,
        ):
            for line in answer.iter_lines():
                events += line.startswith("data:")
                if events >= 40:
                    break
        assert records[0]["answer"]["end"] == "client-gone"
        told = records[0]["answer"]["events"]
        assert told >= 40
        with running.recording() as records:
            assert status(running, "sk-c") == 200
        assert records[0]["limits"][0]["remaining"] == 1_000 - told - 5
        assert "events" not in records[0]["answer"], "of an answer that ended the usage speaks"
