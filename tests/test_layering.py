"""The house: imports run one way, the core knows no network, plugins see only the vocabulary, files stay small."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RANKS = [
    {
        "gateway.errors",
        "gateway.values",
        "gateway.facts",
        "gateway.unicode",
        "gateway.addresses",
        "gateway.incidents",
        "gateway.randomness",
        "gateway.breaker",
        "gateway.tally",
    },
    {"gateway.decision", "gateway.strict", "gateway.logs"},
    {"gateway.signals", "gateway.protocol", "gateway.failing", "gateway.halting", "gateway.web.proxied"},
    {"gateway.credentials", "gateway.state", "gateway.registry", "gateway.dependencies", "gateway.jsontext", "gateway.forms"},
    {"gateway.language"},
    {"gateway.language.judgements"},
    {"gateway.language.lint"},
    {"gateway.declarations"},
    {"gateway.readings"},
    {"gateway.counting", "gateway.recalling"},
    {"gateway.evaluation"},
    {"gateway.engine"},
    {"gateway.enforcement", "gateway.judgement", "gateway.quarantine", "gateway.versions"},
    {"gateway.audit", "gateway.literals", "gateway.disclosure", "gateway.returns", "gateway.troubles"},
    {"gateway.asking"},
    {"gateway.sections"},
    {"gateway.gate", "gateway.consistency"},
    {"gateway.web.hearing"},
    {
        "gateway.config",
        "gateway.web.answers",
        "gateway.web.tap",
        "gateway.web.intake",
        "gateway.web.server",
        "gateway.web.gathering",
        "gateway.web.renewing",
    },
    {"gateway.web.exchange"},
    {"gateway.web.door", "gateway.web.wire"},
    {
        "gateway.web.middleware",
        "gateway.web.workers",
        "gateway.web.sockets",
        "gateway.web.balance",
        "gateway.web.link",
        "gateway.web.pool",
        "gateway.web.pools",
        "gateway.web.caller",
        "gateway.web.steps",
    },
    {"gateway.web.heads"},
    {"gateway.web.upstream", "gateway.web.turn", "gateway.web.lane", "gateway.web.service", "gateway.web.reload"},
    {"gateway.clusters"},
    {"gateway.report"},
    {"gateway.replay.exchange", "gateway.replay.foreign.fields"},
    {"gateway.replay.making"},
    {"gateway.replay.foreign"},
    {"gateway.replay", "gateway.web.app", "gateway.web.metering", "gateway.web.stopping"},
    {"gateway.columns", "gateway.simulate", "gateway.admin"},
    {"gateway", "gateway.web"},
    {"gateway.cli"},
    {"gateway.__main__"},
]
CORE = (
    "errors", "values", "facts", "decision", "strict", "signals", "language", "readings", "counting", "evaluation",
    "engine", "recalling", "enforcement", "failing", "breaker", "tally", "dependencies", "troubles", "asking", "declarations",
    "judgement", "gate", "returns", "quarantine", "versions", "unicode",
    "randomness",
)  # fmt: skip
NETWORK = {"aiohttp", "starlette", "uvicorn", "httptools", "geoip2", "maxminddb", "opentelemetry", "redis", "requests", "yarl"}
PLUGIN_IMPORTS = {
    "gateway.facts", "gateway.decision", "gateway.errors", "gateway.values", "gateway.signals", "gateway.protocol",
    "gateway.registry", "gateway.credentials", "gateway.strict", "gateway.plugins", "gateway.unicode", "gateway.addresses",
    "gateway.jsontext", "gateway.forms", "gateway.breaker", "gateway.failing", "gateway.incidents",
}  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for file in ROOT.glob("gateway/**/*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Every module a file imports, and whether it is imported inside a function."""
    tree = ast.parse(file.read_text())
    inner = {id(node) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in inner


def rank(module: str) -> int:
    """The rank of a module, or of the package it lies in."""
    while module:
        for place, names in enumerate(RANKS):
            if module in names:
                return place
        module = module.rpartition(".")[0]
    raise AssertionError("no rank")


def test_every_module_has_a_rank_of_its_own_or_of_its_room() -> None:
    known = {name for names in RANKS for name in names}
    strays = [m for m in modules() if m not in known and m.rpartition(".")[0] in ("gateway", "gateway.web")]
    assert strays == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_downwards(module: str) -> None:
    upward = []
    for target, _ in imports(modules()[module]):
        if target.startswith("gateway") and not target.startswith(("gateway.plugins", "gateway.rules")):
            inside = target == module or target.startswith(module + ".")
            same_room = target.rpartition(".")[0] == module.rpartition(".")[0] != "gateway" or inside
            if rank(target) > rank(module) or (rank(target) == rank(module) and not same_room and target != "gateway"):
                upward.append(target)
    assert upward == [] or module == "gateway"


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.split(".")[1:2] and m.split(".")[1] in CORE))
def test_the_core_knows_no_network(module: str) -> None:
    assert [target for target, _ in imports(modules()[module]) if target.split(".")[0] in NETWORK] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("plugins/**/*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_plugins_see_only_the_vocabulary(file: Path) -> None:
    seen = {target for target, _ in imports(file) if target.startswith("gateway")}
    assert [t for t in seen if not any(t == allowed or t.startswith(allowed + ".") for allowed in PLUGIN_IMPORTS)] == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_plugins_are_reached_by_name_only(module: str) -> None:
    assert [target for target, _ in imports(modules()[module]) if target.startswith("gateway.plugins")] == []


@pytest.mark.parametrize(
    "file", [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("plugins/**/*.py")], ids=lambda f: str(f.relative_to(ROOT))
)
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "each file opens with what lives there"
    assert len(text.splitlines()) <= 300
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
        assert not isinstance(node, ast.Global), "no globals"


def test_the_environment_is_read_in_one_file() -> None:
    readers = [m for m, file in modules().items() if "os.environ" in file.read_text() or "getenv" in file.read_text()]
    assert readers == ["gateway.config"]


def test_every_folder_of_code_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {"gateway": "gateway", "plugins": "gateway.plugins", "rules": "gateway.rules"}
    found = set()
    for top, name in rooms.items():
        for file in (ROOT / top).rglob("__init__.py"):
            found.add(".".join([name, *file.parent.relative_to(ROOT / top).parts]))
    assert set(project["tool"]["setuptools"]["packages"]) == found
