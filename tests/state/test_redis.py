"""Shared state on a real Redis: the same answers as memory, one round trip, and what happens when it does not answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Verdict
from gateway.errors import StateError
from gateway.facts import Answer, Facts
from gateway.failing import Dependency, Fail, FailModes
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Count, Limit, Pace, Reply, Sight, Take, Unit, Window
from gateway.state.redis import RedisState
from gateway.values import SECOND, AtLeast
from tests.judging import CATALOGUE, facts, policy
from tests.state.conftest import PATIENT, Server, with_state

START = 1_793_500_000 * SECOND
LENGTH = 8 * SECOND
WINDOW = Window("count", Count.COUNT, LENGTH)
LOOK = Batch(START, [Sight(WINDOW, ("a",), 1)])
PACK = """
pack: shared
version: 1
language: 1
rules:
  - id: shared.burst
    title: More than two in a minute
    family: volume
    owner: tests
    measures: {requests: {count: true, per: [account.id], window: 1m}}
    when: {requests: {gt: 2}}
    then: {action: throttle, limit: 1/minute, per: [account.id]}
    mode: enforce
limits:
  - {id: plan, per: [account.id], limit: 50/minute, on_missing: skip, mode: enforce}
"""


def answered(server: Server, *batches: Batch, **options: Any) -> list[Reply]:
    async def use(state: RedisState) -> list[Reply]:
        return [await state.apply(batch) for batch in batches]

    return with_state(server, use, **options)  # type: ignore[no-any-return]


# The same as memory

windows = [
    Window(f"{kind} {length} {cap}", kind, length * SECOND, cap, 700_000)
    for kind in Count
    for length in (8, 64)
    for cap in ((2, 1_000) if kind in (Count.DISTINCT, Count.TOP_SHARE) else (1_000,))
]
awkward = st.one_of(
    st.sampled_from(["", "a", "b", "a/b", "a%2Fb", "newest", "full", "others", ":", "-", "= 1", "\ud800", "x" * 300]),
    st.text(max_size=3),
)
keys = st.tuples(st.sampled_from(["a", "b", "a/b", "\ud800", "k" * 300]))
limits = st.builds(
    Limit, st.sampled_from(["one", "two"]), st.integers(0, 3), st.sampled_from([8, 10]), st.sampled_from(Pace), st.just(False)
)


huge = st.sampled_from([2**53, -(2**53), 10**400, -(10**400)])


def values(window: Window) -> st.SearchStrategy[int | str | None]:
    if window.kind is Count.COUNT:
        return st.sampled_from([1, 1, None])
    if window.kind is Count.QUANTILE:
        return st.one_of(st.none(), st.integers(-5, 600), st.integers(0, 2**52), huge)
    if window.kind is Count.SUM:
        return st.one_of(st.none(), st.integers(-5, 2**48), st.integers(-(2**53), 2**53), huge)
    return st.one_of(st.none(), awkward)


held = st.builds(
    Take,
    st.builds(
        Limit, st.sampled_from(["one", "two"]), st.integers(0, 30), st.sampled_from([8, 10]), st.sampled_from(Pace),
        st.just(False), st.sampled_from([Unit.TOKENS, Unit.USD]),
    ),
    keys, st.integers(0, 20),
)  # fmt: skip
slots = st.builds(
    Limit, st.just("slots"), st.integers(0, 3), st.just(10), st.just(Pace.FIXED), st.just(False), st.just(Unit.CONCURRENT)
)
leases = st.builds(Take, slots, keys, st.just(1), st.uuids().map(str))
sights = st.sampled_from(windows).flatmap(lambda window: st.builds(Sight, st.just(window), keys, values(window)))
takes = st.lists(st.one_of(st.builds(Take, limits, keys), held, leases), max_size=4)
steps = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0, 1, SECOND, 3 * SECOND, LENGTH, 10 * SECOND, 70 * SECOND]), st.integers(0, SECOND)),
        st.sampled_from([0, 0, 0, 1, SECOND, 7 * SECOND]),
        st.lists(sights, max_size=4),
        takes,
        takes,
        st.integers(0, 3),
        st.integers(-40, 20),
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(steps=steps)
def test_redis_answers_what_memory_answers(
    shared_redis: Server, steps: list[tuple[int, int, list[Sight], list[Take], list[Take], int, int]]
) -> None:
    """Windows and limits, late events, caps, returns and awkward texts: every reply is equal."""

    async def use(state: RedisState) -> None:
        memory, now, taken = MemoryState(), START, []
        for gap, late, sights, takes, shadow, give, less in steps:
            now += gap
            shadow = [replace(take, limit=replace(take.limit, shadow=True)) for take in shadow]
            returns = [(_corrected(take, less), at) for take, at in (taken.pop() for _ in range(min(give, len(taken))))]
            batch = Batch(now - late, sights, takes, shadow, returns)
            reply = memory.apply(batch)
            assert await state.apply(batch) == reply, batch
            whole = all(room.allowed for room in reply.rooms)
            one_by_one = [take for take, room in zip(shadow, reply.shadow_rooms, strict=True) if room.allowed]
            taken += [(take, batch.at) for take in [*(takes if whole else []), *one_by_one]]

    with_state(shared_redis, use)


def _corrected(take: Take, less: int) -> Take:
    """What settling gives back: all of a request, a part of what was held back, or more than that."""
    return replace(take, cost=take.cost + less) if take.limit.unit in (Unit.TOKENS, Unit.USD) else take


@pytest.mark.parametrize("at", [0, 1, 2**52])
def test_the_clock_is_the_batchs_to_the_microsecond(redis_server: Server, at: int) -> None:
    for pace in Pace:
        batches = [Batch(moment, takes=[Take(Limit("one", 1, 10, pace), ("a",))]) for moment in (at, at, at + 10 * SECOND)]
        replies = answered(redis_server, *batches)
        memory = MemoryState()
        assert replies == [memory.apply(batch) for batch in batches]
        assert [reply.rooms[0].allowed for reply in replies] == [True, False, True]


def test_a_reply_has_the_types_of_the_vocabulary(redis_server: Server) -> None:
    distinct, share = Window("d", Count.DISTINCT, LENGTH, 1), Window("t", Count.TOP_SHARE, LENGTH)
    seen = [Sight(distinct, ("a",), "x"), Sight(distinct, ("a",), "y"), Sight(share, ("a",), None), Sight(share, ("a",), "x")]
    assert answered(redis_server, Batch(START, seen))[0].readings == [1, AtLeast(1), None, 1.0]


def test_prefixes_keep_two_installations_apart(redis_server: Server) -> None:
    assert [answered(redis_server, LOOK, prefix=prefix)[0].readings for prefix in ("a", "b", "a")] == [[1], [1], [2]]


def test_everything_that_is_written_expires_after_twice_its_window(redis_server: Server) -> None:
    both = [
        Take(Limit("l", 5, 8, pace, unit=unit), ("a",), 1, "o")
        for pace in Pace
        for unit in Unit
        if pace is Pace.FIXED or unit is not Unit.CONCURRENT
    ]
    shadow = [Take(Limit("s", 5, 8, pace, shadow=True), ("a",)) for pace in Pace]
    seen = [Sight(Window(kind, kind, LENGTH, 1), ("a",), value) for kind in Count for value in (1, 2, None)]
    answered(redis_server, Batch(START, seen, both, shadow), prefix="p")
    names = redis_server.command("KEYS", "*").decode().split("\r\n")[2::2]
    assert len(names) == 1 + 1 + 1 + 3 + 3 + len(both) + 2
    for name in names:
        left = int(redis_server.command("PTTL", name).strip().removeprefix(b":"))
        assert 2 * 8_000 < left <= 2 * 8_000 + 60_000, name


# One round trip


def test_a_batch_is_one_command(redis_server: Server) -> None:
    async def use(state: RedisState) -> list[str]:
        await state.apply(LOOK)
        with redis_server.watched() as commands:
            for moment in range(3):
                many = [Sight(window, ("a",), 1) for window in windows]
                await state.apply(Batch(START + moment, many, [Take(Limit("l", 5, 8), ("a",))]))
        return commands

    assert with_state(redis_server, use) == ["evalsha"] * 3


def test_a_script_that_redis_has_forgotten_is_loaded_again(redis_server: Server) -> None:
    async def use(state: RedisState) -> list[Reply]:
        first = await state.apply(LOOK)
        redis_server.command("SCRIPT", "FLUSH")
        return [first, await state.apply(LOOK)]

    assert [reply.readings for reply in with_state(redis_server, use)] == [[1], [2]]


# When Redis does not answer


def test_a_stalled_redis_is_an_error_within_the_time_out_and_recovery_is_automatic(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        await state.apply(LOOK)
        own_redis.stall()
        for _ in range(2):
            begun = time.monotonic()
            results = await asyncio.gather(*(state.apply(LOOK) for _ in range(100)), return_exceptions=True)
            assert time.monotonic() - begun < 1
            assert {str(result) for result in results} == {f"Redis at {own_redis.where} did not answer within 0.5 s"}
        assert state.health() == {"kind": "redis", "where": own_redis.where, "problem": str(results[0])}
        own_redis.resume()
        assert isinstance((await state.apply(LOOK)).readings[0], int)
        assert state.health()["problem"] == ""

    with_state(own_redis, use, timeout=0.5)


def test_a_redis_that_is_gone_is_an_error_at_once_and_recovery_is_automatic(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        await asyncio.gather(*(state.apply(LOOK) for _ in range(40)))
        own_redis.kill()
        for _ in range(3):
            with pytest.raises(StateError, match=f"^Redis at {own_redis.where}: "):
                await state.apply(LOOK)
        own_redis.start()
        with pytest.raises(StateError, match="asked again in"):  # three failures in a row: it is left alone for a while
            await state.apply(LOOK)
        await asyncio.sleep(state.breaker.wait)
        replies = await asyncio.gather(*(state.apply(LOOK) for _ in range(40)))
        assert sorted(reply.readings[0] for reply in replies) == list(range(1, 41))
        assert state.health()["problem"] == ""

    with_state(own_redis, use, timeout=1)


def test_an_empty_batch_finds_out_whether_redis_answers(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        own_redis.kill()
        with pytest.raises(StateError):
            await state.apply(Batch(0))
        assert state.health()["problem"] != ""
        own_redis.start()
        assert await state.apply(Batch(0)) == Reply()
        assert state.health()["problem"] == ""
        assert own_redis.command("DBSIZE") == b":0\r\n"

    with_state(own_redis, use, timeout=1)


def test_a_slow_redis_is_waited_for(redis_server: Server) -> None:
    async def use(state: RedisState) -> None:
        await state.apply(LOOK)
        redis_server.command("CLIENT", "PAUSE", "100", "ALL")
        assert (await state.apply(LOOK)).readings == [2]

    with_state(redis_server, use)


def test_while_redis_is_down_only_one_batch_at_a_time_tries() -> None:
    """A server that takes connections and never answers sees two: the first failure, and one probe for a hundred batches."""
    connections = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.read()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            state = RedisState(f"redis://127.0.0.1:{port}", timeout=0.1)
            with pytest.raises(StateError):
                await state.apply(LOOK)
            results = await asyncio.gather(*(state.apply(LOOK) for _ in range(100)), return_exceptions=True)
            assert all(isinstance(result, StateError) for result in results)
            await state.close()

    asyncio.run(run())
    assert len(connections) == 2


def test_a_caller_that_leaves_does_not_get_its_answer_mixed_into_the_next(redis_server: Server) -> None:
    async def use(state: RedisState) -> None:
        await state.apply(LOOK)
        redis_server.command("CLIENT", "PAUSE", "50", "ALL")
        leaving = asyncio.create_task(state.apply(LOOK))
        await asyncio.sleep(0.01)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        take = Batch(START, takes=[Take(Limit("l", 5, 8), ("a",))])
        assert (await state.apply(take)).rooms == MemoryState().apply(take).rooms
        assert state.health()["problem"] == ""

    with_state(redis_server, use)


def test_a_script_error_is_a_state_error(redis_server: Server) -> None:
    async def use(state: RedisState) -> None:
        redis_server.command("LPUSH", "{broken}:w/count/a", "not a counter")
        with pytest.raises(StateError, match=f"^Redis at {redis_server.where}: .*WRONGTYPE"):
            await state.apply(LOOK)
        other = Batch(START, [Sight(WINDOW, ("b",), 1)])
        assert (await state.apply(other)).readings == [1]

    with_state(redis_server, use, prefix="broken")


def test_a_password_is_never_shown(own_redis: Server) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", "right horse")

    async def attempt(password: str) -> str:
        state = RedisState(f"redis://:{password}@{own_redis.where}/0", timeout=PATIENT)
        try:
            await state.apply(LOOK)
        except StateError as error:
            return f"{error} {state.health()}"
        finally:
            await state.close()
        return ""

    assert asyncio.run(attempt("right%20horse")) == ""
    told = asyncio.run(attempt("battery-staple"))
    assert own_redis.where in told
    assert "battery" not in told


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@host/0",
        "redis://:secret@host:port/0",
        "redis://:secret@host/0?colour=red",
        "redis://:secret@host/0?ssl=maybe",
    ],
)
def test_a_url_that_is_none_of_redis_is_told_at_the_start_without_its_password(url: str) -> None:
    with pytest.raises(StateError, match="not one of Redis") as told:
        RedisState(url)
    assert "secret" not in str(told.value)


# Behind a gate


def gate_on(state: RedisState, fail: Fail = Fail.CLOSED, settled: list[str] | None = None) -> Gate:
    records = settled if settled is not None else []

    def sink(judgement: Judgement, answer: Answer) -> None:
        records.append(judgement.outcome.id)

    return Gate(policy(PACK), CATALOGUE, state=state, fail=FailModes(dependencies={Dependency.STATE: fail}), sink=sink)


def asked(moment: int = 0, account: str = "acme") -> Facts:
    return facts({"account.id": account}, START + moment)


async def judged(gate: Gate, *all_facts: Facts) -> list[int]:
    """The status of the refusal of each, judged and settled one after the other; 200 where there was none."""
    statuses = []
    for one in all_facts:
        judgement = await gate.judge_remote(one)
        await gate.settle_remote(judgement, Answer())
        statuses.append(judgement.outcome.refusal.status if judgement.outcome.refusal else 200)
    return statuses


@pytest.mark.parametrize("lost", ["stall", "kill"])
def test_fail_closed_refuses_and_says_why_until_redis_is_back(own_redis: Server, lost: str) -> None:
    async def use(state: RedisState) -> None:
        settled: list[str] = []
        gate = gate_on(state, settled=settled)
        assert await judged(gate, asked()) == [200]
        getattr(own_redis, lost)()
        judgement = await gate.judge_remote(asked(1))
        outcome = judgement.outcome
        assert outcome.refusal is not None
        assert (outcome.refusal.status, outcome.refusal.public.code) == (503, "temporarily-unavailable")
        assert own_redis.where in outcome.state_error
        await gate.settle_remote(judgement, Answer())
        assert settled[-1] == outcome.id
        assert gate.asking.failures == 1
        own_redis.resume() if lost == "stall" else own_redis.start()
        back = await gate.judge_remote(asked(2, "other"))
        assert (back.outcome.refusal, back.outcome.state_error) == (None, "")

    with_state(own_redis, use, timeout=0.5)


@pytest.mark.parametrize("lost", ["stall", "kill"])
def test_fail_open_passes_and_its_measures_are_unknown(own_redis: Server, lost: str) -> None:
    async def use(state: RedisState) -> None:
        gate = gate_on(state, Fail.OPEN)
        assert await judged(gate, asked()) == [200]
        getattr(own_redis, lost)()
        outcome = (await gate.judge_remote(asked(1))).outcome
        assert outcome.refusal is None
        assert own_redis.where in outcome.state_error
        assert [(end.rule, end.verdict, end.missing) for end in outcome.decision.ends] == [
            ("shared.burst", Verdict.UNKNOWN, ("requests",))
        ]
        assert outcome.rooms == ()
        own_redis.resume() if lost == "stall" else own_redis.start()
        back = (await gate.judge_remote(asked(2, "other"))).outcome
        assert (back.state_error, len(back.rooms)) == ("", 1)

    with_state(own_redis, use, timeout=0.5)


def test_redis_lost_between_the_two_batches_refuses_and_keeps_what_to_give_back(own_redis: Server) -> None:
    async def use(state: RedisState) -> None:
        gate = gate_on(state)
        await judged(gate, asked(0), asked(1))
        judging = gate._judging(asked(2))
        second = judging.send(await state.apply(next(judging)))
        own_redis.kill()
        with pytest.raises(StateError) as lost:
            await state.apply(second)
        with pytest.raises(StopIteration) as done:
            judging.send(lost.value)
        judgement = done.value.value
        assert judgement.outcome.refusal.status == 503
        assert [take.limit.id for take in judgement.returns] == ["plan"]

    with_state(own_redis, use, timeout=0.5)


def test_one_round_trip_a_request_and_a_second_when_a_rule_throttle_matched(redis_server: Server) -> None:
    async def use(state: RedisState) -> list[int]:
        gate = gate_on(state)
        await state.apply(LOOK)
        trips = []
        for moment in range(4):
            with redis_server.watched() as commands:
                judgement = await gate.judge_remote(asked(moment))
            assert set(commands) == {"evalsha"}
            trips.append(len(commands))
            await gate.settle_remote(judgement, Answer())
        return trips

    assert with_state(redis_server, use) == [1, 1, 2, 2]


def test_two_gates_share_a_limit_exactly(redis_server: Server) -> None:
    """Two hundred requests at once through two gates with connections of their own: fifty of fifty are admitted."""

    async def run() -> int:
        states = [RedisState(redis_server.url, timeout=PATIENT, prefix="two-gates") for _ in range(2)]
        gates = [gate_on(state) for state in states]
        plan = [replace(gate.policy, rules=()) for gate in gates]
        for gate, bare in zip(gates, plan, strict=True):
            gate.use(bare)
        judgements = await asyncio.gather(*(gates[number % 2].judge_remote(asked(number)) for number in range(200)))
        for state in states:
            await state.close()
        return sum(judgement.outcome.refusal is None for judgement in judgements)

    assert asyncio.run(run()) == 50


def test_a_refused_request_gives_back_what_it_took(redis_server: Server) -> None:
    """The rule throttle refuses the fourth; the unit it took of the plan is there again."""

    async def use(state: RedisState) -> list[int]:
        gate = gate_on(state)
        assert await judged(gate, *(asked(moment) for moment in range(4))) == [200, 200, 200, 429]
        return [room.remaining for room in (await gate.judge_remote(asked(4))).outcome.rooms if room.limit == "plan"]

    assert with_state(redis_server, use) == [50 - 4]


def test_remote_judging_gives_what_judging_in_memory_gives(redis_server: Server) -> None:
    """Law 1, for the state: the same exchanges end the same, ids aside."""

    async def use(state: RedisState) -> None:
        memory, remote = Gate(policy(PACK), CATALOGUE), gate_on(state)
        for moment in range(60):
            here, there = memory.judge(asked(moment)), await remote.judge_remote(asked(moment))
            memory.settle(here, Answer())
            await remote.settle_remote(there, Answer())
            assert here.outcome._replace(id="", reference="") == there.outcome._replace(id="", reference="")

    with_state(redis_server, use)
