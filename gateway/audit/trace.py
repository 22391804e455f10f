"""W3C trace context: ids in and out (Recommendation of November 2021), and whether an exchange's spans are kept.

The sampling decision falls when the exchange is judged, before `traceparent` goes upstream: allows and observes are
sampled by a share of their ids, everything else is kept. What a caller sends counts only where it is exactly what the
Recommendation says; else it is as if nothing had been sent, `tracestate` included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from typing import Final

from gateway.judgement import Trace
from gateway.randomness import Randomness

HEADERS: Final = ("traceparent", "tracestate", "baggage")  # of the caller's: none of them goes upstream as it came
MOST_MEMBERS: Final = 32
LONGEST_STATE: Final = 512
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY: Final = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(rf"({_KEY})={_VALUE}")
_DRAWN: Final = Struct(">QQQQQ")
_RANDOM: Final = Randomness(_DRAWN.size)


def begin(headers: Sequence[tuple[str, str]]) -> Trace:
    """Ids for a new exchange, below the caller's trace context when it sent a valid one. Names of headers in lower case."""
    parents = [value for name, value in headers if name == "traceparent"]
    found = _parent(parents[0]) if len(parents) == 1 else None  # of two, nobody knows whose is meant
    above, below, server, policy, client = _DRAWN.unpack(_RANDOM.piece())
    if found is None:
        return Trace(above << 64 | below or 1, 0, server or 1, policy or 1, client or 1, False)
    trace_id, parent, asked = found
    state = _state([value for name, value in headers if name == "tracestate"])
    return Trace(trace_id, parent, server or 1, policy or 1, client or 1, asked, state)


def upstream(trace: Trace, sampled: bool) -> list[tuple[bytes, bytes]]:
    """The headers that make our client span the parent of what the upstream does."""
    found = [(b"traceparent", trace.traceparent(trace.client, sampled).encode())]
    return [*found, (b"tracestate", trace.state.encode())] if trace.state else found


def _parent(value: str) -> tuple[int, int, bool] | None:
    """Trace, span and whether it is sampled. Later versions may say more behind what is known of this one."""
    found = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span = int(found[2], 16), int(found[3], 16)
    return (trace_id, span, bool(int(found[4], 16) & 1)) if trace_id and span else None


def _state(lines: list[str]) -> str:
    """What other vendors said of this trace, as it goes on; nothing where any of it is not as it should be, or too long."""
    members = [member.strip(" \t") for line in lines for member in line.split(",")]
    members = [member for member in members if member]
    read = [_MEMBER.fullmatch(member) for member in members]
    keys = {found[1] for found in read if found}
    said = ",".join(members)
    return said if len(keys) == len(members) <= MOST_MEMBERS and len(said) <= LONGEST_STATE else ""
