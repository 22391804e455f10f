"""Leases of exchanges whose judging was cut short: on a real Redis that stalls and dies, none is held by nobody."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Limit, Reply, Take, Unit
from gateway.state.owed import MOST, RIDERS, Owed
from gateway.state.redis import RedisState
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy
from tests.state.conftest import PATIENT, Server, with_state

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.slow
    title: Every request
    family: volume
    owner: tests
    when: {account.id: busy}
    then: {action: throttle, limit: 5/minute, per: [account.id]}
    mode: enforce
limits:
  - {id: p.slots, per: [account.id], limit: 2 concurrent, lease: 10m, on_missing: skip, mode: enforce}
  - {id: p.requests, per: [account.id], limit: 50/minute, on_missing: skip, mode: enforce}
"""


def sent(account: str = "acme") -> Facts:
    return facts({"account.id": account})


def gate_on(state: RedisState) -> Gate:
    return Gate(policy(PACK), CATALOGUE, state=state)


def held(server: Server, account: str = "acme") -> int:
    """The slots that an account holds, as Redis has them."""
    return sum(
        int(server.command("ZCARD", name).strip().removeprefix(b":"))
        for name in server.command("KEYS", f"*/live/concurrent/*/{account}").decode().split("\r\n")[2::2]
    )


async def until(server: Server, slots: int) -> None:
    """Wait for Redis to work off what lay in its sockets."""
    for _ in range(200):
        if held(server) == slots:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{held(server)} slots held, not {slots}")


async def rested(state: RedisState) -> None:
    """Once the breaker lets one find out whether Redis is back."""
    while not state.breaker.free:  # noqa: ASYNC110 - nothing tells when it has rested
        await asyncio.sleep(0.02)


async def statuses(gate: Gate, *accounts: str) -> list[int]:
    found = []
    for account in accounts:
        judgement = await gate.judge_remote(sent(account))
        await gate.settle_remote(judgement, Answer())
        found.append(judgement.outcome.refusal.status if judgement.outcome.refusal else 200)
    return found


def test_a_lease_whose_reply_was_lost_is_given_back_when_the_exchange_settles(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        assert await statuses(gate, "other") == [200]
        own_redis.stall()
        judgements = await asyncio.gather(*(gate.judge_remote(sent()) for _ in range(2)))
        assert [judgement.outcome.refusal.status for judgement in judgements if judgement.outcome.refusal] == [503, 503]
        own_redis.resume()
        await until(own_redis, 2)
        for judgement in judgements:
            await gate.settle_remote(judgement, Answer())
        assert held(own_redis) == 0
        assert await statuses(gate, "acme", "acme") == [200, 200]

    with_state(own_redis, use, timeout=0.3)


def test_a_lease_is_given_back_later_where_settling_found_no_redis_either(own_redis: Server) -> None:
    """So it goes in a process: the refusal is answered and settled at once, while Redis still stalls."""

    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        assert await statuses(gate, "other") == [200]
        own_redis.stall()
        judgements = await asyncio.gather(*(gate.judge_remote(sent()) for _ in range(2)))
        own_redis.resume()
        await until(own_redis, 2)
        own_redis.stall()
        for judgement in judgements:
            await gate.settle_remote(judgement, Answer())
        assert all(own_redis.where in judgement.settle_error for judgement in judgements)
        own_redis.resume()
        await rested(state)
        assert await statuses(gate, "other", "acme", "acme") == [200, 200, 200]
        assert held(own_redis) == 0

    with_state(own_redis, use, timeout=0.3)


def test_the_end_of_an_exchange_that_redis_did_not_hear_of_frees_its_slot_later(own_redis: Server) -> None:
    """While Redis is known to be down, batches that wait for the one that finds out are never sent."""
    accounts = ("a", "b", "c", "d")

    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        judgements = [await gate.judge_remote(sent(account)) for account in accounts]
        own_redis.stall()
        assert await statuses(gate, "other") == [503]
        await asyncio.gather(*(gate.settle_remote(judgement, Answer()) for judgement in judgements))
        own_redis.resume()
        await rested(state)
        assert await statuses(gate, "other", "other") == [200, 200]
        assert [held(own_redis, account) for account in accounts] == [0, 0, 0, 0]

    with_state(own_redis, use, timeout=0.3)


def test_a_redis_that_died_with_its_leases_is_owed_nothing_that_hurts(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        judgement = await gate.judge_remote(sent())
        own_redis.kill()
        assert await statuses(gate, "acme", "acme") == [503, 503]
        await gate.settle_remote(judgement, Answer())
        own_redis.start()
        await rested(state)
        both = [await gate.judge_remote(sent()) for _ in range(2)]
        assert [one.outcome.refusal for one in both] == [None, None]
        assert held(own_redis) == 2
        assert await statuses(gate, "acme") == [429], "what is owed frees no slot of others"

    with_state(own_redis, use, timeout=0.3)


def test_a_caller_that_leaves_while_it_is_judged_holds_no_slot(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        assert await statuses(gate, "other") == [200]
        own_redis.stall()
        judging = asyncio.create_task(gate.judge_remote(sent()))
        await asyncio.sleep(0.1)
        for _ in range(2):
            judging.cancel()
            await asyncio.sleep(0.05)
        own_redis.resume()
        with pytest.raises(asyncio.CancelledError):
            await judging
        await statuses(gate, "other")
        await until(own_redis, 0)
        assert await statuses(gate, "acme", "acme") == [200, 200]

    with_state(own_redis, use, timeout=PATIENT)


class Stalling(RedisState):
    """A state whose Redis stalls before one of its batches is sent."""

    server: Server
    stalls_at = 0
    sent = 0

    async def apply(self, batch: Batch) -> Reply:
        self.sent += 1
        if self.sent == self.stalls_at:
            self.server.stall()
        return await super().apply(batch)


@pytest.mark.parametrize("ends", ["leaves", "fails"])
def test_what_the_first_batch_took_comes_back_when_judging_ends_in_the_second(own_redis: Server, ends: str) -> None:
    async def run() -> None:
        state = Stalling(own_redis.url, timeout=PATIENT if ends == "leaves" else 0.3)
        state.server = own_redis
        gate = gate_on(state)
        first = await gate.judge_remote(sent("busy"))
        await gate.settle_remote(first, Answer())
        state.sent, state.stalls_at = 0, 2
        judging = asyncio.create_task(gate.judge_remote(sent("busy")))
        await asyncio.sleep(0.1)
        if ends == "leaves":
            judging.cancel()
            await asyncio.sleep(0.05)
            own_redis.resume()
            with pytest.raises(asyncio.CancelledError):
                await judging
        else:
            refused = await judging
            assert refused.outcome.refusal is not None
            own_redis.resume()
            await gate.settle_remote(refused, Answer())
        room = {room.limit: room.remaining for room in (await gate.judge_remote(sent("busy"))).outcome.rooms}
        assert (room["p.slots"], room["p.requests"]) == (1, 48), "the one before, and this one"
        await state.close()

    asyncio.run(run())


def test_an_exchange_that_breaks_while_it_is_judged_takes_nothing(redis_server: Server) -> None:
    def breaking() -> Any:
        ticks = iter([0])
        return lambda: next(ticks)

    async def use(state: RedisState) -> None:
        for gate in (
            Gate(policy(PACK), CATALOGUE, state=state, timer=breaking()),
            Gate(policy(PACK), CATALOGUE, timer=breaking()),
        ):
            with pytest.raises(RuntimeError):
                await gate.judge_remote(sent())
            gate.timer = count().__next__
            rooms = {room.limit: room.remaining for room in (await gate.judge_remote(sent())).outcome.rooms}
            assert rooms == {"p.slots": 1, "p.requests": 49}

    with_state(redis_server, use)


# What is owed

SLOT = Limit("slots", 2, 10, unit=Unit.CONCURRENT)
TOKENS = Limit("tokens", 100, 10, unit=Unit.TOKENS)


def returned(*takes: Take) -> Batch:
    return Batch(START, returns=[(take, START) for take in takes])


def test_what_is_owed_can_be_done_twice_and_nothing_else_is() -> None:
    owed, lease, more, less = Owed(), Take(SLOT, ("a",), 1, "o"), Take(TOKENS, ("a",), -5), Take(TOKENS, ("a",), 5)
    renewed = Take(SLOT, ("a",), -1, "p")
    owed.lost(returned(lease, more, less, Take(Limit("r", 1, 10), ("a",)), renewed))
    owed.answered(Batch(START))
    batch = Batch(START + SECOND)
    owed.board(batch)
    assert [take for take, _ in batch.returns] == [lease, more]
    owed.lost(batch)
    owed.answered(Batch(START))
    assert [take for take, _ in owed.board(Batch(START))] == [lease, more], "use beyond is kept until it is heard of"


def test_nothing_that_is_owed_is_sent_while_the_state_does_not_answer() -> None:
    owed, more, sent = Owed(), Take(TOKENS, ("a",), -5), []
    owed.lost(returned(more))
    for _ in range(3):
        batch = Batch(START)
        sent.append(len(owed.board(batch)))
        owed.lost(batch)
    owed.answered(Batch(START))
    assert (sent, len(owed.board(Batch(START))), len(owed)) == ([0, 0, 0], 1, 0)


def test_a_lease_that_is_given_back_with_the_first_answer_is_given_back_once_more() -> None:
    """The lost batch that took it may lie in the sockets of a Redis that stalled, and be done beside the one that frees it."""
    owed, lease, boarded = Owed(), Take(SLOT, ("a",), 1, "o"), []
    owed.lost(Batch(START, takes=[lease]))
    owed.answered(returned(lease))
    for _ in range(2):
        batch = Batch(START)
        boarded.append(len(owed.board(batch)))
        owed.answered(batch)
    assert boarded == [1, 0]


def test_what_is_owed_is_bounded() -> None:
    owed = Owed()
    for number in range(MOST + 5):
        owed.lost(returned(Take(SLOT, ("a",), 1, str(number))))
    assert len(owed) == MOST
    owed.answered(Batch(START))
    assert len(owed.board(Batch(START))) == RIDERS


def test_use_beyond_that_was_not_heard_of_is_counted_on_the_next_batch(own_redis: Server) -> None:
    take = Take(TOKENS, ("a",), 10)

    async def use(state: RedisState) -> None:
        owed = Owed()
        await state.apply(Batch(START, takes=[take]))
        owed.lost(returned(Take(TOKENS, ("a",), -70)))
        owed.answered(Batch(START))
        later = Batch(START + SECOND, takes=[take])
        owed.board(later)
        assert (await state.apply(later)).rooms[0].remaining == 10
        assert MemoryState().apply(later).rooms[0].remaining == 20, "nothing but the surplus and the take, where nothing was"

    with_state(own_redis, use)
