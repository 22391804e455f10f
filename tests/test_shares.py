"""A share of accounts: where an enforced rule acts; for the others it is in shadow, with counters of its own."""

from __future__ import annotations

import pytest

from gateway.decision import Action, Mode
from gateway.gate import Gate
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - {{id: {rule}, title: t, family: client, owner: o, when: {{request.stream: true}}, then: {then}, mode: {mode}{more}}}
"""
DENY = "{action: deny}"
THROTTLE = "{action: throttle, limit: 1/minute, per: [account.id]}"
ACCOUNTS = [f"account {number}" for number in range(2_000)]


def gate(share: str = "", then: str = DENY, mode: str = "enforce", rule: str = "p.r") -> Gate:
    more = f", share: {share}" if share else ""
    return Gate(policy(PACK.format(then=then, mode=mode, more=more, rule=rule)), CATALOGUE)


def denied(judging: Gate) -> set[str]:
    found = set()
    for account in ACCOUNTS:
        outcome = judging.judge(facts({"account.id": account, "request.stream": True})).outcome
        assert outcome.would is Action.DENY, "as if every rule were enforced for all"
        (end,) = outcome.decision.ends
        assert end.mode is (Mode.ENFORCE if outcome.action is Action.DENY else Mode.SHADOW)
        if outcome.action is Action.DENY:
            found.add(account)
    return found


@pytest.mark.parametrize(("share", "low", "high"), [("5%", 60, 140), ("50%", 900, 1_100), ("99.5%", 1_970, 1_999)])
def test_about_so_many_accounts_are_acted_on(share: str, low: int, high: int) -> None:
    assert low <= len(denied(gate(share))) <= high


def test_a_larger_share_only_adds_accounts() -> None:
    five, twenty, all_of_them = denied(gate("5%")), denied(gate("20%")), denied(gate("100%"))
    assert five < twenty < all_of_them == set(ACCOUNTS) == denied(gate())


def test_the_same_accounts_every_time_but_others_for_another_rule() -> None:
    assert denied(gate("20%")) == denied(gate("20%"))
    assert denied(gate("20%")) != denied(gate("20%", rule="p.s"))


def test_without_an_account_there_is_no_share() -> None:
    sent = facts({"request.stream": True})
    assert gate("99%").judge(sent).outcome.action is Action.ALLOW
    assert gate("99%").judge(sent).outcome.would is Action.DENY
    assert gate("100%").judge(sent).outcome.action is Action.DENY


def test_a_throttle_outside_its_share_counts_apart_and_refuses_nobody() -> None:
    judging = gate("50%", THROTTLE)
    seen = []
    for account in ACCOUNTS[:20]:
        outcomes = [
            judging.judge(facts({"account.id": account, "request.stream": True}, START + place * SECOND)).outcome
            for place in range(2)
        ]
        assert [outcome.would for outcome in outcomes] == [Action.OBSERVE, Action.THROTTLE]
        seen.append([outcome.action for outcome in outcomes])
        enforced = outcomes[1].action is Action.THROTTLE
        assert [room.shadow for room in outcomes[0].rooms] == ([False, True] if enforced else [True])
    assert [Action.ALLOW, Action.ALLOW] in seen
    assert [Action.OBSERVE, Action.THROTTLE] in seen


@pytest.mark.parametrize("share", ["", "50%"])
def test_the_would_be_view_counts_every_account_whatever_the_share(share: str) -> None:
    judging = gate(share, "{action: throttle, limit: 20/minute, per: [client.asn]}")
    sent = [facts({"account.id": account, "client.asn": 64500, "request.stream": True}) for account in ACCOUNTS[:40]]
    assert [judging.judge(one).outcome.would for one in sent].count(Action.THROTTLE) == 20


def test_below_an_overall_shadow_nobody_is_acted_on() -> None:
    judging = Gate(gate("50%").policy, CATALOGUE, mode=Mode.SHADOW)
    assert all(
        judging.judge(facts({"account.id": account, "request.stream": True})).outcome.action is Action.ALLOW
        for account in ACCOUNTS[:50]
    )
