"""Measures in columns read what the state in memory reads, event by event, across chunk borders, caps and gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.columns.chunk import Chunk, blank
from gateway.columns.measures import Measures
from gateway.errors import NotInColumnsError
from gateway.facts import Answer, Facts
from gateway.language.measures import Counting, Measure, measure_of
from gateway.readings import counted, key_of
from gateway.signals import View
from gateway.state.limits import MAX_KEYS
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Count, Sight
from gateway.state.windows import ticks_of
from gateway.values import SECOND, Missing
from tests.judging import CATALOGUE, START

NAMES = ("account.id", "client.network", "request.size", "client.json_style", "client.country", "request.temperature")
POOL: dict[str, list[Any]] = {
    "account.id": ["a", "b", "c"],
    "client.network": ["10.0.0.0/24", "10.0.1.0/24"],
    "request.size": [1, 2, 300, 301, 70_000, -5, 0],
    "client.json_style": [frozenset({"x", "y"}), frozenset({"x"}), frozenset(), frozenset({"y"})],
    "client.country": ["NO", "SE", "DK", "FI", "IS"],
    "request.temperature": [0.0, 0.5, 1.0],
}
MEASURES = [
    Counting(Count.COUNT, None, ("account.id",), None, 16 * SECOND, 1_000),
    Counting(Count.COUNT, None, ("account.id", "client.network"), None, 64 * SECOND, 1_000),
    Counting(Count.SUM, "request.size", ("client.network",), None, 32 * SECOND, 1_000),
    Counting(Count.DISTINCT, "client.country", ("account.id",), None, 32 * SECOND, 1_000),
    Counting(Count.DISTINCT, "client.country", ("account.id",), None, 80 * SECOND, 2),
    Counting(Count.DISTINCT, "client.json_style", ("client.network",), None, 16 * SECOND, 3),
    Counting(Count.DISTINCT, "request.size", ("client.json_style",), None, 24 * SECOND, 100),
    Counting(Count.TOP_SHARE, "client.country", ("account.id",), None, 40 * SECOND, 1_000),
    Counting(Count.TOP_SHARE, "client.country", ("account.id",), None, 80 * SECOND, 2),
    Counting(Count.QUANTILE, "request.size", ("account.id",), None, 24 * SECOND, 1_000, 0.5),
    Counting(Count.COUNT, None, ("request.temperature",), None, 24 * SECOND, 1_000),
]
Row = tuple[int, dict[str, Any]]


@st.composite
def traffic(draw: st.DrawFn) -> list[Row]:
    """Exchanges in order of time (µs), of few values, with gaps and with values missing."""
    steps = st.sampled_from([0, 0, SECOND // 2, SECOND, 3 * SECOND, 9 * SECOND, 90 * SECOND])
    values = st.fixed_dictionaries({name: st.sampled_from([*pool, None]) for name, pool in POOL.items()})
    at, rows = START, []
    for step, row in draw(st.lists(st.tuples(steps, values), min_size=1, max_size=60)):
        at += step
        rows.append((at, row))
    return rows


def chunk_of(rows: list[Row]) -> Chunk:
    """The rows as columns."""
    arrays = {"at": pa.array([at for at, _ in rows], pa.int64())}
    for name in NAMES:
        values = [sorted(row[name]) if isinstance(row[name], frozenset) else row[name] for _, row in rows]
        array = pa.array(values, blank(CATALOGUE[name].type, 0).type)
        arrays[name] = array.dictionary_encode() if pa.types.is_string(array.type) else array
    return Chunk(arrays, CATALOGUE, [])


def by_columns(measure: Measure, rows: list[Row], size: int, most: int = MAX_KEYS) -> list[object]:
    """The readings of every row, worked out in chunks of a size. most: keys that the state keeps."""
    measures, found = Measures([measure], {}, {}, most), list[object]()
    for first in range(0, len(rows), size):
        chunk = chunk_of(rows[first : first + size])
        found += measures.read(chunk)[measure.label].at(np.arange(chunk.size))
    return found


def by_state(measure: Measure, rows: list[Row], most: int = MAX_KEYS) -> list[object]:
    """The same by the state in memory."""
    state, found = MemoryState(most), []
    for at, row in rows:
        values = {name: Missing("none") if value is None else value for name, value in row.items()}
        view = View(Facts(at=at, recorded=values), CATALOGUE, Answer())
        key, value = key_of(measure.per, view), counted(measure, view)
        if not isinstance(key, tuple):
            found.append(None)
            continue
        (reading,) = state.apply(Batch(at, [Sight(measure.window, key, None if measure.settled else value)])).readings
        found.append(reading)
        if measure.settled:
            state.apply(Batch(at, [Sight(measure.window, key, value)]))
    return found


@pytest.mark.parametrize("late", [False, True], ids=["asked", "settled"])
@pytest.mark.parametrize("counting", MEASURES, ids=lambda one: f"{one.kind}-{one.of}-{one.cap}-{'+'.join(one.per)}")
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(rows=traffic(), size=st.sampled_from([1, 7, 1_000]))
def test_columns_read_what_the_state_reads(counting: Counting, late: bool, rows: list[Row], size: int) -> None:
    plain = measure_of(counting, CATALOGUE)
    measure = Measure(plain.label, plain.of, plain.per, plain.where, plain.window, late, plain.type)
    assert by_columns(measure, rows, size) == by_state(measure, rows)


def _by_network(late: bool) -> Measure:
    plain = measure_of(Counting(Count.COUNT, None, ("client.network",), None, 16 * SECOND, 1_000), CATALOGUE)
    return Measure(plain.label, plain.of, plain.per, plain.where, plain.window, late, plain.type)


@pytest.mark.parametrize("late", [False, True], ids=["asked", "settled"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    networks=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 0, SECOND, 7 * SECOND, 60 * SECOND])), max_size=60),
    most=st.integers(4, 14), size=st.sampled_from([1, 7, 1_000]),
)  # fmt: skip
def test_where_the_state_pushes_keys_out_columns_say_so(
    late: bool, networks: list[tuple[int, int]], most: int, size: int
) -> None:
    at, rows = START, []
    for number, step in networks:
        at += step
        rows.append((at, {**dict.fromkeys(NAMES), "client.network": f"10.0.{number}.0/24"}))
    measure = _by_network(late)
    try:
        ours = by_columns(measure, rows, size, most)
    except NotInColumnsError:  # early at times, never late, and never with fewer notes than would do
        per_tick, _ = ticks_of(measure.window)
        notes = {(row["client.network"], measure.window.slice_of(at) // per_tick) for at, row in rows}
        assert len(notes) + 2 > most
    else:
        assert ours == by_state(measure, rows, most)


def test_keys_are_counted_across_chunks_and_only_while_they_are_kept() -> None:
    measure, most = _by_network(late=False), 20

    def rows(keys: int, step: int) -> list[Row]:
        values = [{**dict.fromkeys(NAMES), "client.network": f"10.{n}.0.0/24"} for n in range(keys)]
        return [(START + n * step, row) for n, row in enumerate(values)]

    for size in (3, 1_000):
        assert by_columns(measure, rows(18, 0), size, most) == [1] * 18
        with pytest.raises(NotInColumnsError, match="more than 20 keys"):
            by_columns(measure, rows(19, 0), size, most)
        assert by_columns(measure, rows(200, 4 * SECOND), size, most) == [1] * 200  # few of them at any time
    again = rows(10, 0) * 5  # the same ten, in chunks of their own
    assert by_columns(measure, again, 10, most)[-1] == 5
