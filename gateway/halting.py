"""The kill switch: an operator has all rules and limits judge in shadow, for everybody and at once, and says who and why.

A halt stands in a file beside the settings. So it outlives reloads, restarts and single workers, and every process that names
the file obeys it within a second, whichever of them was told. Nothing is decided by it in secret: while it holds, each record
says that it was judged in shadow and names the halt, and health and metrics show it.

A file that cannot be read changes nothing: what was in force stays in force, and health says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.values import timestamp_text

LARGEST: Final = 2**16


@dataclass(frozen=True, slots=True)
class Halt:
    """One halt. since, until: µs since 1970, until 0 for «until it is lifted». owner, reason: who answers for it, and why.

    by: the name of the token that ordered it.
    """

    id: str
    since: int
    owner: str
    reason: str
    by: str
    until: int = 0

    def holds(self, at: int) -> bool:
        """Whether it is in force at a time (µs)."""
        return not self.until or at < self.until

    def plain(self) -> dict[str, object]:
        """As health, records of it and the admin listener show it."""
        until = timestamp_text(self.until) if self.until else None
        return {"id": self.id, "since": timestamp_text(self.since), "until": until, "owner": self.owner,
                "reason": self.reason, "by": self.by}  # fmt: skip


class HaltFile:
    """The file in which a halt stands; none there means that none is in force.

    obey: called with the halt that came into force, or None when one ended. problem: why the file cannot be read, or empty.
    """

    def __init__(self, file: Path, obey: Callable[[Halt | None], None]) -> None:
        self.file, self.problem = file, ""
        self.halt: Halt | None = None
        self._obey = obey
        self._seen: tuple[int, int, int] | None = None
        self._written: Halt | None = None

    def look(self, at: int) -> None:
        """Obey what stands in the file at this time (µs). Cheap where nothing changed."""
        with contextlib.suppress(FileNotFoundError):
            seen = _signature(self.file)
            if seen != self._seen:
                self._read(seen)
            return self._hold(at)
        self._seen, self._written, self.problem = None, None, ""
        return self._hold(at)

    def write(self, halt: Halt | None, at: int) -> None:
        """Put a halt in force, or end the one that is. Raises OSError, and changes nothing, where it cannot be written."""
        if halt is None:
            self.file.unlink(missing_ok=True)
        else:
            fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(halt))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.file)
        self.look(at)

    def _read(self, seen: tuple[int, int, int]) -> None:
        try:
            with self.file.open("rb") as file:
                self._written = msgspec.json.decode(file.read(LARGEST), type=Halt)
            self._seen, self.problem = seen, ""
        except FileNotFoundError:
            raise
        except (OSError, msgspec.MsgspecError) as error:
            self.problem = f"{self.file}: no halt can be read from it ({error}); lift it, or order it again"

    def _hold(self, at: int) -> None:
        now = self._written if self._written is not None and self._written.holds(at) else None
        if now != self.halt:
            self.halt = now
            self._obey(now)


def _signature(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
