"""The trail: settled judgements leave the hot path as they are, and one thread turns them into records and spans.

The hot path only appends to a queue; the thread looks every few milliseconds, so that nobody is woken per request. The queue
is bounded: whoever finds it full writes what is waiting on its own time. Slower, never lost. `written` counts records that are
in the file, `spilled` how often a caller had to write, `failed` the records that the disk refused.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.audit.lines import line as line
from gateway.audit.record import record
from gateway.errors import ConfigError, Place, Problem
from gateway.facts import Answer
from gateway.judgement import Judgement

DEPTH: Final = 65_536
BATCH: Final = 512
PAUSE: Final = 0.02


class SpanSink(Protocol):
    """Receives every record whose spans are to be kept."""

    def emit(self, judgement: Judgement, answer: Answer, entry: dict[str, Any]) -> None: ...

    def close(self) -> None: ...

    def health(self) -> dict[str, object]: ...


class Trail:
    """Writes records to a file of JSON lines, and hands kept ones to the span sink.

    path: appended to, created readable by its owner only; None for no file. Raises ConfigError
    when it cannot be opened. on_record: called with every record.
    """

    def __init__(
        self, path: Path | None, spans: SpanSink | None = None, on_record: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.path = path
        self.written = self.spilled = self.failed = 0
        self.problem = ""
        self._spans, self._on_record = spans, on_record
        self._waiting: deque[tuple[Judgement, Answer]] = deque()
        self._lock = threading.Lock()
        self._file: int | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except OSError as error:
                mend = "name a file that can be written"
                raise ConfigError([Problem(Place(str(path)), f"cannot hold audit records: {error.strerror}", mend)]) from None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluice-trail", daemon=True)
        self._thread.start()

    def __call__(self, judgement: Judgement, answer: Answer) -> None:
        """Take one settled judgement."""
        self._waiting.append((judgement, answer))
        if len(self._waiting) > DEPTH:
            self.spilled += 1
            self.flush()

    def flush(self) -> None:
        """Return once everything taken so far is in the file."""
        with self._lock:
            while self._waiting:
                count = min(BATCH, len(self._waiting))
                self._write([self._waiting.popleft() for _ in range(count)])

    def close(self) -> None:
        """Write what is left, then stop."""
        self._stop.set()
        self._thread.join(timeout=10)
        self.flush()
        if self._spans:
            self._spans.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def health(self) -> dict[str, object]:
        shown = {"written": self.written, "waiting": len(self._waiting), "spilled": self.spilled, "failed": self.failed}
        spans = self._spans.health() if self._spans else {}
        problem = self.problem or str(spans.get("problem", ""))
        return {**shown, **({"spans": spans} if spans else {}), "problem": problem}

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            self.flush()

    def _write(self, batch: list[tuple[Judgement, Answer]]) -> None:
        entries = []
        for judgement, answer in batch:
            try:
                entry = record(judgement, answer)
                entries.append((judgement, answer, entry, line(entry)))
            except Exception as error:  # a plugin's value that cannot be written must not end the audit of all others
                self._refused(1, f"decision {judgement.outcome.id} cannot be recorded: {type(error).__name__}: {error}")
        self._append(b"".join(written for *_, written in entries), len(entries))
        for judgement, answer, entry, _ in entries:
            try:
                if self._spans is not None and judgement.kept and judgement.trace is not None:
                    self._spans.emit(judgement, answer, entry)
                if self._on_record is not None:
                    self._on_record(entry)
            except Exception as error:  # the record is in the file; what else listens must not end the audit
                self._refused(0, f"decision {judgement.outcome.id}: {type(error).__name__}: {error}")

    def _append(self, lines: bytes, count: int) -> None:
        if self._file is None:
            return
        try:
            while lines:
                lines = lines[os.write(self._file, lines) :]
            self.written += count
        except OSError as error:
            self._refused(count, f"{self.path}: {error.strerror}; {self.failed + count} records not written")

    def _refused(self, count: int, problem: str) -> None:
        self.failed += count
        self.problem = problem
        print(f"sluice: audit: {problem}", file=sys.stderr)
