"""A ledger's folder, as it lies on disk, and how it is read.

    1/                      a chain: what one process writes; several at once (workers) have one each
      00000001.jsonl        a segment: one audit record a line, with the hash that ties it to the line before
      00000001.torn         what a crash left at its end that is no whole record; only where there was such a thing
      roots.jsonl           the journal: one line for each segment that was closed or dropped, chained by its roots
      taken                 how many decisions were taken so far; held locked by the process that writes

A segment is closed by a line in the journal. The first record of a segment follows the root that was last when it began, so
the chain goes on where old segments are gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from gateway.audit.chain import START, apart, leaf, link, seal
from gateway.audit.stored import LONGEST, STDIN, files_of, is_url
from gateway.errors import Place, RecordError

ROOTS: Final = "roots.jsonl"
TAKEN: Final = "taken"
_SEGMENT: Final = re.compile(r"\d{8}\.jsonl")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment. body: the record without its hash, empty where the line states none. whole: it ends as a line.

    follows: whether the stated hash is that of this record after the line before. leaf: the record's own hash.
    """

    number: int
    text: bytes
    body: bytes
    leaf: bytes
    stated: bytes
    follows: bool
    whole: bool


def walk(lines: IO[bytes], before: bytes) -> Iterator[Line]:
    """The lines of a segment. After one that does not follow, the next is measured by what that one states."""
    number = 0
    while text := lines.readline(LONGEST):
        number += 1
        found = apart(text.rstrip(b"\n"), b"hash")
        if found is None:
            yield Line(number, text, b"", b"", b"", False, text.endswith(b"\n"))
            continue
        body, stated = found
        own = leaf(body)
        yield Line(number, text, body, own, stated, link(before, own) == stated, text.endswith(b"\n"))
        before = stated


@dataclass(frozen=True, slots=True)
class Sealed:
    """One line of the journal. entry: what it says; before, root: the roots before it and of it; follows: whether it holds."""

    number: int
    text: bytes
    entry: dict[str, Any]
    before: bytes
    root: bytes
    follows: bool

    @property
    def segment(self) -> int | None:
        """The segment it closes."""
        return self.entry.get("segment")

    @property
    def dropped(self) -> int | None:
        """The segment it says was dropped."""
        return self.entry.get("dropped")


def journal(chain: Path) -> Iterator[Sealed]:
    """The lines of a chain's journal; one that a crash tore is left out. A line that cannot be read ends it, not following."""
    file, before = chain / ROOTS, START
    if not file.exists():
        return
    for number, text in enumerate(file.read_bytes().splitlines(keepends=True), 1):
        if not text.endswith(b"\n"):
            return
        found = apart(text.rstrip(b"\n"), b"root")
        try:
            entry = json.loads(found[0]) if found else None
        except ValueError:
            entry = None
        if found is None or not isinstance(entry, dict):
            yield Sealed(number, text, {}, before, START, False)
            return
        body, root = found
        yield Sealed(number, text, entry, before, root, seal(before, body) == root)
        before = root


def segment_file(chain: Path, number: int) -> Path:
    return chain / f"{number:08d}.jsonl"


def segments(chain: Path) -> dict[int, Path]:
    """The segments of a chain that are there, by number."""
    return {int(file.stem): file for file in sorted(chain.iterdir()) if _SEGMENT.fullmatch(file.name)}


def chains(folder: Path) -> list[Path]:
    """The chains of a ledger, in the order of their numbers; of a folder that is a chain, itself."""
    inside = sorted((below for below in folder.iterdir() if below.name.isdigit()), key=lambda below: int(below.name))
    return [one for one in (folder, *inside) if (one / ROOTS).exists() or segments(one)]


def streams(names: Iterable[str]) -> list[list[str]]:
    """The files of records that names stand for (`stored.files_of`), those of a ledger's chain one after the other.

    Raises RecordError for a folder that holds no records, or one that cannot be looked into.
    """
    return [stream for name in names for stream in _streams(name)]


def record_files(names: Iterable[str]) -> list[str]:
    """The same, not grouped. Raises RecordError."""
    return [file for stream in streams(names) for file in stream]


def _streams(name: str) -> list[list[str]]:
    folder = Path(name)
    try:
        if name == STDIN or is_url(name) or not folder.is_dir():
            return [[file] for file in files_of(name)]
        found = [[str(file) for file in segments(chain).values()] for chain in chains(folder)]
        return found or [[file] for file in files_of(name)]
    except OSError as error:
        raise RecordError(Place(name), f"cannot be read: {error.strerror}") from None
