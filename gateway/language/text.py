"""The views of a text that operators compare: as it is, or normalised so that disguises of the same text are equal.

Normalised means, in this order: cut to `LONGEST` characters, NFKC, format characters (zero-width and the like) stripped, case
folded, and every character replaced by the first of those it can be confused with (after the skeletons of Unicode Technical
Standard 39, without its pairs such as «rn» for «m»). What is recorded is always the raw text. Normalising can make two honest
texts equal (`l` and `1` are one), so it is never the default.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import Final

LONGEST: Final = 100_000
_CACHED: Final = 1_000
UNICODE: Final = unicodedata.unidata_version


class TextView(StrEnum):
    """What of a text is compared."""

    RAW = "raw"
    NORMALISED = "normalised"


def viewed(value: object) -> object:
    """A text, or each text of a set, in the normalised view. Raises TypeError for anything else."""
    if isinstance(value, str):
        return normalised(value)
    if isinstance(value, frozenset):
        return frozenset(normalised(item) for item in value)
    raise TypeError(f"{type(value).__name__} is no text")


def normalised(text: str) -> str:
    """A text without its disguises.

    >>> normalised("Ｇ\\u200bＰＴ-4") == normalised("gpt-4")
    True
    """
    return _cached(text) if len(text) <= _CACHED else _normalised(text)


def _normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text[:LONGEST])
    if not folded.isascii():
        folded = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return folded.casefold().translate(_lookalikes())


_cached = lru_cache(maxsize=4_096)(_normalised)


@lru_cache(maxsize=1)
def _lookalikes() -> dict[int, int]:
    """Every character that can be confused with others, to the first of them in code order."""
    from confusable_homoglyphs.confusables import confusables_data  # reads a large file: only where a rule asks for the view

    first: dict[str, str] = {}

    def root(char: str) -> str:
        while first.setdefault(char, char) != char:
            char = first[char]
        return char

    for char, others in confusables_data.items():
        for other in (other["c"] for other in others if len(char) == len(other["c"]) == 1):
            one, two = sorted((root(char), root(other)))
            first[two] = one
    return {ord(char): ord(root(char)) for char in first if root(char) != char}
