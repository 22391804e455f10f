"""Near-duplicate templates without any state: `kin`, one word of a frame that two frames share as often as they are alike.

MinHash (Broder 1997) with one hash function over the set of a frame's words: of two frames the same word has the least hash
with probability J, their Jaccard similarity (words in both, over words in either), whatever was changed where. A frame of which
each filling or paraphrase replaces a share e of n words has J = (1 - e) / (1 + e): two such share their kin with probability
.90 at 5 %, .82 at 10 %, .67 at 20 %. Over many requests a stronger statement holds, and rules look at that: the most frequent
kin is a word of the common frame, and its share is at least about 1 - 2e, .90, .80 and .60. Unlike an index of known templates
this needs no memory, cannot be flooded, and a replay finds the same again.

What it costs in error: two unrelated frames share their kin with probability J as well, .02 to .1 for prompts of one language
(they have small words in common; the shortest are left out). A kin thus groups, it does not prove; `prompt.template` is exact.

`prompt.close_kin` stands between the two: its label lines to the letter, and under `CLOSE` hash functions the least word of
what stands around them. Frames with the same labels share it with probability J to that power: .74 at 5 %, .55 at 10 %, .30 at
20 %, and .001 at most for unrelated ones. A text without label lines has none, because nothing says that it is a frame.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import repeat
from typing import Final
from zlib import crc32

SHORTEST: Final = 3
CLOSE: Final = 3
MOST_WORDS: Final = 400
KNOWN_WORDS: Final = 16_384  # a word of a frame has at most 240 characters: 2 MB as a rule, 16 MB at most
_WORDS: Final = re.compile(rf"\S{{{SHORTEST},}}")
_MIX: Final = 0x9E3779B1  # spreads what differs in few bits of a checksum over all of them (Knuth's multiplicative hashing)
_ALL: Final = 0xFFFFFFFF


def kin(frame: str, seed: int) -> str:
    """The word of a masked frame with the least hash under `seed`; of a frame without words of three letters, the frame.

    Of a long frame the first `MOST_WORDS` words are looked at. Linear in their number.
    """
    words: list[str] = [*set(_WORDS.findall(frame if len(frame) < 2 * MOST_WORDS else _begin(frame)))]
    if not words:
        return frame
    hashes = [*map(_hashed, words, repeat(seed))]
    least = min(hashes)
    if hashes.count(least) == 1:
        return words[hashes.index(least)]
    return min(word for word, found in zip(words, hashes, strict=True) if found == least)


def close_kin(frame: str, seed: int) -> str | None:
    """The label lines of a skeleton (`wording.skeleton`), and `CLOSE` kins of its first and last words; None without labels."""
    first, *labels, last = frame.split("\n")
    told = [label for label in labels if label]
    around = f"{first} {last}"
    return "\n".join([*told, *(kin(around, seed + turn) for turn in range(1, CLOSE + 1))]) if told else None


@lru_cache(KNOWN_WORDS)
def _hashed(word: str, seed: int) -> int:
    """The hash of a word, remembered: most words of most frames are of a few thousand."""
    mixed = crc32(word.encode("utf-8", "replace"), seed) * _MIX & _ALL
    return (mixed ^ mixed >> 15) * _MIX & _ALL


def _begin(frame: str) -> str:
    """The first `MOST_WORDS` words of a frame, of any length."""
    return " ".join(frame.split(None, MOST_WORDS)[:MOST_WORDS])
