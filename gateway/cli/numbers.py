"""Numbers with their nouns, for people."""

from __future__ import annotations


def several(count: int, noun: str) -> str:
    """A count with its noun in the right number.

    >>> several(1, "gap"), several(2_000, "gap")
    ('1 gap', '2,000 gaps')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
