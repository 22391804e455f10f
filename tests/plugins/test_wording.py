"""Short cuts through a text give what the long way gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.plugins import wording

PIECES = [
    "word",
    "don't",
    '"',
    "'",
    "```",
    "42",
    "1.5",
    "id-1234-abcdef",
    "instructions",
    "a@b.c",
    "x://y",
    "(7)",
    "é٣",
    "#",
    ":",
]
TEXTS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", " ", " ", "\n"])), max_size=90).map(
    lambda pieces: "".join(piece + behind for piece, behind in pieces)
)


@given(TEXTS, st.integers(1, 16))
def test_the_words_at_an_edge_are_those_of_the_masked_edge(text: str, most: int) -> None:
    begin, end = (" ".join(part.split()) for part in (text[: 2 * wording.EDGE], text[-2 * wording.EDGE :]))
    first = wording._QUOTED.sub("_", begin[: wording.EDGE]).split()[:most]
    last = wording._QUOTED.sub("_", end[-wording.EDGE :]).split()[-most:]
    assert wording._first(text, most) == " ".join(map(wording._masked_word, first))
    assert wording._last(text, most) == " ".join(map(wording._masked_word, last))


@given(TEXTS)
def test_a_text_is_masked_as_its_words_one_by_one(text: str) -> None:
    assert wording.masked(text) == " ".join(map(wording._masked_word, wording._QUOTED.sub("_", text).split()))


@given(TEXTS)
def test_headings_are_lines_that_frame_masked(text: str) -> None:
    lines = [line.strip() for line in text.split("\n")]
    framing = [line for line in lines if 1 < len(line) <= wording.LONGEST_HEADING and (line[0] == "#" or line[-1] == ":")]
    assert wording.headings(text) == [wording.masked(line) for line in framing][: wording.MOST_HEADINGS]


@given(st.text(st.sampled_from("aB 1é\u0415\u0440ﬁ\u2026\u00a0\t中İ"), max_size=30))
def test_what_is_hashed_is_the_normalised_text(text: str) -> None:
    for whole in (text, text + " plain words" * 24):  # with few letters beyond ASCII, and with many
        assert wording.wording(whole) == wording.normalised(whole).encode()
        assert wording.normalised(whole) == wording._SPACE.sub(" ", wording.folded(whole))
