"""What operators are told: known kinds, one line each, no secret in it, and no storm of it."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.incidents import INCIDENTS, OFTEN, ROOT, report
from gateway.logs import MINUTE, Log, LogSettings, configure
from tests.web.running import free_port, gateway

TREE = Path(__file__).parents[1]
CODE = [*TREE.glob("gateway/**/*.py"), *TREE.glob("plugins/**/*.py")]
LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
PACK = """
pack: own
version: 1
language: 1
rules:
  - id: own.any
    title: Any
    family: client
    owner: tests
    when: {request.model: {present: true}}
    then: {action: observe}
    mode: shadow
"""


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(params=[False])
def log(stream: io.StringIO, request: pytest.FixtureRequest) -> Iterator[Log]:
    with closing(Log(stream, request.param)) as handler:
        logging.getLogger(ROOT).addHandler(handler)
        logging.getLogger(ROOT).setLevel(logging.INFO)
        yield handler
        logging.getLogger(ROOT).removeHandler(handler)
        logging.getLogger(ROOT).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def reported() -> set[str]:
    """The kinds that the code reports."""
    found = set()
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "report" and node.args:
                kind = node.args[0]
                if isinstance(kind, ast.Constant):
                    found.add(str(kind.value))
    return found


def test_every_kind_is_reported_somewhere_and_known() -> None:
    assert reported() | {"library"} == set(INCIDENTS)


def test_every_kind_is_documented() -> None:
    rows = [f"| `{kind}` | {LEVELS[one.level]} | {one.meaning} |" for kind, one in INCIDENTS.items()]
    assert "\n".join(rows) in (TREE / "examples/README.md").read_text()


def test_nothing_speaks_past_them() -> None:
    for file in CODE:
        text = file.read_text()
        assert not re.search(r"print\(.*sys\.stderr", text), file
        assert "getLogger" not in text or file.name == "incidents.py", file
        assert ".logger." not in text, file


def test_an_incident_is_one_line(log: Log, stream: io.StringIO) -> None:
    report("directory.unavailable", "two\nlinesé", decision="d1", trace="t1")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("at")))
    assert line.pop("pid")
    assert line == {
        "level": "warning", "incident": "directory.unavailable", "text": "two\nlinesé", "decision": "d1", "trace": "t1",
    }  # fmt: skip
    assert stream.getvalue().count("\n") == 1


def test_half_a_surrogate_pair_can_be_written(log: Log) -> None:
    assert "\\ud800" in log.format(logging.makeLogRecord({"name": f"{ROOT}.defect", "msg": "half \ud800", "levelno": 40}))


def test_an_exception_says_where_and_not_what(log: Log, stream: io.StringIO) -> None:
    try:
        json.loads("CANARY-PROMPT")
    except ValueError as error:
        report("defect", "broke", error=error)
        logging.getLogger(f"{ROOT}.x").exception("a library")
    first, second = lines(stream)
    for line in (first, second):
        told = line["error"]
        assert isinstance(told, dict)
        assert told["type"] == "JSONDecodeError"
        assert re.search(r"/test_incidents.py:\d+ test_an_exception_says_where", told["at"][0])
    assert "CANARY" not in stream.getvalue()
    assert (second["incident"], second["logger"]) == ("library", f"{ROOT}.x")


@pytest.mark.parametrize("log", [True], indirect=True)
def test_on_a_terminal_it_is_said_in_words(log: Log, stream: io.StringIO) -> None:
    try:
        raise RuntimeError("CANARY")
    except RuntimeError as error:
        report("defect", "broke", error=error, decision="d1")
    first, *more = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   defect: broke", first)
    assert more[0] == "    decision d1"
    assert "RuntimeError" in more[1]
    assert "CANARY" not in stream.getvalue()


def test_a_storm_is_cut_and_counted(log: Log, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))
    for number in range(OFTEN + 30):
        report("upstream.unavailable", f"no {number}")
    report("policy.loaded", "others are told all the same")
    assert [line["incident"] for line in lines(stream)] == ["upstream.unavailable"] * OFTEN + ["policy.loaded"]
    now += MINUTE
    report("upstream.unavailable", "again")
    assert lines(stream)[-1]["left_out"] == 30
    for _ in range(OFTEN + 4):
        report("upstream.unavailable", "no")
    log.close()
    assert lines(stream)[-1]["text"] == "5 more were left out", "what nobody asks for any more is said at the end"
    for _ in range(100):
        report("policy.finding", "what an operator asked for is all told")
    assert len([line for line in lines(stream) if line["incident"] == "policy.finding"]) == 100


def test_the_least_level_is_what_is_configured(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        configure(LogSettings("", "warning"))
        report("policy.loaded", "not this")
        report("policy.refused", "this")
        logging.getLogger("some.library").warning("and %s", "this")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [(line["incident"], line["text"]) for line in lines(stream)] == [("policy.refused", "this"), ("library", "and this")]


def test_all_that_a_process_writes_is_lines_of_json(tmp_path: Path) -> None:
    settings = f"upstreams: {{openai: {{url: 'http://127.0.0.1:{free_port()}'}}}}\n"
    with gateway(tmp_path, settings, PACK) as running:
        for _ in range(OFTEN + 5):
            with socket.create_connection(("127.0.0.1", running.port)) as client:
                client.sendall(b"CANARY-RUBBISH\r\n\r\n")
                client.recv(1_000)
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            body = b'{"model": "m", "messages": []}'
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            assert b" 502 " in client.recv(1_000)
    told = [json.loads(line) for line in running.errors.splitlines()]
    counted = {kind: [line for line in told if line["incident"] == kind] for kind in INCIDENTS}
    assert counted["server.started"][0]["text"].startswith("sluice ")
    assert len(counted["client.refused"]) == OFTEN + 1
    assert counted["client.refused"][-1]["text"] == "5 more were left out"
    assert (len(counted["identity.key-drawn"]), len(counted["upstream.unavailable"])) == (1, 1)
    assert counted["defect"] == []
    assert "CANARY" not in running.errors
