"""Explanations: every real record evaluates to itself, and a record in which anything was changed is found out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Action, Mode
from gateway.errors import ReplayError, StateError
from gateway.facts import Answer, Cause
from gateway.failing import Dependency, Fail, FailModes
from gateway.gate import Gate
from gateway.quarantine import PATIENCE
from gateway.replay.scene import Supposed
from gateway.replay.telling import told
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch
from gateway.values import Failed
from tests.judging import CATALOGUE, START, facts, judge, policy
from tests.replay.explaining import entry_of, explained, policy_of, said, sound
from tests.strategies import Plain, Sent, exchanges, judged, packs

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.many
    title: Many requests
    family: volume
    owner: tests
    measures:
      requests: {count: true, per: [account.id], window: 1m}
    when: {id: many, requests: {gte: 2}}
    then: {action: throttle, limit: 1/minute, per: [account.id]}
    mode: enforce
limits:
  - {id: p.plan, per: [account.id], limit: 5/minute, on_missing: refuse, mode: enforce}
"""


class Down(MemoryState):
    """A state that does not answer the batches listed."""

    def __init__(self, silent: set[int]) -> None:
        super().__init__()
        self.silent, self.asked = silent, 0

    def apply(self, batch: Batch) -> Any:
        self.asked += 1
        return StateError("no answer") if self.asked in self.silent else super().apply(batch)


def last(pack: str, count: int, state: MemoryState | None = None, **more: Any) -> tuple[dict[str, Any], Any]:
    """The record of the last of some requests of one account, and its policy."""
    loaded = policy(pack)
    gate = Gate(loaded, CATALOGUE, state=state or MemoryState(), ids=lambda facts: "id", timer=lambda: 0, **more)
    found = [judge(gate, {"account.id": "a"}, START + number) for number in range(count)]
    return entry_of(found[-1]), loaded


@settings(max_examples=60, deadline=None)
@given(
    packs("p", modes=[Mode.ENFORCE, Mode.SHADOW, Mode.OFF], broken=True),
    exchanges(),
    st.sampled_from([Mode.ENFORCE, Mode.SHADOW]),
)
def test_every_record_of_the_engine_is_explained_by_itself(pack: Plain, sent: list[Sent], mode: Mode) -> None:
    """Also the outcome, the limits looked at and the measures agree, whatever matched, lacked values or broke."""
    loaded = policy_of([pack])
    for judgement in judged([pack], sound(sent), mode):
        explanation = explained(entry_of(judgement), loaded)
        assert explanation.same_policy
        assert explanation.decision == judgement.outcome.decision
        assert explanation.now.enforced.refusal == judgement.outcome.refusal
        tree = told(explanation)
        assert [rule["id"] for rule in sorted(tree["rules"], key=lambda rule: rule["id"])] == [
            end.rule for end in judgement.outcome.decision.ends
        ]
        assert said(explanation)


@pytest.mark.parametrize(("fail", "action"), [(Fail.OPEN, Action.ALLOW), (Fail.CLOSED, Action.DENY)])
def test_records_of_a_state_that_was_down(fail: Fail, action: Action) -> None:
    entry, loaded = last(PACK, 1, Down({1}), fail=FailModes(dependencies={Dependency.STATE: fail}))
    assert entry["state_error"]
    assert explained(entry, loaded).now.enforced.action is action


def test_a_second_batch_without_an_answer() -> None:
    entry, loaded = last(PACK, 2, Down({3}))
    assert entry["state_error"]
    assert "its limit was not looked at, so it yields: the state did not answer" in said(explained(entry, loaded))


def test_records_of_an_exchange_that_could_not_be_read() -> None:
    loaded = policy(PACK)
    for fail in (FailModes(), FailModes({Cause.BODY_MALFORMED: Fail.OPEN})):
        gate = Gate(loaded, CATALOGUE, fail=fail, ids=lambda facts: "id", timer=lambda: 0)
        judgement = gate.judge(facts({"account.id": "a"}, cause=Cause.BODY_MALFORMED))
        gate.settle(judgement, Answer())
        explanation = explained(entry_of(judgement), loaded)
        assert explanation.now.enforced.refusal == judgement.outcome.refusal
        assert "cause           body-malformed: The request body is not what this endpoint expects" in said(explanation)


def altered(entry: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The record with one thing changed at a time, and a name for it."""
    found = []

    def but(name: str, *path: Any, to: Any) -> None:
        changed = copy.deepcopy(entry)
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to
        found.append((name, changed))

    but("verdict", "rules", 0, "verdict", to="unknown")
    but("action", "rules", 0, "action", to="deny")
    but("would", "rules", 0, "would", to="allow")
    but("no rule", "rules", to=[])
    but("decision", "decision", to={"action": "deny", "by": ["p.many"]})
    but("would decision", "would", to={"action": "allow", "by": []})
    but("measure", "measures", "count by account.id over 1m", to=1)
    but("no measure", "measures", to={})
    but("measure too many", "measures", "count by nobody", to=1)
    but("no limit", "limits", to=[])
    but("room", "limits", 1, "allowed", to=True)
    but("limit", "limits", 1, "id", to="another")
    but("status", "outcome", "status", to=403)
    but("code", "outcome", "code", to="another")
    but("outcome", "outcome", "action", to="allow")
    but("by", "outcome", "by", to=["p.other"])
    but("retry", "outcome", "retry_after", to=1)
    but("tags", "outcome", "tags", to=["t"])
    but("delay", "outcome", "delay_us", to=5)
    but("signal", "signals", "account.id", to=None)
    return found


def test_whatever_is_altered_is_found_out() -> None:
    entry, loaded = last(PACK, 3)
    assert explained(entry, loaded).same_policy
    names = []
    for name, changed in altered(entry):
        if name == "signal":
            changed["missing"]["account.id"] = changed["signals"].pop("account.id") or "gone"
        with pytest.raises(ReplayError, match="the record was altered, or the engine changed"):
            explained(changed, loaded)
        names.append(name)
    assert len(names) == 20


def test_by_another_policy_nothing_is_compared_and_all_is_said() -> None:
    entry, _ = last(PACK, 3)
    other = policy(PACK.replace("gte: 2", "gte: 9"))
    explanation = explained(entry, other)
    assert not explanation.same_policy
    tree = told(explanation)
    assert tree["evaluated_by"]["differing"] == ["p.many"]
    assert tree["evaluated_by"]["decision"] == {"action": "allow", "by": []}
    assert tree["decision"] == {"action": "throttle", "by": ["p.many"]}
    assert said(explanation).startswith("OTHER POLICY: this record was made by sha256:")


def test_a_rule_in_quarantine_is_told_as_it_was() -> None:
    broken = PACK.replace("{id: many, requests: {gte: 2}}", "{all: [{requests: {gte: 2}}, {request.n: {gte: 1}}]}")
    loaded = policy(broken)
    gate = Gate(loaded, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    for number in range(PATIENCE + 2):
        one = facts({"account.id": "a"}, START + number)
        judgement = gate.judge(replace(one, recorded={**(one.recorded or {}), "request.n": Failed("it broke")}))
        gate.settle(judgement, Answer())
    entry = entry_of(judgement)
    assert entry["rules"][0]["error"].startswith("quarantined")
    text = said(explained(entry, loaded))
    assert "p.many  error" in text
    assert "error           quarantined" in text


def test_a_supposition_changes_nothing_but_what_it_says() -> None:
    entry, loaded = last(PACK, 3)
    explanation = explained(entry, loaded)
    before = explanation.decision
    lower = explanation.again(Supposed(measures={"count by account.id over 1m": 1}))
    assert (lower.decision.action, lower.enforced.refusal) == (Action.ALLOW, None)
    assert explanation.again(Supposed()).decision == before == explanation.decision
