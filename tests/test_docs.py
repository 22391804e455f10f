"""Documentation that is tested: catalogues are complete and true, examples in it load, commands in it exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import __all__, __version__
from gateway.cli import main
from gateway.config import CONFIG_FIELDS
from gateway.decision import Action
from gateway.facts import Cause
from gateway.language.compile import compile_nodes, load
from gateway.language.measures import COUNTS
from gateway.language.operators import OPERATORS
from gateway.language.policy import FAMILIES, Policy
from gateway.registry import load as load_registry
from gateway.replay.cases import load_cases
from gateway.replay.rule_tests import run
from gateway.strict.document import parse

ROOT = Path(__file__).parents[1]
CATALOGUE = load_registry({}).signals
README = (ROOT / "README.md").read_text()
RULES_README = (ROOT / "rules/README.md").read_text()
PLUGINS_README = (ROOT / "plugins/README.md").read_text()
EXAMPLES_README = (ROOT / "examples/README.md").read_text()


def signal_rows() -> list[str]:
    return [
        f"| `{s.name}` | {s.type}{', after' if s.settled else ''} | {s.meaning} | {s.missing} |"
        for s in sorted(CATALOGUE.values(), key=lambda signal: signal.name)
    ]


def operator_rows() -> list[str]:
    return [f"| `{op.name}` | {op.meaning} ({op.operand}) |" for op in OPERATORS.values()]


def strongest(policy: Policy, rule_id: str) -> str:
    rule = policy.rule(rule_id)
    assert rule is not None
    return str(max(effect.action for effect in rule.response.effects))


def rule_rows() -> list[str]:
    policy = load([ROOT / "rules"], CATALOGUE)
    return [f"| `{rule.id}` | {rule.family} | {strongest(policy, rule.id)} | {rule.title} |" for rule in policy.rules]


@pytest.mark.parametrize(
    ("text", "rows"),
    [(PLUGINS_README, signal_rows()), (RULES_README, operator_rows()), (RULES_README, rule_rows())],
    ids=["signals", "operators", "rules"],
)
def test_catalogues_are_complete_and_true(text: str, rows: list[str]) -> None:
    assert "\n".join(rows) in text


@pytest.mark.parametrize(
    "word", [*(str(action) for action in Action if action is not Action.RESTRICT), *COUNTS, "ratio", *FAMILIES]
)
def test_the_language_page_names_everything(word: str) -> None:
    assert re.search(rf"\b{word}\b", RULES_README)


def test_the_example_pack_loads_and_its_tests_pass(tmp_path: Path) -> None:
    pack, cases = re.findall(r"```yaml\n(.*?)```", RULES_README, re.DOTALL)
    node = parse(pack, str(ROOT / "rules/example.yaml"))
    policy = compile_nodes([node], CATALOGUE)
    (tmp_path / "example.test.yaml").write_text(cases)
    results = run(load_cases([tmp_path / "example.test.yaml"], policy, CATALOGUE), policy, CATALOGUE)
    assert results.ran == 1
    assert results.failures == ()


def test_every_setting_and_cause_is_documented() -> None:
    for name in CONFIG_FIELDS:
        assert f"| `{name}` |" in EXAMPLES_README
    for cause in Cause:
        assert str(cause) in EXAMPLES_README or "credential" in cause


def test_every_command_is_in_the_readme_and_exists() -> None:
    for name in main.commands:
        assert f"`sluice {name}" in README
    for name in set(re.findall(r"`sluice ([a-z-]+)", README + RULES_README + PLUGINS_README + EXAMPLES_README)):
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_dependencies_are_explained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["redis"]:
        name = re.split(r"[><=;\[ ]", requirement)[0]
        assert f"`{name}`" in README, name


def test_the_changelog_names_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_public_names() -> None:
    assert __all__ == [
        "Action", "Answer", "ConfigError", "Cost", "Decision", "Facts", "Gate", "Mode", "Outcome", "PolicyError",
        "PolicyMiddleware", "RecordError", "ReplayError", "Signal", "SluiceError", "StateError", "Verdict", "View",
    ]  # fmt: skip


def test_readme_embeds_the_example() -> None:
    assert (ROOT / "examples/embed.py").read_text().count("\n") < 30
    assert 'PolicyMiddleware(site, policy=Path(__file__).parents[1] / "rules")' in (ROOT / "examples/embed.py").read_text()
    assert "PolicyMiddleware(" in README
