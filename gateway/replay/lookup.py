"""Finding the audit record of a reference, and reading what a line holds.

A reference names one decision. Records can still hold it twice (a file copied into another, two dry runs of one capture): equal
records count as one, different ones are named instead of choosing for the reader.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from gateway.audit.record import VERSION
from gateway.audit.segments import record_files
from gateway.errors import Place, RecordError
from gateway.replay.exchange import is_capture

_ID: Final = re.compile(r"[0-9a-f]{32}")
_SHAPE: Final = {
    "v": int, "id": str, "reference": str, "at": str, "policy": dict, "exchange": dict, "signals": dict, "missing": dict,
    "measures": dict, "rules": list, "decision": dict, "would": dict, "limits": list, "outcome": dict,
}  # fmt: skip


def line_of(reference: str, records: Path) -> tuple[Place, bytes]:
    """The line of a decision by its id or reference. Raises LookupError (none, or several that differ), or OSError."""
    identity = reference.removeprefix("sg-")
    if not _ID.fullmatch(identity):
        raise LookupError(f"{reference!r} is no reference; it looks like sg-1f0c… with 32 hexadecimal digits")
    found = list(_holding(identity, records))
    if not found:
        raise LookupError(f"no decision {reference} in {records}")
    if len({text.strip() for _, text in found}) > 1:
        places = ", ".join(f"{place.path}:{place.line}" for place, _ in found)
        raise LookupError(f"{records} holds different records of {reference}; name one by --record, of {places}")
    return found[0]


def line_at(where: str) -> tuple[Place, bytes]:
    """The line of `FILE:LINE`. Raises LookupError when there is none, OSError when the file cannot be read."""
    name, _, number = where.rpartition(":")
    if not name or not number.isdigit():
        raise LookupError(f"{where!r} names no line; write FILE:LINE")
    with _open(Path(name)) as file:
        text = next(islice(file, int(number) - 1, None), None) if int(number) else None
    if text is None:
        raise LookupError(f"{name} has no line {number}")
    return Place(name, int(number), 1), text


def _holding(identity: str, records: Path) -> Iterator[tuple[Place, bytes]]:
    wanted = identity.encode()
    for name in record_files([str(records)]):
        with _open(Path(name)) as file:
            for number, text in enumerate(file, 1):
                if wanted in text and _id_of(text) in (identity, None):
                    yield Place(name, number, 1), text


def _id_of(text: bytes) -> object:
    """The id a line states; None where it cannot be read, so that a broken record is reported and not passed over."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry.get("id") if isinstance(entry, dict) else ""


def _open(records: Path) -> IO[bytes]:
    return gzip.open(records, "rb") if records.suffix == ".gz" else records.open("rb")  # type: ignore[return-value]


def read_entry(text: bytes, place: Place) -> dict[str, Any]:
    """The audit record of a line, whole enough to be explained. Raises RecordError that says what is lacking."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(place, f"is not JSON: {error}") from None
    if not isinstance(entry, dict):
        raise RecordError(place, "is not a JSON object")
    if is_capture(entry):
        raise RecordError(place, "is a capture; name it by --record FILE:LINE to have it evaluated now")
    for name, kind in _SHAPE.items():
        if not isinstance(entry.get(name), kind):
            what = "holds no" if name not in entry else f"holds a {type(entry[name]).__name__} as"
            raise RecordError(place, f"is not a whole audit record: it {what} '{name}'")
    if entry["v"] != VERSION:
        raise RecordError(place, f"is a record of version {entry['v']}; this program explains version {VERSION}")
    return entry
