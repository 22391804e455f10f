"""What the gateway costs beside a plain proxy and its neighbours: all of them before one stub, in turns, in one run.

    python -m tests.bench.gateway [--requests 10000] [--rounds 3] [--streams 1500] [--strict]
                                  [--envoy PATH] [--litellm ENV] [--portkey FOLDER] [--skip NAME]…

Lanes, and how to install the neighbours: `tests/bench/lanes.py`. Each round sends every lane JSON requests as fast as 64
connections go, then so many at a fixed rate, then streams of 50 events with 500 open at once; medians of the rounds are shown.
CPU is user and system time of the lane's whole process tree per request, counted by the kernel in nanoseconds, until the lane
is at rest again (so that records and traces that are written later count); quote ratios. With two cores or more the lanes have
the last one to themselves. Added latency is over the stub asked directly, at a rate that waits for nobody. The last table has
the budgets; with `--strict` the exit status is 1 where a required one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.lanes import NEIGHBOURS, ROOT, Lane, Yard, bare, everything, free_port, gateway, ruled, start
from tests.bench.load import EVENTS
from tests.collector import collector

__all__ = ["ROOT", "free_port", "gateway", "start"]  # what other benches start their processes with
REST = 0.25  # seconds
AT_REST = 0.01  # share of a core
RESTLESS = 8.0  # seconds after which it is taken as it is


def tree(pid: int) -> Iterator[int]:
    """A process and all below it (Linux)."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def spent(pid: int) -> float:
    """µs of user and system time of a process tree so far, by the kernel's clock of each process (Linux)."""
    return sum(time.clock_gettime_ns((~one << 3) | 2) for one in tree(pid)) / 1_000


def spent_at_rest(pid: int) -> float:
    """The same, once it does nothing any more."""
    found, until = spent(pid), time.monotonic() + RESTLESS
    while time.monotonic() < until:
        time.sleep(REST)
        before, found = found, spent(pid)
        if found - before < REST * AT_REST * 1e6:
            break
    return found


def resident(pid: int) -> float:
    """Megabytes in memory of a process tree."""
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4_096 for one in tree(pid)) / 1e6


@dataclass(slots=True)
class Figures:
    """What was seen of one lane, round by round. cpu, server: µs a request, of the lane and of Redis; stream: µs a stream."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    stream: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    megabytes: float = 0.0


class Bench:
    """Lanes, and what is known of them."""

    def __init__(self, options: argparse.Namespace, redis: object = None) -> None:
        self.options, self.redis = options, redis
        self.seen: dict[str, Figures] = {}
        self._begin = 0

    def drive(self, lane: Lane, mode: str, count: int, connections: int) -> dict[str, float]:
        """One run of the load generator against a lane, in a process of its own."""
        command = [sys.executable, "-m", "tests.bench.drive", str(lane.port), mode, "--count", str(count)]
        command += ["--connections", str(connections), "--begin", str(self._begin), "--rate", str(self.options.rate)]
        command += [word for header in lane.headers for word in ("--header", header)] + ["--alike"] * lane.alike
        self._begin += count
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        self.seen.setdefault(lane.name, Figures()).failed[mode] += int(found["failed"] + found["wrong"])
        return found

    def _costed(self, lane: Lane, mode: str, count: int, connections: int) -> tuple[dict[str, float], float]:
        before = spent(lane.pid) if lane.pid else 0.0
        found = self.drive(lane, mode, count, connections)
        after = spent_at_rest(lane.pid) if lane.pid else 0.0
        return found, (after - before) / count

    def json(self, lane: Lane) -> None:
        count = self.options.slow_requests if lane.slow else self.options.requests
        remote = self.redis if "Redis" in lane.name else None
        before = (spent(remote.process.pid), _reads(remote)) if remote else (0.0, 0)  # type: ignore[attr-defined]
        found, cost = self._costed(lane, "closed", count, 64)
        seen = self.seen[lane.name]
        seen.cpu.append(cost)
        seen.rate.append(found["requests"] / found["seconds"])
        if remote:
            seen.server.append((spent(remote.process.pid) - before[0]) / count)  # type: ignore[attr-defined]
            seen.trips.append((_reads(remote) - before[1]) / count)

    def paced(self, lane: Lane) -> None:
        seen = self.seen[lane.name]
        if statistics.median(seen.rate) < 1.5 * self.options.rate:
            return  # it would only show how a queue grows
        found = self.drive(lane, "open", int(self.options.rate * self.options.seconds), 0)
        seen.p50.append(found["p50"])
        seen.p99.append(found["p99"])
        seen.late.append(found["late"])

    def streams(self, lane: Lane) -> None:
        count = self.options.slow_streams if lane.slow else self.options.streams
        if lane.pid:
            found, cost = self._costed(lane, "streams", count, min(count, self.options.open))
            if found["failed"] < count:  # a lane that streams nothing has no cost of it
                self.seen[lane.name].stream.append(cost)

    def run(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            self.drive(lane, "closed", 200 if lane.slow else 2_000, 64)
        for number in range(self.options.rounds):
            for part in (self.json, self.paced, self.streams):
                for lane in lanes:
                    if number == 0 or not lane.slow:
                        part(lane)
        for lane in lanes:
            self.seen[lane.name].megabytes = resident(lane.pid) if lane.pid else 0.0


def _reads(server: object) -> int:
    """How often a Redis read what it was sent so far: what left together arrives together, as one round trip."""
    lines = server.command("INFO", "stats").decode().splitlines()  # type: ignore[attr-defined]
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("total_reads_processed:"))


def middle(found: list[float]) -> float:
    return statistics.median(found) if found else float("nan")


def shown(value: float, digits: int = 0, width: int = 10) -> str:
    return f"{'–' if value != value else f'{value:.{digits}f}':>{width}}"  # a figure that was not taken is not itself


def tables(seen: dict[str, Figures]) -> None:
    """Print what was seen of every lane."""
    plain, direct = seen.get("nginx", Figures()), seen["direct"]
    print("\nJSON, 2 KB in, 1.6 KB out")
    print(f"{'lane':<22}{'CPU us':>10}{'x nginx':>10}{'req/s':>10}{'+p50 ms':>10}{'+p99 ms':>10}{'RSS MB':>10}{'failed':>8}")
    for name, found in seen.items():
        costs = shown(middle(found.cpu), 1) + shown(middle(found.cpu) / middle(plain.cpu), 2) + shown(middle(found.rate))
        added = shown(middle(found.p50) - middle(direct.p50), 2) + shown(middle(found.p99) - middle(direct.p99), 2)
        print(f"{name:<22}{costs}{added}{shown(found.megabytes)}{found.failed['closed'] + found.failed['open']:>8}")
    own = f"p50 {middle(direct.p50):.2f} ms, p99 {middle(direct.p99):.2f} ms"
    print(f"direct: {own}; the generator was late by {middle(direct.late):.2f} ms (p99)")
    print(f"\nstreams of {EVENTS} events")
    print(f"{'lane':<22}{'us/stream':>10}{'us/event':>10}{'x nginx':>10}{'failed':>8}")
    for name, found in seen.items():
        each = middle(found.stream)
        if name != "direct":
            ratio = shown(each / middle(plain.stream), 2)
            print(f"{name:<22}{shown(each)}{shown(each / EVENTS, 1)}{ratio}{found.failed['streams']:>8}")


@dataclass(frozen=True, slots=True)
class Budget:
    """One line. required, reach: the most it may be; None: nothing is required. value: nan where not measured."""

    what: str
    required: float | None
    reach: float
    value: float

    @property
    def verdict(self) -> str:
        if self.value != self.value:
            return "not measured"
        if self.value <= self.reach:
            return "reached"
        if self.required is None:
            return "not reached"
        return "holds" if self.value <= self.required else "MISSED"


def budgets(seen: dict[str, Figures]) -> list[Budget]:
    """The budgets of the data plane and what was measured; all of them are «at most»."""
    none = Figures()
    full, empty, rules = seen["everything on"], seen["bare lane"], seen["rules only"]
    plain, shared = seen.get("nginx", none), seen.get("everything, Redis", none)
    cpu, each = middle(full.cpu), middle(full.stream) / EVENTS
    remote = middle(shared.cpu) - cpu + middle(shared.server)
    return [
        Budget("JSON, everything on: x nginx", 9, 4, cpu / middle(plain.cpu)),
        Budget("the same: x LiteLLM", 1 / 50, 1 / 150, cpu / middle(seen.get("LiteLLM", none).cpu)),
        Budget("the same: x Portkey", 1 / 8, 1 / 20, cpu / middle(seen.get("Portkey", none).cpu)),
        Budget("all rules over the bare lane, us", 60, 30, middle(rules.cpu) - middle(empty.cpu)),
        Budget("streams, everything on, an event: x nginx", 3, 1.5, each / (middle(plain.stream) / EVENTS)),
        Budget("added median at a fixed rate, ms", 0.5, 0.25, middle(full.p50) - middle(seen["direct"].p50)),
        Budget("Redis: round trips a request", 1, 1, middle(shared.trips)),
        Budget("Redis: its CPU and ours beyond memory, us", None, 80, remote),
    ]


def neighbours(yard: Yard, options: argparse.Namespace) -> Iterator[Lane]:
    """Those that are there; of the others it is said how to get them."""
    for name, build in NEIGHBOURS.items():
        place = getattr(options, name)
        if name in options.skip or not place:
            print(f"{name}: left out" + ("" if name in options.skip else "; tests/bench/lanes.py says how to install it"))
            continue
        yield build(yard, place)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("requests", 10_000), ("slow-requests", 300), ("streams", 1_500), ("slow-streams", 100)):
        parser.add_argument(f"--{name}", type=int, default=default, help="a round")
    parser.add_argument("--rounds", type=int, default=3, help="slow lanes have one")
    parser.add_argument("--open", type=int, default=500, help="streams at once")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second for latencies")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the fixed rate")
    for name in ("envoy", "litellm", "portkey"):
        parser.add_argument(f"--{name}", default=os.environ.get(f"BENCH_{name.upper()}"), help=f"or BENCH_{name.upper()}")
    parser.add_argument("--nginx", default=shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin"))
    parser.add_argument("--skip", action="append", default=[], help="nginx, envoy, litellm, portkey or redis")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a required budget is missed")
    return parser.parse_args()


def main() -> int:
    """The exit status."""
    options = parsed()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        core = cores[-1] if len(cores) > 1 else None
        if core is not None:
            os.sched_setaffinity(0, set(cores[:-1]))
        traces = stack.enter_context(collector())
        yard = Yard(stack, Path(temporary), free_port(), core, traces.url)
        start(stack, yard.upstream, str(ROOT / "tests/bench/load.py"), str(yard.upstream))
        dressed: list[Callable[[Yard], Lane]] = [bare, ruled, everything]
        redis = None
        if "redis" not in options.skip and shutil.which("redis-server"):
            from tests.state.conftest import Server

            redis = Server(yard.folder)
            redis.start()
            stack.callback(redis.kill)
            dressed.append(partial(everything, name="everything, Redis", state=redis.url))
        lanes = [Lane("direct", yard.upstream, 0), *neighbours(yard, options), *(build(yard) for build in dressed)]
        bench = Bench(options, redis)
        bench.run(lanes)
        spans = len(traces.spans())
    tables(bench.seen)
    lines = budgets(bench.seen)
    print(
        f"\n{spans} spans were received\n\n{'budget (at most)':<46}{'required':>10}{'reach for':>10}{'measured':>10}  verdict"
    )
    for line in lines:
        limit = shown(float("nan") if line.required is None else line.required, 3)
        print(f"{line.what:<46}{limit}{shown(line.reach, 3)}{shown(line.value, 3)}  {line.verdict}")
    return 1 if options.strict and any(line.verdict == "MISSED" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
