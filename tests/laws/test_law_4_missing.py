"""Law 4: missing is not false. Four ends, never merged; only `match` acts; a broken provider breaks its own rules only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Action, Mode, RuleEnd, Verdict
from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.signals import Catalogue, View
from gateway.values import Failed, Missing
from tests.judging import CATALOGUE, START, judge, policy
from tests.strategies import LEAVES, MEASURES, Plain, conditions, exchanges, judged, packs, text

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def pack(*rules: str, limits: str = "[]") -> str:
    return f"pack: p\nversion: 1\nlanguage: 1\nrules: [{', '.join(rules)}]\nlimits: {limits}\n"


def rule(name: str, when: str, then: str = "{action: deny}", more: str = "") -> str:
    return f"{{id: {name}, title: t, family: network, owner: o, when: {when}, then: {then}, mode: enforce{more}}}"


def end_of(judgement: Judgement, name: str) -> RuleEnd:
    """How a rule ended; one that is not mentioned did not match."""
    ends = {end.rule: end for end in judgement.outcome.decision.ends}
    return ends.get(name, RuleEnd(name, Mode.ENFORCE, Verdict.NO_MATCH))


ENDS: list[tuple[dict[str, Any], Verdict, tuple[str, ...], str]] = [
    ({"client.country": "KP", "account.billing_country": "KP"}, Verdict.MATCH, (), ""),
    ({"client.country": "KP", "account.billing_country": "FR"}, Verdict.NO_MATCH, (), ""),
    ({"client.country": "FR"}, Verdict.NO_MATCH, (), ""),
    ({"client.country": "KP"}, Verdict.UNKNOWN, ("account.billing_country",), ""),
    ({}, Verdict.UNKNOWN, ("account.billing_country", "client.country"), ""),
    (
        {"client.country": Failed("IOError: gone"), "account.billing_country": "KP"},
        Verdict.ERROR,
        ("client.country",),
        "client.country: IOError: gone",
    ),
    (
        {"client.country": Failed("IOError: gone")},
        Verdict.ERROR,
        ("account.billing_country", "client.country"),
        "client.country: IOError: gone",
    ),
    ({"client.country": Failed("IOError: gone"), "account.billing_country": "FR"}, Verdict.NO_MATCH, (), ""),
]


@pytest.mark.parametrize(("values", "verdict", "missing", "error"), ENDS)
def test_four_ends(values: dict[str, Any], verdict: Verdict, missing: tuple[str, ...], error: str) -> None:
    gate = Gate(policy(pack(rule("p.r", "{client.country: KP, account.billing_country: KP}"))), CATALOGUE)
    judgement = gate.judge(given_facts(values))
    end = end_of(judgement, "p.r")
    assert (end.verdict, end.missing, end.error) == (verdict, missing, error)
    acted = Action.DENY if verdict is Verdict.MATCH else Action.ALLOW
    assert (end.action, end.would, judgement.outcome.decision.action, judgement.outcome.action) == (acted,) * 4


def given_facts(values: dict[str, Any], at: int = START) -> Facts:
    written = {
        name: value if isinstance(value, Failed) else CATALOGUE[name].type.parse(value) for name, value in values.items()
    }
    return Facts(at=at, recorded={name: Missing("not given") for name in CATALOGUE} | written)


@pytest.mark.parametrize("value", [{}, {"client.country": Failed("gone")}, {"client.country": "KP"}])
def test_present_is_never_unknown(value: dict[str, Any]) -> None:
    there, absent = rule("p.there", "{client.country: {present: true}}"), rule("p.absent", "{client.country: {present: false}}")
    judgement = Gate(policy(pack(there, absent)), CATALOGUE).judge(given_facts(value))
    expected = [Verdict.MATCH, Verdict.NO_MATCH] if value == {"client.country": "KP"} else [Verdict.NO_MATCH, Verdict.MATCH]
    assert [end_of(judgement, name).verdict for name in ("p.there", "p.absent")] == expected


@SETTINGS
@given(written=packs("p", (Mode.ENFORCE, Mode.SHADOW), broken=True), sent=exchanges())
def test_only_a_match_acts(written: Plain, sent: Any) -> None:
    for judgement in judged([written], sent):
        decision = judgement.outcome.decision
        for end in decision.ends:
            assert end.verdict is not Verdict.NO_MATCH
            assert (end.verdict is Verdict.ERROR) == bool(end.error)
            if end.verdict is Verdict.MATCH:  # a throttle that has nobody to count by yields, and says what it lacks
                assert not end.missing or max(end.action, end.would) <= Action.TAG
            else:
                assert end.missing or end.error
            if end.verdict is not Verdict.MATCH or end.excepted or end.abstained:
                assert (end.action, end.would, end.corroborated) == (Action.ALLOW, Action.ALLOW, ())
        assert decision.action == max((end.action for end in decision.matches()), default=Action.ALLOW)
        assert decision.would == max((end.would for end in decision.matches()), default=Action.ALLOW)


@SETTINGS
@given(
    when=conditions(),
    sent=exchanges(),
    hidden=st.sampled_from(["client.country", "request.size", "request.stream", "account.age"]),
)
def test_hiding_a_value_never_turns_a_miss_into_a_match_or_back(when: Plain, sent: Any, hidden: str) -> None:
    """Without the value a rule may at most become unknown: nothing that was not known can decide."""
    if any(f'"{name}"' in text(when) for name in MEASURES):
        when = LEAVES[len(text(when)) % 5]  # a value that is hidden is not counted either, so measures may fall
    written = {
        "pack": "p",
        "version": 1,
        "language": 1,
        "lists": {"nordic": {"type": "country", "values": ["NO", "SE", "DK"]}},
        "rules": [
            {
                "id": "p.r",
                "title": "t",
                "family": "network",
                "owner": "o",
                "when": when,
                "then": {"action": "deny"},
                "mode": "enforce",
            }
        ],
    }
    dark = [replace(one, values={name: value for name, value in one.values.items() if name != hidden}) for one in sent]
    for before, after in zip(judged([written], sent), judged([written], dark), strict=True):
        ends = (end_of(before, "p.r").verdict, end_of(after, "p.r").verdict)
        assert ends[0] is ends[1] or ends[1] in (Verdict.UNKNOWN, Verdict.ERROR)


def broken_catalogue(returns: object) -> Catalogue:
    """The catalogue with a provider of `request.n` that raises, or returns something of the wrong type."""

    def resolve(view: View) -> object:
        if isinstance(returns, Exception):
            raise returns
        return returns

    return {**CATALOGUE, "request.n": replace(CATALOGUE["request.n"], resolve=resolve)}


USES = {
    "leaf": ("{request.n: {gte: 1}}", ""),
    "pattern": ("{request.n: {lt: 3}, request.model: {matches: a}}", ""),
    "sum": ("{m: {gte: 1}}", ", measures: {m: {sum: request.n, per: [request.path], window: 1m}}"),
    "where": ("{m: {gte: 1}}", ", measures: {m: {count: true, per: [request.path], window: 1m, where: {request.n: {gte: 1}}}}"),
    "key": ("{m: {gte: 1}}", ", measures: {m: {count: true, per: [request.n], window: 1m}}"),
}


@pytest.mark.parametrize(
    ("use", "verdict"),
    [
        ("leaf", Verdict.ERROR),
        ("pattern", Verdict.ERROR),
        ("key", Verdict.ERROR),
        ("sum", Verdict.ERROR),
        ("where", Verdict.NO_MATCH),  # not counted, so the count itself is known
    ],
)
@pytest.mark.parametrize("returns", [RuntimeError("broke"), Failed("broke")])
def test_a_broken_provider_makes_its_own_rules_end_as_error(use: str, verdict: Verdict, returns: object) -> None:
    when, more = USES[use]
    found = policy(pack(rule("p.broken", when, more=more), rule("p.other", "{request.method: POST}", "{action: tag, tag: t}")))
    gate = Gate(found, broken_catalogue(returns))
    judgement = gate.judge(Facts(at=START))
    gate.settle(judgement, Answer(200))
    assert end_of(judgement, "p.broken").verdict is verdict
    assert ("broke" in end_of(judgement, "p.broken").error) == (verdict is Verdict.ERROR)
    assert judgement.outcome.tags == ("t",)
    assert judgement.outcome.refusal is None


@pytest.mark.parametrize("use", sorted(USES))
def test_a_provider_of_the_wrong_type_breaks_nobody_else(use: str) -> None:
    when, more = USES[use]
    limit = "[{id: p.plan, per: [request.path], limit: 5/minute, when: {request.n: {gte: 1}}, on_missing: skip, mode: enforce}]"
    found = policy(
        pack(
            rule("p.broken", when, more=more), rule("p.other", "{request.method: POST}", "{action: tag, tag: t}"), limits=limit
        )
    )
    gate = Gate(found, broken_catalogue(object()))
    judgement = gate.judge(Facts(at=START))
    gate.settle(judgement, Answer(200))
    assert judgement.outcome.tags == ("t",)
    assert judgement.outcome.refusal is None
    assert judgement.outcome.rooms == ()
    assert end_of(judgement, "p.broken").verdict is (Verdict.NO_MATCH if use == "where" else Verdict.ERROR)


LIMIT = "[{{id: p.plan, per: [account.id], limit: 1/minute, when: {{account.plan: free}}, on_missing: {0}, mode: enforce}}]"
CALLERS: dict[str, dict[str, Any]] = {
    "no key": {"account.plan": "free"},
    "no plan": {"account.id": "a"},
    "broken plan": {"account.id": "a", "account.plan": Failed("gone")},
    "neither": {},
}


@pytest.mark.parametrize("caller", sorted(CALLERS))
@pytest.mark.parametrize("on_missing", ["refuse", "share", "skip"])
def test_limits_act_by_their_on_missing(on_missing: str, caller: str) -> None:
    gate = Gate(policy(pack(limits=LIMIT.format(on_missing))), CATALOGUE)
    seen = []
    for number in range(2):
        judgement = gate.judge(given_facts(CALLERS[caller], START + number))
        gate.settle(judgement, Answer(200))
        refusal = judgement.outcome.refusal
        seen.append((refusal.status, refusal.public.code) if refusal else None)
    assert (
        seen
        == {
            "refuse": [(401, "key-missing")] * 2,
            "share": [None, (429, "rate-limited")],
            "skip": [None, None],
        }[on_missing]
    )


def test_the_anonymous_counter_is_shared_by_nobody_who_has_a_key() -> None:
    gate = Gate(policy(pack(limits=LIMIT.format("share"))), CATALOGUE)
    free = {"account.plan": "free"}
    refused = [
        judge(gate, values, START + n).outcome.refusal is not None
        for n, values in enumerate(
            [free, free | {"account.id": "a"}, free, free | {"account.id": "b"}, free | {"account.id": "a"}]
        )
    ]
    assert refused == [False, False, True, False, True]


def test_a_limit_whose_condition_is_false_does_nothing_even_without_a_key() -> None:
    gate = Gate(policy(pack(limits=LIMIT.format("refuse"))), CATALOGUE)
    outcome = judge(gate, {"account.plan": "paid"}).outcome
    assert (outcome.refusal, outcome.rooms, outcome.headers) == (None, (), ())


def test_whether_a_declaration_covers_an_exchange_is_unknown_where_its_scope_is_and_then_it_does_not() -> None:
    """A rule that abstains acts; a rule that reads the declaration is unknown, whichever value it compares with."""
    workloads = """workloads:
  - {id: r, kind: relay, orgs: [x], models: [m], from: 2020-01-01, until: 2040-01-01, owner: o, evidence: e}
"""
    rules = [
        rule("p.abstains", "{client.country: KP}", more=", abstain_for: [relay]"),
        *(rule(f"p.{word}", f"{{reseller.declared: {word}}}") for word in ("true", "false")),
    ]
    gate = Gate(policy(pack(*rules), workloads), CATALOGUE)

    def ends(**values: Any) -> list[Verdict]:
        judgement = gate.judge(Facts(at=START, recorded={"client.country": "KP", **values}))
        assert end_of(judgement, "p.abstains").abstained == ("r" if len(values) == 2 else "")
        return [end_of(judgement, f"p.{word}").verdict for word in ("true", "false")]

    assert ends(**{"account.org": "x", "request.model": "m"}) == [Verdict.MATCH, Verdict.NO_MATCH]
    assert ends(**{"account.org": "x"}) == ends(**{"request.model": "m"}) == ends() == [Verdict.UNKNOWN] * 2
    assert ends(**{"account.org": "y"}) == [Verdict.NO_MATCH, Verdict.MATCH]
