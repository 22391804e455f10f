"""Proof that one record stands in a ledger, to be checked by whoever knows a root alone.

A proof is one JSON object: the record as it stands in the ledger, the hashes beside its way up the tree of its segment, and the
lines of the journal from the one that closed the segment to the one whose root was made public. It holds no other record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.audit.chain import apart, leaf, path, root_above, seal
from gateway.audit.segments import Sealed, chains, journal, segments, walk
from gateway.errors import SluiceError

VERSION: Final = 1


def prove(folder: Path, identity: str, root: bytes | None = None) -> dict[str, Any]:
    """The proof of a decision by its id. root: the public one, else the last one of its chain.

    Raises LookupError where it is in no closed segment, OSError.
    """
    open_in: Path | None = None
    for chain in chains(folder):
        lines = list(journal(chain))
        closed = {line.segment: line for line in lines if line.segment is not None}
        for number, file in segments(chain).items():
            if (place := _line(file, identity)) is None:
                continue
            if number in closed:
                return _proof(file, place, lines, closed[number], root)
            open_in = file
    if open_in is not None:
        mend = "it is closed by size, by time or when the process stops, and has no root before"
        raise LookupError(f"the segment of {identity} is still open ({open_in}): {mend}")
    raise LookupError(f"no decision {identity} in {folder}")


def _line(file: Path, identity: str) -> int | None:
    """The line of a decision in a segment, from 0."""
    wanted = f'"id":"{identity}"'.encode()
    with file.open("rb") as lines:
        return next(
            (number for number, text in enumerate(lines) if wanted in text and json.loads(text)["id"] == identity), None
        )


def _proof(file: Path, place: int, lines: list[Sealed], closing: Sealed, root: bytes | None) -> dict[str, Any]:
    with file.open("rb") as segment:
        records = [(line.body, line.leaf) for line in walk(segment, closing.before)]
    after = lines[closing.number - 1 :]
    if root is not None:
        upto = next((number for number, line in enumerate(after, 1) if line.root == root), None)
        if upto is None:
            raise LookupError(f"the root {root.hex()} is not one of this chain since {file.name} was closed")
        after = after[:upto]
    return {
        "proof": VERSION,
        "record": records[place][0].decode(),
        "place": place,
        "beside": [one.hex() for one in path([found for _, found in records], place)],
        "before": closing.before.hex(),
        "journal": [line.text.decode().rstrip("\n") for line in after],
        "root": after[-1].root.hex(),
    }


def check(proof: Mapping[str, Any], root: bytes) -> dict[str, Any]:
    """The record that a proof proves to stand below a root. Raises SluiceError where it does not."""
    try:
        record, before = str(proof["record"]).encode(), bytes.fromhex(proof["before"])
        beside = [bytes.fromhex(one) for one in proof["beside"]]
        closing: dict[str, Any] | None = None
        for text in proof["journal"]:
            found = apart(str(text).encode(), b"root")
            if found is None or seal(before, found[0]) != found[1]:
                raise SluiceError("a line of its journal does not follow from the one before")
            closing, before = closing or json.loads(found[0]), found[1]
        if closing is None or before != root:
            raise SluiceError("it leads to another root")
        above = root_above(leaf(record), proof["place"], closing["records"], beside)
        if above is None or above.hex() != closing["tree"]:
            raise SluiceError("the record is not below the root: it was altered, or stands elsewhere")
        told: dict[str, Any] = json.loads(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SluiceError(f"is no whole proof: {type(error).__name__}: {error}") from None
    return told
