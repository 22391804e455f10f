"""The normalised view of texts: disguises are undone, nothing else changes, and rules say which view they mean."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator

import pytest
from confusable_homoglyphs.confusables import confusables_data
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Place, PolicyError
from gateway.language.conditions import Leaf
from gateway.language.operators import OPERATORS
from gateway.language.text import LONGEST, REMEMBERED, Known, TextView, normal, normalised, viewed
from gateway.values import STRING, set_of
from tests.judging import policy

PACK = """
pack: p
version: 1
language: 1
lists: {{models: {{type: string, values: [GPT-4, "Claude"]}}}}
rules:
  - {{id: p.r, title: t, family: client, owner: o, when: {{request.model: {test}}}, then: {{action: observe}}, mode: enforce}}
"""
DISGUISES = [
    "gpt-4", "GPT-4", "ＧＰＴ-4", "g\u200bp\u2060t-4", "gрt-4", "\ufeffGPT‑4", "ɡpt-4", "g\u034fpt-4", "gp\ufe0ft-4",
    "gpt\u3164-4",     "g\u115f\u1160pt-4", "g\uffa0pt-4", "gp\U000e0100t-4", "gpt-4\U000e0067\U000e007f",
    "gpt-\u180b4", "gpt\u17b4-4", "ᏀᏢᎢ-4",
]  # fmt: skip


@pytest.mark.parametrize("text", DISGUISES)
def test_disguises_of_a_text_are_one(text: str) -> None:
    assert normalised(text) == normalised("gpt-4")


@pytest.mark.parametrize("text", ["gpt-5", "gpt4", "gpt -4", "", "ŋpt-4"])
def test_other_texts_stay_apart(text: str) -> None:
    assert normalised(text) != normalised("gpt-4")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e\u200b\u0301"),
        ("é", "e\u034f\u0301"),
        ("c1aude", "claude"),
        ("c|aude", "CLAUDE"),
        ("ΐ", "Ϊ\u0301"),
        ("it`s", "it's"),
    ],
)
def test_what_stands_between_a_letter_and_its_mark_and_what_looks_alike_is_no_difference(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def some_of_all_characters() -> Iterator[str]:
    """Every character that any step of the view could change."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) not in ("Cn", "Co", "Cs") and not unicodedata.name(char, "").startswith(
            ("CJK U", "HANGUL S")
        ):
            yield char


def test_normalising_a_second_time_changes_nothing_and_no_ascii_letter_or_digit_but_1_is_replaced() -> None:
    for char in some_of_all_characters():
        once = normal(char)
        assert normal(once.skeleton).skeleton == once.skeleton, f"U+{ord(char):04X}"
        assert normal(once.folded).folded == once.folded, f"U+{ord(char):04X}"
        if char.isascii():
            assert once.folded == char.lower()
            assert once.skeleton == {"1": "l", "|": "l", "`": "'"}.get(char, char.lower())


def test_ascii_characters_that_look_alike_are_those_of_the_table() -> None:
    alike = {
        frozenset((char, other["c"])) for char, others in confusables_data.items() for other in others
        if char.isascii() and other["c"].isascii() and len(char) == len(other["c"]) == 1 and not (char + other["c"]).isupper()
    }  # fmt: skip
    # capital letters are none of them: case folding has made them others before look-alikes are replaced
    pairs = {pair for pair in alike if not any("A" <= char <= "Z" for char in pair)}
    assert set().union(*pairs) == set("1l|`'")
    assert all(len({normalised(char) for char in pair}) == 1 for pair in pairs)


@given(st.text(), st.text())
def test_a_text_of_two_is_no_longer_than_the_most_that_a_character_can_become(one: str, two: str) -> None:
    assert len(normalised(one + two)) <= 18 * 3 * len(one + two)


def test_long_texts_are_cut_before_and_after_they_are_folded() -> None:
    found = normal("ﷺ" * LONGEST)
    assert (len(found.skeleton), found.whole) == (LONGEST, False)
    assert normal("a" * LONGEST).whole
    assert not normal("a" * (LONGEST + 1)).whole


def test_a_cut_text_does_not_end_in_a_letter_whose_mark_was_cut_off() -> None:
    cut = normal("x" * (LONGEST - 1) + "e" + "\u0301")
    assert cut.skeleton == "x" * (LONGEST - 1)
    assert normal("x" * (LONGEST - 2) + "e\u0302" + "\u0301").skeleton == "x" * (LONGEST - 2)


PADDING = {"invisible": "\u200b" * LONGEST, "plain": "x" * LONGEST, "growing": "ﷺ" * 9_000}


@pytest.mark.parametrize("padding", PADDING.values(), ids=PADDING)
@pytest.mark.parametrize("word", ["eq", "ne", "in", "not_in", "contains", "starts_with", "ends_with", "matches"])
def test_a_cut_text_is_unknown_where_what_was_cut_off_could_decide(padding: str, word: str) -> None:
    operand = "[gpt]" if word in ("in", "not_in") else "gpt"
    (leaf,) = policy(PACK.format(test=f"{{{word}: {operand}, view: normalised}}")).rules[0].when.leaves()
    assert leaf.test(padding + "gpt") is None
    assert leaf.failure(padding + "gpt") == "", "what was not looked at is missing, not broken"
    assert leaf.test("gpt!" + padding) is (True if word in ("contains", "starts_with", "matches") else None)


@pytest.mark.parametrize("pattern", ["gpt$", "gpt\\\\b", "gpt\\\\B", "gpt\\\\z"])
def test_a_pattern_that_asks_for_the_end_is_not_sure_of_a_cut_text(pattern: str) -> None:
    (leaf,) = policy(PACK.format(test=f'{{matches: "{pattern}", view: normalised}}')).rules[0].when.leaves()
    assert leaf.test("gpt!" + "\u200b" * LONGEST) is None
    assert leaf.test("gpt") is not None


def test_of_a_set_with_a_cut_text_only_what_is_found_in_the_others_is_known() -> None:
    held = frozenset({"ＧＰＴ", "x" * (LONGEST + 1)})
    for word, operand, truth in [
        ("contains", "gpt", True), ("contains", "a", None), ("any_of", frozenset({"gpt", "a"}), True),
        ("any_of", frozenset({"a"}), None), ("all_of", frozenset({"gpt"}), True), ("all_of", frozenset({"gpt", "a"}), None),
    ]:  # fmt: skip
        leaf = Leaf("l", "n", OPERATORS[word], operand, "", set_of(STRING), Place("f"), None, TextView.NORMALISED)
        assert leaf.test(held) is truth, (word, operand)


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    known = Known(REMEMBERED)
    for place in range(400):
        text = f"{place}" + "ﷺ" * 1_000
        known.keep(text, normal(text))
        if place % 50:
            continue
        held = sum(
            sys.getsizeof(one) + sys.getsizeof(two.skeleton) + sys.getsizeof(two.folded) for one, two in known.found.items()
        )
        assert held - sum(sys.getsizeof(two.folded) for two in known.found.values() if two.folded is two.skeleton) <= REMEMBERED
    assert 0 < len(known.found) < 200, "each takes some 38,000 bytes"
    small = Known(1_000)
    small.keep("a" * 2_000, normal("a" * 2_000))
    assert not small.found


def test_a_set_is_viewed_element_by_element_and_other_values_not_at_all() -> None:
    assert viewed(frozenset({"A", "ａ", "b"})) == ({"a", "b"}, True)
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
        ("{matches: '^GPT-[0-9]$', view: normalised}", True, True),
        ("{matches: '^(GPT|Claude)', view: normalised}", True, True),
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


@pytest.mark.parametrize(
    "pattern", ["GPT", "l", "model", "claude-1", r"-\\d$", "[1]", "MODEL-[a-z]+-1", "É", "\\\\x{c9}", "ж|el-cla"]
)
def test_a_pattern_is_found_whatever_case_it_has_and_keeps_ascii_apart(pattern: str) -> None:
    (leaf,) = policy(PACK.format(test=f'{{matches: "{pattern}", view: normalised}}')).rules[0].when.leaves()
    assert leaf.test("É ＧPT mоdel-cla\u200bude-1") is True
    assert leaf.test("none of it") is False


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{eq: GPT, view: normalised}", "{eq: gpt, view: normalised}"),
        ("{in: [GPT, gpt], view: normalised}", "{eq: ｇpt, view: normalised}"),
        ("{in: [a, GPT], view: normalised}", "{in: [gpt, A], view: normalised}"),
        ("{contains: 'GPT 1', view: normalised}", "{contains: 'gpt l', view: normalised}"),
    ],
)
def test_operands_that_differ_in_disguise_alone_have_one_digest(one: str, other: str) -> None:
    assert policy(PACK.format(test=one)).digest == policy(PACK.format(test=other)).digest
    raw = [test.replace("normalised", "raw") for test in (one, other)]
    assert policy(PACK.format(test=raw[0])).digest != policy(PACK.format(test=raw[1])).digest


def test_a_view_is_said_in_explanations() -> None:
    (leaf,) = policy(PACK.format(test="{contains: 'GPT 4', view: normalised}")).rules[0].when.leaves()
    assert str(leaf) == "request.model normalised contains 'GPT 4'"


def test_errors_name_the_place() -> None:
    with pytest.raises(PolicyError, match=r"pack0\.yaml:7:"):
        policy(PACK.format(test="{eq: a, view: folded}"))
