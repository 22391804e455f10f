"""How each kind of window reads over a whole chunk: one function for each, given what it holds of chunks before.

They answer as the state in memory does (`gateway.state.kinds`), event by event; a property test holds the two together. What
is counted before the look of its own event and what only after (an exchange settles once it is judged) differ by `late`.

**Counts and sums** are differences of running totals. **Distinct** values: an occurrence counts from its own row until the
value comes again or leaves the window; the reading is how many such stretches cover a row. **Top shares**: within a slice
counts only rise, so the most frequent value is the largest count at the slice's beginning or one that was reached since.
**Caps and quantiles** depend on the order of events: keys whose values ever exceed the cap, and all keys of a quantile, are
given to the objects of the state itself (`capped`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gateway.columns.groups import PAST, Held, Spans, by
from gateway.columns.values import Bools, Floats, Hashes, Ints
from gateway.errors import NotInColumnsError
from gateway.state.operations import LARGEST_AMOUNT, SLICES
from gateway.values import AtLeast


@dataclass(slots=True)
class Reading:
    """What a measure reads, row by row.

    known: where there is a value at all (None: everywhere). capped: where it is «at least» that (None: nowhere).
    """

    numbers: npt.NDArray[np.generic]
    known: Bools | None = None
    capped: Bools | None = None

    def at(self, rows: Ints) -> list[object]:
        """The readings of some rows as the state would give them."""
        found: list[object] = self.numbers[rows].tolist()
        if self.capped is not None:
            for place in np.flatnonzero(self.capped[rows]):
                found[place] = AtLeast(int(self.numbers[rows[place]]))
        if self.known is not None:
            for place in np.flatnonzero(~self.known[rows]):
                found[place] = None
        return found


@dataclass(slots=True)
class Counted:
    """What is counted, by rows of a group: where, which value (a code with the hashes of all codes), how much."""

    where: Bools
    weights: Ints | None = None
    codes: Ints | None = None
    hashes: Hashes | None = None


def totals(spans: Spans, counted: Counted, held: Held, late: bool) -> tuple[Ints, Held]:
    """Counts and sums: the reading of every row of the group, and what is held from here on."""
    weights = counted.where.astype(np.int64) if counted.weights is None else np.where(counted.where, counted.weights, 0)
    bound = float(np.abs(weights.astype(np.float64)).sum()) + float(np.abs(held.weights.astype(np.float64)).sum())
    if counted.weights is not None and bound >= LARGEST_AMOUNT:
        raise NotInColumnsError("a sum of more than 2^53")
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(weights)])
    ends = running[:-1] if late else running[1:]
    found = ends - running[spans.low]
    held = held.since(spans.first)
    gid, here = spans.groups.find(held.keys)
    if here.any():
        before = held.only(here)
        places = spans.placed(gid[here], before.slices)
        earlier = np.concatenate([np.zeros(1, np.int64), np.cumsum(before.weights)])
        upto = np.searchsorted(gid[here], spans.groups.gid, side="right")
        found = found + earlier[upto] - earlier[np.searchsorted(places, spans.place - PAST)]
    kept = np.flatnonzero((spans.slices > spans.last - SLICES) & (weights != 0))
    cuts = np.flatnonzero(np.diff(spans.place[kept], prepend=-1))
    heads = kept[cuts]
    sums = np.add.reduceat(weights[kept], cuts) if len(cuts) else np.zeros(0, np.int64)
    keys = spans.groups.keys[spans.groups.gid[heads]]
    new = Held(keys, np.zeros(len(heads), np.uint64), spans.slices[heads], sums)
    return found, held.since(spans.last).and_also(new)


@dataclass(slots=True)
class _Pairs:
    """Everything counted of a key and a value, held or in the chunk, by both and time.

    pair: numbers of key and value as one; gid, place: of the key, and with the slice; row: in the group, below 0 where held.
    """

    pair: Ints
    gid: Ints
    slices: Ints
    weights: Ints
    row: Ints
    values: Hashes

    @property
    def last(self) -> Bools:
        """The latest of each pair."""
        return np.append(self.pair[1:] != self.pair[:-1], True)


def _pairs(spans: Spans, counted: Counted, held: Held) -> _Pairs:
    assert counted.codes is not None, "what counts values is given them"
    assert counted.hashes is not None, "what counts values is given their hashes"
    rows, held = np.flatnonzero(counted.where), held.since(spans.first)
    known_gid, here = spans.groups.find(held.keys)
    before = held.only(here)
    values, ranks = np.unique(np.concatenate([before.values, counted.hashes]), return_inverse=True)
    own = ranks[len(before) :][counted.codes[rows]]
    value = np.concatenate([ranks[: len(before)], own])
    gid = np.concatenate([known_gid[here], spans.groups.gid[rows]])
    width = max(1, len(values))
    pair = gid * width + value
    order = by(pair, len(spans.groups.keys) * width)
    weights = np.concatenate([before.weights, np.ones(len(rows), np.int64)])
    slices = np.concatenate([before.slices, spans.slices[rows]])
    row = np.concatenate([np.full(len(before), -1, np.int64), rows])
    return _Pairs(pair[order], gid[order], slices[order], weights[order], row[order], values[value[order]])


def _kept(spans: Spans, pairs: _Pairs, held: Held, chosen: Bools, weights: Ints) -> Held:
    """What is held from here on: of pairs what is chosen and still covered, and of keys that are not here what was held."""
    gone = spans.groups.find(held.keys)[1]
    still = np.flatnonzero(chosen & (pairs.slices > spans.last - SLICES))
    new = Held(spans.groups.keys[pairs.gid[still]], pairs.values[still], pairs.slices[still], weights[still])
    return held.only(~gone).since(spans.last).and_also(new)


def distincts(spans: Spans, counted: Counted, held: Held, late: bool) -> tuple[Ints, Held]:
    """How many different values: the reading of every row of the group without regard to a cap, and what is held."""
    pairs, size = _pairs(spans, counted, held), len(spans.place)
    begins = np.where(pairs.row >= 0, pairs.row + late, spans.starts[pairs.gid])
    again = np.where(pairs.last, size, np.append(pairs.row[1:] + late, size))
    ends = np.minimum(again, spans.after(spans.placed(pairs.gid, pairs.slices)))
    ends = np.maximum(ends, begins)
    change = np.bincount(begins, minlength=size + 1)[: size + 1] - np.bincount(ends, minlength=size + 1)[: size + 1]
    return np.cumsum(change)[:size], _kept(spans, pairs, held, pairs.last, np.ones(len(pairs.pair), np.int64))


def shares(spans: Spans, counted: Counted, held: Held, late: bool) -> tuple[Ints, Held]:
    """How often the most frequent value was seen: of every row of the group, without regard to a cap; and what is held."""
    pairs, size = _pairs(spans, counted, held), len(spans.place)
    heads: Ints = np.flatnonzero(np.diff(pairs.pair, prepend=-1) | np.diff(pairs.slices, prepend=-1))
    sums = np.add.reduceat(pairs.weights, heads) if len(heads) else np.zeros(0, np.int64)
    place = _paired_places(spans, pairs)
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(pairs.weights)])
    own = running[1:] - running[np.searchsorted(place, place - PAST)]
    best = np.zeros(size, np.int64)
    here = pairs.row >= 0
    best[pairs.row[here]] = own[here]
    segments, firsts, inverse = np.unique(spans.place, return_index=True, return_inverse=True)
    begins = _standing(spans, pairs, heads, sums, place[heads], segments)
    _raise(begins, segments, spans.placed(pairs.gid, pairs.slices)[~here], own[~here])
    if late:
        best = np.concatenate([np.zeros(1, np.int64), best[:-1]])
        best[firsts] = 0
    best[firsts] = np.maximum(best[firsts], begins)
    step = int(best.max(initial=0)) + 1
    top = np.maximum.accumulate(best + inverse * step) - inverse * step
    chosen = np.zeros(len(pairs.pair), np.bool_)
    chosen[heads] = True
    weights = np.zeros(len(pairs.pair), np.int64)
    weights[heads] = sums
    return top, _kept(spans, pairs, held, chosen, weights)


def _paired_places(spans: Spans, pairs: _Pairs) -> Ints:
    """Pair and slice as one number that never falls."""
    numbers = np.cumsum(np.append(0, np.diff(pairs.pair) != 0)[: len(pairs.pair)])
    return spans.placed(numbers, pairs.slices)


def _standing(spans: Spans, pairs: _Pairs, heads: Ints, sums: Ints, place: Ints, segments: Ints) -> Ints:
    """The largest count of any value when each key's slice begins. segments: the keys' slices, as places."""
    found = np.zeros(len(segments), np.int64)
    if not len(heads):
        return found
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(sums)])
    gid, slices = pairs.gid[heads], pairs.slices[heads]
    follows = np.append(np.where(np.diff(pairs.pair[heads]) == 0, np.diff(slices), SLICES), SLICES)
    for later in range(1, SLICES):
        rows = np.flatnonzero(follows >= later)
        wanted = spans.placed(gid[rows], slices[rows] + later)
        counts = running[rows + 1] - running[np.searchsorted(place, place[rows] + later - PAST)]
        _raise(found, segments, wanted, counts)
    return found


def _raise(found: Ints, segments: Ints, wanted: Ints, counts: Ints) -> None:
    """Let slices of keys, those that there are, stand at least at these counts."""
    if len(segments):
        where = np.minimum(np.searchsorted(segments, wanted), len(segments) - 1)
        hit = segments[where] == wanted
        np.maximum.at(found, where[hit], counts[hit])


def divided(over: Ints, under: Ints) -> tuple[Floats, Bools]:
    """One over the other, and where that is anything."""
    known = under != 0
    return np.divide(over, under, out=np.zeros(len(over)), where=known), known
