"""Small helpers to judge exchanges in tests: a pack as text, facts by signal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.compile import compile_nodes
from gateway.language.policy import Policy
from gateway.registry import load as load_registry
from gateway.strict.document import parse
from gateway.values import Missing

CATALOGUE = load_registry({"identity": {"hash_key": b"a key of the tests' own"}}).signals
START = 1_793_500_000_000_000


def policy(*packs: str) -> Policy:
    """The policy of packs written as text."""
    return compile_nodes([parse(text, f"pack{place}.yaml") for place, text in enumerate(packs)], CATALOGUE)


def facts(values: Mapping[str, Any], at: int = START, **more: Any) -> Facts:
    """Facts whose signals are given; every other signal is missing."""
    given = {name: Missing("not given") for name in CATALOGUE} | {
        name: CATALOGUE[name].type.parse(value) for name, value in values.items()
    }
    return Facts(at=at, recorded=given, **more)


def judge(gate: Gate, values: Mapping[str, Any], at: int = START, answer: Answer | None = None) -> Judgement:
    """Judge and settle one exchange."""
    judgement = gate.judge(facts(values, at))
    gate.settle(judgement, answer or Answer())
    return judgement
