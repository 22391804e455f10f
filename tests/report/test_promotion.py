"""`sluice promote`: refused while anything is lacking, which is said; met, and then one word of the pack changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.decision import Mode
from gateway.errors import PolicyError
from gateway.language.compile import load
from gateway.language.rewriting import with_mode
from tests.judging import CATALOGUE, START

PACK = """# kept as it is: é, \ttabs in comments
pack: r
version: 3
language: 1
rules:
  - {id: r.other, title: Other, family: identity, owner: t, when: {request.model: n}, then: {action: deny}, mode: shadow}
  - id: r.watched   # the one
    title: "Watched: 'm'"
    family: identity
    owner: tests
    when: {request.model: m}
    then: {action: deny}
    gate: {max_upper_95: 0.3, min_benign_accounts: 10, min_days: 2}
    mode: "shadow"     # until shown
"""


def capture(account: str, model: str = "other", day: int = 0, label: str | None = "chat") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    entry = {"ts": START // 1_000_000 + day * 86_400, "method": "POST", "path": "/v1/chat/completions", "headers": [],
             "body": body, "account": account}  # fmt: skip
    return json.dumps(entry | ({"label": label} if label else {})) + "\n"


def sluice(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    file = tmp_path / "r.yaml"
    file.write_bytes(PACK.encode())
    return file


def records(folder: Path, honest: int, matched: int = 0, days: int = 2) -> Path:
    file = folder / "records.jsonl"
    rows = [capture(f"a{number}", "m" if number < matched else "other", day) for day in range(days) for number in range(honest)]
    file.write_text("".join([*rows, capture("h", "m", days - 1, "distill"), capture("nobody", "m", days - 1, None)]))
    return file


def test_a_gate_that_is_met(pack: Path, tmp_path: Path) -> None:
    told = sluice("promote", "r.watched", records(tmp_path, 10), "--policy", pack)
    assert told.exit_code == 0, told.output
    assert "r.watched (shadow): its gate is met" in told.stdout
    assert f"{pack}:7:5: write `mode: enforce` in place of `mode: shadow` (or use --write)" in told.stderr
    assert "raise the version of pack r to 4" in told.stderr
    assert pack.read_bytes() == PACK.encode()


def test_what_is_lacking_is_said(pack: Path, tmp_path: Path) -> None:
    told = sluice("promote", "r.watched", records(tmp_path, 6, days=1), "--policy", pack, "--write")
    assert told.exit_code == 1
    assert "still needed: 4 more benign accounts" in told.stdout
    assert "still needed: 1 more days of benign traffic" in told.stdout
    assert "still needed: a bound of at most 0.3: 3 more benign accounts reach it if none of them is matched" in told.stdout
    assert pack.read_bytes() == PACK.encode()


def test_wrong_matches_widen_the_bound(pack: Path, tmp_path: Path) -> None:
    told = sluice("promote", "r.watched", records(tmp_path, 12, matched=2), "--policy", pack, "--format", "json")
    found = json.loads(told.stdout)
    assert (told.exit_code, found["met"], found["benign_accounts"], found["matched"], found["days"]) == (1, False, 12, 2, 2)
    assert found["upper_95"] == pytest.approx(0.4381, abs=1e-4)
    assert found["needed"] == ["a bound of at most 0.3: 7 more benign accounts reach it if none of them is matched"]


def test_write_changes_one_word_and_no_other_byte(pack: Path, tmp_path: Path) -> None:
    pack.chmod(0o640)
    assert sluice("promote", "r.watched", records(tmp_path, 10), "--policy", pack, "--write").exit_code == 0
    assert pack.read_bytes() == PACK.replace('mode: "shadow"', 'mode: "enforce"').encode()
    assert pack.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.glob(".*")] == []
    again = sluice("promote", "r.watched", records(tmp_path, 10), "--policy", pack, "--write")
    assert (again.exit_code, again.stderr.lstrip()) == (0, "r.watched is enforced already\n")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("before", "after"), [("shadow", "enforce"), ("'shadow'", "'enforce'"), ('"off"', '"enforce"'), ("off", "enforce")]
)
def test_any_plain_way_to_write_a_mode_is_changed_in_place(tmp_path: Path, ending: str, before: str, after: str) -> None:
    text = PACK.replace('"shadow"', before).replace("\n", ending)
    file = tmp_path / "r.yaml"
    file.write_bytes(text.encode())
    rule = load([file], CATALOGUE).rule("r.watched")
    assert rule is not None
    assert with_mode(text, rule, Mode.ENFORCE) == PACK.replace('"shadow"', after).replace("\n", ending)


def test_a_mode_that_cannot_be_found_again_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(PACK.replace('"shadow"', '"sh\\x61dow"'))
    rule = load([file], CATALOGUE).rule("r.watched")
    assert rule is not None
    with pytest.raises(PolicyError, match="cannot be changed in place"):
        with_mode(file.read_text(), rule, Mode.ENFORCE)
    with pytest.raises(PolicyError, match="does not stand here any more"):
        with_mode(PACK.replace("r.watched", "r.renamed"), rule, Mode.ENFORCE)


def test_a_rule_that_is_off_is_tried_as_in_shadow(pack: Path, tmp_path: Path) -> None:
    pack.write_text(PACK.replace('"shadow"', '"off"'))
    told = sluice("promote", "r.watched", records(tmp_path, 12, matched=2), "--policy", pack, "--format", "json")
    assert json.loads(told.stdout)["matched"] == 2


def test_labels_of_ones_own(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("account,label\na0,distill\na1,distill\n")
    told = sluice(
        "promote", "r.watched", records(tmp_path, 12, matched=2), "--policy", pack, "--labels", tmp_path / "labels.csv"
    )
    assert told.exit_code == 0, told.output


def test_what_cannot_be_promoted(pack: Path, tmp_path: Path) -> None:
    rows = records(tmp_path, 2)
    unknown = sluice("promote", "r.wached", rows, "--policy", pack)
    assert (unknown.exit_code, "did you mean 'r.watched'?" in unknown.stderr) == (2, True)
    gateless = sluice("promote", "r.other", rows, "--policy", pack)
    assert (gateless.exit_code, "r.other has no gate" in gateless.stderr) == (2, True)
    (tmp_path / "none.jsonl").write_text("")
    assert sluice("promote", "r.watched", tmp_path / "none.jsonl", "--policy", pack).exit_code == 3


def test_without_scipy_it_says_what_to_install(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.special", None)
    told = sluice("promote", "r.watched", records(tmp_path, 2), "--policy", pack)
    assert (told.exit_code, told.stderr) == (
        2,
        "sluice: the bound of a share needs the scipy package; install sluicegate[report]\n",
    )
