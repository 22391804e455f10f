"""The measures of a policy over chunks of records, and what they hold from one chunk to the next.

What is counted, by what key and past which filter, is what `gateway.counting` says of one exchange. Measures that speak of
requests count an exchange before they are read for it; those that speak of answers after (`late`), and depend on the decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.columns.capped import Capped
from gateway.columns.chunk import ANSWERED, Chunk, Seen
from gateway.columns.conditions import TRUE, UNKNOWN
from gateway.columns.crammed import Crammed, Full
from gateway.columns.crowds import Crowds, crowded
from gateway.columns.groups import Held, Spans
from gateway.columns.issuing import Issued
from gateway.columns.values import Bools, Ints
from gateway.columns.windows import Counted, Reading, distincts, divided, kept_of, pairs_of, shares, totals
from gateway.language.measures import Measure, Ratio
from gateway.signals import Catalogue
from gateway.state.operations import Count


@dataclass(slots=True)
class Kept:
    """What one measure holds of the chunks before: values or counts, the whole of a share, what went past the cap.

    capped: keys counted one event at a time; full: keys that left distinct values out.
    """

    capped: Capped
    held: Held = field(default_factory=Held)
    whole: Held = field(default_factory=Held)
    full: Full = field(default_factory=Full)


Store = dict[str, Kept]
_SMALL: Final = 2**31


def unfit(measures: Iterable[Measure], catalogue: Catalogue) -> list[str]:
    """Why some measures cannot be computed in columns, in words; nothing where all can."""
    found = []
    for measure in measures:
        names = {measure.of or "", *measure.per, *(leaf.name for leaf in (measure.where.leaves() if measure.where else ()))}
        strange = sorted(name for name in names & catalogue.keys() if catalogue[name].settled and name not in ANSWERED)
        found += [f"{measure.label}: {name} is no column" for name in strange]
    return found


@dataclass(slots=True)
class Asked:
    """What a measure is to be read for: a group of rows, and what is counted of them. rows: theirs in the chunk.

    own: which of them are read; the others are what answers issued. missed: where, in the chunk, what would be counted is not
    recorded.
    """

    spans: Spans
    counted: Counted
    rows: Ints
    own: Bools | None = None
    missed: Bools | None = None

    def same(self, other: Asked) -> bool:
        """Whether a measure reads the same for both."""
        ours, theirs = self.counted, other.counted
        return (
            self.spans is other.spans
            and np.array_equal(ours.where, theirs.where)
            and ours.codes is theirs.codes
            and (ours.weights is theirs.weights or np.array_equal(ours.weights, theirs.weights))  # type: ignore[arg-type]
        )


def asked(measure: Measure, chunk: Chunk, seen: Seen, issued: Issued | None = None) -> Asked:
    """What a measure counts of a chunk. issued: of one that counts what answers issue, too."""
    spans = chunk.spans(measure.per, measure.window.length) if issued is None else issued.spans(measure.window.length)
    rows, own = spans.groups.rows, None
    if issued is not None:
        rows, own = issued.rows[rows], issued.own[rows]
    return Asked(spans, _counted(measure, rows, seen), rows, own, _misses(measure, chunk))


def read(measure: Measure, asked: Asked, size: int, kept: Kept) -> tuple[Reading, Kept]:
    """The readings of every row of a chunk of a size, and what is held after it; what was held before stays as it was."""
    reading, after = _KINDS[measure.window.kind](asked.spans, asked.counted, kept, measure.settled)
    after.capped.let_go(asked.spans.last)
    rows = asked.rows
    if asked.own is not None:
        rows, reading = rows[asked.own], reading.only(asked.own)
    numbers = np.zeros(size, _narrow(reading.numbers))
    numbers[rows] = reading.numbers
    known = None
    if len(rows) < size or reading.known is not None:
        known = np.zeros(size, np.bool_)
        known[rows] = True if reading.known is None else reading.known
    if asked.missed is not None:
        known = ~asked.missed if known is None else known & ~asked.missed
    capped = None
    if reading.capped is not None:
        capped = np.zeros(size, np.bool_)
        capped[rows] = reading.capped
    return Reading(numbers, known, capped), after


class Measures:
    """Some measures on requests, read chunk by chunk. store: what they hold; crowds: their keys; most: how many are kept."""

    def __init__(self, measures: Sequence[Measure], store: Store, crowds: Crowds, most: int) -> None:
        self.measures = sorted(measures, key=lambda one: (one.per, one.window.length))
        self.store, self.crowds, self._most = store, crowds, most

    def read(self, chunk: Chunk) -> dict[str, Reading]:
        """The readings of the next chunk, by label. Raises NotInColumnsError where the state might have pushed a key out."""
        found = {}
        for per, alike in groupby(self.measures, lambda one: one.per):
            measures = list(alike)
            spans = [(told_of(per), chunk.spans(per, one.window.length), one.window) for one in measures]
            self.crowds = crowded(self.crowds, spans, self._most)
            for measure in measures:
                kept = self.store.get(measure.label) or Kept(Capped(measure.window))
                wanted = asked(measure, chunk, chunk.asked)
                found[measure.label], self.store[measure.label] = read(measure, wanted, chunk.size, kept)
            del spans
            chunk.let_go(per)  # groups of rows take more memory than all else
        return found

    @property
    def windows(self) -> set[tuple[str, int]]:
        """Of which windows the keys are counted here."""
        return {(told_of(one.per), one.window.length) for one in self.measures}


def told_of(per: Sequence[str]) -> str:
    """A key in words."""
    return " and ".join(per)


def _misses(measure: Measure, chunk: Chunk) -> Bools | None:
    """Where a measure would count by signals that are not recorded, as `gateway.counting` has it; None for nowhere."""
    lacking = {name: rows for name in measure.counts if (rows := chunk.unrecorded(name)) is not None}
    if not lacking:
        return None
    if measure.where is None or measure.settled:
        return _either(lacking.values(), chunk.size)
    truth = chunk.asked.truths.of(measure.where)
    filtered = _either([lacking[leaf.name] for leaf in measure.where.leaves() if leaf.name in lacking], chunk.size)
    amount = lacking.get(measure.of or "", np.zeros(chunk.size, np.bool_))
    found: Bools = ((truth == UNKNOWN) & filtered) | ((truth == TRUE) & amount)
    return found


def _either(rows: Iterable[Bools], size: int) -> Bools:
    found: Bools = np.logical_or.reduce([np.zeros(size, np.bool_), *rows])
    return found


def _narrow(numbers: npt.NDArray[np.generic]) -> npt.DTypeLike:
    """Half as many bytes for whole numbers that find place in them."""
    if not np.issubdtype(numbers.dtype, np.integer) or not len(numbers):
        return numbers.dtype
    return np.int32 if int(numbers.min()) > -_SMALL and int(numbers.max()) < _SMALL else np.int64


def _counted(measure: Measure, rows: Ints, seen: Seen) -> Counted:
    where = np.ones(len(rows), np.bool_) if measure.where is None else (seen.truths.of(measure.where) == TRUE)[rows]
    if measure.of is None:
        return Counted(where)
    column = seen.column(measure.of)
    if not column.known.all():
        where = where & column.known[rows]
    if measure.window.kind in (Count.SUM, Count.QUANTILE):
        return Counted(where, weights=column.numbers[rows].astype(np.int64))
    hashes, ranks = column.ranks
    return Counted(where, codes=ranks[rows], hashes=hashes)


def _total(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    found, held = totals(spans, counted, kept.held, late)
    return Reading(found), Kept(kept.capped, held)


def _distinct(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    before, cap = kept.held.since(spans.first), kept.capped.window.cap
    pairs = pairs_of(spans, counted, before)
    found = distincts(spans, pairs, late)
    held = kept_of(spans, pairs, before, np.flatnonzero(pairs.last))
    until, capped = kept.full.of(spans), None
    if until.any():
        capped = until[spans.groups.gid] > spans.slices
    reached = distincts(spans, pairs, late=False) if late else found  # the last of a key counts, too, though nobody reads it
    over = np.flatnonzero(reached > cap)
    if len(over):
        gids = np.unique(spans.groups.gid[over], return_index=True)[0]
        crammed = Crammed(spans, gids, counted, before, cap, until)
        capped = np.zeros(len(found), np.bool_) if capped is None else capped
        found[crammed.rows], capped[crammed.rows] = crammed.read(late)
        until[gids] = crammed.until
        held = crammed.held(held)
    return Reading(found, capped=capped), Kept(kept.capped, held, full=kept.full.after(spans, until))


def _share(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    before = kept.held.since(spans.first)
    pairs = pairs_of(spans, counted, before, weighed=True)
    most, held = shares(spans, pairs, before, late)
    whole, all_held = totals(spans, Counted(counted.where), kept.whole, late)
    different = distincts(spans, pairs, late=False)
    numbers, known = divided(most, whole)
    capped = kept.capped
    gids = capped.needs(spans, np.unique(spans.groups.gid[different > capped.window.cap], return_index=True)[0].tolist())
    if gids:
        capped = capped.copy() if late else capped
        rows, told = capped.see(spans, gids, counted, kept.held, late)
        numbers[rows], known[rows] = told, ~np.isnan(told)
    return Reading(numbers, known), Kept(capped, held, all_held)


def _quantile(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    capped = kept.capped.copy() if late else kept.capped
    gids = np.flatnonzero(np.diff(spans.groups.starts)).tolist()
    rows, told = capped.see(spans, gids, counted, kept.held, late)
    numbers, known = np.zeros(len(spans.place), np.int64), np.zeros(len(spans.place), np.bool_)
    known[rows] = ~np.isnan(told)
    numbers[rows] = np.nan_to_num(told).astype(np.int64)
    return Reading(numbers, known), Kept(capped)


_KINDS: Mapping[Count, Callable[[Spans, Counted, Kept, bool], tuple[Reading, Kept]]] = {
    Count.COUNT: _total, Count.SUM: _total, Count.DISTINCT: _distinct, Count.TOP_SHARE: _share, Count.QUANTILE: _quantile,
}  # fmt: skip


def ratio(over: Reading, under: Reading) -> Reading:
    """One measure over another, as `gateway.language.program.ratio` has it."""
    numbers, known = divided(over.numbers, under.numbers)  # type: ignore[arg-type]
    for part in (over, under):
        known = known if part.known is None else known & part.known
        known = known if part.capped is None else known & ~part.capped
    return Reading(numbers, known)


def declared(measure: Measure | Ratio, readings: Mapping[str, Reading]) -> Reading:
    """The readings of what a rule declares. readings: by label."""
    if isinstance(measure, Ratio):
        return ratio(readings[measure.over.label], readings[measure.under.label])
    return readings[measure.label]
