"""Reading the ledger of a test."""

from __future__ import annotations

import json
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
    return [{k: v for k, v in json.loads(line).items() if k != "hash"} for line in ledger_text(folder).splitlines()]
