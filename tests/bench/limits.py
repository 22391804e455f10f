"""Over-admission under contention: what many callers at once get beyond a limit, counted by the upstream that was asked.

    python -m tests.bench.limits [--clients 8] [--parallel 200] [--requests 4000] [--only SETTING] [--latency]

Client processes with so many connections each ask real gateways as one account, as fast as answers come, more than the limit
allows: one gateway with state in memory; two workers, and two gateways, over one Redis. The upstream counts, for each model
(a limit each), the requests that reached it, how many were under way at once, and the tokens it told. Printed are

limit, asked   what the limit allows, and what the upstream was asked for, used, or had under way at most
over-admitted  by how much that is more; the bound is 0 for requests, leases, and what says beforehand how much it may use

Tokens and money that a request uses beyond what was held back for it (it says no `max_tokens`, or more than `reserve`) are
known when its answer is over. Until then as many are admitted as fit by what is held: at most limit // held requests, each of
which takes used - held more (`of_tokens`). What was overdrawn must leave the window before the next is admitted.

`--latency` prints, for one request at a time, what Redis adds to memory: CPU of the gateway and of Redis, and the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).parents[2]
SETTINGS = ("memory", "two workers, Redis", "two gateways, Redis")
LIMIT_OF = {"requests": 100, "fixed": 100, "slots": 7, "tokens": 5_000, "beyond": 5_000, "money": 5_000}
PROMPT = "Report of the quarter for the board, at length." + " " * 53  # 100 characters are 25 tokens
SENT, MOST, SAID, LONG = 25, 40, 40, 400  # tokens of input; max_tokens; of an answer; of one that nobody bounded
RESERVE = 100
FREE = "free"  # the model of `--latency`, with three limits that nobody reaches
WORK = 0.03  # seconds that the upstream works on an answer
PACK = """pack: bench
version: 1
language: 1
prices: {money: {input: 1000, output: 1000}}
limits:
  - {id: b.requests, limit: %(requests)d requests/day, window: moving, when: {request.model: requests}, %(how)s}
  - {id: b.fixed, limit: %(fixed)d requests/366d, when: {request.model: fixed}, %(how)s}
  - {id: b.slots, limit: %(slots)d concurrent, when: {request.model: slots}, %(how)s}
  - {id: b.tokens, limit: %(tokens)d tokens/day, window: moving, when: {request.model: tokens}, %(how)s}
  - {id: b.beyond, limit: %(beyond)d tokens/day, window: moving, reserve: 100, when: {request.model: beyond}, %(how)s}
  - {id: b.free-requests, limit: 1000000000 requests/hour, when: {request.model: free}, %(how)s}
  - {id: b.free-tokens, limit: 1000000000000 tokens/hour, when: {request.model: free}, %(how)s}
  - {id: b.free-slots, limit: 1000 concurrent, when: {request.model: free}, %(how)s}
  - {id: b.money, limit: %(dollars)d usd/day, window: moving, when: {request.model: money}, %(how)s}
"""
MODELS = tuple(LIMIT_OF)


@dataclass(frozen=True, slots=True)
class Sizes:
    """clients: processes; parallel: connections of each; requests: of each limit, by all clients together."""

    clients: int = 8
    parallel: int = 200
    requests: int = 4_000


@dataclass(frozen=True, slots=True)
class Row:
    """One limit under contention.

    asked: what the upstream was asked for, in the limit's unit; answered: what clients were given of it (leases: as asked);
    failed: answers that were neither 200 nor 429.
    """

    model: str
    limit: int
    asked: int
    answered: int
    bound: int
    failed: int

    @property
    def over(self) -> int:
        return max(0, self.asked - self.limit)


def of_tokens(limit: int, held: int, used: int) -> int:
    """The most by which requests that hold back `held` and use `used` overdraw a limit.

    As many as fit are under way at once; nothing is admitted after the first of them has told more than was left.
    """
    return max(0, limit // held * used - limit)


# The upstream


class Upstream(asyncio.Protocol):
    """Works for a while on every request; tells on GET what it was asked."""

    seen: ClassVar[defaultdict[str, dict[str, int]]] = defaultdict(
        lambda: {"requests": 0, "under_way": 0, "most": 0, "tokens": 0}
    )
    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if self.buffer.startswith(b"GET"):
            self.buffer = b""
            self._write(json.dumps(self.seen).encode())
            return
        head = self.buffer[:end].lower()
        whole = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self.buffer) >= whole:
            asked, self.buffer = json.loads(self.buffer[end + 4 : whole]), self.buffer[whole:]
            seen = self.seen[asked["model"]]
            seen["requests"] += 1
            seen["under_way"] += 1
            seen["most"] = max(seen["most"], seen["under_way"])
            asyncio.get_running_loop().call_later(WORK if asked["model"] != FREE else 0, self._answer, asked)

    def _answer(self, asked: dict[str, object]) -> None:
        seen = self.seen[str(asked["model"])]
        seen["under_way"] -= 1
        said = SAID if "max_tokens" in asked else LONG
        seen["tokens"] += SENT + said
        usage = {"prompt_tokens": SENT, "completion_tokens": said, "total_tokens": SENT + said}
        choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice]}
        self._write(json.dumps({**answer, "usage": usage}).encode())

    def _write(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4_096)
    await server.serve_forever()


# A client


def message(model: str, port: int) -> bytes:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    if model != "beyond":
        body["max_tokens"] = MOST
    sent = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer sk-one\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent


async def ask(ports: list[int], model: str, parallel: int, requests: int) -> dict[str, object]:
    """Ask so many times over so many connections, each again as soon as it is answered; statuses, and milliseconds."""
    from tests.bench.drive import Caller, connected

    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    statuses: defaultdict[int, int] = defaultdict(int)
    taken: list[float] = []
    sent = 0

    def done(caller: Caller, status: int, body: bytes, milliseconds: float) -> None:
        statuses[status] += 1
        taken.append(milliseconds)
        if len(taken) >= requests:
            over.done() or over.set_result(None)
        else:
            again(caller)

    def again(caller: Caller) -> None:
        nonlocal sent
        if sent < requests:
            sent += 1
            caller.ask(message(model, 0))

    callers = [await connected(ports[number % len(ports)], done) for number in range(min(parallel, requests))]
    for caller in callers:
        again(caller)
    await asyncio.wait_for(over, 300)
    return {"statuses": statuses, "ms": statistics.median(taken)}


# The field


def field(setting: str, sizes: Sizes) -> list[Row]:
    """Every limit of one setting, one after the other."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as temporary:
        try:
            upstream, ports, _ = started(stack, Path(temporary), setting)
            return [_contended(model, upstream, ports, sizes) for model in MODELS]
        finally:
            stack.close()


def _contended(model: str, upstream: int, ports: list[int], sizes: Sizes) -> Row:
    share = max(1, sizes.requests // sizes.clients)
    command = [sys.executable, "-m", "tests.bench.limits", "--ask", model, "--parallel", str(sizes.parallel)]
    command += ["--requests", str(share), "--ports", *map(str, ports)]
    clients = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(sizes.clients)]
    told = [json.loads(client.communicate()[0]) for client in clients]
    passed = sum(one["statuses"].get("200", 0) for one in told)
    failed = sum(count for one in told for status, count in one["statuses"].items() if status not in ("200", "429"))
    if failed:
        print(f"  {model}: {[one['statuses'] for one in told]}", file=sys.stderr)
    seen = json.loads(_get(f"http://127.0.0.1:{upstream}/")).get(model, Upstream.seen[model])
    limit, used = LIMIT_OF[model], SENT + (LONG if model == "beyond" else SAID)
    if model == "slots":
        return Row(model, limit, seen["most"], seen["most"], 0, failed)
    if model in ("requests", "fixed"):
        return Row(model, limit, seen["requests"], passed, 0, failed)
    bound = of_tokens(limit, SENT + RESERVE, used) if model == "beyond" else 0
    return Row(model, limit, seen["tokens"], passed * used, bound, failed)


def _get(url: str) -> bytes:
    with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
        return bytes(answer.read())


def started(stack: ExitStack, folder: Path, setting: str) -> tuple[int, list[int], list[tuple[str, int]]]:
    """The upstream's port, the gateways' ports, and the processes whose work counts, by name."""
    from tests.bench.lanes import free_port, start
    from tests.state.conftest import Server

    upstream, counted = free_port(), []
    start(stack, upstream, "-m", "tests.bench.limits", "--serve", str(upstream))
    state = ""
    if "Redis" in setting:
        server = Server(folder)
        server.start()
        stack.callback(server.kill)
        assert server.process is not None
        counted.append(("Redis", server.process.pid))
        state = f"state: {{url: '{server.url}', timeout: 5s}}\n"
    how = "per: [account.id], on_missing: refuse, mode: enforce"
    (folder / "pack.yaml").write_text(PACK % {**LIMIT_OF, "how": how, "dollars": LIMIT_OF["money"] // 1_000})
    (folder / "key").write_text("0123456789abcdef0123456789abcdef")
    ports = []
    for number in range(2 if "gateways" in setting else 1):
        port = free_port()
        own = folder / str(number)
        own.mkdir()
        (own / "gateway.yaml").write_text(
            f"listen: 127.0.0.1:{port}\npolicy: [{folder}/pack.yaml]\nidentity: {{hash_key_file: {folder}/key}}\n"
            f"upstreams: {{openai: {{url: 'http://127.0.0.1:{upstream}', connections: 4096}}}}\n{state}"
        )
        workers = ["--workers", "2"] if "workers" in setting else []
        running = start(stack, port, "-m", "gateway", "serve", str(own / "gateway.yaml"), *workers)
        counted.append(("gateway", running.pid))
        ports.append(port)
        _until_it_serves(port)
    return upstream, ports, counted


def _until_it_serves(port: int) -> None:
    for _ in range(300):
        try:
            _get(f"http://127.0.0.1:{port}/healthz")
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the gateway does not answer")


# What Redis adds


def latency(requests: int, rounds: int = 5) -> Iterator[str]:
    """For one request at a time: medians, and CPU of each process, of both settings in turns."""
    from tests.bench.load import cpu_seconds

    settings = ("memory", "one gateway, Redis")
    medians: dict[str, list[float]] = {name: [] for name in settings}
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as temporary:
        lanes = {}
        for name in settings:
            (own := Path(temporary) / str(len(lanes))).mkdir()
            lanes[name] = started(stack, own, name)
        for number in range(rounds + 1):
            for name, (_, ports, counted) in lanes.items():
                before = [cpu_seconds(pid) for _, pid in counted]
                told = asyncio.run(ask(ports, FREE, 1, requests))
                if number:
                    medians[name].append(float(str(told["ms"])))
                    for (kind, pid), spent in zip(counted, before, strict=True):
                        costs[name, kind].append((cpu_seconds(pid) - spent) / requests * 1e6)
        stack.close()
    for name in settings:
        cpu = ", ".join(f"{kind} {min(costs[name, kind]):.0f} us" for kind in ("gateway", "Redis") if (name, kind) in costs)
        yield f"{name:<22} median {statistics.median(medians[name]):6.2f} ms; CPU of a request: {cpu}"


def main() -> int:
    """The exit status: 1 where more was admitted than the bound says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--parallel", type=int, default=200)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--serve", type=int, help="be the upstream on this port")
    parser.add_argument("--ask", help="be a client of this model")
    parser.add_argument("--ports", type=int, nargs="*", default=[])
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    if options.ask:
        print(json.dumps(asyncio.run(ask(options.ports, options.ask, options.parallel, options.requests))))
        return 0
    if options.latency:
        print("\n".join(latency(2_000)))
        return 0
    sizes, worst = Sizes(options.clients, options.parallel, options.requests), 0
    print(f"{sizes.clients} clients x {sizes.parallel} connections, {sizes.requests} requests for each limit")
    for setting in [options.only] if options.only else SETTINGS:
        print(f"\n{setting:<22}{'limit':>10}{'asked':>10}{'over-admitted':>16}{'bound':>10}{'failed':>10}")
        for row in field(setting, sizes):
            worst = max(worst, row.over - row.bound, row.failed)
            print(f"  {row.model:<20}{row.limit:>10}{row.asked:>10}{row.over:>16}{row.bound:>10}{row.failed:>10}", flush=True)
    return int(worst > 0)


if __name__ == "__main__":
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    sys.exit(main())
