"""Delivery: encoded spans leave the process in batches, by one thread that nobody waits for.

What waits is bounded in number and in bytes: where the endpoint is slower than the gateway, or away, the oldest spans go, and
are counted. An endpoint that says «later» (or nothing) is asked again after a growing pause, and not longer than
`MOST_TRIES` times for the same spans. What it refuses, in whole or in part, is lost and counted. `health` says all of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from gateway.breaker import Breaker
from gateway.values import SECOND

DEPTH: Final = 8_192  # spans
MOST_BYTES: Final = 32 * 2**20
BATCH: Final = 512
BATCH_BYTES: Final = 2 * 2**20  # what is in a request stays below the 4 MiB that gRPC servers take
GATHERING: Final = 0.5  # seconds that spans wait for company
MOST_TRIES: Final = 6
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
LAST: Final = 5.0  # seconds for what is left when the process ends


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where spans go. url: http(s)://… or grpc(s)://host:port; timeout: µs for one request; ca_file: authorities that are
    believed in place of the system's; headers: may hold credentials; gzip: whether requests are compressed.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    timeout: int = 5 * SECOND
    gzip: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said to one request.

    taken: whether it takes it; later: it may be asked again; after: seconds until then, 0 where it did not say; rejected: of
    a request that it took, how many spans it did not.
    """

    taken: bool
    problem: str = ""
    later: bool = False
    after: float = 0.0
    rejected: int = 0


class Sender(Protocol):
    """A way to an endpoint. where: its address, for messages."""

    where: str

    def send(self, spans: Sequence[bytes]) -> Answer:
        """Ask the endpoint to take these spans; returns within the time-out of the settings."""
        ...

    def close(self) -> None:
        """Let go of connections; what is being sent may break off."""
        ...


class Delivery:
    """Has spans sent. made, exported, lost: counts of spans; made = exported + lost + those that wait.

    While its breaker is open nothing is sent; spans wait, or, where they are `dropping`, are lost at once.
    """

    def __init__(
        self, sender: Sender, gathering: float = GATHERING, first_pause: float = FIRST_PAUSE, *, dropping: bool = False
    ) -> None:
        self.breaker = Breaker(time.monotonic)
        self._dropping = dropping
        self.made = self.exported = self.lost = 0
        self.problem = ""
        self._sender, self._gathering, self._first_pause = sender, gathering, first_pause
        self._waiting: deque[bytes] = deque()
        self._bytes = self._sending = 0
        self._lock = threading.Lock()
        self._more, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluice-spans", daemon=True)
        self._thread.start()

    def put(self, spans: Sequence[bytes]) -> None:
        """Have these spans sent soon."""
        with self._lock:
            self.made += len(spans)
            if self._dropping and self.breaker.wait:
                self._lose(len(spans), self.breaker.problem)
                return
            self._waiting.extend(spans)
            self._bytes += sum(map(len, spans))
            while len(self._waiting) > DEPTH or self._bytes > MOST_BYTES:
                self._bytes -= len(self._waiting.popleft())
                self._lose(1, f"{self._sender.where} takes less than there is")
        if len(self._waiting) >= BATCH:
            self._more.set()

    def close(self) -> None:
        """Send what is left, within LAST seconds; what is not sent by then is lost and counted."""
        self._closing.set()
        self._more.set()
        self._thread.join(LAST + 1)
        self._sender.close()
        with self._lock:
            if left := len(self._waiting) + self._sending:
                self._lose(left, "the process ended before they were sent")
            self._waiting.clear()
            self._sending = 0

    def health(self) -> dict[str, object]:
        """The counts, and what is wrong with the endpoint as far as the last request to it tells."""
        waiting = self.made - self.exported - self.lost
        counts = {"made": self.made, "exported": self.exported, "lost": self.lost, "waiting": waiting}
        return {**counts, "problem": self.problem}

    def _run(self) -> None:
        while not self._closing.is_set():
            self._more.wait(self._gathering)
            self._more.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while (not self.breaker.wait or self._closing.is_set()) and (batch := self._next()):
            self._deliver(batch)

    def _next(self) -> list[bytes]:
        """The oldest spans that fit into one request."""
        batch: list[bytes] = []
        size = 0
        with self._lock:
            while self._waiting and len(batch) < BATCH and (not batch or size + len(self._waiting[0]) <= BATCH_BYTES):
                batch.append(self._waiting.popleft())
                size += len(batch[-1])
            self._bytes -= size
            self._sending = len(batch)
        return batch

    def _deliver(self, batch: list[bytes]) -> None:
        answer = self._asked(batch)
        with self._lock:
            if not self._sending:  # it took longer than the process could wait, and is counted as lost
                return
            self._sending = 0
            self.problem = ""
            rejected = min(answer.rejected, len(batch)) if answer.taken else len(batch)
            self.exported += len(batch) - rejected
            if rejected:
                self._lose(rejected, answer.problem)

    def _asked(self, batch: list[bytes]) -> Answer:
        """What the endpoint says in the end."""
        pause, tries = self._first_pause, 0
        while True:
            last = self._closing.is_set() or (tries := tries + 1) >= MOST_TRIES
            try:
                answer = self._sender.send(batch)
            except Exception as error:  # a library on the way may raise what it does not name: these spans are lost, no more
                self.breaker.met(good=False, problem=f"{self._sender.where}: {type(error).__name__}")
                return Answer(False, self.breaker.problem)
            self.breaker.met(good=answer.taken, problem=answer.problem)
            if last or not answer.later:
                return answer
            self.problem = answer.problem
            self._closing.wait(min(answer.after or pause, LONGEST_PAUSE))
            pause *= 2

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        self.problem = f"{why}; {self.lost} spans lost"
