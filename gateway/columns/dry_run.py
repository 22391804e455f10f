"""A dry run in columns: files of compact records to a report, the same bytes as the event engine gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from gateway.audit.lines import line
from gateway.columns.answering import Readings
from gateway.columns.checkpoints import question, save, take_up
from gateway.columns.classes import LOOKED_AT
from gateway.columns.judging import Judged, Judging
from gateway.columns.records import SIZE, Records
from gateway.columns.values import Column, Hashes, mixed, paired
from gateway.decision import Mode, Outcome, Verdict
from gateway.failing import FailModes
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy
from gateway.recalling import names_in
from gateway.replay.dry_run import entry_of
from gateway.report.counted import DAY
from gateway.report.counts import Counts
from gateway.report.labels import Labels
from gateway.report.observed import NOBODY, Observed
from gateway.signals import Catalogue
from gateway.state.limits import MAX_KEYS

SINGLY: Final = 2**15
_ALWAYS: Final = ("account.id", "account.org", "request.size", "prompt.length", *LOOKED_AT)  # whatever rules speak of


@dataclass(frozen=True, slots=True)
class Asked:
    """What a dry run is asked for: see `gateway.replay.dry_run.dry_run`. max_keys: that the state keeps of each window."""

    policy: Policy
    catalogue: Catalogue
    mode: Mode = Mode.ENFORCE
    fail: FailModes | None = None
    labels: Labels | None = None
    warm_up: int = 0
    max_keys: int = MAX_KEYS


@dataclass(slots=True)
class Run:
    """A dry run under way. counts: everything so far; done: exchanges; chunks: that were judged; first: when it began."""

    counts: Counts
    judging: Judging
    done: int = 0
    chunks: int = 0
    first: int | None = None

    @classmethod
    def of(cls, asked: Asked, every: bool = False) -> Run:
        """One that begins. Raises NotInColumnsError where the policy is not for columns."""
        judging = Judging(asked.policy, asked.catalogue, asked.mode, asked.fail, every, asked.max_keys)
        return cls(Counts.of(asked.policy, asked.labels), judging)

    def take(self, judged: Judged, warm_up: int) -> None:
        """Count a judged chunk."""
        at = judged.chunk.at
        self.first = int(at[0]) if self.first is None else self.first
        self.done += len(at)
        warm = int(np.searchsorted(at, self.first + warm_up))
        self.counts.report.warm_up += warm
        told = Told(judged, warm)
        for seen, times, until in told.endings():
            self.counts.report.ended(seen, until, times)
        for seen, times in told.accounts(self.counts.report.labels):
            self.counts.report.of_account(seen, times)


def dry_run(
    names: Sequence[str],
    asked: Asked,
    decisions: Path | None = None,
    told: Callable[[Run, int], None] = lambda run, total: None,
    size: int = 0,
    resume: Path | None = None,
    measured: Callable[[Sequence[Measure], int], Iterator[Readings]] | None = None,
) -> Run:
    """Judge files of compact records. told: is handed the run, and the rows there are, after each chunk. size: rows of a chunk.

    resume: where to keep a checkpoint while it lasts, and to go on from where one is. measured: others that read measures, in
    chunks of a size (`cluster`); they keep no checkpoints. Raises NotInColumnsError for what only
    the event engine can do, RecordError as that does and for a checkpoint of something else, OSError.
    """
    every = decisions is not None
    size = size or (SINGLY if every else SIZE)
    run = Run.of(asked, every)
    wanted = "" if resume is None else question(names, asked, size, every)
    written = 0 if resume is None else take_up(resume, wanted, run)
    with (
        closing(Records(names, asked.catalogue, None if every else named(asked.policy, asked.catalogue), size)) as records,
        ExitStack() as stack,
    ):
        out = None if decisions is None else stack.enter_context(_continued(decisions, written))
        read = itertools.repeat(None) if measured is None else measured(run.judging.asking, size)
        for chunk, readings in zip(records.chunks(run.chunks), read, strict=False):
            for judged in run.judging.judge(chunk, records, readings):
                if out is not None:
                    out.writelines(line(entry_of(one)) for one in judged.replayed)
                run.take(judged, asked.warm_up)
            run.chunks += 1
            if resume is not None:
                save(resume, wanted, run, _flushed(out))
            told(run, records.total)
    if resume is not None:
        resume.unlink(missing_ok=True)
    return run


def _continued(file: Path, written: int) -> IO[bytes]:
    """A file to be written on from a place on; what stands behind it is of a chunk that was cut short."""
    out = file.open("r+b" if written else "wb")
    out.truncate(written)
    out.seek(written)
    return out


def _flushed(out: IO[bytes] | None) -> int:
    if out is None:
        return 0
    out.flush()
    return out.tell()


def named(policy: Policy, catalogue: Catalogue) -> set[str]:
    """The signals that a policy looks at or counts by what answers issue, and those that reports do."""
    found = {*_ALWAYS}
    for rule in policy.rules:
        found |= names_in(rule) | {name for effect in rule.response.effects for name in effect.per}
        found |= {name for exception in rule.exceptions for name in exception.fields}
        found |= {*rule.corroborate.per} if rule.corroborate else set()
        for declared in rule.measures.values():
            parts = (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)
            found |= {name for part in parts for name in part.per}
    for plan in policy.limits:
        found |= {*plan.per, *(leaf.name for leaf in (plan.when.leaves() if plan.when else ()))}
    return (found | {catalogue[name].issued_as for name in found if name in catalogue}) - {""}


class Told:
    """What reports are told of a judged chunk from a row on: exchanges that are alike together, by the first of each."""

    def __init__(self, judged: Judged, first: int) -> None:
        self._chunk, self._rows = judged.chunk, np.arange(first, judged.chunk.size)
        self._account, self._org = (judged.chunk.asked.column(name) for name in ("account.id", "account.org"))
        self._label = judged.chunk.fact("label")
        alone = np.flatnonzero(judged.classes < 0)
        self._ended = judged.classes.copy()
        self._ended[alone] = len(judged.outcomes) + np.arange(len(alone))
        self._outcomes = [*judged.outcomes, *(judged.single[row] for row in alone.tolist())]

    def endings(self) -> Iterator[tuple[Observed, int, int]]:
        """Exchanges that ended alike, whoever sent them: the first, how many, and when the last was (µs)."""
        ended = self._ended[self._rows]
        _, firsts, times = np.unique(ended, return_index=True, return_counts=True)
        lasts = len(ended) - 1 - np.unique(ended[::-1], return_index=True)[1]
        for first, count, last in zip(self._rows[firsts].tolist(), times.tolist(), self._rows[lasts].tolist(), strict=True):
            yield self._seen(first), count, int(self._chunk.at[last])

    def accounts(self, labels: Labels) -> Iterator[tuple[Observed, int]]:
        """Exchanges to whose account the same was done on one day: the first, and how many. Of harvests, on any day."""
        deeds: dict[object, int] = {}
        done = np.array([deeds.setdefault(_deed(outcome), len(deeds)) for outcome in self._outcomes], np.uint64)
        sums: Hashes = mixed(done[self._ended])
        for column in (self._account, self._org, self._label):
            sums = paired(sums, np.where(column.known, column.hashed, np.uint64(0)))
        plain = not labels.accounts and not labels.orgs
        harvest = np.array([*[plain and labels.harvests(label) for label in self._label.distinct], False])[self._label.codes]
        sums = paired(sums, np.where(harvest, 0, self._chunk.at // DAY).astype(np.uint64))[self._rows]
        _, firsts, times = np.unique(sums, return_index=True, return_counts=True)
        for place in np.argsort(firsts).tolist():
            yield self._seen(int(self._rows[firsts[place]])), int(times[place])

    def _seen(self, row: int) -> Observed:
        account, org, label = _value(self._account, row, NOBODY), _value(self._org, row), _value(self._label, row)
        outcome = self._outcomes[self._ended[row]]
        chunk = self._chunk
        lacks, misses = partial(chunk.lacks, row), partial(chunk.misses, row)
        return Observed(
            int(chunk.at[row]), account, org, label, outcome, _untold, _untold, unrecorded=lacks, missing=misses
        )  # fmt: skip


def _deed(outcome: Outcome) -> object:
    """What an outcome does to an account, as far as reports tell it."""
    seen = Observed(0, "", None, None, outcome, _untold, _untold)
    matches = [
        (end.rule, not end.excepted and not end.abstained, end.action, end.would)
        for end in outcome.decision.ends if end.verdict is Verdict.MATCH
    ]  # fmt: skip
    return seen.by_policy, seen.turned_away, outcome.asked, tuple(matches)


def _value(column: Column, row: int, absent: str | None = None) -> Any:
    code = int(column.codes[row])
    return column.distinct[code] if code >= 0 else absent


def _untold(what: object) -> Any:
    raise LookupError("exchanges that are counted together have no values of their own")
