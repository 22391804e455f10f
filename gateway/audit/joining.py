"""Joining what a change of keys parted: which hashes of two keys stand for the same value.

For the ledger alone, records of an overlap say it (`names.was`). Whoever holds the keys of accounts can say it of every sealed
record, and whoever holds the dated keys and a value can compute all its hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.audit.identifiers import Names, hashed, key_id
from gateway.audit.query import Query, select
from gateway.audit.sealing import Opener

MOST: Final = 1_000_000


def joined(folder: Path, names: Names, opener: Opener) -> Iterator[tuple[str, ...]]:
    """Rows of signal, key before, hash before, key, hash; each once, as long as at most MOST are told apart. Raises OSError."""
    known: set[tuple[str, ...]] = set()
    for _, _, body in select(folder, Query()):
        for row in _rows(body, names, opener):
            if row not in known:
                if len(known) < MOST:
                    known.add(row)
                yield row


def _rows(body: bytes, names: Names, opener: Opener) -> Iterator[tuple[str, ...]]:
    entry = json.loads(body)
    told = entry.get("names", {})
    for name, before in told.get("was", {}).items():
        yield name, told["before"], before, told["key"], entry["signals"][name]
    if "sealed" in entry and (opened := opener(body)) is not body:
        values = names.taken(json.loads(opened))
        for (_, older), (_, newer) in pairwise(names.keys.keys):
            for name, value in values.items():
                yield name, key_id(older), hashed(name, value, older), key_id(newer), hashed(name, value, newer)
