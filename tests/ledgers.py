"""Reading the ledger of a test."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.audit.segments import record_files


def ledger_text(folder: Path) -> str:
    """Every whole line of a ledger so far; nothing where there is none yet."""
    if not folder.exists():
        return ""
    whole = [text[: text.rfind(b"\n") + 1] for text in (Path(name).read_bytes() for name in record_files([str(folder)]))]
    return b"".join(whole).decode()


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Every record of a ledger so far, without the hash that chains it."""
    return [_entry(line) for line in ledger_text(folder).splitlines()]


@dataclass
class Followed:
    """A ledger that is read again and again while it grows: only what is new is read each time."""

    folder: Path
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _read: dict[str, int] = field(default_factory=dict)

    def entries(self) -> list[dict[str, Any]]:
        """Every record so far, without the hash that chains it."""
        if any(Path(name).stat().st_size < size for name, size in self._read.items()):
            self._entries, self._read = [], {}  # a torn end was mended
        for name in record_files([str(self.folder)]) if self.folder.exists() else ():
            with Path(name).open("rb") as file:
                file.seek(self._read.get(name, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[name] = self._read.get(name, 0) + len(whole)
            self._entries += map(_entry, whole.decode().splitlines())
        return list(self._entries)


def _entry(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name != "hash"}
