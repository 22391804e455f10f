"""Chance without state: every draw is a hash of a seed and of what it is for, so any part of the traffic can be made alone.

The mixing function is the finaliser of splitmix64 (Steele, Lea, Flood 2014), over whole columns. A slice of time, an account or
a turn draws the same whatever was drawn before it, which is what makes simulated traffic byte-identical by seed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_HEX: Final = np.frombuffer(b"".join(f"{byte:02x}".encode() for byte in range(256)), dtype=np.uint16)


def salt(*parts: object) -> int:
    """A 64-bit number that stands for some words: a seed, a scenario, a purpose."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "little")


def mixed(base: int, *parts: Any) -> Words:
    """A 64-bit hash of each row of some columns of whole numbers."""
    found: Any = np.uint64(base)
    with np.errstate(over="ignore"):
        for part in parts:
            found = (found ^ np.asarray(part).astype(np.uint64)) * _GOLDEN + _GOLDEN
            found = (found ^ (found >> np.uint64(30))) * _FIRST
            found = (found ^ (found >> np.uint64(27))) * _SECOND
            found = found ^ (found >> np.uint64(31))
    return np.asarray(found, dtype=np.uint64)


def uniform(base: int, *parts: Any) -> Shares:
    """A number from 0 (included) to 1 for each row."""
    return (mixed(base, *parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def among(count: int, base: int, *parts: Any) -> Numbers:
    """A whole number below `count` for each row."""
    return (uniform(base, *parts) * count).astype(np.int64)


def by_share(shares: list[float], drawn: Shares) -> Numbers:
    """Which of some choices each draw falls on; shares need not add up to one."""
    edges = np.cumsum(np.asarray(shares, dtype=np.float64))
    return np.minimum(np.searchsorted(edges / edges[-1], drawn, side="right"), len(shares) - 1).astype(np.int64)


def hexed(values: Words) -> npt.NDArray[np.bytes_]:
    """Each word as 16 hexadecimal digits."""
    digits = _HEX[np.ascontiguousarray(values.astype(">u8")).view(np.uint8)]
    return digits.view("S16")
