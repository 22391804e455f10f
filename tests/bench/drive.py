"""Drives a lane: closed (so many connections, each busy), open (a fixed rate), or streams (so many open at once).

    python -m tests.bench.drive PORT closed|open|streams [--count N] [--connections N] [--rate N] [--alike] [--header LINE]…

Prints one JSON object. It runs in a process of its own, away from the lane's core where there are two. At a fixed rate a
request waits for no other: there is always a free connection, and latency counts from the moment it was sent; `late_ms` says
how far behind its plan the generator itself was (99th percentile).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from itertools import count as counted

import uvloop

from tests.bench.load import Result, alike, exact, requests

PATIENCE = 900.0  # seconds for one run


def unchunked(data: bytes) -> bytes | None:
    """The body of a whole chunked message; None while its end has not come."""
    parts: list[bytes] = []
    at = 0
    while (line := data.find(b"\r\n", at)) >= 0:
        length = int(data[at:line].split(b";", 1)[0], 16)
        if length == 0:
            return b"".join(parts) if data.endswith(b"\r\n\r\n") else None
        parts.append(data[line + 2 : line + 2 + length])
        at = line + 4 + length
    return None


class Caller(asyncio.Protocol):
    """One keep-alive connection with one request on its way at a time. done: told the status, the body and milliseconds."""

    transport: asyncio.WriteTransport

    def __init__(self, done: Callable[[Caller, int, bytes, float], None]) -> None:
        self._done, self._parts, self._asked = done, [b""], 0.0
        self.usable = False
        self._whole: int | None = None  # bytes with the head; 0: chunked
        self._status = self._begin = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._end(0, b"")

    def ask(self, message: bytes) -> None:
        self._parts, self._whole, self._asked = [], None, time.perf_counter()
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if self._whole is None and not self._read_head():
            return
        if self._whole:
            found = b"".join(self._parts)
            if len(found) >= self._whole:
                self._end(self._status, found[self._begin :])
        elif data.endswith(b"\r\n\r\n") or len(data) < 5:
            body = unchunked(b"".join(self._parts)[self._begin :])
            if body is not None:
                self._end(self._status, body)

    def _read_head(self) -> bool:
        found = b"".join(self._parts)
        end = found.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._begin, self._status = found[:end].lower(), end + 4, int(found[9:12])
        place = head.find(b"\r\ncontent-length:")
        self._whole = self._begin + int(head[place + 17 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        self.usable = b"\r\nconnection: close" not in head
        return True

    def _end(self, status: int, body: bytes) -> None:
        if self._asked:
            taken, self._asked = (time.perf_counter() - self._asked) * 1_000, 0.0
            self._done(self, status, body, taken)


async def connected(port: int, done: Callable[[Caller, int, bytes, float], None]) -> Caller:
    _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(done), "127.0.0.1", port)
    return caller


async def closed(
    port: int, messages: Iterator[bytes], count: int, connections: int, good: Callable[[bytes], bool] = exact
) -> Result:
    """Send `count` requests over keep-alive connections, each the next as soon as its answer is whole."""
    result, left, ended = Result(count, 0, 0.0, []), count, 0
    over = asyncio.get_running_loop().create_future()
    again: set[asyncio.Task[None]] = set()

    def done(caller: Caller, status: int, body: bytes, taken: float) -> None:
        nonlocal ended
        ended += 1
        result.failed += status != 200
        result.wrong += status == 200 and not good(body)
        result.latencies.append(taken)
        if ended == count:
            over.set_result(None)
        elif caller.usable:
            go_on(caller)
        elif left:
            task = asyncio.ensure_future(anew())
            again.add(task)
            task.add_done_callback(again.discard)

    def go_on(caller: Caller) -> None:
        nonlocal left
        if left:
            left -= 1
            caller.ask(next(messages))

    async def anew() -> None:
        go_on(await connected(port, done))

    callers = [await connected(port, done) for _ in range(min(connections, count))]
    started = time.perf_counter()
    for caller in callers:
        go_on(caller)
    await over
    result.seconds = time.perf_counter() - started
    for caller in callers:
        caller.transport.close()
    result.latencies.sort()
    return result


async def open_loop(port: int, messages: Iterator[bytes], count: int, rate: float, good: Callable[[bytes], bool]) -> Result:
    """Send `count` requests at `rate` a second whatever becomes of them. Raises OSError where nobody listens."""
    result, over = Result(count, 0, 0.0, []), asyncio.get_running_loop().create_future()
    ended, free, late = counted(1), [], []

    def done(caller: Caller, status: int, body: bytes, taken: float) -> None:
        result.failed += status != 200
        result.wrong += status == 200 and not good(body)
        result.latencies.append(taken)
        if caller.usable:
            free.append(caller)
        if next(ended) == count:
            over.set_result(None)

    free += [await connected(port, done) for _ in range(32)]
    started = time.perf_counter()
    for number in range(count):
        planned = started + number / rate
        if (wait := planned - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        while free and not free[-1].usable:
            free.pop()
        caller = free.pop() if free else await connected(port, done)
        late.append((time.perf_counter() - planned) * 1_000)
        caller.ask(next(messages))
    await over
    result.seconds = time.perf_counter() - started
    for caller in free:
        caller.transport.close()
    result.latencies.sort()
    result.late = sorted(late)[len(late) * 99 // 100]
    return result


async def run(options: argparse.Namespace) -> Result:
    """One run as the command line asks for it."""
    good = alike if options.alike else exact
    messages = requests(options.size, options.mode == "streams", options.header, options.begin)
    if options.mode == "open":
        return await open_loop(options.port, messages, options.count, options.rate, good)
    return await closed(options.port, messages, options.count, options.connections, good)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("mode", choices=("closed", "open", "streams"))
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=400.0)
    parser.add_argument("--size", type=int, default=2_048)
    parser.add_argument("--begin", type=int, default=0, help="the number of the first request, so that no two runs ask alike")
    parser.add_argument("--alike", action="store_true", help="answers are written anew on the way: compare what they say")
    parser.add_argument("--header", action="append", default=[])
    options = parser.parse_args()
    began = time.process_time()
    result = uvloop.run(asyncio.wait_for(run(options), PATIENCE))
    found = {name: getattr(result, name) for name in ("requests", "failed", "wrong", "seconds", "late")}
    p50, p99 = result.percentile(0.5), result.percentile(0.99)
    print(json.dumps({**found, "p50": p50, "p99": p99, "own_us": (time.process_time() - began) / result.requests * 1e6}))


if __name__ == "__main__":
    main()
