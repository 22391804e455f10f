"""Ledgers for tests, written by the real writer, and what is done to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.audit.ledger import Ledger, LedgerSettings
from gateway.audit.verify import verify
from gateway.values import timestamp_text
from tests.judging import START

SECOND = 1_000_000


def body(number: int, at: int | None = None, **more: Any) -> tuple[int, bytes]:
    at = START + number * SECOND if at is None else at
    return at, json.dumps({"v": 1, "id": f"{number:032x}", "at": timestamp_text(at), **more}, separators=(",", ":")).encode()


def written(folder: Path, segments: list[int], settings: LedgerSettings | None = None, close: bool = True) -> Ledger:
    """A ledger with so many records in each segment; the last one is left open if it is not to be closed."""
    ledger, number = Ledger(folder, settings), 0
    for place, count in enumerate(segments, 1):
        ledger.add([body(number + step) for step in range(count)])
        number += count
        ledger.count(number)
        ledger.write()
        if place < len(segments):
            ledger.seal()
    if close:
        ledger.close()
    return ledger


def segment(folder: Path, number: int) -> Path:
    return folder / "1" / f"{number:08d}.jsonl"


def said(folder: Path, **known: Any) -> tuple[list[str], list[str]]:
    """The problems and the notes of a ledger, with places relative to it."""
    found = verify(folder, **known)
    return (
        [str(one).removeprefix(f"{folder}/") for each in found for one in each.problems],
        [str(one).removeprefix(f"{folder}/") for each in found for one in each.notes],
    )
