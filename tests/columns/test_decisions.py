"""The policy in column form decides as the event engine does: equal reports and equal audit records, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.columns.dry_run import Asked, dry_run
from gateway.decision import Mode
from gateway.errors import Place
from gateway.facts import Answer, Facts, Usage
from gateway.language.policy import Policy
from gateway.registry import load
from gateway.replay.compact import columns_of, row_of
from gateway.replay.dry_run import dry_run as by_events
from gateway.replay.exchange import Exchange
from gateway.replay.parquet import ROWS, Writer, shape
from gateway.values import SECOND, Failed, Missing
from tests import strategies as world
from tests.judging import CATALOGUE, START, policy

REGISTRY = load({"identity": {"hash_key": b"a key of the tests' own"}})
Sent = world.Sent


def written(sent: Sequence[Sent], file: Path, group: int = ROWS) -> Path:
    """A file of compact records of some exchanges, so many to a row group, each of which has dictionaries of its own."""
    at, rows = START, []
    for number, one in enumerate(sent):
        at += one.after * SECOND
        values = {name: value for name, value in one.values.items() if not isinstance(value, Failed) and value != world.WRONG}
        facts = world.facts(Sent(values, one.after, one.status), at)
        label = ("distill", "product", None)[number % 3]
        rows.append(row_of(Exchange(Place("-"), f"{number:032x}", facts, Answer(one.status, Usage(1, 2)), label), CATALOGUE))
    with Writer(file, shape(columns_of(CATALOGUE), CATALOGUE)) as out:
        out.rows(rows, group)
    return file


def both(in_force: Policy, file: Path, size: int, mode: Mode = Mode.ENFORCE) -> tuple[Any, Any]:
    """What the two engines report."""
    counts, reader = by_events([str(file)], in_force, REGISTRY, mode=mode)
    run = dry_run([str(file)], Asked(in_force, CATALOGUE, mode), size=size)
    return run.counts.as_dict(run.done, 0), counts.as_dict(reader.read, reader.unreadable)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_columns_decide_as_events(data: st.DataObject, tmp_path: Path) -> None:
    modes = (Mode.ENFORCE, Mode.SHADOW)
    packs = [data.draw(world.packs(name, modes)) for name in ("one", "two")]
    in_force = policy(*map(world.text, packs))
    file = written(data.draw(world.exchanges()), tmp_path / "x.parquet", data.draw(st.sampled_from([2, 5, ROWS])))
    ours, theirs = both(in_force, file, data.draw(st.sampled_from([3, 1_000])), data.draw(st.sampled_from(modes)))
    assert json.dumps(ours) == json.dumps(theirs)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_audit_records_are_the_same_bytes(data: st.DataObject, tmp_path: Path) -> None:
    in_force = policy(world.text(data.draw(world.packs("one", (Mode.ENFORCE, Mode.SHADOW)))))
    file, ours, theirs = written(data.draw(world.exchanges()), tmp_path / "x.parquet"), tmp_path / "ours", tmp_path / "theirs"
    by_events([str(file)], in_force, REGISTRY, decisions=theirs)
    dry_run([str(file)], Asked(in_force, CATALOGUE), ours, size=4)
    assert ours.read_bytes() == theirs.read_bytes()


ISSUED = """
pack: own
version: 1
language: 1
rules:
  - id: own.spread
    title: What was issued to one is handed back by another
    family: coordination
    owner: tests
    measures: {owners: {distinct: account.id, per: [prompt.signature], window: 1h}}
    when: {owners: {gte: 2}}
    then: {action: tag, tag: spread}
    mode: enforce


  - id: own.crowded
    title: Much of one that was issued
    family: volume
    owner: tests
    measures: {calls: {count: true, per: [account.id, prompt.signature], window: 8s}}
    when: {calls: {gte: 2}}
    then: {action: deny}
    public: {code: own-crowded, message: "Too often."}
    mode: enforce
"""
_WORDS = st.sampled_from(["one", "two", "three"])
_CALLS = st.tuples(st.sampled_from("ab"), st.none() | _WORDS, st.none() | st.frozensets(_WORDS, max_size=2), st.integers(0, 3))


def issuing(calls: Sequence[tuple[str, str | None, frozenset[str] | None, int]], file: Path) -> Path:
    """Compact records of calls: whose, what they hand back, what their answers issue, how long (s) after the one before."""
    at, rows = START, []
    for number, (account, back, issued, after) in enumerate(calls):
        at += after * SECOND
        facts = Facts(at, recorded={"account.id": account, "prompt.signature": back or Missing("none")})
        answer = Answer(200, recorded={"response.issued": Missing("none") if issued is None else issued})
        rows.append(row_of(Exchange(Place("-"), f"{number:032x}", facts, answer), CATALOGUE))
    with Writer(file, shape(columns_of(CATALOGUE), CATALOGUE)) as out:
        out.rows(rows)
    return file


def test_the_account_that_something_was_issued_to_counts_though_it_never_handed_it_back(tmp_path: Path) -> None:
    file = issuing([("a", None, frozenset({"one"}), 0), ("b", "one", None, 1)], tmp_path / "x.parquet")
    ours, theirs = both(policy(ISSUED), file, 1)
    assert ours["outcomes"]["tag"] == theirs["outcomes"]["tag"] == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(calls=st.lists(_CALLS, min_size=1, max_size=40), size=st.sampled_from([1, 7, 1_000]))
def test_what_answers_issue_counts_as_by_events(calls: list[Any], size: int, tmp_path: Path) -> None:
    """Refused calls have no answers, so what is issued depends on what is decided."""
    file, ours, theirs = issuing(calls, tmp_path / "x.parquet"), tmp_path / "ours", tmp_path / "theirs"
    told = both(policy(ISSUED), file, size)
    assert json.dumps(told[0]) == json.dumps(told[1])
    by_events([str(file)], policy(ISSUED), REGISTRY, decisions=theirs)
    dry_run([str(file)], Asked(policy(ISSUED), CATALOGUE), ours, size=size)
    assert ours.read_bytes() == theirs.read_bytes()
