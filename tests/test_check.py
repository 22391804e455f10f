"""`sluice check`: what it prints in each form, what makes it fail, and the difference against an older policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import main
from gateway.cli.common import apart
from gateway.errors import PolicyError
from gateway.language.findings import Finding, Severity
from gateway.language.lint import JUDGEMENTS
from gateway.language.sarif import sarif

ROOT = Path(__file__).parents[1]
LINT = ROOT / "tests/policies/lint"
PACK = """pack: demo
version: {version}
language: 1
rules:
  - id: demo.big
    title: A big request
    family: volume
    owner: tests
    when: {{id: big, request.size: {{gte: {size}}}}}
    then: {{action: throttle, limit: 5/minute, per: [request.size]}}
    evidence: [request.size]
    mode: enforce
"""
CASES = """cases:
  - {name: hit, given: {request.size: 10}, expect: {demo.big: match, action: observe}}
  - {name: miss, given: {request.size: 1}, expect: {demo.big: no_match, leaves: {big: false}}}
  - {name: unknown, given: {}, expect: {demo.big: unknown, missing: [request.size]}}
"""


def sluice(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(folder: Path, version: int = 1, size: int = 10) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "demo.yaml").write_text(PACK.format(version=version, size=size))
    (folder / "demo.test.yaml").write_text(CASES)
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return written(tmp_path / "rules")


def test_text_names_place_severity_judgement_and_mend() -> None:
    result = sluice("check", LINT / "unused-lists.yaml")
    said = f"{LINT}/unused-lists.yaml:6:9: warning: list 'mine' of pack 'p' is not used; remove it [unused-lists]"
    assert said in result.output.splitlines()
    assert result.exit_code == 1


def test_paths_are_told_as_they_were_given(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pack.parent)
    (pack / "demo.yaml").write_text(PACK.format(version=1, size=0).replace("evidence: [request.size]", "evidence: []"))
    told = json.loads(sluice("check", "rules", "--format", "json").output)
    assert {finding["path"] for finding in told["findings"]} == {"rules/demo.yaml"}
    log = json.loads(sluice("check", "rules", "--format", "sarif").output)
    assert {uri(result) for result in log["runs"][0]["results"]} == {"rules/demo.yaml"}


def test_json_is_one_object(pack: Path) -> None:
    clean = json.loads(sluice("check", pack, "--format", "json").output)
    assert clean.keys() == {"loaded", "digest", "version", "findings"}
    assert (clean["loaded"], clean["version"], clean["findings"]) == (True, 1, [])
    assert clean["digest"].startswith("sha256:")
    found = json.loads(sluice("check", LINT / "never-true.yaml", "--format", "json").output)["findings"]
    first = next(finding for finding in found if finding["judgement"] == "never-true")
    assert first == {
        "judgement": "never-true", "severity": "error", "path": str(LINT / "never-true.yaml"), "line": 15, "column": 78,
        "message": "rule 'p.r' never matches: 'client.country in [DK, SE]' is never true while 'client.country eq NO' is true",
        "mend": "correct the comparison, or remove it",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_what_cannot_be_loaded_is_told_in_every_form(pack: Path, form: str) -> None:
    (pack / "demo.yaml").write_text(PACK.format(version=0, size=10))
    result = sluice("check", pack, "--format", form)
    assert result.exit_code == 2
    told = json.loads(result.output)
    if form == "json":
        assert (told["loaded"], told["digest"]) == (False, None)
        assert [(one["judgement"], one["line"], one["severity"]) for one in told["findings"]] == [("unloadable", 2, "error")]
    else:
        valid(told)
        (run,) = told["runs"]
        assert run["invocations"] == [{"executionSuccessful": False}]
        assert [(one["ruleId"], one["level"]) for one in run["results"]] == [("unloadable", "error")]


def test_bad_rule_tests_cannot_be_loaded_either(pack: Path) -> None:
    (pack / "demo.test.yaml").write_text("cases: [{name: x, given: {}, expect: {demo.absent: match}}]\n")
    assert sluice("check", pack).exit_code == 2


def test_what_the_tests_leave_open_is_a_finding(pack: Path) -> None:
    (pack / "demo.test.yaml").write_text(
        CASES.replace("no_match, leaves: {big: false}", "no_match").replace("size: 1}", "size: 2}")
    )
    assert sluice("check", pack).exit_code == 0
    (pack / "demo.test.yaml").unlink()
    result = sluice("check", pack)
    assert result.exit_code == 1
    assert "[uncovered-rule]" in result.output


# The parts of the official SARIF 2.1.0 schema that the log uses: required keys, then those that may be there.
SHAPES: dict[str, tuple[set[str], set[str]]] = {
    "log": ({"version", "runs"}, {"$schema"}),
    "run": ({"tool"}, {"columnKind", "invocations", "results"}),
    "driver": ({"name"}, {"fullName", "semanticVersion", "rules"}),
    "rule": ({"id"}, {"shortDescription", "fullDescription", "help", "defaultConfiguration"}),
    "result": ({"message"}, {"ruleId", "ruleIndex", "level", "locations"}),
    "location": ({"artifactLocation"}, {"region"}),
    "region": (set(), {"startLine", "startColumn"}),
}
LEVELS = {"none", "note", "warning", "error"}


def shaped(name: str, found: dict[str, Any]) -> dict[str, Any]:
    required, optional = SHAPES[name]
    assert required <= found.keys() <= required | optional
    return found


def uri(result: dict[str, Any]) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def valid(log: dict[str, Any]) -> None:
    assert shaped("log", log)["version"] == "2.1.0"
    for run in log["runs"]:
        assert shaped("run", run)["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
        assert all(isinstance(one["executionSuccessful"], bool) for one in run["invocations"])
        rules = shaped("driver", run["tool"]["driver"])["rules"]
        for rule in rules:
            shaped("rule", rule)
            assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
            assert rule["defaultConfiguration"]["level"] in LEVELS
        assert len({rule["id"] for rule in rules}) == len(rules)
        for result in run["results"]:
            assert shaped("result", result)["message"]["text"]
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["level"] in LEVELS
            for location in result["locations"]:
                place = shaped("location", location["physicalLocation"])
                assert " " not in place["artifactLocation"]["uri"]
                region = shaped("region", place.get("region", {}))
                assert all(number >= 1 for number in region.values())


def test_sarif_is_valid_and_explains_every_judgement() -> None:
    result = sluice("check", *sorted(LINT.glob("never-true.yaml")), "--format", "sarif")
    assert result.exit_code == 1
    log = json.loads(result.output)
    valid(log)
    driver = log["runs"][0]["tool"]["driver"]
    assert (driver["name"], driver["semanticVersion"]) == ("sluice", __version__)
    known = {rule["id"]: rule for rule in driver["rules"]}
    for judgement in JUDGEMENTS:
        assert known[judgement.name]["help"]["text"] == judgement.meaning
        assert known[judgement.name]["defaultConfiguration"]["level"] == str(judgement.severity)
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": True}]


@pytest.mark.parametrize("file", sorted(LINT.glob("*.yaml")), ids=lambda file: str(file.stem))
def test_every_finding_goes_into_sarif(file: Path) -> None:
    told = json.loads(sluice("check", file, "--format", "json").output)["findings"]
    log = json.loads(sluice("check", file, "--format", "sarif").output)
    valid(log)
    results = log["runs"][0]["results"]
    assert [(one["ruleId"], one["level"]) for one in results] == [(one["judgement"], one["severity"]) for one in told]


def test_a_path_that_is_no_plain_uri_is_quoted(tmp_path: Path) -> None:
    from gateway.errors import Place

    found = Finding(Place("my rules/ä.yaml"), "m", "", "x", Severity.NOTE)
    log = sarif([found, Finding(Place(str(tmp_path / "a.yaml"), 3, 0), "m", "mend", "y")], {}, "1")
    valid(log)
    first, second = log["runs"][0]["results"]
    assert {uri(first), uri(second)} == {"my%20rules/%C3%A4.yaml", (tmp_path / "a.yaml").as_uri()}
    assert {one["level"] for one in (first, second)} == {"note", "warning"}


def test_a_folder_with_a_gateway_yaml_is_checked_whole(pack: Path, tmp_path: Path) -> None:
    (pack / "gateway.yaml").write_text("upstreams: {}\npolicy: [demo.yaml]\nidentity: {directory: accounts.yaml}\n")
    (pack / "accounts.yaml").write_text("accounts: []\n")
    (pack / "workloads.yaml").write_text("workloads: []\n")
    packs, configs = apart([pack])
    assert [file.name for file in packs] == ["demo.yaml", "workloads.yaml"]
    assert [file.name for file in configs] == ["gateway.yaml"]
    result = sluice("check", pack)
    assert result.exit_code == 0, result.output
    assert f"{pack}/gateway.yaml: 1 rule and 0 limits in 1 pack, 0 findings" in result.output
    (pack / "gateway.yaml").write_text("upstreams: {}\npolicy: [absent.yaml]\n")
    assert sluice("check", pack).exit_code == 2
    (pack / "late.yml").write_text(PACK.format(version=1, size=1))
    with pytest.raises(PolicyError, match=r"late\.yml: is not read"):
        apart([pack])


def test_findings_of_a_gateway_yaml_are_those_of_its_policy(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(f"upstreams: {{}}\npolicy: [{LINT}/no-evidence.yaml]\n")
    result = sluice("check", tmp_path / "gateway.yaml")
    assert result.exit_code == 1
    assert "[no-evidence]" in result.output


def test_the_compiled_program_is_printed(pack: Path) -> None:
    result = sluice("check", pack, "--compiled")
    assert result.exit_code == 0
    compile(result.output, "policy", "exec")
    assert "demo.big" in result.output


@pytest.mark.parametrize("more", [["--format", "json"], ["--format", "sarif"], ["--against", "."]])
def test_a_program_is_printed_alone(pack: Path, more: list[str]) -> None:
    result = sluice("check", pack, "--compiled", *more)
    assert result.exit_code == 2
    assert "--compiled prints a program: it goes neither with --against nor with --format" in result.output


def test_against_an_older_policy(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old"), written(tmp_path / "new", size=8)
    owed = sluice("check", new, "--against", old)
    assert owed.exit_code == 1
    assert owed.output.splitlines() == [
        "rule demo.big: wider (major): threshold of leaf big 10 -> 8",
        "pack demo: version 1 -> 1, its changes call for: major",
        f"{new}/demo.yaml:2:10: error: pack 'demo' behaves in another way (major step), but its version is still 1; "
        "raise 'version' above 1 [unraised-version]",
        "1 changed, 0 equal, 1 finding",
    ]
    written(new, version=2, size=8)
    assert sluice("check", new, "--against", old).exit_code == 0
    assert sluice("check", old, "--against", new).exit_code == 1
    assert sluice("check", new, "--against", tmp_path / "absent").exit_code == 2
    same = sluice("check", old, "--against", old)
    assert (same.exit_code, same.output.splitlines()[-1]) == (0, "0 changed, 1 equal, 0 findings")


def test_against_as_json_and_sarif(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old"), written(tmp_path / "new", size=12)
    told = json.loads(sluice("check", new, "--against", old, "--format", "json").output)
    assert told["changes"] == [
        {
            "what": "rule", "id": "demo.big", "packs": ["demo"], "change": "narrower", "direction": "narrower",
            "step": "minor", "reasons": ["threshold of leaf big 10 -> 12"],
            "path": str(new / "demo.yaml"), "line": 5, "column": 5,
        }
    ]  # fmt: skip
    assert told["packs"] == [{"pack": "demo", "step": "minor", "old": 1, "new": 1, "owed": True}]
    assert told["against"].keys() == {"digest", "version"}
    assert [finding["judgement"] for finding in told["findings"]] == ["unraised-version"]
    log = json.loads(sluice("check", new, "--against", old, "--format", "sarif").output)
    valid(log)
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["unraised-version"]
