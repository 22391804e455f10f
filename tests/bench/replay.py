"""Replay of compact records by both engines: exchanges a second of CPU, their ratio, peak memory, and the cost of 16 million.

    python -m tests.bench.replay [--scenario case] [--scale 100] [--events-scale 1000] [--file FILE]

Traffic is `sluice simulate`'s, rules are the shipped packs. Each engine runs in a process of its own; the events engine, being
slow, may run on fewer exchanges. What a process needs before its first exchange (imports, packs) is measured on the smallest
traffic and told apart. Of CPU seconds, those of the whole process tree count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

MILLIONS = 16_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: exchanges, seconds on the clock and of CPU, and the most memory it held (MiB)."""

    exchanges: int
    wall: float
    cpu: float
    memory: float


def simulated(scenario: str, scale: float, folder: Path) -> Path:
    """A file of simulated traffic."""
    file = folder / f"{scenario}-{scale:g}.parquet"
    asked = ["simulate", scenario, "--scale", f"{scale:g}", "--seed", "1", "--out", str(file)]
    subprocess.run([sys.executable, "-m", "gateway", *asked], check=True)
    return file


def measured(file: Path, engine: str) -> Cost:
    """A dry run by one engine."""
    command = [
        sys.executable,
        "-m",
        "gateway",
        "dry-run",
        str(file),
        "--engine",
        engine,
        "--format",
        "json",
        "--out",
        os.devnull,
    ]
    before = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"the dry run by {engine} failed"
    wall = time.perf_counter() - before
    return Cost(pq.ParquetFile(file).metadata.num_rows, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Measure, and print one line for each engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", default="case")
    parser.add_argument("--scale", type=float, default=100)
    parser.add_argument("--events-scale", type=float, default=1_000)
    parser.add_argument("--file", type=Path, help="these compact records for columns, instead of --scale")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        small = simulated(asked.scenario, asked.events_scale, Path(name))
        tiny = simulated("M1", 1_000_000, Path(name))
        large = asked.file or simulated(asked.scenario, asked.scale, Path(name))
        each = {}
        for engine, file in (("events", small), ("columns", large)):
            start, cost = measured(tiny, engine), measured(file, engine)
            each[engine] = (cost.cpu - start.cpu) / max(1, cost.exchanges - start.exchanges)
            print(
                f"{engine:8} {cost.exchanges:>11,} exchanges: {cost.wall:7.1f} s, CPU {cost.cpu:7.1f} s "
                f"({start.cpu:.1f} to begin), "
                f"{1 / each[engine]:>9,.0f} a CPU second, {cost.memory:,.0f} MiB; "
                f"16 M: {each[engine] * MILLIONS + start.cpu:,.0f} CPU seconds"
            )
        print(f"columns are {each['events'] / each['columns']:.1f} times as fast")


if __name__ == "__main__":
    main()
