"""The rows of a chunk under one key, in order of time, and where the slices of a window begin among them.

A window covers the current slice and those `SLICES - 1` before it (`gateway.state.operations`). So of rows sorted by key and
time, what an event's window covers is a stretch that ends with the event, and where it begins depends on key and slice only.
All measures of equal keys and length share that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from gateway.columns.values import Bools, Hashes, Ints, Keys, ranked, sorted_by
from gateway.state.operations import SLICES

PAST: Final = SLICES - 1


class Groups:
    """Rows by key and time. rows: their places in the chunk; gid: of each the number of its key; keys: its hash, rising."""

    def __init__(self, keys: Keys) -> None:
        valid = np.flatnonzero(keys.codes >= 0)
        self.keys, ranks = ranked(keys.hashes)
        self.gid, order = sorted_by(ranks[keys.codes[valid]], len(self.keys))
        self.rows: Ints = valid[order]
        self.size = len(keys.codes)

    @cached_property
    def starts(self) -> Ints:
        """Where each key's rows begin; one more number says where the last one's end."""
        return np.append(0, np.cumsum(np.bincount(self.gid, minlength=len(self.keys))))

    def find(self, keys: Hashes) -> tuple[Ints, Bools]:
        """The numbers of keys, and which of them are here at all. keys: rising, so that this is quick."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1).astype(np.int64)
        return places, self.keys[places] == keys


class Spans:
    """The rows of a group under windows of one length (µs). slices: of each row; low: where its window begins.

    place: key and slice as one number that never falls from row to row.
    """

    def __init__(self, groups: Groups, at: Ints, length: int) -> None:
        self.groups = groups
        self.slices: Ints = at[groups.rows] // (length // SLICES)
        self.first = int(self.slices.min()) if len(self.slices) else 0
        self.last = int(at[-1]) // (length // SLICES) if len(at) else 0
        self.width = self.last - self.first + 4 * SLICES
        self.place: Ints = self.placed(groups.gid, self.slices)

    def placed(self, gid: Ints, slices: Ints) -> Ints:
        return gid * self.width + (slices - self.first + SLICES)

    @cached_property
    def low(self) -> Ints:
        return np.searchsorted(self.place, self.place - PAST)

    def after(self, place: Ints) -> Ints:
        """The first row at which something counted at these places is no longer covered."""
        return np.searchsorted(self.place, place + SLICES)


@dataclass(slots=True)
class Held:
    """What a window holds of chunks before: for each key, value and slice how much. Sorted by key; of each by slice."""

    keys: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    values: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    slices: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    weights: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    def only(self, rows: Bools | Ints) -> Held:
        """Some of it."""
        return Held(self.keys[rows], self.values[rows], self.slices[rows], self.weights[rows])

    def since(self, part: int) -> Held:
        """What slices from this one on still cover."""
        return self.only(self.slices > part - SLICES)

    def and_also(self, newer: Held) -> Held:
        """Both, sorted. newer: what is of later slices wherever keys are the same."""
        if not len(self) or not len(newer):
            return newer if len(newer) else self
        keys = np.concatenate([self.keys, newer.keys])
        order = np.argsort(keys, kind="stable")  # of two runs that are sorted: it merges them
        return Held(
            keys[order], np.concatenate([self.values, newer.values])[order], np.concatenate([self.slices, newer.slices])[order],
            np.concatenate([self.weights, newer.weights])[order],
        )  # fmt: skip
