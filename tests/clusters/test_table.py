"""Bounded memory whose content depends on the set of sightings, not on their order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.clusters.table import PENDING, Hashes, Table

Sighting = tuple[int, int, int, int]
SIGHTINGS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(-5, 100), st.integers(-2, 2)))


def filled(sightings: list[Sighting], most: int) -> Table:
    table = Table(most=most)
    spread = Hashes()
    for value, node, at, slot in sightings:
        table.add(spread(str(value)), node, at, slot)
    table.merge()
    return table


def rows(table: Table) -> list[tuple[int, ...]]:
    return list(zip(table.values, table.nodes, table.slots, table.counts, table.firsts, table.lasts, strict=True))


@given(SIGHTINGS, st.integers(1, 60), st.randoms())
def test_rows_are_what_a_dict_would_hold(sightings: list[Sighting], most: int, rng: random.Random) -> None:
    table = filled(sightings, most)
    expected: dict[tuple[int, int, int], list[int]] = {}
    spread = Hashes()
    for value, node, at, slot in sightings:
        expected.setdefault((spread(str(value)), node, slot), []).append(at)
    kept = {key: times for key, times in expected.items() if key[0] in set(table.values)}
    assert {row[:3]: row[3:] for row in rows(table)} == {
        key: (len(times), min(times), max(times)) for key, times in kept.items()
    }
    assert len(table) <= most
    assert len(kept) == len(expected) or table.share < 1
    shuffled = rng.sample(sightings, len(sightings))
    assert rows(filled(shuffled, most)) == rows(table)


def test_merging_on_the_way_changes_nothing() -> None:
    table = Table()
    for number in range(PENDING + 10):
        table.add(number % 7, number % 3, number)
    assert len(table) == 21 + 10  # merged once, then added to
    table.merge()
    assert sum(table.counts) == PENDING + 10
    assert (min(table.firsts), max(table.lasts)) == (0, PENDING + 9)


def test_memory_stays_flat_under_rotating_values_and_counts_stay_true() -> None:
    """Thirty times the bound of values: never more rows than the bound and what waits, and an estimate within four errors."""
    most, values, spread = 20_000, 600_000, Hashes()
    table = Table(most=most)
    largest = 0
    for number in range(values):
        table.add(spread(str(number)), number % 100, 0)
        largest = max(largest, len(table))
    table.merge()
    assert largest <= most + PENDING
    assert len(table) <= most
    error = ((1 / table.share - 1) / values) ** 0.5
    assert abs(len(table) / table.share - values) < 4 * error * values


def test_a_kept_value_keeps_all_of_its_holders() -> None:
    spread = Hashes()
    table = Table(most=500)
    for node in range(10):
        for value in range(400):
            table.add(spread(str(value)), node, 0)
    table.merge()
    assert table.share < 1
    assert len(table) > 100
    assert {len(group) for _, group in table.groups()} == {10}


def test_nodes_can_be_numbered_anew() -> None:
    table = Table()
    for node in (0, 1, 2):
        table.add(9, node, node)
    table.merge([2, 0, 1])
    assert [(row[1], row[4]) for row in rows(table)] == [(0, 1), (1, 2), (2, 0)]


def test_slots_are_left_out_by_the_hour() -> None:
    table = Table(most=300, by_slot=True)
    for node in (0, 1):
        for slot in range(60 * 20):
            table.add(7, node, 0, slot)
    table.merge()
    kept = {slot // 60 for slot in table.slots}
    assert 0 < len(kept) < 20
    assert len(table) == 2 * 60 * len(kept)
