"""Declared workloads: in scope, in time and below the ceiling a rule leaves them alone, and says so; else nothing changes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit.record import record
from gateway.decision import Action, RuleEnd
from gateway.facts import Answer
from gateway.gate import Gate
from gateway.values import SECOND, timestamp_text
from tests.judging import CATALOGUE, START, facts, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.busy
    title: busy
    family: volume
    owner: o
    measures: {requests: {count: true, per: [account.id], window: 1h}}
    when: {requests: {gte: 2}}
    abstain_for: [benchmark, relay]
    then: {action: throttle, limit: 1/minute, per: [account.id]}
    mode: enforce
  - id: p.seen
    title: seen
    family: client
    owner: o
    when: {account.id: {present: true}}
    corroborate: {families: 2, within: 1h, per: [account.id]}
    then: {action: deny}
    mode: enforce
"""
WORKLOADS = """
workloads:
  - id: swe
    kind: %s
    orgs: [acme]
    models: [m1, m2]
    ceiling: 3 requests/hour
    from: %s
    until: 2030-01-01
    owner: o
    evidence: e
"""
SENT = {"account.id": "a", "account.org": "acme", "request.model": "m1"}


def ends(
    sent: list[dict[str, Any]],
    kind: str = "benchmark",
    begins: str = "2020-01-01",
    until: str = "2030-01-01",
    ceiling: int = 3,
) -> list[RuleEnd]:
    """How p.busy ended on each exchange."""
    written = (WORKLOADS % (kind, begins)).replace("2030-01-01", until).replace("3 requests", f"{ceiling} requests")
    gate = Gate(policy(PACK, written), CATALOGUE)
    found = []
    for place, values in enumerate(sent):
        judgement = gate.judge(facts(values, START + place * SECOND))
        gate.settle(judgement, Answer(200))
        found.append(next((end for end in judgement.outcome.decision.ends if end.rule == "p.busy"), None))
    return found  # type: ignore[return-value]


def test_a_rule_abstains_for_a_workload_and_says_for_which() -> None:
    second = ends([SENT] * 2)[1]
    assert (second.abstained, second.action, second.would, str(second.verdict)) == ("swe", Action.ALLOW, Action.ALLOW, "match")


def test_above_its_ceiling_the_declaration_does_nothing() -> None:
    found = ends([SENT] * 5)
    assert [end.abstained if end else None for end in found] == [None, "swe", "swe", "", ""]


def test_a_ceiling_is_for_all_accounts_of_the_scope_together() -> None:
    sent = [{**SENT, "account.id": name} for name in ("a", "a", "b", "b", "b")]
    assert [end.abstained if end else None for end in ends(sent)] == [None, "swe", None, "", ""]


@pytest.mark.parametrize(
    "values",
    [
        {"account.org": "other"},
        {"request.model": "m3"},
        {"account.org": None},
        {"request.model": None},
    ],
)
def test_outside_its_scope_or_unknown_the_declaration_does_nothing(values: dict[str, Any]) -> None:
    sent = {name: value for name, value in {**SENT, **values}.items() if value is not None}
    assert ends([sent] * 2)[1].abstained == ""


def test_a_rule_abstains_only_for_the_kinds_it_names() -> None:
    assert ends([SENT] * 2, kind="batch")[1].abstained == ""
    assert ends([SENT] * 2, kind="relay")[1].abstained == "swe"


def test_before_it_begins_and_from_its_end_on_the_declaration_does_nothing() -> None:
    assert ends([SENT] * 2, begins="2029-01-01")[1].abstained == ""
    begins, until = timestamp_text(START + 2 * SECOND), timestamp_text(START + 3 * SECOND)
    found = ends([SENT] * 4, begins=begins, until=until, ceiling=9)
    assert [end.abstained if end else None for end in found] == [None, "", "swe", ""]


def test_an_abstained_match_does_not_corroborate() -> None:
    gate = Gate(policy(PACK, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    actions = []
    for place in range(5):
        judgement = gate.judge(facts(SENT, START + place * SECOND))
        gate.settle(judgement, Answer(200))
        actions.append(judgement.outcome.decision.action)
    assert actions == [Action.OBSERVE] * 3 + [Action.DENY] * 2


def test_the_record_says_which_workload_and_holds_what_was_counted() -> None:
    gate = Gate(policy(PACK, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    for place in range(2):
        judgement = gate.judge(facts(SENT, START + place * SECOND))
    entry = record(judgement, Answer(200))
    assert [end.get("abstained") for end in entry["rules"] if end["id"] == "p.busy"] == ["swe"]
    counted = [label for label in entry["measures"] if label.startswith("count over 1h where")]
    assert [entry["measures"][label] for label in counted] == [2]


def test_a_policy_whose_rules_do_not_abstain_counts_nothing_for_workloads() -> None:
    plain = PACK.replace("    abstain_for: [benchmark, relay]\n", "")
    gate = Gate(policy(plain, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    judgement = gate.judge(facts(SENT))
    assert not any(label.startswith("count over") for label in judgement.evaluated.values)


def test_workloads_are_part_of_the_digest_but_their_order_and_owner_are_not() -> None:
    one = WORKLOADS % ("benchmark", "2020-01-01")
    two = (WORKLOADS % ("relay", "2020-01-01")).replace("swe", "other")
    both = policy(PACK, one, two).digest
    assert both == policy(PACK, two, one).digest == policy(PACK, one.replace("owner: o", "owner: somebody"), two).digest
    assert both != policy(PACK, one).digest != policy(PACK).digest
