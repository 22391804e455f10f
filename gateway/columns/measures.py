"""The measures of a policy over chunks of records, and what they hold from one chunk to the next.

What is counted, by what key and past which filter, is what `gateway.counting` says of one exchange. Measures that speak of
requests count an exchange before they are read for it; those that speak of answers after (`late`), and depend on the decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.columns.capped import Capped
from gateway.columns.chunk import ANSWERED, Chunk, Seen
from gateway.columns.conditions import TRUE, UNKNOWN
from gateway.columns.crowds import Crowd
from gateway.columns.groups import Held, Spans
from gateway.columns.values import Bools
from gateway.columns.windows import Counted, Reading, distincts, divided, shares, totals
from gateway.language.measures import Measure, Ratio
from gateway.signals import Catalogue
from gateway.state.limits import MAX_KEYS
from gateway.state.operations import Count


@dataclass(slots=True)
class Kept:
    """What one measure holds of the chunks before: values or counts, the whole of a share, and keys counted one by one.

    crowd: how many keys it has.
    """

    capped: Capped
    held: Held = field(default_factory=Held)
    whole: Held = field(default_factory=Held)
    crowd: Crowd = field(default_factory=Crowd)


Store = dict[str, Kept]


def unfit(measures: Iterable[Measure], catalogue: Catalogue) -> list[str]:
    """Why some measures cannot be computed in columns, in words; nothing where all can."""
    found = []
    for measure in measures:
        names = {measure.of or "", *measure.per, *(leaf.name for leaf in (measure.where.leaves() if measure.where else ()))}
        strange = sorted(name for name in names & catalogue.keys() if catalogue[name].settled and name not in ANSWERED)
        found += [f"{measure.label}: {name} is no column" for name in strange]
    return found


def read(measure: Measure, chunk: Chunk, seen: Seen, kept: Kept, most: int = MAX_KEYS) -> tuple[Reading, Kept]:
    """The readings of every row, and what is held after the chunk; what was held before stays as it was.

    most: keys that the state keeps. Raises NotInColumnsError where it might have pushed one out.
    """
    spans = chunk.spans(measure.per, measure.window.length)
    crowd = kept.crowd.joined(spans, measure.window, most)
    counted, late = _counted(measure, spans, seen), measure.settled
    reading, after = _KINDS[measure.window.kind](spans, counted, kept, late)
    after.capped.let_go(spans.last)
    after.crowd = crowd
    rows, size = spans.groups.rows, chunk.size
    numbers = np.zeros(size, reading.numbers.dtype)
    numbers[rows] = reading.numbers
    known = None
    if len(rows) < size or reading.known is not None:
        known = np.zeros(size, np.bool_)
        known[rows] = True if reading.known is None else reading.known
    if (missed := _misses(measure, chunk)) is not None:
        known = ~missed if known is None else known & ~missed
    capped = None
    if reading.capped is not None:
        capped = np.zeros(size, np.bool_)
        capped[rows] = reading.capped
    return Reading(numbers, known, capped), after


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


def _counted(measure: Measure, spans: Spans, seen: Seen) -> Counted:
    rows = spans.groups.rows
    where = np.ones(len(rows), np.bool_) if measure.where is None else seen.truths.of(measure.where)[rows] == TRUE
    if measure.of is None:
        return Counted(where)
    column = seen.column(measure.of)
    where = where & column.known[rows]
    if measure.window.kind in (Count.SUM, Count.QUANTILE):
        return Counted(where, weights=column.numbers[rows].astype(np.int64))
    return Counted(where, codes=column.codes[rows], hashes=column.hashes)


def _total(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    found, held = totals(spans, counted, kept.held, late)
    return Reading(found), Kept(kept.capped, held)


def _distinct(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    found, held = distincts(spans, counted, kept.held, late)
    reading, capped = Reading(found), kept.capped
    gids = capped.needs(spans, np.unique(spans.groups.gid[found > capped.window.cap]).tolist())
    if gids:
        capped = capped.copy() if late else capped
        rows, numbers, least = capped.see(spans, gids, counted, kept.held, late)
        found[rows] = numbers.astype(np.int64)
        reading.capped = np.zeros(len(found), np.bool_)
        reading.capped[rows] = least == 1
    return reading, Kept(capped, held)


def _share(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    most, held = shares(spans, counted, kept.held, late)
    whole, all_held = totals(spans, Counted(counted.where), kept.whole, late)
    different = distincts(spans, counted, kept.held, late)[0]
    numbers, known = divided(most, whole)
    capped = kept.capped
    gids = capped.needs(spans, np.unique(spans.groups.gid[different > capped.window.cap]).tolist())
    if gids:
        capped = capped.copy() if late else capped
        rows, told, _ = capped.see(spans, gids, counted, kept.held, late)
        numbers[rows], known[rows] = told, ~np.isnan(told)
    return Reading(numbers, known), Kept(capped, held, all_held)


def _quantile(spans: Spans, counted: Counted, kept: Kept, late: bool) -> tuple[Reading, Kept]:
    capped = kept.capped.copy() if late else kept.capped
    gids = np.unique(spans.groups.gid).tolist()
    rows, told, _ = capped.see(spans, gids, counted, kept.held, late)
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
