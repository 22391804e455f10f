"""One exchange from first byte to settled record, as a state machine without I/O.

A host (`middleware`, raw ASGI; `lane`, inside our server) owns the sockets; it tells the exchange what arrived and does what
the exchange answers. The order is: `feed`, `facts`, (the gate judges), `judged`, then `answer_head`,
`answer_chunk`… and `finish`, which may be called at any time and counts once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from gateway.audit import trace
from gateway.audit.content import NO_CONTENT, ContentSettings
from gateway.decision import Action, Outcome, Public
from gateway.enforcement import CAUSE_ANSWERS
from gateway.facts import Answer, Cause, End, Facts
from gateway.gate import Gate
from gateway.judgement import Judgement, Trace
from gateway.protocol import Dialect
from gateway.web.answers import REFERENCE_HEADER, error_answer
from gateway.web.gathering import Gathering, declared_length
from gateway.web.hearing import hearing_of
from gateway.web.intake import Body, Head, Intake, Told
from gateway.web.tap import NOTHING, Tap, asking

Headers = list[tuple[bytes, bytes]]
OWN_PREFIX: Final = "sluice-"
REFERENCE: Final = REFERENCE_HEADER.decode()
_OF_THE_BODY: Final = (b"content-encoding", b"content-length", b"transfer-encoding", b"accept-encoding")


class Refresher(Protocol):
    """Something to be ticked by every request, such as the reading of changed files."""

    def tick(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Door:
    """What every exchange of one host shares.

    clock: µs since 1970; timer: µs, for latencies; largest: bytes of request body that are accepted; window: those looked at;
    keep: the share of allows and observes whose traces are kept. declare: where callers declare a workload; empty where
    nobody said: then the code alone. ask_usage: protocols whose streams are asked for theirs. content: the routes that keep it.
    """

    intake: Intake
    gate: Gate
    clock: Callable[[], int]
    timer: Callable[[], int]
    largest: int = 32 * 2**20
    keep: float = 1.0
    refresher: Refresher | None = None
    declare: str = ""
    window: int = 32 * 2**20
    ask_usage: frozenset[str] = frozenset()
    content: ContentSettings = NO_CONTENT

    def passes_beyond(self) -> bool:
        """Whether a body larger than the window may go on, seen in part."""
        return not self.gate.fail.under(self.gate.mode).refuses(Cause.BODY_BEYOND_WINDOW)


class Refuse(NamedTuple):
    """Answer this, and do not pass the request on."""

    status: int
    headers: Headers
    body: bytes


class Forward(NamedTuple):
    """Pass the request on after `delay` µs. added: headers of ours; rewritten: whether the body was written anew."""

    added: Headers
    delay: int
    rewritten: bool = False

    def kept(self, came: Headers) -> Headers:
        """Those of the headers the request came with (names in lower case) that may go on."""
        if not self.rewritten:
            return came
        return [pair for pair in came if pair[0] not in _OF_THE_BODY]


class Exchange:
    """One request and its answer. told: what its head tells, where the host knows that already."""

    dialect: Dialect | None = None
    route = ""
    judgement: Judgement | None = None
    ended: End | None = None
    restricted: tuple[str, ...] = ()
    _tap: Tap | None = None
    _status: int | None = None
    _first: int | None = None
    _size = 0
    reads_body = finished = streaming = _handed_over = _asked = _unsized = False

    def __init__(self, door: Door, head: Head, told: Told | None = None) -> None:
        self.door, self.head, self.started = door, head, door.timer()
        self.told = told = door.intake.told(head) if told is None else told
        if told.found is not None:
            self.dialect, route = told.found
            self.reads_body, self.route = route.read is not None, route.name
        self.trace: Trace = trace.begin(head.headers if "traceparent" in told.names else ())
        length = declared_length(head.header("content-length") if "content-length" in told.names else None)
        self.gathering = Gathering(door.largest, door.window, door.passes_beyond, length)
        self.feed: Callable[[bytes], None] = self.gathering.feed

    @property
    def too_large(self) -> bool:
        """Whether the body is known to be larger than is taken: its bytes are not wanted any more."""
        return self.gathering.unwanted

    @property
    def partly(self) -> bool:
        """Whether the body is judged by a part of it, and goes on in parts."""
        return self.gathering.partly

    @property
    def heavy(self) -> bool:
        """Whether reading the body takes so long that whoever reads it should not keep others waiting."""
        return self.reads_body and self.gathering.heavy

    @property
    def unasked(self) -> bool:
        """Whether the client waits for leave to send a body that is not wanted."""
        return self.told.waits and (self.too_large or not self.reads_body)

    @property
    def length_up(self) -> int | None:
        """The length of the body that goes upstream: negative where there is none, None where it goes in chunks."""
        return self.gathering.length if self.reads_body else -1

    def too_much(self) -> Refuse:
        """The answer to a body that turned out larger than is accepted while it was passed on."""
        self.ended = End.REFUSED
        return self.error(*CAUSE_ANSWERS[Cause.BODY_TOO_LARGE], [("connection", "close")])

    @property
    def begun(self) -> bool:
        """Whether the head of an answer has gone out."""
        return self._status is not None

    def body(self) -> bytes:
        """The request body as received, or as it was written anew."""
        return self.gathering.whole()

    def facts(self) -> Facts:
        """What the exchange states, for the gate to judge."""
        gathering, reads = self.gathering, self.reads_body
        size, raw = (gathering.stated, gathering.judged_part()) if reads else (gathering.declared, b"")
        at = self.door.clock()  # not before the body is here: whoever holds back its end must not save up earlier limits
        facts = self.door.intake.facts(self.head, Body(raw=raw, size=size, cause=gathering.cause), at, told=self.told)
        return replace(facts, seen=gathering.seen) if gathering.partly else facts

    def judged(self, judgement: Judgement) -> Refuse | Forward:
        """What to do with the request. From here on the exchange must be finished, whatever happens."""
        outcome = judgement.outcome
        self.judgement = judgement
        kept = self.trace.asked or max(outcome.action, outcome.would) > Action.OBSERVE or self._sampled(outcome)
        judgement.trace, judgement.kept, judgement.capture = self.trace, kept, self.door.content.of(self.route)
        if outcome.refusal is not None:
            return self.refuse(outcome)
        if self.too_large:  # a fail mode may let it pass, but its bytes are gone: an empty body must not go on in their place
            self.ended = End.REFUSED
            return self.error(*CAUSE_ANSWERS[Cause.BODY_TOO_LARGE], [*self._asking(), *self._closing()])
        self._restrict(judgement)
        asks = self.dialect is not None and self.dialect.name in self.door.ask_usage and not self.gathering.partly
        if asks and (spliced := asking(self.dialect, judgement.facts, self.body() if self.restricted else None)) is not None:
            self._asked = True
            self.gathering.write_anew(spliced)
        added = trace.upstream(self.trace, kept)
        if outcome.tags:
            added.append((b"sluice-tags", ", ".join(outcome.tags).encode()))
        return Forward(added, outcome.delay, bool(self.restricted) or self._asked)

    def _restrict(self, judgement: Judgement) -> None:
        """Write the request body anew where a rule takes something from it."""
        outcome, facts = judgement.outcome, judgement.facts
        if outcome.restriction is None or self.dialect is None or facts.call is None or facts.body is None:
            return
        document = json.loads(facts.body)
        self.restricted = tuple(self.dialect.restrict(facts.route or "", document, outcome.restriction))
        if self.restricted:
            self.gathering.write_anew(json.dumps(document, allow_nan=False, separators=(",", ":")).encode())

    def refuse(self, outcome: Outcome) -> Refuse:
        refusal = outcome.refusal
        assert refusal is not None
        self.ended = End.REFUSED
        headers = list(outcome.headers)
        if refusal.retry_after is not None:
            headers.append(("retry-after", str(refusal.retry_after)))
        if refusal.link:
            headers.append(("link", f'<{refusal.link}>; rel="help"'))
        return self.error(refusal.status, refusal.public, [*headers, *self._asking(), *self._closing()])

    def error(self, status: int, public: Public, extra: list[tuple[str, str]] | None = None) -> Refuse:
        """An error answer in the shape of the protocol called."""
        reference = self.judgement.outcome.reference if self.judgement else ""
        headers, body = error_answer(self.dialect, status, public, reference)
        return Refuse(status, [*headers, *((k.encode(), v.encode()) for k, v in extra or ())], body)

    def answer_head(self, status: int, headers: Headers) -> Headers:
        """The answer begins; returns its headers with ours added. Where that raises, nothing has begun."""
        told = headers if self.ended is End.REFUSED else self._with_ours(headers)
        self._status = status
        return told

    def withdraw(self) -> None:
        """The head of the answer did not go out after all."""
        self._status = None

    def _with_ours(self, headers: Headers) -> Headers:
        named = {name.lower(): value for name, value in headers}
        kind = named.get(b"content-type", b"").decode("latin-1").lower()
        self.streaming = kind.startswith("text/event-stream")
        self._unsized = b"content-length" not in named
        if self.dialect is not None:
            encoding = named.get(b"content-encoding", b"").decode("latin-1").strip().lower()
            hearing = hearing_of(self.judgement) if self.judgement is not None else NOTHING
            self._tap = Tap(self.dialect, kind, encoding, hearing, self._asked)
            if self._asked and self.streaming:  # it will be shorter
                headers, self._unsized = [pair for pair in headers if pair[0].lower() != b"content-length"], True
        quotas = [*(self.judgement.outcome.headers if self.judgement else ()), *self._said(named)]
        stream = [(b"x-accel-buffering", b"no")] if self.streaming else []
        return [*headers, *((k.encode(), v.encode()) for k, v in quotas), *stream]

    def _said(self, named: Container[bytes]) -> list[tuple[str, str]]:
        """What tells the caller of an answer that passes what was taken and what is asked; each header once."""
        told = self._said_of_less()
        known = {name for name, _ in told} | ({REFERENCE} if REFERENCE_HEADER in named else set())
        asking = [pair for pair in self._asking() if pair[0] == "link" or pair[0] not in known]
        reference = self.judgement.outcome.reference if self.judgement else ""
        return [*told, *asking, *([(REFERENCE, reference)] if asking and REFERENCE not in known else [])]

    def _asking(self) -> list[tuple[str, str]]:
        """What asks the caller to declare workloads: their kinds, a stable code, and where to do it."""
        if not (asked := self.judgement.outcome.asked if self.judgement else ()):
            return []
        told = [(f"{OWN_PREFIX}declare", ", ".join(one.kind for one in asked)), (f"{OWN_PREFIX}reason", asked[0].code)]
        link = f'<{self.door.declare}>; rel="help"; title="{asked[0].code}"'
        return [*told, ("link", link)] if self.door.declare else told

    def _said_of_less(self) -> list[tuple[str, str]]:
        """What tells the caller that it was held (seconds), or that less was asked for, why, and how to refer to it."""
        if (outcome := self.judgement.outcome if self.judgement else None) is None:
            return []
        told = [(f"{OWN_PREFIX}delayed", f"{outcome.delay / 1e6:g}")] if outcome.delay else []
        if self.restricted and outcome.reason is not None:
            told += [(f"{OWN_PREFIX}restricted", ", ".join(self.restricted)), (f"{OWN_PREFIX}reason", outcome.reason.code)]
        return [*told, (REFERENCE, outcome.reference)] if told else []

    def answer_chunk(self, chunk: bytes, last: bool) -> bytes:
        """Some bytes of the answer pass by; returns those to send on. After the last ones it counts as handed over."""
        if self._first is None:
            self._first = self.door.timer() - self.started
        self._handed_over, tap = last, self._tap
        self._size += len(chunk)
        if tap is None or tap.strips:
            return chunk if tap is None else tap.passing(chunk, last)
        tap.feed(chunk)
        return chunk

    def client_gone(self) -> None:
        """The client went away, which matters only as long as it has not been given everything."""
        if self.ended is None and not self._handed_over:
            self.ended = End.CLIENT_GONE

    def interruption(self, public: Public) -> bytes | None:
        """What tells a client inside a running event stream that it broke; None where it would be taken for something else."""
        if self.dialect is None or self._tap is None or not self._unsized or not self._tap.between_events:
            return None
        return self.dialect.error_event(public, self.judgement.outcome.reference if self.judgement else "")

    def finish(self, end: End = End.COMPLETE) -> Answer | None:
        """The exchange is over. Returns what is known of the answer, the first time; None after that."""
        if self.finished or self.judgement is None:
            return None
        self.finished = True
        known = self._tap.known() if self._tap is not None else {}
        took = self.door.timer() - self.started
        return Answer(self._status, end=self.ended or end, first_byte=self._first, duration=took, size=self._size, **known)

    def _closing(self) -> list[tuple[str, str]]:
        """A connection on which unwanted bytes may follow serves nothing else."""
        return [("connection", "close")] if self.too_large or self.unasked or self.told.upgrades else []

    def _sampled(self, outcome: Outcome) -> bool:
        return int(outcome.id[-8:], 16) < self.door.keep * 2**32


def replaced(name: str) -> bool:
    """Whether a request header is ours to write; servers that turn hyphens into underscores read both alike."""
    return name.replace("_", "-").startswith(OWN_PREFIX) or name in trace.HEADERS
