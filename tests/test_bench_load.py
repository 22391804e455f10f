"""The load generator of the benches tells what came back from what did not, and an answer from another one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice

import pytest

from tests.bench.drive import closed, open_loop, unchunked
from tests.bench.gateway import Budget, Figures, budgets, resident, spent
from tests.bench.load import ACCOUNTS, ANSWER, CHUNKS, REPLY, STREAM, STREAM_HEAD, Result, Stub, alike, exact, requests

Made = Callable[[], asyncio.Protocol]


class Saying(asyncio.Protocol):
    """Answers each request with the same bytes, in pieces of some size; closes behind it where told to."""

    def __init__(self, said: bytes, piece: int = 10**6, close: bool = False) -> None:
        self.said, self.piece, self.close = said, piece, close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.tasks: list[asyncio.Task[None]] = []

    def data_received(self, data: bytes) -> None:
        self.tasks.append(asyncio.ensure_future(self._say()))

    async def _say(self) -> None:
        for place in range(0, len(self.said), self.piece):
            self.transport.write(self.said[place : place + self.piece])  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        if self.close:
            self.transport.close()


def driven(made: Made, count: int = 40, rate: float = 0.0, stream: bool = False) -> Result:
    async def run() -> Result:
        server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        messages = requests(2_048, stream)
        try:
            if rate:
                return await asyncio.wait_for(open_loop(port, messages, count, rate, exact), 30)
            return await asyncio.wait_for(closed(port, messages, count, 8, exact), 30)
        finally:
            server.close()

    return asyncio.run(run())


@pytest.mark.parametrize("rate", [0.0, 400.0], ids=["closed", "open"])
def test_what_the_stub_says_is_what_comes_back(rate: float) -> None:
    found = driven(Stub, rate=rate)
    assert (found.requests, found.failed, found.wrong, len(found.latencies)) == (40, 0, 0, 40)
    assert found.latencies == sorted(found.latencies)


def test_streams_come_back_whole_and_take_the_time_they_take() -> None:
    found = driven(Stub, count=16, stream=True)
    assert (found.failed, found.wrong) == (0, 0)
    assert found.latencies[0] > 2_000  # fifty gaps of 60 ms, and a machine that may skip none of them


@pytest.mark.parametrize("piece", [1, 7, 1_000])
@pytest.mark.parametrize("said", [REPLY, STREAM_HEAD + b"".join(CHUNKS)], ids=["json", "stream"])
def test_answers_may_come_in_any_pieces(said: bytes, piece: int) -> None:
    found = driven(lambda: Saying(said, piece), count=10)
    assert (found.failed, found.wrong) == (0, 0)


def test_one_byte_that_differs_is_a_wrong_answer() -> None:
    assert driven(lambda: Saying(REPLY.replace(b"word word", b"word Word"))).wrong == 40
    assert driven(lambda: Saying(STREAM_HEAD + b"".join(CHUNKS[1:]))).wrong == 40


def test_another_status_and_a_connection_that_ends_are_failures() -> None:
    assert driven(lambda: Saying(REPLY.replace(b"200 OK", b"503 No", 1))).failed == 40
    assert driven(lambda: Saying(REPLY[:-1], close=True)).failed == 40
    assert driven(lambda: Saying(b"", close=True), rate=400.0).failed == 40


def test_an_answer_that_was_written_anew_must_say_the_same() -> None:
    assert alike(ANSWER.replace(b'"model": "bench", ', b""))
    assert not alike(ANSWER.replace(b"word word", b"word"))
    assert alike(STREAM.replace(b"data: [DONE]\n\n", b""))
    assert not alike(STREAM.replace(b"word 7 ", b""))


def test_a_chunked_body_is_whole_only_at_its_end() -> None:
    whole = b"".join(CHUNKS)
    assert unchunked(whole) == STREAM
    assert all(unchunked(whole[:place]) is None for place in range(len(whole)))


def test_requests_have_the_size_and_no_two_are_alike() -> None:
    found = list(islice(requests(2_048), 2 * ACCOUNTS))
    assert len(set(found)) == len(found)
    assert {len(one.partition(b"\r\n\r\n")[2]) for one in found} == {2_048}
    assert len({one.partition(b"Bearer ")[2].split()[0] for one in found}) == ACCOUNTS


def test_a_budget_that_was_not_measured_is_not_held() -> None:
    nothing = {name: Figures() for name in ("direct", "bare lane", "rules only", "everything on")}
    assert {line.verdict for line in budgets(nothing)} == {"not measured"}
    verdicts = [Budget("x", required, 2, value).verdict for required, value in ((4, 1), (4, 3), (4, 5), (None, 5))]
    assert verdicts == ["reached", "holds", "MISSED", "not reached"]


def test_ratios_are_of_medians() -> None:
    seen = {name: Figures(cpu=[cost, cost, 99 * cost]) for name, cost in (("nginx", 10.0), ("everything on", 50.0))}
    seen |= {name: Figures() for name in ("direct", "bare lane", "rules only")}
    assert budgets(seen)[0].value == 5.0


def test_cpu_time_of_a_tree_grows_with_its_work() -> None:
    child = "input(); sum(range(20_000_000)); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        before, until = spent(process.pid), time.monotonic() + 60
        process.stdin.write(b"\n")
        process.stdin.flush()
        while spent(process.pid) - before < 100_000 and time.monotonic() < until:
            time.sleep(0.01)
        found = spent(process.pid) - before, resident(process.pid)
        process.stdin.write(b"\n")
    assert found[0] >= 100_000  # µs: the child worked, and its parent waited
    assert found[1] > 10
