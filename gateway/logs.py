"""The log of a process: one line an incident on standard error, as JSON, or in words on a terminal.

Whatever comes through `logging` is written so, the server's own lines and those of libraries too. Of an exception stands there
what class it was and where it was raised; what it says may repeat a prompt or a key, and does not stand there. Storms are cut:
so many lines of a kind in a minute, and with the next one how many were left out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from gateway.incidents import INCIDENTS, LONGEST, ROOT, kind_of

MINUTE: Final = 60.0
MOST_FRAMES: Final = 12
LEVELS: Final = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How it is written. format: json or text; empty for text on a terminal and JSON elsewhere. level: of LEVELS, the least."""

    format: str = ""
    level: str = "info"


@dataclass(slots=True)
class _Minute:
    """What was written of one kind since `began`, and what was not."""

    began: float
    written: int = 0
    left_out: int = 0


class Log(logging.StreamHandler[TextIO]):
    """Writes lines, and not more of a kind than it may."""

    def __init__(self, stream: TextIO, in_words: bool) -> None:
        super().__init__(stream)
        self.setFormatter(Words() if in_words else Lines())
        self._minutes: dict[str, _Minute] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind = kind_of(record.name)
        minute = self._minutes.get(kind)
        if minute is None or record.created - minute.began >= MINUTE:
            record.left_out = minute.left_out if minute is not None else 0
            minute = self._minutes[kind] = _Minute(record.created)
        most = INCIDENTS[kind].most
        if most and minute.written >= most:
            minute.left_out += 1
            return
        minute.written += 1
        super().emit(record)

    def close(self) -> None:
        """Say what was left out and nobody asked for since."""
        for kind, minute in self._minutes.items():
            if minute.left_out:
                level, text = INCIDENTS[kind].level, f"{minute.left_out} more were left out"
                super().emit(logging.LogRecord(f"{ROOT}.{kind}", level, "", 0, text, None, None))
        self._minutes.clear()
        super().close()


class Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        kind = kind_of(record.name)
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(), "incident": kind, "text": _text(record), "pid": os.getpid(),
        }  # fmt: skip
        if kind == "library":
            entry["logger"] = record.name
        entry |= getattr(record, "told", {})
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = {"type": record.exc_info[0].__name__, "at": frames(record.exc_info[2])}
        if left_out := getattr(record, "left_out", 0):
            entry["left_out"] = left_out
        return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class Words(logging.Formatter):
    """For people: what happened, and below it what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        kind = kind_of(record.name)
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        named = record.name if kind == "library" else kind
        lines = [f"{time} {record.levelname.lower():7} {named}: {_text(record)}"]
        lines += [f"    {name} {value}" for name, value in getattr(record, "told", {}).items()]
        if record.exc_info and record.exc_info[0] is not None:
            lines += [f"    {record.exc_info[0].__name__}", *(f"      {one}" for one in frames(record.exc_info[2]))]
        if left_out := getattr(record, "left_out", 0):
            lines.append(f"    {left_out} more were left out before it")
        return "\n".join(lines)


def configure(settings: LogSettings) -> None:
    """Have all of this process's incidents written to standard error, by whatever library they are logged."""
    stream = sys.stderr
    in_words = settings.format == "text" or (not settings.format and stream.isatty())
    logging.basicConfig(handlers=[Log(stream, in_words)], level=LEVELS[settings.level], force=True)


def frames(trace: TracebackType | None) -> list[str]:
    """Where an exception was raised, outermost first: file, line and function, and nothing that was there."""
    found = traceback.StackSummary.extract(traceback.walk_tb(trace), lookup_lines=False)
    return [f"{_short(one.filename)}:{one.lineno} {one.name}" for one in found][-MOST_FRAMES:]


def _short(file: str) -> str:
    """The end of a path that tells which file it is."""
    return "/".join(file.split("/")[-3:])


def _text(record: logging.LogRecord) -> str:
    return record.getMessage().strip()[:LONGEST]
