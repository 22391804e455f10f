"""Nothing is admitted beyond a limit by many callers at once: of one gateway, of workers, of gateways; and all judge alike.

Counted where it matters: by the upstream that was asked. `tests/bench/limits.py` does the same at a larger size.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bench.limits import LIMIT_OF, MODELS, Sizes, field, of_tokens
from tests.state.conftest import Server
from tests.web.faulty import Faulty
from tests.web.running import ROOT, Gateway, gateway

SMALL = Sizes(clients=2, parallel=20, requests=120)
PACK = """
pack: alike
version: 1
language: 1
rules:
  - id: alike.busy
    title: More than nine in an hour
    family: volume
    owner: tests
    measures:
      requests: {count: true, per: [account.id], window: 1h}
      tokens: {sum: response.output_tokens, per: [account.id], window: 1h}
    when: {any: [{requests: {gt: 9}}, {tokens: {gt: 60}}]}
    then: {action: tag, tag: busy}
    mode: enforce
limits:
  - {id: alike.requests, per: [account.id], limit: 12 requests/hour, window: moving, on_missing: refuse, mode: enforce}
  - {id: alike.tokens, per: [account.id], limit: 220 tokens/hour, window: moving, reserve: 20, on_missing: share, mode: enforce}
  - {id: alike.slots, per: [account.id], limit: 1 concurrent, on_missing: share, mode: enforce}
"""
SETTLED = 0.03  # what is settled has reached the others by then: state/trips.py waits for at most 5 ms


@pytest.mark.parametrize("setting", ["memory", "two workers, Redis", "two gateways, Redis"])
def test_nothing_is_admitted_beyond_a_limit(setting: str) -> None:
    found = field(setting, SMALL)
    assert {row.model for row in found} == set(MODELS)
    for row in found:
        assert row.failed == 0, row
        assert row.answered == row.asked, row
        assert row.over <= row.bound, row
        assert row.bound == 0 or row.model == "beyond"
    requests = next(row for row in found if row.model == "requests")
    assert requests.asked == LIMIT_OF["requests"], "and nothing is refused that had room"


def test_the_bound_for_tokens_is_what_stands_under_way_times_what_each_uses_beyond() -> None:
    assert of_tokens(limit=1_000, held=100, used=100) == 0
    assert of_tokens(limit=1_000, held=100, used=90) == 0
    assert of_tokens(limit=1_000, held=100, used=150) == 10 * 50
    assert of_tokens(limit=1_050, held=100, used=150) == 10 * 50 - 50


def verdicts(gateways: list[Gateway]) -> list[dict[str, Any]]:
    """Thirty requests of two accounts, one after the other through the gateways in turn: what was decided, and by what."""
    for number in range(30):
        asked = gateways[number % len(gateways)]
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}], "max_tokens": 7 + number % 3}
        headers = {"authorization": f"Bearer sk-{'aab'[number % 3]}"}
        httpx.post(f"{asked.url}/v1/chat/completions", json=body, headers=headers, timeout=20, trust_env=False)
        time.sleep(SETTLED)
    kept = [one.records_after(0, 30 // len(gateways)) for one in gateways]
    records = [kept[number % len(kept)][number // len(kept)] for number in range(30)]
    rooms = ("id", "allowed", "remaining")
    return [
        {
            "decision": entry["decision"], "would": entry["would"], "measures": entry["measures"], "rules": entry["rules"],
            "outcome": entry["outcome"]["action"], "status": entry["answer"]["status"],
            "limits": [{name: room[name] for name in rooms} for room in entry["limits"]],
        }
        for entry in records
    ]  # fmt: skip


def test_two_gateways_in_turn_decide_what_one_decides(
    faulty: Faulty,
    own_redis: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICE_HASH_KEY", "a key that all of them have")

    def mine(prefix: str) -> str:
        return f"upstreams: {{openai: {{url: {faulty.url}}}}}\nstate: {{url: '{own_redis.url}', prefix: {prefix}}}\n"

    with gateway(tmp_path / "alone", mine("alone"), PACK) as alone:
        expected = verdicts([alone])
    with gateway(tmp_path / "one", mine("both"), PACK) as one, gateway(tmp_path / "two", mine("both"), PACK) as two:
        found = verdicts([one, two])
    assert found == expected
    assert {entry["status"] for entry in expected} == {200, 429}
    assert {entry["outcome"] for entry in expected} >= {"tag", "throttle"}


def test_the_bench_runs(tmp_path: Path) -> None:
    sizes = ["--clients", "2", "--parallel", "4", "--requests", "40"]
    command = [sys.executable, "-m", "tests.bench.limits", *sizes, "--only", "memory"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "over-admitted" in done.stdout
