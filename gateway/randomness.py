"""Random bytes of the system, asked for in larger pieces: each asking is a system call, and every exchange needs some.

A process that forks forgets what it holds in its child, so that two never hand out the same. The pieces come from an iterator
in C, so that two threads never get the same one either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import iter_unpack
from typing import Final, cast

PIECES: Final = 128


class Randomness:
    """Random pieces of `size` bytes each."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: Iterator[tuple[bytes]] = iter(())
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def piece(self) -> bytes:
        """Bytes that nobody else has or had."""
        found = next(self._held, None)
        if found is None:
            self._held = cast("Iterator[tuple[bytes]]", iter_unpack(f"{self._size}s", os.urandom(self._size * PIECES)))
            found = next(self._held)
        return found[0]

    def _forget(self) -> None:
        self._held = iter(())
