"""Row numbers against a plain mapping: every key is found under its own row, and what was let go leaves nothing."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.state.rows import PAGE, Rows

steps = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=300)


@given(steps=steps)
def test_a_key_has_one_row_until_the_last_holder_lets_go(steps: list[tuple[int, bool]]) -> None:
    rows, known, held = Rows(), dict[tuple[str, ...], int](), Counter[tuple[str, ...]]()
    for number, holds in steps:
        key = (f"k{number}", "x") if number % 2 else (f"k{number}",)
        row = rows.find(key)
        assert row == known.get(key, -1)
        if holds:
            known[key] = rows.hold(key, row, "region")
            held[key] += 1
        elif held[key]:
            rows.let_go(row)
            held[key] -= 1
            if not held[key]:
                del known[key]
        assert len(rows) == len(known) == len(set(known.values()))


@settings(max_examples=10, deadline=None)
@given(kept=st.sets(st.integers(0, 5_999), max_size=50))
def test_thousands_of_keys_stay_found_while_others_come_and_go(kept: set[int]) -> None:
    """Through the splits of segments, and through the moves that fill the place of a key that went."""
    rows = Rows()
    made = {number: rows.hold((str(number),), -1, "region") for number in range(6_000)}
    assert all(rows.find((str(number),)) == row for number, row in made.items())
    for number, row in made.items():
        if number not in kept:
            rows.let_go(row)
    assert all(rows.find((str(number),)) == (row if number in kept else -1) for number, row in made.items())
    for number in kept:
        rows.let_go(made[number])
    assert (len(rows), rows.pages) == (0, 0)


def test_keys_of_one_region_share_pages_and_the_numbers_of_pages_that_went_are_used_again() -> None:
    rows = Rows()
    for _ in range(3):
        held = [rows.hold((str(number),), -1, "a") for number in range(PAGE)]
        other = rows.hold(("b",), -1, "b")
        assert rows.pages == 2
        assert max(*held, other) < 2 * PAGE
        for row in (*held, other):
            rows.let_go(row)
    assert rows.pages == 0
