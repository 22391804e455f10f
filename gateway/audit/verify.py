"""Whether a ledger still says what was written: every hash computed again, every finding with its place.

What is found: records that were altered, removed, inserted or moved; segments cut or gone; a journal that was altered. Removing
the newest segments with their lines in the journal, or the end of an open segment, leaves a chain that is whole in itself; it
shows against a root or head known from elsewhere, and in part by the number of decisions that were taken. Notes tell what
happened and is no alteration: what a crash lost, what retention dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.audit.chain import START, Tree, apart
from gateway.audit.segments import ROOTS, TAKEN, Sealed, chains, journal, segment_file, segments, walk
from gateway.errors import Place, Problem

_DIFFERS = "does not follow from the line before: it was altered, or one before it was altered, removed, inserted or moved"


class Verifier(Protocol):
    """Whether a signature of a message is that of the key."""

    def holds(self, message: bytes, signature: bytes) -> bool: ...


@dataclass(slots=True)
class Verified:
    """What was found in one chain. problems: that it was altered; notes: what else is to be known. root, head: where it ends.

    records: how many were read; segments: in how many files; signed: lines of the journal whose signature was looked at.
    """

    chain: str
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    records: int = 0
    segments: int = 0
    signed: int = 0
    root: bytes = START
    head: bytes = START
    heads: set[bytes] = field(default_factory=set)
    roots: set[bytes] = field(default_factory=set)

    def bad(self, place: Place, text: str) -> None:
        self.problems.append(Problem(place, text))

    def note(self, place: Place, text: str) -> None:
        self.notes.append(Problem(place, text))


def verify(
    folder: Path, root: bytes | None = None, head: bytes | None = None, verifier: Verifier | None = None
) -> list[Verified]:
    """Every chain of a ledger. root, head: known from elsewhere, and to be found in one of them. Raises OSError."""
    found = [_chain(chain, head, verifier) for chain in chains(folder)]
    if found and root is not None and not any(root in one.roots for one in found):
        problem = f"the root {root.hex()} is in no journal: segments that it stood for were removed, or it is of another ledger"
        found[-1].bad(Place(str(folder)), problem)
    if found and head is not None and not any(head in one.heads for one in found):
        problem = f"no record has the hash {head.hex()}: records up to it were removed, or it is of another ledger"
        found[-1].bad(Place(str(folder)), problem)
    return found


def _chain(chain: Path, head: bytes | None, verifier: Verifier | None) -> Verified:
    found, there, last, total = Verified(str(chain)), segments(chain), 0, 0
    lines = list(journal(chain))
    dropped = {line.dropped for line in lines if line.dropped is not None}
    for line in lines:
        place = Place(str(chain / ROOTS), line.number, 1)
        if not line.follows:
            found.bad(place, "the root does not follow: this line, or one before it, was altered or removed")
        if verifier is not None:
            found.problems += _signature(line, place, verifier)
            found.signed += 1
        if (number := line.segment) is not None:
            if number != last + 1:
                found.bad(place, f"closes segment {number} after {last}: lines are missing or were moved")
            if number in there:
                _segment(there[number], line.before, line, head, found)
            elif number not in dropped:
                found.bad(Place(str(segment_file(chain, number))), "is gone, and nothing says it was dropped")
            last, total = number, total + line.entry.get("records", 0)
        found.notes += _said(line, place)
        found.root = line.root
        found.roots.add(line.root)
    for number in [number for number in there if number > last]:
        before = found.records
        _segment(there[number], found.root, None, head, found)
        total += found.records - before
    found.notes += _missing(chain, total)
    if dropped:
        found.note(Place(str(chain / ROOTS)), f"segments dropped by retention, whose roots stand: {len(dropped)}")
    return found


def _segment(file: Path, before: bytes, seal: Sealed | None, head: bytes | None, found: Verified) -> None:
    """Verify a segment. seal: the line that closes it, None where it is open."""
    found.segments += 1
    tree, tail, bad = Tree(), before, 0
    with file.open("rb") as lines:
        for line in walk(lines, before):
            place = Place(str(file), line.number, 1)
            if not line.whole and seal is None:
                found.note(place, f"{len(line.text)} bytes of a line that is not whole: torn by a crash, or being written")
                break
            if not line.follows:
                bad += 1
                if bad == 1:
                    found.bad(place, _DIFFERS if line.body else "is no record with a hash")
            tree.add(line.leaf)
            tail = line.stated or tail
            if tail == head:
                found.heads.add(tail)
    found.records += tree.count
    found.head = tail
    if bad > 1:
        found.bad(Place(str(file)), f"{bad - 1} more lines do not follow")
    if seal is not None:
        found.problems += _against(seal, file, tree, tail)
    if (torn := file.with_suffix(".torn")).exists():
        whole = [text[:-1] for text in torn.read_bytes().splitlines(keepends=True) if text.endswith(b"\n")]
        if any(apart(text, b"hash") for text in whole):
            found.bad(Place(str(torn)), "holds whole records, which a restart cut off because they did not follow")


def _against(seal: Sealed, file: Path, tree: Tree, tail: bytes) -> Iterator[Problem]:
    """What a segment and the line that closed it say differently."""
    said = seal.entry
    if tree.count != said.get("records"):
        place = Place(str(file), tree.count, 1)
        yield Problem(place, f"the segment ends here with {tree.count} records; it was closed with {said.get('records')}")
    elif tail.hex() != said.get("head") or tree.root.hex() != said.get("tree"):
        yield Problem(Place(str(file)), "was rewritten: its records are not those it was closed with")


def _signature(line: Sealed, place: Place, verifier: Verifier) -> Iterator[Problem]:
    body = apart(line.text.rstrip(b"\n"), b"root")
    signed = apart(body[0], b"signature") if body else None
    if signed is None:
        yield Problem(place, "is not signed")
    elif not verifier.holds(line.before + signed[0], signed[1]):
        yield Problem(place, "the signature is not that of this key")


def _said(line: Sealed, place: Place) -> Iterator[Problem]:
    """What a line says of an operator's act, or the one that closes a segment of a crash or a full disk."""
    if "act" in line.entry:
        yield Problem(place, "{act} ordered at {at} by {owner} (token {by}): {reason}".format_map(line.entry))
    told = {
        "lost": "{} decisions were taken and never written: the process was ended before it could",
        "torn": "{} bytes of a line that was not whole were cut at a restart",
        "unrecorded": "{} decisions found no place: the disk took nothing for too long",
    }
    for name, text in told.items():
        if line.entry.get(name):
            yield Problem(place, f"segment {line.segment}: " + text.format(line.entry[name]))


def _missing(chain: Path, total: int) -> Iterator[Problem]:
    """What was taken and is not there, of a process that was ended and not yet started again."""
    try:
        (taken,) = struct.unpack("<Q", (chain / TAKEN).read_bytes())
    except (OSError, struct.error):
        return
    if taken > total:
        told = f"{taken - total} decisions were taken and are not written: a process still writes, or was ended before it could"
        yield Problem(Place(str(chain)), told)
