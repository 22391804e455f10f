"""One exchange from first byte to settled record, as a state machine without I/O.

A host (raw ASGI today, a lane inside the server next) owns the sockets; it tells the exchange what arrived and does what
the exchange answers. The order is: `want_body` and `feed`, `facts`, (the gate judges), `judged`, then `answer_head`,
`answer_chunk`… and `finish`, which may be called at any time and counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.audit.trace import begin
from gateway.decision import Action, Outcome, Public
from gateway.facts import Answer, Cause, End, Facts, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement, Trace
from gateway.protocol import Dialect
from gateway.web.answers import error_answer
from gateway.web.intake import Body, Head, Intake
from gateway.web.tap import Tap

Headers = list[tuple[bytes, bytes]]
OWN_PREFIX: Final = "sluice-"


@dataclass(frozen=True, slots=True)
class Door:
    """What every exchange of one host shares.

    clock: µs since 1970; timer: µs, for latencies; largest: bytes of request body that are read and so accepted;
    keep: the share of allows and observes whose traces are kept.
    """

    intake: Intake
    gate: Gate
    clock: Callable[[], int]
    timer: Callable[[], int]
    largest: int = 32 * 2**20
    keep: float = 1.0


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer this, and do not pass the request on."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Pass the request on with these headers in place of those it came with, after `delay` µs."""

    headers: tuple[tuple[str, str], ...]
    delay: int


class Exchange:
    """One request and its answer."""

    def __init__(self, door: Door, head: Head) -> None:
        self.door, self.head = door, head
        self.started = door.timer()
        self.at = door.clock()
        found = door.intake.route(head)
        self.dialect: Dialect | None = found[0] if found else None
        self.reads_body = bool(found and found[1].read)
        self.trace: Trace = begin(head.header("traceparent"))
        self.judgement: Judgement | None = None
        self.ended: End | None = None
        self.finished = False
        self.streaming = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._tap: Tap | None = None
        self._status: int | None = None
        self._first: int | None = None
        self._cause = self._declared_cause()

    @property
    def too_large(self) -> bool:
        """Whether the body is known to be larger than is read: its bytes are not wanted any more."""
        return self._cause is Cause.BODY_TOO_LARGE

    def feed(self, chunk: bytes) -> None:
        """Some bytes of the request body."""
        self._size += len(chunk)
        if self._size > self.door.largest:
            self._cause = Cause.BODY_TOO_LARGE
            self._chunks.clear()
        if not self.too_large:
            self._chunks.append(chunk)

    def body(self) -> bytes:
        """The request body as received."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def facts(self) -> Facts:
        """What the exchange states, for the gate to judge."""
        raw = self.body() if self.reads_body else b""
        return self.door.intake.facts(self.head, Body(raw=raw, size=self._size, cause=self._cause), self.at)

    def judged(self, judgement: Judgement) -> Refuse | Forward:
        """What to do with the request. From here on the exchange must be finished, whatever happens."""
        outcome = judgement.outcome
        self.judgement = judgement
        kept = self.trace.asked or max(outcome.action, outcome.would) > Action.OBSERVE or self._sampled(outcome)
        judgement.trace, judgement.kept = self.trace, kept
        if outcome.refusal is not None:
            return self.refuse(outcome)
        headers = [(k, v) for k, v in self.head.headers if not k.startswith(OWN_PREFIX) and k not in ("traceparent", "baggage")]
        headers.append(("traceparent", self.trace.traceparent(self.trace.client, kept)))
        if outcome.tags:
            headers.append((f"{OWN_PREFIX}tags", ", ".join(outcome.tags)))
        return Forward(tuple(headers), outcome.delay)

    def refuse(self, outcome: Outcome) -> Refuse:
        refusal = outcome.refusal
        assert refusal is not None
        self.ended = End.REFUSED
        headers = list(outcome.headers)
        if refusal.retry_after is not None:
            headers.append(("retry-after", str(refusal.retry_after)))
        if refusal.link:
            headers.append(("link", f'<{refusal.link}>; rel="help"'))
        if self.too_large:
            headers.append(("connection", "close"))
        return self.error(refusal.status, refusal.public, headers)

    def error(self, status: int, public: Public, extra: list[tuple[str, str]] | None = None) -> Refuse:
        """An error answer in the shape of the protocol called."""
        reference = self.judgement.outcome.reference if self.judgement else ""
        headers, body = error_answer(self.dialect, status, public, reference)
        return Refuse(status, [*headers, *((k.encode(), v.encode()) for k, v in extra or ())], body)

    def answer_head(self, status: int, headers: Headers) -> Headers:
        """The answer begins; returns its headers with ours added."""
        self._status = status
        if self.dialect and self.ended is not End.REFUSED:
            named = {name.lower(): value for name, value in headers}
            kind = named.get(b"content-type", b"").decode("latin-1").lower()
            encoding = named.get(b"content-encoding", b"").decode("latin-1").lower()
            self.streaming = kind.startswith("text/event-stream")
            self._tap = Tap(self.dialect, kind, encoding)
            quotas = self.judgement.outcome.headers if self.judgement else ()
            stream = [(b"x-accel-buffering", b"no")] if self.streaming else []
            return [*headers, *((k.encode(), v.encode()) for k, v in quotas), *stream]
        return headers

    def answer_chunk(self, chunk: bytes) -> None:
        """Some bytes of the answer pass by."""
        if self._first is None:
            self._first = self.door.timer() - self.started
        if self._tap is not None:
            self._tap.feed(chunk)

    def finish(self, end: End = End.COMPLETE) -> Answer | None:
        """The exchange is over. Returns what is known of the answer, the first time; None after that."""
        if self.finished or self.judgement is None:
            return None
        self.finished = True
        if self._tap is not None:
            self._tap.close()
        return Answer(
            status=self._status, usage=self._tap.usage if self._tap else Usage(), end=self.ended or end,
            model=self._tap.model if self._tap else None, first_byte=self._first,
            duration=self.door.timer() - self.started,
        )  # fmt: skip

    def _declared_cause(self) -> Cause | None:
        length = self.head.header("content-length") or ""
        return Cause.BODY_TOO_LARGE if length.isdigit() and int(length) > self.door.largest else None

    def _sampled(self, outcome: Outcome) -> bool:
        return int(outcome.id[-8:], 16) < self.door.keep * 2**32
