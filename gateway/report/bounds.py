"""How sure counts are: exact bounds after Clopper and Pearson (Biometrika 26, 1934), from scipy."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from gateway.errors import ExtraError

CONFIDENCE: Final = 0.95
_MOST: Final = 2**40


def bounded() -> bool:
    """Whether bounds can be computed here."""
    return find_spec("scipy") is not None


def upper_95(wrong: int, seen: int) -> float:
    """The share that `wrong` of `seen` does not exceed with 95 % certainty (one-sided). Of nothing seen, all may be wrong.

    Raises ExtraError where scipy is not installed.
    """
    try:
        from scipy.special import betaincinv
    except ModuleNotFoundError:
        raise ExtraError("the bound of a share", "scipy", "report") from None
    return 1.0 if wrong >= seen else float(betaincinv(wrong + 1, seen - wrong, CONFIDENCE))


def seen_for(wrong: int, bound: float) -> int | None:
    """The least number seen of which `wrong` leave an upper bound of at most `bound`; None where no number does."""
    high = max(1, wrong + 1)
    while upper_95(wrong, high) > bound:
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_95(wrong, middle) <= bound else (middle, high)
    return high
