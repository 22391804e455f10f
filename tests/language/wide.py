"""A wide world of conditions: every operator, view and nesting; values that are there, missing, broken, capped or wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gateway.facts import Facts
from gateway.language.policy import Policy
from gateway.readings import labels_of
from gateway.signals import View
from gateway.values import AtLeast, Failed, Missing
from tests.judging import CATALOGUE, START, policy
from tests.strategies import MEASURES, Plain

WORDS = ["", "a", "NO", "gpt-4", "ＧＰＴ-4", "x\u200by", "alpha beta", "needle", "Needle 7", "a\nb", "{0}", "'\"\\", "é\ud800"]
HEAD = ("account.org", "account.plan", "client.runtime", "request.path")
BODY = ("request.model", "prompt.system")
TEXTS = HEAD + BODY
COUNTRIES = ["NO", "SE", "DK", "KP", "US"]
NETWORKS = ["10.0.0.0/30", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]
ADDRESSES = ["10.0.0.1", "10.0.0.200", "2001:db8::1", "192.0.2.7", "198.51.100.1"]
PATTERNS = ["ne+dle", "(?i)NEEDLE [0-9]", "^a", "b$", "", "[^a]", "gpt.4|x.y", "\\x{e9}"]
NUMBERS = [0, 1, 2, 50, 10**15]
STYLES = ["compact", "spaced", "sorted"]
_WRITABLE = [word for word in WORDS if word.isprintable() or word == "a\nb"]
_ODD: list[Any] = ["text", 3, 2.5, True, None, frozenset({"a"}), frozenset(), [1], {"a": 1}, b"bytes"]
_ABSENT = [Missing("not given"), Failed("it broke")]


def _one(name: str, tests: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
    return tests.map(lambda test: {name: test})


def _ordered(name: str, values: list[Any]) -> st.SearchStrategy[Plain]:
    value = st.sampled_from(values)
    single = st.tuples(st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"]), value).map(lambda pair: {pair[0]: pair[1]})
    several = st.tuples(st.sampled_from(["in", "not_in"]), st.lists(value, min_size=1, max_size=3)).map(lambda p: {p[0]: p[1]})
    pair = st.tuples(st.integers(0, len(values) - 1), st.integers(0, len(values) - 1)).map(
        lambda ends: {"between": [values[min(ends)], values[max(ends)]]}
    )
    return _one(name, single | several | pair | _PRESENT)


_PRESENT = st.booleans().map(lambda flag: {"present": flag})
_word = st.sampled_from(_WRITABLE)
_view = st.sampled_from([{}, {}, {"view": "normalised"}])


def _text(name: str) -> st.SearchStrategy[Plain]:
    words = ["eq", "ne", "contains", "starts_with", "ends_with"]
    single = st.tuples(st.sampled_from(words), _word).map(lambda pair: {pair[0]: pair[1]})
    several = st.tuples(st.sampled_from(["in", "not_in"]), st.lists(_word, min_size=1, max_size=3)).map(lambda p: {p[0]: p[1]})
    found = st.sampled_from(PATTERNS).map(lambda pattern: {"matches": pattern})
    seen = st.tuples(single | several | found, _view).map(lambda pair: {**pair[0], **pair[1]})
    return _one(name, seen | _PRESENT)


def leaves() -> st.SearchStrategy[Plain]:
    """One comparison of this world."""
    country = st.tuples(st.sampled_from(["eq", "ne"]), st.sampled_from(COUNTRIES)).map(lambda pair: {pair[0]: pair[1]})
    listed = st.sampled_from([{"in": "@some"}, {"not_in": "@some"}, {"in": "@none"}, {"not_in": "@none"}])
    sets = st.tuples(st.sampled_from(["any_of", "all_of"]), st.lists(st.sampled_from(STYLES), min_size=1, max_size=3))
    holds = st.sampled_from(STYLES).map(lambda style: {"contains": style})
    nets = st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=2).map(lambda found: {"within": found})
    return st.one_of(
        *(_text(name) for name in TEXTS),
        _one("client.country", country | listed | _PRESENT),
        _one("account.billing_country", country | listed),
        _ordered("request.size", NUMBERS),
        _ordered("prompt.turns", NUMBERS),
        _ordered("account.age", ["0s", "1d", "30d", "90d"]),
        _one("request.stream", st.booleans().map(lambda flag: {"eq": flag}) | _PRESENT),
        _one("client.json_style", sets.map(lambda pair: {pair[0]: pair[1]}) | holds | _PRESENT),
        _one("client.ip", nets | _PRESENT),
        _ordered("requests", NUMBERS),
        _ordered("addresses", [0, 1, 2]),
        _ordered("top", [0.0, 0.25, 0.5]),
        _ordered("spread", [0.0, 0.5, 2.0]),
    )


def conditions() -> st.SearchStrategy[Plain]:
    """A condition tree of a few levels."""

    def grouped(below: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
        words = st.sampled_from(["all", "all", "any", "none"])
        return st.builds(lambda word, parts: {word: parts}, words, st.lists(below, min_size=1, max_size=4))

    return st.recursive(leaves(), grouped, max_leaves=8)


def pack(whens: list[Plain], name: str = "w", modes: tuple[str, ...] = ("enforce",)) -> Plain:
    """A pack of one rule for each condition; the measures' definitions differ from rule to rule under equal names."""
    same = {**MEASURES, "addresses": {**MEASURES["addresses"], "cap": 50}}
    other = {**same, "requests": {"count": True, "per": ["client.country"], "window": "1m"}}
    rules = [
        {
            "id": f"{name}.r{place}", "title": "generated", "family": "network", "owner": "tests", "when": when,
            "measures": other if place % 3 == 2 else same, "then": {"action": "observe"}, "mode": modes[place % len(modes)],
        }
        for place, when in enumerate(whens)
    ]  # fmt: skip
    lists = {"some": {"type": "country", "values": ["NO", "SE", "KP"]}, "none": {"type": "country", "values": []}}
    return {"pack": name, "version": 1, "language": 1, "lists": lists, "rules": rules}


def policies(least: int = 1, most: int = 8) -> st.SearchStrategy[Policy]:
    """A compiled policy of this world."""
    return st.lists(conditions(), min_size=least, max_size=most).map(lambda whens: policy(json.dumps(pack(whens))))


def _values(typed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(typed, typed, typed, st.sampled_from(_ABSENT), st.sampled_from(_ODD))


def signals() -> st.SearchStrategy[dict[str, object]]:
    """Values of the signals of this world, as recorded; now and then of the wrong type."""
    numbers = st.sampled_from([*NUMBERS, 3, 51])
    texts = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
    day = 86_400_000_000
    return st.fixed_dictionaries(
        {
            **{name: _values(texts) for name in TEXTS},
            "client.country": _values(st.sampled_from(COUNTRIES)),
            "account.billing_country": _values(st.sampled_from(COUNTRIES)),
            "request.size": _values(numbers),
            "prompt.turns": _values(numbers),
            "account.age": _values(st.sampled_from([0, day, 30 * day, 31 * day])),
            "request.stream": _values(st.booleans()),
            "client.json_style": _values(st.frozensets(st.sampled_from(STYLES))),
            "client.ip": _values(st.sampled_from([*ADDRESSES, "10.0.0.0/31", "no address"])),
        }
    )


def measured(found: Policy, draw: st.DrawFn) -> dict[str, object]:
    """Readings for every measure of a policy: counts, capped counts, shares, nothing, failures."""
    labels = sorted({label for rule in found.rules for one in rule.measures.values() for label in labels_of(one)})
    counts = st.sampled_from([*NUMBERS, 0.25, 1.0, AtLeast(1), AtLeast(2), AtLeast(100), *_ABSENT, True])
    values = {label: draw(counts) for label in labels}
    return {label: value for label, value in values.items() if draw(st.integers(0, 9))}


def view(values: Mapping[str, object]) -> View:
    """The view of an exchange with these recorded signals."""
    given = {name: Missing("not given") for name in CATALOGUE} | dict(values)
    return View.of(Facts(at=START, recorded=given), CATALOGUE)
