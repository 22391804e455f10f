"""Buckets of tokens and money in memory and on a real Redis: the same numbers, and nothing used goes uncounted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StateError
from gateway.state.memory import MemoryState
from gateway.state.operations import LARGEST_AMOUNT, Batch, Count, Limit, Pace, Sight, Take, Unit, Window
from gateway.state.redis import RedisState
from gateway.state.wire import read
from gateway.values import SECOND
from tests.state.conftest import Server, with_state

START = 1_793_500_000 * SECOND
PERIOD = 8 * SECOND
KEY = ("a",)
MOST = 30
Step = tuple[int, int, int, list[tuple[int, int, int]]]

moments = st.sampled_from([0, 1, SECOND, PERIOD // 2, PERIOD, PERIOD + SECOND, 2 * PERIOD])
told = st.tuples(st.integers(0, 5), st.integers(-40, 40), moments)
steps = st.lists(
    st.tuples(moments, st.sampled_from([0, 0, SECOND, PERIOD, 2 * PERIOD]), st.integers(0, 20), st.lists(told, max_size=2))
)


@pytest.mark.parametrize("pace", list(Pace))
@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_a_bucket_is_the_same_in_redis(shared_redis: Server, pace: Pace, steps: list[Step]) -> None:
    """One counter: taken, corrected soon or late by less or more than was held, late itself. Every reply is equal."""
    limit = Limit("one", MOST, PERIOD // SECOND, pace, unit=Unit.TOKENS)

    async def use(state: RedisState) -> None:
        memory, now, taken = MemoryState(), START, list[tuple[Take, int]]()
        for gap, late, cost, settled in steps:
            now += gap
            for which, change, after in settled:
                if which < len(taken):
                    take, at = taken.pop(which)
                    back = Take(limit, KEY, min(change, take.cost))
                    batch = Batch(at, returns=[(back, at)], over=max(at, now) + after)
                    assert await state.apply(batch) == memory.apply(batch), batch
            batch = Batch(now - late, takes=[Take(limit, KEY, cost)])
            reply = memory.apply(batch)
            assert await state.apply(batch) == reply, batch
            if reply.rooms[0].allowed:
                taken.append((batch.takes[0], batch.at))

    with_state(shared_redis, use)


@pytest.mark.parametrize("pace", list(Pace))
@given(steps=st.lists(st.tuples(moments, st.integers(1, 20), st.integers(1, 40)), min_size=1, max_size=30))
def test_what_was_used_beyond_is_held_from_the_moment_it_is_told(pace: Pace, steps: list[tuple[int, int, int]]) -> None:
    """One request at a time, each told when the slice of its take has left the window."""
    memory, now, lasting = MemoryState(), START, 2 * PERIOD
    limit = Limit("one", MOST, PERIOD // SECOND, pace, unit=Unit.TOKENS)
    for gap, cost, beyond in steps:
        now += gap
        if memory.apply(Batch(now, takes=[Take(limit, KEY, cost)])).rooms[0].allowed:
            memory.apply(Batch(now, returns=[(Take(limit, KEY, -beyond), now)], over=now + lasting))
            now += lasting
            assert memory.apply(Batch(now, takes=[Take(limit, KEY, 0)])).rooms[0].remaining == max(0, MOST - beyond)


@pytest.mark.parametrize("kind", [Count.SUM, Count.QUANTILE])
def test_a_huge_number_leaves_the_key_readable(redis_server: Server, kind: Count) -> None:
    window = Window(kind, kind, PERIOD, rank=500_000)

    async def use(state: RedisState) -> list[object]:
        batches = [Batch(START + n, [Sight(window, KEY, value)]) for n, value in enumerate([10**400, 10**400, 5])]
        found = [(await state.apply(batch)).readings for batch in batches]
        memory = MemoryState()
        assert found == [memory.apply(batch).readings for batch in batches]
        return found[-1]  # type: ignore[return-value]

    (reading,) = with_state(redis_server, use)
    assert isinstance(reading, int)
    assert LARGEST_AMOUNT * 127 // 128 <= reading <= LARGEST_AMOUNT


@pytest.mark.parametrize("signs", [(1, 1, -1, -1), (1, -1, 1, 1), (-1, -1, -1, 1)])
def test_sums_of_huge_numbers_that_cancel_out_are_exact(redis_server: Server, signs: tuple[int, ...]) -> None:
    window = Window("sum", Count.SUM, PERIOD)
    seen = [Batch(START + n * SECOND, [Sight(window, KEY, sign * LARGEST_AMOUNT)]) for n, sign in enumerate((*signs, 1))]
    seen.append(Batch(START + 5 * SECOND, [Sight(window, KEY, 3)]))

    async def use(state: RedisState) -> list[object]:
        return [(await state.apply(batch)).readings[0] for batch in seen]

    memory = MemoryState()
    assert with_state(redis_server, use) == [memory.apply(batch).readings[0] for batch in seen]


def test_a_sum_that_overflowed_once_reads_again(redis_server: Server) -> None:
    window = Window("sum", Count.SUM, PERIOD)
    redis_server.command("SET", "{odd}:w/sum/a", f"{window.slice_of(START)} inf 0 0 0 0 0 0 0")

    async def use(state: RedisState) -> object:
        return (await state.apply(Batch(START, [Sight(window, KEY, 1)]))).readings[0]

    assert isinstance(with_state(redis_server, use, prefix="odd"), int)


def test_an_answer_that_cannot_be_read_is_a_state_error(redis_server: Server) -> None:
    take, other = (Batch(START, takes=[Take(Limit("one", 5, 8), (key,))]) for key in "ab")

    async def use(state: RedisState) -> None:
        await state.apply(take)
        (name,) = redis_server.command("KEYS", "{odd}:*").decode().split("\r\n")[2::2]
        redis_server.command("SET", name, "-inf 9e99")
        with pytest.raises(StateError) as told:
            await state.apply(take)
        assert str(told.value) == f"Redis at {redis_server.where} gave an answer that cannot be read"
        assert state.health()["problem"] == str(told.value)
        assert (await state.apply(other)).rooms[0].remaining == 4
        assert state.health()["problem"] == ""

    with_state(redis_server, use, prefix="odd")


@pytest.mark.parametrize("answer", [b"", b"1", b"1 2 3", b"1 x", b"1 inf"])
def test_only_as_many_whole_numbers_as_were_asked_for_are_an_answer(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"numbers|invalid literal"):
        read(Batch(START, [Sight(Window("sum", Count.SUM, PERIOD), KEY, None)]), answer)
