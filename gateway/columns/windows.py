"""How each kind of window reads over a whole chunk: one function for each, given what it holds of chunks before.

They answer as the state in memory does (`gateway.state.kinds`), event by event; a property test holds the two together. What
is counted before the look of its own event and what only after (an exchange settles once it is judged) differ by `late`.

**Counts and sums** are differences of running totals. **Distinct** values: an occurrence counts from its own row until the
value leaves the window; the reading is how many such stretches cover a row. **Top shares**: within a slice counts only rise, so
the most frequent value is the largest count at the slice's beginning or one that was reached since. **Caps and quantiles**
depend on the order of events: distinct values past their cap go slice by slice (`crammed`), keys whose shares do, and all keys
of a quantile, are given to the objects of the state itself (`capped`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gateway.columns.groups import PAST, Held, Spans
from gateway.columns.values import Bools, Codes, Floats, Hashes, Ints, ranked, sorted_by
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

    def only(self, rows: Ints | Bools | slice) -> Reading:
        """Of some rows."""
        known = None if self.known is None else self.known[rows]
        return Reading(self.numbers[rows], known, None if self.capped is None else self.capped[rows])

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
    """What is counted, by rows of a group: where, which value (a code, and the hashes of all codes, rising), how much."""

    where: Bools
    weights: Ints | None = None
    codes: Codes | None = None
    hashes: Hashes | None = None

    def only(self, rows: Bools) -> Counted:
        """The same, counted only at some rows."""
        return Counted(self.where & rows, self.weights, self.codes, self.hashes)


def totals(spans: Spans, counted: Counted, held: Held, late: bool) -> tuple[Ints, Held]:
    """Counts and sums: the reading of every row of the group, and what is held from here on."""
    held = held.since(spans.first)
    if not len(held) and not counted.where.any():
        return np.zeros(len(spans.place), np.int64), held.since(spans.last)
    weights = _weights(counted, held)
    running = _running(weights)
    found = (running[:-1] if late else running[1:]) - running[spans.low]
    if len(held):
        _add_held(found, spans, held)
    kept = np.flatnonzero((spans.slices > spans.last - SLICES) & (weights != 0))
    cuts = np.flatnonzero(np.diff(spans.place[kept], prepend=-1))
    heads = kept[cuts]
    sums = np.add.reduceat(weights[kept], cuts, dtype=np.int64) if len(cuts) else np.zeros(0, np.int64)
    keys = spans.groups.keys[spans.groups.gid[heads]]
    new = Held(keys, np.zeros(len(heads), np.uint64), spans.slices[heads], sums)
    return found, held.since(spans.last).and_also(new)


def _weights(counted: Counted, held: Held) -> Ints | Bools:
    """How much each row counts. Raises NotInColumnsError where sums might end at what the state counts exactly."""
    if counted.weights is None:
        return counted.where
    weights = np.where(counted.where, counted.weights, 0)
    bound = float(np.abs(weights.astype(np.float64)).sum()) + float(np.abs(held.weights.astype(np.float64)).sum())
    if bound >= LARGEST_AMOUNT:
        raise NotInColumnsError("a sum of more than 2^53")
    return weights


def _running(weights: npt.NDArray[np.generic]) -> Ints:
    found = np.zeros(len(weights) + 1, np.int64)
    np.cumsum(weights, out=found[1:])
    return found


def _add_held(found: Ints, spans: Spans, held: Held) -> None:
    """Add what windows hold of chunks before, at the rows whose windows reach so far back."""
    gid, here = spans.groups.find(held.keys)
    before = held.only(here)
    if not len(before):
        return
    gid, places = gid[here], spans.placed(gid[here], before.slices)
    earlier = _running(before.weights)
    rows = np.flatnonzero(spans.slices < before.slices.max() + SLICES)
    upto = np.searchsorted(gid, spans.groups.gid[rows], side="right")
    found[rows] += earlier[upto] - earlier[np.searchsorted(places, spans.place[rows] - PAST)]


@dataclass
class Pairs:
    """Everything counted of a key and a value, held or in the chunk, by both and time.

    pair: numbers of key and value as one, of which `width` are one key's; row: in the group, below 0 where held; values: the
    hashes of the numbers of values.
    """

    pair: Ints
    slices: Ints
    row: Ints
    width: int
    values: Hashes
    weights: Ints | None = None

    @cached_property
    def gid(self) -> Ints:
        """The number of the key."""
        return self.pair // self.width

    @cached_property
    def first(self) -> Bools:
        """The earliest of each pair."""
        return np.append(True, self.pair[1:] != self.pair[:-1])[: len(self.pair)]

    @cached_property
    def last(self) -> Bools:
        """The latest of each pair."""
        return np.append(self.first[1:], True)[: len(self.pair)]

    def hashes(self, places: Ints) -> Hashes:
        """The values at some places."""
        return self.values[self.pair[places] % self.width]


def pairs_of(spans: Spans, counted: Counted, held: Held, weighed: bool = False) -> Pairs:
    """What is counted of keys that are here, by key and value. weighed: whether weights are wanted."""
    assert counted.codes is not None, "what counts values is given them"
    assert counted.hashes is not None, "what counts values is given their hashes"
    known_gid, here = spans.groups.find(held.keys)
    before, rows = held.only(here), np.flatnonzero(counted.where)
    values, numbers = _numbered(before.values, counted.hashes)
    width = max(1, len(values))
    pair = np.concatenate([known_gid[here] * width + numbers, spans.groups.gid[rows] * width + counted.codes[rows]])
    pair, order = sorted_by(pair, len(spans.groups.keys) * width)
    rows = np.concatenate([np.full(len(before), -1, np.int64), rows])
    slices = np.concatenate([before.slices, spans.slices[rows[len(before) :]]])[order]
    found = Pairs(pair, slices, rows[order], width, values)
    if weighed:
        found.weights = np.concatenate([before.weights, np.ones(len(rows) - len(before), np.int64)])[order]
    return found


def _numbered(held: Hashes, here: Hashes) -> tuple[Hashes, Ints]:
    """The hashes of all values, those `here` (rising) first, and the numbers of what is held among them."""
    if not len(held):
        return here, np.zeros(0, np.int64)
    different, places = ranked(held)
    found = np.minimum(np.searchsorted(here, different), max(0, len(here) - 1))
    known = here[found] == different if len(here) else np.zeros(len(different), np.bool_)
    numbers = np.where(known, found, len(here) + np.cumsum(~known) - 1)
    return np.concatenate([here, different[~known]]), numbers[places]


def kept_of(spans: Spans, pairs: Pairs, held: Held, chosen: Ints, weights: Ints | None = None) -> Held:
    """What is held from here on: of pairs what is chosen and still covered, and of keys that are not here what was held."""
    gone = spans.groups.find(held.keys)[1]
    still = chosen[pairs.slices[chosen] > spans.last - SLICES]
    much = np.ones(len(still), np.int64) if weights is None else weights[still]
    new = Held(spans.groups.keys[pairs.pair[still] // pairs.width], pairs.hashes(still), pairs.slices[still], much)
    return held.only(~gone).since(spans.last).and_also(new)


def distincts(spans: Spans, pairs: Pairs, late: bool) -> Ints:
    """How many different values: the reading of every row of the group without regard to a cap.

    A value counts from the row where it comes, having not been covered, until the slice in which it is no longer.
    """
    size, count = len(spans.place), len(pairs.pair)
    again = np.append(SLICES, np.diff(pairs.slices))[:count] >= SLICES
    fresh = np.flatnonzero(pairs.first | again)
    ending = np.append(fresh[1:] - 1, count - 1)[: len(fresh)]
    row = pairs.row[fresh]
    begins = np.where(row >= 0, row + late, spans.groups.starts[pairs.pair[fresh] // pairs.width])
    ends = np.maximum(_after(spans, pairs, ending), pairs.row[ending] + late)
    change = np.bincount(begins, minlength=size + 1)[: size + 1] - np.bincount(ends, minlength=size + 1)[: size + 1]
    return np.cumsum(change)[:size]


def _after(spans: Spans, pairs: Pairs, places: Ints) -> Ints:
    """The first row at which what was counted at some places is no longer covered; where its key ends, if none is."""
    gid, slices = pairs.pair[places] // pairs.width, pairs.slices[places]
    found = spans.groups.starts[gid + 1]
    sooner = np.flatnonzero(spans.slices[found - 1] >= slices + SLICES) if len(spans.slices) else np.zeros(0, np.int64)
    found[sooner] = spans.after(spans.placed(gid[sooner], slices[sooner]))
    return found


def shares(spans: Spans, pairs: Pairs, held: Held, late: bool) -> tuple[Ints, Held]:
    """How often the most frequent value was seen: of every row of the group, without regard to a cap; and what is held."""
    size = len(spans.place)
    assert pairs.weights is not None, "a share is of what was seen so often"
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
    weights = np.zeros(len(pairs.pair), np.int64)
    weights[heads] = sums
    return top, kept_of(spans, pairs, held, heads, weights)


def _paired_places(spans: Spans, pairs: Pairs) -> Ints:
    """Pair and slice as one number that never falls."""
    numbers = np.cumsum(np.append(0, np.diff(pairs.pair) != 0)[: len(pairs.pair)])
    return spans.placed(numbers, pairs.slices)


def _standing(spans: Spans, pairs: Pairs, heads: Ints, sums: Ints, place: Ints, segments: Ints) -> Ints:
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
