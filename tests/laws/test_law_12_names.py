"""Law 12: facts and names kept apart. Records state what was observed, clusters get neutral names, nobody is accused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.record import record
from gateway.config import bundled_rules
from gateway.decision import Public
from gateway.enforcement import CAUSE_ANSWERS
from gateway.gate import Gate
from gateway.language.compile import load
from tests.clusters.finding import tree_of
from tests.clusters.traffic import normal, records, ring
from tests.judging import CATALOGUE, START, judge

ROOT = Path(__file__).parents[2]
ACCUSING = re.compile(
    r"\b(fraud\w*|abus\w*|steal\w*|stol\w*|theft|thie\w+|attack\w*|malicious\w*|criminal\w*|illegal\w*|guilt\w*|culprit\w*"
    r"|offend\w*|perpetrat\w*|adversar\w*|actor\w*|suspect\w*|cheat\w*|violat\w*|bad faith|gang\w*)\b",
    re.IGNORECASE,
)


def texts(value: Any) -> list[str]:
    """Every key and text in a tree."""
    if isinstance(value, dict):
        return [text for key, below in value.items() for text in (str(key), *texts(below))]
    if isinstance(value, list):
        return [text for below in value for text in texts(below)]
    return [value] if isinstance(value, str) else []


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return tree_of(records(normal, ring))


def test_clusters_have_names_that_say_nothing(tree: dict[str, Any]) -> None:
    assert tree["clusters"]
    for cluster in tree["clusters"]:
        assert re.fullmatch(r"cluster-[0-9a-f]{10}", cluster["id"])


def test_a_cluster_states_what_ties_it_and_accuses_nobody(tree: dict[str, Any]) -> None:
    stated = [{key: value for key, value in one.items() if key not in ("org_names", "accounts")} for one in tree["clusters"]]
    assert [text for text in texts(stated) if ACCUSING.search(text)] == []


def test_what_callers_are_told_accuses_nobody() -> None:
    policy = load([bundled_rules()], CATALOGUE)
    public = [rule.public for rule in policy.rules] + [answer for _, answer in CAUSE_ANSWERS.values()]
    told = [text for one in public if isinstance(one, Public) for text in (one.code, one.message)]
    assert len(told) > 10
    assert [text for text in told if ACCUSING.search(text)] == []


def test_rules_are_titled_by_what_they_see() -> None:
    policy = load([bundled_rules()], CATALOGUE)
    assert [rule.title for rule in policy.rules if ACCUSING.search(rule.title)] == []


def test_a_record_states_observations_only() -> None:
    """Whatever a rule thinks of it: the record of the most refused caller holds no word for who that is."""
    found: list[dict[str, Any]] = []
    gate = Gate(load([bundled_rules()], CATALOGUE), CATALOGUE, sink=lambda *settled: found.append(record(*settled)))
    for number in range(40):
        judge(gate, {"account.id": f"a{number}", "account.org": f"o{number}", "account.age": "1d", "client.country": "KP",
                     "client.network": "203.0.113.0/24", "client.fingerprint": "f", "prompt.template": "t"},
              START + number * 1_000_000)  # fmt: skip
    assert any(entry["rules"] for entry in found)
    assert {text for entry in found for text in texts(json.loads(json.dumps(entry))) if ACCUSING.search(text)} == set()


def test_the_list_of_words_finds_what_it_is_for() -> None:
    assert all(map(ACCUSING.search, ("a fraudulent account", "threat actor", "suspected gang", "Abuse of service")))
    assert not any(map(ACCUSING.search, ("factor", "extracted", "The request body is larger than this gateway accepts.")))
