"""The memory of a directory that is asked over a wire: what is remembered for how long, and when the directory is asked.

Time is a number that the tests move; the directory is a real service on loopback.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from gateway.credentials import credential_hash
from gateway.facts import Freshness, LookedUp
from gateway.plugins.identity.cache import MOST_WAITING, Keeping, RemoteDirectory
from gateway.plugins.identity.http import CONNECTIONS, HttpSource
from gateway.values import SECOND
from tests.accounts_service import Service, reply

KEY = b"a key of the tests' own"
KEEPING = Keeping(most=3, keep=60 * SECOND, absent=10 * SECOND, stale=600 * SECOND)


def named(key: str) -> str:
    return credential_hash(sha256(key.encode()).digest(), KEY)


class Directory:
    """A directory and its clock. `ask` does what a host does: look in memory, and ask where it must."""

    def __init__(self, service: Service, keeping: Keeping = KEEPING, timeout: float = 2.0) -> None:
        self.service, self.now = service, 0
        self.cached = RemoteDirectory(HttpSource(service.url, None), timeout, keeping)
        self.cached.start(lambda: self.now)
        self.before = len(service.seen)

    @property
    def asked(self) -> int:
        """How often the service was asked since the start."""
        return len(self.service.seen) - self.before

    def list(self, *keys: str, plan: str = "paid") -> None:
        for key in keys:
            self.service.accounts[f"sha256:{sha256(key.encode()).hexdigest()}"] = {"id": key, "plan": plan}

    def delist(self, key: str) -> None:
        del self.service.accounts[f"sha256:{sha256(key.encode()).hexdigest()}"]

    async def ask(self, key: str) -> LookedUp:
        return self.cached.find(named(key)) or await self.cached.fetch(named(key), sha256(key.encode()).digest())

    async def settled(self) -> None:
        """Once nothing is being asked in the background."""
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    def run(self, steps: Coroutine[Any, Any, None]) -> None:
        async def all_of_it() -> None:
            try:
                await steps
            finally:
                await self.cached.close()

        asyncio.run(all_of_it())


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture
def directory(service: Service) -> Directory:
    found = Directory(service)
    found.list("a", "b", "c", "d")
    return found


def plan(found: LookedUp) -> object:
    return (found.entry or {}).get("plan")


def broken(service: Service) -> Callable[[], None]:
    """Have the service fail; returns what mends it."""
    service.behave = lambda handler: reply(handler, 500, {})

    def mend() -> None:
        service.behave = None

    return mend


def test_an_account_is_taken_as_it_was_until_it_is_old(directory: Directory) -> None:
    async def steps() -> None:
        first = await directory.ask("a")
        directory.now = 47 * SECOND
        assert await directory.ask("a") is first
        await directory.settled()
        assert directory.asked == 1
        directory.list("a", plan="free")
        directory.now = 61 * SECOND
        assert plan(await directory.ask("a")) == "free"
        assert directory.asked == 2

    directory.run(steps())


def test_an_account_near_its_end_is_asked_for_anew_while_it_is_served(directory: Directory) -> None:
    async def steps() -> None:
        await directory.ask("a")
        directory.list("a", plan="free")
        directory.now = 50 * SECOND
        assert [plan(directory.cached.find(named("a")) or LookedUp(None)) for _ in range(20)] == ["paid"] * 20
        await directory.settled()
        assert directory.asked == 2
        assert plan(directory.cached.find(named("a")) or LookedUp(None)) == "free"
        directory.now = 105 * SECOND
        assert directory.cached.find(named("a")) is not None, "it counts from the renewal"

    directory.run(steps())


def test_an_account_that_was_taken_out_is_unknown_once_it_is_asked_for(directory: Directory) -> None:
    async def steps() -> None:
        await directory.ask("a")
        directory.delist("a")
        directory.now = 50 * SECOND
        assert plan(await directory.ask("a")) == "paid"
        await directory.settled()
        assert (await directory.ask("a")).entry is None
        directory.list("a")
        directory.now = 61 * SECOND
        assert plan(await directory.ask("a")) == "paid", "nor is it forgotten for ever"

    directory.run(steps())


def test_unknown_keys_do_not_hammer_the_directory(directory: Directory) -> None:
    async def steps() -> None:
        for _ in range(50):
            assert (await directory.ask("nobody")).entry is None
        assert directory.asked == 1
        directory.now = 11 * SECOND
        await directory.ask("nobody")
        assert directory.asked == 2

    directory.run(steps())


def test_rotating_unknown_keys_drive_out_no_account_and_take_no_room(directory: Directory) -> None:
    async def steps() -> None:
        for key in "abc":
            await directory.ask(key)
        for number in range(50):
            await directory.ask(f"nobody-{number}")
        before = directory.asked
        for key in "abc":
            assert plan(await directory.ask(key)) == "paid"
        assert directory.asked == before
        health = directory.cached.health()
        assert (health["accounts"], health["absent"]) == (3, 3)

    directory.run(steps())


def test_the_account_that_was_not_used_for_longest_goes_first(directory: Directory) -> None:
    async def steps() -> None:
        for key in "abcad":
            await directory.ask(key)
        before = directory.asked
        assert directory.cached.find(named("a")) is not None
        assert directory.cached.find(named("b")) is None
        assert directory.asked == before == 4

    directory.run(steps())


def test_a_failing_directory_leaves_what_was_known_stale_and_then_unavailable(directory: Directory, service: Service) -> None:
    async def steps() -> None:
        await directory.ask("a")
        mend = broken(service)
        directory.now = 30 * SECOND
        assert (await directory.ask("a")).freshness is Freshness.FRESH
        directory.now = 61 * SECOND
        for _ in range(20):
            assert await directory.ask("a") == LookedUp({"id": "a", "org": "account:a", "plan": "paid"}, Freshness.STALE)
        assert await directory.ask("b") == LookedUp(None, Freshness.UNAVAILABLE)
        assert "answered with status 500" in str(directory.cached.health()["problem"])
        directory.now = 659 * SECOND
        assert (await directory.ask("a")).freshness is Freshness.STALE
        await directory.settled()  # a look-up that was under way answers as of when it ended
        directory.now = 661 * SECOND
        assert await directory.ask("a") == LookedUp(None, Freshness.UNAVAILABLE)
        mend()
        assert (await directory.ask("a")).freshness is Freshness.FRESH
        assert directory.cached.health()["problem"] == ""

    directory.run(steps())


def test_while_it_fails_stale_accounts_are_served_at_once_and_one_finds_out(directory: Directory, service: Service) -> None:
    async def steps() -> None:
        for key in "abc":
            await directory.ask(key)
        mend = broken(service)
        directory.now = 70 * SECOND
        await directory.ask("a")
        before = directory.asked
        for _ in range(100):
            for key in "abc":
                found = directory.cached.find(named(key))
                assert found is not None and found.freshness is Freshness.STALE
        await directory.settled()
        assert directory.asked == before + 1
        mend()
        directory.now = 72 * SECOND
        assert directory.cached.find(named("b")) is not None
        await directory.settled()
        assert (await directory.ask("a")).freshness is Freshness.FRESH, "the others are asked for once it answers"
        assert directory.cached.health()["problem"] == ""

    directory.run(steps())


def test_an_unknown_key_is_not_served_stale(directory: Directory, service: Service) -> None:
    """It may be an account by now; nobody knows."""

    async def steps() -> None:
        await directory.ask("nobody")
        broken(service)
        directory.now = 11 * SECOND
        assert (await directory.ask("nobody")).freshness is Freshness.UNAVAILABLE

    directory.run(steps())


def test_many_that_wait_for_one_account_ask_once(directory: Directory) -> None:
    async def steps() -> None:
        found = await asyncio.gather(*(directory.ask("a") for _ in range(200)))
        assert {plan(one) for one in found} == {"paid"}
        assert directory.asked == 1

    directory.run(steps())


def test_one_that_goes_away_takes_nothing_from_those_who_wait_with_it(directory: Directory, service: Service) -> None:
    arrived = threading.Event()

    def late(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        service.resumed.wait(10)
        reply(handler, 200, {"id": "a", "plan": "late"})

    async def steps() -> None:
        service.behave = late
        first, second = asyncio.create_task(directory.ask("a")), asyncio.create_task(directory.ask("a"))
        assert await asyncio.to_thread(arrived.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        service.resumed.set()
        assert plan(await second) == "late"
        assert directory.asked == 1

    directory.run(steps())


def test_there_is_a_most_of_what_waits(service: Service) -> None:
    """Who is turned away is told that nobody knows; of the directory that says nothing."""
    directory = Directory(service, timeout=3.0)
    service.behave = service.stall

    async def steps() -> None:
        waiting = [asyncio.create_task(directory.ask(f"k{number}")) for number in range(MOST_WAITING + CONNECTIONS)]
        await asyncio.sleep(0.1)
        assert await directory.ask("one too many") == LookedUp(None, Freshness.UNAVAILABLE)
        health = directory.cached.health()
        assert (health["problem"], health["failures"]) == ("", 0)
        assert 0 < int(str(health["turned_away"])) <= CONNECTIONS
        await asyncio.sleep(0.4)
        assert 0 < directory.asked < CONNECTIONS, "the others wait for a slot, and some are kept for known accounts"
        found = await asyncio.gather(*waiting)
        assert {one.freshness for one in found} == {Freshness.UNAVAILABLE}

    directory.run(steps())


def test_time_stands_still_until_a_host_starts_it(service: Service) -> None:
    """A replay asks once for each credential, however long it is replayed."""
    directory = Directory(service)
    directory.list("a")
    still = RemoteDirectory(HttpSource(service.url, None), 1.0, KEEPING)

    async def steps() -> None:
        for _ in range(100):
            assert still.find(named("a")) or await still.fetch(named("a"), sha256(b"a").digest())
        await still.close()

    directory.run(steps())
    assert directory.asked == 1
