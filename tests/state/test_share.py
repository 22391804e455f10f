"""A process's own share of limits while Redis does not answer: exact, stated, and never more than the limit in all."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.facts import Answer, End, Usage
from gateway.failing import Dependency, Fail, FailModes
from gateway.gate import Gate
from gateway.state.redis import RedisState
from gateway.state.share import Share
from tests.judging import CATALOGUE, facts, policy
from tests.state.conftest import Server, with_state

PACK = """
pack: p
version: 1
language: 1
rules:
  - {id: p.many, title: t, family: volume, owner: o, measures: {n: {count: true, per: [account.id], window: 1h}},
     when: {n: {gte: 1}}, mode: enforce, then: {action: observe}}
limits:
  - {id: p.calls, per: [account.id], limit: 7/hour, on_missing: skip, mode: enforce}
  - {id: p.slots, per: [account.id], limit: 4 concurrent, on_missing: skip, mode: enforce}
  - {id: p.tokens, per: [account.id], limit: 200 tokens/hour, reserve: 20, on_missing: skip, mode: enforce}
"""
ASKED = {"account.id": "a", "request.operation": "chat", "request.model": "m"}


def gate(state: RedisState, replicas: int) -> Gate:
    fail = FailModes(dependencies={Dependency.STATE: Fail.DEGRADE})
    return Gate(policy(PACK), CATALOGUE, state=state, fail=fail, share=Share(replicas))


async def judged(one: Gate, **values: Any) -> Any:
    return await one.judge_remote(facts({**ASKED, **values}))


def used(tokens: int) -> Answer:
    return Answer(status=200, end=End.COMPLETE, usage=Usage(input_tokens=0, output_tokens=tokens))


def test_two_replicas_admit_no_more_than_the_limit_and_say_so(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        both = [gate(state, 2), gate(state, 2)]
        own_redis.kill()
        admitted = 0
        for one in both:
            for _ in range(6):
                judgement = await judged(one)
                outcome = judgement.outcome
                assert judgement.failing == {"state": "degrade"}
                assert own_redis.where in outcome.state_error
                assert {room.limit for room in outcome.rooms} == {"p.calls", "p.slots", "p.tokens"}
                assert [end.verdict for end in outcome.decision.ends] == ["unknown"], "what rules count is unknown"
                assert outcome.refusal is None or outcome.refusal.status == 429
                admitted += outcome.refusal is None
                await one.settle_remote(judgement, used(0))
        assert admitted == 2 * (7 // 2)

    with_state(own_redis, use, timeout=0.5)


@pytest.mark.parametrize("back", [False, True])
def test_what_a_share_gave_comes_back_to_it_and_redis_never_hears_of_it(own_redis: Server, back: bool) -> None:
    async def use(state: RedisState) -> None:
        one = gate(state, 2)
        before = await judged(one)  # taken from Redis
        own_redis.kill()
        first, second = await judged(one), await judged(one)
        third = await judged(one)
        assert [x.outcome.refusal is None for x in (first, second, third)] == [True, True, False], "4 // 2 slots"
        assert third.outcome.refusal.by == ("p.slots",)
        await one.settle_remote(third, used(0))
        if back:
            own_redis.start()
            state.breaker.met(good=True)  # as if it had rested
        for judgement in (first, second, before):
            await one.settle_remote(judgement, used(20))
        assert one.asking.share is not None
        assert (one.asking.owed > 0) is not back, "the slot taken from Redis is owed to Redis"
        if back:
            fresh = await judged(one)
            assert (fresh.outcome.state_error, fresh.failing) == ("", {})
            assert {room.limit: room.remaining for room in fresh.outcome.rooms}["p.slots"] == 3, "Redis counts only its own"
        else:
            assert (await judged(one)).outcome.refusal is None, "both slots of the share are free again"

    with_state(own_redis, use, timeout=0.5)


def test_a_limit_smaller_than_the_replicas_admits_nothing(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        one = gate(state, 8)
        own_redis.kill()
        outcome = (await judged(one)).outcome
        assert outcome.refusal is not None
        assert (outcome.refusal.status, set(outcome.refusal.by)) == (429, {"p.calls", "p.slots"})

    with_state(own_redis, use, timeout=0.5)
