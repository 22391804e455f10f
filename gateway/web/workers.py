"""Several processes on one listening socket: started, kept alive, told to reload and to stop by one that serves nothing.

Each worker is the whole gateway with an event loop of its own; what they share is the socket, the settings as they were read
once (with them the secret of all hashes, also one that was made up at the start), shared state, and a page of memory on which
each writes the digest of the policy it has in force. Connections are taken by whichever worker is free; one that stops takes no
more, and none is lost with it.

The one that keeps them passes on SIGHUP (to those that still start once they have), SIGTERM and SIGINT. It ends when all of
them have. A worker that ends unasked is started again; where the first one does not come up, nothing is started, and its exit
is the exit. Workers whose keeper is gone stop as on SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from types import FrameType
from typing import Final

from gateway.incidents import report
from gateway.values import SECOND
from gateway.web.door import timer

_SLOT: Final = 128
AGAIN: Final = SECOND  # before a worker that ended is started again
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Board:
    """Which policy each worker has in force, as far as they have said; shared by those that are forked after it was made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._page = mmap(-1, _SLOT * count)

    def put(self, number: int, digest: str) -> None:
        """Worker `number` (from 1) has this policy in force."""
        place = (number - 1) * _SLOT
        self._page[place : place + _SLOT] = digest.encode()[:_SLOT].ljust(_SLOT, b"\0")

    def policies(self) -> dict[int, str]:
        """The digests by worker."""
        found = {n: self._page[(n - 1) * _SLOT : n * _SLOT].rstrip(b"\0").decode() for n in range(1, self.count + 1)}
        return {number: digest for number, digest in found.items() if digest}


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's place. number: from 1. ready: call it once the worker serves. keeper: readable when the keeper is gone."""

    number: int
    board: Board
    ready: Callable[[], None]
    keeper: int

    def health(self) -> dict[str, object]:
        """Which worker this is; a problem where not all have the same policy in force."""
        policies = self.board.policies()
        mixed = len(set(policies.values())) > 1
        problem = "not all workers have the same policy in force: reload once more, or see what each says" if mixed else ""
        told = {str(number): digest for number, digest in policies.items()} if mixed else {}
        return {"number": self.number, "of": self.board.count, **({"policies": told} if mixed else {}), "problem": problem}


@dataclass(slots=True)
class _Worker:
    """pid: 0 where it ended. said: the pipe on which it says that it serves; None once it has. due: when (µs) to start it."""

    number: int
    pid: int = 0
    said: int | None = None
    reload: bool = False
    due: int = 0


class Keeper:
    """Starts workers and looks after them. work: what a worker does; its return is the end of the process."""

    def __init__(self, count: int, work: Callable[[Seat], None]) -> None:
        self._work = work
        self._board = Board(count)
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._lifeline, self._alive = os.pipe()
        self._woken, self._wake = os.pipe()
        self._stopping = False
        self._came_up = False
        self._exit = 0

    def run(self) -> int:
        """Keep the workers until all have ended; the exit status."""
        os.set_blocking(self._wake, False)
        before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        handled = {number: signal.signal(number, _noted) for number in (*_PASSED_ON, signal.SIGCHLD)}
        try:
            self._start(self._workers[0])
            while any(worker.pid for worker in self._workers) or not self._stopping:
                self._wait()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handled.items():
                signal.signal(number, handler)
        return self._exit

    def _wait(self) -> None:
        saying = {worker.said: worker for worker in self._workers if worker.said is not None}
        dues = [worker.due for worker in self._workers if worker.due and not self._stopping]
        patience = max(0, min(dues) - timer()) / SECOND if dues else None
        ready, _, _ = select.select([self._woken, *saying], [], [], patience)
        for end in ready:
            if end in saying:
                self._hear(saying[end])
        if self._woken in ready:
            for number in dict.fromkeys(os.read(self._woken, 4_096)):
                self._pass_on(signal.Signals(number))
        self._reap()
        for worker in self._workers:
            if worker.due and worker.due <= timer() and not self._stopping:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        said, say = os.pipe()
        worker.pid, worker.due, worker.reload = os.fork(), 0, False
        if worker.pid:
            os.close(say)
            worker.said = said
            return
        code = 1
        try:  # from here on this is the worker
            self._become_worker(said)
            self._work(Seat(worker.number, self._board, lambda: _say(say), self._lifeline))
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:  # nothing may go on into the keeper's part of this program
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _become_worker(self, said: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can reload; the keeper remembers
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setpgid(0, 0)  # what a terminal sends goes to the keeper alone, which passes it on
        os.close(self._alive)
        for other in (said, self._woken, self._wake, *(one.said for one in self._workers if one.said is not None)):
            os.close(other)

    def _hear(self, worker: _Worker) -> None:
        """A worker says that it serves, or ended without having said so."""
        assert worker.said is not None
        serves = os.read(worker.said, 1) != b""
        os.close(worker.said)
        worker.said = None
        if not serves:
            return
        if worker.reload:
            _send(worker, signal.SIGHUP)
        if self._stopping:
            _send(worker, signal.SIGTERM)
        elif not self._came_up:
            self._came_up = True
            for other in self._workers[1:]:
                self._start(other)

    def _pass_on(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            for worker in self._workers:
                worker.reload = worker.said is not None
                if not worker.reload:
                    _send(worker, number)
        elif number is not signal.SIGCHLD:
            for worker in self._workers:
                _send(worker, signal.SIGINT if self._stopping and number is signal.SIGINT else signal.SIGTERM)
            self._stopping = True

    def _reap(self) -> None:
        for worker in self._workers:
            ended, status = os.waitpid(worker.pid, os.WNOHANG) if worker.pid else (0, 0)
            if not ended:
                continue
            pid, worker.pid = worker.pid, 0
            self._board.put(worker.number, "")
            if self._stopping:
                continue
            if not self._came_up:
                self._stopping, self._exit = True, abs(os.waitstatus_to_exitcode(status)) or 1
                continue
            worker.due = timer() + AGAIN
            report("server.worker-ended", f"worker {worker.number} (process {pid}) {_how(status)}; it is started again")


def _noted(number: int, frame: FrameType | None) -> None:
    """The signal's number goes through the wake-up pipe."""


def _say(end: int) -> None:
    os.write(end, b"1")
    os.close(end)


def _send(worker: _Worker, number: signal.Signals) -> None:
    if worker.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, number)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"ended with exit {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
