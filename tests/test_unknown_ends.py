"""How an unknown rule ends is made once for each pattern of missing values, and must be what is found by looking anew."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Verdict
from gateway.engine import Engine
from gateway.language.conditions import lacking
from gateway.language.policy import Policy
from gateway.readings import rule_values
from gateway.values import AtLeast, Failed, Missing
from tests.judging import CATALOGUE, policy
from tests.language import wide

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@SETTINGS
@given(found=wide.policies(), exchanges=st.lists(wide.signals(), min_size=2, max_size=6), data=st.data())
def test_ends_made_once_are_those_made_anew(found: Policy, exchanges: list[dict[str, object]], data: st.DataObject) -> None:
    engine = Engine(found, CATALOGUE)
    for values in exchanges:
        measured = data.draw(st.composite(lambda draw: wide.measured(found, draw))())
        view = wide.view(values)
        for end in engine.rules.ends(view, measured, {}):
            if end.verdict in (Verdict.UNKNOWN, Verdict.ERROR):
                missing, failure = lacking(end.rule.when, rule_values(end.rule, view, measured))
                assert (end.missing, end.error) == (missing, failure)
                assert end.verdict is (Verdict.ERROR if failure else Verdict.UNKNOWN)
                told = end.told or engine.rules.told(end, {}, {})
                assert (told.missing, told.error, told.verdict, told.mode) == (missing, failure, end.verdict, end.mode)


TWO = json.dumps({
    "pack": "t", "version": 1, "language": 1,
    "rules": [{
        "id": "t.r", "title": "t", "family": "network", "owner": "t", "mode": "enforce", "then": {"action": "observe"},
        "when": {"all": [{"request.n": {"gte": 1}}, {"client.country": "NO"}]},
    }],
})  # fmt: skip


@pytest.mark.parametrize(
    ("number", "verdict", "missing", "error"),
    [
        (1, Verdict.UNKNOWN, ("client.country",), ""),
        (Missing("not given"), Verdict.UNKNOWN, ("client.country", "request.n"), ""),
        (Failed("it broke"), Verdict.ERROR, ("client.country", "request.n"), "request.n: it broke"),
        (AtLeast(0), Verdict.UNKNOWN, ("client.country", "request.n"), ""),
        ("x", Verdict.ERROR, ("client.country", "request.n"), "request.n: str is no int"),
    ],
)
def test_each_kind_of_value_ends_as_itself(number: object, verdict: Verdict, missing: tuple[str, ...], error: str) -> None:
    engine = Engine(policy(TWO), CATALOGUE)
    for value in (2, Missing("before"), number, number):
        view = wide.view({"request.n": value})
        (end,) = engine.rules.ends(view, {}, {})
    assert (end.verdict, end.missing, end.error) == (verdict, missing, error)
