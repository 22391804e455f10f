"""Leases renewed while their exchanges are under way: when, in which batches, and alike in memory and on a real Redis."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gateway.facts import Answer
from gateway.gate import Gate
from gateway.state.held import MOST, Held
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Limit, Take, Unit
from gateway.state.redis import RedisState
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy
from tests.state.conftest import Server, with_state

LONG = Limit("long", 2, 600, unit=Unit.CONCURRENT)
SHORT = Limit("short", 2, 8, unit=Unit.CONCURRENT)
REQUESTS = Take(Limit("requests", 2, 8), ("a",))
PACK = """
pack: p
version: 1
language: 1
limits:
  - {id: p.slots, per: [account.id], limit: 1 concurrent, lease: 10s, on_missing: skip, mode: enforce}
"""


class Holder:
    """Whoever is under way."""


def lease(owner: str, limit: Limit = SHORT) -> Take:
    return Take(limit, ("a",), owner=owner)


def owners(held: Held, at: int) -> list[str]:
    return [take.owner for batch in held.due(at) for take, _ in batch.returns]


def test_each_is_renewed_whenever_a_quarter_of_it_is_over() -> None:
    held, holder = Held(), Holder()
    assert held.begin("none", holder, [REQUESTS], START) == 0
    assert held.pause == 0
    assert held.begin("x", holder, [REQUESTS, lease("x")], START) == 2 * SECOND
    assert held.begin("y", holder, [lease("y", LONG)], START) == 60 * SECOND, "a look a minute at least"
    assert held.pause == 2 * SECOND
    assert owners(held, START + 2 * SECOND - 1) == []
    (batch,) = held.due(START + 2 * SECOND)
    assert [(take.owner, take.cost, at) for take, at in batch.returns] == [("x", -1, START + 2 * SECOND)]
    assert owners(held, START + 3 * SECOND) == ["x"], "as long as no state has taken it"
    held.renewed(batch)
    assert owners(held, START + 3 * SECOND) == []
    assert owners(held, START + 150 * SECOND) == ["x", "y"]


def test_what_is_over_or_forgotten_is_not_renewed() -> None:
    held, holder, dropped = Held(), Holder(), Holder()
    held.begin("over", holder, [lease("over")], START)
    held.begin("dropped", dropped, [lease("dropped")], START)
    held.begin("stays", holder, [lease("stays")], START)
    held.end("over")
    del dropped
    gc.collect()
    assert owners(held, START + 8 * SECOND) == ["stays"]
    assert len(held) == 1


def test_what_ends_between_two_batches_is_not_renewed_by_the_second() -> None:
    held, holder = Held(), Holder()
    for number in range(MOST + 2):
        held.begin(str(number), holder, [lease(str(number))], START)
    batches = held.due(START + 8 * SECOND)
    assert len(next(batches).returns) == MOST
    held.end(str(MOST))
    assert [take.owner for take, _ in next(batches).returns] == [str(MOST + 1)]


def test_memory_and_redis_renew_alike(redis_server: Server) -> None:
    def batches() -> list[Batch]:
        one = Limit("one", 1, 10, unit=Unit.CONCURRENT)
        first, second = Take(one, ("a",), owner="x"), Take(one, ("a",), owner="y")
        renewed = Take(one, ("a",), -1, "x")
        return [
            Batch(START, takes=[first]),
            Batch(START + 8 * SECOND, returns=[(renewed, START + 8 * SECOND)]),
            Batch(START + 17 * SECOND, takes=[second]),
            Batch(START + 18 * SECOND, takes=[second]),
            Batch(START + 19 * SECOND, returns=[(renewed, START + 19 * SECOND)]),
            Batch(START + 20 * SECOND, returns=[(second, START)], takes=[Take(one, ("a",), owner="z")]),
            Batch(START + 21 * SECOND, returns=[(first, START)], takes=[Take(one, ("a",), owner="z")]),
        ]

    async def use(state: RedisState) -> list[Any]:
        return [(await state.apply(batch)).rooms for batch in batches()]

    memory = MemoryState()
    expected = [memory.apply(batch).rooms for batch in batches()]
    assert [room.allowed for rooms in expected for room in rooms] == [True, False, True, False, True]
    assert with_state(redis_server, use) == expected


def test_slots_come_back_that_a_redis_forgot_which_was_started_anew(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        gate = Gate(policy(PACK), CATALOGUE, state=state)
        gate.holding = lambda within: None
        lasting = await gate.judge_remote(facts({"account.id": "a"}))
        own_redis.kill()
        assert await gate.renew_remote(START + 3 * SECOND) == 10 * SECOND // 4, "to be tried again"
        assert gate.asking.failures == 1
        own_redis.start()
        await gate.renew_remote(START + 6 * SECOND)
        refused = await gate.judge_remote(facts({"account.id": "a"}, START + 7 * SECOND))
        assert refused.outcome.refusal is not None
        assert refused.outcome.refusal.status == 429
        await gate.settle_remote(refused, Answer(429))
        await gate.settle_remote(lasting, Answer(200))
        assert await gate.renew_remote(START + 9 * SECOND) == 0
        free = await gate.judge_remote(facts({"account.id": "a"}, START + 9 * SECOND))
        assert free.outcome.refusal is None

    with_state(own_redis, use, timeout=1.0)


@pytest.mark.parametrize("late", [False, True])
def test_a_renewal_that_was_lost_takes_no_slot_after_its_exchange(own_redis: Server, late: bool) -> None:
    """A stalled Redis does the lost renewal when it wakes, perhaps after the exchange has given its slot back."""

    async def use(state: RedisState) -> None:
        gate = Gate(policy(PACK), CATALOGUE, state=state)
        gate.holding = lambda within: None
        lasting = await gate.judge_remote(facts({"account.id": "a"}))
        own_redis.stall()
        await gate.renew_remote(START + 3 * SECOND)
        if late:
            await gate.settle_remote(lasting, Answer(200))
        own_redis.resume()
        await asyncio.sleep(0.1)
        if not late:
            await gate.settle_remote(lasting, Answer(200))
        for second in (4, 5):
            other = await gate.judge_remote(facts({"account.id": "b"}, START + second * SECOND))
            await gate.settle_remote(other, Answer(200))
        free = await gate.judge_remote(facts({"account.id": "a"}, START + 6 * SECOND))
        assert free.outcome.refusal is None

    with_state(own_redis, use, timeout=0.3)
