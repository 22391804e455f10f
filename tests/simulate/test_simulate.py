"""`sluice simulate`: the same bytes by seed, records that a dry run reads, clear words where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import ConfigError
from gateway.simulate import table
from gateway.simulate.drawing import among, by_share, hexed, mixed, uniform
from gateway.simulate.flow import FIELDS
from gateway.simulate.table import tables
from gateway.simulate.traffic import Traffic
from gateway.strict.document import parse

RUN = CliRunner()


def run(*arguments: object) -> str:
    done = RUN.invoke(main, ["simulate", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run("D1", "--scale", 300, "--seed", seed, "--out", tmp_path / f"{name}.{suffix}")
    first, second, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "abc")
    assert first == second != other


def test_captures_are_the_same_bytes_too() -> None:
    assert run("X1", "--scale", 200, "--bodies") == run("X1", "--scale", 200, "--bodies") != ""


@pytest.mark.parametrize("rows", [500, 5_000_000])
def test_how_time_is_sliced_changes_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.simulate.traffic.ROWS", rows)
    parts = [part.made for part in Traffic("D3", 4_000, 1).slices()]
    found = {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}
    monkeypatch.setattr("gateway.simulate.traffic.ROWS", 20_000)
    parts = [part.made for part in Traffic("D3", 4_000, 1).slices()]
    assert all((np.concatenate([part[name] for part in parts]) == found[name]).all() for name in FIELDS)


def test_a_scenario_alone_is_what_it_is_in_company() -> None:
    alone = next(iter(Traffic("T4", 500, 2).slices())).made
    place = list(tables().scenarios).index("T4")
    among_all = [part.made for part in Traffic("case+benign", 500, 2).slices()]
    found = {name: np.concatenate([part[name][part["scenario"] == place] for part in among_all]) for name in FIELDS}
    assert all((found[name][: len(alone["at"])] == alone[name]).all() for name in FIELDS)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "bodies"])
def test_a_dry_run_reads_what_was_simulated(tmp_path: Path, form: str) -> None:
    out = tmp_path / f"x.{'parquet' if form == 'parquet' else 'jsonl'}"
    run("T10", "--scale", 500, "--out", out, *(["--bodies"] if form == "bodies" else []))
    told = json.loads(RUN.invoke(main, ["dry-run", str(out), "--format", "json"]).stdout)
    assert (told["records"]["read"], told["records"]["unreadable"]) == (200, 0)


def test_what_is_declared_is_written_as_workloads_and_holds(tmp_path: Path) -> None:
    traffic, declared, out = (tmp_path / name for name in ("x.parquet", "declared.yaml", "decisions.jsonl"))
    run("R2", "--scale", 5_000, "--out", traffic, "--workloads", declared)
    policies = ["--policy", "rules", "--policy", str(declared)]
    assert RUN.invoke(main, ["dry-run", str(traffic), *policies, "--decisions", str(out)]).exit_code == 0
    found = [json.loads(line)["workloads"][0] for line in out.read_text().splitlines()]
    assert len(found) > 300
    assert all(one["id"] == "simulated.r2" and one["covers"] for one in found)


def test_what_is_wrong_is_said() -> None:
    assert "unknown scenario 'D9'; known are D1" in RUN.invoke(main, ["simulate", "D9"]).output
    assert "Parquet needs --out FILE" in RUN.invoke(main, ["simulate", "D1", "--format", "parquet"]).output
    assert "name a scenario" in RUN.invoke(main, ["simulate"]).output
    gone = RUN.invoke(main, ["simulate", "D1", "--out", "/nowhere/at/all.jsonl"])
    assert (gone.exit_code, "cannot be written" in gone.output) == (3, True)


def test_the_list_says_what_is_assumed() -> None:
    told = run("--list")
    for one in tables().scenarios.values():
        assert one.title in told and one.table in told and one.assumed in told


def test_names_that_stand_for_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**{name: field.default for name, field in table.SCENARIO.items()}, **BROKEN}
    found = table.Tables({"Z": table.Scenario(**row)}, tables().kinds, tables().clients, 0)
    with pytest.raises(ConfigError, match="unknown kind 'nothing'") as caught:
        table._check(found)
    assert "unknown client 'nobody'" in str(caught.value)


BROKEN = {"id": "Z", "label": "x", "title": "x", "table": "x", "accounts": 1, "exchanges": 1, "window": 1, "egress": {},
          "prompts": [{"kind": "nothing"}], "clients": {"nobody": 1.0}, "countries": ["US"], "age": [0, 0],
          "rhythm": table.Rhythm.ALWAYS, "order": table.Order.EVEN}  # fmt: skip


def test_a_slip_in_the_table_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "decoded", lambda data, name: "release: 20d\nscenarios:\n  - {id: D1, acounts: 3}\n")
    monkeypatch.setattr(table, "parse", parse)
    with pytest.raises(ConfigError, match=r"scenarios.yaml:3:14: unknown key 'acounts' in scenario; did you mean 'accounts'\?"):
        table.tables.__wrapped__()


def test_draws_are_spread_and_repeat() -> None:
    drawn = uniform(3, np.arange(100_000))
    assert drawn.mean() == pytest.approx(0.5, abs=0.01) and drawn.min() >= 0 and drawn.max() < 1
    assert (drawn == uniform(3, np.arange(100_000))).all() and (drawn != uniform(4, np.arange(100_000))).mean() > 0.999
    assert np.bincount(among(10, 1, np.arange(100_000))).min() > 9_500
    assert np.bincount(by_share([1, 3], drawn))[1] / 100_000 == pytest.approx(0.75, abs=0.01)
    assert len(np.unique(mixed(1, np.arange(1_000)[:, None], np.arange(100)[None, :]))) == 100_000
    assert hexed(np.asarray([0, 0x0123456789ABCDEF], dtype=np.uint64)).tolist() == [b"0" * 16, b"0123456789abcdef"]
