"""Which way a change goes, and the words for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.decision import Mode

_MODES: Final = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)


class Direction(StrEnum):
    """How the new one stands to the old one, on the same values.

    Wider and narrower mean «at least as much» and «at most as much»: no values are an exception.
    """

    EQUAL = "equal"
    WIDER = "wider"
    NARROWER = "narrower"
    BOTH = "different"
    OPEN = "incomparable"

    @property
    def back(self) -> Direction:
        """The direction from the new one to the old one."""
        return _BACK.get(self, self)


_BACK = {Direction.WIDER: Direction.NARROWER, Direction.NARROWER: Direction.WIDER}


class Aspect(NamedTuple):
    """One thing that changed: which way, and what to tell a person.

    told: it changes what is said or shown, nothing else. mode: the same thing acts, watches or rests. home: it has another
    owner or stands in another pack.
    """

    direction: Direction
    reason: str
    told: bool = False
    mode: bool = False
    home: bool = False


def together(directions: Iterable[Direction]) -> Direction:
    """Several directions as one: what is undecided stays so, and what goes both ways is different."""
    found = {*directions} - {Direction.EQUAL}
    if not found:
        return Direction.EQUAL
    if Direction.OPEN in found:
        return Direction.OPEN
    return found.pop() if len(found) == 1 else Direction.BOTH


def ordered(old: float, new: float) -> Direction:
    """Wider where the number grew."""
    return Direction.EQUAL if old == new else Direction.WIDER if new > old else Direction.NARROWER


def nested(forth: bool, back: bool) -> Direction:
    """By whether the new one holds all of the old one (forth), and the old one all of the new one (back)."""
    if forth:
        return Direction.EQUAL if back else Direction.WIDER
    return Direction.NARROWER if back else Direction.BOTH


def told(pairs: Iterable[tuple[str, object, object]], home: bool = False) -> Iterator[Aspect]:
    """Names with what they were and are, where that differs: it changes no decision."""
    for what, before, after in pairs:
        if before != after:
            short = all(isinstance(one, (str, int, float)) and len(str(one)) < 40 for one in (before, after))
            yield Aspect(Direction.EQUAL, f"{what} {before} -> {after}" if short else f"{what} reworded", told=True, home=home)


def modes(old: Mode, new: Mode) -> Iterator[Aspect]:
    """A change of mode: from off over shadow to enforce it acts on more."""
    if old is not new:
        yield Aspect(ordered(_MODES.index(old), _MODES.index(new)), f"mode {old} -> {new}", mode=True)
