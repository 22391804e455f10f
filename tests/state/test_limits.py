"""Request limits: all or nothing, on the batch's clock, never more than the amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.limits import Limits
from gateway.state.operations import Limit, Pace, Take, joined
from gateway.values import SECOND

START = 1_793_500_000 * SECOND  # a multiple of ten seconds
PERIOD = 10 * SECOND
KEY = ("a",)


def limit(amount: int, pace: Pace = Pace.FIXED, name: str = "plan", seconds: int = 10, shadow: bool = False) -> Limit:
    return Limit(name, amount, seconds, pace, shadow)


def admitted(limits: Limits, what: Limit, at: int, key: tuple[str, ...] = KEY) -> bool:
    return limits.take([Take(what, key)], at)[0].allowed


gaps = st.lists(
    st.one_of(st.integers(0, 3 * SECOND), st.sampled_from([0, 1, PERIOD - 1, PERIOD, PERIOD + 1])), max_size=80
)  # fmt: skip


@pytest.mark.parametrize("pace", list(Pace))
@given(amount=st.integers(0, 4), gaps=gaps)
def test_takes_are_what_the_definition_says(pace: Pace, amount: int, gaps: list[int]) -> None:
    """Greedy: admitted exactly when fewer than `amount` were admitted in the window, which keeps its edges to the µs."""
    limits, taken, at = Limits(), [], START
    for gap in gaps:
        at += gap
        begins = at // PERIOD * PERIOD if pace is Pace.FIXED else at - PERIOD + 1
        held = [then for then in taken if then >= begins]
        room = limits.take([Take(limit(amount, pace), KEY)], at)[0]
        assert room.allowed is (len(held) < amount)
        if room.allowed:
            taken.append(at)
            held.append(at)
        resets = begins + PERIOD if pace is Pace.FIXED else (held[0] if held else at) + PERIOD
        assert (room.remaining, room.resets_at) == (amount - len(held), resets)


@given(amount=st.integers(1, 4), gaps=gaps)
def test_a_moving_window_never_over_admits(amount: int, gaps: list[int]) -> None:
    limits, taken, at = Limits(), [], START
    for gap in gaps:
        at += gap
        if admitted(limits, limit(amount, Pace.MOVING), at):
            taken.append(at)
    for begins in taken:
        assert sum(begins <= then < begins + PERIOD for then in taken) <= amount


def test_fixed_windows_lie_on_the_epoch_grid() -> None:
    limits = Limits()
    assert admitted(limits, limit(1), START + PERIOD - 1)
    assert not admitted(limits, limit(1), START + PERIOD - 1)
    assert admitted(limits, limit(1), START + PERIOD)


@pytest.mark.parametrize("pace", list(Pace))
def test_who_comes_back_at_the_reset_is_admitted_and_not_a_microsecond_before(pace: Pace) -> None:
    limits = Limits()
    assert admitted(limits, limit(1, pace), START + 3)
    refused = limits.take([Take(limit(1, pace), KEY)], START + 5)[0]
    assert not refused.allowed
    assert not admitted(limits, limit(1, pace), refused.resets_at - 1)
    assert admitted(limits, limit(1, pace), refused.resets_at)


@pytest.mark.parametrize("at", [0, 1, 4_000_000_000 * SECOND + 1])
def test_the_clock_is_the_batchs(at: int) -> None:
    for pace in Pace:
        limits = Limits()
        assert [admitted(limits, limit(1, pace), moment) for moment in (at, at, at + PERIOD)] == [True, False, True]


@given(
    amounts=st.lists(st.integers(0, 3), min_size=1, max_size=4), paces=st.lists(st.sampled_from(Pace), min_size=4, max_size=4)
)
def test_a_set_is_taken_whole_or_not_at_all(amounts: list[int], paces: list[Pace]) -> None:
    limits = Limits()
    takes = [Take(limit(amount, paces[place], f"l{place}"), KEY) for place, amount in enumerate(amounts)]
    for taken in range(4):
        rooms = limits.take(takes, START)
        whole = all(amount > taken for amount in amounts)
        assert [room.allowed for room in rooms] == [amount > min(taken, *amounts) for amount in amounts]
        used = min(taken + 1, *amounts) if whole else min(taken, *amounts)
        assert [room.remaining for room in rooms] == [amount - used for amount in amounts]


@pytest.mark.parametrize("pace", list(Pace))
def test_a_counter_that_a_set_names_twice_needs_two_units(pace: Pace) -> None:
    limits, both = Limits(), [Take(limit(3, pace), KEY)] * 2
    assert [room.allowed for room in limits.take(both, START)] == [True, True]
    assert [room.allowed for room in limits.take(both, START)] == [False, False]
    assert admitted(limits, limit(3, pace), START)


@pytest.mark.parametrize("pace", list(Pace))
def test_a_unit_given_back_can_be_taken_again_once(pace: Pace) -> None:
    limits, take = Limits(), Take(limit(2, pace), KEY)
    assert [admitted(limits, limit(2, pace), START + moment) for moment in (1, 2, 3)] == [True, True, False]
    limits.give_back(take, START + 2, START + 2)
    assert [admitted(limits, limit(2, pace), START + 4) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("pace", list(Pace))
def test_a_unit_of_a_window_that_has_passed_is_not_given_back(pace: Pace) -> None:
    """A refusal that settles late must not free a unit of the window that came after."""
    limits, take = Limits(), Take(limit(1, pace), KEY)
    assert admitted(limits, limit(1, pace), START)
    assert admitted(limits, limit(1, pace), START + PERIOD)
    limits.give_back(take, START, START)
    assert not admitted(limits, limit(1, pace), START + PERIOD + 1)


def test_giving_back_what_was_never_taken_changes_nothing() -> None:
    for pace in Pace:
        limits = Limits()
        limits.give_back(Take(limit(1, pace), KEY), START, START)
        assert [admitted(limits, limit(1, pace), START) for _ in range(2)] == [True, False]


def test_a_limit_that_changed_its_pace_counts_anew() -> None:
    """After a reload nothing taken at one pace is given back at the other."""
    limits = Limits()
    for pace in Pace:
        assert admitted(limits, limit(1, pace), START)
    limits.give_back(Take(limit(1, Pace.MOVING), KEY), START, START)
    assert not admitted(limits, limit(1, Pace.FIXED), START)
    assert admitted(limits, limit(1, Pace.MOVING), START)


parts = st.lists(st.text("ab/%25F", max_size=4), min_size=1, max_size=3).map(tuple)


@given(one=parts, other=parts)
def test_escaped_keys_cannot_collide(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (joined(one) == joined(other)) is (one == other)
    limits = Limits()
    assert admitted(limits, limit(1), START, one)
    assert admitted(limits, limit(1), START, other) is (one != other)


def test_shadow_limits_count_on_counters_of_their_own() -> None:
    limits = Limits()
    assert admitted(limits, limit(1, shadow=True), START)
    assert admitted(limits, limit(1), START)
    assert not admitted(limits, limit(1, shadow=True), START)


@pytest.mark.parametrize("pace", list(Pace))
def test_memory_is_flat_under_rotating_keys(pace: Pace) -> None:
    limits, held = Limits(), []
    for number in range(5_000):
        admitted(limits, limit(1, pace), START + number * SECOND // 20, (str(number),))
        held.append(len(limits))
    assert max(held) <= 3 * 20 * 10 + 1
    assert limits.shared == 0


@pytest.mark.parametrize("pace", list(Pace))
def test_max_keys_is_a_bound_and_what_shares_a_counter_is_counted(pace: Pace) -> None:
    limits = Limits(max_keys=10)
    for number in range(100):
        admitted(limits, limit(1, pace), START, (str(number),))
        assert len(limits) <= 20
    assert limits.shared > 0
    assert not any(admitted(limits, limit(1, pace), START + 1, (str(number),)) for number in range(100))


@pytest.mark.parametrize("pace", list(Pace))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 1, SECOND, PERIOD // 2, PERIOD - 1, PERIOD, 3 * PERIOD]), st.integers(0, 12), st.booleans()
        ),
        max_size=80,
    )
)
def test_no_key_is_admitted_that_a_counter_of_its_own_would_refuse(pace: Pace, steps: list[tuple[int, int, bool]]) -> None:
    """Keys come and go past the bound, units are given back: what is admitted fits a storage without a bound, too."""
    bounded, free, now = Limits(max_keys=3), Limits(), START
    for gap, key, back in steps:
        now += gap
        take = Take(limit(2, pace), (str(key),))
        if bounded.take([take], now)[0].allowed:
            assert free.take([take], now)[0].allowed
            if back:
                for limits in (bounded, free):
                    limits.give_back(take, now, now)


@pytest.mark.parametrize("pace", list(Pace))
def test_keys_have_counters_of_their_own_again_when_the_flood_has_passed(pace: Pace) -> None:
    limits, after = Limits(max_keys=10), START + 5 * PERIOD
    for number in range(100):
        admitted(limits, limit(1, pace), START, (str(number),))
    for number in range(50):  # each hit frees two of what has passed
        admitted(limits, limit(99, pace), after, (f"between {number % 5}",))
    shared = limits.shared
    assert all(admitted(limits, limit(1, pace), after + 5 * PERIOD + number, (f"new {number}",)) for number in range(5))
    assert limits.shared == shared
