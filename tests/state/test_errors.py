"""What is approximate in windows errs no more than it says: codes and digests that stand for values and keys.

Nobody can wait for two of 2⁴⁹ codes to meet. So parts of 28 bits of a code are looked at: they must meet as often as chance has
it, and then the whole meets as seldom as stated. What is not approximate is compared with exact counts elsewhere.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest

from gateway.state.cells import CODE, SHARE_CODE, code_of, share_of
from gateway.state.operations import Count, Sight, Window
from gateway.state.rows import Rows
from gateway.state.tables import Tables
from gateway.values import SECOND

MANY = 200_000
PART = 28
VALUES = [f"prompt {number}" for number in range(MANY)]
START = 1_793_500_000 * SECOND


def met(codes: list[int]) -> int:
    """How many pairs are equal."""
    return sum(often * (often - 1) // 2 for often in Counter(codes).values())


@pytest.mark.parametrize(
    ("codes", "bits"),
    [
        ([code_of(value) for value in VALUES], 49),
        ([share_of(value) for value in VALUES], 44),
        ([hash((value,)) & 2**64 - 1 for value in VALUES], 64),
        ([hash(("one", value)) & 2**64 - 1 for value in VALUES], 64),
    ],
    ids=["a distinct value", "a value of a top share", "a key", "a key of two parts"],
)
def test_every_part_of_what_stands_for_a_value_meets_as_seldom_as_chance_has_it(codes: list[int], bits: int) -> None:
    assert max(codes) < 2**bits
    expected = MANY**2 / 2 ** (PART + 1)
    for low in (0, (bits - PART) // 2, bits - PART):
        pairs = met([code >> low & 2**PART - 1 for code in codes])
        assert abs(pairs - expected) < 7 * sqrt(expected), f"bits {low} to {low + PART}"
    assert met(codes) <= 1, "two pairs: a chance of 1 in 1,500,000 at 44 bits, less at more"


def test_the_stated_chances_are_those_of_the_bits_that_are_kept() -> None:
    """n²/2 pairs of n values, each of which meets with one in 2⁴⁹, 2⁴⁴ or 2⁶⁴."""
    assert (CODE, SHARE_CODE) == (2**49 - 1, 2**44 - 1)
    for many, bits, stated in (
        (1_000, 49, 9e-10), (20_000, 49, 4e-7), (100_000, 49, 9e-6), (500, 44, 7.2e-9), (10_000_000, 64, 3e-6),
    ):  # fmt: skip
        assert many**2 / 2 ** (bits + 1) == pytest.approx(stated, rel=0.15)


@pytest.mark.parametrize("kind", [Count.DISTINCT, Count.TOP_SHARE])
def test_values_whose_codes_meet_are_counted_as_one_and_never_as_more(kind: Count) -> None:
    """An error makes a distinct too low, and a top share that of the values that met, in every form in which they are held."""
    window = Window("w", kind, 8 * SECOND)
    for many in (1, 2, 24, 25, 500):
        tables = Tables(100)
        texts = [*(f"v{number}" for number in range(many)), *(Same(f"v{number}", f"w{number}") for number in range(many))]
        reading = [tables.see([Sight(window, ("k",), text)], START)[0] for text in texts][-1]
        assert reading == (many if kind is Count.DISTINCT else 1 / many)


class Same(str):
    """Another text whose hash is that of a first one: what a meeting of codes would be."""

    __slots__ = ("_first",)
    _first: str

    def __new__(cls, first: str, text: str) -> Same:
        made = super().__new__(cls, text)
        made._first = first
        return made

    def __hash__(self) -> int:
        return hash(self._first)

    def __str__(self) -> str:  # codes are made of the text of a value
        return self


def test_keys_whose_digests_meet_are_one_key() -> None:
    rows = Rows()
    row = rows.hold(("a",), -1, "region")
    assert rows.find((Same("a", "b"),)) == row
    assert rows.find(("b",)) == -1
