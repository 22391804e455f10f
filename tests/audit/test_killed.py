"""A real `sluice serve`, killed under load at several moments: what was decided is in the ledger once, or is told as lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.audit.ledgers import said
from tests.ledgers import ledger
from tests.web.keeping import Keeping
from tests.web.running import ROOT, free_port, wait_for

PACK = """
pack: kill
version: 1
language: 1
rules:
  - {id: kill.denied, title: Denied, family: identity, owner: tests, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}, public: {code: not-you, message: Not for you.}}
"""
CLIENTS = 3
SETTLED = 1.0  # seconds after which a decision is long written, also where the machine is busy
LOST = re.compile(r"(\d+) decisions were taken and are not written")


@dataclass
class Callers:
    """Clients that ask in turns for what is allowed and what is denied, until nobody answers."""

    url: str
    references: dict[str, float] = field(default_factory=dict)
    answered: int = 0
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        with httpx.Client(trust_env=False, headers={"authorization": "Bearer sk-caller"}) as client:
            turn = 0
            while not self.stop.is_set():
                turn += 1
                body = {"model": "forbidden" if turn % 2 else "m", "messages": [{"role": "user", "content": "hi"}]}
                with self.lock:
                    self.sent += 1
                try:
                    answer = client.post(f"{self.url}/v1/chat/completions", json=body, timeout=10)
                except httpx.TransportError:
                    return
                with self.lock:
                    self.answered += 1
                    if reference := answer.headers.get("sluice-reference"):
                        self.references[reference] = time.monotonic()


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "stderr").open("ab") as stream:
        command = [sys.executable, "-m", "gateway", "serve", str(folder / "gateway.yaml")]
        running = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    wait_for(f"http://127.0.0.1:{port}/healthz", running, folder / "stderr")
    return running


def load(port: int, running: subprocess.Popen[bytes], seconds: float) -> tuple[Callers, float]:
    """Kill the gateway after so many seconds of load; the callers, and when it was."""
    callers = Callers(f"http://127.0.0.1:{port}")
    threads = [threading.Thread(target=callers.run) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    running.kill()
    killed = time.monotonic()
    running.wait()
    callers.stop.set()
    for thread in threads:
        thread.join()
    return callers, killed


def test_whatever_kill_does_every_decision_is_there_once_or_told_as_lost(tmp_path: Path) -> None:
    upstream, port = Keeping(), free_port()
    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "gateway.yaml").write_text(
        f"listen: 127.0.0.1:{port}\npolicy: [pack.yaml]\nupstreams: {{openai: {{url: {upstream.url}}}}}\n"
        "audit: {segment: 20KiB, keep: 0}\n"  # no span is kept; every record is
    )
    lost, before = 0, 0
    for seconds in (0.03, 0.4, 1.7):
        callers, killed = load(port, start(tmp_path, port), seconds)
        problems, notes = said(tmp_path / "audit")
        assert problems == []
        entries = ledger(tmp_path / "audit")
        written = len(entries) - before
        (now,) = [int(found[1]) for note in notes if (found := LOST.search(note))] or [0]
        assert len({entry["id"] for entry in entries}) == len(entries)
        assert callers.answered - CLIENTS <= written + now <= callers.sent, "no more than was asked, no less than was answered"
        there = {entry["reference"] for entry in entries}
        absent = [at for reference, at in callers.references.items() if reference not in there]
        assert len(absent) <= now + CLIENTS
        assert [at for at in absent if killed - at > SETTLED] == [], "what was long decided is written"
        lost, before = lost + now, len(entries)
    running = start(tmp_path, port)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).json()["parts"]["audit"]["problem"] == ""
    running.terminate()
    assert running.wait(15) in (0, -15)
    problems, notes = said(tmp_path / "audit")
    assert (problems, len(ledger(tmp_path / "audit"))) == ([], before)
    journal = [json.loads(line) for line in (tmp_path / "audit/1/roots.jsonl").read_text().splitlines()]
    assert sum(line.get("lost", 0) for line in journal) <= lost
    assert len([line for line in journal if line["end"] == "recovered"]) >= 1
    assert len(journal) > 4, "segments were closed while it ran"
    upstream.close()


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """The system refuses the running process more bytes (RLIMIT_FSIZE), and takes them again."""
    import resource

    upstream, port = Keeping(), free_port()
    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "gateway.yaml").write_text(
        f"listen: 127.0.0.1:{port}\npolicy: [pack.yaml]\nupstreams: {{openai: {{url: {upstream.url}}}}}\n"
    )
    running, body = start(tmp_path, port), {"model": "m", "messages": []}

    def ask(count: int) -> list[int]:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return [httpx.post(url, json=body, trust_env=False).status_code for _ in range(count)]

    def audit() -> dict[str, Any]:
        found = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).json()["parts"]["audit"]
        assert isinstance(found, dict)
        return found

    def until(problem: bool) -> dict[str, Any]:
        deadline = time.monotonic() + 15
        while bool((found := audit())["problem"]) != problem or (not problem and found["held_bytes"]):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    assert ask(3) == [200] * 3
    until(problem=False)
    _, hard = resource.prlimit(running.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (5_000, hard))
    ask(20)
    assert "records are held until it takes them" in until(problem=True)["problem"]
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (hard, hard))
    until(problem=False)
    ask(2)
    running.terminate()
    assert running.wait(15) in (0, -15)
    entries = ledger(tmp_path / "audit")
    assert (len(entries), len({entry["id"] for entry in entries})) == (25, 25)
    assert said(tmp_path / "audit") == ([], [])
    upstream.close()
