"""What a reload costs those who are being served: latencies with and without reloads of 200 rules going on, in one run.

    python -m tests.bench.reload [--requests 4000] [--rounds 3] [--connections 16]

A real `sluice serve` before a stub upstream under load; rounds without and with reloads take turns. During the latter the
pack is written anew with a higher version and SIGHUP sent as soon as the reload before is done. Quote the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.forty import pack
from tests.bench.gateway import ROOT, free_port, gateway, start
from tests.bench.load import Result, load


def written(file: Path, copies: int, version: int) -> None:
    """The pack of the bench in a version, put there whole."""
    found = json.loads(pack(copies)) | {"version": version}
    new = file.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1))
    new.replace(file)


def health(port: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read())["policy"]
    return found


class Reloading:
    """Reloads one after the other until it is stopped. took: the seconds of each."""

    def __init__(self, port: int, pid: int, file: Path, copies: int) -> None:
        self.took: list[float] = []
        self._port, self._pid, self._file, self._copies = port, pid, file, copies
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reloading:
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            before = health(self._port)
            written(self._file, self._copies, before["version"] + 1)
            started = time.perf_counter()
            os.kill(self._pid, signal.SIGHUP)
            while (now := health(self._port))["reloads"] == before["reloads"] and not now["problem"]:
                time.sleep(0.1)
            assert not now["problem"], now["problem"]
            self.took.append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--copies", type=int, default=5, help="of the forty rules")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        file, upstream = folder / "bench.pack.yaml", free_port()
        written(file, options.copies, 1)
        start(stack, upstream, str(ROOT / "tests/bench/load.py"), str(upstream))
        port, process = gateway(stack, folder, "reload", "bench.pack.yaml", upstream)
        lanes: dict[str, list[Result]] = {"before": [], "during reloads": []}
        took: list[float] = []

        def run() -> Result:
            return asyncio.run(load(port, options.requests, options.connections))

        run()
        for _ in range(options.rounds):
            lanes["before"].append(run())
            with Reloading(port, process.pid, file, options.copies) as reloading:
                lanes["during reloads"].append(run())
            took += reloading.took
    print(
        f"{40 * options.copies} rules, {options.requests} requests x {options.rounds} rounds, {options.connections} connections"
    )
    print(f"{len(took)} reloads, each in {statistics.median(took):.2f} s under load")
    print(f"{'lane':<16}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'worst ms':>10}{'failed':>8}")
    for name, rounds in lanes.items():
        rate = statistics.median(one.rate for one in rounds)
        p50, p99 = (statistics.median(one.percentile(share) for one in rounds) for share in (0.5, 0.99))
        worst, failed = max(one.latencies[-1] for one in rounds), sum(one.failed for one in rounds)
        print(f"{name:<16}{rate:>9.0f}{p50:>9.2f}{p99:>9.2f}{worst:>10.1f}{failed:>8}")
    ratio = [during.percentile(0.99) / before.percentile(0.99) for before, during in zip(*lanes.values(), strict=True)]
    print(f"p99 during / before: {statistics.median(ratio):.2f}")


if __name__ == "__main__":
    main()
