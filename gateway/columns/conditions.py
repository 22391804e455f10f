"""Conditions over columns: the Kleene truth of every row at once.

A truth is a number: false 0, unknown 1, true 2. So «all» is the least of its parts, «any» the greatest, and «none» what is
missing from 2. A leaf is asked by its own `test`, once for each distinct value of its column; numbers are compared as columns,
by the same comparisons.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.columns.values import Bools, Column
from gateway.columns.windows import Reading
from gateway.language.conditions import All, Condition, Leaf, No, Truth, spoken
from gateway.language.operators import Operand
from gateway.language.text import TextView
from gateway.values import AtLeast, Missing

Truth8 = npt.NDArray[np.uint8]
FALSE, UNKNOWN, TRUE = np.uint8(0), np.uint8(1), np.uint8(2)
_NUMBER: Final[Mapping[Truth, np.uint8]] = {False: FALSE, None: UNKNOWN, True: TRUE}
_ABSENT: Final = Missing("not there")
_COMPARED: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge,
    "in": lambda numbers, values: np.isin(numbers, list(values)),
    "not_in": lambda numbers, values: ~np.isin(numbers, list(values)),
    "between": lambda numbers, pair: (numbers >= pair[0]) & (numbers <= pair[1]),
}  # fmt: skip


class Truths:
    """The truths of conditions on the columns of one view of a chunk, each worked out once."""

    def __init__(self, column: Callable[[str], Column], rows: int) -> None:
        self._column, self._rows = column, rows
        self._found: dict[str, Truth8] = {}

    def of(self, condition: Condition, reading: Callable[[str], Reading | None] = lambda name: None) -> Truth8:
        """The truth of a condition. reading: that of a measure by its name in the rule, None for signals."""
        if isinstance(condition, Leaf):
            measured = reading(condition.name)
            return self.leaf(condition) if measured is None else tested(condition, measured)
        parts = [self.of(part, reading) for part in condition.parts]
        if isinstance(condition, All):
            least: Truth8 = np.minimum.reduce(parts)
            return least
        found: Truth8 = np.maximum.reduce(parts)
        return TRUE - found if isinstance(condition, No) else found

    def leaf(self, leaf: Leaf) -> Truth8:
        """The truth of a comparison of a signal."""
        said = spoken(leaf.canonical())
        found = self._found.get(said)
        if found is None:
            found = self._found[said] = self._tested(leaf)
        return found

    def _tested(self, leaf: Leaf) -> Truth8:
        column = self._column(leaf.name)
        if column.numeric and leaf.view is TextView.RAW and leaf.operator.name in _COMPARED:
            return _of(_COMPARED[leaf.operator.name](column.numbers, leaf.operand), column.known)
        if leaf.operator.operand is Operand.FLAG:
            return np.where(column.known == leaf.operand, TRUE, FALSE)
        truths = np.array([*[_NUMBER[leaf.test(value)] for value in column.distinct], UNKNOWN], np.uint8)
        return truths[column.codes]


def tested(leaf: Leaf, reading: Reading) -> Truth8:
    """The truth of a comparison of a measure."""
    size = len(reading.numbers)
    known = np.ones(size, np.bool_) if reading.known is None else reading.known
    if leaf.operator.operand is Operand.FLAG:
        return np.where(known == leaf.operand, TRUE, FALSE)
    truth = _of(_COMPARED[leaf.operator.name](reading.numbers, leaf.operand), known)
    if reading.capped is not None:
        rows = np.flatnonzero(reading.capped & known)
        counts, inverse = np.unique(reading.numbers[rows], return_inverse=True)
        truth[rows] = np.array([_NUMBER[leaf.test(AtLeast(int(count)))] for count in counts], np.uint8)[inverse]
    return truth


def _of(holds: Bools, known: Bools) -> Truth8:
    truth: Truth8 = holds.view(np.uint8) << np.uint8(1)
    return truth if known.all() else np.where(known, truth, UNKNOWN)
