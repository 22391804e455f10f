"""The digest: equal for equal meaning, different for different meaning; and what a compiled policy holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.decision import Action, Mode
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.state.operations import Pace
from gateway.values import SECOND
from tests.judging import CATALOGUE, policy

ONE = """
pack: one
version: 3
language: 1
lists: {region: {type: country, values: [NO, SE], source: here, date: 2026-11-01}}
rules:
  - id: one.ring
    title: A ring
    family: coordination
    owner: o
    measures:
      members: {distinct: account.id, per: [client.fingerprint, client.network], window: 1h, cap: 50}
      requests: {count: true, per: [client.fingerprint], window: 1h, where: {account.age: {lt: 30d}, request.stream: true}}
      variety: {ratio: [members, requests]}
    when: {all: [{id: many, members: {gte: 8}}, {id: there, client.country: "@region"}, {id: alike, variety: {lte: 0.5}}]}
    corroborate: {families: 2, within: 6h, per: [account.id, client.ip], else: observe}
    then:
      of: members
      steps: [{from: 8, action: tag, tag: ring}, {from: 20, action: throttle, limit: 30/minute, per: [account.id]}]
    public: {code: odd, message: Odd.}
    evidence: [members, client.country]
    exceptions:
      owner:
        fields: [account.org, client.json_style]
        entries: [{values: [a, [x, y, z]], reason: r, owner: o, expires: 2027-01-01}]
      other: {fields: [account.id], entries: []}
    mode: enforce
  - {id: one.deny, title: t, family: network, owner: o, when: {client.country: KP}, then: {action: deny}, mode: shadow}
"""
TWO = """
pack: two
version: 1
language: 1
limits:
  - {id: two.plan, per: [account.id, client.ip], limit: 60/minute, when: {account.plan: free}, on_missing: share, mode: enforce}
  - {id: two.day, per: [account.id], limit: 1000/day, window: moving, on_missing: skip, mode: shadow}
"""
SAME = [
    ("version: 3\nlanguage: 1\n", "language: 1\n# a comment\nversion: 3\n"),
    ("values: [NO, SE]", "values: [se, NO, NO]"),
    ("title: A ring", "title: Another title"),
    ("source: here", "source: elsewhere"),
    ("per: [client.fingerprint, client.network]", "per: [client.network, client.fingerprint]"),
    ("window: 1h, cap: 50", "cap: 50, window: 60m"),
    ("{account.age: {lt: 30d}, request.stream: true}", "{all: [{request.stream: {eq: true}}, {account.age: {lt: 720h}}]}"),
    (
        '{id: many, members: {gte: 8}}, {id: there, client.country: "@region"}',
        '{client.country: {in: "@region"}}, {all: [{members: {gte: 8}}]}',
    ),
    ("within: 6h, per: [account.id, client.ip]", "per: [client.ip, account.id], within: 360m"),
    ("{from: 8, action: tag, tag: ring}", "{tag: ring, action: tag, from: 8.0}"),
    ("limit: 30/minute", "limit: 30 requests/60s, window: fixed"),
    ("evidence: [members, client.country]", "evidence: [client.country, members]"),
    ("values: [a, [x, y, z]]", "values: [a, [z, x, y, x]]"),
    ("expires: 2027-01-01", "expires: 2027-01-01T01:00:00+01:00"),
    (
        "when: {client.country: KP}, then: {action: deny}",
        "when: {all: [{client.country: [KP]}]}, then: {status: 403, action: deny}",
    ),
    ("per: [account.id, client.ip], limit: 60/minute", "limit: 60 requests / minute, per: [client.ip, account.id, client.ip]"),
    ("limit: 1000/day", "limit: 1000/24h"),
]
DIFFERENT = [
    ("version: 3", "version: 4"),
    ("pack: one", "pack: other"),
    ("values: [NO, SE]", "values: [NO, DK]"),
    ("id: one.ring", "id: one.rings"),
    ("family: coordination", "family: identity"),
    ("distinct: account.id", "distinct: account.org"),
    ("window: 1h, cap", "window: 2h, cap"),
    ("cap: 50", "cap: 51"),
    ("lt: 30d", "lt: 31d"),
    ("[members, requests]", "[requests, members]"),
    ("{gte: 8}", "{gte: 9}"),
    ("{gte: 8}", "{gt: 8}"),
    ('"@region"', "[NO, SE]"),
    ("{all: [{id: many", "{any: [{id: many"),
    ("families: 2", "families: 3"),
    ("within: 6h", "within: 7h"),
    ("else: observe", "else: tag"),
    ("per: [account.id, client.ip], else", "per: [account.id], else"),
    ("tag: ring", "tag: rings"),
    ("{from: 8", "{from: 7"),
    ("limit: 30/minute", "limit: 31/minute"),
    ("limit: 30/minute", "limit: 30/hour"),
    ("limit: 30/minute", "limit: 30/minute, window: moving"),
    ("code: odd", "code: even"),
    ("message: Odd.", "message: Even."),
    ("evidence: [members, client.country]", "evidence: [members]"),
    ("[x, y, z]", "[x, y]"),
    ("expires: 2027-01-01", "expires: 2027-01-02"),
    ("    mode: enforce", "    mode: shadow"),
    ("    mode: enforce", "    mode: off"),
    ("action: deny}", "action: deny, status: 451}"),
    ("action: deny}", "action: verify}"),
    ("KP}", "IR}"),
    ("limit: 60/minute", "limit: 61/minute"),
    ("account.plan: free", "account.plan: paid"),
    ("on_missing: share", "on_missing: refuse"),
    ("window: moving", "window: fixed"),
    ("on_missing: skip, mode: shadow", "on_missing: skip, mode: off"),
    ("limit: 1000/day", "limit: 1000/day, public: {code: daily, message: Enough.}"),
]


def digest(*packs: str) -> str:
    return policy(*packs).digest


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_meaning_has_an_equal_digest(one: str, other: str) -> None:
    assert (ONE + TWO).count(one) == 1
    assert digest(ONE.replace(one, other), TWO.replace(one, other)) == digest(ONE, TWO)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_meaning_has_a_different_digest(one: str, other: str) -> None:
    assert one in ONE + TWO
    assert digest(ONE.replace(one, other), TWO.replace(one, other)) != digest(ONE, TWO)


def test_order_of_rules_files_and_limits_changes_nothing() -> None:
    head, first, second = ONE.partition("  - id: one.ring")[0], *ONE.partition("rules:\n")[2].split("  - {id: one.deny")
    swapped = head + "  - {id: one.deny" + second + first
    limits = TWO.splitlines(keepends=True)
    assert digest(TWO, swapped) == digest(ONE, TWO) == digest(ONE, "".join([*limits[:-2], limits[-1], limits[-2]]))
    assert [rule.id for rule in policy(swapped).rules] == ["one.deny", "one.ring"]


def test_a_rule_refers_to_the_list_of_its_own_pack() -> None:
    def pack(name: str, country: str, rules: str = "[]") -> str:
        lists = f"lists: {{region: {{type: country, values: [{country}]}}}}"
        return f"pack: {name}\nversion: 1\nlanguage: 1\n{lists}\nrules: {rules}\n"

    rule = (
        "[{id: r, title: t, family: network, owner: o, when: {client.country: '@region'}, then: {action: deny}, mode: enforce}]"
    )
    assert digest(pack("a", "NO", rule), pack("b", "SE")) != digest(pack("a", "NO"), pack("b", "SE", rule))


def test_a_folder_and_its_files_are_one_policy(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "two.yaml").write_text(TWO)
    (tmp_path / "one.test.yaml").write_text("cases: []")
    files = [tmp_path / "two.yaml", tmp_path / "one.yaml"]
    assert load([tmp_path], CATALOGUE).digest == load(files, CATALOGUE).digest == load([*files, *files], CATALOGUE).digest


def test_the_digest_is_the_same_in_every_process() -> None:
    code = "from tests.language.test_compile import *; print(digest(ONE, TWO))"
    root = Path(__file__).parents[2]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {digest(ONE, TWO)}


def test_a_compiled_policy_holds_what_was_written() -> None:
    found: Policy = policy(ONE, TWO)
    ring, deny = found.rule("one.ring"), found.rule("one.deny")
    assert ring is not None
    assert deny is not None
    assert (found.version, found.packs) == (4, {"one": 3, "two": 1})
    assert found.rule("absent") is None
    assert [leaf.id for leaf in ring.when.leaves()] == ["many", "there", "alike"]
    assert (ring.response.of, ring.response.starts) == ("members", (8.0, 20.0))
    tag, throttle = ring.response.effects
    assert (tag.action, tag.tag, throttle.action, throttle.status) == (Action.TAG, "ring", Action.THROTTLE, 429)
    assert throttle.limit is not None
    assert (throttle.limit.id, throttle.limit.amount, throttle.limit.period, throttle.limit.pace) == (
        "rule:one.ring",
        30,
        60,
        Pace.FIXED,
    )
    assert ring.corroborate is not None
    assert (ring.corroborate.within, ring.corroborate.otherwise) == (6 * 3_600 * SECOND, Action.OBSERVE)
    assert [exception.name for exception in ring.exceptions] == ["other", "owner"]
    assert (deny.mode, deny.response.effects[0].status, deny.public.code) == (Mode.SHADOW, 403, "policy-decision")
    day, plan = found.limits
    assert (plan.limit.id, plan.per, plan.on_missing, plan.limit.shadow) == (
        "two.plan",
        ("account.id", "client.ip"),
        "share",
        False,
    )
    assert (day.limit.period, day.limit.pace, day.limit.shadow) == (86_400, Pace.MOVING, True)
