"""The command line: exit codes, outputs, and errors that say what to mend."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import main
from tests.captures import FILE

ROOT = Path(__file__).parents[1]
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
CASES = """cases:
  - {name: hit, given: {request.model: forbidden}, expect: {demo.denied: match}}
  - {name: miss, given: {request.model: other}, expect: {demo.denied: no_match}}
  - {name: unknown, given: {}, expect: {demo.denied: unknown}}
"""


def sluice(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "demo.yaml").write_text(PACK)
    (tmp_path / "demo.test.yaml").write_text(CASES)
    return tmp_path


def capture(model: str, number: int = 0, label: str | None = None) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    entry = {
        "ts": 1793500000 + number,
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "body": body,
        "account": "a",
    }
    return json.dumps({**entry, "label": label} if label else entry) + "\n"


def test_version() -> None:
    assert sluice("--version").output == f"sluice, version {__version__}\n"


def test_as_a_module() -> None:
    found = subprocess.run([sys.executable, "-m", "gateway", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout == f"sluice, version {__version__}\n"


def test_check_clean(pack: Path) -> None:
    result = sluice("check", pack)
    assert (result.exit_code, result.output.split(",")[0]) == (0, "1 rule and 0 limits in 1 pack")


def test_check_finds(pack: Path) -> None:
    (pack / "demo.yaml").write_text(PACK.replace("    evidence: [request.model]\n", ""))
    result = sluice("check", pack)
    assert result.exit_code == 1
    assert f"{pack}/demo.yaml:5:5: warning: rule 'demo.denied' refuses requests but names no evidence" in result.output
    listed = json.loads(sluice("check", pack, "--format", "json").output)
    assert len(listed["findings"]) == 1


def test_check_cannot_load(pack: Path) -> None:
    (pack / "demo.yaml").write_text(PACK.replace("request.model:", "request.modle:"))
    result = sluice("check", pack)
    assert result.exit_code == 2
    assert "unknown signal or measure 'request.modle'; did you mean 'request.model'?" in result.stderr
    assert json.loads(sluice("check", pack, "--format", "json").stdout)["loaded"] is False


def test_check_reads_gateway_yaml(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("upstreams: {openai: {url: nowhere}}\n")
    result = sluice("check", tmp_path / "gateway.yaml")
    assert result.exit_code == 2
    assert f"{tmp_path}/gateway.yaml:1:27: url: 'nowhere' is not an http(s) URL" in result.stderr


def test_check_of_nothing(tmp_path: Path) -> None:
    result = sluice("check", tmp_path)
    assert result.exit_code == 2
    assert "holds no pack" in result.stderr


def test_rule_tests_pass_fail_and_must_exist(pack: Path) -> None:
    assert sluice("test", pack).exit_code == 0
    (pack / "demo.test.yaml").write_text(CASES.replace("model: other", "model: forbidden"))
    failed = sluice("test", pack)
    assert failed.exit_code == 1
    assert "miss: demo.denied: expected no_match, got match" in failed.output
    (pack / "demo.test.yaml").unlink()
    assert sluice("test", pack).exit_code == 1
    assert "no case was run" in sluice("test", pack).stderr
    (pack / "demo.test.yaml").write_text("cases: [{name: x, expect: {demo.dinied: match}, given: {}}]")
    assert sluice("test", pack).exit_code == 2


def test_dry_run_of_captures(pack: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(capture("m", 0, "chat") + capture("forbidden", 1, "chat") + "rubbish\n")
    result = sluice("dry-run", file, "--policy", pack, "--format", "json", "--decisions", tmp_path / "d.jsonl")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["records"] == {"read": 2, "unreadable": 1, "judged": 2, "evaluable": 2, "unevaluable": {}, "warm_up": 0}
    assert report["outcomes"] == {"allow": 1, "deny": 1}
    assert report["labels"] == {"chat": {"accounts": 1, "exchanges": 2, "matched": 1, "acted_on": 1, "would_act_on": 1}}
    assert report["rules"][0]["match"] == 1
    assert report["accounts"][0] | {"rules": []} == report["accounts"][0] | {"id": "a", "strongest": "deny", "rules": []}
    assert f"unreadable: {file}:3:1: is not JSON" in result.stderr
    decisions = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [entry["outcome"]["action"] for entry in decisions] == ["allow", "deny"]


def test_dry_run_of_its_own_decisions_gives_the_same(pack: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert sluice("dry-run", FILE, "--decisions", first, "--format", "json").exit_code == 0
    assert sluice("dry-run", first, "--decisions", again, "--format", "json").exit_code == 0
    assert first.read_bytes() == again.read_bytes()


def test_dry_run_from_standard_input(pack: Path) -> None:
    result = sluice("dry-run", "-", "--policy", pack, "--format", "json", stdin=capture("m"))
    assert json.loads(result.stdout)["records"]["read"] == 1


def test_dry_run_as_a_table(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("forbidden", 0, "chat"))
    result = sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack)
    assert result.exit_code == 0
    for word in ("demo.denied", "records  1 read, 0 unreadable", "deny 1", "chat", "Accounts with matches"):
        assert word in result.stdout


def test_dry_run_exit_codes(pack: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text(capture("forbidden", 0, "chat"))
    assert sluice("dry-run", records, "--policy", pack, "--max-benign-share", "0.5").exit_code == 1
    assert sluice("dry-run", records, "--policy", pack, "--max-benign-share", "1").exit_code == 0
    assert sluice("dry-run", records, "--policy", tmp_path / "absent.yaml").exit_code == 2
    assert sluice("dry-run", tmp_path / "absent.jsonl", "--policy", pack).exit_code == 3
    records.write_text("rubbish\n")
    assert sluice("dry-run", records, "--policy", pack).exit_code == 3
    records.write_text("")
    assert sluice("dry-run", records, "--policy", pack).exit_code == 3


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "5%"])
def test_a_share_lies_between_none_and_all(share: str, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("m"))
    told = sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--max-benign-share", share)
    assert told.exit_code == 2
    assert "Invalid value for '--max-benign-share'" in told.stderr


def test_labels_from_a_file(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("m"))
    (tmp_path / "labels.json").write_text('{"a": "product"}')
    result = sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--labels", tmp_path / "labels.json", "--format", "json")
    assert list(json.loads(result.stdout)["labels"]) == ["product"]


def test_explain(pack: Path, tmp_path: Path) -> None:
    decisions = tmp_path / "d.jsonl"
    (tmp_path / "r.jsonl").write_text(capture("forbidden"))
    sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--decisions", decisions)
    reference = json.loads(decisions.read_text())["reference"]
    by_reference = sluice("explain", reference, "--records", decisions, "--policy", pack)
    assert by_reference.exit_code == 0
    assert "true      request.model  forbidden  eq forbidden" in by_reference.output
    assert "outcome         deny, status 403, code policy-decision" in by_reference.output
    assert sluice("explain", "--record", f"{decisions}:1", "--policy", pack).output == by_reference.output
    assert (
        "demo.denied  match"
        in sluice("explain", reference, "--records", decisions, "--policy", pack, "--rule", "demo.denied").output
    )


def test_explain_by_another_policy_says_so(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("forbidden"))
    sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--decisions", tmp_path / "d.jsonl")
    (pack / "demo.yaml").write_text(PACK.replace("request.model: forbidden", "request.model: other"))
    result = sluice("explain", "--record", f"{tmp_path}/d.jsonl:1", "--policy", pack)
    assert result.exit_code == 0
    assert "evaluated below by another policy" in result.output


def test_explain_exit_codes(pack: Path, tmp_path: Path) -> None:
    decisions = tmp_path / "d.jsonl"
    (tmp_path / "r.jsonl").write_text(capture("forbidden"))
    sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--decisions", decisions)
    assert sluice("explain", "sg-absent", "--records", decisions, "--policy", pack).exit_code == 1
    assert sluice("explain", "--record", f"{decisions}:9", "--policy", pack).exit_code == 1
    assert sluice("explain", "--record", f"{tmp_path}/r.jsonl:1", "--policy", pack).exit_code == 0
    assert sluice("explain", "--record", f"{decisions}:1", "--policy", tmp_path / "absent").exit_code == 2
    assert sluice("explain", "--record", f"{decisions}:1", "--policy", pack, "--rule", "no.such").exit_code == 2
    decisions.write_text(decisions.read_text().replace('"verdict":"match"', '"verdict":"unknown"'))
    altered = sluice("explain", "--record", f"{decisions}:1", "--policy", pack)
    assert altered.exit_code == 2
    assert "the record was altered" in altered.stderr


def test_signals_lists_the_catalogue() -> None:
    listed = json.loads(sluice("signals", "--format", "json").output)
    names = [signal["name"] for signal in listed]
    assert names == sorted(names)
    assert all(signal["meaning"] and signal["missing"] and signal["confounder"] for signal in listed)
    rooms = {"account", "client", "cluster", "prompt", "region", "request", "reseller", "response", "workload"}
    assert {name.split(".")[0] for name in names} == rooms
    text = sluice("signals").output
    assert all(name in text for name in names)


def test_serve_says_when_the_address_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "gateway.yaml").write_text(f"listen: 127.0.0.1:{port}\nupstreams: {{}}\n")
        result = sluice("serve", tmp_path / "gateway.yaml")
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


def test_serve_refuses_a_bad_configuration(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("listen: nowhere\nupstream: {}\n")
    result = sluice("serve", tmp_path / "gateway.yaml")
    assert result.exit_code == 2
    assert f"{tmp_path}/gateway.yaml:1:9: listen: 'nowhere' is not an address" in result.stderr
    assert "unknown key 'upstream' in gateway.yaml; did you mean 'upstreams'?" in result.stderr
    assert "gateway.yaml needs 'upstreams'" in result.stderr


def test_dry_run_judges_as_the_gateway_of_its_config_would(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("forbidden"))
    for setting, outcome in (("mode: shadow", {"allow": 1}), ("mode: enforce", {"deny": 1})):
        (tmp_path / "gateway.yaml").write_text(f"upstreams: {{}}\npolicy: [demo.yaml]\n{setting}\n")
        result = sluice("dry-run", tmp_path / "r.jsonl", "--config", tmp_path / "gateway.yaml", "--format", "json")
        assert json.loads(result.stdout)["outcomes"] == outcome


def test_check_finds_what_serve_would_stumble_over(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("upstreams: {opnai: {url: 'http://127.0.0.1:1'}}\n")
    misspelt = sluice("check", tmp_path / "gateway.yaml").stderr
    assert "unknown protocol 'opnai' in upstreams; did you mean 'openai'?" in misspelt
    (tmp_path / "gateway.yaml").write_text("upstreams: {}\npolicy: [absent.yaml]\n")
    assert sluice("check", tmp_path / "gateway.yaml").exit_code == 2


def test_what_a_user_gets_wrong_is_said_not_traced(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(capture("m").replace('"account": "a"', '"account": "[/x]"'))
    assert sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack).exit_code == 0
    unlabelled = sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--labels", tmp_path / "absent.json")
    said = f"{tmp_path}/absent.json: cannot be read: No such file or directory\n"
    assert (unlabelled.exit_code, unlabelled.stderr) == (3, said)
    (tmp_path / "labels.json").write_text("[]")
    assert sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--labels", tmp_path / "labels.json").exit_code == 3
    assert sluice("dry-run", tmp_path / "r.jsonl", "--policy", pack, "--out", tmp_path / "no" / "x").exit_code == 2
    assert "is no reference" in sluice("explain", "demo.denied", "--records", tmp_path / "r.jsonl").stderr
    half = {"signals": {}, "policy": {"mode": "enforce"}, "exchange": {"method": "GET", "path": "/"}, "at": 1, "id": "x"}
    (tmp_path / "d.jsonl").write_text(json.dumps(half) + "\n")
    assert sluice("explain", "--record", f"{tmp_path}/d.jsonl:1", "--policy", pack).exit_code == 1
