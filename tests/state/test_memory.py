"""The state of one process: what a batch does, in which order, and what it holds on to."""

from __future__ import annotations

from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Count, Limit, Pace, Sight, Take, Window
from gateway.values import SECOND, AtLeast

START = 1_793_500_000 * SECOND
LENGTH = 8 * SECOND
COUNT = Window("count", Count.COUNT, LENGTH)
ONE = Take(Limit("one", 1, 10, Pace.MOVING), ("a",))
SHADOW = Take(Limit("one", 1, 10, Pace.MOVING, shadow=True), ("a",))


def test_answers_come_in_the_order_of_the_batch() -> None:
    sights = [Sight(COUNT, (key,), 1) for key in ("a", "b", "a")]
    reply = MemoryState().apply(Batch(START, sights, [ONE], [SHADOW]))
    assert reply.readings == [1, 1, 2]
    assert [room.allowed for room in reply.rooms] == [True]
    assert [(room.allowed, room.shadow) for room in reply.shadow_rooms] == [(True, True)]


def test_shadow_limits_are_taken_together_too() -> None:
    state, roomy = MemoryState(), Take(Limit("roomy", 5, 10, shadow=True), ("a",))
    state.apply(Batch(START, shadow_takes=[SHADOW]))
    rooms = state.apply(Batch(START, shadow_takes=[SHADOW, roomy])).shadow_rooms
    assert [(room.allowed, room.remaining) for room in rooms] == [(False, 0), (True, 5)]


def test_shadow_keys_never_push_a_live_one_out() -> None:
    state, plan = MemoryState(max_keys=2), Limit("plan", 1, 60)
    for number in range(10):
        shadow = [Take(Limit("trial", 1, 60, shadow=True), (f"s{number}",))]
        room = state.apply(Batch(START, takes=[Take(plan, ("a",))], shadow_takes=shadow)).rooms[0]
        assert room.allowed is (number == 0)


def test_returns_come_before_takes() -> None:
    state = MemoryState()
    assert state.apply(Batch(START, takes=[ONE])).rooms[0].allowed
    assert not state.apply(Batch(START + 1, takes=[ONE])).rooms[0].allowed
    assert state.apply(Batch(START + 2, takes=[ONE], returns=[(ONE, START)])).rooms[0].allowed


def test_windows_of_equal_definition_are_one_and_of_different_ones_two() -> None:
    state = MemoryState()
    same, other = Window("count", Count.COUNT, LENGTH), Window("other", Count.COUNT, LENGTH)
    assert state.apply(Batch(START, [Sight(window, ("a",), 1) for window in (COUNT, same, other)])).readings == [1, 2, 1]


def test_a_full_set_takes_nothing_but_its_windows_are_counted() -> None:
    state, wide = MemoryState(), Take(Limit("wide", 5, 10), ("a",))
    state.apply(Batch(START, takes=[ONE]))
    reply = state.apply(Batch(START, [Sight(COUNT, ("a",), 1)], [wide, ONE]))
    assert reply.readings == [1]
    assert [(room.allowed, room.remaining) for room in reply.rooms] == [(True, 5), (False, 0)]


def test_health_counts_keys_and_what_was_pushed_out() -> None:
    state = MemoryState(max_keys=2)
    for key in ("a", "b", "c"):
        state.apply(Batch(START, [Sight(COUNT, (key,), 1)], [Take(Limit("one", 1, 10), (key,))]))
    assert state.health() == {"kind": "memory", "keys": 5, "evicted": 1, "crowded": 1, "shared": 1,
                              "recalled": {"keys": 0, "let_go": 0}}  # fmt: skip


def test_windows_of_a_policy_that_left_are_let_go() -> None:
    """Every reload can bring windows with new digests; the old ones go when nothing in them matters any more."""
    state = MemoryState()
    for reload in range(50):
        window = Window(f"reload {reload}", Count.COUNT, LENGTH)
        state.apply(Batch(START + reload * LENGTH, [Sight(window, ("a",), 1)]))
    keys = state.health()["keys"]
    assert isinstance(keys, int)
    assert keys <= 5


def test_a_window_is_crowded_until_its_length_after_the_last_key_was_pushed_out() -> None:
    state = MemoryState(max_keys=2)
    for moment, crowded in ((0, 1), (LENGTH // 2, 1), (2 * LENGTH, 0)):
        names = ("a", "b", "c") if not moment else ("c",)
        state.apply(Batch(START + moment, [Sight(COUNT, (key,), 1) for key in names]))
        assert state.health()["crowded"] == crowded


def test_windows_share_the_rows_of_a_key_and_push_nothing_out_of_each_other() -> None:
    """A flood under one window: another window of the same keys keeps what it has."""
    state, flooded = MemoryState(max_keys=5), Window("flooded", Count.COUNT, LENGTH)
    state.apply(Batch(START, [Sight(COUNT, ("a",), 1), Sight(flooded, ("a",), 1)]))
    for number in range(50):
        state.apply(Batch(START, [Sight(flooded, (f"f{number}",), 1)]))
    readings = state.apply(Batch(START, [Sight(COUNT, ("a",), 1), Sight(flooded, ("a",), 1)])).readings
    assert readings == [2, AtLeast(1)]


def test_what_windows_let_go_leaves_nothing_behind() -> None:
    state, short = MemoryState(), Window("short", Count.DISTINCT, LENGTH)
    for number in range(5_000):
        state.apply(Batch(START + number, [Sight(COUNT, (str(number),), 1), Sight(short, (str(number),), "v")]))
    for number in range(5_000):
        state.apply(Batch(START + 10 * LENGTH + number, [Sight(COUNT, ("last",), 1), Sight(short, ("last",), "v")]))
    assert state.health()["keys"] == 2
    assert (len(state._tables.rows), state._tables.rows.pages) == (1, 1)


def test_a_table_that_leaves_in_the_middle_of_a_batch_takes_no_row_from_under_a_key() -> None:
    """The row of a key was found for the sight before; then a new window lets an old one go, which alone held that row."""
    state, key = MemoryState(), ("a",)
    old, idle = Window("old", Count.COUNT, LENGTH), Window("idle", Count.COUNT, 10_000 * LENGTH)
    state.apply(Batch(START, [Sight(old, key, 1), Sight(idle, ("b",), 1)]))
    later = START + 100 * LENGTH
    sights = [Sight(idle, key, None), Sight(COUNT, key, 1), Sight(COUNT, ("b",), 1), Sight(idle, key, 1)]
    assert state.apply(Batch(later, sights)).readings == [0, 1, 1, 1]
    assert state.apply(Batch(later, sights)).readings == [1, 2, 2, 2]
