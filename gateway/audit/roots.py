"""The journal of a chain, written: one line for each segment that was closed or dropped, each root after the one before."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, Protocol

from gateway.audit.chain import START, seal, with_hex
from gateway.audit.segments import ROOTS, Sealed, journal
from gateway.errors import ConfigError, Place, Problem


class Signer(Protocol):
    """Signs a line of the journal. sign: the signature of a message (64 bytes)."""

    def sign(self, message: bytes) -> bytes: ...


class Roots:
    """The end of a journal. root: the last one, which stands for all that was closed so far.

    Raises OSError; ConfigError for a journal that was altered, to which nothing is added.
    """

    def __init__(self, chain: Path, signer: Signer | None) -> None:
        self.root, self._signer = START, signer
        self._file = os.open(chain / ROOTS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self.lines: list[Sealed] = list(journal(chain))
        for line in self.lines:
            if not line.follows:
                mend = "keep this folder for those who look into it (`sluice audit verify`), and set audit.records to another"
                problem = "was altered: this root does not follow from the line before"
                raise ConfigError([Problem(Place(str(chain / ROOTS), line.number, 1), problem, mend)])
            self.root = line.root
        os.ftruncate(self._file, sum(len(line.text) for line in self.lines))  # without a line that a crash tore

    def say(self, entry: dict[str, Any]) -> None:
        """Add a line, and have it on the disk: whole or not at all. Raises OSError."""
        body = json.dumps(entry, separators=(",", ":")).encode()
        if self._signer is not None:
            body = with_hex(body, b"signature", self._signer.sign(self.root + body))
        root = seal(self.root, body)
        line = with_hex(body, b"root", root) + b"\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        self.root = root

    def close(self) -> None:
        os.close(self._file)
