"""Unicode texts of callers, composed in linear time: the one place where such text meets NFKC.

NFKC puts the marks behind a letter into an order by insertion, so n marks in one run cost n² steps. Before it, therefore, come
out, in this order: what cannot be seen (it would hide the runs, and keep a mark from its letter), and the marks of a run
beyond `MOST_MARKS`, as in the Stream-Safe Text Format of Unicode Standard Annex 15, which no writing system comes near.
The tables are plain ranges, and tests hold them against the interpreter's Unicode data.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from unicodedata import combining, normalize

MOST_MARKS: Final = 30

# Default_Ignorable_Code_Point of the Unicode Character Database, DerivedCoreProperties.txt (14.0 to 17.0 agree): 4,174 in all
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# format characters (general category Cf) besides
_FORMAT: Final = (
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
)  # fmt: skip
_UNSEEN: Final = re.compile(f"[{_IGNORABLE}{_FORMAT}]+")
# no marks themselves, but NFKC makes marks of them: with these alone a run could hide from a look at combining classes
_BECOME_MARKS: Final = frozenset("\u0f73\u0f75\u0f81\uff9e\uff9f")
_FIRST_MARK: Final = 0x300
_RARE_MARKS: Final = "\U000101fd-\U0001e94a"  # where all marks of the higher planes are, among others


def composed(text: str) -> str:
    """A text in NFKC, without what cannot be seen and without the marks of a run beyond `MOST_MARKS`."""
    return text if text.isascii() else normalize("NFKC", composable(text))


def composable(text: str) -> str:
    """What of a text is given to NFKC."""
    return text if text.isascii() else _runs().sub(_cut, _UNSEEN.sub("", text))


def is_mark(char: str) -> bool:
    """Whether a character joins the run of marks behind a letter, once it is decomposed."""
    return combining(char) > 0 or char in _BECOME_MARKS


def _cut(found: re.Match[str]) -> str:
    """A stretch of marks, and perhaps of others of the higher planes, without the marks beyond the most of each run."""
    kept, run = [], 0
    for char in found[0]:
        run = run + 1 if is_mark(char) else 0
        if run <= MOST_MARKS:
            kept.append(char)
    return "".join(kept)


@lru_cache(maxsize=1)
def _runs() -> re.Pattern[str]:
    """Every run of too many marks, and stretches that only may hold one.

    The higher planes stand in it as one range, because `re` looks a character of the first plane up in a table, but tries every
    range beyond it in turn: with all of them this takes twenty times as long.
    """
    marks = "".join(char for char in map(chr, range(_FIRST_MARK, 0x10000)) if is_mark(char))
    return re.compile(f"[{marks}{_RARE_MARKS}]{{{MOST_MARKS + 1},}}")
