"""The shipped rules: what they say of themselves, and lists of where they are from.

`.ci/run` checks them, and runs their own tests and mutants.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import bundled_rules
from gateway.language.compile import load
from gateway.replay.cases import load_tests
from gateway.replay.mutation import sweep
from gateway.replay.rule_tests import run
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
        "prompt.template-harvest: measure fillings: cap 20000 becomes 10000",
        "prompt.bulk-generation: measure said: cap 20000 becomes 10000",
    ]
    assert all(len(accepted.reason) > 60 for accepted in TESTS.accepted)


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
