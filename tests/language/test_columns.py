"""Which part of the language whole columns can carry is marked, before a fast replay relies on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config import bundled_rules
from gateway.language.compile import load
from gateway.language.operators import OPERATORS
from gateway.language.policy import Rule
from tests.judging import CATALOGUE, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.r
    title: t
    family: volume
    owner: o
    measures:
      asked: {{{measure}, per: [account.id], window: 1h}}
      all_of_it: {{count: true, per: [account.id], window: 1h}}
      share: {{ratio: [asked, all_of_it]}}
    when: {{share: {{gte: 0.5}}}}
    corroborate: {{families: 2, within: 1h, per: [account.id]}}
    then: {{action: throttle, limit: 1/minute, per: [account.id]}}
    mode: enforce
"""


def rule(measure: str) -> Rule:
    return policy(PACK.format(measure=measure)).rules[0]


@pytest.mark.parametrize(
    ("measure", "carried"),
    [
        ("count: true", True),
        ("count: true, where: {request.size: {gte: 5}}", True),
        ("distinct: client.ip", True),
        ("quantile: request.size, rank: 0.5", True),
        ("top_share: request.model", True),
        ("sum: request.size", True),
        ("sum: response.output_tokens", False),
        ("count: true, where: {response.status: {gte: 500}}", False),
    ],
)
def test_what_is_known_at_judge_time_can_be_carried_and_what_the_answer_says_cannot(measure: str, carried: bool) -> None:
    found = rule(measure)
    assert found.columns is carried
    assert found.measures["asked"].columns is found.measures["share"].columns is carried


def test_one_operator_that_cannot_be_carried_is_enough() -> None:
    found = rule("count: true")
    (leaf,) = found.when.leaves()
    odd = replace(leaf, operator=replace(leaf.operator, columns=False))
    assert not replace(found, when=odd).columns


def test_every_operator_and_every_shipped_rule_that_speaks_of_no_answer_can_be_carried_today() -> None:
    assert all(operator.columns for operator in OPERATORS.values())
    rules = load([bundled_rules()], CATALOGUE).rules
    answers = [rule.id for rule in rules if "response." in str([measure.label for measure in rule.measures.values()])]
    assert [rule.id for rule in rules if not rule.columns] == answers
    assert 0 < len(answers) < len(rules) / 4
