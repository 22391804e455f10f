"""Law 6: the explanation is the evaluation. It comes from the functions that decided, and a record that lies is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import Place, ReplayError
from gateway.language.compile import load
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.explain import explain, tell
from gateway.replay.sources import Reader
from gateway.web.intake import Intake
from tests.captures import FILE

RULES = Path(__file__).parents[2] / "rules"
REGISTRY = load_registry({"identity": {"hash_key": DRY_RUN_KEY}})
POLICY = load([RULES], REGISTRY.signals)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    decisions = tmp_path_factory.mktemp("decisions") / "decisions.jsonl"
    result = CliRunner().invoke(main, ["dry-run", str(FILE), "--decisions", str(decisions), "--format", "json"])
    assert result.exit_code == 0
    return [json.loads(line) for line in decisions.read_text().splitlines()]


def explained(entry: dict[str, Any]) -> list[str]:
    exchange = Reader(Intake(REGISTRY, DRY_RUN_KEY), REGISTRY.signals).exchange(json.dumps(entry).encode(), Place("x", 1, 1))
    return list(tell(explain(exchange, entry, POLICY, REGISTRY.signals)))


def test_every_record_evaluates_to_what_it_says(entries: list[dict[str, Any]]) -> None:
    """From the record alone: no body, no headers, no state."""
    assert sum(len(explained(entry)) for entry in entries) > len(entries) * 5


def matched(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return next(entry for entry in entries if any(rule["verdict"] == "match" for rule in entry["rules"]))


def test_a_match_is_told_leaf_by_leaf_with_values(entries: list[dict[str, Any]]) -> None:
    entry = matched(entries)
    rule = next(rule for rule in entry["rules"] if rule["verdict"] == "match")
    text = "\n".join(explained(entry))
    assert f"{rule['id']}  match" in text
    for leaf in POLICY.rule(rule["id"]).when.leaves():  # type: ignore[union-attr]
        assert f"{leaf}; it is " in text


def test_a_record_whose_verdict_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    entry["rules"] = [rule for rule in entry["rules"] if rule["verdict"] != "match"]
    with pytest.raises(ReplayError, match="the record was altered, or the engine changed"):
        explained(entry)


def test_a_record_whose_decision_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    entry["decision"] = {"action": "deny", "by": ["some.rule"]}
    with pytest.raises(ReplayError):
        explained(entry)


def test_a_record_whose_value_was_altered_is_found_out(entries: list[dict[str, Any]]) -> None:
    entry = json.loads(json.dumps(matched(entries)))
    for label, value in entry["measures"].items():
        if isinstance(value, (int, float)):
            entry["measures"][label] = 0
    with pytest.raises(ReplayError):
        explained(entry)
