"""Windows against a model that keeps every event: nothing too old, everything young enough, and what caps report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.state.operations import LARGEST_AMOUNT, NO_ZERO, SLICES, Count, Sight, Window, bin_of, bounded, edge_of, kept
from gateway.state.pages import PAYLOAD, Page
from gateway.state.rows import PAGE
from gateway.state.tables import Tables
from gateway.state.windows import Reading
from gateway.values import SECOND, AtLeast

START = 1_793_500_000 * SECOND
LENGTH = 8 * SECOND
WINDOWS = {kind: Window(str(kind), kind, LENGTH, rank=900_000) for kind in Count}
KEY = ("k",)


def value_of(kind: Count, number: int) -> int | str:
    return {Count.COUNT: 1, Count.SUM: number, Count.QUANTILE: number**4}.get(kind, f"v{number % 5}")


def summed(kind: Count, values: list[int | str]) -> Reading:
    """What a window of these values reads, by definition."""
    if kind in (Count.COUNT, Count.SUM):
        return sum(int(value) for value in values)
    if kind is Count.DISTINCT:
        return len(set(values))
    if kind is Count.QUANTILE:
        ranked = sorted(int(value) for value in values)
        return edge_of(bin_of(ranked[ceil(len(ranked) * 0.9) - 1])) if ranked else None
    return max(Counter(values).values()) / len(values) if values else None


class Alone:
    """One window as the stores count it, and nothing else."""

    def __init__(self, window: Window, max_keys: int) -> None:
        self.window, self.tables = window, Tables(max_keys)

    def see(self, key: tuple[str, ...], value: int | str | None, at: int) -> Reading:
        return self.tables.see([Sight(self.window, key, value)], at)[0]

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    @property
    def evicted(self) -> int:
        return sum(table.evicted for table in self.tables)


@dataclass
class Model:
    """One window under every key, which forgets nothing: a late event counts while its slice is covered."""

    window: Window
    newest: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, int, int | str]] = field(default_factory=list)

    def see(self, key: str, value: int | str | None, at: int) -> Reading:
        part = self.window.slice_of(at)
        newest = max(self.newest.get(key, part), part)
        if value is not None and part > newest - SLICES:
            self.events.append((key, part, value))
        if value is not None or key in self.newest:
            self.newest[key] = newest
        covered = [counted for name, seen, counted in self.events if name == key and newest - SLICES < seen <= newest]
        return summed(self.window.kind, covered)


steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, LENGTH // 4), st.sampled_from([0, 1, LENGTH // SLICES, LENGTH, 2 * LENGTH, 5 * LENGTH])),
        st.integers(0, 20),
    ),
    max_size=60,
)


@pytest.mark.parametrize("kind", [Count.COUNT, Count.SUM])
@given(steps=steps)
def test_nothing_older_than_the_window_and_everything_clearly_younger_is_counted(
    kind: Count, steps: list[tuple[int, int]]
) -> None:
    table, at, events = Alone(WINDOWS[kind], 100), START, []
    for gap, number in steps:
        at += gap
        events.append((at, value_of(kind, number)))
        reading = table.see(KEY, events[-1][1], at)
        surely = sum(int(value) for then, value in events if at - then < LENGTH - LENGTH // SLICES)
        at_most = sum(int(value) for then, value in events if at - then < LENGTH)
        assert isinstance(reading, int)
        assert surely <= reading <= at_most


@pytest.mark.parametrize("kind", list(Count))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 1, SECOND, 3 * SECOND, LENGTH - 1, LENGTH, 3 * LENGTH]),
            st.sampled_from([0, 0, 0, 1, SECOND, 4 * SECOND, LENGTH - LENGTH // SLICES]),
            st.sampled_from("abc"),
            st.one_of(st.none(), st.integers(0, 20)),
        ),
        max_size=60,
    )
)
def test_windows_read_what_the_model_reads_late_events_and_forgotten_keys_included(
    kind: Count, steps: list[tuple[int, int, str, int | None]]
) -> None:
    """Keys are forgotten as time goes on, but no event that is late by up to seven slices can tell."""
    table, model, now = Alone(WINDOWS[kind], 100), Model(WINDOWS[kind]), START
    for gap, late, key, number in steps:
        now += gap
        value = None if number is None else value_of(kind, number)
        assert table.see((key,), value, now - late) == model.see(key, value, now - late)


@given(cap=st.integers(1, 4), steps=steps)
def test_a_capped_distinct_is_exact_or_says_at_least(cap: int, steps: list[tuple[int, int]]) -> None:
    window = Window("capped", Count.DISTINCT, LENGTH, cap)
    table, model, at = Alone(window, 100), Model(window), START
    for gap, number in steps:
        at += gap
        reading, true = table.see(KEY, f"v{number}", at), model.see("k", f"v{number}", at)
        assert isinstance(true, int)
        if isinstance(reading, AtLeast):
            assert reading.count <= min(cap, true)
        else:
            assert reading == true <= cap


@given(cap=st.integers(1, 4), steps=steps)
def test_a_capped_top_share_never_reads_too_high(cap: int, steps: list[tuple[int, int]]) -> None:
    window = Window("capped", Count.TOP_SHARE, LENGTH, cap)
    table, model, at = Alone(window, 100), Model(window), START
    for gap, number in steps:
        at += gap
        reading, true = table.see(KEY, f"v{number}", at), model.see("k", f"v{number}", at)
        assert isinstance(reading, (int, float))
        assert isinstance(true, float)
        assert reading <= true


def test_the_cap_is_reported_until_the_value_that_found_no_place_is_out_of_the_window() -> None:
    table = Alone(Window("capped", Count.DISTINCT, LENGTH, 2), 100)
    for place, value in enumerate("abc"):
        reading = table.see(KEY, value, START + place)
    assert reading == AtLeast(2)
    assert table.see(KEY, None, START + LENGTH - SECOND) == AtLeast(2)
    assert table.see(KEY, None, START + LENGTH) == 0


def test_a_value_that_is_known_never_trips_the_cap() -> None:
    table = Alone(Window("capped", Count.DISTINCT, LENGTH, 1), 100)
    assert [table.see(KEY, "a", START + place) for place in range(3)] == [1, 1, 1]


def test_the_empty_text_is_a_value_like_others() -> None:
    table = Alone(WINDOWS[Count.TOP_SHARE], 100)
    assert [table.see(KEY, "", START) for _ in range(3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", list(Count))
def test_an_event_older_than_the_window_is_not_counted(kind: Count) -> None:
    table = Alone(WINDOWS[kind], 100)
    before = table.see(KEY, value_of(kind, 1), START + LENGTH)
    assert table.see(KEY, value_of(kind, 2), START) == before


@pytest.mark.parametrize("kind", list(Count))
def test_looking_counts_nothing_and_keeps_nothing(kind: Count) -> None:
    table = Alone(WINDOWS[kind], 100)
    empty = None if kind in NO_ZERO else 0
    assert [table.see(KEY, None, START) for _ in range(3)] == [empty, empty, empty]
    assert len(table) == 0
    first = table.see(KEY, value_of(kind, 3), START)
    assert [table.see(KEY, None, START) for _ in range(2)] == [first, first]


@given(value=st.one_of(st.integers(0, 2_000), st.integers(0, LARGEST_AMOUNT)), more=st.integers(0, 2_000))
def test_a_bin_reads_at_most_its_value_and_less_than_a_128th_below_it(value: int, more: int) -> None:
    edge = edge_of(bin_of(value))
    assert edge <= value
    assert (value - edge) * 128 < max(value, 1)
    assert bin_of(edge) == bin_of(value) <= bin_of(value + more)
    assert bin_of(-value) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_ends_where_every_store_still_counts_it_and_comes_back(sign: int) -> None:
    table = Alone(WINDOWS[Count.SUM], 100)
    most = bounded(sign * 10**400)
    assert abs(most) == LARGEST_AMOUNT
    assert [table.see(KEY, sign * value, START) for value in (5, 10**400, 1, -3)] == [sign * 5, most, most, most - sign * 3]
    assert table.see(KEY, most, START + LENGTH // 2) == most
    assert table.see(KEY, sign, START + LENGTH + LENGTH // 2) == sign


def test_bins_end_where_sums_do() -> None:
    assert bin_of(10**400) == bin_of(LARGEST_AMOUNT)


@given(
    values=st.lists(st.integers(0, 10_000), min_size=1, max_size=60), rank=st.sampled_from([1_000, 500_000, 950_000, 999_000])
)
def test_a_quantile_is_the_value_at_the_rank(values: list[int], rank: int) -> None:
    table = Alone(Window("q", Count.QUANTILE, LENGTH, rank=rank), 10)
    for value in values:
        reading = table.see(KEY, value, START)
    true = sorted(values)[max(1, ceil(len(values) * rank / 1_000_000)) - 1]
    assert isinstance(reading, int)
    assert reading == edge_of(bin_of(true))


def test_memory_is_flat_under_rotating_keys() -> None:
    """One new key every 10 ms: what is held is what two generations saw, however long it goes on."""
    table, step = Alone(WINDOWS[Count.COUNT], 10**9), SECOND // 100
    held = []
    for number in range(20_000):
        table.see((str(number),), 1, START + number * step)
        held.append(len(table))
    assert max(held) <= 2 * kept(LENGTH) // step
    assert table.evicted == 0


def test_max_keys_is_a_bound_and_what_it_pushed_out_is_counted() -> None:
    table = Alone(WINDOWS[Count.COUNT], 10)
    for number in range(100):
        table.see((str(number),), 1, START)
        assert len(table) <= 10
    assert table.evicted == 90
    assert table.see(("99",), 1, START) == AtLeast(2)


@pytest.mark.parametrize("kind", [Count.COUNT, Count.SUM, Count.DISTINCT])
@given(steps=st.lists(st.tuples(st.sampled_from([0, SECOND, LENGTH // 2, LENGTH]), st.integers(0, 6), st.integers(0, 9))))
def test_past_max_keys_a_reading_is_exact_or_says_at_least(kind: Count, steps: list[tuple[int, int, int]]) -> None:
    """Whatever was pushed out: nothing reads less than it is without saying so."""
    table, model, now = Alone(WINDOWS[kind], 3), Model(WINDOWS[kind]), START
    for gap, key, number in steps:
        now += gap
        value = value_of(kind, number) if number else None
        reading, true = table.see((str(key),), value, now), model.see(str(key), value, now)
        assert isinstance(true, int)
        if isinstance(reading, AtLeast):
            assert reading.count <= true
        else:
            assert reading == true


def test_a_flood_of_new_keys_pushes_out_itself_and_no_regular() -> None:
    """Keys seen once or twice at a time, ten times as many as there is place for; who came back before it stays known."""
    table, tick = Alone(WINDOWS[Count.COUNT], 100), kept(LENGTH) // 4
    regulars = [(f"regular {number}",) for number in range(50)]
    for moment in (0, tick):
        for key in regulars:
            table.see(key, 1, START + moment)
    for number in range(1_000):
        for _ in range(2):
            table.see((f"flood {number}",), 1, START + tick + 1)
    assert table.evicted == 950
    assert [table.see(key, 1, START + tick + 2) for key in regulars] == [3] * 50


def test_regulars_cannot_shut_new_keys_out() -> None:
    """Keys that came twice and then no more, as many as there is place for: new ones still find a quarter of it."""
    table, tick = Alone(WINDOWS[Count.COUNT], 100), kept(LENGTH) // 4
    for moment in (0, tick):
        for number in range(100):
            table.see((f"regular {number}",), 1, START + moment)
    for moment in range(3):
        for number in range(20):
            reading = table.see((f"new {number}",), 1, START + tick + moment)
    assert reading == AtLeast(3)


@settings(deadline=None)
@given(values=st.lists(st.integers(0, 4_000), max_size=4_000), turns=st.sets(st.integers(0, 4_000), max_size=6))
def test_many_distinct_values_are_counted_exactly(values: list[int], turns: set[int]) -> None:
    """Packed cells and those with an object of their own, in one part or many, as slices come and go."""
    window = Window("many", Count.DISTINCT, LENGTH, cap=5_000)
    table, seen, part = Alone(window, 100), dict[int, int](), 0
    for place, value in enumerate(values):
        part += place in turns
        seen[value] = part
        reading = table.see(KEY, f"v{value}", START + part * LENGTH // SLICES)
    if values:
        assert reading == sum(at > part - SLICES for at in seen.values())


def test_a_hundred_thousand_values_are_told_apart() -> None:
    """The largest cap of the language; codes of 49 bits take any two for one with a chance of 1 in 100,000."""
    table = Alone(Window("most", Count.DISTINCT, LENGTH, cap=100_000), 100)
    for number in range(100_000):
        reading = table.see(KEY, f"v{number}", START)
    assert reading == 100_000
    assert table.see(KEY, "one more", START) == AtLeast(100_000)
    assert table.see(KEY, None, START + LENGTH) == 0


@pytest.mark.parametrize("kind", NO_ZERO)
@given(values=st.lists(st.integers(0, 300), min_size=1, max_size=200), step=st.sampled_from([0, LENGTH // 64]))
def test_a_tally_of_many_values_is_what_the_model_reads(kind: Count, values: list[int], step: int) -> None:
    table, model = Alone(WINDOWS[kind], 100), Model(WINDOWS[kind])
    for place, number in enumerate(values):
        value = number**4 if kind is Count.QUANTILE else f"v{number}"
        assert table.see(KEY, value, START + place * step) == model.see("k", value, START + place * step)


def test_a_count_past_what_two_bytes_hold_is_exact() -> None:
    table = Alone(WINDOWS[Count.COUNT], 100)
    table.see(("other",), 1, START)
    for number in range(66_000):
        assert table.see(KEY, 1, START) == number + 1
    assert table.see(("other",), 1, START) == 2
    assert table.see(KEY, None, START + LENGTH) == 0


def test_a_key_in_use_survives_a_flood_of_others() -> None:
    table, at = Alone(WINDOWS[Count.COUNT], 10), START
    for number in range(100):
        at += SECOND // 2
        table.see((f"flood {number}",), 1, at)
        reading = table.see(KEY, 1, at)
    assert isinstance(reading, int)
    assert reading >= 2


@pytest.mark.parametrize("kind", list(Count))
def test_a_page_that_fills_reads_what_the_model_reads(kind: Count) -> None:
    """All rows of a page at one time, past the point where it has a word for every row, and some that come and go after it."""
    table, models = Alone(WINDOWS[kind], 10_000), [Model(WINDOWS[kind]) for _ in range(PAGE)]
    for moment in range(3):
        for number, model in enumerate(models):
            value, at = value_of(kind, number + moment * (number % 3)), START + moment * SECOND
            assert table.see((str(number),), value, at) == model.see("k", value, at)
    for number, model in enumerate(models):
        at = START + 5 * LENGTH + number
        assert table.see((str(number),), value_of(kind, 1), at) == model.see("k", value_of(kind, 1), at)


@pytest.mark.parametrize("kind", list(Count))
def test_a_key_in_use_is_counted_on_as_its_page_moves_to_later_bases(kind: Count) -> None:
    table, model = Alone(WINDOWS[kind], 100), Model(WINDOWS[kind])
    for step in range(3_000):
        at, value = START + step * SECOND, value_of(kind, step)
        assert table.see(KEY, value, at) == model.see("k", value, at)
        model.events = model.events[-20:]


@pytest.mark.parametrize(("passed", "left"), [(40, (9, 930)), (2_000, (0, 930 + 2_000 - 63))])
def test_a_page_that_moves_to_a_later_base_keeps_who_was_used_of_late_and_empties_who_was_not(
    passed: int, left: tuple[int, int]
) -> None:
    page = Page(0)
    page.put(page.make(0, 0, 0), 0, 7)
    page.mark(page.index(0))
    page.put(page.make(1, 930, 0), 930, 9)
    page.make(2, 930 + passed, 0)
    old, late = page.index(0), page.index(1)
    assert page.cells[old] & PAYLOAD == 0
    assert page.newest(old) < passed + 930 - SLICES
    assert page.regular(old) == 1
    assert (page.cells[late] & PAYLOAD, page.newest(late)) == left


@pytest.mark.parametrize("often", [62, 63, 64, 100])
def test_a_slice_that_outgrows_its_word_is_exact_and_becomes_a_word_again(often: int) -> None:
    table = Alone(WINDOWS[Count.COUNT], 10)
    assert [table.see(KEY, 1, START) for _ in range(often)] == list(range(1, often + 1))
    assert table.see(KEY, 1, START + SECOND) == often + 1
    assert table.see(KEY, None, START + LENGTH) == 1
    assert table.see(KEY, 1, START + 3 * LENGTH) == 1
