"""What the ledger costs a decision, and how many it takes a second: `python -m tests.bench.ledger [RECORDS]`.

Records of real judgements by all bundled rules, written again and again, in turns, by: JSON lines appended to a file (what a
plain log does), the same with a sync every 200 ms, and the ledger with identifiers plain, hashed and sealed, and signed. CPU of
this process (all threads) per record, and records a second of wall time until all are on the disk. Ratios say more than times.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from gateway.audit.identifiers import Keeping
from gateway.audit.lines import line
from gateway.audit.opening import AuditSettings
from gateway.audit.record import record
from gateway.audit.trail import Trail
from gateway.audit.verify import verify
from gateway.config import bundled_rules
from gateway.facts import Answer, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.compile import load
from tests.judging import CATALOGUE, START, facts

COUNT: Final = 20_000
TURNS: Final = 5
SYNC: Final = 0.2
SEED: Final = "9d" * 32
Write = Callable[[Path, list[tuple[Judgement, Answer]]], None]


@dataclass(slots=True)
class Told:
    """What was measured of one candidate, turn by turn: CPU µs per record, records a second."""

    cpu: list[float]
    rate: list[float]


def judged(count: int) -> list[tuple[Judgement, Answer]]:
    """So many judgements of thirty accounts."""
    found: list[tuple[Judgement, Answer]] = []
    gate = Gate(load([bundled_rules()], CATALOGUE), CATALOGUE, sink=lambda *settled: found.append(settled))
    signals = {
        "account.org": "o", "account.age": "40d", "client.ip": "203.0.113.9", "client.network": "203.0.113.0/24",
        "client.country": "FR", "client.fingerprint": "f" * 16, "prompt.template": "t" * 16, "request.model": "m",
    }  # fmt: skip
    for number in range(300):
        given = facts({**signals, "account.id": f"account-{number % 30}"}, START + number * 1_000_000)
        gate.settle(gate.judge(given), Answer(200, Usage(100, 200), duration=1_000))
    return [found[number % len(found)] for number in range(count)]


def appended(sync: bool) -> Write:
    def write(folder: Path, settled: list[tuple[Judgement, Answer]]) -> None:
        file = os.open(folder / "records.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        last = time.monotonic()
        for first in range(0, len(settled), 512):
            os.write(file, b"".join([line(record(*one)) for one in settled[first : first + 512]]))
            if sync and time.monotonic() - last > SYNC:
                os.fsync(file)
                last = time.monotonic()
        os.fsync(file)
        os.close(file)

    return write


def kept(settings: AuditSettings) -> Write:
    def write(folder: Path, settled: list[tuple[Judgement, Answer]]) -> None:
        audit = replace(settings, keys=folder / "keys")
        trail = Trail(folder / "audit", settings=audit.ledger(), seals=audit.hides(b"k" * 32))
        for one in settled:
            trail(*one)
        trail.close()

    return write


CANDIDATES: Final[dict[str, Write]] = {
    "JSON lines, no sync": appended(sync=False),
    "JSON lines, synced": appended(sync=True),
    "ledger, plain": kept(AuditSettings(identifiers=Keeping.PLAIN)),
    "ledger, hashed": kept(AuditSettings()),
    "ledger, sealed": kept(AuditSettings(identifiers=Keeping.SEALED)),
    "ledger, sealed, signed": kept(AuditSettings(identifiers=Keeping.SEALED, sign=SEED)),
}


def measured(write: Write, settled: list[tuple[Judgement, Answer]]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        write(Path(folder), settled)
        return (time.process_time() - cpu) * 1e6 / len(settled), len(settled) / (time.perf_counter() - wall)


def checked(settled: list[tuple[Judgement, Answer]]) -> float:
    """Records a second that `verify` reads; they must be whole, and as many as were written."""
    with tempfile.TemporaryDirectory() as folder:
        CANDIDATES["ledger, sealed, signed"](Path(folder), settled)
        began = time.perf_counter()
        (found,) = verify(Path(folder) / "audit")
        assert (found.problems, found.records) == ([], len(settled))
        return len(settled) / (time.perf_counter() - began)


def main() -> None:
    settled = judged(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
    size = len(line(record(*settled[0])))
    told = {name: Told([], []) for name in CANDIDATES}
    for _ in range(TURNS):
        for name, write in CANDIDATES.items():
            cpu, rate = measured(write, settled)
            told[name].cpu.append(cpu)
            told[name].rate.append(rate)
    least = median(told["JSON lines, no sync"].cpu)
    print(f"{len(settled):,} records of {size:,} bytes, {TURNS} turns, medians\n")
    print(f"{'':26}{'CPU/record':>12}{'x':>7}{'records/s':>12}")
    for name, one in told.items():
        print(f"{name:26}{median(one.cpu):>9.1f} us{median(one.cpu) / least:>7.2f}{median(one.rate):>12,.0f}")
    print(f"\nverify: {checked(settled):,.0f} records/s")


if __name__ == "__main__":
    main()
