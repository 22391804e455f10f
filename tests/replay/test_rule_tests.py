"""Rule tests beyond single values: scenarios, recorded files, counts, limits, exceptions, workloads, order, likeness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.errors import PolicyError
from gateway.replay.cases import load_cases, load_tests
from gateway.replay.rule_tests import Results, run
from tests.judging import CATALOGUE, policy

DATA = Path(__file__).parents[1] / "policies/data"
PACK = """
pack: p
version: 1
language: 1
rules:
  - id: p.country
    title: t
    family: network
    owner: o
    when: {client.country: NO}
    then: {action: tag, tag: norway}
    exceptions: {agreed: {fields: [account.id, client.country], entries: []}}
    abstain_for: [benchmark]
    mode: enforce
  - id: p.many
    title: t
    family: coordination
    owner: o
    measures:
      accounts: {distinct: account.id, per: [client.network], window: 1h, cap: 50}
      failed: {count: true, per: [client.network], where: {response.status: {gte: 500}}, window: 1h}
    when: {any: [{id: crowd, accounts: {gte: 5}}, {id: failing, failed: {gte: 5}}]}
    then: {of: accounts, steps: [{from: 3, action: observe}, {from: 5, action: tag, tag: crowd}, {from: 8, action: deny}]}
    mode: enforce
  - id: p.burst
    title: t
    family: volume
    owner: o
    measures: {n: {count: true, per: [account.id], window: 1m}}
    when: {id: burst, n: {gte: 2}}
    then: {action: throttle, limit: 3/minute, per: [account.id]}
    mode: enforce
limits:
  - {id: p.plan, per: [account.id], limit: 4 requests/minute, when: {account.plan: free}, on_missing: skip, mode: enforce}
  - {id: p.key, per: [account.org], limit: 4 requests/minute, when: {account.plan: team}, on_missing: refuse, mode: enforce}
  - {id: p.off, per: [account.id], limit: 1 requests/minute, when: {account.plan: later}, on_missing: skip, mode: "off"}
"""
POLICY = policy(PACK)


def results(cases: str, folder: Path) -> Results:
    file = folder / "p.test.yaml"
    file.write_text(cases)
    return run(load_cases([file], POLICY, CATALOGUE), POLICY, CATALOGUE)


def messages(case: str, folder: Path) -> list[str]:
    """What is said of one case, written without its name."""
    return [failure.message for failure in results(f"cases:\n  - {{name: c, {case}}}\n", folder).failures]


def test_a_scenario_is_played_and_repeats(tmp_path: Path) -> None:
    ring = "generate: {scenario: ring, accounts: 6, requests: 5, seed: 3}"
    assert messages(f"{ring}, expect: {{p.many: match, matched: {{p.many: 26}}}}", tmp_path) == []
    assert messages(f"{ring}, expect: {{p.many: no_match}}", tmp_path) == ["p.many: expected no_match, got match"]


def test_given_values_stand_in_place_of_a_scenarios_and_others_can_be_left_out(tmp_path: Path) -> None:
    one = "generate: {scenario: ring, accounts: 6, given: {account.id: one, client.country: NO}}"
    assert messages(f"{one}, expect: {{p.many: no_match, p.country: match}}", tmp_path) == []
    none = "generate: {scenario: ring, accounts: 6, without: [client.network]}"
    assert messages(f"{none}, expect: {{p.many: unknown, missing: [accounts]}}", tmp_path) == []


def test_steps_wait_and_scenarios_stand_among_them(tmp_path: Path) -> None:
    steps = (
        "{generate: {scenario: ring, accounts: 4, over: 5m}}, {AFTER given: {client.network: 203.0.113.0/24, account.id: x}}"
    )
    assert messages(f"sequence: [{steps.replace('AFTER', 'after: 30m,')}], expect: {{p.many: match}}", tmp_path) == []
    assert messages(f"sequence: [{steps.replace('AFTER', 'after: 70m,')}], expect: {{p.many: no_match}}", tmp_path) == []


def test_recorded_exchanges_are_played_at_their_own_times(tmp_path: Path) -> None:
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures/x.jsonl").write_text((DATA / "country.jsonl").read_text())
    recorded = "exchanges: fixtures/x.jsonl"
    assert messages(f"{recorded}, expect: {{p.country: match, matched: {{p.country: 2}}}}", tmp_path) == []
    assert messages(f"{recorded}, expect: {{matched: {{p.country: {{gte: 3}}}}}}", tmp_path) == [
        "p.country: expected 3 or more of 3 exchanges to match, got 2"
    ]


def test_captures_are_played_with_signals_computed_anew(tmp_path: Path) -> None:
    headers = [["host", "x"], ["content-type", "application/json"], ["authorization", "Bearer k"]]
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    line = {"ts": 1_793_500_000, "method": "POST", "path": "/v1/chat/completions", "headers": headers, "body": body}
    rows = [{**line, "account": f"a{number}", "client_ip": "203.0.113.9"} for number in range(6)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert messages("exchanges: c.jsonl, expect: {p.many: match, matched: {p.many: 2}}", tmp_path) == []


@pytest.mark.parametrize(
    ("times", "stand", "refused"), [(4, "room", 0), (5, "refused", 1), (7, "refused", 3)], ids=["room", "full", "fuller"]
)
def test_limits_are_expected_to_have_room_or_to_refuse(times: int, stand: str, refused: int, tmp_path: Path) -> None:
    step = f"{{given: {{account.plan: free}}, times: {times}, each: {{account.id: a}}}}"
    case = f"sequence: [{step}], expect: {{limits: {{p.plan: {stand}, p.key: skipped}}, refused: {{p.plan: {refused}}}}}"
    assert messages(case, tmp_path) == []
    other = "refused" if stand == "room" else "room"
    assert messages(case.replace(f"p.plan: {stand}", f"p.plan: {other}"), tmp_path) == [
        f"p.plan: expected {other}, got {stand}"
    ]


def test_a_limit_whose_key_is_missing_is_expected_to_refuse(tmp_path: Path) -> None:
    assert messages("given: {account.plan: team}, expect: {limits: {p.key: refused}, refused: {p.key: 1}}", tmp_path) == []


def test_a_limit_that_is_off_is_tested_as_if_in_shadow(tmp_path: Path) -> None:
    step = "{given: {account.plan: later, account.id: a}, times: 2}"
    assert messages(f"sequence: [{step}], expect: {{limits: {{p.off: refused}}}}", tmp_path) == []


def test_what_a_throttle_refuses_is_counted(tmp_path: Path) -> None:
    burst = "sequence: [{given: {account.id: a, account.plan: paid}, times: 6}], expect: {refused: {p.burst: COUNT}}"
    assert messages(burst.replace("COUNT", "2"), tmp_path) == []
    assert messages(burst.replace("COUNT", "{lte: 1}"), tmp_path) == [
        "p.burst: expected 0 to 1 of 6 exchanges to be refused, got 2"
    ]


def test_a_refused_request_has_no_upstreams_answer(tmp_path: Path) -> None:
    """The throttle lets four of nine through, so no more than four can have failed; two minutes apart, all can."""
    given = "client.network: 203.0.113.0/24, account.plan: paid"
    one = f"sequence: [{{given: {{{given}, account.id: a}}, times: 9, answer: {{status: 500}}}}]"
    assert messages(f"{one}, expect: {{p.many: no_match, refused: {{p.burst: 5}}}}", tmp_path) == []
    slow = one.replace("times: 9", "times: 9, every: 2m")
    assert messages(f"{slow}, expect: {{p.many: match, refused: {{p.burst: 0}}}}", tmp_path) == []


def test_steps_and_their_actions(tmp_path: Path) -> None:
    crowd = "sequence: [{given: {client.network: 203.0.113.0/24}, times: COUNT, each: {account.id: 'a{n}'}}]"
    expected = "expect: {p.many: match, step: STEP, action: ACTION}"
    for count, step, action in ((5, 1, "tag"), (7, 1, "tag"), (8, 2, "deny")):
        case = f"{crowd}, {expected}".replace("COUNT", str(count)).replace("STEP", str(step)).replace("ACTION", action)
        assert messages(case, tmp_path) == []
    assert messages(f"{crowd}, {expected}".replace("COUNT", "5").replace("STEP", "0").replace("ACTION", "tag"), tmp_path) == [
        "p.many: expected step 0 (from 3), got 1 (from 5)"
    ]


def test_entries_of_exceptions_can_be_given_by_field(tmp_path: Path) -> None:
    entry = "exceptions: {p.country: {agreed: [{client.country: NO, account.id: a}]}}"
    agreed = (
        f"given: {{account.id: a, client.country: NO}}, {entry}, expect: {{p.country: match, excepted: agreed, action: allow}}"
    )
    assert messages(agreed, tmp_path) == []
    other = f"given: {{account.id: b, client.country: NO}}, {entry}, expect: {{p.country: match, action: tag}}"
    assert messages(other, tmp_path) == []
    assert messages(other.replace("action: tag", "excepted: agreed"), tmp_path) == [
        "p.country: expected excepted agreed, got none"
    ]
    with pytest.raises(PolicyError, match=r"an entry gives one value for each of account\.id, client\.country"):
        messages(other.replace("client.country: NO, account.id: a", "account.id: a"), tmp_path)


def test_workloads_of_the_file_make_rules_abstain(tmp_path: Path) -> None:
    declared = """
workloads:
  - {id: suite, kind: benchmark, orgs: [lab], ceiling: 3 requests/hour, from: 2026-11-01T00:00:00Z,
     until: 2026-12-01T00:00:00Z, owner: o, evidence: a contract}
cases:
  - {name: inside, given: {account.org: lab, client.country: NO}, expect: {p.country: match, abstained: suite, action: allow}}
  - {name: outside, given: {account.org: other, client.country: NO}, expect: {p.country: match, action: tag}}
  - name: above its ceiling
    sequence: [{given: {account.org: lab, client.country: NO}, times: 4}]
    expect: {p.country: match, action: tag}
  - name: after its end
    at: 2026-12-01T00:00:00Z
    given: {account.org: lab, client.country: NO}
    expect: {p.country: match, action: tag}
"""
    assert [str(failure) for failure in results(declared, tmp_path).failures] == []


def test_an_error_is_expected_by_a_part_of_its_text(tmp_path: Path) -> None:
    assert messages("given: {client.country: SE}, expect: {p.country: no_match, error: broke}", tmp_path) == [
        "p.country: expected an error with 'broke', got ''"
    ]


def test_a_case_can_be_the_same_as_another(tmp_path: Path) -> None:
    cases = """
cases:
  - {name: one, given: {client.country: NO, account.id: a}, expect: {p.country: match}}
  - {name: two, given: {client.country: NO, account.id: b}, same_as: one, expect: {p.country: match}}
  - {name: three, given: {client.country: SE, account.id: b}, same_as: one, expect: {p.burst: no_match}}
"""
    found = results(cases, tmp_path)
    assert [failure.message for failure in found.failures] == [
        "not the same as 'one': p.country: no_match here, match, tag and tag there"
    ]


def test_what_windows_promise_of_late_events_holds(tmp_path: Path) -> None:
    ring = "generate: {scenario: ring, accounts: 12, requests: 8, over: 5h}, shuffle: SEED"
    for seed in ("true", "2", "3", "4"):
        crowd = f"{ring.replace('SEED', seed)}, expect: {{p.many: match, leaves: {{crowd: true, failing: false}}, step: 2}}"
        assert messages(crowd, tmp_path) == []


def test_order_is_not_promised_where_a_measure_reaches_its_cap(tmp_path: Path) -> None:
    crowd = "sequence: [{given: {client.network: 203.0.113.0/24}, times: 60, each: {account.id: 'a{n}'}}], shuffle: true"
    found = messages(f"{crowd}, expect: {{p.many: match}}", tmp_path)
    assert len(found) == 1
    assert "'distinct account.id by client.network over 1h up to 50' can reach its cap" in found[0]


def test_order_changes_what_came_before_and_so_only_the_end_is_held_to(tmp_path: Path) -> None:
    """In order, 200 requests over ten minutes never make a burst of two; out of order they do, on the way."""
    calm = "sequence: [{given: {account.id: a}, times: 200, every: 3m}], shuffle: 5"
    assert messages(f"{calm}, expect: {{p.burst: no_match, matched: {{p.burst: 0}}, refused: {{p.burst: 0}}}}", tmp_path) == []


def test_the_command_tells_failures_and_mutants_as_json(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PACK.split("  - id: p.many")[0])
    hit = "cases:\n  - {name: hit, given: {client.country: NO}, expect: {p.country: match}}\n"
    (tmp_path / "p.test.yaml").write_text(hit)
    told = CliRunner().invoke(main, ["test", str(tmp_path), "--format", "json", "--mutate"])
    found = json.loads(told.stdout)
    assert told.exit_code == 1
    assert found["gaps"] == ["p.country: no case expects no_match", "p.country: no case expects unknown"]
    assert found["mutants"]["made"] == found["mutants"]["killed"] + len(found["mutants"]["survivors"])
    alive = {survivor["mutant"]: survivor for survivor in found["mutants"]["survivors"]}
    assert alive["p.country: leaf client.country.eq left out"]["line"] == 10
    (tmp_path / "p.test.yaml").write_text(hit.replace("match", "no_match"))
    failed = CliRunner().invoke(main, ["test", str(tmp_path), "--format", "json", "--mutate"])
    assert [row["message"] for row in json.loads(failed.stdout)["failures"]] == ["p.country: expected no_match, got match"]
    assert "no mutant was made" in failed.stderr
    (tmp_path / "p.test.yaml").write_text("cases: [{name: x}]")
    broken = CliRunner().invoke(main, ["test", str(tmp_path), "--format", "json"])
    assert (broken.exit_code, json.loads(broken.stdout)["loaded"]) == (2, False)


def test_accepted_mutants_are_read_with_their_reasons(tmp_path: Path) -> None:
    file = tmp_path / "p.test.yaml"
    file.write_text('accepted:\n  - {mutant: "p.burst: then: deny in place of throttle", reason: because}\n')
    found = load_tests([file], POLICY, CATALOGUE)
    assert [(one.mutant, one.reason, one.place.line) for one in found.accepted] == [
        ("p.burst: then: deny in place of throttle", "because", 2)
    ]
    assert found.cases == ()
