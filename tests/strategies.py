"""Hypothesis strategies for policies and exchanges: a small world in which rules match, miss, lack values and break.

A policy is a list of packs in plain Python (`text` writes one as YAML); an exchange is a `Sent`. `WRONG` values are of the
wrong type, as a broken provider of a third party would return them: comparing them raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from gateway.decision import Mode
from gateway.facts import Answer, Facts, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.policy import FAMILIES
from gateway.state.memory import MemoryState
from gateway.values import SECOND, Failed, Missing
from tests.judging import CATALOGUE, START, policy

Plain = dict[str, Any]
SIGNALS: dict[str, list[Any]] = {
    "account.id": ["a", "b"],
    "account.org": ["x"],
    "client.country": ["NO", "SE"],
    "client.ip": ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
    "request.stream": [True, False],
    "request.size": [1, 50, 500],
    "request.operation": ["chat", "chat", "chat", "embeddings"],
    "request.logprobs": [True, False],
    "account.age": ["1d", "90d"],
    "client.json_style": [["compact"], ["compact", "spaced"], []],
}
BROKEN = ("request.n", "request.max_tokens")
LEAVES: list[Plain] = [
    {"client.country": "NO"},
    {"client.country": {"not_in": ["SE", "DK"]}},
    {"client.country": {"in": "@nordic"}},
    {"request.stream": True},
    {"request.size": {"gte": 50}},
    {"request.size": {"between": [1, 50]}},
    {"account.age": {"lt": "30d"}},
    {"account.id": {"present": True}},
    {"client.json_style": {"any_of": ["spaced"]}},
    {"client.ip": {"within": ["10.0.0.0/30"]}},
    {"account.org": {"present": False}},
    {"account.id": {"eq": "Ａ", "view": "normalised"}},
    {"workload.kind": "benchmark"},
]
BROKEN_LEAVES: list[Plain] = [{"request.n": {"gte": 1}}, {"request.max_tokens": {"lt": 5}}]
MEASURES: dict[str, Plain] = {
    "requests": {"count": True, "per": ["account.id"], "window": "1m"},
    "addresses": {"distinct": "client.ip", "per": ["account.id", "account.org"], "window": "2m", "cap": 2},
    "bytes": {"sum": "request.size", "per": ["client.country"], "window": "1m", "where": {"request.stream": True}},
    "failures": {"count": True, "per": ["account.id"], "window": "5m", "where": {"response.status": {"gte": 500}}},
    "top": {"top_share": "client.ip", "per": ["account.id"], "window": "1m"},
    "spread": {"ratio": ["addresses", "requests"]},
    "typical": {"quantile": "request.size", "rank": 0.5, "per": ["account.id"], "window": "1m"},
}
MEASURED: list[Plain] = [
    {"requests": {"gte": 2}},
    {"requests": {"lt": 4}},
    {"addresses": {"gte": 2}},
    {"bytes": {"gt": 100}},
    {"failures": {"gte": 1}},
    {"top": {"gte": 0.5}},
    {"spread": {"lte": 0.6}},
    {"typical": {"gte": 40}},
    {"workload.within_ceiling": True},
    {"reseller.declared": False},
]
REFUSING: list[Plain] = [{"action": "verify", "link": "https://example.com/verify"}, {"action": "deny", "status": 451}]
PASSING: list[Plain] = [
    {"action": "allow"},
    {"action": "observe", "ask": "benchmark"},
    {"action": "tag", "tag": "odd"},
    {"action": "tag", "tag": "even", "ask": "relay"},
    {"action": "delay", "hold": "2s"},
    *[{"action": "restrict", "to": {"max_tokens": 5}}, {"action": "restrict", "to": {"n": 1, "logprobs": False}}] * 2,
]
THROTTLES: list[Plain] = [
    {"action": "throttle", "limit": "1/minute", "per": ["account.id"]},
    {"action": "throttle", "limit": "3/30s", "window": "moving", "per": ["client.country"], "ask": "relay"},
]
AMOUNTS: list[Plain] = [
    {"limit": "2/minute"},
    {"limit": "4/30s", "window": "moving"},
    {"limit": "2/minute", "window": "moving"},
    {"limit": "40 tokens/minute", "reserve": 10},
    {"limit": "60 tokens/30s", "window": "moving", "reserve": 3},
    {"limit": "1 concurrent"},
]
WORKLOADS: Plain = {
    "workloads": [
        {"id": "bench", "kind": "benchmark", "accounts": ["a"], "ceiling": "3/minute", "from": "2020-01-01",
         "until": "2030-01-01", "owner": "tests", "evidence": "generated"},
        {"id": "relay", "kind": "relay", "orgs": ["x"], "from": "2020-01-01", "until": "2030-01-01", "owner": "tests",
         "evidence": "generated"},
    ]
}  # fmt: skip
STEPS: Plain = {
    "of": "requests",
    "steps": [{"from": 2, "action": "tag", "tag": "many"}, {"from": 3, **THROTTLES[0]}, {"from": 5, "action": "deny"}],
}


WRONG = "not a number"


@dataclass(frozen=True, slots=True)
class Sent:
    """One exchange: signal values as written (a Failed stays one), seconds since the one before, the upstream's status."""

    values: Plain
    after: int
    status: int


def conditions(broken: bool = False) -> st.SearchStrategy[Plain]:
    """Condition trees of at most three levels; `broken` adds comparisons of values that break."""
    leaves = st.sampled_from([*LEAVES, *MEASURED, *(BROKEN_LEAVES * 3 if broken else [])])

    def grouped(below: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
        return st.builds(
            lambda word, parts: {word: parts}, st.sampled_from(["all", "any", "none"]), st.lists(below, min_size=1, max_size=3)
        )

    return st.recursive(leaves, grouped, max_leaves=4)


@st.composite
def rules(draw: st.DrawFn, name: str, mode: Mode, throttles: bool = True, broken: bool = False) -> Plain:
    """One rule with every measure of this world, so that any condition may name any of them."""
    thens = [*PASSING, *(REFUSING * 2), *([*THROTTLES, STEPS] * 3 if throttles else [])]
    rule: Plain = {
        "id": name,
        "title": "generated",
        "family": draw(st.sampled_from(FAMILIES)),
        "owner": "tests",
        "measures": MEASURES,
        "when": draw(conditions(broken)),
        "then": draw(st.sampled_from(thens)),
        "mode": str(mode),
        "evidence": ["client.country", "requests"],
        "public": {"code": name.replace(".", "-"), "message": f"By {name}."},
    }
    if draw(st.booleans()):
        rule["corroborate"] = {
            "families": draw(st.sampled_from([2, 2, 3])),
            "within": draw(st.sampled_from(["1m", "10m"])),
            "per": draw(st.sampled_from([["account.id"], ["client.country"]])),
            "else": "tag",
        }
    if draw(st.integers(0, 3)) == 0:
        rule["abstain_for"] = draw(st.sampled_from([["benchmark"], ["relay", "benchmark"], ["batch"]]))
    if mode is Mode.ENFORCE and draw(st.integers(0, 3)) == 0:
        rule["share"] = draw(st.sampled_from(["30%", "60%", "100%"]))
    if draw(st.integers(0, 3)) == 0:
        entry = {"reason": "agreed", "owner": "tests"}
        rule["exceptions"] = {
            "by_account": {"fields": ["account.id"], "entries": [{"values": ["a"], "expires": START // SECOND + 60, **entry}]},
            "by_place": {
                "fields": ["client.country", "client.json_style"],
                "entries": [{"values": ["SE", ["spaced", "compact"]], "expires": "2030-01-01", **entry}],
            },
        }
    return rule


@st.composite
def limits(draw: st.DrawFn, name: str, mode: Mode, broken: bool = False) -> Plain:
    """One plan limit."""
    whens = [None, *LEAVES, *(BROKEN_LEAVES if broken else [])]
    when = draw(st.sampled_from(whens))
    found: Plain = {
        "id": name,
        "per": draw(st.sampled_from([["account.id"], ["account.id", "client.country"]])),
        "mode": str(mode),
        **draw(st.sampled_from(AMOUNTS)),
        "on_missing": draw(st.sampled_from(["refuse", "share", "skip"])),
    }
    return found | ({"when": when} if when else {})


@st.composite
def packs(
    draw: st.DrawFn,
    name: str,
    modes: Sequence[Mode] = (Mode.ENFORCE,),
    throttles: bool = True,
    broken: bool = False,
    most: int = 4,
) -> Plain:
    """One pack of up to `most` rules and two limits (none without `throttles`)."""
    chosen = st.sampled_from(list(modes))
    return {
        "pack": name,
        "version": 1,
        "language": 1,
        "lists": {"nordic": {"type": "country", "values": ["NO", "SE", "DK"]}},
        "rules": [draw(rules(f"{name}.r{n}", draw(chosen), throttles, broken)) for n in range(draw(st.integers(2, most)))],
        "limits": [
            draw(limits(f"{name}.l{n}", draw(chosen), broken)) for n in range(draw(st.integers(0, 2)) if throttles else 0)
        ],
    }


@st.composite
def exchanges(draw: st.DrawFn) -> list[Sent]:
    """A handful of exchanges in order of time, of few callers, with values missing here and there."""
    some: dict[str, st.SearchStrategy[Any]] = {name: st.sampled_from(values) for name, values in SIGNALS.items()}
    some |= {name: st.sampled_from([Failed("it broke"), WRONG, 3, Missing("not given")]) for name in BROKEN}
    some["account.id"] = st.sampled_from(["a"] * 6 + ["b", Missing("not given")])
    often = ("account.id", "client.country", "request.n", "client.ip", "request.operation")
    optional = {name: one for name, one in some.items() if name not in often}
    values = st.fixed_dictionaries({name: some[name] for name in often}, optional=optional)
    sent = st.builds(Sent, values, st.sampled_from([0, 1, 5, 5]), st.sampled_from([200, 200, 503]))
    return draw(st.lists(sent, min_size=6, max_size=12))


@st.composite
def shuffled(draw: st.DrawFn, plain: Any, key: str = "") -> Any:
    """The same meaning written in another order: keys of mappings, and items of lists whose order means nothing."""
    if isinstance(plain, dict):
        return {name: draw(shuffled(plain[name], name)) for name in draw(st.permutations(list(plain)))}
    if isinstance(plain, list):
        items = plain if key in ("steps", "between", "ratio", "fields", "values") else draw(st.permutations(plain))
        return [draw(shuffled(item)) for item in items]
    return plain


def text(pack: Plain) -> str:
    """A pack as YAML (JSON is the part of it that needs no care)."""
    return json.dumps(pack, indent=1)


def facts(sent: Sent, at: int) -> Facts:
    """The facts of an exchange whose signals are given."""
    values: dict[str, object] = {name: Missing("not given") for name, signal in CATALOGUE.items() if not signal.derived}
    for name, value in sent.values.items():
        kept = isinstance(value, (Missing, Failed)) or value == WRONG
        values[name] = value if kept else CATALOGUE[name].type.parse(value)
    return Facts(at=at, recorded=values)


def judged(
    written: Iterable[Plain], sent: Sequence[Sent], mode: Mode = Mode.ENFORCE, state: MemoryState | None = None
) -> list[Judgement]:
    """Every exchange judged and settled, in order, by one gate with these packs."""
    in_force = policy(*map(text, written), text(WORKLOADS))
    gate = Gate(in_force, CATALOGUE, mode=mode, state=state or MemoryState(), ids=lambda facts: "id", timer=lambda: 0)
    at, found = START, []
    for one in sent:
        at += one.after * SECOND
        judgement = gate.judge(facts(one, at))
        gate.settle(judgement, Answer(one.status, Usage(1, 2)))
        found.append(judgement)
    return found
