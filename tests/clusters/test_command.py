"""`sluice clusters` as people run it: records in, a report and a published file out, and every complaint named."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.clusters import records as reading
from gateway.clusters.published import FORMAT, VERSION
from tests.clusters.traffic import Entry, normal, records, relay, ring

PACK = """pack: p
version: 1
language: 1
rules:
  - id: p.all
    title: All
    family: coordination
    owner: tests
    when: {account.known: {present: true}}
    then: {action: observe}
    evidence: [SIGNALS]
    mode: enforce
""".replace("SIGNALS", ", ".join(reading.SIGNALS))
CAPTURES = Path(__file__).parents[1] / "data/captures.jsonl.gz"


def run(*words: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["clusters", *map(str, words)], input=stdin)


def written(path: Path, made: list[Entry]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in made))
    return path


@pytest.fixture(scope="module")
def made() -> list[Entry]:
    return records(ring, relay, normal, scale=0.3)


@pytest.fixture
def source(tmp_path: Path, made: list[Entry]) -> Path:
    return written(tmp_path / "records.jsonl", made)


def test_the_report_says_what_an_evidence_pack_needs(source: Path, made: list[Entry]) -> None:
    result = run(source)
    assert result.exit_code == 0, result.output
    said = result.output
    assert f"records   {len(made):,} read, from 2026-" in said
    assert "2 clusters; not shown:" in said
    assert "18 accounts of 18 orgs" in said
    assert "15 accounts of 15 orgs" in said
    for word in ("exchanges", "conversation roots", "distinct slots", "days", "tokens in", "without", "odds", "by chance"):
        assert word in said
    assert "blind     nothing recorded for device (client.device), session (client.session)" in said
    assert "An agency that pays for its" in said
    assert all(len(line) <= 140 for line in said.splitlines())
    assert "ring-" not in said, "a report for people shows sums; who the members are stands in the file"


def test_the_file_and_the_printed_json_are_the_same(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "clusters.json"
    result = run(source, "--out", out, "--format", "json")
    assert result.stdout == out.read_text()
    tree: dict[str, Any] = json.loads(result.stdout)
    assert (tree["format"], tree["version"]) == (FORMAT, VERSION)
    assert tree["created"] == tree["source"]["to"]
    assert list(tree["clusters"][0]) == [
        "id", "size", "orgs", "families", "planes", "first", "last", "units", "evidence", "without", "links", "more_links",
        "accounts", "org_names",
    ]  # fmt: skip
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clusters.json", "records.jsonl"], "no draft is left"


def test_a_rerun_keeps_the_ids_of_its_own_file(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "clusters.json"
    run(source, "--out", out)
    ids = {one["id"] for one in json.loads(out.read_text())["clusters"]}
    grown = written(tmp_path / "grown.jsonl", records(ring, relay, normal, scale=0.42))
    assert run(grown, "--out", out).exit_code == 0
    again = json.loads(out.read_text())
    assert {one["id"] for one in again["clusters"]} == ids
    assert sum(one["size"] for one in again["clusters"]) > 33
    elsewhere = json.loads(run(grown, "--format", "json").stdout)
    assert {one["id"] for one in elsewhere["clusters"]}.isdisjoint(ids)


def test_the_share_of_the_known_honest(tmp_path: Path, made: list[Entry]) -> None:
    rings = written(tmp_path / "rings.jsonl", [one for one in made if one["signals"]["account.org"][0] == "r"])
    honest = written(tmp_path / "honest.jsonl", records(normal, scale=0.3))
    result = run(rings, "--against", honest)
    assert "of 600 orgs known to be honest 0 are in a cluster: 0.00% to 0.64% at 95 %" in result.output


def test_bad_records_are_counted_and_named(tmp_path: Path, made: list[Entry]) -> None:
    bad = [
        "{", "[]", '"text"', '{"signals": {}}', '{"signals": {}, "at": "noon"}', '{"ts": 1, "headers": [], "body": {}}',
        '{"signals": {"account.id": {"a": 1}}, "at": "2026-11-01T00:00:00Z"}',
        '{"signals": {"account.id": "a"}, "at": "2026-11-01T00:00:00Z", "answer": {"usage": {"input_tokens": -1}}}',
        '{"signals": {"account.id": "a"}, "at": "2026-11-01T00:00:00Z", "answer": {"usage": {"input_tokens": 1e999}}}',
        "[" * 100_000, '{"signals": {"account.id": "a"}, "at": "2026-11-01T00:00:00Z", "workloads": [{}]}',
    ]  # fmt: skip
    source = tmp_path / "records.jsonl"
    source.write_text("\n".join([*bad, "", json.dumps(made[0])]))
    result = run(source)
    assert result.exit_code == 0
    for line in range(1, len(bad) + 1):
        assert f"unreadable: {source}:{line}:1: is " in result.stderr
    assert f"{source}:6:1: is a capture: run `sluice dry-run --decisions` over it first" in result.stderr
    assert f"records   1 read, {len(bad)} unreadable" in result.stdout
    clean = run(written(tmp_path / "clean.jsonl", made[:1]), "--format", "json")
    bad_one = run(source, "--format", "json")
    assert json.loads(clean.stdout)["source"]["digest"] == json.loads(bad_one.stdout)["source"]["digest"]


def test_many_bad_records_are_named_in_part(tmp_path: Path, made: list[Entry]) -> None:
    source = tmp_path / "records.jsonl"
    source.write_text("{\n" * 50 + json.dumps(made[0]))
    result = run(source)
    assert result.stderr.count("unreadable: ") == 21
    assert "unreadable: 30 more records" in result.stderr


def test_records_without_an_account_are_counted(tmp_path: Path, made: list[Entry]) -> None:
    nameless = {**made[0], "signals": {"prompt.template": "t"}}
    result = run(written(tmp_path / "r.jsonl", [nameless, made[0]]))
    assert "records   2 read, 1 without an account" in result.stdout
    assert run(written(tmp_path / "n.jsonl", [nameless])).exit_code == 3


def test_files_of_every_kind(tmp_path: Path, made: list[Entry], source: Path) -> None:
    packed = tmp_path / "records.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    plain = json.loads(run(source, "--format", "json").stdout)
    assert json.loads(run(packed, "--format", "json").stdout) == plain
    assert json.loads(run("-", "--format", "json", stdin=source.read_text()).stdout) == plain
    packed.write_bytes(packed.read_bytes()[:-2_000])
    broken = run(packed, "--format", "json")
    assert (broken.exit_code, "the file is broken from here" in broken.stderr) == (0, True)
    assert json.loads(broken.stdout)["source"]["unreadable"] == 1
    for name in ("absent.jsonl", "records.parquet"):
        result = run(tmp_path / name)
        assert (result.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize("text", ["{}", "{", '{"format": "sluicegate clusters", "version": 2, "clusters": []}', "[]", "7"])
def test_a_file_that_holds_something_else_is_not_written_over(tmp_path: Path, source: Path, text: str) -> None:
    out = tmp_path / "clusters.json"
    out.write_text(text)
    result = run(source, "--out", out)
    assert result.exit_code == 2
    assert "is no file of clusters" in result.stderr
    assert out.read_text() == text


def test_a_folder_that_is_not_there(tmp_path: Path, source: Path) -> None:
    result = run(source, "--out", tmp_path / "nowhere/clusters.json")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)


def test_more_accounts_than_fit(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ACCOUNTS", 100)
    result = run(source)
    assert result.exit_code == 3
    assert "more than 100 accounts; split the records" in result.stderr


def test_what_dry_run_writes_can_be_read(tmp_path: Path) -> None:
    """The records of the gateway itself, with every signal by the names they have there."""
    decisions = tmp_path / "decisions.jsonl"
    replayed = CliRunner().invoke(main, ["dry-run", str(CAPTURES), "--decisions", str(decisions)])
    assert replayed.exit_code == 0, replayed.output
    tree = json.loads(run(decisions, "--format", "json").stdout)
    lines = decisions.read_text().splitlines()
    assert (tree["source"]["records"], tree["source"]["unreadable"]) == (len(lines), 0)
    assert tree["population"]["orgs"] > 1
    assert tree["recorded"]["account.id"] == len(lines)


def test_compact_parquet_gives_what_its_audit_records_do(tmp_path: Path) -> None:
    """A few accounts of a relay, as `sluice simulate` writes them, and the records of a dry run of the same."""
    traffic, decisions = tmp_path / "traffic.parquet", tmp_path / "records.jsonl"
    pack = tmp_path / "p.yaml"
    pack.write_text(PACK)
    for words in (("simulate", "D3", "--scale", "2000", "--seed", "1", "--out", traffic),
                  ("dry-run", traffic, "--policy", pack, "--decisions", decisions)):  # fmt: skip
        result = CliRunner().invoke(main, [*map(str, words)])
        assert result.exit_code == 0, result.output
    ours, theirs = (json.loads(run(name, "--format", "json", "--min-size", "3").stdout) for name in (traffic, decisions))
    assert ours["clusters"] == theirs["clusters"] != []
    assert {**ours["source"], "digest": ""} == {**theirs["source"], "digest": ""}
