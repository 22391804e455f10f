"""Law 2: no wall clock inside. Time comes in with the facts; a replay at recorded time is exact and repeatable."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main
from tests.captures import FILE

ROOT = Path(__file__).parents[2]
CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime"},
    "datetime": {"now", "utcnow", "today"},
    "random": None,
    "secrets": None,
    "uuid": None,
}
# Where a live gateway's time and randomness come in: the hosts' clocks, latencies, ids of live decisions and traces, nonces and
# keys of what is sealed, when a disk, an exporter or a breaker is next asked; and where commands are told what day it is, draw
# keys, or say how long a download may take. None of it is reached by a replay.
HANDED_IN = {
    "gateway/web/door.py", "gateway/web/pool.py", "gateway/gate.py", "gateway/config.py", "gateway/randomness.py",
    "gateway/audit/trace.py", "gateway/audit/trail.py", "gateway/audit/ledger.py", "gateway/audit/sealing.py",
    "gateway/audit/exposed.py", "gateway/audit/delivery.py", "gateway/state/trips.py", "gateway/admin/desk.py",
    "gateway/cli/check.py", "gateway/cli/geo.py", "gateway/cli/geo_fetch.py", "gateway/cli/audit_keys.py",
}  # fmt: skip


def readings(file: Path) -> list[str]:
    """The places of a file where a clock or a source of randomness is named."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = CLOCKS.get(node.value.id, set())
            if names is None or node.attr in names:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.value.id}.{node.attr}")
    return found


def test_clocks_are_read_only_where_they_are_handed_in() -> None:
    files = [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    assert len(files) > 40
    elsewhere = [place for file in files if str(file.relative_to(ROOT)) not in HANDED_IN for place in readings(file)]
    assert elsewhere == []


def test_the_gate_takes_no_time_of_its_own() -> None:
    """In the gate the timer is a default for latencies; live ids are drawn elsewhere, and can be handed in."""
    named = sorted(place.split()[1] for place in readings(ROOT / "gateway/gate.py"))
    assert named == ["time.perf_counter_ns"]


def dry_run(folder: Path, name: str) -> tuple[bytes, bytes]:
    decisions, report = folder / f"{name}.jsonl", folder / f"{name}.json"
    arguments = ["dry-run", str(FILE), "--decisions", str(decisions), "--format", "json", "--out", str(report)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return decisions.read_bytes(), report.read_bytes()


def test_a_dry_run_is_byte_identical_every_time(tmp_path: Path) -> None:
    first, again = dry_run(tmp_path, "first"), dry_run(tmp_path, "again")
    assert first == again
    assert len(first[0].splitlines()) > 300


def test_ids_in_a_replay_derive_from_the_records(tmp_path: Path) -> None:
    decisions, _ = dry_run(tmp_path, "first")
    ids = [json.loads(line)["id"] for line in decisions.splitlines()]
    assert len(set(ids)) == len(ids)


def test_records_in_the_order_of_their_ends_replay_like_records_in_order(tmp_path: Path) -> None:
    """A gateway writes a record when its answer ends; the replay goes by when it was asked."""
    decisions, _ = dry_run(tmp_path, "first")
    lines = decisions.splitlines(keepends=True)
    found = []
    for name, written in (("ordered", lines), ("reversed", lines[::-1])):
        (tmp_path / f"{name}.in.jsonl").write_bytes(b"".join(written))
        arguments = ["dry-run", str(tmp_path / f"{name}.in.jsonl"), "--decisions", str(tmp_path / f"{name}.jsonl")]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        found.append((tmp_path / f"{name}.jsonl").read_bytes())
    assert found[0] == found[1] == decisions
