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

from gateway.columns.answering import ColumnState, Readings
from gateway.columns.answers import answers, turned_away
from gateway.columns.capped import Capped
from gateway.columns.chunk import Chunk, Seen
from gateway.columns.classes import Ended, Noting, told_apart
from gateway.columns.crowds import Crowds, crowded
from gateway.columns.groups import Held, Spans
from gateway.columns.issuing import Issued, issuing
from gateway.columns.measures import Asked, Kept, Measures, Store, asked, read, told_of, unfit
from gateway.columns.records import Records
from gateway.columns.values import Bools, Hashes, Ints
from gateway.columns.windows import Counted, Reading, totals
from gateway.decision import Mode, Outcome
from gateway.engine import Engine, under
from gateway.errors import NotInColumnsError
from gateway.facts import Facts
from gateway.failing import FailModes
from gateway.gate import Gate
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy
from gateway.readings import labels_of
from gateway.replay.driver import Replayed, answered
from gateway.signals import Catalogue
from gateway.state.limits import MAX_KEYS
from gateway.state.operations import Window

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
    """Everything that goes from one chunk to the next. notes: of matches, by window."""

    measures: Store = field(default_factory=dict)
    notes: dict[str, Held] = field(default_factory=dict)
    crowds: Crowds = field(default_factory=dict)
    state: ColumnState = field(default_factory=ColumnState)


class Judging:
    """Judges chunks, in order. every: each exchange one by one, so that all of its record is known. most: keys of a window."""

    def __init__(
        self, policy: Policy, catalogue: Catalogue, mode: Mode, fail: FailModes | None, every: bool = False,
        most: int = MAX_KEYS,
    ) -> None:  # fmt: skip
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
        self.issuing = {label: found for label, one in self.measures.items() if (found := issuing(one, catalogue))}
        self.notings: list[Noting] = [
            (spec, family, enforced) for spec in specs.values() for family in families for enforced in (True, False)
        ]
        self.memory = Memory(state=ColumnState(most))
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
        return [one for label, one in self.measures.items() if not one.settled and label not in self.issuing]

    @property
    def depending(self) -> dict[str, Measure]:
        """Those that depend on answers, too, by label."""
        return {label: one for label, one in self.measures.items() if one.settled or label in self.issuing}

    def judge(self, chunk: Chunk, records: Records, measured: Readings | None = None) -> Iterator[Judged]:
        """A chunk, in one part or several. measured: the readings of `asking` by label, where others read them.

        Raises NotInColumnsError for what only the event engine can do.
        """
        if "failed" in chunk.arrays and chunk.arrays["failed"].null_count < chunk.size:
            raise NotInColumnsError("records of providers that failed")
        memory, most = self.memory, self.memory.state.max_keys
        reading = Measures(self.asking if measured is None else [], memory.measures, memory.crowds, most)
        readings = {**(measured or {}), **reading.read(chunk)}
        memory.crowds = crowded(reading.crowds, self._windows(chunk, reading.windows), most)
        yield from self._settled(chunk, readings, records)

    def _windows(self, chunk: Chunk, counted: set[tuple[str, int]]) -> Iterator[tuple[str, Spans, Window]]:
        """The windows that depend on answers, each with its key in words. counted: whose keys are counted already."""
        windows = [(one.per, one.window) for one in self.measures.values() if one.settled]
        windows += [(spec.per, spec.notes[family, enforced].window) for spec, family, enforced in self.notings]
        for per, window in windows:
            if (told_of(per), window.length) not in counted:
                yield told_of(per), chunk.spans(per, window.length), window
        for label, pairs in self.issuing.items():
            measure = self.measures[label]
            every = Issued(
                chunk, measure.per, pairs, np.ones(chunk.size, np.bool_)
            )  # as if all were answered: at least as many
            yield f"{told_of(measure.per)}, issued", every.spans(measure.window.length), measure.window

    def _settled(self, chunk: Chunk, readings: dict[str, Reading], records: Records) -> Iterator[Judged]:
        """Rounds until what was assumed of refusals is what is found; a chunk that takes too many is halved."""
        assumed, last = np.zeros(chunk.size, np.int64), None
        for _ in range(_ROUNDS):
            turn = _Turn(self, chunk, readings, assumed, last)
            if last is not None and not self.every and np.array_equal(last.classes, turn.classes):
                turn.take_over(last)
            else:
                turn.run(records)
            if not self.depending or np.array_equal(assumed, turn.refusals):
                self.memory = turn.after
                yield turn.judged
                return
            assumed, last = turn.refusals, turn
        half = chunk.size // 2
        for rows in (slice(0, half), slice(half, chunk.size)):
            yield from self._settled(chunk.part(rows), {label: one.only(rows) for label, one in readings.items()}, records)


class _Turn:
    """One round over a chunk. refusals: the status that each row is assumed to be refused with, 0 for none.

    last: the round before, of which everything is taken over that reads the same.
    """

    def __init__(self, judging: Judging, chunk: Chunk, readings: dict[str, Reading], assumed: Ints, last: _Turn | None) -> None:
        self.judging, self.chunk, self._last = judging, chunk, last
        before = judging.memory
        self.after = Memory({**before.measures}, {**before.notes}, before.crowds, before.state)
        self.readings = {**readings}
        self._read: dict[str, Asked] = {}
        self._issued: dict[str, Issued] = {}
        if judging.depending:
            over, answered = chunk.over(answers(chunk, assumed)), (assumed == 0) & ~turned_away(chunk)
            for label, measure in judging.depending.items():
                self._depending(label, measure, over, answered)
        self.ended = self._ended()
        self.seen = {noting: self._noted(noting, before) for noting in judging.notings}
        self._last = None
        self.classes = told_apart(self.ended, self.seen, judging.limits)
        self.refusals: Ints = np.zeros(chunk.size, np.int64)
        self.judged = Judged(chunk, self.refusals, [], {})

    def _depending(self, label: str, measure: Measure, over: Seen, answered: Bools) -> None:
        """Read a measure that depends on answers."""
        before, last, issued = self.judging.memory, self._last, None
        if label in self.judging.issuing:
            issued = Issued(self.chunk, measure.per, self.judging.issuing[label], answered)
            if last is not None and issued.same(last._issued[label]):
                issued = last._issued[label]
            self._issued[label] = issued
        one = self._read[label] = asked(measure, self.chunk, self.chunk.asked if issued is not None else over, issued)
        if last is not None and one.same(last._read[label]):
            self.readings[label], self.after.measures[label] = last.readings[label], last.after.measures[label]
            return
        kept = before.measures.get(label) or Kept(Capped(measure.window))
        self.readings[label], self.after.measures[label] = read(measure, one, self.chunk.size, kept)

    def _ended(self) -> Ended:
        """How rules end, where they do otherwise than in the round before."""
        last = self._last
        if last is not None and all(self.readings[label] is last.readings[label] for label in self._read):
            return last.ended
        return Ended(self.judging.rules, self.chunk, self.readings)

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
        self.after.state = state = deepcopy(judging.memory.state) if judging.depending else judging.memory.state
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
        window, last, where = spec.notes[family, enforced].window, self._last, self.ended.noted(family, enforced)
        if last is not None and np.array_equal(where, last.ended.noted(family, enforced)):
            self.after.notes[window.digest] = last.after.notes[window.digest]
            return last.seen[noting]
        held = before.notes.get(window.digest) or Held()
        numbers = np.zeros(self.chunk.size, np.int64)
        spans = self.chunk.spans(spec.per, window.length)
        rows = spans.groups.rows
        numbers[rows], self.after.notes[window.digest] = totals(spans, Counted(where[rows]), held, late=True)
        return Reading(numbers)


def _parts(declared: Measure | Ratio) -> tuple[Measure, ...]:
    return (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)
