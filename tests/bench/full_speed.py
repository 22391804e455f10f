"""Whether the ledger keeps up with the gateway at full speed: `python -m tests.bench.full_speed [--requests N] [--rounds N]`.

One gateway with everything on (rules, directory, geo, limits) as it is, with its ledger sealed and signed, and without records,
before one stub, in turns; 64 connections ask as fast as they are answered. Shown are CPU per request (user and system, the
whole process, until it rests) and requests a second, each against the one without records; the longest queue of decisions
that were taken and not yet in a file, in each third of a round, as it is seen from outside every 20 ms (lines of the segments
against the ledger's own count); and whether each decision stands there exactly once and the chain verifies.

Without records (`python -m tests.bench.full_speed serve CONFIG`) judgements are dropped where the trail would take them.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gateway.audit.segments import TAKEN, record_files
from gateway.audit.trail import DEPTH, Trail
from gateway.audit.verify import verify
from gateway.cli import main as sluice
from tests.bench.gateway import Bench, Figures
from tests.bench.lanes import ROOT, Lane, Yard, everything, free_port, start

OFF = "no records"
LOOK = 0.02  # seconds between two looks at the queue
SEED = "9d" * 32


@dataclass(slots=True)
class Queue:
    """The decisions of a ledger that are taken and not yet written: how many at each look, round by round."""

    folder: Path
    rounds: list[list[int]] = field(default_factory=list)
    _read: dict[str, int] = field(default_factory=dict)  # bytes of each segment
    _lines: int = 0

    def length(self) -> int:
        """Now. What is written while it looks makes it shorter, never longer."""
        taken: int = struct.unpack("<Q", (self.folder / "1" / TAKEN).read_bytes())[0]
        for name in record_files([str(self.folder)]):
            with Path(name).open("rb") as file:
                file.seek(self._read.get(name, 0))
                self._lines += (text := file.read()).count(b"\n")
                self._read[name] = self._read.get(name, 0) + len(text)
        return max(0, taken - self._lines)

    def thirds(self) -> list[float]:
        """The longest it was in the first, second and last third of a round, over all rounds."""
        parts = [
            [seen[place * len(seen) // 3 : (place + 1) * len(seen) // 3] or [0] for place in range(3)] for seen in self.rounds
        ]
        return [max(max(part[place]) for part in parts) for place in range(3)]


def watched(lane: Lane, bench: Bench, queue: Queue | None) -> None:
    """One round of a lane, while its queue is looked at."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while queue is not None and not over.wait(LOOK):
            seen.append(queue.length())

    looking = threading.Thread(target=look)
    looking.start()
    bench.json(lane)
    over.set()
    looking.join()
    while seen and seen[-1] == 0:  # after its last request
        seen.pop()
    if queue is not None:
        queue.rounds.append(seen)


def told(folder: Path, requests: int) -> str:
    """What became of the decisions of a lane that has stopped."""
    ids = Counter(
        json.loads(line)["id"] for name in record_files([str(folder)]) for line in Path(name).read_bytes().splitlines()
    )
    problems = sum(len(found.problems) for found in verify(folder))
    twice = sum(count - 1 for count in ids.values())
    return f"{requests:,} requests, {len(ids):,} decisions, {twice} of them twice, verify finds {problems} problems"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.set_defaults(rate=0.0)
    return parser.parse_args()


def main() -> None:
    options, cores = parsed(), sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        with ExitStack() as stack:
            core = cores[-1] if len(cores) > 1 else None
            if core is not None:
                os.sched_setaffinity(0, set(cores[:-1]))
            yard = Yard(stack, Path(temporary), free_port(), core)
            start(stack, yard.upstream, str(ROOT / "tests/bench/load.py"), str(yard.upstream))
            (yard.folder / "sign.key").write_text(SEED)
            lanes = [
                everything(yard, OFF, program=("-m", "tests.bench.full_speed", "serve")),
                everything(yard, "ledger"),
                everything(yard, "sealed", audit=", identifiers: sealed, keys: sealed.keys, sign: {file: sign.key}"),
            ]
            bench, queues = Bench(options), {lane.name: Queue(yard.folder / f"{lane.name}.ledger") for lane in lanes[1:]}
            for lane in lanes:
                bench.drive(lane, "closed", 2_000, 64)
            for _ in range(options.rounds):
                for lane in lanes:
                    watched(lane, bench, queues.get(lane.name))
        shown(bench.seen, queues)
        for lane in lanes[1:]:
            print(f"{lane.name}: " + told(Path(temporary) / f"{lane.name}.ledger", 2_000 + options.rounds * options.requests))


def shown(seen: dict[str, Figures], queues: dict[str, Queue]) -> None:
    cpu, rate = median(seen[OFF].cpu), median(seen[OFF].rate)
    print(f"{'':14}{'CPU us':>9}{'x':>7}{'req/s':>9}{'x':>7}   longest queue, in thirds of a round (bound {DEPTH:,})")
    for name, one in seen.items():
        costs = f"{median(one.cpu):>9.1f}{median(one.cpu) / cpu:>7.2f}{median(one.rate):>9,.0f}{median(one.rate) / rate:>7.2f}"
        print(
            f"{name:14}{costs}   " + ("".join(f"{depth:>9,.0f}" for depth in queues[name].thirds()) if name in queues else "")
        )


def serve_without_records(config: str) -> None:
    def drop(trail: Trail, *settled: object) -> None:
        """Take nothing."""

    Trail.__call__ = drop  # type: ignore[method-assign, assignment]
    sluice(["serve", config])


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_without_records(sys.argv[2])
    else:
        began = time.perf_counter()
        main()
        print(f"{time.perf_counter() - began:.0f} s")
