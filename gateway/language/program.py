"""A policy's compiled form, ready to run: what `emit.py` yields and the engine calls once per exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.language.conditions import Truth
from gateway.language.policy import Rule
from gateway.values import AtLeast, Failed, Missing

NOTHING_COUNTED: Final = Missing("nothing counted yet")
CAPPED: Final = Missing("a count reached its cap")
NOT_COUNTED: Final = Missing("not counted: its rule is off")

Ends = list[tuple[int, Truth]]
Run = Callable[[Callable[[str], object], Mapping[str, object], Mapping[str, object]], Ends]


@dataclass(frozen=True, slots=True)
class Program:
    """The rules that are not off, and one function over all of them.

    units: the texts of its functions, in the order in which they are defined. run: given what resolves a signal (`View.get`),
    the signals resolved so far and every measure by its label, the rules whose condition is true, or unknown (None), by their
    place in `rules`, rising; all others are false.
    """

    rules: tuple[Rule, ...]
    units: tuple[str, ...] = field(repr=False)
    run: Run = field(repr=False)

    @property
    def source(self) -> str:
        """Everything that runs, as Python text."""
        return "\n".join(self.units)


def ratio(over: object, under: object) -> object:
    """One count over another; unknown over nothing, and where a count is only known to be at least so much."""
    for part in (over, under):
        if isinstance(part, (Missing, Failed)):
            return part
    if isinstance(over, AtLeast) or isinstance(under, AtLeast):
        return CAPPED
    try:
        return over / under if under else NOTHING_COUNTED  # type: ignore[operator]
    except OverflowError:  # beyond what a float can hold: a value of a third party's provider, since ours are bounded
        return Failed("numbers too large to divide")
