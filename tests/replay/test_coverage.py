"""What rule tests leave open: rules, leaves and mitigations that no case proves. Passing alone is no proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.language.findings import Severity
from gateway.replay.coverage import JUDGEMENTS, judge
from tests.judging import CATALOGUE, policy

PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.abroad
    title: t
    family: network
    owner: o
    false_positives:
      - {cause: Travel, mitigated_by: billed}
      - {cause: An embassy, mitigated_by: agreed}
      - {cause: A new office, mitigated_by: corroborate}
    when:
      all:
        - {id: seen, client.country: NO}
        - {id: billed, account.billing_country: NO}
        - {none: [{id: verified, account.verified: true}]}
    corroborate: {families: 2, within: 1h, per: [account.id], else: observe}
    then: {action: tag, tag: abroad}
    exceptions: {agreed: {fields: [account.id], entries: []}}
    mode: enforce
  - {id: p.odd, title: t, family: client, owner: o, when: {request.stream: true}, then: {action: observe}, mode: enforce}
"""
BOTH = "client.country: NO, account.billing_country: NO, account.verified: false, account.id: a"
CASES = {
    "hit": f"given: {{{BOTH}, request.stream: true}}, expect: {{p.abroad: match, action: tag}}",
    "alone": f"given: {{{BOTH}}}, expect: {{p.abroad: match, action: observe}}",
    "agreed": f"given: {{{BOTH}}}, exceptions: {{p.abroad: {{agreed: [{{account.id: a}}]}}}}, expect: {{p.abroad: match}}",
    "elsewhere": f"given: {{{BOTH.replace('client.country: NO', 'client.country: SE')}}}, expect: {{p.abroad: no_match}}",
    "billed": f"given: {{{BOTH.replace('billing_country: NO', 'billing_country: SE')}}}, expect: {{p.abroad: no_match}}",
    "verified": f"given: {{{BOTH.replace('verified: false', 'verified: true')}}}, expect: {{p.abroad: no_match}}",
    "unknown": "given: {client.country: NO}, expect: {p.abroad: unknown}",
    "odd": "given: {request.stream: true}, expect: {p.odd: match}",
    "even": "given: {request.stream: false}, expect: {p.odd: no_match}",
    "neither": "given: {}, expect: {p.odd: unknown}",
}


def judged(folder: Path, cases: dict[str, str], section: str = "cases") -> list[str]:
    """What is found with these cases alone: judgement, place and message."""
    file = folder / "p.test.yaml"
    written = ", ".join(f"{{name: {name}, {case}}}" for name, case in cases.items())
    file.write_text(f"{section}: [{written}]\n")
    found = judge(policy(PACK), CATALOGUE, [file])
    assert {finding.severity for finding in found} <= {Severity.WARNING}
    assert {finding.judgement for finding in found} <= set(JUDGEMENTS)
    return [f"{finding.judgement} {finding.place.line}: {finding.message}" for finding in found]


def test_a_proven_policy_has_no_finding(tmp_path: Path) -> None:
    assert judged(tmp_path, CASES) == []


@pytest.mark.parametrize(
    ("left_out", "found"),
    [
        ("agreed", ["unproven-mitigation 12: p.abroad: no case shows agreed mitigating «An embassy»"]),
        ("alone", ["unproven-mitigation 13: p.abroad: no case shows corroborate mitigating «A new office»"]),
        ("elsewhere", ["untested-leaf 16: p.abroad: leaf seen alone keeps the rule from matching in no case"]),
        ("billed", ["unproven-mitigation 11: p.abroad: no case shows billed mitigating «Travel»",
                    "untested-leaf 17: p.abroad: leaf billed alone keeps the rule from matching in no case"]),
        ("verified", ["untested-leaf 18: p.abroad: leaf verified alone keeps the rule from matching in no case"]),
        ("unknown", ["uncovered-rule 6: p.abroad: no case expects unknown"]),
        ("even", ["uncovered-rule 23: p.odd: no case expects no_match",
                  "untested-leaf 23: p.odd: leaf request.stream.eq alone keeps the rule from matching in no case"]),
    ],
)  # fmt: skip
def test_what_a_missing_case_leaves_open(left_out: str, found: list[str], tmp_path: Path) -> None:
    rest = {name: case for name, case in CASES.items() if name != left_out}
    assert judged(tmp_path, rest) == found


def test_a_miss_for_two_reasons_proves_neither_leaf(tmp_path: Path) -> None:
    both = CASES["elsewhere"].replace("billing_country: NO", "billing_country: SE")
    found = judged(
        tmp_path, {**{name: case for name, case in CASES.items() if name not in ("elsewhere", "billed")}, "both": both}
    )
    assert [line.split(":")[0] for line in found] == ["unproven-mitigation 11", "untested-leaf 16", "untested-leaf 17"]


def test_a_rule_without_any_case_is_one_finding(tmp_path: Path) -> None:
    assert judged(tmp_path, {}) == [
        "uncovered-rule 6: p.abroad: no case expects match or no_match or unknown",
        "uncovered-rule 23: p.odd: no case expects match or no_match or unknown",
    ]


def test_evasions_prove_nothing(tmp_path: Path) -> None:
    misses = {name: CASES[name] for name in ("elsewhere", "even")}
    assert len(judged(tmp_path, misses, "evasions")) == 2


def test_without_test_files_every_rule_is_uncovered() -> None:
    assert [finding.judgement for finding in judge(policy(PACK), CATALOGUE, [])] == ["uncovered-rule"] * 2


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_every_judgement_says_what_it_means(name: str) -> None:
    assert (JUDGEMENTS[name].__doc__ or "").strip()
