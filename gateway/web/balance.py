"""Several upstreams of one protocol: which is asked, and which is left alone for a while. No I/O.

They are asked in turn by weight, spread as evenly as whole numbers allow (the smooth round robin of nginx's
`ngx_http_upstream_round_robin.c`), so that a light one is not asked many times in a row. Nobody is probed: what requests meet
tells enough (Envoy calls it outlier detection, from which the measures are). One that fails AFTER times in a row (no
connection, no answer, or one that says 502, 503 or 504) is left alone for REST, longer each time up to LONGEST, and is asked
again after that: the next failure puts it out at once, an answer that is none sets it right. Where all are out, all are asked
as if none were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.web.pool import Pool

AFTER: Final = 3
REST: Final = 10.0  # seconds
LONGEST: Final = 300.0
OUT: Final = frozenset({502, 503, 504})


@dataclass(slots=True)
class Member:
    """One upstream. turn: how much it is due; failures: in a row; rests: how often in a row it was left alone; until when."""

    pool: Pool
    weight: int
    turn: int = 0
    failures: int = 0
    rests: int = 0
    until: float = 0.0


class Group:
    """The upstreams of one protocol, with their weights. now: seconds, of any clock that does not go back."""

    def __init__(self, members: Sequence[tuple[Pool, int]], now: Callable[[], float]) -> None:
        self._members = [Member(pool, weight) for pool, weight in members]
        self._now = now
        for pool, _ in members:
            pool.group = self

    def pick(self, tried: Collection[Pool] = ()) -> Pool | None:
        """Whom to ask next; None where all have been tried."""
        now = self._now()
        left = [member for member in self._members if member.pool not in tried]
        left = [member for member in left if member.until <= now] or left
        if not left:
            return None
        for member in left:
            member.turn += member.weight
        chosen = max(left, key=lambda member: member.turn)
        chosen.turn -= sum(member.weight for member in left)
        return chosen.pool

    def met(self, pool: Pool, good: bool) -> None:
        """What a request met there: an answer that an upstream in order gives, or a failure."""
        member = next(one for one in self._members if one.pool is pool)
        if good:
            member.failures = member.rests = 0
            member.until = 0.0
            return
        member.failures += 1
        now = self._now()
        if member.failures >= AFTER and member.until <= now:  # what was on its way when it was put out counts once
            member.rests += 1
            member.until = now + min(LONGEST, REST * member.rests)

    def health(self) -> list[dict[str, object]]:
        """Each upstream with its weight, failures in a row, and whether it is left alone now."""
        now = self._now()
        return [
            {"url": one.pool.upstream.url, "weight": one.weight, "failures": one.failures, "resting": one.until > now}
            for one in self._members
        ]
