"""Clusters that were published, as rules read them: by account, with their age, and silent when the file is stale or gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.gate import Gate
from gateway.language.compile import compile_nodes
from gateway.plugins.clusters import NO_FILE, NOT_LISTED
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.strict.document import parse
from gateway.values import SECOND, Missing, parse_timestamp, timestamp_text
from tests.clusters.traffic import normal, records, ring

CREATED = parse_timestamp("2026-11-01T00:00:00Z")
HOUR = 3_600 * SECOND
NAMES = ("cluster.id", "cluster.families", "cluster.size")


def published(path: Path, **changes: Any) -> Path:
    clusters = [
        {"id": "cluster-a", "families": ["payment", "template"], "size": 3, "accounts": ["one", "two", "three"]},
        {"id": "cluster-b", "families": ["hop", "payment"], "size": 2, "accounts": ["three", "four"]},
    ]
    tree = {"format": "sluicegate clusters", "version": 1, "created": timestamp_text(CREATED), "source": {"digest": "d"}}
    path.write_text(json.dumps({**tree, "clusters": clusters, **changes}))
    return path


def registry_of(path: Path, **more: object) -> Registry:
    return load_registry({"clusters": {"file": path, **more}})


def view(registry: Registry, account: str | None, at: int = CREATED + HOUR) -> View:
    named = {"id": account} if account is not None else None
    return View(Facts(at=at, account=named), registry.signals)


def test_a_member_and_a_stranger(tmp_path: Path) -> None:
    registry = registry_of(published(tmp_path / "c.json"))
    found = view(registry, "one")
    assert [found.get(name) for name in NAMES] == ["cluster-a", frozenset({"payment", "template"}), 3]
    assert found.get("cluster.age") == HOUR
    assert [view(registry, "nobody").get(name) for name in NAMES] == [NOT_LISTED] * 3
    assert all(isinstance(view(registry, None).get(name), Missing) for name in NAMES)
    assert view(registry, "three").get("cluster.id") == "cluster-a"  # of two clusters the larger


def test_nothing_configured() -> None:
    registry = load_registry()
    assert [view(registry, "one").get(name) for name in (*NAMES, "cluster.age")] == [NO_FILE] * 4
    assert "clusters" not in registry.watched


def test_a_stale_file_no_longer_speaks_and_says_so(tmp_path: Path) -> None:
    registry = registry_of(published(tmp_path / "c.json"), max_age=24 * HOUR)
    assert view(registry, "one", CREATED + 24 * HOUR).get("cluster.size") == 3
    assert registry.watched["clusters"].health()["note"] == ""
    late = view(registry, "one", CREATED + 24 * HOUR + 1)
    assert [late.get(name) for name in NAMES] == [Missing("the file of clusters is older than 1d")] * 3
    assert late.get("cluster.age") == 24 * HOUR + 1
    assert registry.watched["clusters"].health()["note"] == "older than its max_age of 1d: it no longer speaks"
    assert view(registry, "one", CREATED - HOUR).get("cluster.age") == 0


def test_the_file_is_read_again_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    path = published(tmp_path / "c.json")
    registry = registry_of(path)
    path.write_text("{")
    registry.watched["clusters"].refresh()
    health = registry.watched["clusters"].health()
    assert "is no file of clusters" in str(health["problem"])
    assert "the last good one stays in use" in str(health["problem"])
    assert view(registry, "one").get("cluster.size") == 3
    published(tmp_path / "new.json", clusters=[]).replace(path)
    os.utime(path, ns=(1, 1))
    registry.watched["clusters"].refresh()
    assert registry.watched["clusters"].health() == {
        "clusters": 0, "accounts": 0, "created": timestamp_text(CREATED), "digest": "d", "note": "", "problem": "",
    }  # fmt: skip
    assert view(registry, "one").get("cluster.id") == NOT_LISTED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "something"}, "it does not state the format 'sluicegate clusters'"),
        ({"version": 2}, "version 2 is not known, only 1"),
        ({"created": "noon"}, "'noon' is not a time"),
        ({"clusters": [{"id": "a"}]}, "KeyError('families')"),
        ({"clusters": [{"id": 7, "families": [], "size": 1, "accounts": []}]}, "7 is not text"),
        ({"clusters": [{"id": "a", "families": [], "size": True, "accounts": []}]}, "True is no size"),
        ({"clusters": 7}, "TypeError"),
    ],
)
def test_a_file_that_is_none_stops_the_start(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry_of(published(tmp_path / "c.json", **changes))
    assert said in str(caught.value)
    assert "write it with `sluice clusters RECORDS --out FILE`" in str(caught.value)


def test_the_section_of_gateway_yaml(tmp_path: Path) -> None:
    published(tmp_path / "c.json")
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {}\nclusters: {file: c.json, max_age: 2d}\n")
    settings = load_config(file).settings
    assert settings["clusters"] == {"file": tmp_path / "c.json", "max_age": 48 * HOUR}
    assert view(load_registry(settings), "four").get("cluster.id") == "cluster-b"
    file.write_text("upstreams: {}\nclusters: {file: absent.json}\n")
    with pytest.raises(ConfigError, match=r"gateway\.yaml:2:18: file: there is no file"):
        load_config(file)


def test_what_the_command_publishes_rules_can_read(tmp_path: Path) -> None:
    """From records to a decision: the members of a ring match, everybody else does not, for want of knowledge."""
    made = records(ring, normal, scale=0.3)
    source, out = tmp_path / "records.jsonl", tmp_path / "clusters.json"
    source.write_text("".join(json.dumps(one) + "\n" for one in made))
    assert CliRunner().invoke(main, ["clusters", str(source), "--out", str(out)]).exit_code == 0
    registry = registry_of(out)
    pack = """
pack: example
version: 1
language: 1
rules:
  - id: example.ring
    title: A cluster tied by payment and content
    family: coordination
    severity: high
    mode: enforce
    when:
      all:
        - {id: large, cluster.size: {gte: 5}}
        - cluster.families: {any_of: [payment]}
    then: {action: tag, tag: ring}
    false_positives: [{cause: "An agency that pays for its customers", mitigated_by: large}]
    owner: tests
"""
    gate = Gate(compile_nodes([parse(pack, "pack.yaml")], registry.signals), registry.signals)
    at = parse_timestamp(made[-1]["at"]) + HOUR
    verdicts = {
        name: gate.judge(Facts(at=at, account={"id": name})).outcome.decision.ends[0].verdict
        for name in ("ring-3-key", "normal-3-key")
    }
    assert {name: str(verdict) for name, verdict in verdicts.items()} == {"ring-3-key": "match", "normal-3-key": "unknown"}
