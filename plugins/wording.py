"""Texts of prompts made comparable: what is invisible dropped, what varies by nature masked, what frames kept.

Everything here is linear in the length of a text, and of a long one only its first three quarters and its last quarter are
looked at, up to a stated number of characters. Nothing leaves but hashes: `plugins.prompt` sees to that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gateway.unicode import composed

LONGEST: Final = 8_192
MOST: Final = 65_536
FIRST_WORDS: Final = 8
LAST_WORDS: Final = 6
OPENING_WORDS: Final = 16
MOST_HEADINGS: Final = 24
LONGEST_HEADING: Final = 80
EDGE: Final = 240
WORDS_AT_AN_EDGE: Final = EDGE // 2

_QUOTED: Final = re.compile(r"```.*?```|\"[^\"\n]{0,400}\"|'(?<!\w')[^'\n]{2,400}'(?!\w)", re.DOTALL)
_IDENTIFIER: Final = re.compile(r"[\w-]{12,}")
_NUMBER: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_DIGIT: Final = re.compile(r"\d")
_SPACE: Final = re.compile(r"[^\S\n]+")
_BLANKS: Final = ("  ", "\t", "\r", "\f", "\v", "\xa0")


@lru_cache(maxsize=8)  # several signals of one exchange look at the same text
def normalised(text: str) -> str:
    """What is invisible dropped, NFKC, case folded, runs of blanks made one. Linear in the length."""
    text = composed(text).casefold()
    return _SPACE.sub(" ", text) if any(blank in text for blank in _BLANKS) else text


def capped(text: str, most: int = LONGEST) -> str:
    """The first three quarters and the last quarter of a text of more than so many characters."""
    if len(text) <= most:
        return text
    return text[: most * 3 // 4] + "\n" + text[-(most // 4) :]


def wording(text: str) -> bytes:
    """What a text says: normalised as far as that is done, the middle of a longer one as it is."""
    ends = normalised(capped(text, MOST)).encode("utf-8", "replace")
    if len(text) <= MOST:
        return ends
    return ends + b"\0" + text[MOST * 3 // 4 : -(MOST // 4)].encode("utf-8", "replace")


def masked(text: str) -> str:
    """The words of a text with what varies by nature (quotes, code, links, addresses, numbers, identifiers) as `_`."""
    if '"' in text or "'" in text or "```" in text:
        text = _QUOTED.sub("_", text)
    return " ".join([word if word.isalpha() else _masked_word(word) for word in text.split()])


def _masked_word(word: str) -> str:
    if "://" in word or 0 < word.find("@") < len(word) - 1:
        return "_"
    if not _DIGIT.search(word):
        return word
    return _NUMBER.sub("_", _IDENTIFIER.sub(lambda found: "_" if _DIGIT.search(found[0]) else found[0], word))


def skeleton(text: str) -> str:
    """The frame of one message: first words, heading lines in order, last words; volatile parts masked."""
    whole = normalised(capped(text))
    words = masked(_first(whole)).split()[:FIRST_WORDS]
    long = len(whole) > 2 * EDGE or len(whole.split()) > FIRST_WORDS + LAST_WORDS
    ends = masked(_last(whole)).split()[-LAST_WORDS:] if long else []
    return " ".join(words) + "\n" + "\n".join(headings(whole)) + "\n" + " ".join(ends)


def opening(text: str) -> str:
    """The frame of a system text: its first words and heading lines; what is filled in stands behind them."""
    whole = normalised(capped(text))
    words = masked(" ".join(whole.split(None, 2 * OPENING_WORDS)[: 2 * OPENING_WORDS])).split()[:OPENING_WORDS]
    return " ".join(words) + "\n" + "\n".join(headings(whole))


def headings(whole: str) -> list[str]:
    """The first lines of a normalised text that frame rather than fill (`# Title`, `Title:`, `<tag>`), masked."""
    return [masked(line) for line in whole.split("\n") if len(line) > 1 and _is_heading(line)][:MOST_HEADINGS]


def _is_heading(line: str) -> bool:
    line = line.strip()
    return 1 < len(line) <= LONGEST_HEADING and (line[-1] == ":" or line[0] == "#" or (line[0] == "<" and line[-1] == ">"))


def _first(whole: str) -> str:
    return " ".join(whole.split(None, WORDS_AT_AN_EDGE)[:WORDS_AT_AN_EDGE])[:EDGE]


def _last(whole: str) -> str:
    return " ".join(whole.rsplit(None, WORDS_AT_AN_EDGE)[-WORDS_AT_AN_EDGE:])[-EDGE:]
