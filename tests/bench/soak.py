"""A long run of mixed traffic against the real process: whether memory, sockets, tasks and leases stay what they were.

    python -m tests.bench.soak [--minutes 12] [--rate 150] [--samples 24] [--bundled]

A real `sluice serve` before a stub upstream. Every request comes with a key and an address that nobody had before: JSON
answers, whole streams, streams that the client leaves, requests that are refused (a rule, a limit, a body that is none), slow
uploads, and unknown routes, on fresh and on kept connections. The pack is written anew all the while, and the process sees
that by itself.

Of the first third, in which what is bounded fills (windows are a minute long), nothing is asked. Sockets, tasks, leases and
connections are those with the clients at rest. Memory is judged by its slope over the last half of the run, a least-squares fit
over the requests, with the 95 % interval of Student's t: flat where even its upper end would add no more than `FLAT` over as
many requests as the whole run had. Exit status 1 where something is not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from scipy import stats

from tests.bench.gateway import ROOT, free_port, resident, start

PACK = """pack: soak
version: %d
language: 1
rules:
  - {id: soak.deny, title: no such use, family: identity, owner: bench, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}}
  - {id: soak.networks, title: many networks, family: network, owner: bench, mode: enforce, then: {action: observe},
     measures: {networks: {distinct: client.network, per: [account.id], window: 1m, cap: 50},
                calls: {count: true, per: [client.network], window: 1m}},
     when: {any: [{networks: {gte: 40}}, {calls: {gte: %d}}]}}
limits:
  - {id: soak.slots, per: [account.id], limit: 2 concurrent, on_missing: skip, mode: enforce}
  - {id: soak.tokens, per: [account.id], limit: 100000 tokens/minute, on_missing: skip, mode: enforce}
  - {id: soak.calls, per: [account.id], limit: 30/minute, on_missing: skip, mode: enforce}
"""
KINDS = {"json": 60, "stream": 10, "left": 6, "refused": 8, "limited": 2, "broken": 5, "unknown": 4, "slow": 5}
EXPECTED = {"json": 200, "stream": 200, "left": 200, "refused": 403, "broken": 400, "unknown": 404, "slow": 200}
RELOAD = 15.0
FLAT = 0.04  # share of its size by which memory may grow
AT_REST = 6.0
LONGEST_REST = 20
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds. Sockets are its open files of that kind, the rest is what it says itself; of connections to
    the upstream, those that wait for their next request for some seconds are left out in both."""

    at: float
    requests: int
    megabytes: float
    sockets: int
    tasks: int
    clients: int
    upstream: int
    leases: int
    keys: int
    reloads: int


class Soak:
    """The traffic, and what came of it."""

    def __init__(self, port: int, pid: int, rate: float, file: Path) -> None:
        self.port, self.pid, self.rate, self.file = port, pid, rate, file
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.asked = 0
        self._random = random.Random(5)
        self._number = itertools.count()
        self._kept: list[tuple[Reader, Writer, float]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._ask = build_opener(ProxyHandler({})).open
        self._kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            "left": self._left,
            "slow": self._slow,
            "limited": self._limited,
        }

    async def run(self, seconds: float, samples: int) -> list[Sample]:
        """So many samples, each with the clients at rest."""
        found, began = [], time.monotonic()
        reloading = asyncio.create_task(self._reload())
        for number in range(1, samples + 1):
            await self._traffic(began + seconds * number / samples - AT_REST)
            await asyncio.wait({*self._running, asyncio.create_task(asyncio.sleep(0))}, timeout=LONGEST_REST * 3)
            while self._kept:
                self._kept.pop()[1].close()
            await self._at_rest()
            found.append(await asyncio.to_thread(self.sample, time.monotonic() - began))
            print(row(found[-1]), flush=True)
        reloading.cancel()
        return found

    def sample(self, at: float) -> Sample:
        """What the process holds now."""
        health = json.load(self._ask(f"http://127.0.0.1:{self.port}/healthz", timeout=30))
        parts = health["parts"]
        sockets = 0
        for one in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                sockets += one.readlink().name.startswith("socket:")
        idle = parts["upstreams"]["idle"]
        return Sample(
            at, self.asked, resident(self.pid), sockets - idle, health["tasks"], parts["clients"]["connections"],
            parts["upstreams"]["connections"] - idle, parts["state"]["leases"], parts["state"]["keys"],
            health["policy"]["reloads"],
        )  # fmt: skip

    async def _traffic(self, until: float) -> None:
        """Requests at the rate, whatever becomes of them."""
        names, weights = list(KINDS), list(KINDS.values())
        while (now := time.monotonic()) < until:
            kind = self._random.choices(names, weights)[0]
            task = asyncio.create_task(self._one(kind))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            self.asked += 1
            await asyncio.sleep(max(0.0, now + 1 / self.rate - time.monotonic()))

    async def _one(self, kind: str) -> None:
        try:
            await asyncio.wait_for(self._kinds.get(kind, lambda name: self._plain(name, kind))(f"k{next(self._number)}"), 60)
            self.done[kind] += 1
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.wrong[f"{kind}: {type(error).__name__} {error}"] += 1

    async def _plain(self, key: str, kind: str) -> None:
        """One request to its end, on a kept connection where there is one."""
        body = b"{" if kind == "broken" else self._body(kind)
        reader, writer, idle = await self._connection()
        try:
            writer.write(self._head(key, "/v1/nowhere" if kind == "unknown" else "/v1/chat/completions", len(body)) + body)
            status, keeps = await answered(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ValueError(f"{type(error).__name__} on a connection that was {idle}") from None
        self._check(kind, status)
        if keeps and len(self._kept) < 16:
            self._kept.append((reader, writer, time.monotonic()))
        else:
            writer.close()

    async def _connection(self) -> tuple[Reader, Writer, str]:
        """A kept connection, the one used last, or a new one; and for how long it was idle."""
        while self._kept:
            reader, writer, since = self._kept.pop()
            if not reader.at_eof():
                return reader, writer, f"idle for {time.monotonic() - since:.0f} s"
            writer.close()
        return *await asyncio.open_connection("127.0.0.1", self.port), "new"

    async def _at_rest(self) -> None:
        """Wait until the process has heard that its clients are gone, at most so long."""
        for _ in range(LONGEST_REST):
            await asyncio.sleep(1)
            if not (await asyncio.to_thread(self.sample, 0.0)).leases:
                return

    async def _left(self, key: str) -> None:
        """A stream that the client leaves after some of it."""
        body = self._body("stream")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._head(key, "/v1/chat/completions", len(body)) + body)
        self._check("left", int((await reader.readuntil(b"\r\n\r\n"))[9:12]))
        await reader.read(self._random.randrange(1, 4_000))
        writer.transport.abort()

    async def _slow(self, key: str) -> None:
        """A body that comes in pieces."""
        body = self._body("json")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._head(key, "/v1/chat/completions", len(body)))
        for place in range(0, len(body), 40):
            writer.write(body[place : place + 40])
            await asyncio.sleep(0.1)
        self._check("slow", (await answered(reader))[0])
        writer.close()

    async def _limited(self, key: str) -> None:
        """More streams of one key at once than its limit allows; those beyond are refused, whichever they are."""
        body, open_ones = self._body("stream"), []
        for _ in range(3):
            open_ones.append(await asyncio.open_connection("127.0.0.1", self.port))
            open_ones[-1][1].write(self._head(key, "/v1/chat/completions", len(body)) + body)
        found = [int((await reader.readuntil(b"\r\n\r\n"))[9:12]) for reader, _ in open_ones]
        for _, writer in open_ones:
            writer.close()
        if sorted(found) != [200, 200, 429]:
            raise ValueError(f"answered {found}")

    def _check(self, kind: str, status: int) -> None:
        if status != EXPECTED[kind]:
            raise ValueError(f"answered {status}")

    def _body(self, kind: str) -> bytes:
        model = "forbidden" if kind == "refused" else "m"
        text = " ".join(self._random.choices(WORDS, k=40))
        document = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 100,
            "user": f"u{self.asked}",
        }
        return json.dumps(document | ({"stream": True} if kind == "stream" else {})).encode()

    def _head(self, key: str, path: str, length: int) -> bytes:
        address = ".".join(str(self._random.randrange(1, 224)) for _ in range(4))
        return (
            f"POST {path} HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer sk-{key}\r\nx-forwarded-for: {address}\r\n"
            f"user-agent: soak/{key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    async def _reload(self) -> None:
        for version in itertools.count(2):
            await asyncio.sleep(RELOAD)
            written(self.file, version)


async def answered(reader: Reader) -> tuple[int, bool]:
    """Status of a whole answer, and whether its connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    place = head.find(b"\r\ncontent-length:")
    if place >= 0:
        await reader.readexactly(int(head[place + 17 :].split(b"\r\n", 1)[0]))
    else:
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head[9:12]), b"\r\nconnection: close" not in head


def written(file: Path, version: int) -> None:
    """A version of the pack, put there whole."""
    new = file.with_suffix(".new")
    new.write_text(PACK % (version, 100_000 + version))
    new.replace(file)


NAMES = ("s", "requests", "RSS MB", "sockets", "tasks", "clients", "upstream", "leases", "keys", "reloads")


def row(sample: Sample) -> str:
    values = [getattr(sample, name) for name in sample.__slots__]
    return "".join(f"{value:>10.0f}" if index != 2 else f"{value:>10.1f}" for index, value in enumerate(values))


def trend(requests: list[int], megabytes: list[float]) -> tuple[float, float]:
    """The slope of memory over requests (MB a request), and the upper end of its 95 % interval."""
    found = stats.linregress(requests, megabytes)
    return float(found.slope), float(found.slope + stats.t.ppf(0.975, len(requests) - 2) * found.stderr)


def verdicts(samples: list[Sample]) -> list[tuple[str, bool, str]]:
    """What is flat and what is not."""
    late, half = samples[len(samples) // 3 :], samples[len(samples) // 2 :]
    slope, upper = trend([one.requests for one in half], [one.megabytes for one in half])
    lowest, likely, highest = (f"{one * 100_000:+.2f}" for one in (2 * slope - upper, slope, upper))
    told = f"{likely} MB in 100,000 requests, 95 % interval {lowest} to {highest}"
    most = FLAT * statistics.fmean(one.megabytes for one in half)
    over = f"over the last {half[-1].requests - half[0].requests} of {half[-1].requests} requests"
    said = [("RSS", upper * half[-1].requests <= most, f"{told}, {over}")]
    for name in ("sockets", "tasks", "clients", "upstream", "leases"):
        values = [getattr(one, name) for one in late]
        middle = len(values) // 2
        after, before = max(values[middle:]), max(values[:middle])
        said.append((name, after <= before + 2, f"at most {before} in the first half, {after} in the second"))
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--bundled", action="store_true", help="the bundled packs too, whose windows are days long")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        file, upstream, port = folder / "soak.pack.yaml", free_port(), free_port()
        written(file, 1)
        packs = f"[soak.pack.yaml, {ROOT}/rules]" if options.bundled else "[soak.pack.yaml]"
        (folder / "gateway.yaml").write_text(
            f"listen: 127.0.0.1:{port}\npolicy: {packs}\nupstreams: {{openai: {{url: http://127.0.0.1:{upstream}}}}}\n"
            "client_address: {trusted_proxies: [127.0.0.0/8]}\nreload: {watch: 2s}\n"
        )
        start(stack, upstream, str(ROOT / "tests/bench/load.py"), str(upstream))
        process = start(stack, port, "-m", "gateway", "serve", str(folder / "gateway.yaml"))
        soak = Soak(port, process.pid, options.rate, file)
        print("".join(f"{name:>10}" for name in NAMES))
        samples = asyncio.run(soak.run(options.minutes * 60, options.samples))
        print(f"{soak.asked} requests: " + ", ".join(f"{count} {kind}" for kind, count in sorted(soak.done.items())))
        print(f"not as expected: {dict(soak.wrong) or 'none'}")
        found = verdicts(samples)
        for name, flat, why in found:
            print(f"{name:>10}  {'flat' if flat else 'NOT FLAT'}: {why}")
    sys.exit(0 if all(flat for _, flat, _ in found) and not soak.wrong else 1)


if __name__ == "__main__":
    main()
