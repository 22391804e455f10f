"""Reading plan limits: what a plan allows, in requests, tokens, money or requests under way, and what models cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from gateway.decision import Mode, Public
from gateway.language.amounts import limit_of
from gateway.language.measures import not_compared, not_recalled
from gateway.language.policy import PlanLimit, Price, Prices
from gateway.language.words import PUBLIC_FIELDS, OnMissing, Speech, slug
from gateway.state.operations import METERED, NANO, TOKEN_UNITS, Limit, Pace, Unit
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, one_of, raw, scalar, text, whole
from gateway.values import SECOND, parse_duration

LEASE: Final = 600 * SECOND
RESERVE: Final = 1_000
SMALL: Final = 10  # a limit has room for so many requests at least, where nobody says what they hold back
_OUTPUT: Final = frozenset({Unit.TOKENS, Unit.OUTPUT, Unit.REASONING})  # what an answer's length is held back of
_MOST_PRICE: Final = 1_000_000
_DEFAULT_PUBLIC: Final = Public("rate-limited", "Too many requests; retry after the time stated.")


def lease_of(value: Any) -> int:
    length = parse_duration(value)
    if length < SECOND:
        raise ValueError(f"{value} is too short; write 1s or more")
    return length


def price_of_tokens(value: Any) -> int:
    """Billionths of a US dollar per token, of dollars per million tokens."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST_PRICE:
        raise ValueError(f"{value!r} is not a price; write US dollars per million tokens, such as 2.5")
    billionths = Decimal(str(value)) * 1_000
    if billionths != int(billionths):
        raise ValueError(f"{value!r} has more than three decimals")
    return int(billionths)


LIMIT_FIELDS: Final = {
    "id": Field(scalar(slug, "id"), required=True, doc="stable slug, never reused"),
    "per": Field(listing(text("per"), "per", empty=False), required=True, doc="the signals that separate counters"),
    "limit": Field(
        text("limit"),
        required=True,
        doc="such as 60 requests/minute, 200000 tokens/minute, 150000 input tokens/minute, 50000 output tokens/minute,"
        " 100000 cached tokens/minute, 20000 reasoning tokens/minute, 5 usd/day, 8 concurrent",
    ),
    "window": Field(one_of(Pace, "window"), default=Pace.FIXED, doc="fixed or moving"),
    "when": Field(raw, doc="whom it concerns; signals only"),
    "on_missing": Field(one_of(OnMissing, "on_missing"), required=True, doc="the key is missing: refuse, share, skip"),
    "reserve": Field(
        whole("reserve", 0, 1_000_000),
        doc=f"tokens, usd: most output tokens held back at first; {RESERVE} if not said, at most 1/{SMALL} of the limit",
    ),
    "lease": Field(
        scalar(lease_of, "lease"),
        default=LEASE,
        doc="concurrent: how long a slot is held for a process that died; it is renewed while its request is under way",
    ),
    "public": Field(mapping(PUBLIC_FIELDS, "public"), doc="what the caller is told"),
    "mode": Field(one_of(Mode, "mode"), required=True, doc="enforce, shadow or off"),
}
PRICE_FIELDS: Final = {
    "input": Field(scalar(price_of_tokens, "input"), required=True, doc="US dollars per million input tokens"),
    "output": Field(scalar(price_of_tokens, "output"), required=True, doc="US dollars per million output tokens"),
    "cached": Field(scalar(price_of_tokens, "cached"), doc="the same for input read from a cache; else as input"),
}
_ONLY_FOR: Final = {
    "reserve": {*_OUTPUT, Unit.USD},
    "lease": {Unit.CONCURRENT},
    "window": {Unit.REQUESTS, *METERED},
}


def read_prices(node: Node, problems: Problems) -> Prices:
    """The `prices` of a pack: by model, or by what a model's name begins with (`small-*`)."""
    found: dict[str, Price] = {}
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.place, f"prices must be a mapping of models, not {node.kind}")
        return Prices({})
    for model, child in node.value.items():
        if "*" in model[:-1] or not model:
            problems.add(child.named, f"{model!r} is no model", "write its name, or its beginning with one * at the end")
        entry = mapping(PRICE_FIELDS, f"the price of {model!r}")(child, problems)
        if entry is not None and entry["input"] is not None and entry["output"] is not None:
            cached = entry["input"] if entry["cached"] is None else entry["cached"]
            found[model] = Price(entry["input"], entry["output"], cached)
    return Prices(found)


def read_limit(node: Node, speech: Speech, prices: Prices | None) -> PlanLimit | None:
    """One limit of a pack, or None where it could not be read."""
    problems = speech.problems
    before = len(problems.found)
    entry = mapping(LIMIT_FIELDS, "a limit")(node, problems)
    if entry is None:
        return None
    speech.keys(entry["per"] or [], node.at("per"))
    when = speech.condition(entry["when"], {}, speech.broken) if entry["when"] is not None else None
    not_compared(when, speech.catalogue, problems)
    not_recalled(when, speech.catalogue, problems)
    limit = None
    if entry["limit"] is not None:
        limit = limit_of(
            entry["limit"], entry["id"] or "", entry["window"] or Pace.FIXED, entry["mode"] is Mode.SHADOW, node.at("limit"),
            problems, tuple(Unit), (entry["lease"] or LEASE) // SECOND,
        )  # fmt: skip
    assert isinstance(node.value, dict)
    for key, units in _ONLY_FOR.items():
        if limit is not None and key in node.value and limit.unit not in units:
            problems.add(node.value[key].named, f"a limit in {limit.unit} takes no '{key}'", "remove it")
    if limit is not None and limit.unit is Unit.USD and prices is None:
        problems.add(node.at("limit"), "a limit in usd needs to know what models cost", "add 'prices' to this pack")
    if entry["reserve"] is not None and limit is not None:
        _roomy(limit, entry["reserve"], prices, node, problems)
    if len(problems.found) > before or limit is None:
        return None
    return PlanLimit(
        limit, speech.pack, tuple(sorted({*entry["per"]})), when, str(entry["on_missing"]), entry["mode"],
        Public(**entry["public"]) if entry["public"] else _DEFAULT_PUBLIC, node.place,
        reserve_of(limit, prices) if entry["reserve"] is None else entry["reserve"],
        prices if limit.unit is Unit.USD else None,
    )  # fmt: skip


def reserve_of(limit: Limit, prices: Prices | None) -> int:
    """The output tokens that a limit holds back of every request where its author does not say: never most of a small limit."""
    if limit.unit in _OUTPUT:
        return min(RESERVE, limit.amount // SMALL)
    if limit.unit is Unit.USD and prices is not None and prices.models:
        return min(RESERVE, limit.amount // SMALL // max(1, prices.dearest.output))
    return 0


def _roomy(limit: Limit, reserve: int, prices: Prices | None, node: Node, problems: Problems) -> None:
    """Report a reserve that takes the whole limit, so that nobody is let through who does not ask for fewer tokens."""
    cheapest = min((price.output for price in prices.models.values()), default=0) if prices is not None else 0
    cost = cheapest if limit.unit is Unit.USD else int(limit.unit in _OUTPUT)
    if reserve * cost >= limit.amount:
        amount = f"{limit.amount} {limit.unit}" if limit.unit in TOKEN_UNITS else f"{Decimal(limit.amount) / NANO:f} usd"
        what = f"a reserve of {reserve} output tokens takes the whole limit of {amount}: only requests that ask for less pass"
        problems.add(node.at("reserve"), what, f"write {reserve_of(limit, prices)}, or leave it out")
