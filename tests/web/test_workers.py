"""`sluice serve --workers`: real processes on one address over a real Redis, reloaded, stopped and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.audit.segments import chains
from gateway.cli.serve import check_workers
from gateway.config import load_config
from gateway.errors import StateError
from tests.ledgers import ledger
from tests.state.conftest import Server
from tests.web.faulty import Faulty
from tests.web.running import PATIENCE, ROOT, free_port, process

PACK = """
pack: shared
version: %d
language: 1
limits:
  - {id: shared.requests, per: [account.id], limit: 6 requests/hour, window: moving, on_missing: refuse, mode: enforce}
  - {id: shared.slots, per: [account.id], limit: 1 concurrent, lease: 2s, on_missing: refuse, mode: enforce}
"""
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
WORKERS = 2


class Workers:
    """Several workers and what they leave behind."""

    def __init__(self, folder: Path, upstream: str, state: str) -> None:
        self.folder, self.port = folder, free_port()
        self.pack, self.config, self.errors = folder / "pack.yaml", folder / "gateway.yaml", folder / "stderr"
        self.pack.write_text(PACK % 1)
        self.config.write_text(
            f"listen: 127.0.0.1:{self.port}\npolicy: [pack.yaml]\nupstreams: {{openai: {{url: {upstream}}}}}\n{state}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        arguments = ["-m", "gateway", "serve", str(self.config), "--workers", str(WORKERS)]
        with process(arguments, f"http://127.0.0.1:{self.port}/healthz", self.errors) as found:
            self.all_healths()
            yield found

    def pids(self, keeper: int) -> list[int]:
        """The processes of the workers, in the order of their start."""
        return [int(pid) for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]

    def ask(self, key: str, do: str = "") -> httpx.Response:
        """One request on a connection of its own."""
        headers = {"authorization": f"Bearer {key}"}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions{do and f'?do={do}'}"
        return httpx.post(url, json=BODY, headers=headers, timeout=20, trust_env=False)

    def healths(self) -> dict[int, dict[str, Any]]:
        """What workers that took one of some connections say of themselves."""
        found = {}
        for _ in range(8 * WORKERS):
            health = httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5, trust_env=False).json()
            found[health["parts"]["worker"]["number"]] = health
        return found

    def all_healths(self) -> dict[int, dict[str, Any]]:
        """What every worker says of itself."""
        found: dict[int, dict[str, Any]] = {}
        self.until(lambda: len(found.update(self.healths()) or found) == WORKERS)
        return found

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """The records of each chain."""
        return {chain.name: ledger(chain) for chain in chains(self.folder / "audit")}


@pytest.fixture
def workers(faulty: Faulty, own_redis: Server, tmp_path: Path) -> Workers:
    return Workers(tmp_path, faulty.url, f"state: {{url: '{own_redis.url}'}}\n")


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def test_state_in_memory_refuses_workers_and_names_the_cure(tmp_path: Path) -> None:
    mine = Workers(tmp_path, "http://127.0.0.1:1", "")
    command = [sys.executable, "-m", "gateway", "serve", str(mine.config), "--workers", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "sluice: --workers 4: state in memory is each worker's own, so limits would admit up to 4 times what they say; set"
        " 'state: {url: redis://host:6379/0}', or start one worker\n"
    )
    assert not list(tmp_path.glob("audit*"))


def test_more_workers_than_share_the_limits_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {}\nstate: {url: 'redis://127.0.0.1:1/0', replicas: 2}\nfail: {state: degrade}\n")
    settings = load_config(file)
    check_workers(settings, 2)
    with pytest.raises(StateError, match=r"--workers 3: state\.replicas says that 2 share .*, 3 at least"):
        check_workers(settings, 3)


def test_a_policy_that_does_not_load_is_said_once_and_nothing_is_started(workers: Workers) -> None:
    workers.pack.write_text("pack: 7\n")
    command = [sys.executable, "-m", "gateway", "serve", str(workers.config), "--workers", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("needs 'version'") <= 1
    assert "pack.yaml:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_keep_the_limits_of_one_and_every_record_whole(workers: Workers) -> None:
    with workers.running() as keeper:
        pids = workers.pids(keeper.pid)
        assert len(pids) == WORKERS
        statuses = [workers.ask("sk-a").status_code for _ in range(20)]
        assert sorted(statuses) == [200] * 6 + [429] * 14
        keeper.terminate()
        assert keeper.wait(PATIENCE) == 0
        assert all(map(gone, pids))
    found = workers.records()
    assert sorted(found) == ["1", "2"]
    assert sorted(entry["answer"]["status"] for entries in found.values() for entry in entries) == sorted(statuses)
    assert "Traceback" not in workers.errors.read_text()
    assert workers.errors.read_text().count("sluice ") == 1, "one of them speaks for all"


def test_a_reload_reaches_every_worker(workers: Workers) -> None:
    with workers.running() as keeper:
        before = {health["policy"]["digest"] for health in workers.healths().values()}
        workers.pack.write_text(PACK % 2)
        keeper.send_signal(signal.SIGHUP)
        workers.until(lambda: {health["policy"]["version"] for health in workers.healths().values()} == {2})
        after = workers.all_healths()
        assert len({health["policy"]["digest"] for health in after.values()} | before) == 2
        assert {number: health["parts"]["worker"]["problem"] for number, health in after.items()} == {1: "", 2: ""}


def test_workers_with_different_policies_say_so(workers: Workers) -> None:
    with workers.running() as keeper:
        workers.pack.write_text(PACK % 2)
        os.kill(workers.pids(keeper.pid)[0], signal.SIGHUP)
        workers.until(lambda: all(health["problems"] for health in workers.healths().values()))
        for health in workers.healths().values():
            assert health["problems"] == [
                "workers: not all workers have the same policy in force: reload once more, or see what each says"
            ]
            assert len(set(health["parts"]["worker"]["policies"].values())) == 2


def test_a_worker_that_is_killed_is_started_again_and_its_slot_ends_with_its_lease(workers: Workers, faulty: Faulty) -> None:
    with workers.running() as keeper:
        stream = httpx.Client(trust_env=False, timeout=20)
        sent = stream.build_request(
            "POST", f"http://127.0.0.1:{workers.port}/v1/chat/completions?do=endless_stream", json={**BODY, "stream": True},
            headers={"authorization": "Bearer sk-b"},
        )  # fmt: skip
        answer = stream.send(sent, stream=True)
        assert answer.status_code == 200
        assert workers.ask("sk-b").status_code == 429, "its slot is held"
        pids = workers.pids(keeper.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        workers.until(lambda: len(set(workers.pids(keeper.pid)) - set(pids)) == WORKERS)
        with pytest.raises(httpx.TransportError):
            answer.read()
        stream.close()

        def freed() -> bool:
            try:
                return workers.ask("sk-b").status_code == 200
            except httpx.TransportError:
                return False

        workers.until(freed)
        assert time.monotonic() - began < PATIENCE
        assert workers.errors.read_text().count("was ended by SIGKILL; it is started again") == WORKERS


def test_workers_stop_where_their_keeper_is_gone(workers: Workers) -> None:
    with workers.running() as keeper:
        pids = workers.pids(keeper.pid)
        keeper.kill()
        workers.until(lambda: all(map(gone, pids)))
