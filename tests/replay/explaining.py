"""Explanations in tests: real judgements, recorded, written as JSON, read back and evaluated again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gateway.audit.record import record
from gateway.errors import Place
from gateway.facts import Answer, Usage
from gateway.judgement import Judgement
from gateway.language.policy import Policy
from gateway.registry import load as load_registry
from gateway.replay.explain import Explanation, explain
from gateway.replay.layout import lines
from gateway.replay.sources import Reader
from gateway.replay.telling import told
from gateway.values import Failed
from gateway.web.intake import Intake
from tests.judging import CATALOGUE, policy
from tests.strategies import WORKLOADS, WRONG, Plain, Sent, text

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
READER = Reader(Intake(REGISTRY, b"a key of the tests' own"), CATALOGUE)
ID = "00000000000000000000000000000001"


def entry_of(judgement: Judgement, answer: Answer | None = None) -> dict[str, Any]:
    """The record of a judgement as it comes back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(record(judgement, answer or Answer(200, Usage(1, 2)))))
    return found


def explained(entry: dict[str, Any], by: Policy) -> Explanation:
    """A record explained by a policy, from its text alone."""
    written = json.dumps(entry).encode()
    return explain(READER.exchange(written, Place("records.jsonl", 1, 1)), json.loads(written), by, CATALOGUE)


def said(explanation: Explanation, only: Collection[str] = (), verbose: bool = False) -> str:
    """The operator's view as text."""
    return "\n".join(lines(told(explanation, only), verbose=verbose)) + "\n"


def sound(sent: Sequence[Sent]) -> list[Sent]:
    """Exchanges whose broken values are failures, as the view makes them of what a live provider returns."""
    broken = Failed("gave str, but is int")
    return [
        replace(one, values={name: broken if value == WRONG else value for name, value in one.values.items()}) for one in sent
    ]


def policy_of(written: Iterable[Plain]) -> Policy:
    """The policy by which `tests.strategies.judged` judges."""
    return policy(*map(text, written), text(WORKLOADS))
