"""The shipped rules: what they say of themselves, and lists of where they are from.

`.ci/run` checks them, and runs their own tests and mutants.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import bundled_rules
from gateway.decision import Action
from gateway.language.compile import load
from gateway.language.policy import Rule
from gateway.replay.cases import load_tests
from gateway.replay.mutation import sweep
from gateway.replay.rule_tests import run
from gateway.report.bounds import upper_95
from gateway.values import parse_timestamp
from tests.judging import CATALOGUE

FOLDER = bundled_rules()
EXAMPLE = Path(__file__).parents[1] / "examples/minimal"
POLICY = load([FOLDER], CATALOGUE)
FILES = sorted(FOLDER.glob("*.test.yaml"))
TESTS = load_tests(FILES, POLICY, CATALOGUE)


@pytest.mark.parametrize(
    "pack", [FOLDER / "region.yaml", FOLDER / "reseller.yaml", EXAMPLE / "plan.yaml"], ids=lambda p: p.stem
)
def test_no_mutant_of_a_pack_that_stands_alone_survives(pack: Path) -> None:
    """The packs that look to others for corroboration are swept with them, by `sluice test --mutate`, which takes longer."""
    policy = load([pack], CATALOGUE)
    tests = load_tests([pack.with_name(f"{pack.stem}.test.yaml")], policy, CATALOGUE)
    results = run(tests.cases, policy, CATALOGUE)
    assert [str(failure) for failure in results.failures] == []
    found = sweep(tests, results, policy, CATALOGUE)
    assert [mutant.id for mutant in found.survivors] == []
    assert found.clean
    assert found.killed == found.mutants > 15


def test_every_accepted_mutant_has_a_reason_that_says_something() -> None:
    assert [accepted.mutant for accepted in TESTS.accepted] == [
        "frames.shared-extraction: measure fillings: cap 20000 becomes 10000",
        "prompt.template-harvest: measure fillings: cap 20000 becomes 10000",
        "prompt.bulk-generation: measure said: cap 20000 becomes 10000",
    ]
    assert all(len(accepted.reason) > 60 for accepted in TESTS.accepted)


@pytest.mark.parametrize("rule", POLICY.rules, ids=lambda rule: rule.id)
def test_every_rule_declares_what_must_be_shown_before_it_is_enforced(rule: Rule) -> None:
    """What refuses needs the widest evidence, what only looks the least; no gate asks for what its accounts cannot show."""
    assert rule.gate is not None
    strongest = max(effect.action for effect in rule.response.effects)
    bound = 0.0001 if strongest > Action.TAG else 0.001 if strongest is Action.TAG else 0.01
    assert rule.gate.max_upper_95 == bound
    assert upper_95(0, rule.gate.min_benign_accounts) <= bound
    assert rule.gate.min_days >= 7


def test_promoting_a_shipped_rule_on_simulated_traffic_says_what_is_still_needed(tmp_path: Path) -> None:
    traffic = tmp_path / "campus.parquet"
    asked = ("simulate", "N2", "--scale", "100", "--seed", "1", "--out", str(traffic))
    assert CliRunner().invoke(main, asked).exit_code == 0
    told = CliRunner().invoke(main, ["promote", "relations.template-spread", str(traffic), "--policy", str(FOLDER)])
    assert told.exit_code == 1, told.output
    assert "relations.template-spread" in told.stdout
    assert [line for line in told.stdout.splitlines() if line.startswith("still needed")] == [
        "still needed: 2,994 more benign accounts",
        "still needed: 11 more days of benign traffic",
        "still needed: a bound of at most 0.001: 2,989 more benign accounts reach it if none of them is matched",
    ]


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
