"""One exchange in the lane: between the connection it came on and the upstream that is asked, all in callbacks.

A turn is told of the request by its connection (`lane`), and of the answer by an upstream's (`link`); in between stands the
exchange, which knows nothing of either. What is written here is spliced: an answer's bytes go to the client in the same call
in which they came, framed as the client understands: with the upstream's length, in chunks, or, for HTTP/1.0, until the
connection ends. Whatever happens, the exchange is settled once and the connection goes on or is closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.facts import End, Facts
from gateway.values import SECOND
from gateway.web.caller import FAILURES, Caller, Failure
from gateway.web.exchange import Exchange, Forward, Headers, Refuse
from gateway.web.heads import Known
from gateway.web.link import Broke
from gateway.web.pool import Pool
from gateway.web.steps import Steps, aside
from gateway.web.wire import BODILESS, CONTINUE, LAST_CHUNK, answer_head, chunk_of, request_end

if TYPE_CHECKING:
    from gateway.web.lane import Lane

DRAIN: Final = 128 * 2**20
_DEFECT: Final = b"Internal Server Error"
_DEFECT_HEADERS: Final = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_DEFECT))]
_CLOSE: Final = (b"connection", b"close")


class Turn(Caller, Steps):
    """One request on one connection, and its answer.

    known: its head; received: bytes of the body that have come; _early: those
    that came while it was judged by its beginning; _old: the client speaks HTTP/1.0. The names keep_alive, more_body and
    response_complete are those that uvicorn looks at.
    """

    more_body = True
    response_complete = begun = False
    received = 0
    _gone = _chunked = _too_large = _head_out = False
    delaying: asyncio.TimerHandle | None = None

    def __init__(self, lane: Lane, exchange: Exchange, known: Known) -> None:
        self.lane, self.exchange = lane, exchange
        self._loop, self._tasks = lane.loop, lane.tasks
        self.keep_alive, self._old = known.keep_alive, known.version == "1.0"
        self._known = known
        self._early: list[bytes] | None = []

    # From the client's connection

    @property
    def ready(self) -> bool:
        """Whether it can be judged now: the body is here, or no more of it is wanted."""
        exchange = self.exchange
        return not self.begun and (
            not self.more_body or not exchange.reads_body or exchange.unasked or exchange.partly or self._enough
        )

    @property
    def _enough(self) -> bool:
        """Whether a body that is not wanted has been read for long enough."""
        return self.exchange.too_large and self.received > max(DRAIN, self.exchange.door.largest)

    @property
    def awaits_body(self) -> bool:
        """Whether the client is to send more before anything can be done."""
        return self.more_body and not self.begun

    def welcome(self) -> None:
        """It is this request's turn: give leave to send the body where that is waited for."""
        if self.awaits_body and self.lane.expect_100_continue and not self._old and not self.ready:
            self.lane.transport.write(CONTINUE)

    def take(self, data: bytes) -> None:
        """Some bytes of the request body."""
        self.received += len(data)
        if not self.begun:
            if self.exchange.reads_body:
                self.exchange.feed(data)
        elif self.exchange.partly and not self.response_complete:
            if self._too_large or not self.exchange.gathering.goes_on(data):
                self._too_large = True
                if self._early is None:  # else it is told once judging is over
                    self.hang_up()
                    self._guarded(self._too_much)
            elif self._early is not None:
                self._early.append(data)
                self.lane.flow.pause_reading()
            else:
                self.upload(data, last=False)

    def end_body(self) -> None:
        """The request is complete."""
        self.more_body = False
        if self.begun and self._early is None and self.exchange.partly and not self.response_complete:
            self.upload(b"", last=True)

    def judge(self) -> None:
        """Judge and carry out, in place where nobody has to be asked."""
        self.begun = True
        self._guarded(self._judge)

    def leave(self) -> None:
        """The client is gone. What is being judged is judged to its end, and goes no further."""
        self._gone = True
        if self.response_complete:
            return
        if self.delaying is not None:
            self.delaying.cancel()
        self.hang_up()
        self._guarded(self._settle_gone)

    def hold(self, held: bool) -> None:
        """The client takes no more for now, or again."""
        if self._link is not None:
            self._link.hold(held)

    # From judging

    def _judge(self) -> None:
        door = self.exchange.door
        if self.exchange.heavy:
            self._spawn(self._judge_remotely(None))
            return
        facts = self.exchange.facts()
        if door.gate.local and not door.intake.must_ask(facts):
            self._carry_out(self.exchange.judged(door.gate.judge(facts)))
        else:
            self._spawn(self._judge_remotely(facts))

    async def _judge_remotely(self, facts: Facts | None) -> None:
        exchange, door = self.exchange, self.exchange.door
        try:
            if facts is None:  # nobody else waits while it is read
                facts = await aside(exchange.facts)
            if door.intake.must_ask(facts):
                facts = await door.intake.look_up(exchange.head, facts)
            judgement = await door.gate.judge_remote(facts)
        except Exception as error:  # as below: whatever broke, the client is answered
            self._broke(error)
        else:
            self._guarded(lambda: self._carry_out(exchange.judged(judgement)))

    def _carry_out(self, plan: Refuse | Forward) -> None:
        if isinstance(plan, Refuse):
            self._answer(plan)
        elif self._gone:
            self._settle_gone()
        elif plan.delay:
            self.delaying = self.lane.loop.call_later(plan.delay / SECOND, self._guarded, self._forward, plan)
        else:
            self._forward(plan)

    def _forward(self, plan: Forward) -> None:
        exchange, self.delaying = self.exchange, None
        pool = self.lane.service.pools.get(exchange.dialect.name) if exchange.dialect else None
        if not isinstance(pool, Pool):
            self._fail(FAILURES[pool])
            return
        length, method = exchange.length_up, self._known.asked[0]
        head = self._known.up(pool, plan) + request_end(plan.added, length)
        body = exchange.body() if exchange.reads_body else b""
        if exchange.partly:
            if self._too_large:
                self._too_much()
                return
            self.call_with_more(pool, method, head, body, exchange.route, in_chunks=length is None)
            early, self._early = self._early or [], None
            if early and self._link is not None:
                self.upload_full(self._link.full)
            for data in early:
                self.upload(data, last=False)
            if not self.more_body:
                self.upload(b"", last=True)
        else:
            self.call(pool, method, head, body, exchange.route)

    # From the upstream

    def arrived(self, status: int, headers: Headers, sized: bool, chunk: bytes, last: bool) -> None:
        if last:
            self._link = None
        self._guarded(self._pass_on, status, headers, chunk, last)

    def broken(self, why: Broke) -> None:
        self._guarded(self._broken, why)

    def upload_full(self, full: bool) -> None:
        if full:
            self.lane.flow.pause_reading()
        else:
            self.lane.flow.resume_reading()

    # To the client

    def _pass_on(self, status: int, headers: Headers, chunk: bytes, last: bool) -> None:
        exchange = self.exchange
        head = self._head(status, exchange.answer_head(status, headers)) if status else b""
        if chunk or last:
            chunk = exchange.answer_chunk(chunk, last)
            if self._chunked:
                chunk = chunk_of(chunk) + LAST_CHUNK if last else chunk_of(chunk)
        if not self._gone and (head or chunk):
            self._head_out = True
            self.lane.transport.write(head + chunk if head else chunk)
        if last:
            self._end(End.COMPLETE)

    def _head(self, status: int, headers: Headers) -> bytes:
        if _CLOSE in headers:
            headers = [pair for pair in headers if pair != _CLOSE]
            self.keep_alive = False
        sized = status in BODILESS or any(name == b"content-length" for name, _ in headers)
        self._chunked = not sized and not self._old
        self.keep_alive = self.keep_alive and (sized or self._chunked)
        defaults = self.lane.server_state.default_headers
        return answer_head(status, [*defaults, *headers], chunked=self._chunked, close=not self.keep_alive)

    def _answer(self, plan: Refuse) -> None:
        self._pass_on(plan.status, plan.headers, plan.body, last=True)

    def _fail(self, failure: Failure) -> None:
        self.exchange.ended = failure.unbegun
        self._answer(self.exchange.error(failure.status, failure.public, list(failure.extra)))

    def _broken(self, why: Broke) -> None:
        failure = FAILURES[why]
        if not self.exchange.begun:
            self._fail(failure)
            return
        self.exchange.ended = failure.begun
        event = self.exchange.interruption(failure.public)
        if event is not None:
            self._pass_on(0, [], event, last=True)
        else:  # the client must not take half an answer for a whole one
            self._cut()
            self._end(failure.begun)

    def _too_much(self) -> None:
        """A body that is passed on in parts turned out larger than is accepted."""
        refusal = self.exchange.too_much()
        if self.exchange.begun:
            self._cut()
            self._end(End.UPSTREAM_CUT)
        else:
            self._answer(refusal)

    def _cut(self) -> None:
        """Close the connection so that the client sees that the answer is not whole."""
        self.keep_alive = False
        sized_or_chunked = self._chunked or not self._old
        (self.lane.transport.close if sized_or_chunked else self.lane.transport.abort)()

    def _end(self, end: End) -> None:
        """Everything was written: settle, and let the connection go on."""
        self.response_complete = True
        self._settle(end)
        if self.more_body:  # an answer that came before the end of its request: what follows cannot be told apart
            self.keep_alive = False
        if not self.keep_alive:
            self.lane.transport.close()
        self.lane.on_response_complete()

    def _settle_gone(self) -> None:
        self.exchange.client_gone()
        self._settle(End.CLIENT_GONE)

    def _settle(self, end: End) -> None:
        exchange = self.exchange
        found, gate = exchange.finish(end), exchange.door.gate
        if found is None or exchange.judgement is None:
            return
        if gate.local:
            gate.settle(exchange.judgement, found)
        else:
            self._spawn(gate.settle_remote(exchange.judgement, found))

    def _defect(self) -> None:
        self.keep_alive = False
        if not self._head_out:
            self.exchange.withdraw()
        self._all_of(self.hang_up, self._say_defect, self._settle_defect, self.lane.transport.close)

    def _say_defect(self) -> None:
        if self._gone or self.response_complete:
            return
        self.response_complete = True
        if self._head_out:
            self._cut()
        else:
            self.lane.transport.write(answer_head(500, _DEFECT_HEADERS, chunked=False, close=True) + _DEFECT)

    def _settle_defect(self) -> None:
        self._settle(End.UPSTREAM_CUT if self._head_out else End.UPSTREAM_FAILED)
