"""Records, read: captures and audit records; what cannot be read is counted and named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Place, RecordError
from gateway.facts import Cause, End
from gateway.registry import load as load_registry
from gateway.replay.sources import Reader
from gateway.web.intake import Intake

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
CAPTURE = {
    "ts": 1793500000.25, "method": "POST", "path": "/v1/chat/completions?x=1", "http_version": "HTTP/1.1",
    "headers": [["Authorization", "Bearer sk-1"], ["Content-Length", "77"]],
    "body": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}  # fmt: skip


def reader(errors: list[RecordError] | None = None) -> Reader:
    return Reader(Intake(REGISTRY, b"a key of the tests' own"), REGISTRY.signals, errors.append if errors is not None else None)


def one(**more: Any) -> Any:
    return reader().exchange(json.dumps({**CAPTURE, **more}).encode(), Place("f.jsonl", 3, 1))


def test_a_capture_becomes_facts() -> None:
    facts = one(client_ip="203.0.113.9", conn=4, run="r").facts
    assert facts.at == 1_793_500_000_250_000
    assert (facts.method, facts.path, facts.http_version, facts.peer) == ("POST", "/v1/chat/completions", "1.1", "203.0.113.9")
    assert facts.headers[0] == ("authorization", "Bearer sk-1")
    assert (facts.size, facts.connection, facts.cause) == (77, "r:4", None)
    assert facts.body is None
    assert facts.keys == ("model", "messages")
    assert facts.call is not None
    assert facts.call.messages[0].text == "hi"


def test_a_raw_body_is_read_like_a_live_one() -> None:
    facts = one(body_raw='{"model": "m", "messages": [')
    assert facts.facts.cause is Cause.BODY_MALFORMED
    assert facts.facts.size == 28


@pytest.mark.parametrize(
    ("more", "account"),
    [
        ({"account": "a1", "client": "c"}, {"id": "a1"}),
        ({"account": {"account.id": "a1", "plan": "free"}}, {"id": "a1", "plan": "free"}),
        (
            {"account": {"id": "a1", "age": "2s", "billing_country": "no"}},
            {"id": "a1", "age": 2_000_000, "billing_country": "NO"},
        ),
        ({"client": "c"}, {"id": "c"}),
        ({"client": "c", "upstream_key": 2}, {"id": "c#2"}),
        ({}, None),
    ],
)
def test_whose_account_a_capture_is(more: dict[str, Any], account: dict[str, Any] | None) -> None:
    assert one(**more).facts.account == account


def test_the_recorded_answer() -> None:
    answer = one(
        response={"status": 200, "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "text": "x", "end": "client-gone"}
    ).answer
    assert (answer.status, answer.usage.input_tokens, answer.usage.output_tokens, answer.end) == (200, 3, 4, End.CLIENT_GONE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "f.jsonl:3:1: is not JSON"),
        ("[]", "f.jsonl:3:1: is not a JSON object"),
        ("{}", "is neither an audit record"),
        ('{"ts": 1, "headers": 5, "method": "GET", "path": "/"}', "is not a whole record: TypeError"),
        ('{"ts": "yesterday", "headers": [], "method": "GET", "path": "/"}', "is not a time"),
        ('{"ts": 1, "headers": [], "method": "GET", "path": "/", "account": {"aeg": "3d"}}', "did you mean 'age'?"),
        ('{"ts": 1, "headers": [], "method": "GET", "path": "/", "account": {"age": 3}}', "is not a duration"),
        ('{"ts": 1, "headers": []}', "is not a whole record: KeyError: 'path'"),
        ('{"signals": {}, "policy": {}}', "is not a whole record: KeyError"),
        ('{"signals": {"client.country": "XX"}, "policy": {}, "exchange": {"method": "", "path": ""}, "at": 1}', "ISO 3166"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_named(line: str, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        reader().exchange(line.encode(), Place("f.jsonl", 3, 1))
    assert message in str(caught.value)


def test_unreadable_lines_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(f"{json.dumps(CAPTURE)}\nrubbish\n\n{json.dumps(CAPTURE)}\n")
    errors: list[RecordError] = []
    found = reader(errors)
    assert len(list(found.exchanges([str(file)]))) == found.read == 2
    assert found.unreadable == len(errors) == 1
    assert str(errors[0]).startswith(f"{file}:2:1: ")


def test_a_broken_archive_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl.gz"
    whole = gzip.compress(b"".join(json.dumps({**CAPTURE, "n": n}).encode() + b"\n" for n in range(5_000)))
    file.write_bytes(whole[: len(whole) // 2])
    errors: list[RecordError] = []
    found = reader(errors)
    assert 0 < len(list(found.exchanges([str(file)]))) < 5_000
    assert "the file is broken from here" in str(errors[0])


def test_files_are_merged_by_time_and_ids_are_their_own(tmp_path: Path) -> None:
    for name, times in (("a.jsonl", (1, 4, 5)), ("b.jsonl", (2, 3, 6))):
        (tmp_path / name).write_text("".join(json.dumps({**CAPTURE, "ts": time}) + "\n" for time in times))
    found = list(reader().exchanges([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]))
    assert [exchange.facts.at // 1_000_000 for exchange in found] == [1, 2, 3, 4, 5, 6]
    assert len({exchange.id for exchange in found}) == 6
