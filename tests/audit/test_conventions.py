"""Names in spans: the conventions' own, as far as they have them, and documented where operators look."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import opentelemetry.semconv._incubating.attributes as published
import pytest

from gateway.audit.conventions import CALL, CLIENT, CONTENT, EVIDENCE, POLICY, RULE, SERVER
from gateway.audit.otlp import CUT

TABLES = {"SERVER": SERVER, "policy": POLICY, "CLIENT": (*CALL, *CONTENT, *CLIENT), "event": RULE}
README = (Path(__file__).parents[2] / "examples/README.md").read_text()
NEWER = {"gen_ai.request.reasoning.level"}  # of the gen_ai conventions' own repository, after what this package knows
NAMES = sorted({one.name for table in TABLES.values() for one in table})


def known() -> dict[str, str]:
    """Every attribute that the conventions' package knows, and what it says of it."""
    found = {}
    for module in pkgutil.iter_modules(published.__path__):
        file = Path(str(importlib.import_module(f"{published.__name__}.{module.name}").__file__)).read_text()
        found |= dict(re.findall(r'^[A-Z_]+: Final = "([a-z_.0-9]+)"\n"""\n(.*?)"""', file, re.DOTALL | re.MULTILINE))
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("sluice.")])
def test_a_name_without_our_prefix_is_the_conventions(name: str) -> None:
    said = known()
    assert name in said or name in NEWER
    moved = name.startswith("gen_ai.") and "Moved to the" in said.get(name, "Moved to the")
    stable = "Deprecated in favor of stable" in said.get(name, "")  # of this module only: the name has become a settled one
    assert moved or stable or "Deprecated" not in said[name], said[name]


def rows() -> list[str]:
    return [f"| `{one.name}` | {span} | {one.meaning} |" for span, table in TABLES.items() for one in table]


def test_every_attribute_is_documented() -> None:
    assert "\n".join(rows()) in README
    for name in (f"{EVIDENCE}…", CUT, "security_rule.match", "sluice.judge"):
        assert f"`{name}`" in README


def test_no_attribute_stands_twice() -> None:
    for table in TABLES.values():
        assert len({one.name for one in table}) == len(table)
