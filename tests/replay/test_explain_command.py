"""`sluice explain` as it is called: what it finds, what it refuses to guess, colours, exit codes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main

PACK = """pack: demo
version: 1
language: 1
rules:
  - id: demo.denied
    title: Nobody may use this model
    family: identity
    owner: tests
    when: {request.model: forbidden}
    then: {action: deny}
    evidence: [request.model]
    mode: enforce
"""


def sluice(*arguments: object, **more: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack, and the records of two requests: `d.jsonl`."""
    place = tmp_path_factory.mktemp("explained")
    (place / "demo.yaml").write_text(PACK)
    rows = [
        {"ts": 1793500000 + number, "method": "POST", "path": "/v1/chat/completions", "headers": [], "account": "a",
         "body": {"model": model, "messages": [{"role": "user", "content": "hi"}]}}
        for number, model in enumerate(("forbidden", "other"))
    ]  # fmt: skip
    (place / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = sluice("dry-run", place / "r.jsonl", "--policy", place / "demo.yaml", "--decisions", place / "d.jsonl")
    assert made.exit_code == 0
    return place


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "d.jsonl").read_text().splitlines()]


def explain(folder: Path, *arguments: object, **more: Any) -> Result:
    return sluice("explain", *arguments, "--policy", folder / "demo.yaml", **more)


def test_by_reference_by_line_and_compressed(folder: Path) -> None:
    reference = entries(folder)[0]["reference"]
    by_line = explain(folder, "--record", f"{folder}/d.jsonl:1")
    assert by_line.exit_code == 0
    assert "demo.denied  match → deny" in by_line.output
    assert explain(folder, reference, "--records", folder / "d.jsonl").output == by_line.output
    (folder / "d.jsonl.gz").write_bytes(gzip.compress((folder / "d.jsonl").read_bytes()))
    assert explain(folder, reference, "--records", folder / "d.jsonl.gz").output == by_line.output


def test_json_of_both_views(folder: Path) -> None:
    where = ("--record", f"{folder}/d.jsonl:1", "--format", "json")
    operator = json.loads(explain(folder, *where).output)
    assert operator["rules"][0]["when"]["truth"] == "true"
    assert operator["rules"][0]["changes"][0]["gives"]["verdict"] == "no_match"
    caller = json.loads(explain(folder, *where, "--view", "caller").output)
    assert set(caller) == {"reference", "at", "what", "status", "code", "message"}


def test_a_rule_that_did_not_match(folder: Path) -> None:
    told = explain(folder, "--record", f"{folder}/d.jsonl:2", "--rule", "demo.denied").output
    assert "false     request.model  other  eq forbidden" in told
    assert "request.model other → forbidden: match" not in told
    assert "request.model other → forbidden: deny  (the request: deny)" in told
    misspelt = explain(folder, "--record", f"{folder}/d.jsonl:2", "--rule", "demo.dinied")
    assert (misspelt.exit_code, "did you mean 'demo.denied'?" in misspelt.stderr) == (2, True)
    both = explain(folder, "--record", f"{folder}/d.jsonl:2", "--rule", "demo.denied", "--view", "caller")
    assert (both.exit_code, "the caller's view names no rule" in both.stderr) == (2, True)


def test_one_reference_in_several_records(folder: Path, tmp_path: Path) -> None:
    reference, text = entries(folder)[0]["reference"], (folder / "d.jsonl").read_text()
    twice = tmp_path / "twice.jsonl"
    twice.write_text(text + text)
    assert explain(folder, reference, "--records", twice).exit_code == 0
    twice.write_text(text + text.replace("deny", "verify"))
    differing = explain(folder, reference, "--records", twice)
    assert differing.exit_code == 1
    assert f"holds different records of {reference}; name one by --record, of {twice}:1, {twice}:3" in differing.stderr


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    absent = "sg-" + "0" * 32
    unknown = explain(folder, absent, "--records", folder / "d.jsonl")
    assert (unknown.exit_code, unknown.stderr) == (1, f"sluice: no decision {absent} in {folder}/d.jsonl\n")
    assert "looks like sg-1f0c…" in explain(folder, "sg-12", "--records", folder / "d.jsonl").stderr
    assert explain(folder, absent, "--records", tmp_path / "absent.jsonl").exit_code == 1
    assert explain(folder, "--record", f"{folder}/d.jsonl:9").exit_code == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rubbish", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("{}", "is not a whole audit record: it holds no 'v'"),
        ('{"v": "1"}', "is not a whole audit record: it holds a str as 'v'"),
        ('{"ts": 1, "headers": []}', "is not a whole record: KeyError: 'path'"),
    ],
)
def test_garbage_lines(folder: Path, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_text(line + "\n")
    result = explain(folder, "--record", f"{tmp_path}/x.jsonl:1")
    assert result.exit_code == 1
    assert f"{tmp_path}/x.jsonl:1:1: {said}" in result.stderr


def test_a_record_that_lacks_any_part_is_said_to(folder: Path, tmp_path: Path) -> None:
    """No part of a record can be taken away, or be of another kind, and end in a trace of the program."""
    whole = entries(folder)[0]
    for name in whole:
        for other in (None, 7, [], {}, "x", [7], {"x": 7}):
            broken = {key: value for key, value in whole.items() if key != name} | ({} if other is None else {name: other})
            (tmp_path / "x.jsonl").write_text(json.dumps(broken) + "\n")
            result = explain(folder, "--record", f"{tmp_path}/x.jsonl:1")
            assert result.exception is None or isinstance(result.exception, SystemExit), (name, other)
            assert result.exit_code in (0, 1, 2)
    newer = whole | {"v": 2}
    (tmp_path / "x.jsonl").write_text(json.dumps(newer) + "\n")
    assert "is a record of version 2" in explain(folder, "--record", f"{tmp_path}/x.jsonl:1").stderr


def test_an_altered_record_and_another_policy(folder: Path, tmp_path: Path) -> None:
    altered = (folder / "d.jsonl").read_text().replace('"verdict":"match"', '"verdict":"unknown"')
    (tmp_path / "x.jsonl").write_text(altered)
    result = explain(folder, "--record", f"{tmp_path}/x.jsonl:1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "demo.denied ends as match where the record says unknown: the record was altered" in result.stderr
    (tmp_path / "demo.yaml").write_text(PACK.replace("version: 1", "version: 2").replace(": forbidden", ": other"))
    other = sluice("explain", "--record", f"{folder}/d.jsonl:1", "--policy", tmp_path / "demo.yaml")
    assert other.exit_code == 0
    assert other.output.startswith("OTHER POLICY: ")


def test_colour_only_on_a_terminal_and_never_against_the_callers_wish(folder: Path) -> None:
    where = ("--record", f"{folder}/d.jsonl:1")
    plain = explain(folder, *where).output
    coloured = explain(folder, *where, color=True).output
    assert "\x1b[31mtrue" in coloured
    assert "\x1b" not in plain
    assert explain(folder, *where, color=True, env={"NO_COLOR": "yes"}).output == plain
    assert explain(folder, *where, "--no-color", color=True).output == plain


def test_a_flag_takes_no_word(folder: Path) -> None:
    """What stands after it is the reference, and any value of the variable is a wish."""
    reference = entries(folder)[0]["reference"]
    told = explain(folder, "--no-color", reference, "--records", folder / "d.jsonl", color=True)
    assert (told.exit_code, "\x1b" in told.output) == (0, False)
    where = ("--record", f"{folder}/d.jsonl:1")
    for value, coloured in (("anything", False), ("0", False), ("", True)):
        assert ("\x1b" in explain(folder, *where, color=True, env={"NO_COLOR": value}).output) is coloured


def test_what_cannot_be_read_is_said_in_words(folder: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.jsonl"
    for arguments in (("sg-" + "0" * 32, "--records", absent), ("--record", f"{absent}:1")):
        told = explain(folder, *arguments)
        assert (told.exit_code, told.stderr) == (1, f"sluice: {absent}: cannot be read: No such file or directory\n")
    told = explain(folder, "--record", f"{tmp_path}:1")
    assert (told.exit_code, told.stderr) == (1, f"sluice: {tmp_path}: cannot be read: Is a directory\n")


def test_a_limit_is_no_rule(folder: Path, tmp_path: Path) -> None:
    limit = "limits:\n  - {id: demo.plan, per: [account.id], limit: 9/minute, on_missing: skip, mode: enforce}\n"
    (tmp_path / "demo.yaml").write_text(PACK + limit)
    told = sluice("explain", "--record", f"{folder}/d.jsonl:1", "--policy", tmp_path, "--rule", "demo.plan")
    said = "'demo.plan' is a limit of the plan, not a rule: what it answered stands under 'limit'; leave out --rule"
    assert (told.exit_code, told.stderr) == (2, f"sluice: {said}\n")


def test_a_capture_is_evaluated_now_and_says_so(folder: Path, tmp_path: Path) -> None:
    told = explain(folder, "--record", f"{folder}/r.jsonl:1")
    assert told.exit_code == 0
    assert told.output.splitlines()[0] == "A CAPTURE: evaluated now, with nothing counted before it."
    recorded = explain(folder, "--record", f"{folder}/d.jsonl:1").output
    assert told.output[told.output.index("demo.denied  match") :] == recorded[recorded.index("demo.denied  match") :]
    caller = explain(folder, "--record", f"{folder}/r.jsonl:1", "--view", "caller").output
    assert caller.splitlines()[0] == "A CAPTURE: evaluated now, with nothing counted before it."
    tree = json.loads(explain(folder, "--record", f"{folder}/r.jsonl:2", "--format", "json").output)
    assert (tree["capture"][:9], tree["decision"]["action"], tree["rules"]) == ("A CAPTURE", "allow", [])
    (tmp_path / "gateway.yaml").write_text(f"upstreams: {{}}\npolicy: ['{folder}/demo.yaml']\nmode: shadow\n")
    shadowed = sluice("explain", "--record", f"{folder}/r.jsonl:1", "--config", tmp_path / "gateway.yaml").output
    assert "decision        allow" in shadowed
    assert "would be        deny" in shadowed
