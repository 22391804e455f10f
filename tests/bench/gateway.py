"""What the gateway costs: the stub alone, the gateway with no rules, the gateway with all bundled rules, in one run.

    python -m tests.bench.gateway [--requests 4000] [--rounds 3]

The three are run in turns, so that noise of the machine falls on all of them; quote the ratios. CPU is user and system
time of the gateway process per request (Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.bench.load import Result, cpu_seconds, load

ROOT = Path(__file__).parents[2]
EMPTY = "pack: none\nversion: 1\nlanguage: 1\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(stack: ExitStack, port: int, *command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{command} did not start")


def gateway(stack: ExitStack, folder: Path, name: str, policy: str, upstream: int) -> tuple[int, subprocess.Popen[bytes]]:
    port = free_port()
    config = folder / f"{name}.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{port}\npolicy: [{policy}]\nupstreams: {{openai: {{url: 'http://127.0.0.1:{upstream}'}}}}\n"
        f"client_address: {{trusted_proxies: [127.0.0.1/32]}}\naudit: {{records: {name}.jsonl}}\n"
    )
    return port, start(stack, port, "-m", "gateway", "serve", str(config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=2_048, help="bytes of each request body")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "none.pack.yaml").write_text(EMPTY)
        upstream = free_port()
        stub = start(stack, upstream, str(ROOT / "tests/bench/load.py"), str(upstream))
        lanes = {"stub alone": (upstream, stub)}
        lanes["no rules"] = gateway(stack, folder, "none", "none.pack.yaml", upstream)
        lanes["all rules"] = gateway(stack, folder, "all", str(ROOT / "rules"), upstream)
        results: dict[str, list[tuple[Result, float]]] = {name: [] for name in lanes}
        for port, _ in lanes.values():
            asyncio.run(load(port, options.requests // 4, size=options.size))
        for _ in range(options.rounds):
            for name, (port, process) in lanes.items():
                before = cpu_seconds(process.pid)
                result = asyncio.run(load(port, options.requests, size=options.size))
                results[name].append((result, (cpu_seconds(process.pid) - before) / options.requests * 1e6))
        health = urllib.request.urlopen(f"http://127.0.0.1:{lanes['all rules'][0]}/healthz").read()
    base = statistics.median(result.rate for result, _ in results["stub alone"])
    print(f"{options.requests} requests x {options.rounds} rounds, {options.size} B bodies, 64 connections")
    print(f"{'lane':<12}{'req/s':>9}{'of stub':>9}{'CPU us':>9}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}")
    for name, rounds in results.items():
        rate = statistics.median(result.rate for result, _ in rounds)
        cpu = statistics.median(cost for _, cost in rounds)
        p50, p99 = (statistics.median(result.percentile(share) for result, _ in rounds) for share in (0.5, 0.99))
        failed = sum(result.failed for result, _ in rounds)
        print(f"{name:<12}{rate:>9.0f}{rate / base:>9.2f}{cpu:>9.0f}{p50:>9.2f}{p99:>9.2f}{failed:>8}")
    print("health", health.decode()[:200])


if __name__ == "__main__":
    main()
