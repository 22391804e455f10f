"""Redis, the upstream and the traces' endpoint are killed, stalled, slowed and garbled under load, between real programs.

Counted are requests that got no answer (none may), that were refused though nothing said so, and that passed though something
forbade it: the limit admits what it says, and the upstream sees what clients were told. Afterwards everything is as before.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.collector import collector
from tests.state.conftest import Server
from tests.web.keeping import Keeping
from tests.web.running import KEY, PATIENCE, Gateway, gateway
from tests.web.wires import Fault, Wire

PACK = """
pack: faults
version: 1
language: 1
limits:
  - {id: faults.many, per: [account.id], limit: 1000000/hour, on_missing: refuse, mode: enforce}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CALLERS, LASTS = 4, 1.2
MODES = ("closed", "degrade")
ALLOWED = {  # statuses besides 200 while it fails, by what is declared of Redis
    "redis": {"closed": {503}, "degrade": set()},
    "upstream": {mode: {502, 503, 504} for mode in MODES},
    "otlp": {mode: set() for mode in MODES},
}


@dataclass
class Scene:
    """A gateway, and the wires to what it depends on."""

    running: Gateway
    wires: dict[str, Wire]
    mode: str


@pytest.fixture(scope="module", params=MODES)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    redis, upstream = Server(folder), Keeping()
    redis.start()
    with collector() as traces:
        wires = {
            "redis": Wire(redis.port),
            "upstream": Wire(int(upstream.url.rpartition(":")[2])),
            "otlp": Wire(int(traces.url.split(":")[2].split("/")[0])),
        }
        settings = (
            f"upstreams: {{openai: {{url: 'http://127.0.0.1:{wires['upstream'].port}', connect: 1s, read: 1s}}}}\n"
            f"state: {{url: 'redis://127.0.0.1:{wires['redis'].port}/0', replicas: 1, timeout: 700ms}}\n"
            f"fail: {{state: {request.param}}}\n"
            f"audit: {{otlp: 'http://127.0.0.1:{wires['otlp'].port}/v1/traces'}}\n"
        )
        try:
            with gateway(folder / "g", settings, PACK, bundled=False) as running:
                yield Scene(running, wires, request.param)
        finally:
            for wire in wires.values():
                wire.close()
            upstream.close()
            redis.kill()


def ask(client: httpx.Client, running: Gateway) -> int | str:
    try:
        headers = {"authorization": f"Bearer {KEY}"}
        return client.post(f"{running.url}/v1/chat/completions", json=BODY, headers=headers).status_code
    except httpx.TransportError as error:
        return f"lost: {type(error).__name__}"


def load(running: Gateway, seconds: float) -> Counter[int | str]:
    """What callers are told who ask one after the other for so long."""
    found: Counter[int | str] = Counter()
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        until = time.monotonic() + seconds

        def call() -> None:
            found[ask(client, running)] += 1  # once at least, however busy the machine
            while time.monotonic() < until:
                found[ask(client, running)] += 1

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    return found


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.STALL, Fault.SLOW, Fault.CORRUPT])
@pytest.mark.parametrize("name", ["redis", "upstream", "otlp"])
def test_none_is_lost_wrongly_refused_or_wrongly_passed(scene: Scene, name: str, fault: Fault) -> None:
    running, wire = scene.running, scene.wires[name]
    before = len(running.records())
    assert set(load(running, 0.2)) == {200}
    wire.put(fault)
    told = load(running, LASTS)
    wire.put(Fault.NONE)
    assert set(told) - {200} <= ALLOWED[name][scene.mode], "each has an answer, and no other than what is declared"
    if fault is Fault.SLOW:
        assert set(told) == {200}, "slower is not gone"
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        deadline, answers = time.monotonic() + PATIENCE, []
        while answers[-5:] != [200] * 5:
            assert time.monotonic() < deadline, answers[-20:]
            answers.append(ask(client, running))
            time.sleep(0.02)
    deadline = time.monotonic() + PATIENCE
    records = running.records()[before:]
    while len({record["id"] for record in records}) < sum(told.values()) + len(answers) and time.monotonic() < deadline:
        time.sleep(0.05)
        records = running.records()[before:]
    assert len({record["id"] for record in records}) == len(records), "a record for each, and none twice"
    marked = {"redis": "state", "upstream": "upstream", "otlp": "otlp"}[name]
    refused = [record for record in records if (record["outcome"].get("status") or record["answer"].get("status")) != 200]
    assert all(marked in record.get("failing", {}) for record in refused), "whoever was refused finds out why"
