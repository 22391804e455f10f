"""A file that is read again when it changes; a broken edit keeps the last good content and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from gateway.errors import ConfigError

T = TypeVar("T")


class ReloadedFile(Generic[T]):
    """The content of a file, as `load` makes it. Raises ConfigError when it cannot be loaded the first time."""

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
            except ConfigError as error:
                self.problem = f"{error}; the last good one stays in use"

    def _seen(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
