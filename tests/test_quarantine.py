"""Rules that keep failing are set aside loudly, tried again, and never decide for others; old policies do not come back."""

from __future__ import annotations

import pytest

from gateway.decision import Action, Mode, RuleEnd, Verdict
from gateway.errors import PolicyError
from gateway.facts import Facts
from gateway.gate import Gate
from gateway.quarantine import PATIENCE, REST, Quarantine
from gateway.values import SECOND, Failed
from tests.judging import CATALOGUE, START, facts, policy

PACK = """
pack: {name}
version: {version}
language: 1
rules:
  - {{id: {name}.size, title: t, family: volume, owner: o, when: {{request.size: {{gte: 5}}}}, mode: enforce,
     then: {{action: tag, tag: big}}}}
  - {{id: {name}.stream, title: t, family: volume, owner: o, when: {{request.stream: true}}, mode: enforce,
     then: {{action: deny}}}}
"""


def pack(version: int = 1, name: str = "p") -> str:
    return PACK.format(version=version, name=name)


def sent(at: int, broken: bool = False, **values: object) -> Facts:
    found = facts({"request.size": 9, **values}, at)
    assert found.recorded is not None
    if broken:
        found = Facts(at=at, recorded={**found.recorded, "request.size": Failed("the disk is gone")})
    return found


def end(judging: Gate, what: Facts) -> RuleEnd | None:
    ends = judging.judge(what).outcome.decision.ends
    return next((end for end in ends if end.rule == "p.size"), None)


def failing(judging: Gate, times: int, at: int = START) -> RuleEnd:
    for _ in range(times):
        found = end(judging, sent(at, broken=True))
    assert found is not None
    return found


def test_a_rule_that_fails_again_and_again_rests_and_says_why() -> None:
    judging = Gate(policy(pack()), CATALOGUE)
    assert failing(judging, PATIENCE).error == "request.size: the disk is gone"
    resting = end(judging, sent(START))
    assert resting == RuleEnd("p.size", Mode.ENFORCE, Verdict.ERROR, error="quarantined: request.size: the disk is gone")
    assert judging.quarantine.health() == {
        "quarantined": {"p.size": {"reason": "request.size: the disk is gone", "until": "2026-11-01T02:27:40.000000Z"}},
        "errors": {"p.size": PATIENCE + 1},
        "problem": "set aside because they keep failing: p.size",
    }


def test_operators_are_told_once_for_each_rest() -> None:
    told: list[str] = []
    judging = Gate(policy(pack()), CATALOGUE, tell=told.append)
    failing(judging, PATIENCE + 50)
    assert told == ["rule p.size is set aside until 2026-11-01T02:27:40.000000Z: request.size: the disk is gone"]
    failing(judging, 5, START + REST)
    assert len(told) == 2


def test_one_that_works_in_between_does_not_rest() -> None:
    judging = Gate(policy(pack()), CATALOGUE)
    for _ in range(3):
        failing(judging, PATIENCE - 1)
        assert str(end(judging, sent(START)).verdict) == "match"  # type: ignore[union-attr]
    assert judging.quarantine.health()["quarantined"] == {}


def test_after_its_rest_it_is_tried_again_and_one_failure_sends_it_back() -> None:
    judging = Gate(policy(pack()), CATALOGUE)
    failing(judging, PATIENCE)
    later = START + REST
    assert failing(judging, 1, later).error == "request.size: the disk is gone"
    assert failing(judging, 1, later + SECOND).error == "quarantined: request.size: the disk is gone"
    works = end(judging, sent(later + REST))
    assert works is not None
    assert works.verdict is Verdict.MATCH
    assert judging.quarantine.health()["quarantined"] == {}


def test_the_other_rules_go_on() -> None:
    judging = Gate(policy(pack()), CATALOGUE)
    failing(judging, PATIENCE + 5)
    assert judging.judge(sent(START, **{"request.stream": True})).outcome.action is Action.DENY


def test_a_new_policy_ends_every_quarantine() -> None:
    judging = Gate(policy(pack()), CATALOGUE)
    failing(judging, PATIENCE + 1)
    judging.use(policy(pack(2)))
    assert str(end(judging, sent(START)).verdict) == "match"  # type: ignore[union-attr]


def test_only_rules_of_the_policy_are_kept_in_mind() -> None:
    quarantine = Quarantine()
    for number in range(10_000):
        quarantine.note([RuleEnd("a", Mode.ENFORCE, Verdict.ERROR, error="x")] if number % 2 else [], START)
    assert quarantine.errors == {"a": 5_000}
    assert quarantine.resting(START) == {}


def test_a_lower_version_is_refused_and_changes_nothing() -> None:
    judging = Gate(policy(pack(3), pack(7, "q")), CATALOGUE)
    before = judging.policy
    with pytest.raises(PolicyError) as caught:
        judging.use(policy(pack(2), pack(6, "q")))
    assert [str(problem) for problem in caught.value.problems] == [
        "pack 'p': version 2 is lower than 3, which is in force; raise it above that;"
        " what was withdrawn comes back under a new version",
        "pack 'q': version 6 is lower than 7, which is in force; raise it above that;"
        " what was withdrawn comes back under a new version",
    ]
    assert judging.policy is before


@pytest.mark.parametrize("packs", [(pack(3),), (pack(4),), (pack(3), pack(1, "q")), (pack(1, "q"),)])
def test_an_equal_or_higher_version_and_packs_that_come_and_go_are_taken(packs: tuple[str, ...]) -> None:
    judging = Gate(policy(pack(3)), CATALOGUE)
    judging.use(policy(*packs))
    assert judging.policy.digest == policy(*packs).digest


def test_counters_survive_a_reload_unless_their_definition_changed() -> None:
    rule = """
pack: c
version: {version}
language: 1
rules:
  - id: c.many
    title: t
    family: volume
    owner: o
    measures: {{n: {{count: true, per: [account.id], window: {window}}}}}
    when: {{n: {{gte: 3}}}}
    then: {{action: tag, tag: many}}
    mode: enforce
limits:
  - {{id: c.l, per: [account.id], limit: 100/minute, on_missing: skip, mode: enforce}}
"""
    judging = Gate(policy(rule.format(version=1, window="1h")), CATALOGUE)
    asked = facts({"account.id": "a"})
    for _ in range(3):
        judging.judge(asked)
    judging.use(policy(rule.format(version=2, window="1h").replace("gte: 3", "gte: 4")))
    outcome = judging.judge(asked).outcome
    assert (outcome.action, outcome.rooms[0].remaining) == (Action.TAG, 96)
    judging.use(policy(rule.format(version=3, window="2h")))
    outcome = judging.judge(asked).outcome
    assert (outcome.action, outcome.rooms[0].remaining) == (Action.ALLOW, 95)
