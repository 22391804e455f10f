"""The shipped rules: each passes its tests, is hit, is missed by every leaf, is unknown, and says where its lists are from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import bundled_rules
from gateway.decision import Verdict
from gateway.gate import Gate
from gateway.language.compile import load
from gateway.language.conditions import Condition, Leaf, Truth, Values
from gateway.language.lint import lint
from gateway.language.policy import Rule
from gateway.readings import rule_values
from gateway.replay.cases import Case, exchanges, load_cases
from gateway.replay.rule_tests import run
from gateway.values import parse_timestamp
from tests.judging import CATALOGUE

FOLDER = bundled_rules()
POLICY = load([FOLDER], CATALOGUE)
CASES = load_cases(sorted(FOLDER.glob("*.test.yaml")), POLICY, CATALOGUE)


def with_leaf(condition: Condition, leaf: Leaf, truth: Truth, values: Values) -> Truth:
    """What the condition would be if one leaf were otherwise."""
    if condition is leaf:
        return truth
    if isinstance(condition, Leaf):
        return condition.evaluate(values)
    truths = {str(place): with_leaf(part, leaf, truth, values) for place, part in enumerate(condition.parts)}
    stands = tuple(_Given(name) for name in truths)
    return type(condition)(stands).evaluate(truths.__getitem__)  # type: ignore[arg-type]


class _Given:
    """A part of a condition whose truth is known."""

    def __init__(self, name: str) -> None:
        self.name = name

    def evaluate(self, values: Values) -> object:
        return values(self.name)


def missed_by(case: Case, rule: Rule) -> Iterator[str]:
    """The leaves that alone keep the last exchange of a case from matching."""
    gate = Gate(POLICY, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    for facts, answer in exchanges(case, CATALOGUE):
        judgement = gate.judge(facts)
        gate.settle(judgement, answer)
    values = rule_values(rule, judgement.view, judgement.evaluated.values)
    for leaf in rule.when.leaves():
        truth = leaf.evaluate(values)
        if truth is not None and with_leaf(rule.when, leaf, not truth, values) is True:
            yield leaf.id


@pytest.mark.parametrize("pack", sorted(POLICY.packs))
def test_every_pack_passes_its_tests(pack: str) -> None:
    cases = [case for case in CASES if any(rule_id.startswith(f"{pack}.") for rule_id in case.expect)]
    results = run(cases, POLICY, CATALOGUE)
    assert results.ran == len(cases) > 0
    assert [str(failure) for failure in results.failures] == []
    assert [gap for gap in results.uncovered if gap.startswith(f"{pack}.")] == []


@pytest.mark.parametrize("rule", POLICY.rules, ids=lambda rule: rule.id)
def test_every_rule_is_hit_unknown_and_missed_by_each_leaf(rule: Rule) -> None:
    own = [case for case in CASES if rule.id in case.expect and not case.evasion]
    assert {case.expect[rule.id] for case in own} >= {Verdict.MATCH, Verdict.NO_MATCH, Verdict.UNKNOWN}
    missed = {leaf for case in own if case.expect[rule.id] == Verdict.NO_MATCH for leaf in missed_by(case, rule)}
    assert missed == {leaf.id for leaf in rule.when.leaves()}


def test_the_shipped_rules_are_clean() -> None:
    assert [str(problem) for problem in lint(POLICY)] == []
    checked = CliRunner().invoke(main, ["check", str(FOLDER)])
    assert (checked.exit_code, ", 0 findings, " in checked.output) == (0, True)
    tested = CliRunner().invoke(main, ["test", str(FOLDER)])
    assert (tested.exit_code, f"{len(CASES)} cases, {len(CASES)} passed, 0 gaps" in tested.output) == (0, True)


def test_every_list_file_says_where_it_is_from_and_when() -> None:
    files = {Path(found.place.path).name for found in POLICY.lists.values()}
    assert files == {file.name for file in (FOLDER / "data").glob("*.txt")}
    for found in POLICY.lists.values():
        assert found.source
        assert parse_timestamp(found.date) > 0
        assert found.values


def test_every_rule_says_what_it_can_be_mistaken_for_and_what_it_cannot_see() -> None:
    for rule in POLICY.rules:
        assert rule.false_positives, rule.id
        assert rule.evidence, rule.id
        assert rule.id.startswith(f"{rule.pack}.")
