"""The normalised view of texts: disguises are undone, nothing else changes, and rules say which view they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PolicyError
from gateway.language.text import LONGEST, normalised, viewed
from tests.judging import policy

PACK = """
pack: p
version: 1
language: 1
lists: {{models: {{type: string, values: [GPT-4, "Claude"]}}}}
rules:
  - {{id: p.r, title: t, family: client, owner: o, when: {{request.model: {test}}}, then: {{action: observe}}, mode: enforce}}
"""
DISGUISES = ["gpt-4", "GPT-4", "ＧＰＴ-4", "g\u200bp\u2060t-4", "gрt-4", "\ufeffGPT‑4", "ɡpt-4"]


@pytest.mark.parametrize("text", DISGUISES)
def test_disguises_of_a_text_are_one(text: str) -> None:
    assert normalised(text) == normalised("gpt-4")


@pytest.mark.parametrize("text", ["gpt-5", "gpt4", "gpt -4", "", "ŋpt-4"])
def test_other_texts_stay_apart(text: str) -> None:
    assert normalised(text) != normalised("gpt-4")


@given(st.text())
def test_normalising_a_second_time_changes_nothing_that_is_compared(text: str) -> None:
    assert normalised(text) == normalised(text)
    assert len(normalised(text * 3)) <= 20 * len(text * 3)


def test_long_texts_are_cut_before_they_are_folded() -> None:
    assert normalised("ﷺ" * (2 * LONGEST)) == normalised("ﷺ" * LONGEST)


def test_a_set_is_viewed_element_by_element_and_other_values_not_at_all() -> None:
    assert viewed(frozenset({"A", "ａ", "b"})) == {"a", "b"}
    with pytest.raises(TypeError):
        viewed(5)


@pytest.mark.parametrize(
    ("test", "raw", "disguised"),
    [
        ("{eq: GPT-4}", False, False),
        ("{eq: GPT-4, view: normalised}", True, True),
        ("{in: '@models', view: normalised}", True, True),
        ("{contains: PT-, view: normalised}", True, True),
        ("{starts_with: gPt, view: normalised}", True, True),
        ("{ends_with: '-4', view: normalised}", True, True),
        ("{matches: '^gpt', view: normalised}", True, True),
        ("{matches: '^gpt'}", True, False),
        ("{not_in: [GPT-4], view: normalised}", False, False),
    ],
)
def test_operators_compare_the_view_that_is_named(test: str, raw: bool, disguised: bool) -> None:
    (leaf,) = policy(PACK.format(test=test)).rules[0].when.leaves()
    assert [leaf.test("gpt-4"), leaf.test("ＧＰT-4")] == [raw, disguised]


def test_a_value_of_another_type_is_unknown_in_any_view() -> None:
    (leaf,) = policy(PACK.format(test="{eq: a, view: normalised}")).rules[0].when.leaves()
    assert leaf.test(5) is None


def test_the_view_is_part_of_the_digest_and_raw_is_the_default() -> None:
    raw, said, other = (
        policy(PACK.format(test=test)).digest for test in ("a", "{eq: a, view: raw}", "{eq: a, view: normalised}")
    )
    assert raw == said != other


def test_a_view_is_said_in_explanations() -> None:
    (leaf,) = policy(PACK.format(test="{contains: 'GPT 4', view: normalised}")).rules[0].when.leaves()
    assert str(leaf) == "request.model normalised contains 'GPT 4'"


def test_errors_name_the_place() -> None:
    with pytest.raises(PolicyError, match=r"pack0\.yaml:7:"):
        policy(PACK.format(test="{eq: a, view: folded}"))
