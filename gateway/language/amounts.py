"""Reading what a limit allows: `60 requests/minute`, `200000 tokens/minute`, `9000 output tokens/hour`, `5 usd/day`,
`8 concurrent`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from gateway.errors import Place, did_you_mean
from gateway.state.operations import LARGEST_AMOUNT, NANO, Limit, Pace, Unit
from gateway.strict.shapes import Problems
from gateway.values import SECOND, parse_duration

_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
LIMIT: Final = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([a-z]+(?: +[a-z]+)?)\s*)?(?:/\s*([0-9]{1,9}(?:s|m|h|d)|[a-z]+))?"
)
_LONGEST: Final = 366 * 86_400
UNITS: Final = {unit.removesuffix("s"): unit for unit in Unit}  # one token, two tokens
_MEND: Final = "write it as 60 requests/minute, 30/10s or 1000/day"
_MEND_ALL: Final = "write it as 60 requests/minute, 200000 tokens/minute, 5 usd/day or 8 concurrent"
_MONEY: Final = re.compile(r"(?:\$|US\$|USD)\s*([0-9.]+)\s*(/.*)", re.IGNORECASE)
_SHORTENED: Final = re.compile(r"([0-9]+)\s*([km])\b\s*(.*)", re.IGNORECASE)
_THOUSANDS: Final = {"k": "000", "m": "000000"}


def limit_of(
    written: str, name: str, pace: Pace, shadow: bool, place: Place, problems: Problems, units: tuple[Unit, ...], lease: int = 0
) -> Limit | None:
    """A limit as written. units: those that may stand here. lease: seconds a slot of a concurrent limit is held at most."""
    found = LIMIT.fullmatch(written.strip())
    if found is None or (found[3] is None and found[2] != "concurrent") or _SHORTENED.fullmatch(written.strip()):
        problems.add(place, f"{written!r} is not a limit", _meant(written.strip(), units))
        return None
    word = " ".join((found[2] or "requests").split())
    unit = UNITS.get(word) or UNITS.get(word.removesuffix("s"))
    if unit not in units:
        what = f"unit '{word}' is not known" if unit is None else f"a limit in {unit} cannot stand here"
        mend = did_you_mean(word, [str(known) for known in units]) if len(units) > 1 else f"limits count {units[0]}"
        problems.add(place, what, mend if len(units) > 1 or unit is None else f"this one counts {units[0]}")
        return None
    amount = Decimal(found[1]) * (NANO if unit is Unit.USD else 1)
    if amount != int(amount):
        problems.add(place, f"{written!r} is not a whole number of {unit}", "write a whole number")
        return None
    if not 0 < amount <= LARGEST_AMOUNT:
        said = "lets nothing through" if not amount else "is more than can be counted"
        mend = "allow at least 1; a rule that denies says so itself" if not amount else "a limit nobody reaches needs no limit"
        problems.add(place, f"{written!r} {said}", mend)
        return None
    if unit is Unit.CONCURRENT:
        if found[3] is not None:
            problems.add(
                place, f"{written!r}: concurrency has no period", "write it as 8 concurrent; 'lease' says how long one lasts"
            )
            return None
        return Limit(name, int(amount), lease, Pace.FIXED, shadow, unit)
    period = found[3]
    seconds = _PERIODS.get(period.removesuffix("s")) if period.isalpha() else parse_duration(period) // SECOND
    if not seconds or seconds > _LONGEST:
        problems.add(place, f"'{period}' is not a period", "write " + ", ".join(_PERIODS) + ", or such as 10s")
        return None
    return Limit(name, int(amount), seconds, pace, shadow, unit)


def _meant(written: str, units: tuple[Unit, ...]) -> str:
    """How to write what was probably meant: `$5/day`, `200k tokens/minute`, `1,000/day`."""
    plain = re.sub(r"(?<=[0-9])[_,](?=[0-9]{3})", "", written)
    if (money := _MONEY.fullmatch(plain)) is not None and Unit.USD in units:
        plain = f"{money[1]} usd{money[2]}"
    if (short := _SHORTENED.fullmatch(plain)) is not None:
        rest = short[3] if short[3].startswith("/") else f" {short[3]}"
        plain = short[1] + _THOUSANDS[short[2].lower()] + rest
    if plain != written and LIMIT.fullmatch(plain) is not None:
        return f"write {plain}"
    return _MEND if len(units) == 1 else _MEND_ALL
