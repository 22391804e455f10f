"""What explanations look like: one golden text per feature, the caller's view, the keys of the tree, the command."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Mode
from gateway.errors import ReplayError
from gateway.facts import Answer, Cause
from gateway.gate import Gate
from gateway.language.policy import Policy, Rule
from gateway.replay import telling
from gateway.replay.caller import caller_lines, caller_view
from gateway.replay.layout import lines
from gateway.replay.telling import told
from gateway.state.memory import MemoryState
from tests.judging import CATALOGUE, START, facts, judge, policy
from tests.replay.explaining import entry_of, explained, policy_of, said, sound
from tests.strategies import Plain, Sent, exchanges, judged, packs

EXPLAINED = Path(__file__).parent / "explained"
ID = "00000000000000000000000000000001"
HEAD = "pack: p\nversion: 3\nlanguage: 1\n"
LISTS = """lists:
  listed: {type: country, values: [KP, IR]}
  offices: {type: cidr, values: [10.0.0.0/8, 192.0.2.0/24]}
"""
LEAVES = """rules:
  - id: p.leaves
    title: Every kind of comparison
    family: client
    owner: tests
    when:
      all:
        - {id: listed, client.country: "@listed"}
        - {id: office, client.ip: {within: "@offices"}}
        - {id: young, account.age: {lt: 30d}}
        - {id: style, client.json_style: {any_of: [spaced, compact]}}
        - any:
            - {id: big, request.size: {gte: 500}}
            - {id: model, request.model: {starts_with: gpt}}
    then: {action: tag, tag: odd}
    evidence: [client.country, request.model]
    false_positives: [{cause: An office abroad, mitigated_by: office}]
    blind_spots: [Offices we do not know]
    references: ["doi:10.1000/1"]
    mode: enforce
"""
TRIED = """rules:
  - id: p.tried
    title: Everything that is tried on a match
    family: coordination
    owner: tests
    measures:
      requests: {count: true, per: [account.id], window: 1m}
    when: {id: many, requests: {gte: 2}}
    corroborate: {families: 2, within: 1h, per: [account.id], else: observe}
    then:
      of: requests
      steps:
        - {from: 2, action: throttle, limit: 1/minute, per: [account.id]}
        - {from: 5, action: verify, link: "https://example.com/verify"}
    exceptions:
      by_account:
        fields: [account.id]
        entries: [{values: [b], reason: agreed, owner: ops, expires: 2030-01-01}]
      by_owner:
        fields: [account.org, client.country]
        entries: [{values: [x, KP], reason: a pilot, owner: ops, expires: 2026-01-01}]
    mode: enforce
  - id: p.shadow
    title: A rule in shadow
    family: network
    owner: tests
    when: {client.country: KP}
    then: {action: deny}
    mode: shadow
limits:
  - {id: p.plan, per: [account.id], limit: 9/minute, on_missing: skip, mode: enforce}
"""
WORKLOADS = """workloads:
  - {id: w.bench, kind: benchmark, accounts: [b], from: 2026-01-01, until: 2027-01-01, owner: ops, evidence: ticket 1}
  - {id: w.small, kind: benchmark, accounts: [a], ceiling: 2 requests/hour, from: 2026-01-01, until: 2027-01-01, owner: ops,
     evidence: ticket 2}
  - {id: w.past, kind: benchmark, accounts: [a], from: 2025-01-01, until: 2026-01-01, owner: ops, evidence: ticket 3}
"""
RESTRICTING = """rules:
  - id: p.less
    title: Less for some
    family: network
    owner: tests
    when: {client.country: KP}
    then: {action: restrict, to: {max_tokens: 100, logprobs: false}}
    public: {code: less, message: Less than asked for.}
    mode: enforce
"""
CALLER = {"account.id": "a", "account.org": "x", "client.country": "KP"}


def last(
    pack: str, values: dict[str, Any], times: int = 1, identity: str = ID, more: str = ""
) -> tuple[dict[str, Any], Policy]:
    """The record of the last of some equal exchanges, a second apart, and the policy that judged them."""
    loaded = policy(HEAD + pack, *([more] if more else []))
    gate = Gate(loaded, CATALOGUE, state=MemoryState(), ids=lambda facts: ID, timer=lambda: 0)
    found = [judge(gate, values, START + number * 1_000_000) for number in range(times)]
    return entry_of(found[-1]), loaded


def text_of(pack: str, values: dict[str, Any], times: int = 1, **more: Any) -> str:
    return said(explained(*last(pack, values, times)), **more)


def leaves() -> str:
    values = {"client.country": "KP", "client.ip": "10.1.2.3", "account.age": "3d", "client.json_style": ["spaced"],
              "request.size": 600}  # fmt: skip
    return text_of(LISTS + LEAVES, values, verbose=True)


def unknown() -> str:
    return text_of(LISTS + LEAVES, {"client.country": "KP", "client.ip": "10.1.2.3", "request.size": 600})


def no_match() -> str:
    return text_of(TRIED, CALLER, only=["p.tried"])


def tried() -> str:
    abstaining = TRIED.replace("    corroborate:", "    abstain_for: [benchmark]\n    corroborate:")
    return said(explained(*last(abstaining, CALLER, 3, more=WORKLOADS)))


def by_another() -> str:
    entry, _ = last(TRIED, CALLER)
    changed = policy(HEAD.replace("3", "4") + TRIED.replace("{gte: 2}", "{gte: 1}"))
    return said(explained(entry, changed), only=["p.shadow"])


GOLDEN = {"leaves": leaves, "unknown": unknown, "no-match": no_match, "tried": tried, "another-policy": by_another}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_text_of(name: str) -> None:
    """`tests/replay/explained/NAME.txt` holds what is to be read, but for the digits of digests."""
    text = re.sub(r"sha256:[0-9a-f]{12}…", "sha256:…", GOLDEN[name]())
    assert text == (EXPLAINED / f"{name}.txt").read_text()
    assert max(map(len, text.splitlines())) <= 128


def test_every_golden_text_is_tested() -> None:
    assert {file.stem for file in EXPLAINED.iterdir()} == set(GOLDEN)


def test_json_is_the_same_tree() -> None:
    """What the text says stands in the tree under the documented keys, and the tree is plain JSON."""
    explanation = explained(*last(TRIED, CALLER, 3))
    tree = told(explanation)
    again = json.loads(json.dumps(tree))
    assert again == tree
    assert "\n".join(lines(again)) == "\n".join(lines(tree))
    documented = f"{telling.__doc__} {telling.rule_tree.__doc__}"
    assert [key for key in tree if f"`{key}`" not in documented] == []
    declared = {field.name for field in fields(Rule)}
    assert [key for rule in tree["rules"] for key in rule if key not in declared and f"`{key}`" not in documented] == []


def test_what_a_caller_sends_cannot_reach_the_terminal() -> None:
    sent = {"client.country": "KP", "request.model": "gpt\x1b[31m\n\u202e" + "x" * 5_000}
    text = text_of(LISTS + LEAVES, sent)
    assert "gpt\\x1b[31m\\n\\u202exxx" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text) < 9_000


def test_a_throttle_without_a_key_says_why_it_yields() -> None:
    throttled = TRIED.replace("when: {id: many, requests: {gte: 2}}", "when: {client.country: KP}").replace(
        "    corroborate: {families: 2, within: 1h, per: [account.id], else: observe}\n", ""
    )
    alone = throttled[: throttled.index("    then:")] + (
        "    then: {action: throttle, limit: 1/minute, per: [account.org]}\n    mode: enforce\n"
    )
    assert "nobody to count by, so it yields: no account.org: not given" in text_of(alone, {"client.country": "KP"})
    assert "its limit had room, so it yields (0 left" in text_of(alone, CALLER)
    assert "its limit had no room (0 left" in text_of(alone, CALLER, 2)


def test_a_restriction_is_told_in_both_views() -> None:
    pack = RESTRICTING
    asking = {"request.operation": "chat", "request.max_tokens": 500, "request.logprobs": True}
    entry, loaded = last(pack, CALLER | asking)
    explanation = explained(entry, loaded)
    assert "restricted to logprobs False, max_tokens 100" in said(explanation)
    tree = caller_view(explanation)
    assert tree["restricted"] == entry["outcome"]["restricted"] == ["max_tokens=100", "logprobs=off"]
    assert tree["code"] == "less"
    assert caller_lines(tree)[3:] == [
        "The request was passed on with less than it asked for.", "Code less.", "Taken from it: max_tokens=100, logprobs=off.",
    ]  # fmt: skip


def test_a_restriction_that_took_nothing_is_not_told_to_the_caller() -> None:
    entry, loaded = last(RESTRICTING, CALLER | {"request.operation": "chat", "request.max_tokens": 5})
    assert caller_view(explained(entry, loaded))["what"] == "The request was passed on."


def test_a_restriction_that_was_altered_is_found_out() -> None:
    entry, loaded = last(RESTRICTING, CALLER | {"request.operation": "chat", "request.max_tokens": 500})
    entry["outcome"]["restricted"] = ["max_tokens=400"]
    with pytest.raises(ReplayError, match="the outcome's restricted is"):
        explained(entry, loaded)


def test_a_match_that_does_not_act_says_why_in_its_first_line() -> None:
    rule = TRIED.replace("    corroborate:", "    abstain_for: [benchmark]\n    corroborate:")
    small = WORKLOADS.replace("ceiling: 2 requests", "ceiling: 9 requests")
    told_ = said(explained(*last(rule, CALLER, 3, more=small)))
    assert "p.tried  match, abstained (w.small)  (coordination, medium, enforce)" in told_
    agreed = said(explained(*last(TRIED, CALLER | {"account.id": "b"}, 3)))
    assert "p.tried  match, excepted (by_account)  (coordination, medium, enforce)" in agreed


def test_changes_are_looked_for_in_so_many_rules_and_that_is_said() -> None:
    head, then = "title: t, family: client, owner: o, mode: enforce", "then: {action: tag, tag: t}"
    one = f"  - {{id: p.rNN, {head}, when: {{client.country: KP}}, {then}}}\n"
    many = "rules:\n" + "".join(one.replace("NN", f"{number:02}") for number in range(27))
    told_ = text_of(many, CALLER)
    assert told_.count("would change it\n") == 25
    assert told_.endswith("«would change it» was looked for in the first 25 rules; --rule ID looks for it in another\n")
    assert "was looked for" not in text_of(many, CALLER, only=["p.r26"])


@pytest.mark.parametrize("cause", list(Cause))
def test_the_caller_of_an_unreadable_exchange_is_told_its_cause(cause: Cause) -> None:
    loaded = policy(HEAD + TRIED)
    gate = Gate(loaded, CATALOGUE, ids=lambda facts: ID, timer=lambda: 0)
    judgement = gate.judge(facts(CALLER, cause=cause))
    gate.settle(judgement, Answer())
    tree = caller_view(explained(entry_of(judgement), loaded))
    refusal = judgement.outcome.refusal
    assert tree.get("code") == (refusal.public.code if refusal else None)
    assert tree.get("message") == (refusal.public.message if refusal else None)


def verifying() -> tuple[dict[str, Any], Policy]:
    return last(TRIED.replace("    corroborate: {families: 2, within: 1h, per: [account.id], else: observe}\n", ""), CALLER, 5)


def test_the_caller_is_told_where_to_verify() -> None:
    lines_told = caller_lines(caller_view(explained(*verifying())))
    assert lines_told[3] == "The request was refused until the account is verified."
    assert lines_told[4].startswith("Status 403, code verification-required: ")
    assert lines_told[5:] == ["To verify or appeal: https://example.com/verify"]


CALLER_KEYS = {
    "reference",
    "at",
    "what",
    "status",
    "code",
    "message",
    "retry_after",
    "held",
    "restricted",
    "help",
    "declare",
    "declare_where",
}


@settings(max_examples=60, deadline=None)
@given(packs("p", modes=[Mode.ENFORCE, Mode.SHADOW], broken=True), exchanges(), st.booleans())
def test_the_caller_learns_nothing_of_the_policy(pack: Plain, sent: list[Sent], other: bool) -> None:
    """No signal, measure, rule, limit, tag or account is named, and no number but the status and the times."""
    for rule in pack["rules"]:
        rule["public"] = {"code": "policy-decision", "message": "Not served under the policy."}
    for limit in pack["limits"]:
        limit["public"] = {"code": "rate-limited", "message": "Slow down."}
    loaded = policy_of([pack])
    by = policy_of([pack | {"version": 2}]) if other else loaded
    names = {*CATALOGUE, *(rule.id for rule in loaded.rules), *(limit.limit.id for limit in loaded.limits), "odd", "even"}
    names |= {name for rule in loaded.rules for name in (*rule.measures, *(m.label for m in rule.measures.values()))}
    for judgement in judged([pack], sound(sent)):
        entry = entry_of(judgement)
        tree = caller_view(explained(entry, by))
        assert tree.keys() <= CALLER_KEYS
        text = "\n".join(caller_lines(tree)) + json.dumps(tree)
        assert [name for name in names if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", text)] == []
        rest = {
            key: value
            for key, value in tree.items()
            if key not in ("reference", "at", "status", "retry_after", "held", "restricted")
        }
        assert not re.search(r"\d", json.dumps(rest))
        outcome = judgement.outcome
        assert tree.get("declare", []) == [asked.kind for asked in outcome.asked]
        if outcome.refusal is None and not outcome.delay and outcome.restriction is None and not outcome.asked:
            assert tree == {"reference": entry["reference"], "at": entry["at"], "what": "The request was passed on."}


def test_a_cause_that_is_not_kept_out_here_is_said_to_be_kept_out_elsewhere() -> None:
    below = LEAVES.replace(
        '{id: office, client.ip: {within: "@offices"}}', 'none: [{id: office, client.ip: {within: "@offices"}}]'
    )
    for pack, ip, saying in (
        (LEAVES, "10.1.2.3", "would be kept out where office is false; here it is true and does not (client.ip is 10.1.2.3)"),
        (LEAVES, "8.8.8.8", "kept out by office, which is false here (client.ip is 8.8.8.8)"),
        (below, "10.1.2.3", "kept out by office, which is true here (client.ip is 10.1.2.3)"),
    ):
        entry, by = last(LISTS + pack, {**CALLER, "client.ip": ip})
        (rule,) = told(explained(entry, by), ["p.leaves"])["rules"]
        assert rule["false_positives"][0]["said"] == saying
