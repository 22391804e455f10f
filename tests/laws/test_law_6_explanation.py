"""Law 6: the explanation is the evaluation. It comes from the functions that decided, and a record that lies is found out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import ReplayError
from gateway.language.compile import load
from gateway.language.conditions import Leaf
from gateway.replay.changes import changes, ended
from gateway.replay.telling import told
from tests.captures import FILE
from tests.judging import CATALOGUE
from tests.replay.explaining import explained, said

POLICY = load([Path(__file__).parents[2] / "rules"], CATALOGUE)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    decisions = tmp_path_factory.mktemp("decisions") / "decisions.jsonl"
    result = CliRunner().invoke(main, ["dry-run", str(FILE), "--decisions", str(decisions), "--format", "json"])
    assert result.exit_code == 0
    return [json.loads(line) for line in decisions.read_text().splitlines()]


def leaves(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparisons of a told condition."""
    yield from [tree] if "leaf" in tree else []
    for part in tree.get("parts", ()):
        yield from leaves(part)


def matched(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return next(entry for entry in entries if any(rule["verdict"] == "match" for rule in entry["rules"]))


def test_every_record_evaluates_to_what_it_says(entries: list[dict[str, Any]]) -> None:
    """From the record alone: no body, no headers, no state. What is told of each rule is how it ended."""
    tried = set()
    for entry in entries:
        explanation = explained(entry, POLICY)
        ends = {end["id"]: end["verdict"] for end in entry["rules"]}
        assert {rule: ended(explanation.now, rule)["verdict"] for rule in ends} == ends
        kind = json.dumps(entry["rules"])
        if kind in tried:  # all of it is told, which takes long, once of records that ended alike
            continue
        tried.add(kind)
        tree = told(explanation)
        assert {rule["id"]: rule["verdict"] for rule in tree["rules"]} == ends
        truths = {"match": "true", "unknown": "unknown", "error": "unknown"}
        assert all(rule["when"]["truth"] == truths[rule["verdict"]] for rule in tree["rules"])
        for rule in tree["rules"]:
            declared = POLICY.rule(rule["id"])
            assert declared is not None
            assert [leaf["leaf"] for leaf in leaves(rule["when"])] == [leaf.id for leaf in declared.when.leaves()]
            assert all(change["gives"] != ended(explanation.now, rule["id"]) for change in changes(declared, explanation))
    assert len(tried) > 5


def test_a_match_is_told_leaf_by_leaf_with_values(entries: list[dict[str, Any]]) -> None:
    entry = matched(entries)
    rule = next(rule for rule in entry["rules"] if rule["verdict"] == "match")
    text = said(explained(entry, POLICY))
    assert f"{rule['id']}  match" in text
    declared = POLICY.rule(rule["id"])
    assert declared is not None
    for leaf in declared.when.leaves():
        line = next(line for line in text.splitlines() if leaf.name in line and f"{leaf.operator.name} {leaf.shown}" in line)
        assert line.split()[0] == "true"


def test_nothing_is_told_where_walking_a_condition_says_something_else(
    entries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were conditions told by other code than decides, or the two to drift apart, no story would be told."""
    honest = Leaf.test
    monkeypatch.setattr(Leaf, "test", lambda leaf, value: {True: False, False: True, None: None}[honest(leaf, value)])
    with pytest.raises(ReplayError):
        explained(matched(entries), POLICY)


def test_a_record_whose_verdict_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    entry["rules"] = [rule for rule in entry["rules"] if rule["verdict"] != "match"]
    with pytest.raises(ReplayError, match="the record was altered, or the engine changed"):
        explained(entry, POLICY)


def test_a_record_whose_decision_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    entry["decision"] = {"action": "deny", "by": ["some.rule"]}
    with pytest.raises(ReplayError):
        explained(entry, POLICY)


def test_a_record_whose_value_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    for label, value in entry["measures"].items():
        if isinstance(value, (int, float)):
            entry["measures"][label] = 0
    with pytest.raises(ReplayError):
        explained(entry, POLICY)


def test_the_evidence_a_rule_names_stands_in_the_record_of_every_match(entries: list[dict[str, Any]]) -> None:
    """Also what no condition looked at: afterwards nobody can look it up any more."""
    seen = 0
    for entry in entries:
        held = {*entry["signals"], *entry["missing"], *entry.get("failed", ())}
        for end in entry["rules"]:
            rule = POLICY.rule(end["id"])
            assert rule is not None
            if end["verdict"] == "match":
                seen += 1
                assert {name for name in rule.evidence if name not in rule.measures} <= held
    assert seen > 20
