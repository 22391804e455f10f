"""The views of a text that operators compare: as it is, or normalised so that disguises of the same text are equal.

Normalised means, in this order: cut to `LONGEST` characters, everything invisible dropped, NFKC (both in `gateway/unicode.py`,
linear in the length), case folded, and every character replaced by the one that stands for all it can be confused with (after
the skeletons of Unicode Technical Standard 39, without its pairs such as «rn» for «m»): an ASCII lower-case letter where there
is one, else an ASCII digit or sign. Marks are not replaced. What is recorded is always the raw text.

Of ASCII that replaces three characters: `1` and `|` become `l`, and the backtick an apostrophe. Regular expressions are
written in these very characters (`[0-9]`, `\\d`, `a|b`), so a pattern looks at the text in which they stay: `Look.FOLDED`.

A text that was cut is known in part only: `Leaf.test` says what follows from that. What is remembered between calls is bounded
in bytes, because one character can become eighteen.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from gateway.unicode import composed, is_mark

LONGEST: Final = 100_000
UNICODE: Final = f"view 1, Unicode {unicodedata.unidata_version}"  # part of the digest of policies that look at this view
REMEMBERED: Final = 4 * 1024 * 1024
_ENTRY: Final = 300  # bytes that an entry takes besides its texts


class TextView(StrEnum):
    """What of a text is compared, as a rule names it."""

    RAW = "raw"
    NORMALISED = "normalised"


class Look(StrEnum):
    """The form of a text that an operator looks at: the text, the normalised one, or that one with all ASCII kept apart."""

    RAW = "raw"
    SKELETON = "skeleton"
    FOLDED = "folded"


@dataclass(frozen=True, slots=True)
class Normal:
    """A text in the normalised view. folded: the same with ASCII characters kept apart. whole: nothing was cut off."""

    skeleton: str
    folded: str
    whole: bool


def viewed(value: object, look: Look = Look.SKELETON) -> tuple[object, bool]:
    """A text, or each whole text of a set, as it looks normalised; and whether nothing of it was cut off.

    Raises TypeError for anything else.
    """
    if isinstance(value, str):
        found = normal(value)
        return (found.folded if look is Look.FOLDED else found.skeleton), found.whole
    if isinstance(value, frozenset):
        each = [normal(item) for item in value]
        return frozenset(one.skeleton for one in each if one.whole), all(one.whole for one in each)
    raise TypeError(f"{type(value).__name__} is no text")


def is_cut(value: object) -> bool:
    """Whether the normalised view of a text, or of a text in a set, is of its first part only."""
    if isinstance(value, frozenset):
        return any(map(is_cut, value))
    return isinstance(value, str) and not normal(value).whole


def normalised(text: str) -> str:
    """A text, or the first part of a long one, without its disguises.

    >>> normalised("Ｇ\\u200bＰＴ-4") == normalised("gpt-4")
    True
    """
    return normal(text).skeleton


def whole_skeleton(text: str) -> str | None:
    """A text in the normalised view, or None where that had to be cut."""
    found = normal(text)
    return found.skeleton if found.whole else None


def whole_folded(text: str) -> str | None:
    """A text as patterns look at it in the normalised view, or None where that had to be cut."""
    found = normal(text)
    return found.folded if found.whole else None


WHOLE: Final[dict[Look, Callable[[str], str | None]]] = {Look.SKELETON: whole_skeleton, Look.FOLDED: whole_folded}


def normal(text: str) -> Normal:
    """The normalised view of a text; remembered, because several leaves and exchanges look at the same one."""
    key = text if len(text) <= LONGEST else text[: LONGEST + 1]
    if (found := _KNOWN.found.get(key)) is None:
        found = _normal(key)
        _KNOWN.keep(key, found)
    return found


def _normal(text: str) -> Normal:
    whole = len(text) <= LONGEST
    done = composed(text[:LONGEST])
    if not whole:
        done = _without_last_letter(done)
    folded = composed(done.casefold()).translate(_lookalikes()) if not done.isascii() else done.lower()
    if len(folded) > LONGEST:
        folded, whole = folded[:LONGEST], False
    skeleton = folded.replace("1", "l").replace("|", "l").replace("`", "'")
    return Normal(folded if skeleton == folded else skeleton, folded, whole)


def _without_last_letter(text: str) -> str:
    """A text without its last letter and its marks: what was cut off could have joined them."""
    end = len(text)
    while end and is_mark(text[end - 1]):
        end -= 1
    return text[: max(0, end - 1)]


class Known:
    """What is remembered of texts, at most so many bytes: all is forgotten where one more would be too much."""

    def __init__(self, most: int) -> None:
        self.found: dict[str, Normal] = {}
        self.most, self.bytes = most, 0

    def keep(self, text: str, found: Normal) -> None:
        size = _ENTRY + sys.getsizeof(text) + sys.getsizeof(found.skeleton)
        size += 0 if found.folded is found.skeleton else sys.getsizeof(found.folded)
        if self.bytes + size > self.most:
            self.found.clear()
            self.bytes = 0
        if size <= self.most:
            self.found[text] = found
            self.bytes += size


_KNOWN: Final = Known(REMEMBERED)


@lru_cache(maxsize=1)
def _lookalikes() -> dict[int, str]:
    """Every character outside ASCII that can be confused with others, to the one that stands for all of them."""
    from confusable_homoglyphs.confusables import confusables_data  # reads a large file: only where a rule asks for the view

    first: dict[str, str] = {}

    def root(char: str) -> str:
        while first.setdefault(char, char) != char:
            char = first[char]
        return char

    for char, others in confusables_data.items():
        for other in (other["c"] for other in others if len(char) == len(other["c"]) == 1 and not is_mark(char)):
            one, two = sorted((root(char), root(other)))
            first[two] = one
    classes: dict[str, list[str]] = {}
    for char in sorted(first):
        classes.setdefault(root(char), []).append(char)
    stands = {name: composed(min(same, key=_rank).casefold()) for name, same in classes.items()}
    return {ord(char): stands[root(char)] for char in first if not char.isascii() and stands[root(char)] != char}


def _rank(char: str) -> tuple[bool, bool, bool, bool, str]:
    """Which character stands for its look-alikes: ASCII first, of it small letters, then digits; and what the view leaves."""
    small = char.isascii() and char.islower()
    return not char.isascii(), not small, not char.isdigit(), composed(char.casefold()) != char, char
