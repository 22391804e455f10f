"""Keys made up at random, by the thousand, at a directory that is well: whom that may hold up, and whom not.

The directory is a real service that takes its time; every look-up of the flood is one that nobody asked for before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from itertools import count

import pytest

from gateway.credentials import credential_hash
from gateway.facts import Freshness, LookedUp
from gateway.plugins.identity.cache import Keeping, RemoteDirectory
from gateway.plugins.identity.http import HttpSource
from gateway.values import SECOND
from tests.accounts_service import Service, reply

KEY = b"a key of the tests' own"
KEEPING = Keeping(most=10_000, keep=60 * SECOND, absent=10 * SECOND, stale=3_600 * SECOND)
TIMEOUT = 3.0  # so long that a machine with other work to do still answers in time
UNAVAILABLE = LookedUp(None, Freshness.UNAVAILABLE)


class Flooded:
    """A directory, a clock that tests move on, and somebody who sends random keys."""

    def __init__(self, service: Service) -> None:
        self.service, self.offset, self._number = service, 0, count()
        self.cached = RemoteDirectory(HttpSource(service.url, None), TIMEOUT, KEEPING)
        self.cached.start(lambda: time.perf_counter_ns() // 1_000 + self.offset)

    def list(self, *keys: str) -> None:
        for key in keys:
            self.service.accounts[f"sha256:{sha256(key.encode()).hexdigest()}"] = {"id": key}

    def delist(self, key: str) -> None:
        del self.service.accounts[f"sha256:{sha256(key.encode()).hexdigest()}"]

    async def ask(self, key: str, network: str = "") -> LookedUp:
        digest = sha256(key.encode()).digest()
        named = credential_hash(digest, KEY)
        return self.cached.find(named) or await self.cached.fetch(named, digest, network)

    async def flood(self, over: asyncio.Event, network: Callable[[int], str]) -> None:
        """Several times as many keys as the directory has room for, until it is over."""
        asking: set[asyncio.Task[LookedUp]] = set()
        while not over.is_set():
            for _ in range(10):
                number = next(self._number)
                asking.add(asyncio.create_task(self.ask(f"random-{number}", network(number))))
            await asyncio.sleep(0.01)
            asking = {task for task in asking if not task.done()}
        await asyncio.gather(*asking)

    def run(self, steps: Callable[[], Awaitable[None]], network: Callable[[int], str] = lambda number: "") -> None:
        """Take the steps while the flood goes on, and after it has filled every queue."""

        async def all_of_it() -> None:
            over = asyncio.Event()
            flood = asyncio.create_task(self.flood(over, network))
            try:
                await asyncio.sleep(1.5 * TIMEOUT)  # until the first have waited in vain
                await steps()
            finally:
                over.set()
                await flood
                await self.cached.close()

        asyncio.run(all_of_it())


@pytest.fixture
def flooded(service: Service) -> Flooded:
    return Flooded(service)


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    running.takes = 0.05
    yield running
    running.close()


def test_random_keys_do_not_take_the_directory_down_for_accounts_that_are_known(flooded: Flooded) -> None:
    flooded.list("a", "b")

    async def first() -> None:
        for key in "ab":
            assert (await flooded.ask(key)).freshness is Freshness.FRESH
        await flooded.cached.close()

    async def steps() -> None:
        for _ in range(5):
            flooded.offset += 61 * SECOND  # what is known is too old to be taken as it was
            for key in "ab":
                found = await flooded.ask(key)
                assert ((found.entry or {}).get("id"), found.freshness) == (key, Freshness.FRESH)
        health = flooded.cached.health()
        assert (health["problem"], health["failures"]) == ("", 0), "of the directory it says nothing that some waited in vain"
        assert int(str(health["turned_away"])) > 0

    asyncio.run(first())
    flooded.run(steps)


def test_a_key_that_was_taken_out_is_not_kept_alive_by_a_flood(flooded: Flooded) -> None:
    flooded.list("banned")

    async def first() -> None:
        assert (await flooded.ask("banned")).entry is not None
        await flooded.cached.close()

    async def steps() -> None:
        flooded.delist("banned")
        flooded.offset = 50 * SECOND
        assert (await flooded.ask("banned")).entry is not None, "it is renewed in the background"
        await asyncio.sleep(TIMEOUT)
        assert await flooded.ask("banned") == LookedUp(None)

    asyncio.run(first())
    flooded.run(steps)


def test_a_directory_that_failed_once_is_found_well_again_in_spite_of_a_flood(flooded: Flooded, service: Service) -> None:
    """While it failed, what is known is stale, and one renewal after the other finds out; random keys do not hinder it."""
    flooded.list("banned")

    async def first() -> None:
        assert (await flooded.ask("banned")).entry is not None
        flooded.delist("banned")
        service.behave = lambda handler: reply(handler, 500, {})
        flooded.offset = 61 * SECOND
        assert (await flooded.ask("banned")).freshness is Freshness.STALE
        await flooded.cached.close()
        service.behave = service.stall

    async def steps() -> None:
        flooded.offset += 2 * SECOND
        assert (await flooded.ask("banned")).freshness is Freshness.STALE
        service.behave = None
        service.resumed.set()
        flooded.offset += 2 * SECOND
        deadline = time.monotonic() + 5
        while (found := await flooded.ask("banned")).entry is not None:
            assert time.monotonic() < deadline, flooded.cached.health()
            await asyncio.sleep(0.1)
        assert found == LookedUp(None)
        assert flooded.cached.health()["problem"] == ""

    asyncio.run(first())
    flooded.run(steps)


def test_new_accounts_of_other_networks_get_through(flooded: Flooded) -> None:
    """The flood comes from a few networks; each honest account is asked for the first time, from a network of its own."""
    honest = [f"honest-{number}" for number in range(20)]
    flooded.list(*honest)

    async def steps() -> None:
        for key in honest:
            assert ((await flooded.ask(key, f"network of {key}")).entry or {}).get("id") == key
        assert int(str(flooded.cached.health()["turned_away"])) > 0

    flooded.run(steps, lambda number: f"198.51.{number % 3}.0/24")


def test_an_account_whose_entry_turns_bad_is_not_asked_for_at_every_request(flooded: Flooded, service: Service) -> None:
    """It stays as it was last known, and after that nobody knows; in the meantime it is asked for now and then."""
    flooded.list("a")
    service.takes = 0

    async def asked_of(expected: LookedUp) -> int:
        before = len(service.seen)
        for _ in range(50):
            assert await flooded.ask("a") == expected
        return len(service.seen) - before

    async def steps() -> None:
        good = await flooded.ask("a")
        service.accounts = {key: {"id": "a", "billing_country": "XX"} for key in service.accounts}
        flooded.offset = 61 * SECOND
        stale = LookedUp(good.entry, Freshness.STALE)
        assert await asked_of(stale) == 1
        flooded.offset += 11 * SECOND
        assert await asked_of(stale) == 1
        flooded.offset += 3_600 * SECOND
        assert await asked_of(LookedUp(None, Freshness.UNREADABLE)) == 1
        flooded.list("a")
        flooded.offset += 11 * SECOND
        assert (await flooded.ask("a")).freshness is Freshness.FRESH
        await flooded.cached.close()

    asyncio.run(steps())
