"""How batches travel to Redis: together, in order, once, and as one round trip for a request that is judged and settled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.errors import StateError
from gateway.facts import Answer
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.state.operations import Batch, Count, Limit, Reply, Sight, Take, Unit, Window
from gateway.state.redis import RedisState
from gateway.state.trips import MOST, RIDING
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy
from tests.state.conftest import PATIENT, Server, with_state

WINDOW = Window("w", Count.COUNT, 8 * SECOND)
ONE = Batch(START, [Sight(WINDOW, ("a",), 1)])
LOOK = Batch(START, [Sight(WINDOW, ("a",), None)])
NEVER = 600.0
PACK = """\
pack: p
version: 1
language: 1
rules:
  - id: p.r
    title: t
    family: volume
    owner: t
    measures:
      n: {count: true, per: [account.id], window: 1m}
      failed: {count: true, per: [account.id], where: {response.status: {gte: 400}}, window: 1m}
    when: {any: [{n: {gt: 1000}}, {failed: {gt: 1000}}]}
    then: {action: observe}
    mode: enforce
limits:
  - {id: p.slots, per: [account.id], limit: 1 concurrent, on_missing: skip, mode: enforce}
"""


class Relay:
    """Stands between a state and Redis, and counts what arrives at once from the state's side."""

    def __init__(self, server: Server) -> None:
        self.server, self.sent, self.ended = server, 0, list[asyncio.Event]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ended.append(ended := asyncio.Event())
        back, forth = await asyncio.open_connection("127.0.0.1", self.server.port)
        answers = asyncio.ensure_future(self._pass(back, writer))
        while part := await reader.read(1_000_000):
            self.sent += 1
            forth.write(part)
        forth.close()
        await answers
        writer.close()
        await asyncio.gather(forth.wait_closed(), writer.wait_closed())
        ended.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1_000_000):
            writer.write(part)


def relayed(server: Server, use: Callable[[RedisState, Relay], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        relay = Relay(server)
        async with await asyncio.start_server(relay.serve, "127.0.0.1", 0, limit=2_000_000) as listening:
            port = listening.sockets[0].getsockname()[1]
            state = RedisState(f"redis://127.0.0.1:{port}/0", timeout=PATIENT, prefix="relayed", **options)
            try:
                return await use(state, relay)
            finally:
                await state.close()
                for ended in relay.ended:
                    await ended.wait()

    return asyncio.run(run())


def counted(reply: Reply) -> int:
    (reading,) = reply.readings
    assert isinstance(reading, int)
    return reading


async def soon(*tasks: asyncio.Task[Any]) -> None:
    """Let tasks come as far as they get without an answer."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def test_requests_judged_and_settled_one_after_the_other_cost_one_round_trip_each(redis_server: Server) -> None:
    """What settles takes back the only slot, so each is admitted only if the one before was settled first."""
    often, settled = 25, list[str]()

    def sink(judgement: Judgement, answer: Answer) -> None:
        assert judgement.settle_error == ""
        settled.append(judgement.outcome.id)

    async def use(state: RedisState, relay: Relay) -> tuple[int, int]:
        gate = Gate(policy(PACK), CATALOGUE, state=state, sink=sink)
        await state.apply(LOOK)
        before, trips, judged, tasks = relay.sent, state.trips, [], []
        for number in range(often):
            judgement = await gate.judge_remote(facts({"account.id": "acme"}, START + number))
            assert judgement.outcome.refusal is None
            judged.append(judgement.outcome.id)
            tasks.append(asyncio.create_task(gate.settle_remote(judgement, Answer(429))))
            await soon(tasks[-1])
        await state.close()  # the last one has nothing to ride on
        await asyncio.gather(*tasks)
        assert settled == judged
        assert len(relay.ended) == 1
        return relay.sent - before, state.trips - trips

    assert relayed(redis_server, use, quiet=NEVER) == (often + 1, often + 1)


def test_requests_under_way_at_once_share_a_round_trip(redis_server: Server) -> None:
    async def use(state: RedisState, relay: Relay) -> list[int]:
        await state.apply(LOOK)
        before = relay.sent
        replies = await asyncio.gather(*(state.apply(ONE) for _ in range(50)))
        assert relay.sent - before == 1
        return [counted(reply) for reply in replies]

    assert relayed(redis_server, use) == list(range(1, 51))


def test_what_has_time_leaves_alone_when_nothing_else_does(redis_server: Server) -> None:
    async def use(state: RedisState) -> int:
        await state.later(ONE)
        return counted(await state.apply(LOOK))

    assert with_state(redis_server, use) == 1


def test_what_has_time_leaves_with_the_next_and_before_it(redis_server: Server) -> None:
    async def use(state: RedisState, relay: Relay) -> None:
        await state.apply(LOOK)
        before = relay.sent
        waiting = [asyncio.create_task(state.later(ONE)) for _ in range(3)]
        await soon(*waiting)
        assert counted(await state.apply(LOOK)) == 3
        assert [counted(await task) for task in waiting] == [1, 2, 3]
        assert relay.sent - before == 1

    relayed(redis_server, use, quiet=NEVER)


def test_when_many_have_time_they_leave_at_once(redis_server: Server) -> None:
    async def use(state: RedisState, relay: Relay) -> list[int]:
        await state.apply(LOOK)
        before = relay.sent
        replies = await asyncio.gather(*(state.later(ONE) for _ in range(RIDING)))
        assert relay.sent - before == 1
        return [counted(reply) for reply in replies]

    assert relayed(redis_server, use, quiet=NEVER) == list(range(1, RIDING + 1))


def test_closing_sends_what_waits_and_waits_for_what_is_under_way(redis_server: Server) -> None:
    async def use(state: RedisState, relay: Relay) -> list[int]:
        tasks = [asyncio.create_task(ask(ONE)) for ask in (state.apply, state.later, state.later)]
        await soon(*tasks)
        await state.close()
        return [counted(reply) for reply in await asyncio.gather(*tasks)]

    assert relayed(redis_server, use, quiet=NEVER) == [1, 2, 3]


def test_everything_is_done_once_however_it_is_mixed(redis_server: Server) -> None:
    """Four hundred batches at odd moments, with and without time, while Redis forgets the script again and again."""

    async def use(state: RedisState) -> list[int]:
        async def one(number: int) -> int:
            await asyncio.sleep(number % 17 / 1_000)
            if number % 40 == 0:
                redis_server.command("SCRIPT", "FLUSH")
            return counted(await (state.later if number % 3 else state.apply)(ONE))

        return sorted(await asyncio.gather(*(one(number) for number in range(400))))

    assert with_state(redis_server, use) == list(range(1, 401))


def test_a_batch_that_redis_refuses_does_not_harm_those_it_travels_with(redis_server: Server) -> None:
    async def use(state: RedisState) -> None:
        redis_server.command("LPUSH", "{mixed}:w/w/broken", "not a counter")
        broken = Batch(START, [Sight(WINDOW, ("broken",), 1)])
        before, refused, after = await asyncio.gather(
            state.apply(ONE), state.apply(broken), state.apply(ONE), return_exceptions=True
        )
        assert isinstance(refused, StateError)
        assert [counted(reply) for reply in (before, after) if isinstance(reply, Reply)] == [1, 2]
        assert (await state.apply(LOOK)).readings == [2]

    with_state(redis_server, use, prefix="mixed")


def test_a_connection_that_redis_ended_while_it_was_idle_is_opened_anew(redis_server: Server) -> None:
    async def use(state: RedisState) -> int:
        await state.apply(ONE)
        redis_server.command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)
        return counted(await state.apply(ONE))

    assert with_state(redis_server, use) == 2


def test_a_trip_that_fails_fails_what_is_under_way_behind_it_and_all_are_told_why(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        await state.apply(ONE)
        own_redis.stall()
        first = asyncio.create_task(state.apply(ONE))
        await asyncio.sleep(0.2)
        found = await asyncio.gather(first, *(state.apply(ONE) for _ in range(5)), return_exceptions=True)
        assert {str(one) for one in found} == {f"Redis at {own_redis.where} did not answer within 0.3 s"}
        own_redis.resume()
        assert counted(await state.apply(LOOK)) <= 7, "what was sent may have been counted, once"

    with_state(own_redis, use, timeout=0.3)


def test_what_was_not_sent_while_redis_was_down_is_never_counted(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        await state.apply(ONE)
        own_redis.stall()
        for _ in range(2):
            found = await asyncio.gather(*(state.apply(ONE) for _ in range(20)), return_exceptions=True)
            assert all(isinstance(one, StateError) for one in found)
        own_redis.resume()
        for _ in range(100):
            if (reading := counted(await state.apply(LOOK))) == 1 + 20 + 1:  # what left before it was known, and the one probe
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{reading} were counted")

    with_state(own_redis, use, timeout=0.3)


def test_what_waits_is_bounded(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        own_redis.stall()
        with pytest.raises(StateError):
            await state.apply(ONE)
        tasks = [asyncio.create_task(state.later(ONE)) for _ in range(MOST + 20)]
        found = [str(one) for one in await asyncio.gather(*tasks, return_exceptions=True)]
        full = f"Redis at {own_redis.where}: {MOST} batches wait for it already"
        assert 0 < found.count(full) <= 20
        own_redis.resume()
        assert isinstance((await state.apply(LOOK)).readings[0], int)

    with_state(own_redis, use, timeout=0.5)


def test_a_caller_that_leaves_is_nobodys_loss(redis_server: Server) -> None:
    """A lease that a batch which has time gives back is given back, whoever asked for it."""
    slot = Take(Limit("slots", 1, 10, unit=Unit.CONCURRENT), ("a",), 1, "o")

    async def use(state: RedisState) -> list[bool]:
        taken = (await state.apply(Batch(START, takes=[slot]))).rooms[0].allowed
        leaving = asyncio.create_task(state.later(Batch(START, returns=[(slot, START)])))
        await soon(leaving)
        leaving.cancel()
        again = (await state.apply(Batch(START, takes=[slot]))).rooms[0].allowed
        return [taken, again]

    assert with_state(redis_server, use) == [True, True]
