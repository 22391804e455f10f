"""Composition of callers' texts: the tables are those of Unicode, and the work that NFKC is given is bounded, by count."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.unicode import MOST_MARKS, composable, composed, is_mark

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
MARKS = [char for char in CHARACTERS if is_mark(char)]
# what a run of marks can come to: each becomes two at most, and two of the letter before it can be marks
LONGEST_RUN = 2 * MOST_MARKS + 2


def longest_run(text: str) -> int:
    """The longest run of marks that NFKC puts in order: the square of it bounds the steps for each."""
    longest = run = 0
    for char in unicodedata.normalize("NFKD", text):
        run = run + 1 if unicodedata.combining(char) else 0
        longest = max(longest, run)
    return longest


ATTACKS = {
    "two classes in turn": "a" + "\u0315\u0300" * 50_000,
    "what becomes a mark": "a" + "\u0f73\u0301" * 50_000,
    "katakana voice marks": "か" + "\u0301\uff9e" * 50_000,
    "a mark of two": "a" + "\u0344\u0323" * 50_000,
    "joined by what cannot be seen": "a" + ("\u0315\u034f\u0300\u200d" * 25_000),
    "letters with marks of their own": ("\u1e9b\u0323" + "\u0315\u0300" * 20) * 2_000,
}


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_runs_of_marks_are_cut_before_they_are_put_in_order(text: str) -> None:
    given = composable(text)
    assert longest_run(given) <= LONGEST_RUN
    assert longest_run(composed(text)) <= LONGEST_RUN


@given(st.lists(st.sampled_from([*MARKS, "a", "é", "ΐ", "か", "\u200b", "\u034f", "\ufe0f"]), max_size=400).map("".join))
def test_no_run_of_any_marks_is_longer(text: str) -> None:
    assert longest_run(composable(text)) <= LONGEST_RUN


@given(st.text())
def test_other_texts_are_composed_as_unicode_says(text: str) -> None:
    visible = "".join(char for char in text if composable(char))
    if longest_run(visible) <= MOST_MARKS:
        assert composed(text) == unicodedata.normalize("NFKC", visible)


def test_marks_are_all_that_can_begin_with_a_mark_once_decomposed() -> None:
    for char in CHARACTERS:
        begins = unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) > 0
        assert is_mark(char) == begins, f"U+{ord(char):04X}"
        if begins:
            assert composable(char * (MOST_MARKS + 1)) == char * MOST_MARKS, f"U+{ord(char):04X} is no mark of the table"
            assert len(unicodedata.normalize("NFKD", char)) <= 2


def test_what_cannot_be_seen_is_dropped_and_nothing_else() -> None:
    """Default_Ignorable_Code_Point has 4,174 members; all others that are dropped are format characters (Cf)."""
    kept = set(composable("\n".join(CHARACTERS)))
    dropped = [char for char in CHARACTERS if char not in kept]
    others = [char for char in dropped if unicodedata.category(char) == "Cf" and ord(char) in OTHER_FORMAT]
    unassigned = [char for char in dropped if 0x13439 <= ord(char) <= 0x1343F]  # assigned since 15.0, all Cf
    assert len(dropped) - len(others) - len(unassigned if unicodedata.category("\U00013439") == "Cn" else []) == 4_174
    assert {char for char in CHARACTERS if unicodedata.category(char) == "Cf"} <= set(dropped)
    assert all(unicodedata.category(char) in ("Cf", "Mn", "Lo", "Cn") for char in dropped)


OTHER_FORMAT = {
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, *range(0xFFF9, 0xFFFC), 0x110BD, 0x110CD, *range(0x13430, 0x13440),
}  # fmt: skip


def test_composition_brings_back_nothing_that_was_dropped() -> None:
    made = composed("\n".join(CHARACTERS))
    assert composable(made) == made
