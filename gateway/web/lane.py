"""The lane: how the process serves the routes it knows, without an app between the client's connection and the upstream's.

A connection of a client is uvicorn's protocol (`server`). Requests on known routes become a `Turn` each: an exchange, told
what arrives, and at the same time the asker of an upstream (`pool.Caller`). Everything else goes to the app, as does a HEAD.
Both kinds share one connection: answers go out in the order in which requests came (RFC 9112 §9.3.2), one at a time.

Nothing is judged inside the parser, where an exception would be taken for the client's mistake. In-memory state is judged
in place, without a task; only remote state and a directory that must be asked get one. Idle connections, and heads and bodies
that do not come, and clients that take nothing of an answer, are closed by those who look after all of them (`service`).
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Any, ClassVar, Final

import httptools

from gateway.web.exchange import Exchange
from gateway.web.heads import SAID_ANEW, Known, lines_of
from gateway.web.intake import Head, Told
from gateway.web.link import Broke
from gateway.web.server import Protocol, untaken
from gateway.web.service import Service
from gateway.web.turn import Turn
from gateway.web.wire import answer_head, remembered

_COLD: Final = (b"HEAD", b"CONNECT")
_FULL: Final = b"Too many connections are open."
_TOO_MANY: Final = answer_head(503, [
    (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_FULL)), (b"retry-after", b"1"),
], chunked=False, close=True) + _FULL  # fmt: skip


class Lane(Protocol):
    """One connection of a client, of which known routes are served here.

    deadline: the loop's time at which the connection is closed if the client is still awaited then; 0 for never.
    """

    service: ClassVar[Service]

    deadline = 0.0
    site = ""
    _body_began = 0.0
    _unsent = 0
    _taken_at = 0.0
    _front: Any = None
    _ready = _working = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not transport.is_closing():
            self.deadline = self.loop.time() + self.service.waits.head
            self.service.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:
        front, self._front = self._front, None
        if isinstance(self.cycle, Turn):
            self.cycle = None if isinstance(front, Turn) else front  # type: ignore[assignment]
        super().connection_lost(exc)
        self.service.forget(self)
        self.pipeline.clear()
        if isinstance(front, Turn):
            front.leave()

    def _name(self) -> None:
        super()._name()
        if not self.service.admits(self):
            self.transport.write(_TOO_MANY)
            self.transport.close()

    @property
    def waits(self) -> bool:
        """Whether it is the client's turn to send."""
        cycle: Any = self.cycle
        return (
            cycle is None or cycle.response_complete or (isinstance(cycle, Turn) and cycle is self._front and cycle.awaits_body)
        )

    def stop(self) -> None:
        """The process ends: a request that is held back is not sent any more, and its client is told so."""
        front = self._front
        if isinstance(front, Turn) and front.delaying is not None and not front.response_complete:
            front.delaying.cancel()
            front.broken(Broke.STOPPED)

    def stuck(self, now: float) -> bool:
        """Whether the client has taken too little for too long of what is to be sent, what is left of the last answer included.

        What waits becomes less only where the client takes some, and it is paused long before it can become much more. What was
        taken is worth the time that it may take.
        """
        before, self._unsent = self._unsent, untaken(self.transport)
        waits, taken = self.service.waits, before - self._unsent
        if not self._unsent or not before or (taken > 0 and not waits.least):
            self._taken_at = now
        elif taken > 0:
            self._taken_at = min(now, self._taken_at + taken / waits.least)
        return now - self._taken_at > waits.take

    def _body_awaited(self, sent: int) -> None:
        """The next piece of a body is waited for; sent: bytes of it that have come since it began."""
        now, waits = self.loop.time(), self.service.waits
        if not sent:
            self._body_began = now
        paced = self._body_began + waits.body + sent / waits.least if waits.least else now + waits.body
        self.deadline = min(now + waits.body, paced)

    def _answering(self, cycle: Any) -> bool:
        return cycle.begun if isinstance(cycle, Turn) else super()._answering(cycle)

    @property
    def _idle(self) -> bool:
        """Whether the last answer that was begun is out."""
        return self._front is None or self._front.response_complete

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._ready and not self.transport.is_closing():  # else it was refused, and what came before it with it
            self._ready = False
            self._work()

    def pause_writing(self) -> None:
        super().pause_writing()
        if isinstance(self._front, Turn):
            self._front.hold(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if isinstance(self._front, Turn) and not self._front.response_complete:
            self._front.hold(False)
        elif self._idle and not self.transport.is_closing():
            self._go_on()

    def on_response_complete(self) -> None:
        """An answer is out, of either kind: go on with the next request that is here, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.write_paused:  # the client takes nothing: nothing more is begun for it
            self.flow.pause_reading()
            self.deadline = 0.0
            return
        self._go_on()

    def _go_on(self) -> None:
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._work()
        else:
            self.deadline = self.loop.time() + self.service.waits.idle

    # From the parser

    def on_message_begin(self) -> None:
        if self._declining:
            return
        self._in_head, self._head_size = True, 0
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self.deadline = self.loop.time() + self.service.waits.head

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head and not self._declining:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._declining:
            return
        self.deadline = 0.0
        turn = self._turn()
        if turn is None:
            self._hand_over()
            return
        self._in_head = False
        waiting = self.flow.write_paused or (self.cycle is not None and not self.cycle.response_complete)
        self.cycle = turn  # type: ignore[assignment]
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((turn, None))  # type: ignore[arg-type]
        else:
            self._start_asgi_task(turn, None)

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        if isinstance(cycle, Turn):
            cycle.take(body)
            self._body_awaited(cycle.received)
            self._ready = self._ready or cycle.ready
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        cycle: Any = self.cycle
        if isinstance(cycle, Turn):
            self._declining = False
            self.deadline = 0.0
            cycle.end_body()
            self._ready = True
        else:
            super().on_message_complete()

    def read_body_after_all(self) -> None:
        if isinstance(self.cycle, Turn):
            self.cycle.more_body = True
        else:
            super().read_body_after_all()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._front = cycle
        if not isinstance(cycle, Turn):
            super()._start_asgi_task(cycle, app)
            return
        self._ready = True
        if cycle.more_body:
            self._body_awaited(0)
            cycle.welcome()

    def _turn(self) -> Turn | None:
        """The turn of the request whose head is here; None where the app is to serve it."""
        method, version, service = self.parser.get_method(), self.parser.get_http_version(), self.service
        if method in _COLD:
            return None
        lines = lines_of(method, self.url, version, self.headers)
        known = service.heads.find(lines)
        if known is None:
            known = self._read_head(method, version)
            if known.told.found is None:
                return None
            self.check_head()
            service.heads.keep(lines, known, self.loop.time())
        head = self._head_of(known)
        told: Told | None = known.told
        if service.address is not None:
            head, told = service.address(head), None
        if service.door.refresher is not None:
            service.door.refresher.tick()
        return Turn(self, Exchange(service.door, head, told), known)

    def _head_of(self, known: Known) -> Head:
        """The head of this request, of which all but a few lines are known."""
        method, raw_path, query = known.asked
        return Head(
            method, known.path, query.decode("latin-1"), known.version, known.texts_of(self.headers),
            self.client[0] if self.client else None, self._connection, raw_path.decode("ascii"),
        )  # fmt: skip

    def _read_head(self, method: bytes, version: str) -> Known:
        raw_path, path, query = _split(self.url)
        texts = tuple([(_decoded(name), value.decode("latin-1")) for name, value in self.headers])
        asked = method.decode("ascii"), raw_path, query
        told = self.service.door.intake.told(
            Head(asked[0], path, query.decode("latin-1"), version, texts, raw_path=raw_path.decode("ascii"))
        )
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        anew = tuple([place for place, (name, _) in enumerate(self.headers) if name in SAID_ANEW])
        return Known(told, asked, path, version, keep_alive, self.headers, texts, anew)

    def _hand_over(self) -> None:
        """Have the app serve a request, of which uvicorn now hears for the first time."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _work(self) -> None:
        """Judge what is ready, one request after the other."""
        if self._working:
            return
        self._working = True
        try:
            while isinstance(self._front, Turn) and self._front.ready:
                self._front.judge()
        finally:
            self._working = False


@remembered
def _split(url: bytes) -> tuple[bytes, str, bytes]:
    """Raw path, path and query of a request target. Raises what makes uvicorn answer 400."""
    parsed = httptools.parse_url(url)
    raw_path = parsed.path
    path = raw_path.decode("ascii")
    return raw_path, urllib.parse.unquote(path) if "%" in path else path, parsed.query or b""


@remembered
def _decoded(name: bytes) -> str:
    return name.decode("latin-1")


def lane_of(protocol: type[Protocol], service: Service) -> type[Protocol]:
    """The lane on top of a way to speak HTTP/1.1."""
    return type("ServiceLane", (Lane, protocol), {"service": service})
