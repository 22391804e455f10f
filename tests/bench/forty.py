"""Forty realistic rules and the traffic they look at, in a form that other policy engines can be given too.

A rule is a list of comparisons that must all hold. Values are those of resolved signals and counted measures.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

Comparison = tuple[str, str, Any]
DAY: Final = 86_400_000_000
EXCLUDED: Final = ["AF", "BY", "CU", "IR", "KP", "RU", "SY", "VE"]
HOSTING: Final = [14_061, 16_276, 20_473, 24_940, 63_949, 396_982]
COUNTS: Final[dict[str, dict[str, Any]]] = {
    "requests": {"count": True, "per": ["account.id"], "window": "1h"},
    "minute": {"count": True, "per": ["account.id"], "window": "1m"},
    "ring": {"distinct": "account.id", "per": ["client.fingerprint"], "window": "1h"},
    "shapes": {"distinct": "client.fingerprint", "per": ["account.id"], "window": "1h"},
    "addresses": {"distinct": "client.ip", "per": ["account.id"], "window": "1h"},
    "countries": {"distinct": "client.country", "per": ["account.id"], "window": "1d"},
    "templates": {"distinct": "prompt.template", "per": ["account.id"], "window": "1h"},
    "failures": {"count": True, "per": ["account.id"], "window": "5m", "where": {"response.status": {"gte": 500}}},
}
YOUNG: Final[Comparison] = ("account.age", "lt", 30 * DAY)
FRESH: Final[Comparison] = ("client.geo_age", "lt", 60 * DAY)
ABROAD: Final[Comparison] = ("client.country", "in", EXCLUDED)
HOSTED: Final[Comparison] = ("client.asn", "in", HOSTING)
RULES: Final[dict[str, list[Comparison]]] = {
    "region.unsupported": [ABROAD, ("account.billing_country", "in", EXCLUDED), FRESH],
    "region.network": [ABROAD, FRESH],
    "region.owner": [("account.ownership_country", "in", EXCLUDED)],
    "region.identity": [("account.kyc_country", "in", EXCLUDED)],
    "region.hosted": [ABROAD, HOSTED],
    "region.moving": [("countries", "gte", 4), ("account.plan", "ne", "enterprise")],
    "region.one": [("client.country", "eq", "KP")],
    "identity.young-heavy": [YOUNG, ("requests", "gte", 400)],
    "identity.young-hosted": [YOUNG, HOSTED, ("requests", "gte", 100)],
    "identity.prepaid-ring": [("account.payment", "eq", "prepaid"), ("ring", "gte", 8)],
    "identity.trial-many": [("account.plan", "eq", "trial"), ("addresses", "gte", 10)],
    "identity.trial-tokens": [("account.plan", "eq", "trial"), ("request.max_tokens", "gt", 8_000)],
    "identity.trial-burst": [("account.plan", "eq", "trial"), ("minute", "gte", 30)],
    "identity.free-burst": [("account.plan", "eq", "free"), ("minute", "gte", 60)],
    "identity.free-model": [("account.plan", "eq", "free"), ("request.model", "in", ["large", "largest"])],
    "identity.unverified": [("account.verified", "eq", False), ("requests", "gte", 200)],
    "identity.unverified-large": [("account.verified", "eq", False), ("request.model", "eq", "largest")],
    "client.script": [("client.runtime", "in", ["curl", "wget"]), ("requests", "gte", 50)],
    "client.headless": [("client.family", "eq", "browser"), HOSTED],
    "client.relay": [("client.family", "eq", "relay")],
    "client.shapes": [("shapes", "gte", 12)],
    "client.shapes-young": [("shapes", "gte", 5), YOUNG],
    "client.odd": [("reseller.contradiction_count", "gte", 2)],
    "client.odd-hosted": [("reseller.contradiction_count", "gte", 1), HOSTED],
    "coordination.ring": [("ring", "gte", 20), YOUNG],
    "coordination.ring-large": [("ring", "gte", 60)],
    "coordination.ring-same-work": [("ring", "gte", 8), ("templates", "lte", 2), YOUNG],
    "coordination.spread": [("addresses", "gte", 25)],
    "coordination.spread-countries": [("addresses", "gte", 10), ("countries", "gte", 3)],
    "content.long": [("prompt.length", "gt", 200_000)],
    "content.many-turns": [("prompt.turns", "gt", 200)],
    "content.one-turn": [("prompt.turns", "lte", 1), ("templates", "lte", 1), ("requests", "gte", 300)],
    "content.samples": [("request.n", "gte", 8)],
    "content.samples-free": [("request.n", "gte", 4), ("account.plan", "in", ["free", "trial"])],
    "content.tools": [("prompt.has_tool_results", "eq", False), ("prompt.turns", "gte", 40)],
    "volume.hour": [("requests", "gte", 5_000)],
    "volume.minute": [("minute", "gte", 600)],
    "volume.failing": [("failures", "gte", 20)],
    "volume.failing-hard": [("failures", "gte", 5), ("minute", "gte", 100)],
    "volume.stream": [("request.stream", "eq", False), ("request.max_tokens", "between", [16_000, 1_000_000])],
}
_ACTIONS: Final[list[dict[str, Any]]] = [
    {"action": "tag", "tag": "seen"}, {"action": "observe"}, {"action": "delay", "hold": "2s"},
    {"action": "throttle", "limit": "60/minute", "per": ["account.id"]}, {"action": "verify"},
]  # fmt: skip


def pack(copies: int = 1) -> str:
    """The rules as a pack. copies: each rule again under another id with thresholds and windows of its own."""
    return json.dumps({"pack": "bench", "version": 1, "language": 1, "rules": list(_rules(copies))})


def _rules(copies: int) -> Iterator[dict[str, Any]]:
    for copy in range(copies):
        for place, (name, comparisons) in enumerate(RULES.items()):
            when = [{signal: {word: _written(signal, word, operand, copy)}} for signal, word, operand in comparisons]
            named = {signal for signal, _, _ in comparisons} & COUNTS.keys()
            measures = {name: {**COUNTS[name], **({"window": f"{copy + 2}m"} if copy else {})} for name in sorted(named)}
            yield {
                "id": f"{name}-{copy}" if copy else name, "title": f"A rule of the bench: {name}", "severity": "medium",
                "family": name.split(".")[0].replace("region", "network"), "owner": "bench", "measures": measures,
                "false_positives": [{"cause": "a bench", "mitigated_by": "nothing"}],
                "when": {"all": when} if len(when) > 1 else when[0], "then": _ACTIONS[place % len(_ACTIONS)],
                "evidence": sorted({signal for signal, _, _ in comparisons}), "mode": ("enforce", "shadow")[place % 4 == 3],
                "public": {"code": "bench", "message": "This is a bench."},
            }  # fmt: skip


def _written(signal: str, word: str, operand: Any, copy: int) -> Any:
    if signal.endswith("age"):
        return f"{operand // DAY + copy}d"
    if type(operand) is int and word in ("gte", "gt") and copy:
        return operand + copy
    return operand


def traffic(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Exchanges as signal values and counts; about one in twelve meets rules, and then several."""
    draw = random.Random(seed)
    plans, payments = ["free", "team", "trial"], ["card", "invoice", "prepaid"]
    for _ in range(count):
        odd = draw.random() < 0.12
        country = draw.choice(EXCLUDED) if odd and draw.random() < 0.3 else draw.choice(["US", "DE", "NO", "JP", "BR"])
        yield {
            "account.id": f"account-{draw.randrange(1_000)}", "account.age": draw.randrange(2, 900) * DAY,
            "account.billing_country": country, "account.kyc_country": "US", "account.ownership_country": "US",
            "account.payment": draw.choice(payments), "account.plan": draw.choice(plans),
            "account.verified": draw.random() < 0.9,
            "client.asn": draw.choice(HOSTING) if odd else draw.randrange(1_000, 9_000),
            "client.country": country, "client.family": draw.choice(["sdk", "sdk", "browser", "editor"]),
            "client.geo_age": draw.randrange(1, 40) * DAY, "client.runtime": draw.choice(["python", "node", "go"]),
            "client.fingerprint": "f", "client.ip": "203.0.113.9", "prompt.template": "t",
            "prompt.has_tool_results": draw.random() < 0.5, "prompt.length": draw.randrange(100, 40_000),
            "prompt.turns": draw.randrange(2, 39), "reseller.contradiction_count": int(odd and draw.random() < 0.4),
            "request.max_tokens": draw.choice([512, 1_024, 4_096]), "request.model": draw.choice(["small", "medium"]),
            "request.n": 1, "request.stream": draw.random() < 0.5,
            "requests": draw.randrange(1, 900 if odd else 90), "minute": draw.randrange(1, 25), "ring": draw.randrange(1, 6),
            "shapes": draw.randrange(1, 8 if odd else 4), "addresses": draw.randrange(1, 9), "countries": 1,
            "templates": draw.randrange(2, 30), "failures": draw.randrange(0, 4),
        }  # fmt: skip
