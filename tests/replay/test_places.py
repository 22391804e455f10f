"""Where records come from and go to: URLs, files out of order, fields of one's own, and garbage that does not flood."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.common import MOST_NAMED
from gateway.replay import sources

PACK = """
pack: p
version: 1
language: 1
rules:
  - {id: p.r, title: t, family: volume, owner: o, when: {request.size: {gt: 0}}, then: {action: tag, tag: x}, mode: enforce}
"""
SAMPLES = Path(__file__).parents[2] / "examples/replay"


def sluice(*asked: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in asked])


def whole(told: Result) -> Result:
    assert told.exit_code == 0, told.output
    return told


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://places"
    fsspec.filesystem("memory").rm("/places", recursive=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of what stands in the test's folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_what_is_written_to_a_url_is_what_a_file_holds(suffix: str, memory: str, tmp_path: Path) -> None:
    asked = ["simulate", "D1", "--scale", "20000", "--seed", "3", "--out"]
    whole(sluice(*asked, f"{memory}/d1.{suffix}")), whole(sluice(*asked, tmp_path / f"d1.{suffix}"))
    assert fsspec.filesystem("memory").cat(f"/places/d1.{suffix}") == (tmp_path / f"d1.{suffix}").read_bytes()
    (tmp_path / "p.yaml").write_text(PACK)
    reports = [
        whole(sluice("dry-run", one, "--policy", tmp_path / "p.yaml", "--format", "json")).stdout
        for one in (f"{memory}/d1.{suffix}", tmp_path / f"d1.{suffix}")
    ]
    assert reports[0] == reports[1]
    whole(sluice("compact", f"{memory}/d1.{suffix}", "--out", f"{memory}/again/d1.{suffix}"))
    assert len(fsspec.filesystem("memory").cat(f"/places/again/d1.{suffix}")) > 1_000


def test_records_are_read_over_http_and_a_url_that_takes_nothing_says_so(server: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes((SAMPLES / "nginx.jsonl").read_bytes())
    assert json.loads(whole(sluice("dry-run", f"{server}/log.jsonl", "--format", "json")).stdout)["records"]["read"] == 3
    whole(sluice("compact", SAMPLES / "requests.jsonl", "--out", tmp_path / "c.parquet"))
    assert json.loads(whole(sluice("dry-run", f"{server}/c.parquet", "--format", "json")).stdout)["records"]["read"] == 123
    told = sluice("dry-run", f"{server}/none.jsonl")
    assert (told.exit_code, "none.jsonl: cannot be read: FileNotFoundError" in told.stderr) == (3, True)
    told = sluice("simulate", "D1", "--scale", "20000", "--out", f"{server}/d1.jsonl")
    assert (told.exit_code, "d1.jsonl: cannot be written" in told.stderr) == (3, True)


def test_a_record_that_comes_too_late_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is late by as much as is held back is put in order; by more, every measure after it would be wrong."""
    monkeypatch.setattr(sources, "LATE_CAPTURES", 4)
    lines = (SAMPLES / "requests.jsonl").read_text().splitlines(keepends=True)
    late, rest = lines[0], sorted(lines[1:20], key=lambda line: str(json.loads(line)["ts"]))
    (tmp_path / "near.jsonl").write_text("".join([*rest[:3], late, *rest[3:]]))
    (tmp_path / "far.jsonl").write_text("".join([*rest[:9], late, *rest[9:]]))
    assert json.loads(whole(sluice("dry-run", tmp_path / "near.jsonl", "--format", "json")).stdout)["records"]["read"] == 20
    told = sluice("dry-run", tmp_path / "far.jsonl")
    assert told.exit_code == 3
    assert f"{tmp_path}/far.jsonl:10:1: is earlier than one more than 4 records before it; sort the file by time" in told.stderr


def test_compact_takes_fields_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "fields.yaml").write_text("nginx: {at: when, account: key_hash}\n")
    line = {"when": "2026-11-01T00:00:00Z", "request": "POST /v1/messages HTTP/1.1", "key_hash": "k1"}
    (tmp_path / "log.json").write_text(json.dumps(line) + "\n")
    row = json.loads(whole(sluice("compact", tmp_path / "log.json", "--fields", tmp_path / "fields.yaml")).stdout)
    assert (row["account.id"], row["request.route"]) == ("k1", "messages")
    (tmp_path / "fields.yaml").write_text("nginx: {wen: when}\n")
    for command in (["compact"], ["dry-run"], ["promote", "r.x", "--policy", tmp_path]):
        told = sluice(*command, tmp_path / "log.json", "--fields", tmp_path / "fields.yaml")
        assert (told.exit_code, "fields.yaml:1:" in told.stderr) == (3, True), told.output


def test_who_was_asked_is_not_in_compact_records(tmp_path: Path) -> None:
    whole(sluice("compact", SAMPLES / "requests.jsonl", "--out", tmp_path / "c.parquet"))
    told = sluice("asked", tmp_path / "c.parquet")
    assert (told.exit_code, "compact records do not say who was asked" in told.stderr) == (3, True)


@pytest.mark.parametrize("command", ["dry-run", "compact", "asked", "clusters"])
def test_garbage_is_named_at_first_and_then_counted(command: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("rubbish\n" * (MOST_NAMED + 5))
    told = sluice(command, tmp_path / "log.jsonl")
    assert told.exit_code == 3
    assert told.stderr.count("log.jsonl:") == MOST_NAMED
    assert "unreadable: 5 more records" in told.stderr
