"""Law 3: order never matters. Rules, files, keys and loading may come in any order; every decision stays what it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.record import record
from gateway.decision import Mode
from gateway.engine import Engine
from gateway.facts import Answer
from gateway.judgement import Judgement
from gateway.language.compile import load
from gateway.signals import View
from gateway.state.memory import MemoryState
from tests.judging import CATALOGUE, START, policy
from tests.strategies import Plain, Sent, exchanges, facts, judged, packs, shuffled, text

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True, database=None)
MODES = (Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW, Mode.OFF)
TWO = st.tuples(packs("p", MODES, broken=True), packs("q", MODES, broken=True))


def records(found: list[Judgement]) -> list[dict[str, Any]]:
    """Everything that is kept of each decision."""
    return [record_of(judgement) for judgement in found]


def record_of(judgement: Judgement) -> dict[str, Any]:
    resolved = judgement.view.resolved  # values of the wrong type have no JSON form, and which were asked for is no decision
    judgement.view.resolved = {}
    entry = record(judgement, Answer())
    judgement.view.resolved = resolved
    return entry | {
        "refusal": judgement.outcome.refusal,
        "headers": judgement.outcome.headers,
        "rooms": judgement.outcome.rooms,
    }


@SETTINGS
@given(data=st.data(), written=TWO, sent=exchanges())
def test_order_of_rules_keys_and_files_changes_no_decision(
    data: st.DataObject, written: tuple[Plain, Plain], sent: Any
) -> None:
    reordered = [data.draw(shuffled(pack)) for pack in data.draw(st.permutations(written))]
    assert records(judged(written, sent)) == records(judged(reordered, sent))


@SETTINGS
@given(data=st.data(), written=TWO, sent=exchanges())
def test_rules_of_one_file_or_of_two_decide_the_same(data: st.DataObject, written: tuple[Plain, Plain], sent: Any) -> None:
    one, two = written
    joined = {**one, "rules": one["rules"] + two["rules"], "limits": one["limits"] + two["limits"]}
    apart, together = judged(written, sent), judged([joined], sent)
    for before, after in zip(apart, together, strict=True):
        assert before.outcome.decision == after.outcome.decision
        assert (before.outcome.refusal, before.outcome.headers) == (after.outcome.refusal, after.outcome.headers)


@SETTINGS
@given(data=st.data(), written=TWO, sent=exchanges())
def test_order_of_rules_parts_and_files_changes_nothing_of_what_is_resolved(
    data: st.DataObject, written: tuple[Plain, Plain], sent: Any
) -> None:
    """What a record holds is what the policy needed, not what the order of its parts happened to ask for first."""
    reordered = [data.draw(shuffled(pack)) for pack in data.draw(st.permutations(written))]
    assert resolved(written, sent) == resolved(reordered, sent)


def resolved(written: Sequence[Plain], sent: Sequence[Sent]) -> list[frozenset[str]]:
    """The signals that each exchange had resolved when it was judged, without any that were resolved before."""
    found = []
    engine = Engine(policy(*map(text, written)), CATALOGUE)
    for one in sent:
        held = facts(one, START)
        view = View(held, CATALOGUE)
        prepared = engine.prepare(view)
        engine.evaluate(view, prepared, MemoryState().apply(prepared.batch))
        found.append(frozenset(view.resolved))
    return found


@settings(SETTINGS, max_examples=20)
@given(written=TWO)
def test_order_of_loading_changes_no_digest(written: tuple[Plain, Plain], tmp_path_factory: Any) -> None:
    folder: Path = tmp_path_factory.mktemp("packs")
    files = [folder / "a.yaml", folder / "b.yaml"]
    for file, pack in zip(files, written, strict=True):
        file.write_text(text(pack))
    digests = {load(paths, CATALOGUE).digest for paths in (files, files[::-1], [folder], [folder, *files])}
    assert digests == {policy(*map(text, written)).digest}
