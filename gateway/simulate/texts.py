"""What simulated callers say, word for word: frames of `prompts.yaml` filled by number.

Words come from one plain vocabulary in which no word asks for anything, so that all that a prompt asks for is in its frame.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import shake_128
from typing import Final

from gateway.simulate.table import Kind

_PLAIN: Final = (
    "amber anchor apple arch autumn bakery barley basin beacon bicycle birch blanket bottle branch brick bridge brook bucket "
    "button cabin candle canvas carpet castle cedar cellar chalk cherry chimney cliff clock clover cloud coast copper cotton "
    "cradle creek crystal curtain daisy dawn desert dock drift dusk eagle ember fabric feather fence fern ferry field flint "
    "forest fountain frost garden garnet gate glacier glass granite gravel grove hammer harbor hazel heron hill hollow honey "
    "island ivory jacket jasmine kettle ladder lagoon lantern lake leather lemon lilac linen lodge maple marble market meadow "
    "mill mirror mist moss mountain nectar north oak oasis ocean olive orchard otter paddle pebble pepper pier pillow pine "
    "plain planet plaster plum pond poplar port prairie quarry quiet quilt rain raven reed ribbon ridge river robin rope rose "
    "saddle sail salt sand shelf shell shore silver slate snow sparrow spring spruce stable stone storm stream summer sunset "
    "thistle thunder timber tower trail tulip tunnel valley velvet village violet walnut water wheat willow window winter wool"
)
_FRAMING: Final = (
    "carefully thoroughly calmly plainly consider examine arrange prepare gather follow continue complete support improve "
    "material project document system service package module report schedule process outline structure context purpose "
    "before after during within across between toward beneath beside around important useful recent careful practical "
    "technical general central initial further overall working current remaining available several the with from into "
    "according keeping using making having being given known made kept held sorted"
)
WORDS: Final = tuple(_PLAIN.split())
FRAMES: Final = tuple(_FRAMING.split())
_SLOT: Final = re.compile(r"\{(slot|turn|any|opening|closing)(?::(\d+))?\}")
_OPENING, _CLOSING, _EDITED = 12, 7, 0.06
_ANSWER, _RESULT = 35, 30


def words(count: int, *seed: object) -> str:
    """So many words, the same ones for the same seed."""
    drawn = shake_128("\0".join(map(str, seed)).encode()).digest(2 * count)
    return " ".join(WORDS[int.from_bytes(drawn[place : place + 2]) % len(WORDS)] for place in range(0, 2 * count, 2))


@lru_cache(maxsize=4_096)
def frame(kind: str, text: int, paraphrases: int, part: str) -> str:
    """The opening or closing words of a variant. A paraphrase changes one of the first words, and of the others some."""
    variant, paraphrase = divmod(text, paraphrases)
    count = _OPENING if part == "opening" else _CLOSING
    drawn = shake_128(f"{kind} {variant} {part}".encode()).digest(2 * count)
    edits = shake_128(f"{kind} {variant} {paraphrase} {part}".encode()).digest(3 * count)
    found = []
    for place in range(count):
        number = int.from_bytes(drawn[2 * place : 2 * place + 2])
        edited = edits[3 * place] < _EDITED * 256 or (part == "opening" and place == paraphrase % 8)
        if paraphrases > 1 and paraphrase and edited:
            number += 1 + int.from_bytes(edits[3 * place + 1 : 3 * place + 3])
        found.append(FRAMES[number % len(FRAMES)])
    said = " ".join(found)
    return said.capitalize() + "." if part == "opening" else said + "."


def user_text(kind: Kind, text: int, item: int, own: int) -> str:
    """The first message of a conversation. own: a number of this exchange alone."""
    template = kind.user[(text // kind.paraphrases) % len(kind.user)]
    return _filled(template, kind, text, item, own)


def turn_text(kind: Kind, root: int, turn: int) -> str:
    """A later message of the user."""
    return _filled(kind.turn, kind, 0, root, turn)


def answer_text(root: int, turn: int) -> str:
    """An answer of the model, long enough to be told from others."""
    return words(_ANSWER, "answer", root, turn)


def result_text(root: int, turn: int) -> str:
    """What a tool gave back."""
    return words(_RESULT, "result", root, turn)


def _filled(template: str, kind: Kind, text: int, item: int, own: int) -> str:
    place = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal place
        place += 1
        part, count = found[1], int(found[2] or 0)
        if part in ("opening", "closing"):
            return frame(kind.name, text, kind.paraphrases, part)
        seed = item if part == "slot" else f"{item} {own}"
        return words(count, part, place, seed)

    return _SLOT.sub(fill, template)
