"""What a look-up costs: in a file, in the cache, in SQLite, PostgreSQL and behind HTTP; and whole requests before each of them.

    python -m tests.bench.directories [--requests 4000] [--rounds 3] [--accounts 10000]

First microseconds of one look-up, one after the other and 64 at a time. Then requests a second through gateways whose
directories hold the same accounts, in turns, each request of another account than the one before; `remembering` every
account, and `forgetting` each before it comes again, so that every request asks. Quote the ratios to the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from sqlalchemy import create_engine, insert

from gateway.credentials import credential_hash
from gateway.plugins.identity.cache import Keeping, RemoteDirectory, Source
from gateway.plugins.identity.file import FileDirectory
from gateway.plugins.identity.http import HttpSource
from gateway.plugins.identity.sql import SqlSource, tables
from gateway.values import SECOND
from tests.bench.gateway import ROOT, free_port, start
from tests.bench.load import Result, cpu_seconds, request
from tests.postgres import Server

KEY = b"a key of the bench's own"
AT_ONCE = 64
SERVICE = """
import asyncio, json, sys
accounts = json.load(open(sys.argv[2]))
class Directory(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""
    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\\r\\n", 1)[0])
            if len(self.buffer) < end + 4 + length:
                return
            entry = accounts.get(json.loads(self.buffer[end + 4 : end + 4 + length])["credential"])
            self.buffer = self.buffer[end + 4 + length :]
            body = json.dumps(entry).encode()
            status = b"200 OK" if entry else b"404 Not Found"
            self.transport.write(b"HTTP/1.1 %s\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (status, len(body), body))
async def main():
    await (await asyncio.get_running_loop().create_server(Directory, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""


def digest(account: int) -> bytes:
    return sha256(f"sk-{account}".encode()).digest()


def fill(url: str, accounts: int) -> None:
    """The default tables with this many accounts of one key each."""
    engine, metadata = create_engine(url), tables()
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["accounts"]), [{"id": f"a{n}", "plan": "paid"} for n in range(accounts)])
        rows = [{"credential": digest(n).hex(), "account": f"a{n}"} for n in range(accounts)]
        connection.execute(insert(metadata.tables["credentials"]), rows)
    engine.dispose()


def directories(stack: ExitStack, folder: Path, accounts: int) -> dict[str, str]:
    """The same accounts in each kind of directory: what `identity.directory` says."""
    rows = [f"a{n},paid,{digest(n).hex()}\n" for n in range(accounts)]
    (folder / "accounts.csv").write_text("id,plan,credentials\n" + "".join(rows))
    fill(f"sqlite:///{folder}/accounts.db", accounts)
    server = Server()
    stack.callback(server.remove)
    server.start()
    fill(server.url, accounts)
    entries = {f"sha256:{digest(n).hex()}": {"id": f"a{n}", "plan": "paid"} for n in range(accounts)}
    (folder / "accounts.json").write_text(json.dumps(entries))
    port = free_port()
    start(stack, port, "-c", SERVICE, str(port), str(folder / "accounts.json"))
    http = f"http://127.0.0.1:{port}/"
    return {"file": "accounts.csv", "SQLite": "sqlite:///accounts.db", "PostgreSQL": server.url, "HTTP": http}


async def per_call(one: Callable[[int], Awaitable[object]], calls: int) -> tuple[float, float]:
    """Microseconds of a call: one after the other, and AT_ONCE of them at a time."""
    started = time.perf_counter()
    for number in range(calls):
        await one(number)
    alone = time.perf_counter() - started
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return alone / calls * 1e6, (time.perf_counter() - started) / calls * 1e6


async def look_ups(folder: Path, named: dict[str, str], accounts: int) -> None:
    """Print what one look-up costs."""
    sources: dict[str, Source] = {
        "SQLite": SqlSource(f"sqlite:///{folder}/accounts.db", None, 1.0),
        "PostgreSQL": SqlSource(named["PostgreSQL"], None, 1.0),
        "HTTP": HttpSource(named["HTTP"], None),
    }
    hashes = [credential_hash(digest(n), KEY) for n in range(accounts)]
    file = FileDirectory(folder / "accounts.csv", KEY)
    cached = RemoteDirectory(sources["SQLite"], 1.0, Keeping(accounts, SECOND, SECOND, SECOND))
    for number in range(accounts):
        await cached.fetch(hashes[number], digest(number))
    print(f"{'one look-up':<14}{'us':>9}{f'us, {AT_ONCE} at a time':>20}")
    for name, find in (("file", file.find), ("cached", cached.find)):
        started = time.perf_counter()
        for number in range(200_000):
            assert find(hashes[number % accounts])
        print(f"{name:<14}{(time.perf_counter() - started) / 200_000 * 1e6:>9.2f}")
    for name, source in sources.items():
        alone, together = await per_call(lambda n, ask=source.ask: ask(digest(n % accounts).hex()), 3_000)  # type: ignore[misc]
        print(f"{name:<14}{alone:>9.0f}{together:>20.0f}")
        await source.close()


async def rotating(port: int, requests: int, accounts: int) -> Result:
    """Requests over keep-alive connections, each of the next account in turn."""
    counter = iter(range(requests))
    latencies: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in counter:
            started = time.perf_counter()
            writer.write(request(number % accounts, 2_048, number))
            head = await reader.readuntil(b"\r\n\r\n")
            place = head.lower().index(b"content-length:")
            await reader.readexactly(int(head[place + 15 :].split(b"\r\n", 1)[0]))
            latencies.append((time.perf_counter() - started) * 1_000)
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return Result(requests, failed, time.perf_counter() - started, sorted(latencies))


def gateway(
    stack: ExitStack, folder: Path, name: str, directory: str, most: int, upstream: int
) -> tuple[int, subprocess.Popen[bytes]]:
    port = free_port()
    asked = f", timeout: 5s, cache: {{most: {most}, keep: 1h}}" if "://" in directory else ""
    (folder / f"{name}.yaml").write_text(
        f"listen: 127.0.0.1:{port}\npolicy: ['{ROOT}/rules']\nupstreams: {{openai: {{url: 'http://127.0.0.1:{upstream}'}}}}\n"
        f"identity: {{directory: '{directory}'{asked}}}\n"
        f"client_address: {{trusted_proxies: [127.0.0.1/32]}}\naudit: {{records: {name}.ledger}}\n"
    )
    return port, start(stack, port, "-m", "gateway", "serve", str(folder / f"{name}.yaml"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accounts", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        named = directories(stack, folder, options.accounts)
        asyncio.run(look_ups(folder, named, options.accounts))
        upstream = free_port()
        start(stack, upstream, str(ROOT / "tests/bench/load.py"), str(upstream))
        lanes = {
            f"{name}, {how}": gateway(stack, folder, f"{name}-{how}", directory, most, upstream)
            for name, directory in named.items()
            for how, most in (
                (("remembering", options.accounts), ("forgetting", 64)) if name != "file" else (("in memory", 1),)
            )
        }
        results: dict[str, list[tuple[Result, float]]] = {name: [] for name in lanes}
        for port, _ in lanes.values():
            asyncio.run(rotating(port, options.accounts, options.accounts))
        for _ in range(options.rounds):
            for name, (port, process) in lanes.items():
                before = cpu_seconds(process.pid)
                result = asyncio.run(rotating(port, options.requests, options.accounts))
                results[name].append((result, (cpu_seconds(process.pid) - before) / options.requests * 1e6))
    base = statistics.median(result.rate for result, _ in results["file, in memory"])
    print(
        f"\n{options.requests} requests x {options.rounds} rounds, {options.accounts} accounts in turn, {AT_ONCE} connections"
    )
    print(f"{'directory':<26}{'req/s':>9}{'of file':>9}{'CPU us':>9}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}")
    for name, rounds in results.items():
        rate = statistics.median(result.rate for result, _ in rounds)
        cpu = statistics.median(cost for _, cost in rounds)
        p50, p99 = (statistics.median(result.percentile(share) for result, _ in rounds) for share in (0.5, 0.99))
        failed = sum(result.failed for result, _ in rounds)
        print(f"{name:<26}{rate:>9.0f}{rate / base:>9.2f}{cpu:>9.0f}{p50:>9.2f}{p99:>9.2f}{failed:>8}")


if __name__ == "__main__":
    main()
