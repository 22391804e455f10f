"""Declared workloads: in scope, in time and below the ceiling a rule leaves them alone, and says so; else nothing changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.audit.record import record
from gateway.cli import main
from gateway.decision import Action, RuleEnd
from gateway.declarations import Declarations
from gateway.engine import Engine
from gateway.errors import Place, PolicyError
from gateway.facts import Answer, Call, Facts, Message
from gateway.gate import Gate
from gateway.language.compile import compile_nodes
from gateway.language.workloads import allowed
from gateway.replay.exchange import recorded
from gateway.replay.explain import explain
from gateway.replay.layout import lines
from gateway.replay.telling import told
from gateway.signals import View
from gateway.strict.document import parse
from gateway.values import SECOND, Missing, timestamp_text
from tests.judging import CATALOGUE, START, facts, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.busy
    title: busy
    family: volume
    owner: o
    measures: {requests: {count: true, per: [account.id], window: 1h}}
    when: {requests: {gte: 2}}
    abstain_for: [benchmark, relay]
    then: {action: throttle, limit: 1/minute, per: [account.id]}
    mode: enforce
  - id: p.seen
    title: seen
    family: client
    owner: o
    when: {account.id: {present: true}}
    corroborate: {families: 2, within: 1h, per: [account.id]}
    then: {action: deny}
    mode: enforce
"""
WORKLOADS = """
workloads:
  - id: swe
    kind: %s
    orgs: [acme]
    models: [m1, m2]
    ceiling: 3 requests/hour
    from: %s
    until: 2030-01-01
    owner: o
    evidence: e
"""
SENT = {"account.id": "a", "account.org": "acme", "request.model": "m1"}


def ends(
    sent: list[dict[str, Any]],
    kind: str = "benchmark",
    begins: str = "2020-01-01",
    until: str = "2030-01-01",
    ceiling: int = 3,
) -> list[RuleEnd]:
    """How p.busy ended on each exchange."""
    written = (WORKLOADS % (kind, begins)).replace("2030-01-01", until).replace("3 requests", f"{ceiling} requests")
    gate = Gate(policy(PACK, written), CATALOGUE)
    found = []
    for place, values in enumerate(sent):
        judgement = gate.judge(facts(values, START + place * SECOND))
        gate.settle(judgement, Answer(200))
        found.append(next((end for end in judgement.outcome.decision.ends if end.rule == "p.busy"), None))
    return found  # type: ignore[return-value]


def test_a_rule_abstains_for_a_workload_and_says_for_which() -> None:
    second = ends([SENT] * 2)[1]
    assert (second.abstained, second.action, second.would, str(second.verdict)) == ("swe", Action.ALLOW, Action.ALLOW, "match")


def test_above_its_ceiling_the_declaration_does_nothing() -> None:
    found = ends([SENT] * 5)
    assert [end.abstained if end else None for end in found] == [None, "swe", "swe", "", ""]


def test_a_ceiling_is_for_all_accounts_of_the_scope_together() -> None:
    sent = [{**SENT, "account.id": name} for name in ("a", "a", "b", "b", "b")]
    assert [end.abstained if end else None for end in ends(sent)] == [None, "swe", None, "", ""]


@pytest.mark.parametrize(
    "values",
    [
        {"account.org": "other"},
        {"request.model": "m3"},
        {"account.org": None},
        {"request.model": None},
    ],
)
def test_outside_its_scope_or_unknown_the_declaration_does_nothing(values: dict[str, Any]) -> None:
    sent = {name: value for name, value in {**SENT, **values}.items() if value is not None}
    assert ends([sent] * 2)[1].abstained == ""


def test_a_rule_abstains_only_for_the_kinds_it_names() -> None:
    assert ends([SENT] * 2, kind="batch")[1].abstained == ""
    assert ends([SENT] * 2, kind="relay")[1].abstained == "swe"


def test_before_it_begins_and_from_its_end_on_the_declaration_does_nothing() -> None:
    assert ends([SENT] * 2, begins="2029-01-01")[1].abstained == ""
    begins, until = timestamp_text(START + 2 * SECOND), timestamp_text(START + 3 * SECOND)
    found = ends([SENT] * 4, begins=begins, until=until, ceiling=9)
    assert [end.abstained if end else None for end in found] == [None, "", "swe", ""]


def test_an_abstained_match_does_not_corroborate() -> None:
    gate = Gate(policy(PACK, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    actions = []
    for place in range(5):
        judgement = gate.judge(facts(SENT, START + place * SECOND))
        gate.settle(judgement, Answer(200))
        actions.append(judgement.outcome.decision.action)
    assert actions == [Action.OBSERVE] * 3 + [Action.DENY] * 2


def test_the_record_says_which_workload_and_holds_what_was_counted() -> None:
    gate = Gate(policy(PACK, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    for place in range(2):
        judgement = gate.judge(facts(SENT, START + place * SECOND))
    entry = record(judgement, Answer(200))
    assert [end.get("abstained") for end in entry["rules"] if end["id"] == "p.busy"] == ["swe"]
    counted = [label for label in entry["measures"] if label.startswith("count over 1h where")]
    assert [entry["measures"][label] for label in counted] == [2]


def test_a_policy_whose_rules_do_not_abstain_counts_nothing_for_workloads() -> None:
    plain = PACK.replace("    abstain_for: [benchmark, relay]\n", "")
    gate = Gate(policy(plain, WORKLOADS % ("benchmark", "2020-01-01")), CATALOGUE)
    judgement = gate.judge(facts(SENT))
    assert not any(label.startswith("count over") for label in judgement.evaluated.values)


def test_workloads_are_part_of_the_digest_but_their_order_and_owner_are_not() -> None:
    one = WORKLOADS % ("benchmark", "2020-01-01")
    two = (WORKLOADS % ("relay", "2020-01-01")).replace("swe", "other")
    both = policy(PACK, one, two).digest
    assert both == policy(PACK, two, one).digest == policy(PACK, one.replace("owner: o", "owner: somebody"), two).digest
    assert both != policy(PACK, one).digest != policy(PACK).digest


# What rules may read of the declarations, and what records say of them

READING = """
pack: r
version: 1
language: 1
rules:
  - {{id: r.read, title: t, family: client, owner: o, mode: enforce, when: {when}, then: {{action: tag, tag: seen}},
     abstain_for: {abstain}, evidence: [workload.kind, workload.id]}}
"""
WHOLE = """
workloads:
  - {{id: {id}, kind: {kind}, orgs: [acme], models: [m1, m2], {more}from: {since}, until: 2030-01-01, owner: o, evidence: e}}
"""


def declared(name: str = "swe", kind: str = "benchmark", more: str = "", since: str = "2020-01-01") -> str:
    return WHOLE.format(id=name, kind=kind, more=more, since=since)


def reading(when: str, abstain: str = "[]") -> str:
    return READING.format(when=when, abstain=abstain)


def sent(values: dict[str, Any], at: int = START) -> Facts:
    """Facts that give these signals and say nothing of others, so that what the policy declares is found."""
    return Facts(at=at, recorded={name: CATALOGUE[name].type.parse(value) for name, value in values.items()})


def seen(when: str, values: dict[str, Any], *workloads: str, times: int = 1) -> dict[str, Any]:
    """The record of the last of some exchanges under one rule of this condition."""
    gate = Gate(policy(reading(when), *workloads), CATALOGUE)
    for place in range(times):
        judgement = gate.judge(sent(values, START + place * SECOND))
        gate.settle(judgement, Answer(200))
    return record(judgement, Answer(200))


def verdict(entry: dict[str, Any]) -> str:
    return next((end["verdict"] for end in entry["rules"] if end["id"] == "r.read"), "no_match")


@pytest.mark.parametrize(
    ("when", "values", "expected"),
    [
        ("{workload.kind: benchmark}", {}, "match"),
        ("{workload.kind: relay}", {}, "no_match"),
        ("{workload.id: swe}", {}, "match"),
        ("{workload.within_scope: true}", {}, "match"),
        ("{workload.within_scope: false}", {"account.org": "other"}, "match"),
        ("{workload.within_scope: false}", {"request.model": "m3"}, "match"),
        ("{workload.kind: {present: false}}", {"account.org": "other"}, "match"),
        ("{workload.within_ceiling: true}", {}, "match"),
        ("{workload.within_items: true}", {}, "match"),
        ("{reseller.declared: true}", {}, "no_match"),
    ],
)
def test_conditions_read_the_declaration_that_covers_an_exchange(when: str, values: dict[str, Any], expected: str) -> None:
    assert verdict(seen(when, {**SENT, **values}, declared())) == expected


@pytest.mark.parametrize(
    "name", ["workload.within_scope", "workload.within_ceiling", "workload.within_items", "reseller.declared"]
)
def test_without_a_declaration_it_is_false_and_with_a_missing_scope_unknown(name: str) -> None:
    assert verdict(seen(f"{{{name}: false}}", SENT)) == "match"
    for missing in ("account.org", "request.model"):
        values = {key: value for key, value in SENT.items() if key != missing}
        entry = seen(f"{{{name}: false}}", values, declared(kind="relay"))
        assert [(end["verdict"], end["missing"]) for end in entry["rules"]] == [("unknown", [name])]
        assert seen(f"{{{name}: true}}", values)["rules"] == []


def test_above_the_ceiling_it_is_false_and_a_relay_no_longer_declared() -> None:
    relay = declared(kind="relay", more="ceiling: 2 requests/hour, ")
    for name in ("workload.within_ceiling", "reseller.declared"):
        found = [verdict(seen(f"{{{name}: true}}", SENT, relay, times=times)) for times in (1, 2, 3)]
        assert found == ["match", "match", "no_match"]
    assert verdict(seen("{workload.kind: relay}", SENT, relay, times=3)) == "match"


def test_a_kind_may_filter_and_separate_what_is_counted() -> None:
    pack = """
pack: c
version: 1
language: 1
rules:
  - id: c.many
    title: t
    family: volume
    owner: o
    measures: {n: {count: true, per: [workload.id], where: {workload.kind: benchmark}, window: 1h}}
    when: {n: {gte: 2}}
    then: {action: tag, tag: many}
    mode: enforce
"""
    gate = Gate(policy(pack, declared()), CATALOGUE)
    outcomes = []
    for org in ("acme", "other", "acme"):
        judgement = gate.judge(sent({**SENT, "account.org": org}))
        gate.settle(judgement, Answer(200))
        outcomes.append(judgement.outcome.tags)
    assert outcomes == [(), (), ("many",)]


def test_every_record_in_the_scope_of_a_workload_says_so_even_if_no_rule_matched() -> None:
    never = "{account.id: nobody}"
    entry = seen(never, SENT, declared(more="ceiling: 9 requests/hour, "))
    told = {"id": "swe", "kind": "benchmark", "covers": False, "in_time": True, "within_ceiling": None}
    assert (entry["rules"], entry["workloads"]) == ([], [told])
    assert not [label for label in entry["measures"] if label.startswith("count over")]
    gate = Gate(policy(reading(never, "[benchmark]"), declared(more="ceiling: 1 requests/hour, ")), CATALOGUE)
    found = [record(gate.judge(sent(SENT)), Answer(200))["workloads"] for _ in range(2)]
    assert found == [[{**told, "covers": True, "within_ceiling": True}], [{**told, "within_ceiling": False}]]
    assert "workloads" not in seen(never, {**SENT, "account.org": "other"}, declared())
    (early,) = seen(never, SENT, declared(since="2029-01-01"))["workloads"]
    assert (early["in_time"], early["covers"]) == (False, False)


def test_of_two_declarations_the_first_by_id_is_spoken_of_and_either_may_cover() -> None:
    tight, wide = declared(name="a", more="ceiling: 1 requests/hour, "), declared(name="b")
    for order in ((tight, wide), (wide, tight)):
        gate = Gate(policy(reading("{workload.id: {present: true}}", "[benchmark]"), *order), CATALOGUE)
        entries = [record(gate.judge(sent(SENT)), Answer(200)) for _ in range(2)]
        assert [entry["signals"]["workload.id"] for entry in entries] == ["a", "a"]
        assert [entry["rules"][0]["abstained"] for entry in entries] == ["a", "b"]
        assert [one["covers"] for one in entries[1]["workloads"]] == [False, True]


# A declared benchmark checks itself

CHECKED = declared(more="items: 40, ")


def grown(items: list[str], *, more: str = "items: 40, ", after: int = 0, **values: Any) -> list[str]:
    """For whom the rule abstains, exchange by exchange, each of which begins another conversation or goes on with one."""
    gate = Gate(policy(reading("{account.id: {present: true}}", "[benchmark]"), declared(more=more)), CATALOGUE)
    found = []
    for place, item in enumerate(items):
        at = START + (after * place if after else place * SECOND)
        judgement = gate.judge(sent({**SENT, "workload.item": item, **values}, at))
        gate.settle(judgement, Answer(200))
        found.append(judgement.outcome.decision.ends[0].abstained)
    return found


def test_a_finite_set_is_never_outgrown_however_often_it_is_repeated() -> None:
    assert grown([f"item {number % 40}" for number in range(400)]) == ["swe"] * 400


def test_what_goes_on_beyond_its_items_is_outgrown_and_stays_so() -> None:
    most = allowed(40)
    found = grown([f"item {number}" for number in range(most + 30)] + ["item 1"] * 5)
    assert found == ["swe"] * most + [""] * 35
    assert most == 62


def test_items_are_remembered_for_as_long_as_the_declaration_lasts() -> None:
    ten_days = 10 * 86_400 * SECOND
    assert grown([f"item {number}" for number in range(70)], after=ten_days // 2)[-1] == ""


def test_a_workload_that_is_outgrown_is_told_as_that() -> None:
    gate = Gate(policy(reading("{workload.within_items: false}", "[benchmark]"), CHECKED), CATALOGUE)
    for number in range(allowed(40) + 1):
        judgement = gate.judge(sent({**SENT, "workload.item": f"item {number}"}, START + number))
        gate.settle(judgement, Answer(200))
    entry = record(judgement, Answer(200))
    assert entry["workloads"] == [{"id": "swe", "kind": "benchmark", "covers": False, "in_time": True, "within_items": False}]
    assert [(end["id"], end["verdict"], end.get("abstained")) for end in entry["rules"]] == [("r.read", "match", None)]
    assert allowed(40) + 1 in entry["measures"].values()
    read = recorded(json.loads(json.dumps(entry)), Place("one"), CATALOGUE)
    text = "\n".join(lines(told(explain(read, entry, gate.policy, CATALOGUE))))
    assert "outgrown: 63 different ones seen, 40 declared: it does" in " ".join(text.split())


def test_items_that_a_record_does_not_hold_are_not_taken_as_none() -> None:
    gate = Gate(policy(reading("{account.id: {present: true}}", "[benchmark]"), CHECKED), CATALOGUE)
    end = gate.judge(sent(SENT)).outcome.decision.ends[0]
    assert (end.abstained, str(end.verdict)) == ("", "match")


def test_a_call_whose_item_is_not_known_is_not_covered() -> None:
    """A benchmark whose prompts are pictures cannot be held against its items: nothing says that it stays within them."""
    gate = Gate(policy(reading("{account.id: {present: true}}", "[benchmark]"), CHECKED), CATALOGUE)
    picture = Call("chat", "m1", messages=(Message("user", "", frozenset({"image"})),))
    facts = Facts(at=START, call=picture, account={"id": "a", "org": "acme"})
    judged = gate.judge(facts)
    assert judged.outcome.decision.ends[0].abstained == ""
    (told,) = record(judged, Answer(200))["workloads"]
    assert (told["covers"], told["within_items"]) == (False, None)


def test_an_item_is_the_beginning_of_a_conversation_and_the_system_text_where_nobody_speaks() -> None:
    item = CATALOGUE["workload.item"].resolve

    def of(*said: tuple[str, str], system: str = "") -> object:
        call = Call("chat", messages=tuple(Message(role, text) for role, text in said), system=system)
        return item(View(Facts(at=START, call=call), CATALOGUE))

    assert of(("user", "task 1")) == of(("user", "task 1"), ("assistant", "ls"), ("user", "a file"), system="be quick")
    assert of(("user", "task 1")) != of(("user", "task 2"))
    assert of(system="task 1") == of(("user", " "), system="task 1")
    assert of(("assistant", "task 1")) == of(("tool", "task 1"), ("assistant", "more"), system="be quick")
    assert isinstance(of(("assistant", " ")), Missing)
    assert isinstance(item(View(Facts(at=START), CATALOGUE)), Missing)


def test_the_many_workloads_of_others_are_not_looked_at() -> None:
    """An index finds the few that may cover an exchange: no comparison of another organisation's scope is made."""
    many = [
        {"id": f"w{number}", "kind": "relay", "orgs": [f"org {number}"], "models": ["m1"], "ceiling": "5/hour",
         "from": "2020-01-01", "until": "2030-01-01", "owner": "o", "evidence": "e"}
        for number in range(300)
    ]  # fmt: skip
    loaded = policy(reading("{account.id: {present: true}}", "[relay]"), json.dumps({"workloads": many}))
    gate = Gate(loaded, CATALOGUE)
    values = {**SENT, "account.org": "org 7"}
    assert isinstance(declarations := Engine(loaded, CATALOGUE).declarations, Declarations)
    assert [one.id for one in declarations.near(View.of(sent(values), CATALOGUE))] == ["w7"]
    entry = record(gate.judge(sent(values)), Answer(200))
    assert [one["id"] for one in entry["workloads"]] == ["w7"]
    assert len(entry["measures"]) == 1


def test_a_scope_that_no_provider_can_see_does_not_load() -> None:
    few = {name: signal for name, signal in CATALOGUE.items() if name != "prompt.template"}
    written = parse(declared().replace("models: [m1, m2]", "templates: [t]"), "workloads.yaml")
    with pytest.raises(PolicyError, match=r"'templates' needs the signal prompt\.template, which no provider gives"):
        compile_nodes([written], few)


def test_records_are_judged_again_by_what_is_declared_now(tmp_path: Path) -> None:
    """A record made without a declaration, and one made with another, are both judged by the policy that is given."""
    entries = [
        seen("{account.id: {present: true}}", SENT),
        seen("{workload.kind: {present: true}}", SENT, declared(name="old", kind="batch")),
    ]
    file, rules = tmp_path / "audit.jsonl", tmp_path / "rules"
    file.write_text("".join(json.dumps({**entry, "id": f"{n:032x}"}) + "\n" for n, entry in enumerate(entries)))
    rules.mkdir()
    (rules / "r.yaml").write_text(reading("{account.id: {present: true}}", "[relay]"))
    (rules / "w.yaml").write_text(declared(name="new", kind="relay"))
    again = tmp_path / "again.jsonl"
    result = CliRunner().invoke(main, ["dry-run", str(file), "--policy", str(rules), "--decisions", str(again)])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in again.read_text().splitlines()]
    assert [[one["id"] for one in entry["workloads"]] for entry in found] == [["new"], ["new"]]
    assert [entry["rules"][0]["abstained"] for entry in found] == ["new", "new"]
