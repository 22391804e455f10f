"""Columns of values: what a chunk of records holds of one signal, and the keys that several of them make.

A value stands as a code (its place among the distinct values of the chunk) and, where chunks must recognise each other's
values, as a hash of 64 bits. That any two of n different values are taken for one has a chance of n²/2⁶⁵: 7·10⁻⁶ with 16
million. Hashes are made by polars, whose result depends on its version, so checkpoints hold a probe of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from gateway.values import Type

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
_SEED: Final = 1_793_500_000
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def mixed(numbers: Hashes) -> Hashes:
    """Numbers spread over 64 bits (the finaliser of Steele's SplitMix64)."""
    numbers = numbers + _ODD
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _SECOND
    return numbers ^ (numbers >> np.uint64(31))


def paired(one: Hashes, other: Hashes) -> Hashes:
    """A hash of both, in this order."""
    return mixed(mixed(one) + other * _FIRST)


def probe() -> int:
    """A hash that is another one where texts are hashed otherwise than here."""
    return int(_texts(pa.array(["sluicegate"]))[0])


def _texts(array: pa.Array) -> Hashes:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series.hash(_SEED).to_numpy().astype(np.uint64)


class Column:
    """One signal over the rows of a chunk.

    known: where there is a value. codes: of each row the place of its value in `distinct`, -1 where there is none. hashes: of
    the distinct values. numbers: the values themselves, where they are numbers or truths; meaningless where not known.
    """

    def __init__(self, kind: Type, array: pa.Array) -> None:
        self.kind = kind
        self._array = array
        self.known: Bools = np.asarray(array.is_valid())

    @property
    def numeric(self) -> bool:
        """Whether `numbers` may be asked for."""
        return self.kind.exact in (int, float, bool)

    @cached_property
    def numbers(self) -> npt.NDArray[Any]:
        blank = False if pa.types.is_boolean(self._array.type) else 0
        return np.asarray(pc.fill_null(self._array, pa.scalar(blank, self._array.type)).to_numpy(zero_copy_only=False))

    @cached_property
    def _coded(self) -> tuple[Codes, Hashes, pa.Array | list[Any]]:
        if self.kind.element is not None:
            return _sets(self._array, self.known)
        array = self._array
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        distinct = encoded.dictionary
        if self.kind.exact is str:
            return codes, _texts(distinct), distinct
        numbers = distinct.to_numpy(zero_copy_only=False)
        return codes, mixed(numbers.astype(np.float64 if self.kind.exact is float else np.int64).view(np.uint64)), distinct

    @property
    def codes(self) -> Codes:
        return self._coded[0]

    @property
    def hashes(self) -> Hashes:
        return self._coded[1]

    @cached_property
    def distinct(self) -> list[Any]:
        """The distinct values, typed as signals are."""
        found = self._coded[2]
        return found if isinstance(found, list) else found.to_pylist()

    @cached_property
    def hashed(self) -> Hashes:
        """The hash of every row's value; meaningless where not known."""
        return self.hashes[self.codes] if len(self.hashes) else np.zeros(len(self.codes), np.uint64)


def _sets(array: pa.Array, known: Bools) -> tuple[Codes, Hashes, list[Any]]:
    """Codes of sets: by the sum of their elements' hashes, which no order changes (Zobrist)."""
    elements = Column(_TEXT, pc.list_flatten(array)) if not pa.types.is_integer(array.type.value_type) else None
    flat = elements.hashed if elements is not None else np.asarray(pc.list_flatten(array)).astype(np.uint64)
    lengths = np.where(known, pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), 0)
    ends = np.cumsum(lengths)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(flat), dtype=np.uint64)])
    hashes = mixed(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64))
    unique, first, inverse = np.unique(hashes[known], return_index=True, return_inverse=True)
    codes = np.full(len(known), -1, np.int64)
    codes[known] = inverse
    rows = np.flatnonzero(known)[first]
    return codes, unique, [frozenset(value) for value in array.take(pa.array(rows)).to_pylist()]


_TEXT: Final = Type("string")


class Keys:
    """What the values of several signals make together, row by row: codes (-1 where one is missing), a hash by code."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self.codes: Codes = np.zeros(rows, np.int64)
        self.hashes: Hashes = np.zeros(1, np.uint64)
        for place, column in enumerate(columns):
            self._join(column, place == 0)

    def _join(self, column: Column, first: bool) -> None:
        if first:
            self.codes, self.hashes = column.codes, mixed(column.hashes)
            return
        width = np.int64(max(1, len(column.hashes)))
        both = (self.codes >= 0) & (column.codes >= 0)
        pairs, inverse = np.unique(self.codes[both] * width + column.codes[both], return_inverse=True)
        self.codes = np.full(len(both), -1, np.int64)
        self.codes[both] = inverse
        self.hashes = paired(self.hashes[pairs // width], column.hashes[pairs % width])
