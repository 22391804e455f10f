"""Distinct values past their cap: which of them are kept depends on the order of events, but within a slice only a little.

While a slice lasts nothing leaves a window. So of a key and a slice it is enough to know how many values it began with: those
that are known are renewed, of the others as many as there is room for come in, in the order in which they are first seen, and
each one left out makes the reading «at least» for as long as the window lasts. That is what `gateway.state.cells.Distinct`
does, event by event, and a property test holds the two together. Keys go through their slices side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gateway.columns.groups import Held, Spans
from gateway.columns.values import Bools, Hashes, Ints
from gateway.columns.windows import Counted, Pairs, kept_of, pairs_of
from gateway.state.operations import SLICES

_NEVER = -(2**40)


@dataclass(slots=True)
class Full:
    """Keys that left values out, rising, and the slice from which on that no longer matters."""

    keys: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    until: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def of(self, spans: Spans) -> Ints:
        """Of every key of a group its slice; 0 where it has left out nothing."""
        found = np.zeros(len(spans.groups.keys), np.int64)
        gid, here = spans.groups.find(self.keys)
        found[gid[here]] = self.until[here]
        return found

    def after(self, spans: Spans, until: Ints) -> Full:
        """What matters after a chunk. until: of every key of its group."""
        here = spans.groups.find(self.keys)[1]
        gid = np.flatnonzero(until)
        keys = np.concatenate([self.keys[~here], spans.groups.keys[gid]])
        slices = np.concatenate([self.until[~here], until[gid]])
        order = np.argsort(keys)
        order = order[slices[order] > spans.last]
        return Full(keys[order], slices[order])


class Crammed:
    """Some keys of a group, slice by slice. gids: their numbers, rising; until: of each the slice of `Full`, brought up here.

    rows: theirs, in the group.
    """

    def __init__(self, spans: Spans, gids: Ints, counted: Counted, held: Held, cap: int, until: Ints) -> None:
        self.until = until[gids]
        self._spans, self._cap = spans, cap
        chosen = self._chosen = np.zeros(len(spans.groups.keys), np.bool_)
        chosen[gids] = True
        here = chosen[spans.groups.gid]
        self.rows: Ints = np.flatnonzero(here)
        known, there = spans.groups.find(held.keys)
        self._held = held.only(there & chosen[known])
        self._pairs = pairs_of(spans, counted.only(here), self._held)
        self._local = np.cumsum(chosen) - 1  # of each key its place among these
        place = spans.place[self.rows]
        self._head = np.append(True, place[1:] != place[:-1])[: len(place)]
        self._stretch: Ints = np.cumsum(self._head) - 1  # of each row its key's slice, numbered
        self._coming = np.zeros(len(self.rows), np.bool_)
        self._left = np.zeros(len(self.rows), np.bool_)
        self._go()

    def read(self, late: bool) -> tuple[Ints, Bools]:
        """The readings of `rows`, and where they are «at least»."""
        came, left = self._since(self._coming, late), self._since(self._left, late)
        return self._sizes[self._stretch] + came, self._full[self._stretch] | (left > 0)

    def held(self, held: Held) -> Held:
        """What all keys hold, given what they would without a cap."""
        groups, pairs = self._spans.groups, self._pairs
        known, there = groups.find(held.keys)
        kept = Pairs(pairs.pair, self._latest[self._numbers], pairs.row, pairs.width, pairs.values)
        return held.only(~(there & self._chosen[known])).and_also(
            kept_of(self._spans, kept, Held(), np.flatnonzero(pairs.last))
        )

    def _since(self, happened: Bools, late: bool) -> Ints:
        """How often something happened in each row's slice, the row itself included unless it counts `late`."""
        running: Ints = np.cumsum(happened)
        before: Ints = (running - happened)[self._head][self._stretch]
        found: Ints = running - before - (happened if late else 0)
        return found

    def _go(self) -> None:
        """Through all slices, in order."""
        spans, pairs = self._spans, self._pairs
        self._numbers: Ints = np.cumsum(pairs.first) - 1
        self._latest = np.full(int(pairs.first.sum()), _NEVER, np.int64)
        was = np.flatnonzero(pairs.row < 0)
        self._latest[self._numbers[was]] = pairs.slices[was]
        rings = np.zeros((len(self.until), SLICES), np.int64)  # of each key, how many values were last seen in each slice
        np.add.at(rings, (self._local[pairs.gid[was]], pairs.slices[was] % SLICES), 1)
        new = pairs.first | np.append(True, np.diff(pairs.slices) != 0)[: len(pairs.slices)]
        seen = np.flatnonzero(new & (pairs.row >= 0))
        seen = seen[np.lexsort((pairs.row[seen], pairs.slices[seen]))]
        stretches = self.rows[self._head]
        parts, keys = spans.slices[stretches], self._local[spans.groups.gid[stretches]]
        order = np.argsort(parts, kind="stable")
        self._sizes, self._full = np.zeros(len(stretches), np.int64), np.zeros(len(stretches), np.bool_)
        steps = np.unique(parts)
        some = np.searchsorted(parts[order], np.append(steps, steps[-1:] + 1))
        many = np.searchsorted(pairs.slices[seen], np.append(steps, steps[-1:] + 1))
        newest = spans.first
        for number, part in enumerate(steps.tolist()):
            rings[:, np.arange(max(newest + 1, part - SLICES + 1), part + 1) % SLICES] = 0
            newest = part
            now = order[some[number] : some[number + 1]]
            self._sizes[now] = rings[keys[now]].sum(1)
            self._full[now] = self.until[keys[now]] > part
            self._slice(part, seen[many[number] : many[number + 1]], rings)

    def _slice(self, part: int, seen: Ints, rings: Ints) -> None:
        """What comes in a slice: each value of each key once, in order of time within a key."""
        pair, key = self._numbers[seen], self._local[self._pairs.gid[seen]]
        known = self._latest[pair] > part - SLICES
        coming: Ints = np.cumsum(~known)
        before: Ints = (coming - ~known)[np.searchsorted(key, key)]  # rows are by key, so keys rise
        enters = ~known & (coming - before <= self._cap - rings.sum(1)[key])
        np.subtract.at(rings, (key[known], self._latest[pair[known]] % SLICES), 1)
        stays = known | enters
        np.add.at(rings, (key[stays], np.full(int(stays.sum()), part % SLICES)), 1)
        self._latest[pair[stays]] = part
        rows = np.searchsorted(self.rows, self._pairs.row[seen])
        self._coming[rows[enters]] = True
        self._left[rows[~stays]] = True
        self.until[key[~stays]] = part + SLICES
