"""Checkpoints of a dry run in columns: everything that goes from one chunk to the next, so that a run can be taken up again.

A checkpoint is written whole beside the last one and then takes its place; it names what was asked (policy, files, settings),
and is refused for anything else. It is Python's pickle: use none that a stranger could have written.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from gateway.columns.values import probe
from gateway.errors import Place, RecordError

if TYPE_CHECKING:
    from gateway.columns.dry_run import Asked, Run

FORMAT: Final = "sluicegate checkpoint 1"
_ASKED: Final = ("policy", "labels", "_declared")  # of a report: what whoever goes on has, too


def question(names: Sequence[str], asked: Asked, size: int, every: bool) -> str:
    """What was asked, as a hash: other files, another policy, other settings or other hashes of texts make it another one."""
    files = [(name, Path(name).stat().st_size, Path(name).stat().st_mtime_ns) for name in names]
    told = [FORMAT, asked.policy.digest, str(asked.mode), repr(asked.fail), repr(asked.labels), asked.warm_up, asked.max_keys]
    return sha256(repr([*told, files, size, every, pl.__version__, probe()]).encode()).hexdigest()


def save(file: Path, asked: str, run: Run, written: int) -> None:
    """Write what a run has come to. written: bytes of audit records. Raises OSError."""
    report = {name: value for name, value in vars(run.counts.report).items() if name not in _ASKED}
    held: dict[str, Any] = {
        "question": asked, "report": report, "memory": run.judging.memory, "done": run.done, "chunks": run.chunks,
        "first": run.first, "written": written,
    }  # fmt: skip
    beside = file.with_name(f"{file.name}.new")
    with beside.open("wb") as out:
        pickle.dump(held, out, pickle.HIGHEST_PROTOCOL)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)


def take_up(file: Path, asked: str, run: Run) -> int:
    """Have a run go on where a checkpoint stands, if there is one; how many bytes of audit records were written until then.

    Raises RecordError for a file that is none, or is one of another question.
    """
    if not file.exists():
        return 0
    place = Place(str(file))
    try:
        held = pickle.loads(file.read_bytes())  # noqa: S301 - the file of whoever runs the command; the head says so
        found = held["question"]
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError):
        raise RecordError(place, "is no checkpoint of a dry run; name another file, or remove it") from None
    if found != asked:
        told = "is the checkpoint of another run: other records, rules, settings or versions; name another file, or remove it"
        raise RecordError(place, told)
    vars(run.counts.report).update(held["report"])
    run.judging.memory, run.done, run.chunks, run.first = held["memory"], held["done"], held["chunks"], held["first"]
    written: int = held["written"]
    return written
