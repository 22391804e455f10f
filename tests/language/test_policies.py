"""Files that must not load, or that load and are wrong. Each says on top, comment by comment, exactly what is said of it.

`tests/policies/*.yaml` are packs, folders are several files loaded together, `tests/` holds rule tests and `lint/` packs (or
folders of them) that load: there is one for each judgement, and it triggers that judgement alone, as on the day `TODAY`. A line
`# 7:3: message` speaks of the file it stands in; of another file the line names its path. `difference/` belongs to
`test_difference.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.errors import PolicyError, Problem
from gateway.language.compile import load
from gateway.language.lint import JUDGEMENTS, lint
from gateway.replay.cases import load_cases
from gateway.values import SECOND, parse_timestamp
from tests.judging import CATALOGUE, policy

POLICIES = Path(__file__).parents[1] / "policies"
PACKS = sorted(POLICIES.glob("*.yaml"))
FOLDERS = sorted({file.parent for file in POLICIES.glob("*/a.yaml")})
CASES = sorted(POLICIES.glob("tests/*.yaml"))
LINT = sorted([*POLICIES.glob("lint/*.yaml"), *{file.parent for file in POLICIES.glob("lint/*/a.yaml")}])
TODAY = parse_timestamp("2026-11-23")
TESTED = """
pack: p
version: 1
language: 1
rules:
  - {id: p.country, title: t, family: network, owner: o, when: {client.country: NO}, then: {action: observe}, mode: enforce}
  - {id: p.stream, title: t, family: client, owner: o, when: {request.stream: true}, then: {action: observe}, mode: enforce}
"""


def stated(files: Iterable[Path]) -> list[str]:
    """What the files say on top will be said of them, with paths relative to their folder."""
    found = []
    for file in files:
        for line in file.read_text().splitlines():
            if not line.startswith("#"):
                break
            said = line.removeprefix("# ")
            found.append(said if said.startswith(("data/", "../data/")) else f"{file.name}:{said}")
    return sorted(found)


def parts(path: Path) -> list[Path]:
    """The files of a folder, or the one file."""
    return sorted(path.glob("*.yaml")) if path.is_dir() else [path]


def said(problems: Iterable[Problem], folder: Path) -> list[str]:
    return sorted(str(problem).replace(f"{folder}/", "") for problem in problems)


def by_name(file: Path) -> str:
    return file.stem


@pytest.mark.parametrize("file", PACKS, ids=by_name)
def test_a_bad_pack_says_exactly_what_is_wrong(file: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load([file], CATALOGUE)
    assert said(caught.value.problems, file.parent) == stated([file])


@pytest.mark.parametrize("folder", FOLDERS, ids=by_name)
def test_bad_packs_together_say_exactly_what_is_wrong(folder: Path) -> None:
    files = sorted(folder.glob("*.yaml"))
    with pytest.raises(PolicyError) as caught:
        load([folder], CATALOGUE)
    assert said(caught.value.problems, folder) == stated(files)
    with pytest.raises(PolicyError) as again:
        load(files, CATALOGUE)
    assert str(again.value) == str(caught.value)


@pytest.mark.parametrize("file", CASES, ids=by_name)
def test_bad_rule_tests_say_exactly_what_is_wrong(file: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_cases([file], policy(TESTED), CATALOGUE)
    assert said(caught.value.problems, file.parent) == stated([file])


@pytest.mark.parametrize("file", LINT, ids=by_name)
def test_a_doubtful_pack_is_judged_by_one_judgement(file: Path) -> None:
    found = lint(load([file], CATALOGUE), today=TODAY, catalogue=CATALOGUE)
    assert said(found, file if file.is_dir() else file.parent) == stated(parts(file))
    assert {finding.judgement for finding in found} == {file.stem}


def test_every_judgement_has_a_pack_that_triggers_it() -> None:
    assert {file.stem for file in LINT} == {judgement.name for judgement in JUDGEMENTS}
    assert all(judgement.meaning for judgement in JUDGEMENTS)


def test_without_a_date_nothing_is_judged_by_one() -> None:
    loaded = load([POLICIES / "lint/expired-entries.yaml"], CATALOGUE)
    assert lint(loaded) == []
    stale = load([POLICIES / "lint/stale-lists.yaml"], CATALOGUE)
    assert [finding.place.line for finding in lint(stale)] == [10]


def test_a_workload_whose_time_is_over_is_found(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(TESTED.replace("then:", "abstain_for: [benchmark], then:"))
    (tmp_path / "workloads.yaml").write_text(
        "workloads:\n  - {id: bench, kind: benchmark, orgs: [x], from: 2026-01-01, until: 2026-11-01, owner: o, evidence: e}\n"
    )
    loaded = load([tmp_path], CATALOGUE)
    assert [str(finding) for finding in lint(loaded, today=TODAY)] == [
        f"{tmp_path}/workloads.yaml:2:5: workload 'bench' ended on 2026-11-01; remove it, or ask o to renew it"
    ]
    assert lint(loaded, today=TODAY - 60 * 86_400 * SECOND) == []


def test_a_signal_that_is_never_missing_is_a_good_key() -> None:
    pack = (POLICIES / "lint/keyless-throttles.yaml").read_text().replace("account.id, client.country", "request.size")
    assert lint(policy(pack), catalogue=CATALOGUE) == []
    assert [finding.judgement for finding in lint(policy(pack))] == ["keyless-throttles"]


def test_there_is_a_file_for_every_kind_of_failure() -> None:
    assert len(PACKS) + len(FOLDERS) >= 140
    assert all(stated(parts(file)) for file in [*PACKS, *CASES, *LINT])
    files = [file for file in POLICIES.glob("*/*") if file.is_file() and file.parent.name != "data"]
    assert {file.suffix for file in files} == {".yaml"}


def test_nothing_to_load_is_said(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"holds no pack; name a \.yaml file or a folder that has some"):
        load([tmp_path], CATALOGUE)
    with pytest.raises(PolicyError, match="no path: holds no pack"):
        load([], CATALOGUE)
    with pytest.raises(PolicyError, match="cannot be read: No such file or directory"):
        load([tmp_path / "absent.yaml"], CATALOGUE)


def test_a_file_that_would_be_passed_over_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TESTED)
    (tmp_path / "b.yml").write_text(TESTED)
    with pytest.raises(PolicyError) as caught:
        load([tmp_path], CATALOGUE)
    assert said(caught.value.problems, tmp_path) == ["b.yml: is not read: packs end in .yaml; rename it"]
