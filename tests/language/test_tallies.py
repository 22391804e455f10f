"""The pass over the measures of a policy counts exactly what the walk over them counts, whatever values come."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.counting import Counting
from gateway.facts import Answer
from gateway.language.compile import load
from gateway.language.measures import Measure
from gateway.language.policy import Policy
from gateway.language.tallies import tallied
from gateway.readings import amount_of, key_of
from gateway.signals import View
from gateway.state.operations import Sight
from gateway.values import Failed
from tests.judging import CATALOGUE, policy
from tests.language import wide
from tests.strategies import MEASURES, Plain

SETTINGS = settings(max_examples=100, deadline=None, derandomize=True, database=None)
RULES = Path(__file__).parents[2] / "rules"
KEYS = [
    "account.org",
    "account.plan",
    "request.model",
    "client.ip",
    "request.n",
    "client.asn",
    "account.verified",
    "prompt.turns",
]
KINDS: list[Plain] = [
    {"count": True}, {"distinct": "request.model"}, {"distinct": "request.n"}, {"sum": "request.n"}, {"sum": "account.age"},
    {"top_share": "account.org"}, {"quantile": "request.n", "rank": 0.5}, {"sum": "response.output_tokens"},
]  # fmt: skip


@cache
def shipped() -> tuple[Measure, ...]:
    """The measures of the packs that come with the gateway."""
    return load([RULES], CATALOGUE).measures


class Broken(int):
    """A number of a third party's that cannot be compared."""

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("no order")

    __gt__ = __le__ = __ge__ = __lt__


def _of_signals(condition: Plain) -> bool:
    """Whether a condition speaks of no measure, as filters must."""
    said = json.dumps(condition)
    return not any(f'"{name}"' in said for name in MEASURES)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies whose measures have filters, keys and amounts of every kind, some of them shared."""
    wheres = draw(st.lists(wide.conditions().filter(_of_signals), min_size=1, max_size=3))
    measures: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 6))):
        per = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True))
        where = draw(st.sampled_from([None, *wheres]))
        entry = {**draw(st.sampled_from(KINDS)), "per": per, "window": draw(st.sampled_from(["1h", "1d"]))}
        measures[f"m{number}"] = {**entry, **({"where": where} if where is not None else {})}
    when = {"any": [{name: {"present": True}} for name in measures]}
    rule = {
        "id": "t.r", "title": "t", "severity": "low", "family": "volume", "owner": "t", "measures": measures, "when": when,
        "then": {"action": "observe"}, "mode": "enforce", "false_positives": [{"cause": "a test", "mitigated_by": "nothing"}],
    }  # fmt: skip
    return policy(json.dumps({"pack": "t", "version": 1, "language": 1, "lists": wide.pack([])["lists"], "rules": [rule]}))


def as_said(found: tuple[list[str], list[Sight], dict[str, object]]) -> tuple[dict[str, Sight], dict[str, object]]:
    labels, sights, values = found
    assert len(labels) == len(sights) == len({*labels})
    assert all(type(sight) is Sight and type(sight.key) is tuple for sight in sights)
    return dict(zip(labels, sights, strict=True)), values


@SETTINGS
@given(
    found=policies(),
    values=wide.signals(),
    over=st.booleans(),
    odd=st.sampled_from([None, 7, True, "x", Failed("it broke"), Broken(3)]),
)
def test_the_pass_and_the_walk_agree(found: Policy, values: dict[str, object], over: bool, odd: object) -> None:
    given = values if odd is None else {**values, "request.n": odd}
    counting = Counting(found.measures, CATALOGUE)
    passed, walked = (View(wide.view(given).facts, CATALOGUE) for _ in range(2))
    if over:
        passed, walked = passed.over(Answer(200)), walked.over(Answer(200))
    assert as_said(counting.sights(passed, over)) == as_said(counting.walked(walked, over))
    assert passed.resolved.keys() == walked.resolved.keys(), "a record would hold other signals"


@SETTINGS
@given(values=wide.signals())
def test_the_shipped_measures_go_through_the_pass(values: dict[str, object]) -> None:
    measures = shipped()
    usual = {name: value for name, value in values.items() if not isinstance(value, Failed)}
    run = tallied(measures, False, CATALOGUE, key_of, amount_of)[1]
    assert as_said(run(wide.view(usual))) == as_said(Counting(measures, CATALOGUE).walked(wide.view(usual), over=False))


def test_nothing_of_a_policy_stands_in_the_source() -> None:
    hostile = "'''); import os #"
    where = {"all": [{"request.model": {"eq": hostile}}, {"account.org": {"in": [hostile, "b"]}}]}
    measure = {"count": True, "per": ["account.id"], "window": "1h", "where": where}
    rule = {
        "id": "t.r", "title": "t", "severity": "low", "family": "volume", "owner": "t", "measures": {"m": measure},
        "when": {"m": {"gte": 1}}, "then": {"action": "observe"}, "mode": "enforce",
        "false_positives": [{"cause": "a test", "mitigated_by": "nothing"}],
    }  # fmt: skip
    found = policy(json.dumps({"pack": "t", "version": 1, "language": 1, "rules": [rule]}))
    text, run = tallied(found.measures, False, CATALOGUE, key_of, amount_of)
    assert "import" not in text
    (sight,) = run(wide.view({"request.model": hostile, "account.org": "b", "account.id": "a"}))[1]
    assert (sight.key, sight.value) == (("a",), 1)


def test_measures_that_only_differ_in_a_list_are_not_one() -> None:
    def counted(model: str) -> int | str | None:
        measure = {"count": True, "per": ["account.id"], "window": "1h", "where": {"request.model": "@models"}}
        rule = {
            "id": "t.r", "title": "t", "severity": "low", "family": "volume", "owner": "t", "measures": {"m": measure},
            "when": {"m": {"gte": 1}}, "then": {"action": "observe"}, "mode": "enforce",
            "false_positives": [{"cause": "a test", "mitigated_by": "nothing"}],
        }  # fmt: skip
        pack = {"pack": "t", "version": 1, "language": 1, "rules": [rule]}
        found = policy(json.dumps({**pack, "lists": {"models": {"type": "string", "values": [model]}}}))
        view = wide.view({"request.model": "a", "account.id": "a"})
        return Counting(found.measures, CATALOGUE).sights(view, over=False)[1][0].value

    assert [counted("a"), counted("b"), counted("a")] == [1, None, 1]
