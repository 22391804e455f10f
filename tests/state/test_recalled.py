"""Marks that answers left: what is found, what is lost, what it costs, and that Redis finds the same."""

from __future__ import annotations

import tracemalloc
from random import Random

from gateway.state.memory import MemoryState
from gateway.state.operations import SLICES, Batch, Recall
from gateway.state.recalled import BYTES_PER_KEY, PLACES, Recalled
from gateway.state.redis import RedisState
from gateway.values import SECOND
from tests.state.conftest import Server, with_state

LENGTH = 24 * 3_600 * SECOND
SLICE = LENGTH // SLICES
START = 1_793_500_000_000_000 // LENGTH * LENGTH


def keep(*marks: int, key: str = "a") -> Recall:
    return Recall("prompt.echo", LENGTH, (key,), marks, True)


def look(*marks: int, key: str = "a") -> Recall:
    return Recall("prompt.echo", LENGTH, (key,), marks, False)


def some(random: Random, count: int) -> tuple[int, ...]:
    return tuple(random.getrandbits(64) for _ in range(count))


def test_what_was_kept_is_found_under_its_key_and_name_alone() -> None:
    recalled, marks = Recalled(), (1, 2**63 + 5, 7 << 11)
    recalled.see(keep(*marks), START)
    assert recalled.see(look(*marks), START) == 3
    assert recalled.see(look(*marks, 9), START) == 3
    assert recalled.see(look(*marks, key="b"), START) == 0
    assert recalled.see(Recall("other", LENGTH, ("a",), marks, False), START) == 0
    assert len(recalled) == 1, "looking makes no memory"


def test_marks_are_remembered_for_their_length_less_an_eighth_at_most_and_never_longer() -> None:
    recalled = Recalled()
    recalled.see(keep(5), START + SLICE - 1)
    assert recalled.see(look(5), START + LENGTH - 1) == 1
    assert recalled.see(look(5), START + LENGTH) == 0
    assert recalled.see(look(5), START - 1) == 0, "late ones do not see what was kept after them"


def test_the_stated_error_holds() -> None:
    """Found that never was: at most 2⁻²⁰ of the marks. Lost to later ones: half after 1,420."""
    random, recalled = Random(7), Recalled()
    first = some(random, 500)
    recalled.see(keep(*first), START)
    recalled.see(keep(*some(random, 1_420)), START)
    left = recalled.see(look(*first), START)
    assert 0.37 < left / len(first) < 0.5, "what the first 500 took from each other included"
    recalled.see(keep(*some(random, 20_000)), START)
    assert recalled.see(look(*some(random, 400_000)), START) <= 4


def test_memory_is_as_stated_and_flat_under_rotating_keys() -> None:
    tracemalloc.start()
    try:
        recalled = Recalled(most=200)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2_000):
            recalled.see(keep(1, key=f"k{number}"), START + number)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(recalled) == 200
    assert recalled.let_go == 1_800
    assert 200 * BYTES_PER_KEY <= taken <= 200 * (BYTES_PER_KEY + 1_000)
    assert BYTES_PER_KEY == 4 * PLACES


def test_a_flood_of_keys_pushes_out_itself_and_nobody_who_comes_again() -> None:
    recalled = Recalled(most=100)
    for moment in (START, START + 1):
        for number in range(50):
            recalled.see(keep(number, key=f"regular{number}"), moment)
    for number in range(5_000):
        recalled.see(keep(1, key=f"flood{number}"), START + 2)
    assert sum(recalled.see(look(number, key=f"regular{number}"), START + 2) for number in range(50)) == 50
    for number in range(5_000):
        for moment in (START + 3, START + 4):
            recalled.see(keep(1, key=f"twice{number}"), moment)
    assert len(recalled) == 100


def test_keys_that_are_out_of_date_make_room_without_being_counted_as_let_go() -> None:
    recalled = Recalled(most=10)
    for number in range(10):
        recalled.see(keep(1, key=f"old{number}"), START)
    for number in range(10):
        recalled.see(keep(1, key=f"new{number}"), START + 3 * LENGTH)
    assert recalled.let_go == 0
    assert len(recalled) <= 10


def test_one_batch_answers_recalls_and_health_shows_them() -> None:
    state = MemoryState()
    assert Batch(START, recalls=[look(1)])
    assert state.apply(Batch(START, recalls=[keep(1, 2), look(1, 3), look(1, 2)])).recalled == [0, 1, 2]
    assert state.health()["recalled"] == {"keys": 1, "let_go": 0}


def test_redis_finds_what_memory_finds(redis_server: Server) -> None:
    random, known = Random(11), some(Random(3), 3_000)
    memory, batches = MemoryState(), []
    for number in range(40):
        marks = tuple(random.sample(known, random.choice((1, 40, 1_500))))
        key, at = random.choice("ab"), START + number * SLICE // 3 - random.choice((0, 0, SLICE))
        batches.append(Batch(at, recalls=[keep(*marks, key=key), look(*known[:50], key=key), look(*known, key="a")]))
    expected = [memory.apply(batch).recalled for batch in batches]

    async def use(state: RedisState) -> list[list[int]]:
        return [(await state.apply(batch)).recalled for batch in batches]

    assert with_state(redis_server, use) == expected
    assert any(found[1] for found in expected)
