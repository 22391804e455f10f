"""Documentation that is tested: catalogues are complete and true, examples in it load, commands in it exist."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from gateway import __all__, __version__
from gateway.cli import MODULES, main
from gateway.cli.check import COMPARED, JUDGED
from gateway.cli.schema import SCHEMAS
from gateway.facts import Cause
from gateway.language.compile import MAX_COMPARISONS, MAX_RULES, MAX_TOTAL, compile_nodes, load
from gateway.language.conditions import GROUPS
from gateway.language.difference import KINDS as KINDS_OF_CHANGE
from gateway.language.difference import STEPS, Kind, Step
from gateway.language.exemptions import ENTRY_FIELDS
from gateway.language.lists import LIST_FIELDS, MAX_LIST_BYTES
from gateway.language.measures import COUNTS, MEASURE_FIELDS
from gateway.language.operators import MAX_PATTERN, OPERATORS
from gateway.language.plans import LIMIT_FIELDS, PRICE_FIELDS
from gateway.language.policy import FAMILIES, KINDS, Policy
from gateway.language.reader import MAX_LEAVES
from gateway.language.responses import ACTIONS, EFFECT_FIELDS, TAKES
from gateway.language.rules import CORROBORATE_FIELDS, GATE_FIELDS, MEASURED_FIELDS, RULE_FIELDS
from gateway.language.schema import VALUES
from gateway.language.text import TextView
from gateway.language.workloads import WORKLOAD_FIELDS
from gateway.registry import load as load_registry
from gateway.replay.cases import CASE_FIELDS, FILE_FIELDS, load_tests
from gateway.replay.expectations import EXPECT_FIELDS
from gateway.replay.rule_tests import run
from gateway.replay.scenarios import SCENARIOS
from gateway.replay.traffic import STEP_FIELDS
from gateway.sections import CONFIG_FIELDS
from gateway.state.operations import Unit
from gateway.strict.document import MAX_BYTES, MAX_DEPTH, MAX_KEY, MAX_NODES, MAX_TEXT, parse
from gateway.strict.shapes import MAX_PROBLEMS, Field
from gateway.values import TYPES

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
    return [
        f"| `{rule.id}` | {rule.family} | {rule.mode} | {strongest(policy, rule.id)} | {rule.title} |" for rule in policy.rules
    ]


def type_rows() -> list[str]:
    return [f"| `{kind.name}` | {VALUES[kind]['description']} |" for kind in TYPES.values()]


def group_rows() -> list[str]:
    return [f"| `{word}` | {lowered(group.__doc__)} |" for word, group in GROUPS.items()]


def field_rows(fields: Mapping[str, Field], only: Iterable[str] | None = None) -> list[str]:
    """One row a key: what it means, and whether it must be there."""
    kept = list(fields) if only is None else only
    return [f"| `{key}` | {fields[key].doc}{'; required' if fields[key].required else ''} |" for key in kept]


def measure_rows() -> list[str]:
    kinds = [*COUNTS, "ratio"]
    return field_rows(MEASURE_FIELDS, [*kinds, *(key for key in MEASURE_FIELDS if key not in kinds)])


def action_rows() -> list[str]:
    """Actions, weakest first, with the keys they take; what each does stands in the text and is checked to be there."""
    return [
        f"| `{action}` | {', '.join(f'`{key}`' for key in sorted(TAKES.get(action, ()))) or 'nothing'} |" for action in ACTIONS
    ]


def unit_rows() -> list[str]:
    examples = re.findall(r"\d+ ([a-z ]+)(?:/\w+)?", LIMIT_FIELDS["limit"].doc)
    assert set(examples) == set(map(str, Unit))
    written = re.findall(r"\d+ [a-z ]+(?:/\w+)?", LIMIT_FIELDS["limit"].doc)
    return [f"| {unit} | `{text}` |" for unit, text in zip(examples, written, strict=True)]


def scenario_rows() -> list[str]:
    """Scenarios: the first sentence of each, and its parameters."""
    return [
        f"| `{name}` | {(scenario.make.__doc__ or '').splitlines()[0]} | {', '.join(f'`{key}`' for key in scenario.fields)} |"
        for name, scenario in SCENARIOS.items()
    ]


def judgement_rows() -> list[str]:
    """Everything that `sluice check` may say, with or without `--against`."""
    return [f"| `{name}` | {one.severity} | {' '.join(one.meaning.split())} |" for name, one in {**JUDGED, **COMPARED}.items()]


def kind_rows() -> list[str]:
    assert set(KINDS_OF_CHANGE) == set(Kind)
    return [f"| {kind} | {meaning} |" for kind, meaning in KINDS_OF_CHANGE.items()]


def step_rows() -> list[str]:
    """Version steps: when they are called for, and what that asks of the whole number that `version` is."""
    assert set(STEPS) == set(Step)
    asks = {True: "must be raised", False: "may stay"}
    return [f"| {step} | {meaning} | {asks[step >= Step.MINOR]} |" for step, meaning in STEPS.items()]


def lowered(text: str | None) -> str:
    """A docstring as part of a table."""
    assert text
    return (text[0].lower() + text[1:]).rstrip(".")


CATALOGUES: dict[str, tuple[str, list[str]]] = {
    "Value types": ("type | is written as", type_rows()),
    "Combinators": ("combinator | is", group_rows()),
    "Operators": ("operator | holds when the value", operator_rows()),
    "Measures": ("key | means", measure_rows()),
    "Keys of an action": ("action | takes", action_rows()),
    "Keys of a response": ("key | means", field_rows(EFFECT_FIELDS)),
    "Keys of a rule": ("key | means", field_rows(RULE_FIELDS)),
    "Keys of a list": ("key | means", field_rows(LIST_FIELDS)),
    "Keys of `corroborate`": ("key | means", field_rows(CORROBORATE_FIELDS)),
    "Keys of `gate`": ("key | means", field_rows(GATE_FIELDS)),
    "Keys of `measured`": ("key | means", field_rows(MEASURED_FIELDS)),
    "Keys of an exception's entry": ("key | means", field_rows(ENTRY_FIELDS)),
    "Keys of a limit": ("key | means", field_rows(LIMIT_FIELDS)),
    "Units of a limit": ("unit | is written as", unit_rows()),
    "Keys of a price": ("key | means", field_rows(PRICE_FIELDS)),
    "Keys of a workload": ("key | means", field_rows(WORKLOAD_FIELDS)),
    "Keys of a test file": ("key | means", field_rows(FILE_FIELDS)),
    "Keys of a case": ("key | means", field_rows(CASE_FIELDS)),
    "Keys of a step": ("key | means", field_rows(STEP_FIELDS)),
    "Words of `expect`": ("word | means", field_rows(EXPECT_FIELDS)),
    "Scenarios": ("scenario | stands for | parameters", scenario_rows()),
    "Judgements": ("judgement | severity | finds", judgement_rows()),
    "Words of `--against`": ("a rule, limit or workload is | when", kind_rows()),
    "Version steps": ("step | when | the pack's `version`", step_rows()),
    "Bundled rules": ("rule | family | mode | at most | finds", rule_rows()),
}


def catalogue(title: str) -> str:
    """One table of the catalogue, as the page must hold it."""
    head, rows = CATALOGUES[title]
    return "\n".join([f"### {title}", "", f"| {head} |", "|" + "---|" * (head.count("|") + 1), *rows, ""])


def test_the_signal_catalogue_is_complete_and_true() -> None:
    assert "\n".join(signal_rows()) in PLUGINS_README


@pytest.mark.parametrize("title", CATALOGUES)
def test_catalogues_are_complete_and_true(title: str) -> None:
    """`python -m tests.test_docs` writes them anew."""
    assert catalogue(title) in RULES_README


@pytest.mark.parametrize("word", [*ACTIONS, *COUNTS, "ratio", *FAMILIES, *KINDS, *map(str, TextView)])
def test_the_language_page_names_everything(word: str) -> None:
    assert re.search(rf"\b{word}\b", RULES_README)


def test_the_language_page_says_what_each_action_does() -> None:
    for action in ACTIONS:
        assert re.search(rf"^\| `{action}` \| (?!nothing|`)\w", RULES_README, re.MULTILINE), action


def test_the_language_page_states_the_bounds() -> None:
    said = " ".join(RULES_README.split())
    numbers = [
        f"{MAX_NODES:,} values",
        f"{MAX_DEPTH} levels",
        f"of {MAX_KEY} and texts of {MAX_TEXT:,}",
        f"{MAX_RULES:,} rules",
    ]
    numbers += [f"{MAX_BYTES // 2**20} MiB", f"{MAX_LIST_BYTES // 2**20} MiB", f"{MAX_TOTAL // 2**20} MiB"]
    numbers += [
        f"{MAX_PATTERN:,} characters",
        f"{MAX_PROBLEMS:,} errors",
        f"{MAX_LEAVES:,} comparisons",
        f"{MAX_COMPARISONS:,} comparisons",
    ]
    assert [number for number in numbers if number not in said] == []


BLOCKS = re.findall(r"```yaml\n(.*?)```", RULES_README, re.DOTALL)


def test_every_block_of_the_language_page_loads_and_its_tests_pass(tmp_path: Path) -> None:
    kinds: dict[str, list[str]] = {"tests": [], "pack": []}
    for block in BLOCKS:
        kinds["tests" if block.startswith("cases:") else "pack"].append(block)
    assert sum(map(len, kinds.values())) == RULES_README.count("```yaml")
    nodes = [parse(block, str(ROOT / f"rules/block{place}.yaml")) for place, block in enumerate(kinds["pack"])]
    policy = compile_nodes(nodes, CATALOGUE)
    assert (len(policy.packs), len(policy.workloads)) == (3, 1)
    files = []
    for place, block in enumerate(kinds["tests"]):
        files.append(tmp_path / f"{place}.test.yaml")
        files[-1].write_text(block)
    results = run(load_tests(files, policy, CATALOGUE).cases, policy, CATALOGUE)
    assert results.ran >= 4
    assert [str(failure) for failure in results.failures] == []
    assert [gap for gap in results.uncovered if gap.startswith("example.")] == []


def test_the_first_pack_and_its_tests_leave_nothing_to_find(tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(next(block for block in BLOCKS if block.startswith("pack: example")))
    (tmp_path / "example.test.yaml").write_text(next(block for block in BLOCKS if block.startswith("cases:")))
    shutil.copytree(ROOT / "rules/data", tmp_path / "data")
    checked = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert (checked.exit_code, ", 0 findings, " in checked.output) == (0, True), checked.output
    assert CliRunner().invoke(main, ["test", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1])
def test_every_block_of_the_language_page_fits_its_schema(block: str) -> None:
    kind = {"cases": "tests", "workloads": "workloads"}.get(block.split(":")[0], "pack")
    found = Draft202012Validator(SCHEMAS[kind](CATALOGUE)).iter_errors(parse(block, "README.md").plain())
    assert [error.message for error in found] == []


def test_every_setting_and_cause_is_documented() -> None:
    for name in CONFIG_FIELDS:
        assert f"| `{name}` |" in EXAMPLES_README
    for cause in Cause:
        assert f"`{cause}`" in EXAMPLES_README


def test_every_command_is_in_the_readme_and_exists() -> None:
    for name in MODULES:
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


def write() -> None:
    """The catalogue of rules/README.md, written anew from the code."""
    file = ROOT / "rules/README.md"
    taught = file.read_text().split("\n## Catalogue\n")[0]
    file.write_text("\n".join([taught, "## Catalogue", "", *map(catalogue, CATALOGUES)]).rstrip() + "\n")


if __name__ == "__main__":
    write()
