"""Exchanges that stay open for a while: what they hold meanwhile, and when their answers become known."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.replay.cases import load_cases
from gateway.replay.rule_tests import run
from tests.judging import CATALOGUE, policy

POLICY = policy("""
pack: p
version: 1
language: 1
rules:
  - id: p.failing
    title: t
    family: client
    owner: o
    measures: {failed: {count: true, per: [account.id], where: {response.status: {gte: 500}}, window: 1h}}
    when: {failed: {gte: 2}}
    then: {action: observe}
    mode: enforce
limits:
  - {id: p.open, per: [account.id], limit: 2 concurrent, lease: 30s, when: {account.plan: free}, on_missing: skip,
     mode: enforce}
  - {id: p.tokens, per: [account.id], limit: 100 tokens/minute, when: {account.plan: team}, on_missing: skip, mode: enforce}
""")
FREE = "given: {account.id: a, account.plan: free}"
TEAM = "given: {account.id: a, account.plan: team, request.operation: chat, request.max_tokens: 1}"


def messages(steps: str, expect: str, folder: Path, more: str = "") -> list[str]:
    file = folder / "p.test.yaml"
    file.write_text(f"cases:\n  - {{name: c, sequence: [{steps}], {more}expect: {{{expect}}}}}\n")
    return [failure.message for failure in run(load_cases([file], POLICY, CATALOGUE), POLICY, CATALOGUE).failures]


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        (f"{{{FREE}, times: 3, lasts: 5s}}", 1),
        (f"{{{FREE}, times: 3}}", 0),
        (f"{{{FREE}, times: 3, every: 3s, lasts: 5s}}", 0),
        (f"{{{FREE}, times: 3, every: 2s, lasts: 5s}}", 1),
        (f"{{{FREE}, times: 3, every: 2500ms, lasts: 5s}}", 0),  # what is over at the same time is over first
        (f"{{{FREE}, times: 4, lasts: 2500ms}}", 1),  # the refused one held nothing: the fourth has the first one's slot
        (f"{{{FREE}, times: 2, lasts: 5m}}, {{after: 40s, {FREE}}}", 1),  # leases are renewed meanwhile, as they are live
        (f"{{{FREE}, times: 2, lasts: 5m}}, {{after: 5m, {FREE}}}", 0),
        (f"{{{FREE}, lasts: 9s}}, {{{FREE}, lasts: 1s}}, {{{FREE}}}", 0),  # they end in the order of time, not of arrival
    ],
)
def test_open_exchanges_hold_their_slots(steps: str, refused: int, tmp_path: Path) -> None:
    stand = "refused" if refused and "times: 4" not in steps else "room"
    assert messages(steps, f"limits: {{p.open: {stand}}}, refused: {{p.open: {refused}}}", tmp_path) == []


def test_an_answer_is_not_known_before_it_is_there(tmp_path: Path) -> None:
    failing = "{given: {account.id: a}, times: 2, every: 1s, LASTS answer: {status: 500}}, {given: {account.id: a}}"
    assert messages(failing.replace("LASTS", ""), "p.failing: match", tmp_path) == []
    assert messages(failing.replace("LASTS", "lasts: 10s,"), "p.failing: no_match", tmp_path) == []
    late = failing.replace("LASTS", "lasts: 10s,").replace("{given: {account.id: a}}", "{after: 20s, given: {account.id: a}}")
    assert messages(late, "p.failing: match", tmp_path) == []


@pytest.mark.parametrize(
    "answer", ["input_tokens: 60, output_tokens: 39", "response.input_tokens: 60, response.output_tokens: 39"]
)
def test_answers_are_written_with_and_without_their_prefix(answer: str, tmp_path: Path) -> None:
    used = f"{{{TEAM}, answer: {{{answer}}}}}, {{{TEAM}}}"
    assert messages(used, "limits: {p.tokens: room}", tmp_path) == []
    assert messages(used.replace("39", "40"), "limits: {p.tokens: refused}", tmp_path) == []


def test_open_exchanges_can_be_shuffled(tmp_path: Path) -> None:
    failing = "{given: {account.id: a}, times: 9, every: 20m, lasts: 5m, answer: {status: 500}}, {given: {account.id: a}}"
    assert messages(failing, "p.failing: match", tmp_path, "shuffle: true, ") == []
