"""Request heads that were read before: a client sends the same lines with every request, but for a few that each says anew.

What is worked out of a head (route, credential, what goes upstream) is kept by its lines, and found again by comparing all of
them. It is bounded: `MOST` heads of at most `LONGEST` bytes, of known routes only, and none for longer than `LASTS`, so that a
key is not in memory long after its last use. A head with a line that is another in every request and goes upstream is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.web.exchange import Forward, Headers
from gateway.web.intake import Told
from gateway.web.pool import Pool
from gateway.web.wire import request_lines, target_of

MOST: Final = 2_048
LONGEST: Final = 4_096
LASTS: Final = 300.0  # seconds
SAID_ANEW: Final = frozenset({b"content-length", b"traceparent"})  # neither goes upstream as it came
_PASSING: Final = frozenset({b"idempotency-key", b"tracestate", b"x-request-id", b"x-client-request-id", b"x-correlation-id"})
Lines = tuple[bytes | tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Known:
    """A head as all requests with its lines have it.

    asked: method, raw path and query as sent; version: of HTTP; keep_alive: whether its connection may go on; texts: its
    headers as facts hold them, of which those at `anew` are each request's own.
    """

    told: Told
    asked: tuple[str, bytes, bytes]
    path: str
    version: str
    keep_alive: bool
    headers: Headers
    texts: tuple[tuple[str, str], ...]
    anew: tuple[int, ...]
    _up: dict[tuple[Pool, bool], bytes] = field(default_factory=dict)

    def texts_of(self, headers: Headers) -> tuple[tuple[str, str], ...]:
        """The headers of one such request as facts hold them."""
        if headers is self.headers:
            return self.texts
        texts = list(self.texts)
        for place in self.anew:
            texts[place] = texts[place][0], headers[place][1].decode("latin-1")
        return tuple(texts)

    def up(self, pool: Pool, plan: Forward) -> bytes:
        """What such requests to an upstream begin with. Raises ValueError where a header would begin another line."""
        found = self._up.get((pool, plan.rewritten))
        if found is None:
            method, path, query = self.asked
            start = b"%b %b%b" % (method.encode(), target_of(pool.base, path, query), pool.lines)
            found = self._up[pool, plan.rewritten] = request_lines(start, plan.kept(self.headers))
        return found


class Heads:
    """Heads by their lines."""

    def __init__(self) -> None:
        self._known: dict[Lines, Known] = {}
        self._begun = 0.0
        self.find = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def keep(self, lines: Lines, known: Known, now: float) -> None:
        """Keep what was worked out of a head, if it may come again. now: seconds, of any clock that does not go back."""
        if known.told.found is None or not _PASSING.isdisjoint([name for name, _ in known.headers]) or _size(known) > LONGEST:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        if not self._known:
            self._begun = now
        self._known[lines] = known

    def age(self, now: float) -> None:
        """Forget what was kept for long."""
        if now - self._begun > LASTS:
            self._known.clear()


def lines_of(method: bytes, url: bytes, version: str, headers: Headers) -> Lines:
    """What tells a head from others."""
    kept = [pair if pair[0] not in SAID_ANEW else pair[0] for pair in headers]
    return (method, url, version.encode(), *kept)


def _size(known: Known) -> int:
    return sum(map(len, known.asked)) + sum([len(name) + len(value) for name, value in known.headers])
