"""Slots of look-ups: what is kept for whom, whose turn it is, and that none is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from gateway.plugins.identity.lanes import FullError, Kind, Lanes


async def entered(lanes: Lanes, kind: Kind, number: int, network: str = "") -> list[asyncio.Task[None]]:
    """So many that enter, each as far as it gets by itself."""
    tasks = [asyncio.create_task(lanes.enter(kind, network)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


def inside(tasks: list[asyncio.Task[None]]) -> int:
    return sum(task.done() and not task.cancelled() and task.exception() is None for task in tasks)


async def cleared(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("slots", [8, 16])
def test_strangers_leave_room_for_the_known_and_for_renewals(slots: int) -> None:
    async def steps() -> None:
        lanes = Lanes(slots, 100)
        strange = await entered(lanes, Kind.STRANGE, 50)
        assert inside(strange) == slots - slots // 4 - slots // 8
        known, renewals = await entered(lanes, Kind.KNOWN, 50), await entered(lanes, Kind.RENEWAL, 50)
        assert (inside(known), inside(renewals)) == (slots // 4, slots // 8)
        lanes.leave(Kind.STRANGE)
        await asyncio.sleep(0)
        assert inside(known) == slots // 4 + 1, "the known come first to what is free"
        await cleared([*strange, *known, *renewals])

    asyncio.run(steps())


def test_whoever_is_alone_has_all_but_what_is_kept() -> None:
    async def steps() -> None:
        for kind, kept in ((Kind.KNOWN, 4), (Kind.RENEWAL, 6), (Kind.STRANGE, 6)):
            tasks = await entered(Lanes(16, 100), kind, 50)
            assert inside(tasks) == 16 - kept
            await cleared(tasks)

    asyncio.run(steps())


def test_networks_take_turns() -> None:
    async def steps() -> None:
        lanes = Lanes(1, 100)
        await lanes.enter(Kind.STRANGE, "crowd")
        crowd, alone = await entered(lanes, Kind.STRANGE, 50, "crowd"), await entered(lanes, Kind.STRANGE, 1, "alone")
        for _ in range(2):
            lanes.leave(Kind.STRANGE)
            await asyncio.sleep(0)
        assert (inside(crowd), inside(alone)) == (1, 1)
        await cleared([*crowd, *alone])

    asyncio.run(steps())


def test_where_too_many_wait_the_longest_queue_gives_way() -> None:
    async def steps() -> None:
        lanes = Lanes(1, 10)
        await lanes.enter(Kind.STRANGE, "crowd")
        crowd = await entered(lanes, Kind.STRANGE, 10, "crowd")
        with pytest.raises(FullError):
            await lanes.enter(Kind.STRANGE, "crowd")
        alone = await entered(lanes, Kind.STRANGE, 1, "alone")
        await asyncio.sleep(0)
        assert not alone[0].done()
        with pytest.raises(FullError):
            await crowd[-1]
        await cleared([*crowd, *alone])

    asyncio.run(steps())


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_lost_whoever_comes_and_goes(seed: int) -> None:
    """Random arrivals, leaves and cancellations, also in the very moment in which somebody is let in."""

    async def steps() -> None:
        chance, slots = random.Random(seed), 8
        lanes, under_way = Lanes(slots, 12), Counter[Kind]()

        async def visit(kind: Kind) -> None:
            await lanes.enter(kind, f"n{chance.randrange(4)}")
            under_way[kind] += 1
            assert under_way.total() <= slots
            try:
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
            finally:
                under_way[kind] -= 1
                lanes.leave(kind)

        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(visit(chance.choice(list(Kind)))))
            if chance.random() < 0.5:
                chance.choice(tasks).cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [one for one in ended if isinstance(one, Exception) and not isinstance(one, FullError)]
        assert not wrong
        assert sum(one is None for one in ended) > 0
        after = await entered(lanes, Kind.KNOWN, slots)
        assert inside(after) == slots - 2, "as many as at the beginning"
        await cleared(after)

    asyncio.run(steps())
