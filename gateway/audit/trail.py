"""The trail: settled judgements leave the hot path as they are, and one thread turns them into records and spans.

The hot path only appends to a queue; the thread looks every few milliseconds, so that nobody is woken per request. The queue
is bounded: whoever finds it full writes what is waiting on its own time. Slower, never lost. Where the disk refuses, records
are held, tied to the chain already, and written once there is room; with `HELD` bytes held the trail is `full`, and the gate
asks it before it judges. What comes even so (refusals, what was under way) is held up to twice that, then counted only. A disk
that answers nothing for `HANGS` seconds is taken for one that refuses, until it answers; nobody waits for it.
`written` counts records that are in the ledger, `spilled` how often a caller had to write, `failed` decisions that have no
record because a value of theirs has no written form.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.audit.ledger import Ledger, LedgerSettings
from gateway.audit.lines import line
from gateway.audit.record import record
from gateway.audit.sealing import Seals
from gateway.breaker import Breaker
from gateway.facts import Answer
from gateway.failing import Dependency
from gateway.incidents import report
from gateway.judgement import Judgement

DEPTH: Final = 65_536
BATCH: Final = 512
REST: Final = 0.2  # seconds for which a disk that refuses is left alone, and at most
LONGEST: Final = 5.0
HANGS: Final = 5.0  # seconds; a disk under pressure may take one or two for a sync
PAUSE: Final = 0.02
HELD: Final = 64 * 2**20  # bytes of records that wait for the disk


class SpanSink(Protocol):
    """Receives every record whose spans are to be kept."""

    def emit(self, judgement: Judgement, answer: Answer, entry: dict[str, Any]) -> None: ...

    def close(self) -> None: ...

    @property
    def breaker(self) -> Breaker: ...

    def health(self) -> dict[str, object]: ...


class Trail:
    """Writes records to a ledger, and hands kept ones to the span sink.

    path: the ledger's folder, created readable by its owner only; None for no ledger. Raises ConfigError when it cannot be
    opened. seals: what takes identifiers out of records before anybody gets them. on_record: called with every record.
    """

    def __init__(
        self,
        path: Path | None,
        spans: SpanSink | None = None,
        on_record: Callable[[dict[str, Any]], None] | None = None,
        settings: LedgerSettings | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.path = path
        self.spilled = self.failed = 0
        self.problem = self._refusal = ""
        self._spans, self._on_record, self._seals = spans, on_record, seals
        self._waiting: deque[tuple[Judgement, Answer]] = deque()
        self._lock = threading.Lock()
        self._ledger = None if path is None else Ledger(path, settings)
        self._acts: deque[dict[str, Any]] = deque()
        self._taken, self._since, self._hangs = 0, math.inf, False
        self.breaker = Breaker(time.monotonic, rest=REST, longest=LONGEST)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluice-trail", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        return self._ledger.written if self._ledger is not None else 0

    @property
    def full(self) -> bool:
        """Whether so much waits for the disk that no further exchange should be begun."""
        return self._ledger is not None and (self._ledger.held >= HELD or len(self._waiting) >= DEPTH)

    def __call__(self, judgement: Judgement, answer: Answer) -> None:
        """Take one settled judgement."""
        ledger = self._ledger
        if ledger is not None:
            if ledger.held >= 2 * HELD or len(self._waiting) >= 2 * DEPTH:
                ledger.unrecorded += 1
                return
            self._taken += 1
            ledger.count(self._taken - self.failed)
            if not self._hangs and time.monotonic() - self._since > HANGS:
                self._hangs = True
                self._refused(f"{self.path}: has not answered for {HANGS:.0f} seconds; records are held until it does")
        self._waiting.append((judgement, answer))
        if len(self._waiting) > DEPTH and not self._hangs:
            self.spilled += 1
            self.flush(HANGS)

    def note(self, act: dict[str, Any]) -> None:
        """Have the journal of the ledger say what an operator did: at once, or as soon as the disk takes it."""
        self._acts.append(act)
        self.flush()

    def flush(self, wait: float = -1) -> None:
        """Return once everything taken so far is in the ledger, or held because the disk refuses it.

        wait: seconds for whoever writes already, and may hang; less than 0 for as long as it takes.
        """
        if not self._lock.acquire(timeout=wait):
            return
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    self._write(batch)
                except sqlite3.Error as error:
                    self._waiting.extendleft(reversed(batch))
                    self._refused(f"the keys that seal identifiers: {error}; records are held until they can be kept")
                    return
            self._put()
        finally:
            self._lock.release()

    def rest(self) -> None:
        """Write what is left and close the segment; whatever comes later begins another."""
        self.flush()
        if self._ledger is not None:
            with self._lock, contextlib.suppress(OSError):  # a segment left open is closed by the next start
                self._ledger.rest()

    def close(self) -> None:
        """Write what is left, then stop."""
        self._stop.set()
        self._thread.join(timeout=10)
        self.flush()
        if self._spans:
            self._spans.close()
        if self._ledger is not None:
            try:
                self._ledger.close()
            except OSError as error:
                report("audit.refused", f"{self.path}: {error.strerror}; {self._ledger.held} bytes of records are lost")

    def health(self) -> dict[str, object]:
        shown = {"written": self.written, "waiting": len(self._waiting), "spilled": self.spilled, "failed": self.failed}
        ledger = self._ledger.health() if self._ledger is not None else {}
        return {**shown, **ledger, "problem": self._refusal or self.problem}

    def breakers(self) -> list[tuple[Dependency, str, Breaker]]:
        """What it depends on, each with its breaker and where that is."""
        disk = [(Dependency.RECORDS, str(self.path), self.breaker)] if self._ledger is not None else []
        return disk + ([(Dependency.OTLP, "traces", self._spans.breaker)] if self._spans is not None else [])

    def traces(self) -> dict[str, object] | None:
        """The health of the export of spans, whose trouble is nobody's but its own; None where none are exported."""
        return self._spans.health() if self._spans is not None else None

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self.flush()

    def _write(self, batch: list[tuple[Judgement, Answer]]) -> None:
        """Have a batch recorded. Raises sqlite3.Error, and has done nothing then, where keys cannot be kept."""
        made = []
        for judgement, answer in batch:
            try:
                made.append((judgement, answer, record(judgement, answer)))
            except Exception as error:  # a plugin's value that cannot be written must not end the audit of all others
                self._unwritten(judgement, error)
        if self._seals is not None:
            hidden = self._seals.hide([(judgement.facts.at, entry) for judgement, _, entry in made])
            made = [(judgement, answer, entry) for (judgement, answer, _), entry in zip(made, hidden, strict=True)]
        if self._ledger is not None:
            self._ledger.add(self._lines(made))
            self._put()
        for judgement, answer, entry in made:
            try:
                if self._spans is not None and judgement.kept and judgement.trace is not None:
                    self._spans.emit(judgement, answer, entry)
                if self._on_record is not None:
                    self._on_record(entry)
            except Exception as error:  # the record is in the file; what else listens must not end the audit
                self.problem = f"decision {judgement.outcome.id}: {type(error).__name__}"
                report("audit.refused", self.problem, error=error, decision=judgement.outcome.id)

    def _lines(self, made: list[tuple[Judgement, Answer, dict[str, Any]]]) -> Iterator[tuple[int, bytes]]:
        for judgement, _, entry in made:
            try:
                yield judgement.facts.at, line(entry)[:-1]
            except Exception as error:  # as above: a value without a written form
                self._unwritten(judgement, error)

    def _unwritten(self, judgement: Judgement, error: Exception) -> None:
        self.failed += 1
        self.problem = f"decision {judgement.outcome.id} cannot be recorded: {type(error).__name__}"
        report("audit.refused", self.problem, error=error, decision=judgement.outcome.id)

    def _refused(self, refusal: str) -> None:
        self.breaker.met(good=False, problem=refusal)
        said, self._refusal = self._refusal, refusal
        if said != refusal:
            report("audit.refused", refusal)

    def _put(self) -> None:
        """Have the ledger write what it holds and do what is due; say when the disk begins to refuse, and when it ends."""
        if self._ledger is None or not self.breaker.admits():
            return
        self._since = time.monotonic()
        try:
            self._ledger.write()
            while self._acts:
                self._ledger.act(self._acts[0])
                self._acts.popleft()
            self._ledger.tend()
        except OSError as error:
            self._refused(f"{self.path}: {error.strerror}; records are held until it takes them")
        else:
            self.breaker.met(good=True)
            if self._refusal:
                self._refusal = ""
                report("audit.written", f"{self.path} takes records again; all that were held are written")
        finally:
            self._since, self._hangs = math.inf, False
