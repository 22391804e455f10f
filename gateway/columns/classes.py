"""Which exchanges a policy cannot tell apart, so that one of them is judged for all.

A class is a number of 64 bits, the sum of a hash for each thing that a decision depends on: how each condition ends; of an
unknown one which leaves are; the exception, the mode, the step and the values a matched rule looks at further; which families
were noted before; why a request could not be read. Two classes of n are taken for one with a chance of n²/2⁶⁵.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.columns.chunk import Chunk
from gateway.columns.conditions import TRUE, UNKNOWN, Truth8, tested
from gateway.columns.measures import declared
from gateway.columns.values import Bools, Column, Hashes, Ints, mixed
from gateway.columns.windows import Reading
from gateway.decision import Mode
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Corroborate, PlanLimit, Rule
from gateway.readings import mode_of
from gateway.report.lacking import resting_on

LOOKED_AT: Final = (  # by `gateway.readings`, of what is restricted or charged
    "request.max_tokens", "request.n", "request.logprobs", "request.reasoning", "request.operation", "request.cause",
    "request.model",
)  # fmt: skip
By = Mapping[str, Reading]
Noting = tuple[Corroborate, str, bool]


class Ended:
    """How the rules of a policy end on every row of a chunk, before corroboration. readings: by label."""

    def __init__(self, rules: Iterable[Rule], chunk: Chunk, readings: By) -> None:
        self.rules, self.chunk, self.readings = list(rules), chunk, readings
        self._truths = chunk.asked.truths
        self.truths = [self._truths.of(rule.when, self._of(rule)) for rule in self.rules]
        self.sums: Hashes = np.zeros(chunk.size, np.uint64)
        self._salt = 0
        self.stands = [self._stands(rule, truth) for rule, truth in zip(self.rules, self.truths, strict=True)]

    def noted(self, family: str, enforced: bool) -> Bools:
        """Where a rule of a family matched, and its match stands."""
        found = np.zeros(self.chunk.size, np.bool_)
        for rule, (stands, enforcing) in zip(self.rules, self.stands, strict=True):
            if rule.family == family and (rule.mode is Mode.ENFORCE or not enforced):
                found |= stands & enforcing if enforced else stands
        return found

    def add(self, codes: Ints | Truth8 | Bools, where: Bools | None = None) -> None:
        """Tell rows apart by small numbers, where that matters."""
        self._salt += 1
        if where is not None:
            codes = np.where(where, codes, codes.dtype.type(0))
        most = int(codes.max(initial=0))
        if most:  # 0 adds nothing, so that what is false everywhere costs nothing
            table = mixed(np.arange(most + 1, dtype=np.uint64) + np.uint64(self._salt << 32))
            table[0] = 0
            self.sums += np.take(table, codes)

    def add_values(self, column: Column) -> None:
        """Tell rows apart by the values of a signal."""
        self._salt += 1
        if len(column.hashes):
            salted = np.append(mixed(column.hashes + np.uint64(self._salt << 32)), np.uint64(0))
            self.sums += np.take(salted, column.codes, mode="wrap")

    def _of(self, rule: Rule) -> Callable[[str], Reading | None]:
        def reading(name: str) -> Reading | None:
            measure: Measure | Ratio | None = rule.measures.get(name)
            return None if measure is None else declared(measure, self.readings)

        return reading

    def _stands(self, rule: Rule, truth: Truth8) -> tuple[Bools, Bools]:
        """Where a rule's match stands and where it is enforced; what tells its ends apart goes into the sums."""
        self.add(truth)
        matched, unknown = truth == TRUE, truth == UNKNOWN
        for leaf in rule.when.leaves():  # always as many, so that salts are the same in every chunk
            measured = self._of(rule)(leaf.name)
            if unknown.any():
                self.add(self._truths.leaf(leaf) if measured is None else tested(leaf, measured), unknown)
            else:
                self._salt += 1
            for per, signals in resting_on(rule, leaf.name):
                self._unrecorded(per, sorted(signals), unknown)
        enforced, excepted = self._enforced(rule), self._excepted(rule)
        self.add(enforced, truth > 0)
        self.add(excepted, matched)
        if rule.response.of is not None:
            self.add(self._step(rule), matched)
        for name in sorted({name for effect in rule.response.effects for name in effect.per}):
            self.add(self.chunk.asked.column(name).known, matched)
        return matched & (excepted == 0) if excepted.any() else matched, enforced

    def _unrecorded(self, per: Sequence[str], signals: Sequence[str], unknown: Bools) -> None:
        """Tell unknown ends apart by whether signals are recorded, and there is a key to count them by."""
        lacking = [self.chunk.unrecorded(name) for name in signals]
        some = any(rows is not None for rows in lacking)
        keys = [self.chunk.asked.column(name).known if some else None for name in per]
        for rows in (*lacking, *keys):
            if rows is None:
                self._salt += 1
            else:
                self.add(rows, unknown)

    def _enforced(self, rule: Rule) -> Bools:
        size = self.chunk.size
        if rule.mode is not Mode.ENFORCE or rule.share >= 1:
            return np.full(size, rule.mode is Mode.ENFORCE)
        column = self.chunk.asked.column("account.id")
        modes = [mode_of(rule, _Account(value)) is Mode.ENFORCE for value in column.distinct]  # type: ignore[arg-type]
        return np.array([*modes, False])[column.codes]

    def _excepted(self, rule: Rule) -> Ints:
        """Which exception applies: its place, from 1 on; 0 where none does."""
        found = np.zeros(self.chunk.size, np.int64)
        for place, exception in reversed(list(enumerate(rule.exceptions, 1))):
            for entry in exception.entries:
                holds = self.chunk.at < entry.expires
                for name, wanted in zip(exception.fields, entry.values, strict=True):
                    column = self.chunk.asked.column(name)
                    holds &= np.array([*[value == wanted for value in column.distinct], False], np.bool_)[column.codes]
                found[holds] = place
        return found

    def _step(self, rule: Rule) -> Ints:
        """How many steps a measure reaches, capped or not; 0 where it is below the first or not there."""
        assert rule.response.of is not None, "only rules with steps are asked"
        reading = declared(rule.measures[rule.response.of], self.readings)
        found: Ints = np.searchsorted(
            np.array(rule.response.starts, np.float64), reading.numbers.astype(np.float64), side="right"
        )
        return found if reading.known is None else np.where(reading.known, found, 0)


class _Account:
    """As much of an exchange as a rule's share looks at."""

    def __init__(self, account: object) -> None:
        self._account = account

    def get(self, name: str) -> object:
        return self._account


def told_apart(ended: Ended, seen: Mapping[Noting, Reading], limits: Iterable[PlanLimit]) -> Hashes:
    """The class of every row. seen: what was noted under a corroboration's key before, by family and view."""
    chunk = ended.chunk
    for reading in seen.values():
        known: npt.NDArray[np.bool_] = np.asarray(reading.numbers) > 0
        ended.add(known if reading.known is None else known & reading.known)
    ended.add_values(chunk.fact("cause"))
    plans = list(limits)
    for plan in plans:
        ended.add(chunk.asked.truths.of(plan.when) if plan.when else np.full(chunk.size, TRUE))
        for name in plan.per:
            ended.add(chunk.asked.column(name).known)
    restricting = any(effect.restriction for rule in ended.rules for effect in rule.response.effects)
    for name in LOOKED_AT if restricting or plans else ():
        ended.add_values(chunk.asked.column(name))
    return ended.sums
