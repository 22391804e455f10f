"""Real processes on loopback: the gateway by `python -m gateway serve`, and the stub provider."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.ledgers import Followed, ledger_text

ROOT = Path(__file__).parents[2]
PROMPT = "canary-prompt-5f1c"
KEY = "sk-canary-key-93ab"
PATIENCE = 45.0
GRACE = 0.12
LANE, ASGI = HOSTS = ("lane", "asgi")
DISK = "disk"
_COMMANDS = {LANE: ["-m", "gateway", "serve"], ASGI: ["-m", "tests.web.asgi_host"], DISK: ["-m", "tests.web.disks"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], errors: Path) -> None:
    """Return once something answers there."""
    deadline = time.monotonic() + PATIENCE
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, f"exit {process.returncode} before it served: {errors.read_text()}"
            with contextlib.suppress(httpx.TransportError):
                client.get(url, timeout=1)
                return
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@contextlib.contextmanager
def process(arguments: list[str], url: str, errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that serves `url`, stopped at the end."""
    with errors.open("wb") as stream:
        running = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=stream, stderr=stream)
    try:
        wait_for(url, running, errors)
        yield running
    finally:
        running.terminate()
        try:
            running.wait(PATIENCE)
        finally:
            running.kill()


@dataclass
class Gateway:
    """A running gateway and what it leaves behind."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    checked: dict[str, int] = field(default_factory=dict)
    ledger: Followed = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Followed(self.folder / "audit")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    def records(self) -> list[dict[str, Any]]:
        """Every audit record so far; a line still being written is left out."""
        return self.ledger.entries()

    def records_after(self, before: int, count: int) -> list[dict[str, Any]]:
        """The next `count` records after the first `before`, once they are written; and no more than those."""
        deadline = time.monotonic() + PATIENCE
        while len(self.records()) < before + count and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(GRACE)
        found = self.records()[before:]
        assert len(found) == count, f"{len(found)} records, not {count}"
        return found

    @contextlib.contextmanager
    def recording(self, count: int = 1) -> Iterator[list[dict[str, Any]]]:
        """Fills the list with the records of what happens inside, which must be `count`."""
        found: list[dict[str, Any]] = []
        before = len(self.records())
        yield found
        found += self.records_after(before, count)

    def check(self) -> None:
        """Alive and serving; no traceback, no prompt and no key in what it wrote since the last check."""
        assert self.process.poll() is None
        assert httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        for name, written in (("stderr", self.errors), ("audit", ledger_text(self.folder / "audit"))):
            news = written[self.checked.get(name, 0) :]
            self.checked[name] = len(written)
            for word in (PROMPT, KEY, "Traceback", "Exception in ASGI", '"incident": "defect"'):
                assert word not in news, f"{word} in {name}: {news[-3_000:]}"


@contextlib.contextmanager
def gateway(folder: Path, settings: str, pack: str, host: str = LANE, *, bundled: bool = True) -> Iterator[Gateway]:
    """A gateway of these settings (gateway.yaml without listen and policy) and this pack, next to the bundled ones.

    host: the lane, as `sluice serve` has it, the raw ASGI host for every request, or the lane on a disk that fails.
    bundled: without them, load is not judged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "pack.yaml").write_text(pack)
    packs = f"[pack.yaml, {ROOT}/rules]" if bundled else "[pack.yaml]"
    shown = "" if "audit:" in settings else "audit: {identifiers: plain}\n"
    (folder / "gateway.yaml").write_text(f"listen: 127.0.0.1:{port}\npolicy: {packs}\n{shown}{settings}")
    arguments = [*_COMMANDS[host], str(folder / "gateway.yaml")]
    with process(arguments, f"http://127.0.0.1:{port}/healthz", folder / "stderr") as running:
        yield Gateway(port, folder, running)
