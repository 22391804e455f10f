"""`sluice dry-run` over compact Parquet: the engine is chosen by itself or by `--engine`, and both write the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.replay.parquet import Writer, shape
from tests import strategies as world
from tests.columns.test_decisions import written
from tests.judging import CATALOGUE
from tests.strategies import Sent

PACK = """
pack: own
version: 1
language: 1
rules:
  - id: own.busy
    title: Busy accounts
    family: volume
    owner: tests
    measures: {requests: {count: true, per: [account.id], window: 1m}}
    when: {requests: {gte: 3}}
    then: {action: throttle, limit: 2/minute, per: [account.id]}
    mode: enforce
  - id: own.abroad
    title: From abroad
    family: network
    owner: tests
    when: {client.country: {not_in: [NO]}}
    then: {action: deny}
    public: {code: own-abroad, message: "Not from there."}
    mode: shadow
"""
SENT = [Sent({"account.id": "ab"[n % 5 == 0], "client.country": ("SE", "NO", "NO")[n % 3]}, n % 4, 200) for n in range(60)]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["dry-run", *map(str, arguments)])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(PACK)
    return tmp_path / "own.yaml"


def test_both_engines_write_the_same_report_and_the_same_records(tmp_path: Path, pack: Path) -> None:
    file = written(SENT, tmp_path / "x.parquet")
    told, kept = {}, {}
    for engine in ("events", "columns", "auto"):
        out = tmp_path / f"{engine}.jsonl"
        told[engine] = run(file, "--policy", pack, "--engine", engine, "--format", "json", "--decisions", out).stdout
        kept[engine] = out.read_bytes()
    assert told["columns"] == told["events"] == told["auto"]
    assert kept["columns"] == kept["events"] == kept["auto"]
    assert '"throttle": ' in told["columns"]


def test_files_that_overlap_in_time_are_merged_as_events_are(tmp_path: Path, pack: Path) -> None:
    files = [written(SENT[half::2], tmp_path / f"{half}.parquet") for half in (0, 1)]
    ours, theirs = (run(*files, "--policy", pack, "--engine", engine, "--format", "json") for engine in ("columns", "events"))
    assert ours.exit_code == 0
    assert ours.stdout == theirs.stdout


def test_what_columns_cannot_hold_is_replayed_event_by_event_and_said(tmp_path: Path, pack: Path) -> None:
    file, declared = written(SENT, tmp_path / "x.parquet"), tmp_path / "declared.yaml"
    declared.write_text(world.text(world.WORKLOADS))
    told = run(file, "--policy", pack, "--policy", declared, "--format", "json")
    assert told.exit_code == 0
    assert "replayed event by event, because columns cannot hold declared workloads" in told.stderr
    refused = run(file, "--policy", pack, "--policy", declared, "--engine", "columns")
    assert refused.exit_code == 2
    assert "columns cannot hold declared workloads" in refused.stderr


def test_rows_out_of_order_are_refused_with_their_place(tmp_path: Path, pack: Path) -> None:
    file = tmp_path / "x.parquet"
    rows = [{"at": at, "id": f"{at:032x}"} for at in (5, 4)]
    with Writer(file, shape(["account.id"], CATALOGUE)) as out:
        out.rows(rows)
    told = run(file, "--policy", pack, "--engine", "columns")
    assert told.exit_code == 3
    assert f"{file}:2:1: is earlier than the row before it" in told.stderr


def test_other_records_are_not_for_columns(tmp_path: Path, pack: Path) -> None:
    (tmp_path / "x.jsonl").write_text("")
    told = run(tmp_path / "x.jsonl", "--policy", pack, "--engine", "columns")
    assert told.exit_code == 2
    assert "is no Parquet" in told.stderr
