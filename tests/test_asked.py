"""Asking to declare: whom rules ask, what records, explanations, dry runs and rule tests say of it, and `sluice asked`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit.record import record
from gateway.cli import main
from gateway.decision import Action, Mode
from gateway.errors import Place
from gateway.facts import Answer, Cause, Facts
from gateway.failing import Fail, FailModes
from gateway.gate import Gate
from gateway.language.difference import difference
from gateway.replay.asked import KEPT, Daily, Frequent
from gateway.replay.asked_printing import rounded_up
from gateway.replay.caller import caller_lines, caller_view
from gateway.replay.exchange import recorded
from gateway.replay.explain import Explanation, explain
from gateway.replay.layout import lines
from gateway.replay.telling import told
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, policy

HOUR = 3_600 * SECOND
DAY = 24 * HOUR
PACK = """
pack: p
version: 1
language: 1
rules:
  - {{id: p.relay, title: A relay, family: client, owner: o, mode: {mode}, when: {{client.family: relay}},
     abstain_for: [relay], {more}then: {then}}}
  - {{id: p.other, title: Another, family: network, owner: o, mode: enforce, when: {{client.country: NO}},
     then: {{action: {other}}}}}
"""
TAG = "{action: tag, tag: relay, ask: relay}"
WORKLOADS = """
workloads:
  - {id: r, kind: relay, orgs: [acme], from: 2020-01-01, until: 2030-01-01, owner: o, evidence: e, ceiling: 2 requests/hour}
"""
SENT = {"account.id": "a", "account.org": "acme", "client.family": "relay", "request.model": "m1", "prompt.template": "t"}


def pack(then: str = TAG, mode: str = "enforce", more: str = "", other: str = "deny") -> str:
    return PACK.format(mode=mode, then=then, more=more, other=other)


def facts(values: dict[str, Any], at: int = START, **more: Any) -> Facts:
    return Facts(at=at, recorded={name: CATALOGUE[name].type.parse(value) for name, value in values.items()}, **more)


def entries(*packs: str, sent: list[dict[str, Any]], mode: Mode = Mode.ENFORCE, step: int = SECOND) -> list[dict[str, Any]]:
    """The records of exchanges under a policy."""
    gate, found = Gate(policy(*packs), CATALOGUE, mode=mode), []
    for place, values in enumerate(sent):
        judgement = gate.judge(facts(values, START + place * step))
        answer = Answer(200)
        gate.settle(judgement, answer)
        found.append(json.loads(json.dumps(record(judgement, answer))))
    return found


def asked(entry: dict[str, Any]) -> Any:
    return entry["outcome"].get("asked")


def end(entry: dict[str, Any]) -> dict[str, Any]:
    """How p.relay ended."""
    return next(one for one in entry["rules"] if one["id"] == "p.relay")


RELAY = [{"kind": "relay", "by": ["p.relay"]}]


@pytest.mark.parametrize(
    "then",
    [
        TAG,
        "{action: observe, ask: relay}",
        "{action: delay, hold: 1s, ask: relay}",
        "{action: restrict, to: {max_tokens: 5}, ask: relay}",
        "{action: throttle, limit: 1/minute, per: [account.id], ask: relay}",
        "{action: verify, ask: relay}",
    ],
)
def test_a_match_that_stands_asks_whatever_else_it_does(then: str) -> None:
    found = entries(pack(then), sent=[SENT, SENT])
    assert [asked(entry) for entry in found] == [RELAY, RELAY]
    assert end(found[0])["asks"] == "relay"


def test_a_match_that_does_not_stand_asks_nothing() -> None:
    exempt = "exceptions: {e: {fields: [account.id], entries: [{values: [a], reason: r, owner: o, expires: 2030-01-01}]}}, "
    alone = "corroborate: {families: 2, within: 1h, per: [account.id]}, "
    assert [asked(entry) for entry in entries(pack(more=exempt), sent=[SENT])] == [None]
    assert [asked(entry) for entry in entries(pack(more=alone), sent=[SENT])] == [None]
    together = {**SENT, "client.country": "NO"}
    assert [asked(entry) for entry in entries(pack(more=alone), sent=[together])] == [RELAY]
    assert [asked(entry) for entry in entries(pack(), sent=[{**SENT, "client.family": "sdk"}])] == [None]


def test_a_declared_relay_is_asked_only_above_its_ceiling() -> None:
    found = entries(pack(), WORKLOADS, sent=[SENT] * 3)
    assert [asked(entry) for entry in found] == [None, None, RELAY]
    assert [end(entry).get("abstained") for entry in found] == ["r", "r", None]
    assert found[2]["workloads"] == [{"id": "r", "kind": "relay", "covers": False, "in_time": True, "within_ceiling": False}]


def test_a_shadow_rule_asks_in_the_would_be_view_alone() -> None:
    shadow = entries(pack(mode="shadow"), sent=[SENT])[0]
    assert (asked(shadow), end(shadow).get("asks"), end(shadow)["would_ask"]) == (None, None, "relay")
    lowered = entries(pack(), sent=[SENT], mode=Mode.SHADOW)[0]
    assert (asked(lowered), end(lowered)["would_ask"]) == (None, "relay")


def test_who_is_refused_for_another_reason_is_asked_all_the_same() -> None:
    denied = entries(pack(), sent=[{**SENT, "client.country": "NO"}])[0]
    assert (denied["outcome"]["action"], asked(denied)) == ("deny", RELAY)
    gate = Gate(policy(pack()), CATALOGUE, fail=FailModes({Cause.BODY_MALFORMED: Fail.CLOSED}))
    unread = gate.judge(facts(SENT, cause=Cause.BODY_MALFORMED)).outcome
    assert (unread.action, [one.code for one in unread.asked]) == (Action.DENY, ["declare-relay"])


def test_the_record_of_who_was_asked_says_of_whom_and_what_it_speaks() -> None:
    live = Facts(at=START, headers=(("user-agent", "relay/1"),), account={"id": "a", "org": "acme"})
    judgement = Gate(policy(pack()), CATALOGUE).judge(live)
    signals = record(judgement, Answer(200))["signals"]
    assert [one.kind for one in judgement.outcome.asked] == ["relay"]
    assert (signals["account.id"], signals["account.org"]) == ("a", "acme")


def explained(entry: dict[str, Any], *packs: str) -> Explanation:
    return explain(recorded(entry, Place("one"), CATALOGUE), entry, policy(*packs), CATALOGUE)


def test_the_explanation_says_that_the_caller_was_asked_and_by_which_rule() -> None:
    explanation = explained(entries(pack(), sent=[SENT])[0], pack())
    text = " ".join("\n".join(lines(told(explanation))).split())
    assert "the caller was asked to declare a relay (by p.relay)" in text
    assert "p.relay match → tag, asks for a declared relay" in text
    tree = caller_view(explanation)
    assert tree["declare"] == ["relay"]
    asked_at = caller_lines(tree).index("You were asked to declare what this is: a relay.")
    assert "`link`" in caller_lines(tree)[asked_at + 1] == tree["declare_where"]
    shadow = explained(entries(pack(mode="shadow"), sent=[SENT])[0], pack(mode="shadow"))
    assert not {"declare", "declare_where"} & caller_view(shadow).keys()


def test_a_record_that_says_otherwise_whom_a_policy_asked_is_not_believed() -> None:
    entry = entries(pack(), sent=[SENT])[0]
    del entry["outcome"]["asked"]
    with pytest.raises(Exception, match="the outcome's asked is"):
        explained(entry, pack())
    standing = entries(pack(), WORKLOADS, sent=[SENT])[0]
    standing["workloads"][0]["covers"] = False
    with pytest.raises(Exception, match="declared workloads in whose scope it is stand otherwise"):
        explained(standing, pack(), WORKLOADS)


def test_a_difference_of_policies_sees_what_is_asked() -> None:
    changed = difference(policy(pack()), policy(pack(TAG.replace("relay}", "benchmark}"))))
    reasons = [reason for change in changed.changes for reason in change.reasons]
    assert reasons == ["ask relay -> benchmark"]
    grown = difference(
        policy(pack(), WORKLOADS.replace("kind: relay", "kind: batch, items: 9")),
        policy(pack(), WORKLOADS.replace("kind: relay", "kind: batch, items: 90")),
    )
    (change,) = [change for change in grown.changes if change.what == "workload"]
    assert (change.reasons, str(change.direction)) == (("items 9 -> 90",), "narrower")


# Rule tests and mutants

CASES = """
cases:
  - {{name: asked, given: {{client.family: relay}}, expect: {{p.relay: match, {word}: {kind}}}}}
  - name: declared
    given: {{client.family: relay, account.org: acme}}
    expect: {{p.relay: match, asked: none, abstained: r}}
  - {{name: another, given: {{client.family: sdk}}, expect: {{p.relay: no_match, p.other: unknown}}}}
  - {{name: nobody, given: {{}}, expect: {{p.relay: unknown}}}}
  - {{name: here, given: {{client.country: NO}}, expect: {{p.other: match}}}}
  - {{name: there, given: {{client.country: SE}}, expect: {{p.other: no_match}}}}
workloads:
  - {{id: r, kind: relay, orgs: [acme], from: 2020-01-01, until: 2030-01-01, owner: o, evidence: e}}
"""


def sluice(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("word", "mode"), [("asked", "enforce"), ("would_ask", "shadow")])
def test_rule_tests_expect_what_is_asked_and_mutants_of_it_die(tmp_path: Path, word: str, mode: str) -> None:
    (tmp_path / "p.yaml").write_text(pack(mode=mode))
    (tmp_path / "p.test.yaml").write_text(CASES.format(word=word, kind="relay"))
    assert sluice("test", tmp_path).exit_code == 0, sluice("test", tmp_path).output
    swept = sluice("test", tmp_path, "--mutate").output
    assert "ask relay" not in swept
    (tmp_path / "p.test.yaml").write_text(CASES.format(word=word, kind="benchmark"))
    assert f"expected {word} benchmark, got relay" in sluice("test", tmp_path).output
    (tmp_path / "p.test.yaml").write_text(CASES.format(word="action", kind="tag" if mode == "enforce" else "allow"))
    survivors = sluice("test", tmp_path, "--mutate").output
    assert "p.relay: then: ask relay left out" in survivors
    assert "p.relay: then: ask relay becomes benchmark" in survivors


def test_a_given_declaration_stands_in_for_the_policys(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(pack().replace("client.family: relay", "reseller.declared: false"))
    cases = """cases:
  - {name: no relay, given: {reseller.declared: false}, expect: {p.relay: match}}
  - {name: relay, given: {reseller.declared: true}, expect: {p.relay: no_match}}
  - {name: whose is unknown, given: {client.country: NO}, expect: {p.relay: unknown, missing: [reseller.declared]}}
workloads: [{id: r, kind: relay, orgs: [acme], from: 2020-01-01, until: 2030-01-01, owner: o, evidence: e}]
"""
    (tmp_path / "p.test.yaml").write_text(cases)
    result = sluice("test", tmp_path)
    assert "p.relay: no case" not in result.output
    assert "expected" not in result.output, result.output


# Dry runs


def capture(number: int, account: str, org: str = "acme", agent: str = "relay/1", at: int = 1_793_500_000) -> str:
    body = {"model": "m1", "messages": [{"role": "user", "content": f"hello {number}"}]}
    entry = {
        "ts": at + number, "method": "POST", "path": "/v1/chat/completions", "headers": [["user-agent", agent]], "body": body,
        "account": {"account.id": account, "account.org": org},
    }  # fmt: skip
    return json.dumps(entry) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack, and the records of a dry run: five exchanges of two accounts of one organisation, two of a third, one other."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "p.yaml").write_text(pack())
    sent = [capture(n, ("a", "b")[n % 2]) for n in range(5)] + [capture(n, "c", "Other\u202e [org]") for n in (5, 6)]
    sent += [capture(7, "d", agent="sdk/1"), capture(8, "a", agent="sdk/1")]
    (tmp_path / "captures.jsonl").write_text("".join(sent))
    result = sluice("dry-run", tmp_path / "captures.jsonl", "--policy", rules, "--decisions", tmp_path / "audit.jsonl")
    assert result.exit_code == 0, result.output
    return tmp_path


def test_a_dry_run_counts_who_was_asked(folder: Path) -> None:
    arguments = ("dry-run", folder / "captures.jsonl", "--policy", folder / "rules")
    report = json.loads(sluice(*arguments, "--format", "json").stdout)
    assert report["asked"] == {"relay": {"exchanges": 7, "accounts": 3, "would": 7}}
    assert "asked    to declare a relay: 7 exchanges of 3 accounts" in sluice(*arguments).stdout


def test_asked_tells_who_by_what_rules_and_how_much(folder: Path) -> None:
    result = sluice("asked", folder / "audit.jsonl", "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["records"] == {"read": 9, "unreadable": 0}
    assert [(row["account"], row["org"], row["kind"], row["exchanges"], row["peak_per_day"]) for row in found["asked"]] == [
        ("a", "acme", "relay", 3, 4), ("b", "acme", "relay", 2, 2), ("c", "Other\u202e [org]", "relay", 2, 2),
    ]  # fmt: skip
    first = found["asked"][0]
    assert (first["rules"], first["models"], len(first["templates"])) == ({"p.relay": 3}, ["m1"], 1)
    assert "declared" not in first
    text = sluice("asked", folder / "audit.jsonl").stdout
    assert "p.relay" in text
    assert "\u202e" not in text
    assert "busiest day: all exchanges of the account, asked or not" in text


def test_the_entries_it_makes_load_only_once_a_person_has_finished_them(folder: Path) -> None:
    written = sluice("asked", folder / "audit.jsonl", "--format", "yaml").stdout
    file = folder / "rules" / "workloads.yaml"
    file.write_text(written)
    unfinished = sluice("check", folder / "rules")
    assert unfinished.exit_code == 2
    assert "owner: '' says nothing" in unfinished.stderr or "owner" in unfinished.stderr
    file.write_text(written.replace('owner: ""', "owner: partnerships").replace('evidence: ""', "evidence: contract 7"))
    finished = sluice("check", folder / "rules")
    assert "1 pack" in finished.output, finished.output
    assert "does not say" not in finished.output
    assert "ceiling: 10 requests/day" in written
    judged = sluice("asked", folder / "audit.jsonl", "--policy", folder / "rules", "--format", "json")
    told_ = [(row["account"], row["declared"]) for row in json.loads(judged.stdout)["asked"]]
    assert told_ == [("a", "covered by relay-acme"), ("b", "covered by relay-acme"), ("c", "covered by relay-other-org")]
    again = sluice("asked", folder / "audit.jsonl", "--policy", folder / "rules", "--format", "yaml").stdout
    assert "- id" not in again
    assert again.count("is covered by") == 3


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("orgs: [acme], ceiling: 4 requests/hour, from: 2020-01-01, until: 2030-01-01", "w: above its ceiling"),
        ("orgs: [acme], models: [m2], from: 2020-01-01, until: 2030-01-01", "outside the scope of w"),
        ("orgs: [acme], from: 2020-01-01, until: 2021-01-01", "w expired on 2021-01-01"),
        ("orgs: [acme], from: 2029-01-01, until: 2030-01-01", "declared as w, from 2029-01-01 on"),
        ("orgs: [nobody], from: 2020-01-01, until: 2030-01-01", "not declared"),
    ],
)
def test_asked_tells_how_it_stands_by_a_policy(folder: Path, entry: str, said: str) -> None:
    (folder / "rules" / "w.yaml").write_text(f"workloads: [{{id: w, kind: relay, {entry}, owner: o, evidence: e}}]\n")
    judged = json.loads(sluice("asked", folder / "audit.jsonl", "--policy", folder / "rules", "--format", "json").stdout)
    assert judged["asked"][0]["declared"] == said
    text = sluice("asked", folder / "audit.jsonl", "--policy", folder / "rules").stdout
    assert said in text


def test_asked_says_what_it_cannot_read_and_when_nobody_was_asked(folder: Path) -> None:
    captures = sluice("asked", folder / "captures.jsonl")
    assert captures.exit_code == 3
    assert "is a capture, and only audit records say who was asked" in captures.stderr
    assert sluice("asked", folder / "nowhere.jsonl").exit_code == 3
    (folder / "empty.jsonl").write_text("")
    assert sluice("asked", folder / "empty.jsonl").exit_code == 3
    (folder / "odd.jsonl").write_text("[]\n{}\nnot json\n")
    odd = sluice("asked", folder / "odd.jsonl", folder / "audit.jsonl")
    assert (odd.exit_code, odd.stderr.count("unreadable:")) == (0, 3)
    assert sluice("asked", folder / "audit.jsonl", "--policy", folder / "captures.jsonl").exit_code == 2
    kept = [line for line in (folder / "audit.jsonl").read_text().splitlines() if '"asked"' not in line]
    (folder / "quiet.jsonl").write_text("\n".join(kept) + "\n")
    quiet = sluice("asked", folder / "quiet.jsonl")
    assert (quiet.exit_code, quiet.stderr) == (1, "2 records read: nobody was asked to declare anything\n")


def test_what_is_kept_of_one_account_is_bounded_and_the_frequent_stay() -> None:
    found = Frequent()
    for number in range(10_000):
        found.add("often" if number % 3 else f"once {number}")
    assert len(found.counts) <= KEPT
    assert found.several
    assert found.top(1) == ["often"]
    daily = Daily()
    for at in (0, 1, DAY, DAY + 1, DAY + 2, 5, 2 * DAY):
        daily.add(at)
    assert daily.peak == 4
    assert [rounded_up(number) for number in (0, 9, 11, 101, 12_345)] == [10, 10, 20, 110, 13_000]
