"""Operands as the normalised view of texts has them, and refused where that view could never hold what they ask for."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.language.operators import Operand, Operator, pattern
from gateway.language.text import normal
from gateway.unicode import composed

_CHARACTERS: Final = re.compile(r"\\(?:x\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2})|([0-7]{3})|.)|([^\x00-\x7f])", re.DOTALL)
_OWN_CASE: Final = re.compile(r"\(\?[A-Za-z]*-[A-Za-z]*i")


def normalised_operand(operator: Operator, operand: Any) -> Any:
    """The operand as it looks in the normalised view. Raises ValueError where nothing could ever look so."""
    if operator.operand is Operand.FLAG:
        return operand
    if operator.operand is Operand.PATTERN:
        return _pattern(operand.pattern)
    return frozenset(map(_text, operand)) if isinstance(operand, frozenset) else _text(operand)


def _text(text: str) -> str:
    found = normal(text)
    if text and not found.skeleton:
        raise ValueError(f"{text!a} is nothing in the normalised view; write what can be seen, or compare 'view: raw'")
    if not found.whole:
        raise ValueError(f"a text of {len(text)} characters is too long for the normalised view; compare 'view: raw'")
    return found.skeleton


def _pattern(text: str) -> Any:
    """The pattern, matched without regard to case: the view has folded it."""
    if _OWN_CASE.search(text):
        raise ValueError(
            f"{text!r} asks for upper or lower case, but the normalised view has none; remove '-i', or compare 'view: raw'"
        )
    for found in _CHARACTERS.finditer(text):
        code = int(found[1] or found[2] or "0", 16) or int(found[3] or "0", 8) or ord(found[4] or "a")
        if code > 0x7F:
            _stays(text, chr(code))
    if composed(text) != text:
        raise ValueError(f"{text!a} holds letters and marks that the normalised view joins; write {composed(text)!r}")
    return pattern("(?i)" + text)


def _stays(text: str, char: str) -> None:
    """That a character of a pattern can be found in the normalised view. Raises ValueError."""
    made = normal(char).folded
    if not made:
        raise ValueError(f"{text!a} holds {char!a}, which the normalised view drops; remove it, or compare 'view: raw'")
    if not pattern("(?i)" + re.escape(char)).search(made):
        held = f"{text!r} holds {char!r} (U+{ord(char):04X})"
        raise ValueError(f"{held}, which the normalised view writes {made!r}; write that, or compare 'view: raw'")
