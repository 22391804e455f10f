"""Hashes that tie records together: each to the one before, and those of a segment under one root. No I/O, no clock.

A line is a JSON object whose last member is its hash. What is hashed is the object without that member, byte for byte as it
stands. `leaf` is what a record is; `link` ties it to all before it; a `Tree` gathers the leaves of a segment as in RFC 6962
(§2.1), so that one record is shown to be below a root by a few hashes and nothing of its neighbours. Prefixes keep the four
uses apart: none can be taken for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

START: Final = bytes(32)  # what comes before the first record of all
_LEAF, _NODE, _LINK, _SEAL = b"\0", b"\1", b"\2", b"\3"
_HEX: Final = re.compile(rb"(?:[0-9a-f]{2})+")


def leaf(body: bytes) -> bytes:
    """The hash of a record. body: its JSON, as written, without the member `hash`."""
    return sha256(_LEAF + body).digest()


def link(before: bytes, found: bytes) -> bytes:
    """The hash that stands in a line. before: that of the line before; found: the leaf of this one."""
    return sha256(_LINK + before + found).digest()


def seal(before: bytes, body: bytes) -> bytes:
    """The root that stands in a line of the journal. before: the root before it; body: its JSON without the root."""
    return sha256(_SEAL + before + body).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()


def with_hex(body: bytes, name: bytes, value: bytes) -> bytes:
    """A JSON object with one more member, in hexadecimal digits; no line end."""
    return b'%b,"%b":"%b"}' % (body[:-1], name, value.hex().encode())


def apart(text: bytes, name: bytes) -> tuple[bytes, bytes] | None:
    """What `with_hex` put together: the object without the member, and its value. None where the text does not end so."""
    before, mark, after = text.rpartition(b',"%b":"' % name)
    if not mark or not after.endswith(b'"}') or not _HEX.fullmatch(after[:-2]):
        return None
    return before + b"}", bytes.fromhex(after[:-2].decode())


class Tree:
    """The root over leaves that come one by one, in memory that grows with the logarithm of their number."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.count = 0
        self._peaks: list[tuple[int, bytes]] = []  # whole subtrees from left to right, with their heights
        for one in leaves:
            self.add(one)

    def add(self, found: bytes) -> None:
        self.count += 1
        height = 0
        while self._peaks and self._peaks[-1][0] == height:
            found, height = _node(self._peaks.pop()[1], found), height + 1
        self._peaks.append((height, found))

    @property
    def root(self) -> bytes:
        """The hash over all leaves so far; that of nothing where there is none."""
        if not self._peaks:
            return sha256(b"").digest()
        found = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            found = _node(peak, found)
        return found


def path(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, from below (RFC 6962 §2.1.1). place: from 0."""
    if len(leaves) == 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if place < split:
        return [*path(leaves[:split], place), Tree(leaves[split:]).root]
    return [*path(leaves[split:], place - split), Tree(leaves[:split]).root]


def root_above(found: bytes, place: int, count: int, beside: Sequence[bytes]) -> bytes | None:
    """The root above a leaf by its path (RFC 9162 §2.1.3.2); None where the path is not one of a tree of `count` leaves."""
    if not 0 <= place < count:
        return None
    at, last = place, count - 1
    for sibling in beside:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = _node(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = _node(found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None
