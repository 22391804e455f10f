"""The trail: every settled judgement becomes exactly one line, whatever happens to the queue or the disk."""

from __future__ import annotations

import json
import os
import resource
import stat
import threading
import time
from pathlib import Path

import pytest

from gateway.audit import trail as trail_module
from gateway.audit.record import record, recorded_measures, recorded_signals, stable
from gateway.audit.trail import Trail
from gateway.facts import Answer, Usage
from gateway.gate import Gate
from gateway.values import AtLeast, Missing
from tests.audit.ledgers import said
from tests.judging import CATALOGUE, START, facts, judge, policy
from tests.ledgers import ledger

PACK = """
pack: demo
version: 1
language: 1
rules:
  - id: demo.many
    title: Many networks
    family: network
    owner: tests
    measures: {networks: {distinct: client.network, per: [account.id], window: 1h, cap: 3}}
    when: {id: many, networks: {gte: 3}}
    then: {action: tag, tag: many}
    evidence: [networks]
    mode: enforce
"""


def test_each_judgement_is_one_line(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "deep" / "audit")
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    for number in range(1_000):
        judge(gate, {"account.id": f"a{number}"}, START + number)
    trail.close()
    lines = ledger(tmp_path / "deep" / "audit")
    assert [line["signals"]["account.id"] for line in lines] == [f"a{number}" for number in range(1_000)]
    assert trail.health()["written"] == 1_000


def test_the_ledger_is_its_owners_only(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit")
    judge(Gate(policy(PACK), CATALOGUE, sink=trail), {"account.id": "a"})
    trail.close()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "audit").rglob("*")}
    assert modes == {"1": 0o700, "00000001.jsonl": 0o600, "roots.jsonl": 0o600, "taken": 0o600}


def test_a_full_queue_slows_the_caller_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "DEPTH", 4)
    trail = Trail(tmp_path / "audit")
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    threads = [threading.Thread(target=lambda: [judge(gate, {"account.id": "a"}) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trail.close()
    ids = [entry["id"] for entry in ledger(tmp_path / "audit")]
    assert len(ids) == len(set(ids)) == 800
    assert trail.spilled > 0


def test_a_disk_that_hangs_is_taken_for_one_that_refuses_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "HANGS", 0.05)
    monkeypatch.setattr(trail_module, "DEPTH", 4)
    answers, write = threading.Event(), os.write

    def hang(file: int, data: bytes) -> int:
        answers.wait()
        return write(file, data)

    trail = Trail(tmp_path / "audit")
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    monkeypatch.setattr(os, "write", hang)
    until = time.monotonic() + 20
    asked = 0
    while not trail.breaker.failing and time.monotonic() < until:
        judge(gate, {"account.id": "a"})
        asked += 1
        time.sleep(0.01)
    assert "has not answered" in str(trail.health()["problem"])
    for _ in range(5):  # far more wait than are written on a caller's time, and the disk still hangs
        judge(gate, {"account.id": "a"})
    assert trail.full
    answers.set()
    trail.flush()
    assert (trail.health()["problem"], trail.breaker.failing) == ("", False)
    trail.close()
    assert len(ledger(tmp_path / "audit")) + trail.health().get("unrecorded", 0) == asked + 5  # type: ignore[operator]


def test_what_finds_no_place_for_too_long_is_counted_and_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses (RLIMIT_FSIZE), and what may be held of records is full."""
    monkeypatch.setattr(trail_module, "HELD", 4_000)
    trail = Trail(tmp_path / "audit")
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        for _ in range(60):
            judge(gate, {"account.id": "a"})
            trail.flush()
        assert trail.full
        found = trail.health()["unrecorded"]
        assert isinstance(found, int) and 0 < found < 60
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    trail.close()
    assert len(ledger(tmp_path / "audit")) == 60 - found
    problems, notes = said(tmp_path / "audit")
    assert (problems, [note.partition(": ")[2] for note in notes]) == (
        [], [f"segment 1: {found} decisions found no place: the disk took nothing for too long"],
    )  # fmt: skip


def test_values_of_a_record_read_back_to_what_they_were() -> None:
    found = []
    gate = Gate(policy(PACK), CATALOGUE, sink=lambda judgement, answer: found.append((judgement, record(judgement, answer))))
    for number in range(5):
        judge(gate, {"account.id": "a", "client.network": f"203.0.{number}.0/24", "account.age": "3d"}, START + number)
    judgement, entry = found[-1]
    entry = json.loads(json.dumps(entry))
    again = recorded_signals(entry, CATALOGUE)
    assert {name: again[name] for name in judgement.view.resolved} == judgement.view.resolved
    assert recorded_measures(entry) == judgement.outcome.decision.measures
    assert AtLeast(3) in recorded_measures(entry).values()


def test_missing_values_keep_their_reason() -> None:
    found = []
    gate = Gate(policy(PACK), CATALOGUE, sink=lambda judgement, answer: found.append(record(judgement, answer)))
    judge(gate, {"client.network": "203.0.113.0/24"})
    assert found[0]["missing"]["account.id"] == "not given"
    assert recorded_measures(found[0]) == {
        "distinct client.network by account.id over 1h up to 3": Missing("no account.id: not given")
    }


def test_stable_leaves_out_ids_and_latencies_only() -> None:
    found = []
    gate = Gate(policy(PACK), CATALOGUE, sink=lambda judgement, answer: found.append(record(judgement, answer)))
    for _ in range(2):
        gate.settle(gate.judge(facts({})), Answer(200, Usage(1, 2), duration=7))
    first, second = found
    assert first["id"] != second["id"]
    assert stable(first) == stable(second)
    assert first.keys() - stable(first).keys() == {"id", "reference", "timing"}


def test_a_listener_that_breaks_does_not_end_the_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(entry: object) -> None:
        raise RuntimeError("broke")

    trail = Trail(tmp_path / "audit", on_record=broken)
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    for _ in range(3):
        judge(gate, {"account.id": "a"})
        trail.flush()
    assert len(ledger(tmp_path / "audit")) == 3
    assert "RuntimeError" in str(trail.health()["problem"])
    trail.close()
    assert "RuntimeError: broke" in caplog.text
