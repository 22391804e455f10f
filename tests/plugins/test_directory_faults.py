"""Databases that hang, go away, are locked or broken: what a look-up says then, how soon, and that it gets well again."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert

from gateway.credentials import credential_hash
from gateway.facts import Freshness, LookedUp
from gateway.plugins.identity.cache import Keeping, RemoteDirectory
from gateway.plugins.identity.sql import CONNECTIONS, SqlSource, tables
from tests.postgres import Server

TIMEOUT = 4.0  # so long that a database on a machine with other work to do still answers in time
KEYS = [f"sk-{number}" for number in range(40)]
NOTHING_KEPT = Keeping(most=1, keep=1, absent=1, stale=1)


def filled(url: str) -> None:
    """Give a database the default tables, and every key an account of its own."""
    engine, metadata = create_engine(url), tables()
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["accounts"]), [{"id": f"account of {key}"} for key in KEYS])
        rows = [{"credential": sha256(key.encode()).hexdigest(), "account": f"account of {key}"} for key in KEYS]
        connection.execute(insert(metadata.tables["credentials"]), rows)
    engine.dispose()


@pytest.fixture(scope="module")
def _server() -> Iterator[Server]:
    server = Server()
    server.start()
    filled(server.url)
    yield server
    server.remove()


@pytest.fixture
def postgres(_server: Server) -> Server:
    if _server.process is None:
        _server.start()
    return _server


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    filled(f"sqlite:///{tmp_path}/accounts.db")
    return tmp_path / "accounts.db"


class Asking:
    """A directory that remembers nothing, so that every look-up goes to the database."""

    def __init__(self, url: str) -> None:
        self.cached = RemoteDirectory(SqlSource(url, None, TIMEOUT), TIMEOUT, NOTHING_KEPT)
        self.cached.start(lambda: time.perf_counter_ns() // 1_000)

    async def __call__(self, key: str) -> LookedUp:
        await self.rested()
        digest = sha256(key.encode()).digest()
        return await self.cached.fetch(credential_hash(digest, b"a key of the tests' own"), digest)

    async def rested(self) -> None:
        """A directory that failed several times is asked again once it has rested."""
        while not self.cached.breaker.free:  # noqa: ASYNC110 - that is a matter of time alone
            await asyncio.sleep(0.01)

    async def answers(self, key: str) -> None:
        """It must answer, and rightly."""
        assert ((await self(key)).entry or {}).get("id") == f"account of {key}"

    async def fails(self, key: str) -> None:
        """It must say that it does not know, in time."""
        await self.rested()
        begun = time.monotonic()
        assert await self(key) == LookedUp(None, Freshness.UNAVAILABLE)
        assert time.monotonic() - begun < 2 * TIMEOUT + 2, "a time for a slot, and one for the answer"

    async def recovers(self, key: str, within: float = 8.0) -> None:
        deadline = time.monotonic() + within
        while (found := await self(key)).freshness is Freshness.UNAVAILABLE:
            assert time.monotonic() < deadline, self.cached.health()
            await asyncio.sleep(0.02)
        assert (found.entry or {}).get("id") == f"account of {key}"
        assert self.cached.health()["problem"] == ""

    def run(self, steps: Callable[[Asking], Awaitable[None]]) -> None:
        async def all_of_it() -> None:
            try:
                await steps(self)
            finally:
                await self.cached.close()

        asyncio.run(all_of_it())


def test_a_server_that_hangs_holds_up_no_thread_for_good(postgres: Server) -> None:
    """Every connection hangs at once, more look-ups come than there are connections, and all is well when it goes on."""

    async def steps(asking: Asking) -> None:
        await asyncio.gather(*(asking.answers(key) for key in KEYS))
        postgres.pause()
        try:
            await asyncio.gather(*(asking.fails(key) for key in KEYS))
            assert f"did not answer within {TIMEOUT:g} s" in str(asking.cached.health()["problem"])
            await asyncio.gather(*(asking.fails(key) for key in KEYS[:CONNECTIONS]))
        finally:
            postgres.resume()
        await asking.recovers("sk-0")
        await asyncio.gather(*(asking.answers(key) for key in KEYS))

    before = threading.active_count()
    Asking(postgres.url).run(steps)
    assert threading.active_count() == before


def test_connections_that_hang_for_ever_are_given_up(postgres: Server) -> None:
    """As behind a firewall that forgot them: new ones would work, the old ones never answer again, nor end."""

    async def steps(asking: Asking) -> None:
        await asyncio.gather(*(asking.answers(key) for key in KEYS))
        hanging = postgres.pause_connections()
        assert 0 < hanging <= CONNECTIONS
        try:
            await asyncio.gather(*(asking.fails(key) for key in KEYS[:hanging]))
            await asking.recovers("sk-0")
            await asyncio.gather(*(asking.answers(key) for key in KEYS))
        finally:
            postgres.resume()

    Asking(postgres.url).run(steps)


def test_a_server_that_was_started_anew_is_not_seen_to_have_been_away(
    postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(asking: Asking) -> None:
        await asyncio.gather(*(asking.answers(key) for key in KEYS))
        postgres.stop()
        await asking.fails("sk-0")
        assert str(asking.cached.health()["problem"]).endswith("failed: OperationalError")
        assert "refused" in caplog.text
        postgres.start()
        await asking.recovers("sk-0")
        postgres.stop()
        postgres.start()
        await asyncio.gather(*(asking.answers(key) for key in KEYS))

    Asking(postgres.url).run(steps)


def test_a_server_that_crashes_under_load_gives_wrong_answers_to_nobody(postgres: Server) -> None:
    async def steps(asking: Asking) -> None:
        found: list[tuple[str, LookedUp]] = []
        over = asyncio.Event()

        async def caller(key: str) -> None:
            while not over.is_set():
                found.append((key, await asking(key)))

        callers = [asyncio.create_task(caller(key)) for key in KEYS[:16]]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)
        await asking.recovers("sk-0")
        over.set()
        await asyncio.gather(*callers)
        for key, one in found:
            unavailable = one == LookedUp(None, Freshness.UNAVAILABLE)
            assert unavailable or (one.entry or {}).get("id") == f"account of {key}", "nobody else's, and never «not listed»"
        assert {one.freshness for _, one in found} == {Freshness.FRESH, Freshness.UNAVAILABLE}

    Asking(postgres.url).run(steps)


def test_a_locked_file(sqlite: Path) -> None:
    async def steps(asking: Asking) -> None:
        await asking.answers("sk-0")
        writer = sqlite3.connect(sqlite, isolation_level=None)
        writer.execute("BEGIN EXCLUSIVE")
        await asking.fails("sk-0")
        waiting = asyncio.create_task(asking("sk-1"))
        await asyncio.sleep(TIMEOUT / 3)
        writer.execute("COMMIT")
        assert ((await waiting).entry or {}).get("id") == "account of sk-1", "a short lock is waited for"
        writer.close()
        await asking.recovers("sk-0")

    Asking(f"sqlite:///{sqlite}").run(steps)


def list_of(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def test_a_file_that_is_removed_broken_and_put_back(sqlite: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = sqlite.read_bytes()

    def removed() -> None:
        sqlite.unlink()

    def holds(content: bytes) -> Callable[[], None]:
        return lambda: sqlite.write_bytes(content) and None

    async def steps(asking: Asking) -> None:
        await asking.answers("sk-0")
        for change, problem in (
            (removed, "cannot be read: No such file"),
            (holds(b"this is no database" * 100), "not a database"),
            (holds(whole[: len(whole) // 2]), "malformed"),
            (holds(b""), "no such table"),
        ):
            change()
            await asking.fails("sk-0")
            assert asking.cached.health()["problem"]
            assert problem in caplog.text
        removed()
        await asking.fails("sk-0")
        assert list_of(sqlite.parent) == [], "nothing is created in its place"
        holds(whole)()
        await asking.recovers("sk-0")

    Asking(f"sqlite:///{sqlite}").run(steps)
