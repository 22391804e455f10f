"""The connections to an upstream in this process: how many, who waits for one, and that none is used whose end has come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.values import SECOND
from gateway.web.caller import Caller
from gateway.web.exchange import Headers
from gateway.web.link import Broke
from gateway.web.pool import Pool, Upstream
from gateway.web.pools import Pools
from tests.web.keeping import BODY, Keeping
from tests.web.running import free_port


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    server = Keeping()
    yield server
    server.close()


class Asker(Caller):
    """Asks one thing, and remembers what came of it. breaks: has a defect of its own where it is told of the end."""

    def __init__(self, breaks: bool = False) -> None:
        self.body, self.why, self.over = b"", "", asyncio.Event()
        self.breaks = breaks

    def arrived(self, status: int, headers: Headers, sized: bool, chunk: bytes, last: bool) -> None:
        self.body += chunk
        if last:
            self._link = None
            self.over.set()

    def broken(self, why: Broke) -> None:
        self.why = why.value
        self.over.set()
        if self.breaks:
            raise RuntimeError("a defect of the asker's")

    def upload_full(self, full: bool) -> None: ...

    def post(self, pool: Pool, do: str = "sized") -> Asker:
        self.call(pool, "POST", b"POST /?do=" + do.encode() + pool.lines + b"content-length: 2\r\n\r\n", b"{}")
        return self

    async def end(self) -> Asker:
        await asyncio.wait_for(self.over.wait(), 10)
        return self


@contextlib.asynccontextmanager
async def pooled(url: str, **settings: object) -> AsyncIterator[Pool]:
    pools = Pools({"openai": Upstream(url, **settings)}, time.monotonic)  # type: ignore[arg-type]
    await pools.open()
    found = pools.get("openai")
    assert found is not None
    yield found
    await pools.close()


def test_a_post_is_not_sent_on_a_connection_whose_end_has_come(keeping: Keeping) -> None:
    """The upstream closes while the loop does something else: it has not heard of it when the next request is there."""

    async def asked() -> None:
        async with pooled(keeping.url) as pool:
            for number in range(5):
                assert (await Asker().post(pool).end()).body == BODY
                assert keeping.connections == number + 1
                keeping.hang_up()
                time.sleep(0.02)  # noqa: ASYNC251 - nothing else runs meanwhile, and so nobody is told
            assert (await Asker().post(pool).end()).why == ""

    asyncio.run(asked())


def test_so_many_are_open_at_once_and_the_others_wait_in_order(keeping: Keeping) -> None:
    async def asked() -> None:
        async with pooled(keeping.url, connections=2) as pool:
            askers = [Asker().post(pool, "slow") for _ in range(6)]
            ended = [await asker.end() for asker in askers]
            assert [asker.body for asker in ended] == [BODY] * 6
            assert keeping.connections == pool.opened == 2
            assert [got.connection for got in keeping.got].count(1) == 3

    asyncio.run(asked())


@pytest.mark.parametrize("do", ["until_close", "more_than_asked"])
def test_the_place_of_a_connection_that_ends_is_the_next_ones(do: str, keeping: Keeping) -> None:
    async def asked() -> None:
        async with pooled(keeping.url, connections=1) as pool:
            ended = [await asker.end() for asker in [Asker().post(pool, do) for _ in range(4)]]
            assert [asker.body for asker in ended] == [BODY] * 4
            assert keeping.connections == 4

    asyncio.run(asked())


def test_who_waits_too_long_is_told_that_it_is_busy_and_leaves_no_trace(keeping: Keeping) -> None:
    async def asked() -> None:
        async with pooled(keeping.url, connections=1, connect=SECOND // 10) as pool:
            slow = Asker().post(pool, "slow")
            await asyncio.sleep(0.05)
            waiting = [Asker().post(pool) for _ in range(3)]
            left = Asker().post(pool)
            await asyncio.sleep(0)
            left.hang_up()
            assert [(await asker.end()).why for asker in waiting] == ["busy"] * 3
            assert (await slow.end()).body == BODY
            assert (await Asker().post(pool).end()).body == BODY
            assert not pool._waiting
            assert pool._taken == 1
            assert len(keeping.got) == 2

    asyncio.run(asked())


def test_who_leaves_when_it_was_given_a_connection_gives_it_back(keeping: Keeping) -> None:
    async def asked() -> None:
        async with pooled(keeping.url, connections=1) as pool:
            first = await Asker().post(pool).end()
            held = pool.take()
            assert held is not None
            second, third = Asker().post(pool), Asker().post(pool)
            await asyncio.sleep(0)
            pool.give(held)
            second.hang_up()
            assert (await third.end()).body == first.body == BODY
            assert keeping.connections == 1

    asyncio.run(asked())


def test_a_place_is_given_back_where_there_was_nothing_to_connect_to(caplog: pytest.LogCaptureFixture) -> None:
    async def asked() -> None:
        async with pooled(f"http://127.0.0.1:{free_port()}", connections=2) as pool:
            for _ in range(6):
                assert (await Asker().post(pool).end()).why == "unreachable"
            assert pool._taken == 0
            assert "upstreams.openai.url" in pool.problem

    with caplog.at_level(logging.WARNING):
        asyncio.run(asked())
    assert len(caplog.records) == 1  # the same is not told twice


def test_a_defect_of_one_asker_leaves_the_time_outs_of_the_others_in_force() -> None:
    async def asked() -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            async with pooled(f"http://127.0.0.1:{mute.getsockname()[1]}", read=SECOND // 5) as pool:
                loop, told = asyncio.get_running_loop(), []
                loop.set_exception_handler(lambda _, context: told.append(context["message"]))
                for breaks in (True, False):
                    assert (await Asker(breaks).post(pool).end()).why == "timed out"
                assert len(told) == 1

    asyncio.run(asked())


def test_authorities_that_cannot_be_read_are_said_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match=r"upstreams\.openai\.ca_file"):
        Pools({"openai": Upstream("https://api.example", ca_file=tmp_path / "ca.pem")}, time.monotonic)
