"""«What would change it»: every change claimed is real, and no smaller one of the same value exists."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Action, Mode
from gateway.facts import Answer, Cause
from gateway.gate import Gate
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy
from gateway.readings import counted
from gateway.replay.changes import Search, changes, ended
from gateway.replay.explain import Explanation
from gateway.replay.remedies import to_pass
from gateway.replay.scene import Supposed
from gateway.state.memory import MemoryState
from gateway.values import INT, AtLeast
from tests.judging import CATALOGUE, START, facts, judge, policy
from tests.replay.explaining import entry_of, explained, policy_of, sound
from tests.strategies import Plain, Sent, exchanges, judged, packs

HIGHEST = 130


def rewritten(entry: dict[str, Any], change: dict[str, Any], explanation: Explanation, rule_id: str) -> dict[str, Any] | None:
    """The record as it would read had the change been so; None where no record can say it (a ratio, a count without key)."""
    rule = explanation.policy.rule(rule_id)
    assert rule is not None
    found = copy.deepcopy(entry)
    found["policy"]["digest"] = "as if"
    for one in change["set"]:
        name, declared = one["name"], rule.measures.get(one["name"])
        if isinstance(declared, Ratio) or (declared and declared.label in explanation.now.prepared.values):
            return None
        if declared:
            found["measures"][declared.label] = one["value"]
            continue
        for part in ("signals", "missing", "failed"):
            found.get(part, {}).pop(name, None)
        if CATALOGUE[name].derived:  # else it would be found anew
            found.setdefault("given", []).append(name)
        if one["value"] is None:
            found["missing"][name] = "supposed to be absent"
        else:
            found["signals"][name] = one["value"]
    return found


@settings(max_examples=60, deadline=None)
@given(packs("p", modes=[Mode.ENFORCE, Mode.SHADOW], broken=True), exchanges(), st.data())
def test_every_change_claimed_gives_what_is_claimed(pack: Plain, sent: list[Sent], data: st.DataObject) -> None:
    """Written into the record as a fact, each set of values makes the rule and the request end as stated."""
    loaded = policy_of([pack])
    judgement = data.draw(st.sampled_from(judged([pack], sound(sent))))
    entry = entry_of(judgement)
    explanation = explained(entry, loaded)
    for rule in loaded.rules:
        now = ended(explanation.now, rule.id)
        for change in changes(rule, explanation):
            assert change["gives"] != now
            if "set" in change and (as_if := rewritten(entry, change, explanation, rule.id)) is not None:
                assert ended(explained(as_if, loaded).now, rule.id) == change["gives"]


@settings(max_examples=60, deadline=None)
@given(packs("p", broken=True), exchanges(), st.data())
def test_no_smaller_change_of_a_number_exists(pack: Plain, sent: list[Sent], data: st.DataObject) -> None:
    """Against trying every whole number: the nearest one below and above that makes the rule end otherwise is the one named."""
    loaded = policy_of([pack])
    explanation = explained(entry_of(data.draw(st.sampled_from(judged([pack], sound(sent))))), loaded)
    for rule in loaded.rules:
        search = Search(rule, explanation)
        for name in search.names():
            current = search.values(Supposed())(name)
            if search.kind(name) is not INT or not isinstance(current, int):
                continue
            top = 2 if name == "addresses" else HIGHEST if name in rule.measures else 600
            declared = rule.measures.get(name)
            own = counted(declared, explanation.view) if isinstance(declared, Measure) and not declared.settled else None
            least = 1 if own is not None or name == "requests" else 0  # this request, or what a ratio divides by, was counted
            now = search.result(Supposed())
            tried = range(least, top + 1)
            flips = [value for value in tried if search.result(search.setting(name, value, "").supposed) != now]
            nearest = {
                max((v for v in flips if v < current), default=None),
                min((v for v in flips if v > current), default=None),
            }
            told = [one.value for one in search.settings(name, search.result) if isinstance(one.value, int)]
            first = {max((v for v in told if v < current), default=None), min((v for v in told if v > current), default=None)}
            assert {v for v in first if v is None or least <= v <= top} | {None} == nearest | {None}


RING = """
pack: p
version: 1
language: 1
lists: {listed: {type: country, values: [KP, IR]}}
rules:
  - id: p.ring
    title: Many accounts of one client
    family: coordination
    owner: tests
    measures:
      members: {distinct: account.id, per: [client.fingerprint], window: 1h, cap: 60}
    when:
      all:
        - {id: young, account.age: {lt: 30d}}
        - {id: many, members: {gte: 2}}
    corroborate: {families: 2, within: 1h, per: [client.fingerprint], else: observe}
    abstain_for: [benchmark]
    then:
      of: members
      steps:
        - {from: 2, action: tag, tag: ring}
        - {from: 4, action: verify, link: "https://example.com/verify"}
        - {from: 50, action: deny}
    exceptions:
      by_owner: {fields: [account.org], entries: []}
    mode: enforce
  - id: p.place
    title: A place
    family: network
    owner: tests
    when: {id: listed, client.country: "@listed"}
    then: {action: tag, tag: place}
    mode: enforce
"""
HERE = {"client.fingerprint": "f", "account.age": "3d", "account.org": "x", "client.country": "KP"}


def ring(members: int, last: dict[str, Any] | None = None) -> tuple[Explanation, Policy]:
    loaded = policy(RING)
    gate = Gate(loaded, CATALOGUE, state=MemoryState(), ids=lambda facts: "id", timer=lambda: 0)
    for number in range(members):
        values = HERE | {"account.id": f"a{number}"} | ((last or {}) if number == members - 1 else {})
        judgement = judge(gate, {key: value for key, value in values.items() if value is not None}, START + number)
    return explained(entry_of(judgement), loaded), loaded


def changed(explanation: Explanation, rule_id: str) -> list[tuple[Any, ...]]:
    """The changes of a rule, short: what is supposed, how the rule ends then, what the request comes to."""
    rule = explanation.policy.rule(rule_id)
    assert rule is not None
    found: list[tuple[Any, ...]] = []
    for change in changes(rule, explanation):
        what = (
            [f"{one['name']} {one['from']} → {one['to']}" for one in change["set"]] if "set" in change else next(iter(change))
        )
        gives = change["gives"]
        found.append((what, gives.get("asks", gives["verdict"]), gives["request"]["action"]))
    return found


def test_steps_lists_remedies_of_a_match() -> None:
    explanation, _ = ring(5)
    assert changed(explanation, "p.ring") == [
        (["account.age 3d → at least 30d"], "no_match", "tag"),
        (["members 5 → below 4"], "tag", "tag"),
        (["members 5 → below 2"], "no_match", "tag"),
        (["members 5 → at least 50"], "deny", "deny"),
        ("exception", "nothing", "tag"),
        ("workload", "nothing", "tag"),
        ("not_corroborated_by", "observe", "observe"),
    ]
    assert changed(explanation, "p.place") == [(["client.country KP → none of @listed"], "no_match", "verify")]
    assert to_pass(explanation, True) == {"without_rules": ["p.ring"], "with_room": []}


def test_corroboration_that_lacks() -> None:
    explanation, _ = ring(5, {"client.country": "FR", "client.fingerprint": "g"})
    assert ("corroborated_by", "tag", "tag") not in changed(explanation, "p.ring")
    fresh = policy(RING.replace('"@listed"', "SE"))
    gate = Gate(fresh, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    judged_ = [judge(gate, HERE | {"account.id": f"a{n}"}, START + n) for n in range(3)]
    alone = explained(entry_of(judged_[-1]), fresh)
    assert ("corroborated_by", "tag", "tag") in changed(alone, "p.ring")


def test_pairs_only_where_no_single_value_reaches_an_end() -> None:
    explanation, _ = ring(1, {"account.age": "90d"})
    assert changed(explanation, "p.ring") == [
        (["account.age 90d → below 30d", "members 1 → at least 2"], "tag", "tag"),
    ]


def test_a_missing_value_says_what_would_have_matched_and_what_not() -> None:
    explanation, _ = ring(3, {"account.age": None})
    found = changed(explanation, "p.ring")
    assert (["account.age missing → below 30d"], "tag", "tag") in found
    assert (["account.age missing → at least 30d"], "no_match", "tag") in found


def test_a_capped_count_is_only_supposed_smaller() -> None:
    explanation, _ = ring(64)
    assert explanation.evaluated.values["distinct account.id by client.fingerprint over 1h up to 60"] == AtLeast(60)
    wanted = [what for what, _, _ in changed(explanation, "p.ring") if isinstance(what, list) and what[0].startswith("members")]
    assert wanted == [["members at least 60 → below 50"], ["members at least 60 → below 4"], ["members at least 60 → below 2"]]


@pytest.mark.parametrize(
    ("when", "given_", "expected"),
    [
        ("{request.model: {starts_with: gpt}}", {"request.model": "gpt-4"}, "request.model gpt-4 → text that begins otherwise"),
        ("{request.model: {ends_with: x}}", {"request.model": "a"}, "request.model a → text that ends with x"),
        ("{request.model: {contains: pt}}", {"request.model": "gpt"}, "request.model gpt → text without pt"),
        ("{request.model: {matches: '^abc$'}}", {"request.model": "x"}, "request.model x → text in which '^abc$' is found"),
        (
            "{client.ip: {within: [10.0.0.0/8]}}",
            {"client.ip": "10.1.1.1"},
            "client.ip 10.1.1.1 → an address outside [10.0.0.0/8]",
        ),
        ("{client.ip: {within: [10.0.0.0/8]}}", {"client.ip": "1.1.1.1"}, "client.ip 1.1.1.1 → an address within [10.0.0.0/8]"),
        ("{client.json_style: {all_of: [a, b]}}", {"client.json_style": ["a"]}, "client.json_style [a] → with all of [a, b]"),
        ("{client.json_style: {any_of: [a, b]}}", {"client.json_style": ["a"]}, "client.json_style [a] → without [a, b]"),
        ("{account.org: {present: true}}", {"account.org": "x"}, "account.org x → absent"),
        ("{account.org: {present: true}}", {}, "account.org missing → present"),
        ("{request.stream: true}", {"request.stream": True}, "request.stream true → false"),
        ("{request.size: {between: [5, 9]}}", {"request.size": 7}, "request.size 7 → above 9"),
        ("{request.size: {in: [5, 9]}}", {"request.size": 7}, "request.size 7 → exactly 9"),
    ],
)
def test_every_kind_of_comparison_has_its_change(when: str, given_: dict[str, Any], expected: str) -> None:
    rule = f"{{id: p.r, title: t, family: client, owner: o, when: {when}, then: {{action: observe}}, mode: enforce}}"
    loaded = policy(f"pack: p\nversion: 1\nlanguage: 1\nrules:\n  - {rule}\n")
    gate = Gate(loaded, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    explanation = explained(entry_of(judge(gate, given_)), loaded)
    assert expected in [what[0] for what, _, _ in changed(explanation, "p.r") if isinstance(what, list)]


def test_the_set_to_pass_is_minimal_and_enough() -> None:
    alone = RING.replace("    corroborate: {families: 2, within: 1h, per: [client.fingerprint], else: observe}\n", "")
    text = alone.replace("then: {action: tag, tag: place}", "then: {action: deny}") + (
        "limits:\n  - {id: p.plan, per: [client.fingerprint], limit: 1/hour, on_missing: skip, mode: enforce}\n"
    )
    loaded = policy(text)
    gate = Gate(loaded, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    calm = HERE | {"client.country": "FR"}
    found = [judge(gate, (HERE if n == 5 else calm) | {"account.id": f"a{n}"}, START + n) for n in range(6)]
    explanation = explained(entry_of(found[-1]), loaded)
    needed = to_pass(explanation, True)
    assert needed == {"without_rules": ["p.place", "p.ring"], "with_room": ["p.plan"]}
    rest, room = frozenset(needed["without_rules"]), frozenset(needed["with_room"])
    assert explanation.again(Supposed(resting=rest, room=room)).enforced.refusal is None
    for rule in rest:
        assert explanation.again(Supposed(resting=rest - {rule}, room=room)).enforced.refusal is not None
    assert explanation.again(Supposed(resting=rest)).enforced.refusal is not None


@pytest.mark.parametrize(
    ("measure", "least"),
    [
        ("{count: true, per: [account.id], window: 1h}", 1),
        ("{distinct: client.country, per: [account.id], window: 1h}", 1),
        ("{sum: request.size, per: [account.id], window: 1h}", 7),
        ("{count: true, per: [account.id], window: 1h, where: {client.country: FR}}", 0),
        ("{count: true, per: [account.id], window: 1h, where: {response.status: 500}}", 0),
    ],
)
def test_no_count_is_supposed_below_what_this_request_makes_it(measure: str, least: int) -> None:
    rule = f"{{id: p.r, title: t, family: client, owner: o, measures: {{n: {measure}}}, when: {{n: {{lt: LIMIT}}}}"
    for limit in (least + 1, least):
        written = f"pack: p\nversion: 1\nlanguage: 1\nrules:\n  - {rule}, then: {{action: observe}}, mode: enforce}}\n"
        loaded = policy(written.replace("LIMIT", str(limit)).replace("lt: 0", "lt: 1"))
        gate = Gate(loaded, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
        sent = {"account.id": "a", "client.country": "KP", "request.size": 7}
        for number in range(9):
            judgement = judge(gate, sent | {"client.country": ["KP", "SE", "DK"][number % 3]}, START + number, Answer(500))
        explanation = explained(entry_of(judgement, Answer(500)), loaded)
        searched = Search(loaded.rules[0], explanation)
        below = [one.value for one in searched.settings("n", searched.result)]
        assert all(isinstance(value, int) and value >= least for value in below)


def test_a_rule_that_acts_only_by_corroboration_need_not_be_named() -> None:
    """Without the other family's rule it is lowered, so that one rule is enough."""
    text = RING.replace("then: {action: tag, tag: place}", "then: {action: deny}")
    gate = Gate(policy(text), CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    calm = HERE | {"client.country": "FR"}
    found = [judge(gate, (HERE if n == 5 else calm) | {"account.id": f"a{n}"}, START + n) for n in range(6)]
    assert [end.action for end in found[-1].outcome.decision.ends] == [Action.DENY, Action.VERIFY]
    assert to_pass(explained(entry_of(found[-1]), policy(text)), True) == {"without_rules": ["p.place"], "with_room": []}


def test_what_no_rule_decides_cannot_be_mended_by_one() -> None:
    loaded = policy(RING)
    gate = Gate(loaded, CATALOGUE, ids=lambda facts: "id", timer=lambda: 0)
    judgement = gate.judge(facts(HERE, cause=Cause.BODY_MALFORMED))
    gate.settle(judgement, Answer())
    explanation = explained(entry_of(judgement), loaded)
    assert to_pass(explanation, True) == {"impossible": ["intake:body-malformed"]}
