"""Why a case failed: what decided, with the values of its last exchange, at the place of what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.replay.cases import load_cases
from gateway.replay.rule_tests import run
from tests.judging import CATALOGUE, policy

PACK = """pack: example
version: 1
language: 1
lists:
  excluded: {type: country, values: [KP, IR]}
rules:
  - id: example.excluded
    title: Excluded
    family: network
    owner: o
    measures:
      attempts: {count: true, per: [account.id], window: 1h}
    when:
      all:
        - {id: seen_there, client.country: "@excluded"}
        - {id: billed_there, account.billing_country: "@excluded"}
        - none: [{id: verified, account.verified: true}]
    corroborate: {families: 2, within: 1h, per: [account.id]}
    then:
      of: attempts
      steps:
        - {from: 1, action: tag, tag: seen}
        - {from: 3, action: deny}
    exceptions: {agreed: {fields: [account.id], entries: []}}
    mode: enforce
limits:
  - {id: example.plan, per: [account.id], limit: 2 requests/minute, when: {account.plan: free}, on_missing: skip, mode: enforce}
"""
BOTH = "client.country: KP, account.billing_country: KP, account.verified: false, account.id: a"


def why(case: str, folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    loaded, file = policy(PACK), folder / "p.test.yaml"
    file.write_text(f"cases:\n  - {{name: c, {case}}}\n")
    return [
        (failure.message, failure.why) for failure in run(load_cases([file], loaded, CATALOGUE), loaded, CATALOGUE).failures
    ]


@pytest.mark.parametrize(
    ("given", "expect", "reasons"),
    [
        (BOTH.replace("billing_country: KP", "billing_country: 'NO'"), "example.excluded: match",
         ("billed_there false: account.billing_country NO, wanted in @excluded",)),
        (BOTH.replace("verified: false", "verified: true"), "example.excluded: match",
         ("verified true: account.verified true, eq true",)),
        (BOTH.replace("account.billing_country: KP, ", ""), "example.excluded: match",
         ("billed_there unknown: account.billing_country missing (not recorded), wanted in @excluded",)),
        (BOTH, "example.excluded: no_match", (
            "seen_there true: client.country KP, in @excluded", "billed_there true: account.billing_country KP, in @excluded",
            "verified false: account.verified false, wanted eq true")),
        (BOTH, "example.excluded: match, action: deny", (
            "exception agreed: no entries",
            "lowered to observe: it needs 2 families for account.id, and found besides its own: none",
            "attempts is 1: from 1 tag, from 3 deny")),
        (BOTH, "example.excluded: match, step: 1", ("attempts is 1: from 1 tag, from 3 deny",)),
        ("account.id: a, account.plan: paid", "limits: {example.plan: refused}",
         ("its 'when' is false: account.plan paid, wanted eq free",)),
        ("account.plan: free", "limits: {example.plan: room}", ("it cannot be counted: no account.id: not recorded",)),
        ("account.id: a, account.plan: free", "limits: {example.plan: refused}", ("it had room",)),
    ],
)  # fmt: skip
def test_a_failing_case_says_what_decided(given: str, expect: str, reasons: tuple[str, ...], tmp_path: Path) -> None:
    found = why(f"given: {{{given}}}, expect: {{{expect}}}", tmp_path)
    assert [reason for _, reason in found] == [reasons]


def test_what_is_counted_over_all_exchanges_has_no_reason_in_the_last(tmp_path: Path) -> None:
    ((_, reasons),) = why(f"given: {{{BOTH}}}, expect: {{matched: {{example.excluded: 5}}}}", tmp_path)
    assert reasons == ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "example.yaml").write_text(PACK)
    (tmp_path / "example.test.yaml").write_text(
        "cases:\n  - name: billed at home\n"
        f"    given: {{{BOTH.replace('billing_country: KP', 'billing_country: FR')}}}\n"
        "    expect:\n      example.excluded: match\n      leaves: {billed_there: true}\n"
        "  - name: the third\n"
        f"    sequence: [{{given: {{{BOTH}}}, times: 3}}]\n"
        "    expect: {example.excluded: match, action: deny, limits: {example.plan: skipped}}\n"
    )
    return tmp_path


def sluice(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_failures_stand_where_they_are_expected(folder: Path) -> None:
    told = sluice("test", folder)
    decided = "\n    billed_there false: account.billing_country FR, wanted in @excluded\n"
    file = folder / "example.test.yaml"
    assert f"{file}:5:7: billed at home: example.excluded: expected match, got no_match{decided}" in told.output
    assert (
        f"{file}:6:7: billed at home: example.excluded: expected leaf billed_there to be true, got false{decided}"
        in told.output
    )
    rows = json.loads(sluice("test", folder, "--format", "json").stdout)["failures"]
    assert (rows[0]["line"], rows[0]["why"]) == (5, [decided.strip()])


def test_a_case_is_explained_as_a_record_is(folder: Path) -> None:
    told = sluice("test", folder, "--explain", "the third")
    assert told.exit_code == 0
    assert told.output.splitlines()[0] == f"{folder}/example.test.yaml:7:5: the third: its last exchange, of 3 exchanges"
    for line in (
        "example.excluded  match → observe  (network, medium, enforce)",
        "    true    all\n      true    seen_there      client.country           KP     in @excluded",
        "steps           attempts is 3: from 1 tag, ▸ from 3 deny",
        "attempts 3 → below 3: step from 1: observe",
    ):
        assert line in told.output, told.output
    tree = json.loads(sluice("test", folder, "--explain", "billed at home", "--format", "json").stdout)
    assert (tree["case"], [rule["id"] for rule in tree["rules"]]) == ("billed at home", ["example.excluded"])
    assert "changes" in tree["rules"][0]


def test_only_a_case_that_is_there_is_explained(folder: Path) -> None:
    absent = sluice("test", folder, "--explain", "the thrid")
    assert (absent.exit_code, absent.stderr) == (2, "sluice: no case 'the thrid'; did you mean 'the third'?\n")
    both = sluice("test", folder, "--explain", "the third", "--mutate")
    assert (both.exit_code, "leave out --mutate" in both.stderr) == (2, True)


@pytest.mark.parametrize("command", ["test", "check"])
def test_a_test_file_that_no_pack_owns_is_an_error(command: str, folder: Path) -> None:
    (folder / "example.test.yaml").rename(folder / "exampel.test.yaml")
    said = "belongs to no pack: there is no exampel.yaml beside it; did you mean 'example.test.yaml'?"
    for path in (folder, folder / "example.yaml"):
        told = sluice(command, path)
        assert (told.exit_code, told.stderr) == (2, f"{folder}/exampel.test.yaml: {said}\n")


def test_a_stray_file_of_another_name(folder: Path) -> None:
    (folder / "quite-other.test.yaml").write_text("cases: []\n")
    told = sluice("test", folder)
    said = "belongs to no pack: there is no quite-other.yaml beside it; name it after its pack"
    assert (told.exit_code, told.stderr) == (2, f"{folder}/quite-other.test.yaml: {said}\n")
    assert sluice("test", folder / "example.yaml").exit_code == 1  # the folder was not asked for


def test_what_is_no_pack_is_said_to_be_something_else(folder: Path) -> None:
    (folder / "README.md").write_text("# Rules\n")
    (folder / "gateway.yaml").write_text("upstreams: {}\npolicy: [example.yaml]\n")
    told = sluice("test", folder / "README.md", folder / "gateway.yaml", folder / "example.test.yaml")
    assert told.exit_code == 2
    assert told.stderr.splitlines() == [
        f"{folder}/README.md: is no pack: packs end in .yaml; name a pack, or a folder of packs",
        f"{folder}/example.test.yaml: holds the tests of a pack and is no pack itself; "
        f"name {folder}/example.yaml, or the folder of packs",
        f"{folder}/gateway.yaml: is the configuration of a gateway and holds no rules; "
        "name the packs or folders that its 'policy' names",
    ]


def test_one_of_a_thing_is_no_plural(folder: Path) -> None:
    (folder / "example.test.yaml").write_text(
        f"cases:\n  - {{name: one, given: {{{BOTH}}}, expect: {{example.excluded: match}}}}\n"
        f"  - {{name: two, given: {{{BOTH.replace('KP', 'FR')}}}, expect: {{example.excluded: no_match}}}}\n"
    )
    assert sluice("test", folder).output.splitlines()[-1] == "2 cases, 2 passed, 1 gap"
    assert "1 rule and 1 limit in 1 pack, " in sluice("check", folder).output
