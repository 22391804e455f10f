"""Limits in tokens, money and leases: never more than the amount when taken, given back exactly, ended by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.limits import Limits
from gateway.state.operations import LARGEST_AMOUNT, SLICES, Limit, Pace, Take, Unit
from gateway.values import SECOND

START = 1_793_500_000 * SECOND
PERIOD = 10 * SECOND
KEY = ("a",)


def tokens(amount: int, pace: Pace = Pace.FIXED, name: str = "plan", unit: Unit = Unit.TOKENS) -> Limit:
    return Limit(name, amount, 10, pace, unit=unit)


def slots(amount: int) -> Limit:
    return Limit("slots", amount, 10, unit=Unit.CONCURRENT)


def taken(limits: Limits, limit: Limit, at: int, cost: int = 1, owner: str = "") -> bool:
    return limits.take([Take(limit, KEY, cost, owner)], at)[0].allowed


events = st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(0, 40)), max_size=60)


@given(amount=st.integers(0, 100), events=events)
def test_a_moving_bucket_never_holds_more_than_its_amount_in_any_period(amount: int, events: list[tuple[int, int]]) -> None:
    limits, admitted, at = Limits(), [], START
    for gap, cost in events:
        at += gap
        if taken(limits, tokens(amount, Pace.MOVING), at, cost):
            admitted.append((at, cost))
    for begins, _ in admitted:
        assert sum(cost for then, cost in admitted if begins <= then < begins + PERIOD) <= amount


@given(amount=st.integers(0, 100), events=events)
def test_a_moving_bucket_has_room_again_an_eighth_of_its_period_late_at_most(
    amount: int, events: list[tuple[int, int]]
) -> None:
    limits, admitted, at = Limits(), [], START
    for gap, cost in events:
        at += gap
        longest = sum(units for then, units in admitted if at - then < PERIOD + PERIOD // SLICES)
        allowed = taken(limits, tokens(amount, Pace.MOVING), at, cost)
        if longest + cost <= amount:
            assert allowed
        if allowed:
            admitted.append((at, cost))


@given(amount=st.integers(0, 100), events=events)
def test_a_fixed_bucket_lies_on_the_epoch_grid(amount: int, events: list[tuple[int, int]]) -> None:
    limits, admitted, at = Limits(), [], START
    for gap, cost in events:
        at += gap
        held = sum(units for then, units in admitted if then // PERIOD == at // PERIOD)
        room = limits.take([Take(tokens(amount), KEY, cost)], at)[0]
        assert room.allowed is (held + cost <= amount)
        assert room.resets_at == (at // PERIOD + 1) * PERIOD
        if room.allowed:
            admitted.append((at, cost))
        assert room.remaining == max(0, amount - held - (cost if room.allowed else 0))


@pytest.mark.parametrize("pace", list(Pace))
def test_what_was_not_used_comes_back_and_what_was_used_beyond_must_leave_the_window_first(pace: Pace) -> None:
    limits, limit = Limits(), tokens(100, pace)
    assert taken(limits, limit, START, 80)
    limits.give_back(Take(limit, KEY, 70), START, START + 1)
    assert taken(limits, limit, START + 2, 90)
    limits.give_back(Take(limit, KEY, -500), START + 2, START + 3)  # 590 were used
    assert not taken(limits, limit, START + 4, 1)
    assert not taken(limits, limit, START + PERIOD - 1, 1)
    assert taken(limits, limit, START + PERIOD + PERIOD // SLICES, 100)


def test_units_of_a_window_that_has_passed_are_not_given_back() -> None:
    limits, limit = Limits(), tokens(10)
    assert taken(limits, limit, START, 10)
    assert taken(limits, limit, START + PERIOD, 10)
    limits.give_back(Take(limit, KEY, 10), START, START + PERIOD + 1)
    assert not taken(limits, limit, START + PERIOD + 2, 1)


@pytest.mark.parametrize("pace", list(Pace))
def test_what_was_used_beyond_counts_in_the_newest_slice_where_its_own_has_left(pace: Pace) -> None:
    limits, limit, late = Limits(), tokens(100, pace), START + 2 * PERIOD
    assert taken(limits, limit, START, 80)
    limits.give_back(Take(limit, KEY, -50), START, late)
    assert not taken(limits, limit, late, 51), "fifty more than the eighty that were held back and have left"
    assert taken(limits, limit, late, 50)
    assert not taken(limits, limit, late + PERIOD - 1 - late % PERIOD, 1)


def test_what_was_used_beyond_counts_although_the_counter_is_forgotten() -> None:
    limits, limit, late = Limits(), tokens(100), START + 100 * PERIOD
    assert taken(limits, limit, START, 80)
    for number in range(5):
        limits.take([Take(limit, (str(number),))], late)
    assert len(limits) == 5
    limits.give_back(Take(limit, KEY, -50), START, late)
    assert not taken(limits, limit, late, 51)


@pytest.mark.parametrize("pace", list(Pace))
def test_a_late_take_is_counted(pace: Pace) -> None:
    limits, limit = Limits(), tokens(10, pace)
    assert taken(limits, limit, START + 2 * PERIOD, 1)
    assert [taken(limits, limit, START, 5) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("pace", list(Pace))
def test_an_empty_slice_does_not_say_when_there_is_room_again(pace: Pace) -> None:
    limits, limit, later = Limits(), tokens(10, pace), START + PERIOD // 2
    assert taken(limits, limit, START, 5)
    (fresh,) = Limits().take([Take(limit, KEY, 5)], later)
    assert taken(limits, limit, later, 5)
    limits.give_back(Take(limit, KEY, 5), START, later)
    assert limits.take([Take(limit, KEY, 0)], later) == [fresh]


@pytest.mark.parametrize("pace", list(Pace))
def test_units_end_where_every_store_still_counts_them(pace: Pace) -> None:
    limits, limit = Limits(), tokens(LARGEST_AMOUNT, pace)
    assert taken(limits, limit, START, 1)
    limits.give_back(Take(limit, KEY, -(10**400)), START, START)
    assert not taken(limits, limit, START, 1)
    limits.give_back(Take(limit, KEY, 7), START, START)
    assert taken(limits, limit, START, 7)


def test_giving_back_what_was_never_taken_makes_no_room() -> None:
    limits, limit = Limits(), tokens(10)
    limits.give_back(Take(limit, KEY, 50), START, START)
    assert not taken(limits, limit, START, 11)
    assert taken(limits, limit, START, 10)


def test_a_lease_is_held_until_it_is_given_back() -> None:
    limits = Limits()
    assert [taken(limits, slots(2), START, owner=owner) for owner in "abc"] == [True, True, False]
    limits.give_back(Take(slots(2), KEY, 1, "a"), START, START + 1)
    assert [taken(limits, slots(2), START + 1, owner=owner) for owner in "cd"] == [True, False]


def test_a_lease_is_given_back_by_its_owner_only_and_once() -> None:
    limits = Limits()
    assert [taken(limits, slots(2), START, owner=owner) for owner in "ab"] == [True, True]
    for _ in range(3):
        limits.give_back(Take(slots(2), KEY, 1, "a"), START, START)
        limits.give_back(Take(slots(2), KEY, 1, "nobody"), START, START)
    assert [taken(limits, slots(2), START, owner=owner) for owner in "cd"] == [True, False]


def test_a_lease_that_is_never_given_back_ends_by_itself() -> None:
    limits = Limits()
    assert taken(limits, slots(1), START, owner="lost")
    assert not taken(limits, slots(1), START + PERIOD - 1, owner="b")
    assert taken(limits, slots(1), START + PERIOD, owner="b")


def test_limits_of_every_unit_are_taken_together_or_not_at_all() -> None:
    limits = Limits()
    requests, slot = Limit("requests", 5, 10), slots(5)
    asked = [Take(requests, KEY), Take(tokens(100), KEY, 60), Take(slot, KEY, 1, "a")]
    assert all(room.allowed for room in limits.take(asked, START))
    again = [replace(take, owner="b") if take.owner else take for take in asked]
    assert [room.allowed for room in limits.take(again, START)] == [True, False, True]
    assert [room.remaining for room in limits.take([replace(asked[0]), Take(slot, KEY, 1, "c")], START)] == [3, 3]


def test_one_counter_named_twice_needs_the_units_of_both() -> None:
    limits, both = Limits(), [Take(tokens(10), KEY, 6)] * 2
    assert [room.allowed for room in limits.take(both, START)] == [False, False]
    assert taken(limits, tokens(10), START, 10)


def test_keys_are_bounded_and_forgotten() -> None:
    limits = Limits(max_keys=100)
    for number in range(1_000):
        limits.take([Take(tokens(10), (str(number),), 5)], START)
        assert len(limits) <= 200
    assert limits.shared > 0
    for number in range(150):
        limits.take([Take(tokens(10), ("late", str(number)), 5)], START + 10 * PERIOD)
    assert len(limits) <= 150, "what has passed went by itself"
    assert taken(limits, tokens(10), START + 30 * PERIOD, 10)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0, SECOND, PERIOD // 2, PERIOD]), st.integers(0, 12), st.integers(1, 6), st.booleans()),
        max_size=60,
    )
)
def test_a_key_that_shares_a_counter_never_holds_more_than_its_own_would(steps: list[tuple[int, int, int, bool]]) -> None:
    """Against counters without a bound: what the bounded ones admit under a key, those have admitted no less room for."""
    bounded, free, now = Limits(max_keys=3), Limits(), START
    for gap, key, cost, back in steps:
        now += gap
        take = Take(tokens(10), (str(key),), cost)
        if bounded.take([take], now)[0].allowed:
            assert free.take([take], now)[0].allowed
            if back:
                for limits in (bounded, free):
                    limits.give_back(take, now, now)
