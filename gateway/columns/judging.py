"""Chunks of exchanges through a policy: the decisions of the event engine, a class of exchanges at a time.

1. Measures on requests are read for every row (`measures`): they depend on nothing that is decided.
2. Conditions and what else a decision looks at sort the rows into classes (`classes`).
3. The gate itself judges one exchange of each class, with what columns read as its state (`answering`).
4. Exchanges that take from limits depend on those before them: the gate judges each of these, in order, on real limits.
5. Measures on answers depend on which requests were refused. They are read under the assumption that none was; where that turns
   out wrong, everything that depends on it is done again with the refusals found. An exchange depends on earlier ones only, so
   each round settles at least one more for good, and a round that finds what it assumed is what the event engine finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from gateway.columns.answering import ColumnState, Readings
from gateway.columns.capped import Capped
from gateway.columns.chunk import ANSWERED, Chunk
from gateway.columns.classes import Ended, Noting, told_apart
from gateway.columns.measures import Kept, Store, read, unfit
from gateway.columns.records import Records
from gateway.columns.values import Hashes, Ints
from gateway.columns.windows import Counted, Reading, totals
from gateway.decision import Mode, Outcome
from gateway.engine import Engine, under
from gateway.errors import NotInColumnsError
from gateway.facts import End, Facts
from gateway.failing import FailModes
from gateway.gate import Gate
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy
from gateway.readings import labels_of
from gateway.replay.driver import Replayed, answered
from gateway.signals import Catalogue

_ROUNDS: Final = 8
_BLOCK: Final = 16_384
_MOST_CLASSES: Final = 200_000


@dataclass(slots=True)
class Judged:
    """A chunk, judged. classes: of each row which of `outcomes`; below 0: `single` has it, by its row.

    replayed: every exchange, where each was judged by itself because that was asked for.
    """

    chunk: Chunk
    classes: Ints
    outcomes: list[Outcome]
    single: dict[int, Outcome]
    replayed: list[Replayed] = field(default_factory=list)


@dataclass(slots=True)
class Memory:
    """Everything that goes from one chunk to the next."""

    measures: Store = field(default_factory=dict)
    notes: Store = field(default_factory=dict)
    state: ColumnState = field(default_factory=ColumnState)


class Judging:
    """Judges chunks, in order. every: each exchange one by one, so that all of its record is known."""

    def __init__(self, policy: Policy, catalogue: Catalogue, mode: Mode, fail: FailModes | None, every: bool = False) -> None:
        self.catalogue, self.every = catalogue, every
        engine = Engine(under(policy, mode), catalogue)
        self.rules = engine.rules.rules
        self.limits = [plan for plan in engine.policy.limits if plan.mode is not Mode.OFF]
        self.measures = {
            label: measure for rule in self.rules for declared in rule.measures.values()
            for label, measure in zip(labels_of(declared), _parts(declared), strict=True)
        }  # fmt: skip
        self._fits(engine.policy)
        specs = {(rule.corroborate.within, rule.corroborate.per): rule.corroborate for rule in self.rules if rule.corroborate}
        families = sorted({rule.family for rule in self.rules})
        self._issued = {self.catalogue[name].issued_as for measure in self.asking for name in measure.per} - {""}
        self.notings: list[Noting] = [
            (spec, family, enforced) for spec in specs.values() for family in families for enforced in (True, False)
        ]
        self.memory = Memory()
        self.identity = ""
        self.known: dict[int, tuple[Outcome, bool]] = {}
        self._policy, self._mode, self._fail = policy, mode, fail

    def _fits(self, policy: Policy) -> None:
        told = unfit(self.measures.values(), self.catalogue)
        if policy.workloads:
            told.append("declared workloads, whose counts depend on what they cover")
        if told:
            raise NotInColumnsError("; ".join(told))

    def gate(self, state: ColumnState) -> Gate:
        """A gate that judges as this does, on a state."""
        return Gate(self._policy, self.catalogue, state=state, mode=self._mode, fail=self._fail, ids=self._ids, timer=lambda: 0)

    def _ids(self, facts: Facts) -> str:
        return self.identity

    @property
    def asking(self) -> list[Measure]:
        """The measures that depend on requests alone."""
        return [measure for measure in self.measures.values() if not measure.settled]

    def judge(self, chunk: Chunk, records: Records, measured: Readings | None = None) -> Iterator[Judged]:
        """A chunk, in one part or several. measured: the readings of `asking` by label, where others read them.

        Raises NotInColumnsError for what only the event engine can do.
        """
        if "failed" in chunk.arrays and chunk.arrays["failed"].null_count < chunk.size:
            raise NotInColumnsError("records of providers that failed")
        if told := [name for name in sorted(self._issued & chunk.arrays.keys()) if chunk.arrays[name].null_count < chunk.size]:
            raise NotInColumnsError(f"{told[0]}, under whose values measures count what answers issued")
        readings = {**(measured or {})}
        for measure in self.asking if measured is None else ():
            kept = self.memory.measures.get(measure.label) or Kept(Capped(measure.window))
            readings[measure.label], self.memory.measures[measure.label] = read(
                measure, chunk, chunk.asked, kept, self.memory.state.max_keys
            )
        yield from self._settled(chunk, readings, records)

    def _settled(self, chunk: Chunk, readings: dict[str, Reading], records: Records) -> Iterator[Judged]:
        """Rounds until what was assumed of refusals is what is found; a chunk that takes too many is halved."""
        assumed, last = np.zeros(chunk.size, np.int64), None
        for _ in range(_ROUNDS):
            turn = _Turn(self, chunk, readings, assumed)
            if last is not None and not self.every and np.array_equal(last.classes, turn.classes):
                turn.take_over(last)
            else:
                turn.run(records)
            if not turn.depends or np.array_equal(assumed, turn.refusals):
                self.memory = turn.after
                yield turn.judged
                return
            assumed, last = turn.refusals, turn
        half = chunk.size // 2
        for rows in (slice(0, half), slice(half, chunk.size)):
            yield from self._settled(chunk.part(rows), {label: _part(one, rows) for label, one in readings.items()}, records)


class _Turn:
    """One round over a chunk. refusals: the status that each row is assumed to be refused with, 0 for none."""

    def __init__(self, judging: Judging, chunk: Chunk, readings: dict[str, Reading], assumed: Ints) -> None:
        self.judging, self.chunk = judging, chunk
        before = judging.memory
        self.after = Memory({**before.measures}, {**before.notes}, before.state)
        self.depends = any(measure.settled for measure in judging.measures.values())
        self.readings = {**readings}
        over = chunk.over(_answers(chunk, assumed)) if self.depends else chunk.asked
        for label, measure in judging.measures.items():
            if measure.settled:
                kept = before.measures.get(label) or Kept(Capped(measure.window))
                self.readings[label], self.after.measures[label] = read(measure, chunk, over, kept, before.state.max_keys)
        self.ended = Ended(judging.rules, chunk, self.readings)
        self.seen = {noting: self._noted(noting, before) for noting in judging.notings}
        self.classes = told_apart(self.ended, self.seen, judging.limits)
        self.refusals: Ints = np.zeros(chunk.size, np.int64)
        self.judged = Judged(chunk, self.refusals, [], {})

    def run(self, records: Records) -> None:
        """Judge one exchange of every class, and every exchange that takes from limits."""
        judging = self.judging
        unique, firsts, inverse = np.unique(self.classes, return_index=True, return_inverse=True)
        single = np.full(len(unique), judging.every)
        digests = {judging.measures[label].window.digest: reading for label, reading in self.readings.items()}
        digests |= {spec.notes[family, enforced].window.digest: one for (spec, family, enforced), one in self.seen.items()}
        tried = [] if judging.every else self._tried(unique, firsts, digests, records)
        single[[place for place, (_, took) in enumerate(tried) if took]] = True
        outcomes = [outcome for outcome, _ in tried]
        statuses = np.array(
            [0 if one.refusal is None else one.refusal.status for one in outcomes] or [0] * len(unique), np.int64
        )
        self.refusals = np.where(single[inverse], 0, statuses[inverse])
        alone = np.flatnonzero(single[inverse])
        found = self._one_by_one(alone, digests, records) if len(alone) else {}
        self.judged = Judged(self.chunk, np.where(single[inverse], -1, inverse), outcomes, found, self.judged.replayed)

    def take_over(self, other: _Turn) -> None:
        """What another round found, which had the same classes."""
        self.judged, self.refusals, self.after.state = other.judged, other.refusals, other.after.state

    def _tried(self, unique: Hashes, firsts: Ints, digests: dict[str, Reading], records: Records) -> list[tuple[Outcome, bool]]:
        """Of each class the outcome of one of its exchanges, and whether it takes from limits."""
        judging, known = self.judging, self.judging.known
        new = [place for place, one in enumerate(unique.tolist()) if one not in known]
        if len(known) + len(new) > _MOST_CLASSES:
            known.clear()
            new = list(range(len(unique)))
        state = ColumnState()
        state.trying = True
        gate = judging.gate(state)
        for block in range(0, len(new), _BLOCK):
            places = new[block : block + _BLOCK]
            rows = firsts[places]
            state.load(digests, rows)
            for number, exchange in enumerate(records.exchanges(self.chunk, rows)):
                state.stand(number)
                outcome = gate.judge(exchange.facts).outcome
                known[int(unique[places[number]])] = outcome, state.took
        return [known[one] for one in unique.tolist()]

    def _one_by_one(self, rows: Ints, digests: dict[str, Reading], records: Records) -> dict[int, Outcome]:
        """Judge and settle some exchanges in order, on a copy of the limits."""
        judging, found = self.judging, dict[int, Outcome]()
        self.after.state = state = deepcopy(judging.memory.state) if self.depends else judging.memory.state
        gate = judging.gate(state)
        for block in range(0, len(rows), _BLOCK):
            places = rows[block : block + _BLOCK]
            state.load(digests, places)
            for number, exchange in enumerate(records.exchanges(self.chunk, places)):
                row = int(places[number])
                state.stand(number)
                judging.identity = exchange.id
                judgement = gate.judge(exchange.facts)
                answer = answered(judgement, exchange.answer)
                gate.settle(judgement, answer)
                found[row] = judgement.outcome
                self.refusals[row] = 0 if judgement.outcome.refusal is None else judgement.outcome.refusal.status
                if judging.every:
                    self.judged.replayed.append(Replayed(exchange, judgement, answer))
        state.load({}, rows[:0])
        return found

    def _noted(self, noting: Noting, before: Memory) -> Reading:
        """How often a family's matches were noted under a key before each row."""
        spec, family, enforced = noting
        window = spec.notes[family, enforced].window
        spans = self.chunk.spans(spec.per, window.length)
        rows = spans.groups.rows
        counted = Counted(self.ended.noted(family, enforced)[rows])
        kept = before.notes.get(window.digest) or Kept(Capped(window))
        found, held = totals(spans, counted, kept.held, late=True)
        crowd = kept.crowd.joined(spans, window, before.state.max_keys)
        self.after.notes[window.digest] = Kept(kept.capped, held, crowd=crowd)
        numbers = np.zeros(self.chunk.size, np.int64)
        numbers[rows] = found
        return Reading(numbers)


def _parts(declared: Measure | Ratio) -> tuple[Measure, ...]:
    return (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)


def _part(reading: Reading, rows: slice) -> Reading:
    known = None if reading.known is None else reading.known[rows]
    return Reading(reading.numbers[rows], known, None if reading.capped is None else reading.capped[rows])


def _answers(chunk: Chunk, assumed: Ints) -> dict[str, pa.Array]:
    """What answers say where requests were refused with these statuses: of those nothing else, and nothing an upstream said."""
    ends = chunk.fact("end")
    turned_away = np.array([*[end == End.REFUSED for end in ends.distinct], False], np.bool_)[ends.codes]
    found = {}
    for fact in ANSWERED.values():
        column = chunk.fact(fact)
        told, numbers = column.known & ~turned_away & (assumed == 0), column.numbers
        if fact == "status":
            told, numbers = told | (assumed != 0), np.where(assumed != 0, assumed, numbers)
        found[fact] = pa.array(numbers, pa.int64(), mask=~told)
    return found
