"""A chunk of compact records as columns: what is looked at is made when it is first asked for, and once.

Two views of an exchange are kept apart as the event engine does: as it is judged, when nothing of its answer is known, and once
it is over. Which answers were given depends on the decisions themselves, so that view is handed the columns of the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from gateway.columns.conditions import Truths
from gateway.columns.groups import Groups, Spans
from gateway.columns.values import Bools, Column, Ints, Keys
from gateway.facts import Facts
from gateway.replay.compact import FACTS
from gateway.signals import Catalogue, View, held
from gateway.values import SECOND, Failed, Missing, Type

FILE: Final = "(file)"
DERIVED: Final[Mapping[str, Callable[[Ints], Ints]]] = {"request.hour": lambda at: at // (3_600 * SECOND)}
ANSWERED: Final[Mapping[str, str]] = {
    "response.status": "status", "response.input_tokens": "input_tokens", "response.output_tokens": "output_tokens",
    "response.cached_tokens": "cached_tokens", "response.reasoning_tokens": "reasoning_tokens",
}  # fmt: skip


def blank(kind: Type, rows: int) -> pa.Array:
    """A column without any value."""
    if kind.element is not None:
        return pa.nulls(rows, pa.list_(pa.string()))
    return pa.nulls(rows, {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind.exact])


def constant(value: object, kind: Type, rows: int) -> pa.Array:
    """A column of one value, or of none."""
    if isinstance(value, (Missing, Failed)):
        return blank(kind, rows)
    return pa.array([value] * rows, blank(kind, 0).type)


class Seen:
    """One view of a chunk: its columns, and the truth of conditions on them.

    array: the column of a signal as read, None where there is none.
    """

    def __init__(self, catalogue: Catalogue, rows: int, array: Callable[[str], pa.Array | None]) -> None:
        self._catalogue, self._rows, self._array = catalogue, rows, array
        self._columns: dict[str, Column] = {}
        self.truths = Truths(self.column, rows)

    def column(self, name: str) -> Column:
        """The column of a signal."""
        found = self._columns.get(name)
        if found is None:
            kind, array = self._catalogue[name].type, self._array(name)
            found = self._columns[name] = Column(kind, blank(kind, self._rows) if array is None else array)
        return found


class Chunk:
    """Some exchanges in order of time.

    arrays: by name of the fact or signal, and under `FILE` the place of the file that a row is of. files: the columns of each.
    """

    def __init__(self, arrays: Mapping[str, pa.Array], catalogue: Catalogue, files: Sequence[Collection[str]]) -> None:
        self.arrays, self.catalogue, self._files = arrays, catalogue, files
        self.at: Ints = arrays["at"].to_numpy(zero_copy_only=False).astype(np.int64)
        self.size = len(self.at)
        self.asked = Seen(catalogue, self.size, self._asked)
        self._groups: dict[tuple[str, ...], Groups] = {}
        self._spans: dict[tuple[tuple[str, ...], int], Spans] = {}

    def over(self, answers: Mapping[str, pa.Array]) -> Seen:
        """The exchanges once they are over. answers: the columns of the facts of their answers (`ANSWERED`)."""

        def array(name: str) -> pa.Array | None:
            return answers[ANSWERED[name]] if name in ANSWERED else self._asked(name)

        return Seen(self.catalogue, self.size, array)

    def fact(self, name: str) -> Column:
        """The column of a fact (`gateway.replay.compact.FACTS`)."""
        kind = FACTS[name]
        return Column(kind, self.arrays.get(name, blank(kind, self.size)))

    def part(self, rows: slice) -> Chunk:
        """Some of its rows."""
        return Chunk({name: array[rows] for name, array in self.arrays.items()}, self.catalogue, self._files)

    def unrecorded(self, name: str) -> Bools | None:
        """Where a signal is not recorded, because the file has no such column; None where it is everywhere."""
        lacking = [place for place, columns in enumerate(self._files) if name not in columns]
        if not lacking or not held(self.catalogue[name]):
            return None
        found: Bools = np.isin(self.arrays[FILE].to_numpy(zero_copy_only=False), lacking)
        return found

    def lacks(self, row: int, name: str) -> bool:
        """Whether a row's file has no column for a signal that records hold."""
        return held(self.catalogue[name]) and name not in self._files[self.arrays[FILE][row].as_py()]

    def misses(self, row: int, name: str) -> bool:
        """Whether a row's file says that there is none of a signal."""
        return not self.asked.column(name).known[row] and not self.lacks(row, name)

    def groups(self, per: tuple[str, ...]) -> Groups:
        """The rows by the key that some signals make."""
        found = self._groups.get(per)
        if found is None:
            found = self._groups[per] = Groups(Keys([self.asked.column(name) for name in per], self.size))
        return found

    def let_go(self, per: tuple[str, ...]) -> None:
        """Free the groups of a key."""
        self._groups.pop(per, None)
        for key in [key for key in self._spans if key[0] == per]:
            del self._spans[key]

    def spans(self, per: tuple[str, ...], length: int) -> Spans:
        """The same under windows of a length (µs)."""
        found = self._spans.get((per, length))
        if found is None:
            found = self._spans[per, length] = Spans(self.groups(per), self.at, length)
        return found

    def _asked(self, name: str) -> pa.Array | None:
        signal = self.catalogue[name]
        if signal.settled:
            return None
        if name in self.arrays:
            return self.arrays[name]
        if name in DERIVED:
            return pa.array(DERIVED[name](self.at))
        return constant(signal.resolve(self._bare), signal.type, self.size) if signal.derived else None

    @cached_property
    def _bare(self) -> View:
        """An exchange of which nothing is known, as signals see it that depend on declarations alone."""
        return View(Facts(at=0, recorded={}), self.catalogue)
