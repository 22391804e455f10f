"""The JSON Schemas: they follow the loader's tables, accept what loads, and catch what a table can know to be wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from jsonschema import Draft202012Validator

from gateway.cli import main
from gateway.cli.schema import SCHEMAS
from gateway.decision import Mode
from gateway.errors import LoadError, PolicyError
from gateway.language.compile import compile_nodes
from gateway.language.operators import OPERATORS
from gateway.language.packs import PACK_FIELDS
from gateway.language.plans import LIMIT_FIELDS
from gateway.language.responses import ACTIONS
from gateway.language.rules import RULE_FIELDS
from gateway.language.schema import pack_schema
from gateway.language.workloads import WORKLOAD_FIELDS
from gateway.replay.cases import CASE_FIELDS
from gateway.sections import CONFIG_FIELDS
from gateway.signals import Signal
from gateway.strict.document import parse, read
from gateway.strict.shapes import BEHIND
from gateway.values import INT
from tests import strategies
from tests.judging import CATALOGUE, policy

ROOT = Path(__file__).parents[2]
WRITTEN = {kind: make(CATALOGUE) for kind, make in SCHEMAS.items()}
VALIDATORS = {kind: Draft202012Validator(schema) for kind, schema in WRITTEN.items()}
PACKS = [
    *sorted(ROOT.glob("rules/*.yaml")),
    ROOT / "examples/minimal/plan.yaml",
    *sorted(ROOT.glob("tests/policies/lint/*.yaml")),
]
BAD = [file for file in sorted(ROOT.glob("tests/policies/*.yaml")) if "is not YAML" not in file.read_text()]
TABLES_KNOW = (
    r"unknown key|unknown signal '|unknown operator|unknown action|must be a (mapping|list)|must be a single value|is not text|"
    r"is not a slug|is none of|a (pack|rule|limit) needs '|is not true or false|cannot follow|"
    r"is not a whole number (from|of \d)|does not take"
)


def kind_of(file: Path) -> str:
    """Which schema a file is written against."""
    text = file.read_text()
    if file.name.endswith(".test.yaml"):
        return "tests"
    return "workloads" if re.search("^workloads:", text, re.MULTILINE) else "pack"


def wrong(kind: str, text: str) -> list[str]:
    """What the schema says of a text."""
    return [error.message for error in VALIDATORS[kind].iter_errors(parse(text, "file").plain())]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a schema."""
    if isinstance(schema, dict):
        yield schema
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from parts(child)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_one_and_leaves_nothing_open(kind: str) -> None:
    Draft202012Validator.check_schema(WRITTEN[kind])
    for part in parts(WRITTEN[kind]):
        assert BEHIND not in part
        for name, below in part.get("properties", {}).items() if part.get("type") == "object" else ():
            assert part.get("additionalProperties", "allOf" not in part) is not True
            assert isinstance(below, bool) or below.keys() & {"type", "enum", "const", "anyOf", "if", "not", "$ref"}, name


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_command_prints_it(kind: str) -> None:
    printed = CliRunner().invoke(main, ["schema", kind])
    assert (printed.exit_code, json.loads(printed.output)) == (0, json.loads(json.dumps(WRITTEN[kind])))


def test_packs_are_what_is_printed_when_nothing_is_asked_for() -> None:
    assert json.loads(CliRunner().invoke(main, ["schema"]).output)["title"] == WRITTEN["pack"]["title"]


@pytest.mark.parametrize("file", PACKS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_loads_is_accepted(file: Path) -> None:
    assert wrong(kind_of(file), file.read_text()) == []


def test_the_example_configuration_is_accepted() -> None:
    assert wrong("config", (ROOT / "examples/minimal/gateway.yaml").read_text()) == []


@given(strategies.packs("p", modes=list(Mode)))
def test_every_generated_pack_is_accepted(pack: dict[str, Any]) -> None:
    assert policy(strategies.text(pack))
    assert wrong("pack", strategies.text(pack)) == []


def caught(file: Path) -> bool:
    return bool(list(VALIDATORS[kind_of(file)].iter_errors(read(file).plain())))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_what_a_table_knows_to_be_wrong_is_caught(file: Path) -> None:
    try:
        found = caught(file)
    except LoadError:  # it is refused before there is anything to validate
        return
    said = "\n".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    assert found or not re.search(TABLES_KNOW, said)


def test_most_of_the_bad_packs_are_caught() -> None:
    readable = [file for file in BAD if not file.stem.startswith(("yaml-", "bounds-"))]
    assert sum(map(caught, readable)) >= 0.65 * len(readable)


@pytest.mark.parametrize(
    ("kind", "table", "place"),
    [
        ("pack", PACK_FIELDS, ()),
        ("pack", RULE_FIELDS, ("$defs", "rule")),
        ("pack", LIMIT_FIELDS, ("$defs", "limit")),
        ("config", CONFIG_FIELDS, ()),
        ("tests", CASE_FIELDS, ("$defs", "case")),
        ("workloads", WORKLOAD_FIELDS, ("properties", "workloads", "items")),
    ],
    ids=["pack", "rule", "limit", "config", "case", "workload"],
)
def test_keys_and_their_meaning_come_from_the_tables(kind: str, table: Any, place: tuple[str, ...]) -> None:
    found = WRITTEN[kind]
    for step in place:
        found = found[step]
    assert list(found["properties"]) == list(table)
    assert {key: below.get("description", "") for key, below in found["properties"].items() if table[key].doc} == {
        key: spec.doc for key, spec in table.items() if spec.doc
    }
    assert set(found.get("required", ())) == {key for key, spec in table.items() if spec.required}


def test_every_operator_stands_where_it_fits_and_only_there() -> None:
    for signal in CATALOGUE.values():
        name = f"compared-{signal.type}".replace(" ", "-")
        found = WRITTEN["pack"]["$defs"][name]["then"]["properties"].keys() - {"view"}
        assert found == {operator.name for operator in OPERATORS.values() if operator.fits(signal.type)}
    assert set(WRITTEN["pack"]["$defs"]["condition"]["properties"]) == {
        "id", "all", "any", "none", *(signal.name for signal in CATALOGUE.values() if not signal.settled),
    }  # fmt: skip


def test_a_signal_of_a_plugin_is_in_it() -> None:
    mine = Signal("acme.score", INT, "how odd it looks", lambda view: 1)
    schema = pack_schema({**CATALOGUE, mine.name: mine})
    assert schema["$defs"]["condition"]["properties"]["acme.score"]["description"] == "how odd it looks"
    assert "acme.score" in schema["$defs"]["key"]["enum"]


RULE = """
pack: p
version: 1
language: 1
rules:
  - id: p.r
    title: t
    family: network
    owner: o
    measures: {seen: {count: true, per: [account.id], window: 1h}}
    when: {all: [{client.country: NO}, {seen: {gte: 3}}]}
    then: {action: observe}
    mode: enforce
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: t", "titel: t"),
        ("title: t", "title: 5"),
        ("title: t", "title: [t]"),
        ("title: t\n    ", ""),
        ("family: network", "family: nets"),
        ("client.country: NO", "client.contry: NO"),
        ("client.country: NO", "client.country: XX"),
        ("client.country: NO", "client.country: {eqq: NO}"),
        ("client.country: NO", "client.country: {gte: NO}"),
        ("client.country: NO", "client.country: {eq: 5}"),
        ("client.country: NO", "client.country: {}"),
        ("client.country: NO", "response.status: 200"),
        ("client.country: NO", "client.ip: {within: 10.0.0.0/8}"),
        ("client.country: NO", "id: only"),
        ("{gte: 3}", "{gte: many}"),
        ("{gte: 3}", "{contains: 3}"),
        ("{all: [", "{al: ["),
        ("per: [account.id]", "per: [account.identity]"),
        ("per: [account.id]", "per: [response.status]"),
        ("per: [account.id]", "per: []"),
        ("window: 1h", "window: 1 hour"),
        ("window: 1h", "window: 3600"),
        ("count: true", "count: true, sum: request.size"),
        ("count: true", "sum: client.country"),
        ("count: true", "count: false"),
        ("seen: {count", "client.ip: {count"),
        ("action: observe", "action: block"),
        ("action: observe", "action: throttle"),
        ("action: observe", "action: observe, tag: x"),
        ("action: observe", "action: throttle, limit: fast, per: [account.id]"),
        ("action: observe", "action: verify, link: 'javascript:alert(1)'"),
        ("action: observe", 'action: verify, link: "https://example.com/\\r\\nset-cookie: a=b"'),
        ("mode: enforce", "evidence: ['  ']\n    mode: enforce"),
        ("mode: enforce", "public: {code: a, message: ''}\n    mode: enforce"),
        ("mode: enforce", "mode: on"),
        ("language: 1", "language: 2"),
        ("pack: p", "pack: P"),
        ("pack: p", "pack: p\nlist: {}"),
        ("pack: p", "pack: p\nlists: {a: {type: country, values: [ZZ]}}"),
        ("pack: p", "pack: p\nlists: {a: {type: colour, values: [red]}}"),
        ("pack: p", "pack: p\nlists: {A: {type: int, values: [1]}}"),
    ],
)  # fmt: skip
def test_a_slip_is_caught_by_the_schema_as_by_the_loader(old: str, new: str) -> None:
    assert wrong("pack", RULE) == []
    assert policy(RULE)
    broken = RULE.replace(old, new, 1)
    assert broken != RULE
    assert wrong("pack", broken) != []
    with pytest.raises(PolicyError):
        compile_nodes([parse(broken, "file")], CATALOGUE)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_told_what_it_needs(action: str) -> None:
    said = wrong("pack", RULE.replace("action: observe", f"action: {action}, colour: red"))
    assert any("'colour' was unexpected" in message for message in said)
