"""Logs of other programs: what a sample feeds equals the table in examples/README.md; broken files are told as such."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import fsspec
import pytest
import zstandard

from gateway.errors import LoadError, RecordError
from gateway.registry import load
from gateway.replay.exchange import Exchange
from gateway.replay.foreign.fields import DEFAULTS, Fields, read_fields
from gateway.replay.sources import Reader
from gateway.signals import NOT_RECORDED
from gateway.web.intake import Intake

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "examples/replay"
REGISTRY = load({"identity": {"hash_key": b"a key of the tests' own"}})
NGINX = (SAMPLES / "nginx.jsonl").read_bytes()


def read(*names: str, fields: Fields = DEFAULTS) -> tuple[list[Exchange], list[str], Reader]:
    errors: list[RecordError] = []
    reader = Reader(Intake(REGISTRY, b"key"), REGISTRY.signals, errors.append, fields=fields)
    return list(reader.exchanges(names)), [str(error) for error in errors], reader


def fed(found: list[Exchange]) -> set[str]:
    """The signals that are recorded in any exchange."""
    every = [{**(one.facts.recorded or {}), **(one.answer.recorded or {})} for one in found]
    return {name for values in every for name, value in values.items() if value is not NOT_RECORDED}


def stated() -> dict[str, set[str]]:
    """The table of the documentation: by sample, the signals it feeds."""
    text = (ROOT / "examples/README.md").read_text().partition("## Logs of other programs")[2].partition("\n## ")[0]
    always = set(re.findall(r"`([a-z_]+\.[a-z_0-9]+)`", text.partition("Every one of them feeds")[2].partition("\n\n")[0]))
    rows = re.findall(r"^\| `(?:replay/)?([a-z]+\.[a-z]+)` \|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    return {name: always | set(re.findall(r"`([a-z_]+\.[a-z_0-9]+)`", signals)) for name, signals in rows}


@pytest.mark.parametrize(
    "name", ["nginx.jsonl", "envoy.jsonl", "litellm.csv", "litellm.jsonl", "genai.json", "sluicegate.jsonl"]
)
def test_a_sample_feeds_what_the_table_says(name: str) -> None:
    found, errors, _ = read(str(SAMPLES / name))
    assert found
    assert errors == []
    assert fed(found) == stated()[name]


def test_an_access_log_tells_what_it_says() -> None:
    found, _, _ = read(str(SAMPLES / "nginx.jsonl"))
    values = found[0].facts.recorded or {}
    assert values["request.route"] == "chat.completions"
    assert (values["client.family"], values["account.id"], values["request.size"]) == ("openai", "acme", 60)
    assert found[0].answer.status == 200


def test_a_spend_log_tells_of_its_owner_and_tokens() -> None:
    found, _, _ = read(str(SAMPLES / "litellm.csv"))
    assert (found[0].facts.recorded or {})["account.org"] == "team-a"
    assert (found[0].answer.usage.cached_tokens, found[0].answer.usage.reasoning_tokens) == (4, 30)
    assert found[1].answer.status == 429


def test_rows_of_a_real_proxy_are_whole_and_name_no_owner_that_is_none() -> None:
    found, _, _ = read(str(SAMPLES / "litellm.jsonl"))
    told = [one.facts.recorded or {} for one in found]
    assert [one["request.route"] for one in told] == ["chat.completions", "messages"]
    assert [one["account.org"] for one in told] == [one["account.id"] for one in told]  # `default_user_id` is nobody
    assert [one["client.family"] for one in told] == ["openai", "curl"]
    assert [one["request.end_user"] for one in told] == [True, False]
    assert [(one.answer.usage.input_tokens, one.answer.usage.output_tokens) for one in found] == [(22, 8), (21, 8)]


def test_spans_that_call_no_model_are_counted() -> None:
    found, errors, reader = read(str(SAMPLES / "genai.json"))
    assert (len(found), errors, dict(reader.passed)) == (1, [], {"spans that call no model": 2})
    assert (found[0].facts.recorded or {})["client.ip"] == "192.0.2.10"


def test_fields_of_a_log_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "fields.yaml").write_text("nginx: {at: when, account: key_hash, headers: {X-App: http_x_app}}\n")
    line = {"when": "2026-11-01T00:00:00Z", "request": "POST /v1/messages HTTP/1.1", "key_hash": "k1", "http_x_app": "a"}
    (tmp_path / "log.json").write_text(json.dumps(line) + "\n")
    found, errors, _ = read(str(tmp_path / "log.json"), fields=read_fields(tmp_path / "fields.yaml"))
    assert errors == []
    assert (found[0].facts.recorded or {})["account.id"] == "k1"
    (tmp_path / "fields.yaml").write_text("nginx: {wen: when}\n")
    with pytest.raises(LoadError, match="wen"):
        read_fields(tmp_path / "fields.yaml")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_packed_files_are_told_by_their_bytes(pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    (tmp_path / "log.jsonl").write_bytes(pack(NGINX))
    assert len(read(str(tmp_path / "log.jsonl"))[0]) == 3
    (tmp_path / "log.jsonl").write_bytes(pack(NGINX)[:-40])
    found, errors, _ = read(str(tmp_path / "log.jsonl"))
    assert len(found) < 3
    assert "the file is broken from here" in errors[0]


def test_marks_ends_and_zeros(tmp_path: Path) -> None:
    line = NGINX.splitlines()[0]
    (tmp_path / "log.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + b"\0\0\0\n" + b"[1]\n" + line + b"\r\n")
    found, errors, reader = read(str(tmp_path / "log.jsonl"))
    assert (len(found), reader.unreadable) == (2, 2)
    assert "log.jsonl:3:1: is not JSON" in errors[0]
    assert "NUL bytes" in errors[0]
    assert "log.jsonl:4:1: is not a JSON object" in errors[1]


def test_shapes_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    lines = [(SAMPLES / name).read_text().splitlines()[0] for name in ("nginx.jsonl", "envoy.jsonl", "litellm.jsonl")]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    assert len(read(str(tmp_path / "mixed.jsonl"))[0]) == 3


def test_patterns_folders_and_urls(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(NGINX)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((SAMPLES / "envoy.jsonl").read_bytes()))
    assert len(read(str(tmp_path))[0]) == len(read(f"{tmp_path}/*.jsonl*")[0]) == 6
    with pytest.raises(RecordError, match="matches no file"):
        read(f"{tmp_path}/*.csv")
    memory = fsspec.filesystem("memory")
    memory.pipe("/logs/a.jsonl", NGINX)
    try:
        assert len(read("memory://logs/*.jsonl")[0]) == len(read("memory://logs")[0]) == 3
        with pytest.raises(RecordError, match="cannot be read"):
            read("memory://logs/none.jsonl")
    finally:
        memory.rm("/logs", recursive=True)
    with pytest.raises(RecordError, match="s3fs"):
        read("s3://bucket/a.jsonl")
