"""The body of a request as it arrives: how much of it is kept, looked at and wanted. No I/O.

Up to the window it is kept and judged whole. Beyond the window the declared fail mode decides at once: refused, its bytes are
thrown away as they come; passed, the first `window` bytes are judged, and all of it goes on in parts. Beyond what is accepted
at all it is refused, also where that shows only while it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.facts import Cause

HEAVY: Final = 2**20  # bytes: some ms as one document, many more as a batch of entries
_MOST_DIGITS: Final = 18


class Gathering:
    """One request body. largest, window: bytes accepted and looked at; passes: whether a body may go on that was seen in part;
    declared: its Content-Length, 0 where it has none. more: whether some of it is still to come when it goes on.
    """

    __slots__ = ("_chunks", "_largest", "_passes", "_window", "cause", "declared", "more", "overrun", "partly", "size")

    def __init__(self, largest: int, window: int, passes: Callable[[], bool], declared: int) -> None:
        self.declared = declared
        self.size = 0
        self.cause: Cause | None = None
        self.partly = False
        self.overrun = False
        self.more = False
        self._largest, self._window, self._passes = largest, min(window, largest), passes
        self._chunks: list[bytes] = []
        if declared > self._window and (declared > largest or not passes()):
            self.cause = Cause.BODY_TOO_LARGE if declared > largest else Cause.BODY_BEYOND_WINDOW

    @property
    def unwanted(self) -> bool:
        """Whether it is known to be larger than is taken: its bytes are not wanted any more."""
        return self.cause is not None and not self.partly

    @property
    def seen(self) -> int | None:
        """How many of its bytes are looked at; None where all of them are."""
        return self._window if self.partly else None

    @property
    def stated(self) -> int:
        """Its size in bytes, as far as that is known when it is judged."""
        return max(self.declared, self._window) if self.partly else self.size

    @property
    def length(self) -> int | None:
        """Its length as it goes on; None where nobody knows yet."""
        if self.partly:
            return self.declared or None
        return sum(map(len, self._chunks))

    @property
    def heavy(self) -> bool:
        """Whether there is so much to look at that it takes more than a moment."""
        return not self.unwanted and min(self.size, self._window) > HEAVY

    def feed(self, chunk: bytes) -> None:
        """Some bytes, before it is judged."""
        self.size += len(chunk)
        if self.size > self._window and (self.size > self._largest or not (self.partly or self._passes())):
            self.cause = Cause.BODY_TOO_LARGE if self.size > self._largest else self.cause or Cause.BODY_BEYOND_WINDOW
            self.partly = False
            self._chunks.clear()
        elif not self.unwanted:
            if self.size > self._window:
                self.cause, self.partly = Cause.BODY_BEYOND_WINDOW, True
            self._chunks.append(chunk)

    def goes_on(self, chunk: bytes) -> bool:
        """Some bytes, after it was judged in part; False where there are more than are accepted."""
        self.size += len(chunk)
        self.overrun = self.size > self._largest
        return not self.overrun

    def whole(self) -> bytes:
        """What was kept."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def judged_part(self) -> bytes:
        """What is looked at: the same bytes however they arrived."""
        return self.whole()[: self._window] if self.partly else self.whole()

    def write_anew(self, body: bytes) -> None:
        """Send this in its place."""
        self._chunks = [body]


def declared_length(length: str | None) -> int:
    """What a Content-Length says, 0 where there is none; an absurd one counts as larger than anything."""
    if length is None or not (length.isascii() and length.isdigit()):
        return 0
    return int(length) if len(length) <= _MOST_DIGITS else 10**_MOST_DIGITS
