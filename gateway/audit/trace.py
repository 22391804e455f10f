"""W3C trace context: ids in and out, and whether an exchange's spans are kept.

The sampling decision falls when the exchange is judged, before `traceparent` goes upstream: allows and observes are
sampled by a share of their ids, everything else is kept.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from gateway.judgement import Trace
from gateway.randomness import Randomness

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_DRAWN: Final = Struct(">QQQQQ")
_RANDOM: Final = Randomness(_DRAWN.size)


def begin(traceparent: str | None) -> Trace:
    """Ids for a new exchange, below the caller's trace context when it sent a valid one."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    valid = found is not None and found[1] != "ff" and int(found[2], 16) and int(found[3], 16)
    above, below, server, policy, client = _DRAWN.unpack(_RANDOM.piece())
    trace_id = int(found[2], 16) if found and valid else above << 64 | below or 1
    parent = int(found[3], 16) if found and valid else 0
    asked = bool(found and valid and int(found[4], 16) & 1)
    return Trace(trace_id, parent, server or 1, policy or 1, client or 1, asked)
