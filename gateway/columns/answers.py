"""What is known of the answers of a chunk, given which of its requests are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gateway.columns.chunk import ANSWERED, Chunk
from gateway.columns.values import Bools, Ints
from gateway.facts import End


def answers(chunk: Chunk, assumed: Ints) -> dict[str, pa.Array]:
    """What answers say where requests were refused with these statuses: of those nothing else, and nothing an upstream said."""
    found, away = {}, turned_away(chunk)
    for fact in ANSWERED.values():
        column = chunk.fact(fact)
        told, numbers = column.known & ~away & (assumed == 0), column.numbers
        if fact == "status":
            told, numbers = told | (assumed != 0), np.where(assumed != 0, assumed, numbers)
        found[fact] = pa.array(numbers, pa.int64(), mask=~told)
    return found


def turned_away(chunk: Chunk) -> Bools:
    """Which exchanges were refused when they were recorded, so that nothing is known of an answer."""
    ends = chunk.fact("end")
    return np.array([*[end == End.REFUSED for end in ends.distinct], False], np.bool_)[ends.codes]
