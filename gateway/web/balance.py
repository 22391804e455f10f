"""Several upstreams of one protocol: which is asked, and which is left alone for a while. No I/O.

They are asked in turn by weight, spread as evenly as whole numbers allow (the smooth round robin of nginx's
`ngx_http_upstream_round_robin.c`), so that a light one is not asked many times in a row. Nobody is probed: what requests meet
tells enough (Envoy calls it outlier detection, from which the measures are). One whose breaker opens (no connection, no answer,
or one that says 502, 503 or 504, three times in a row) is left alone for REST, longer each time up to LONGEST; then one request
finds out. What is done where all are out, and whether breakers count at all, is declared (`fail: {upstream: …}`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.failing import Fail

if TYPE_CHECKING:
    from gateway.web.pool import Pool

REST: Final = 10.0  # seconds
LONGEST: Final = 300.0


@dataclass(slots=True)
class Member:
    """One upstream. turn: how much it is due."""

    pool: Pool
    weight: int
    turn: int = 0


class Group:
    """The upstreams of one protocol, with their weights. mode: what is declared for those that fail."""

    def __init__(self, members: Sequence[tuple[Pool, int]], mode: Fail = Fail.DEGRADE) -> None:
        self._members = [Member(pool, weight) for pool, weight in members]
        self._mode = mode
        for pool, _ in members:
            pool.group = self

    def pick(self, tried: Collection[Pool] = ()) -> Pool | None:
        """Whom to ask next; None where all have been tried, or where none is to be asked."""
        left = [member for member in self._members if member.pool not in tried]
        if self._mode is not Fail.OPEN:
            free = [member for member in left if member.pool.breaker.free]
            left = free if free or self._mode is Fail.CLOSED else left
        if not left:
            return None
        for member in left:
            member.turn += member.weight
        chosen = max(left, key=lambda member: member.turn)
        chosen.turn -= sum(member.weight for member in left)
        chosen.pool.breaker.admits()
        return chosen.pool

    def health(self) -> list[dict[str, object]]:
        """Each upstream with its weight, failures in a row, and whether it is left alone now."""
        found = []
        for one in self._members:
            breaker, url = one.pool.breaker, one.pool.upstream.url
            found.append({"url": url, "weight": one.weight, "failures": breaker.failures, "resting": breaker.wait > 0})
        return found
