"""A dry run that was cut short goes on from its checkpoint, in another process, and ends in the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.columns.checkpoints import question, save
from gateway.columns.dry_run import Asked, Run, dry_run
from gateway.errors import RecordError
from tests.columns.test_command import PACK, SENT
from tests.columns.test_decisions import written
from tests.judging import CATALOGUE, policy

CAPPED = (
    PACK
    + """
  - id: own.capped
    title: More countries than are kept
    family: network
    owner: tests
    measures: {countries: {distinct: client.country, per: [account.id], window: 10m, cap: 1}}
    when: {countries: {gte: 1}}
    then: {action: tag, tag: capped}
    mode: enforce
"""
)
SIZE = 7


class StopHereError(Exception):
    """What cuts a run short."""


def asked() -> Asked:
    return Asked(policy(CAPPED), CATALOGUE)


def cut(run: Run, total: int) -> None:
    if run.chunks == 3:
        raise StopHereError


def report(run: Run) -> str:
    return json.dumps(run.counts.as_dict(run.done, 0))


GOES_ON = """
import sys
from pathlib import Path
from tests.columns.test_resume import SIZE, asked, dry_run, report
file, kept, out = sys.argv[1:]
print(report(dry_run([file], asked(), Path(out) if out else None, size=SIZE, resume=Path(kept))))
"""


@pytest.mark.parametrize("every", [False, True], ids=["report", "decisions"])
def test_the_rest_in_another_process_gives_the_same_bytes(tmp_path: Path, every: bool) -> None:
    file, kept = written(SENT, tmp_path / "x.parquet"), tmp_path / "checkpoint"
    whole, parts = (tmp_path / name if every else None for name in ("whole", "parts"))
    expected = report(dry_run([str(file)], asked(), whole, size=SIZE))
    with pytest.raises(StopHereError):
        dry_run([str(file)], asked(), parts, cut, SIZE, kept)
    if parts is not None:
        parts.write_bytes(parts.read_bytes() + b'{"of a chunk that was cut short')
    arguments = [sys.executable, "-c", GOES_ON, file, kept, parts or ""]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected
    assert not kept.exists()
    if parts is not None and whole is not None:
        assert parts.read_bytes() == whole.read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    file, other = written(SENT, tmp_path / "x.parquet"), written(SENT[:9], tmp_path / "y.parquet")
    kept = tmp_path / "checkpoint"
    save(kept, question([str(other)], asked(), SIZE, every=False), Run.of(asked()), 0)
    with pytest.raises(RecordError, match="is the checkpoint of another run"):
        dry_run([str(file)], asked(), size=SIZE, resume=kept)


@pytest.mark.parametrize("held", [b"", b"no pickle", b"\x80\x04N."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, held: Any) -> None:
    file, kept = written(SENT, tmp_path / "x.parquet"), tmp_path / "checkpoint"
    kept.write_bytes(held)
    with pytest.raises(RecordError, match="is no checkpoint"):
        dry_run([str(file)], asked(), size=SIZE, resume=kept)
