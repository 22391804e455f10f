"""A file that is read again when it changes; a broken edit keeps the last good content and says so.

A change is seen by the file's times, size and inode: a rename over it, a new version written in place, an older one put back
with its old date. What a file held is in memory by then, so nothing that happens to it afterwards reaches what is in use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from gateway.errors import LoadError

T = TypeVar("T")


class Moment:
    """What time it is to health: a clock's that was handed in (µs since 1970), else that of the latest exchange seen.

    No decision is made by it: an exchange is judged by its own time.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock
        self._latest = 0

    def seen(self, at: int) -> None:
        """Take note of the time of an exchange."""
        if at > self._latest:
            self._latest = at

    def now(self) -> int:
        return self._clock() if self._clock is not None else self._latest


class ReloadedFile(Generic[T]):
    """The content of a file, as `load` makes it. Raises what `load` raises when it cannot be loaded the first time.

    problem: why the file as it is now cannot be used, empty when it can; `content` is then what it last held.
    """

    def __init__(self, path: Path, load: Callable[[Path], T]) -> None:
        self.path = path
        self.problem = ""
        self._load = load
        self._lock = threading.Lock()
        self._stamp = self._seen()
        self.content = load(path)

    def refresh(self) -> None:
        """Read the file again if it changed since it was last read."""
        with self._lock:
            stamp = self._seen()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self.content, self.problem = self._load(self.path), ""
            except LoadError as error:
                self.problem = f"{error}; the last good one stays in use"

    def _seen(self) -> tuple[int, ...]:
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
