"""What state costs: resident memory for each key and CPU time for each sight, with the measures of the bundled rules.

    python -m tests.bench.state [--accounts 1000000] [--keys 10000000] [--redis-keys 1000] [--only NAME]

Every case runs in a process of its own. Memory is what the resident set of the process grew by, whatever the allocator keeps
included; times include making the traffic's batches, so compare them by ratio only. Which measures count an exchange is what
the engine says of real exchanges (`tests.bench.traffic`), each with a share of the accounts. The cases:

live      so many accounts, all within a minute, so that every window holds all of them: three exchanges each, from one network
          and client for most; one account in a thousand asks a hundred times more
spread    the same accounts over a day: what has passed is let go
rotating  ten exchanges a second of accounts, networks, templates … that are seen once or twice: of all measures one for each
          kind and key, the longest; resident memory after 1, 2, 5, 8 and 10 of ten parts of the way
capped    all measures under one time, so that `max_keys` is what bounds them
hot       one key with a distinct at its cap
redis     bytes of Redis for each key of a window (`MEMORY USAGE`), with few values and at the cap
trips     CPU time of this process and of Redis, and round trips, for requests judged and settled one after the other
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.gate import Gate
from gateway.language.measures import Measure
from gateway.state.limits import MAX_KEYS
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Count, Sight, Window
from gateway.state.redis import RedisState
from gateway.values import SECOND
from gateway.web.intake import Body, Intake
from tests.bench.judging import ANSWER, KEY, STEP, known
from tests.bench.traffic import PROFILES, Asked, registry, shipped, sights_of

if TYPE_CHECKING:
    from tests.state.conftest import Server

ROOT = Path(__file__).parents[2]
START = 1_793_491_200 * SECOND
DAY = 86_400 * SECOND
HOUR = 3_600 * SECOND
ROUNDS = 3
Rows = list[tuple[object, ...]]


def megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096 / 1e6


class Traffic:
    """Batches as the engine makes them: every sight of an exchange like one of the profiles, under its own keys.

    one_of_each: of all measures only one for each kind and key, the longest.
    """

    def __init__(self, one_of_each: bool = False) -> None:
        found = {asked for profile in PROFILES if one_of_each for asked in sights_of(profile)}
        kinds = {(asked.window.kind, asked.per): asked.window.digest for asked in sorted(found, key=_length)}
        self.until = list(accumulate(profile.share for profile in PROFILES))
        self.asked = [
            [asked for asked in sights_of(profile) if not kinds or asked.window.digest in kinds.values()]
            for profile in PROFILES
        ]
        self.pers = {asked.per for found in self.asked for asked in found}

    def exchange(self, account: int, number: int, at: int, key: int | None = None) -> Batch:
        """One exchange of an account; key: what all keys but the account are made of."""
        other = account % 50_000 if key is None else key
        hop = number if account % 10 == 0 else number // 8
        own = {
            "account.id": f"account-{account:08d}", "account.org": f"org-{account // 3:08d}", "request.hour": str(at // HOUR),
            "client.network": f"10.{other % 250}.{(other // 250 + hop) % 250}.0/24",
            "client.fingerprint": f"{other % 3_000:032x}",
            "client.connection": f"{other:020x}{number:012x}", "client.country": ("FR", "US", "JP", "BR")[account % 4],
            "prompt.template": f"{other % 5_000:032x}", "prompt.slots": f"{account:016x}{number:016x}",
            "prompt.whole": f"{account:016x}{number:016x}", "request.model": ("small", "large")[account % 2],
        }  # fmt: skip
        shared = f"{other % 5_000:032x}" if key is None else f"{key:032x}"
        batch = Batch(at)
        keys = {per: tuple([own.get(part, shared) for part in per]) for per in self.pers}
        sights = self.asked[bisect_right(self.until, account % 100)]
        for window, per, of, counts in sights:
            value: int | str | None = None
            if counts:
                value = 1 if of is None else own.get(of, shared)
                if window.kind in (Count.SUM, Count.QUANTILE):
                    value = 100 + account % 4_000
            batch.sights.append(Sight(window, keys[per], value))
        return batch


def _length(asked: Asked) -> tuple[int, str]:
    return asked.window.length, asked.window.digest


def grown(make: Callable[[], Iterator[Batch]], state: MemoryState, stops: frozenset[int] = frozenset()) -> tuple[Rows, int]:
    """Apply the batches; rows of (exchanges, MB, keys, evicted) after so many."""
    gc.collect()
    rows: Rows = []
    before, count, sights, began = megabytes(), 0, 0, time.process_time()
    for batch in make():
        state.apply(batch)
        count, sights = count + 1, sights + len(batch.sights)
        if count in stops:
            rows.append((count, round(megabytes() - before), state.health()["keys"], state.health()["evicted"]))
    taken = time.process_time() - began
    rows.append((count, round(megabytes() - before), state.health()["keys"], f"{taken / sights * 1e6:.2f} us a sight"))
    return rows, count


def live(accounts: int, over: int = 50 * SECOND) -> Rows:
    """Rounds of all accounts; one in a thousand asks a hundred times more."""
    traffic, total = Traffic(), accounts * ROUNDS

    def made() -> Iterator[Batch]:
        for place in range(total):
            account, number, at = place % accounts, place // accounts, START + place * over // total
            for again in range(100 if account % 1_000 == 0 else 1):
                yield traffic.exchange(account, number + ROUNDS * again, at)

    rows, _ = grown(made, MemoryState(max(MAX_KEYS, 2 * accounts)))
    account = round(float(str(rows[-1][1])) * 1e6 / accounts)
    return [("exchanges", "MB", "keys", "time"), *rows, ("bytes an account", account), ("measures", len(shipped().measures))]


def spread(accounts: int) -> Rows:
    return live(accounts, DAY)


def rotating(keys: int, step: int, one_of_each: bool = False) -> Rows:
    traffic = Traffic(one_of_each)

    def made() -> Iterator[Batch]:
        for number in range(keys):
            batch = traffic.exchange(number, 0, START + number * step, key=number)
            yield batch
            if number % 3 == 0:
                yield batch

    stops = frozenset(keys * part // 10 * 4 // 3 for part in (1, 2, 5, 8))
    rows, _ = grown(made, MemoryState(), stops)
    counted = sum(
        profile.share * sum(asked.counts for asked in found) for profile, found in zip(PROFILES, traffic.asked, strict=True)
    )
    return [("exchanges", "MB", "keys", "evicted"), *rows, ("sights that count, an exchange", counted / 100)]


def hot(values: int) -> Rows:
    """One key of each distinct of the bundled packs, with values past its cap."""
    rows: Rows = [("distinct", "cap", "bytes a value", "us a sight")]
    for measure in shipped().measures:
        if measure.window.kind is Count.DISTINCT:
            cap, state = measure.window.cap, MemoryState()
            texts = [f"{number:032x}" for number in range(max(values, 2 * cap))]
            copies = max(1, 200_000 // cap)
            gc.collect()
            before, began = megabytes(), time.process_time()
            for copy in range(copies):
                for text in texts[: 2 * cap]:
                    state.apply(Batch(START, [Sight(measure.window, (str(copy),), text)]))
            taken = (time.process_time() - began) / copies / cap / 2 * 1e6
            rows.append((measure.label[:60], cap, round((megabytes() - before) * 1e6 / copies / cap, 1), round(taken, 2)))
    return rows


def redis(keys: int) -> Rows:
    """MEMORY USAGE of the keys of each measure, for an account of six exchanges, and of one at its cap."""
    from tests.state.conftest import Server

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            return asyncio.run(_redis(server.url, keys))
        finally:
            server.kill()


async def _redis(url: str, keys: int) -> Rows:
    from redis.asyncio import Redis

    state, traffic, client = RedisState(url, timeout=10), Traffic(), Redis.from_url(url)
    for number in range(6 * keys):
        await state.apply(traffic.exchange(number % keys, number // keys, START))
    names = {measure.window.digest: measure for measure in shipped().measures}
    taken: dict[str, list[int]] = defaultdict(list)
    async for name in client.scan_iter(count=1_000):
        digest = name.decode().split("/")[1] if b"/" in name else "hashed"
        taken[digest].append(await client.memory_usage(name) or 0)
        assert await client.pttl(name) > 0, name
    rows: Rows = [("measure", "keys", "bytes a key", "at the cap")]
    for digest, found in taken.items():
        size = round(sum(found) / len(found))
        rows.append((names[digest].label[:60], len(found), size, await _full(state, client, names[digest])))
    everything = sum(map(sum, taken.values()))
    await state.close()
    await client.aclose()
    return [*rows, ("bytes an account, all measures", round(everything / keys))]


async def _full(state: RedisState, client: object, measure: Measure) -> int | str:
    window: Window = measure.window
    if window.kind not in (Count.DISTINCT, Count.TOP_SHARE):
        return ""
    key = tuple("full" for _ in measure.per)
    for number in range(window.cap + 10):
        await state.apply(Batch(START, [Sight(window, key, f"{number:032x}")]))
    mine = [name async for name in client.scan_iter(f"*{window.digest}/full*")]  # type: ignore[attr-defined]
    return sum([await client.memory_usage(name) for name in mine])  # type: ignore[attr-defined]


def trips(requests: int) -> Rows:
    """Requests of a warm gate on Redis, and of the same gate on memory, judged and settled one after the other."""
    from tests.state.conftest import Server

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            return asyncio.run(_trips(server, requests))
        finally:
            server.kill()


async def _trips(server: Server, requests: int) -> Rows:
    state = RedisState(server.url, timeout=10)
    remote, local = (Gate(shipped(), registry().signals, state=one) for one in (state, None))
    intake, stream, at = Intake(registry(), KEY), known(1), START
    taken: list[tuple[float, float, float, int]] = []
    for _ in range(1 + ROUNDS):
        sent = [next(stream) for _ in range(requests)]
        facts = [intake.facts(one.head, Body(raw=one.body), at + place * STEP, one.account) for place, one in enumerate(sent)]
        again = [intake.facts(one.head, Body(raw=one.body), at + place * STEP, one.account) for place, one in enumerate(sent)]
        at += requests * STEP
        began, served, went = time.process_time(), _served(server), state.trips
        settling = []
        for one in facts:
            judgement = await remote.judge_remote(one)
            settling.append(asyncio.ensure_future(remote.settle_remote(judgement, ANSWER)))
        await asyncio.gather(*settling)
        here, there, between = time.process_time() - began, _served(server) - served, state.trips - went
        began = time.process_time()
        for one in again:
            local.settle(local.judge(one), ANSWER)
        taken.append((here, there, time.process_time() - began, between))
    await state.close()
    here, there, alone = (min(one[place] for one in taken[1:]) / requests * 1e6 for place in range(3))
    return [
        ("CPU us of a request: this process, in all", round(here)), ("  the same in memory", round(alone)),
        ("  so Redis adds here", round(here - alone)), ("CPU us of a request: Redis", round(there)),
        ("round trips of a request", taken[-1][3] / requests),
    ]  # fmt: skip


def _served(server: Server) -> float:
    """Seconds of CPU that a Redis has used."""
    lines = server.command("INFO", "cpu").decode().split("\r\n")
    return sum(float(line.partition(":")[2]) for line in lines if line.startswith(("used_cpu_sys:", "used_cpu_user:")))


CASES: dict[str, tuple[Callable[..., Rows], str]] = {
    "live": (live, "accounts"),
    "spread": (spread, "accounts"),
    "rotating": (lambda keys: rotating(keys, 100_000, one_of_each=True), "keys"),
    "capped": (lambda keys: rotating(keys // 5, 0), "keys"),
    "hot": (hot, "accounts_none"),
    "redis": (redis, "redis_keys"),
    "trips": (trips, "redis_keys"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--redis-keys", type=int, default=1_000)
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--here", action="store_true", help="run the one case in this process and print it as JSON")
    options = parser.parse_args()
    sizes = {**vars(options), "accounts_none": 0}
    if options.here:
        run, size = CASES[options.only]
        print(json.dumps(run(sizes[size])))
        return
    for name in [options.only] if options.only else CASES:
        command = [sys.executable, "-m", "tests.bench.state", "--here", "--only", name]
        for size in ("accounts", "keys", "redis_keys"):
            command += [f"--{size.replace('_', '-')}", str(sizes[size])]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        print(f"\n{name}")
        for row in json.loads(done.stdout):
            print("  " + f"{row[0]!s:<62}" + "".join(f"{cell!s:>20}" for cell in row[1:]))


if __name__ == "__main__":
    main()
