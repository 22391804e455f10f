"""The judgements on tests, each by a pack and test file that trigger it alone; the pack says on top exactly what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.language.compile import load
from gateway.replay.coverage import JUDGEMENTS, judge
from tests.judging import CATALOGUE
from tests.language.test_policies import said, stated

FOLDERS = sorted((Path(__file__).parents[1] / "policies/coverage").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_judgement_on_tests_says_exactly_what_is_wrong(folder: Path) -> None:
    pack = folder / "pack.yaml"
    found = judge(load([pack], CATALOGUE), CATALOGUE, [folder / "pack.test.yaml"])
    assert {finding.judgement for finding in found} == {folder.name}
    assert said(found, folder) == stated([pack])


def test_every_judgement_on_tests_has_its_file() -> None:
    assert {folder.name for folder in FOLDERS} == set(JUDGEMENTS)
