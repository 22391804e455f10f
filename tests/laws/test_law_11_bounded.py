"""Law 11: bounded everything. Callers who change everything they control, request after request, meet caps: of state, of what
is counted for metrics, of caches, of spans; and a cap that was hit is told as «at least N»."""

from __future__ import annotations

import ast
import gc
import json
import sys
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from gateway.admin.seen import Seen
from gateway.audit.counted import MODELS, ROUTES, Counted
from gateway.audit.otlp import MOST_ATTRIBUTES, MOST_EVENTS, Kind, Pairs, event, pairs, span
from gateway.audit.otlp import Place as SpanPlace
from gateway.audit.record import record
from gateway.config import bundled_rules
from gateway.decision import Verdict
from gateway.facts import Answer, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.compile import load
from gateway.state.memory import MemoryState
from gateway.tally import OTHER
from gateway.web.intake import Body, Head, Intake
from tests.judging import CATALOGUE, START, judge, policy
from tests.test_relations import REGISTRY

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
CAPPED = """
pack: eleven
version: 1
language: 1
rules:
  - id: eleven.few
    title: Few networks
    family: network
    owner: tests
    measures: {networks: {distinct: client.network, per: [account.id], window: 1h, cap: 3}}
    when: {networks: {lte: 3}}
    then: {action: observe}
    mode: enforce
  - id: eleven.many
    title: Many networks
    family: network
    owner: tests
    measures: {networks: {distinct: client.network, per: [account.id], window: 1h, cap: 3}}
    when: {networks: {gte: 3}}
    then: {action: observe}
    mode: enforce
limits:
  - {id: eleven.calls, per: [account.id], limit: 5/minute, on_missing: share, mode: enforce}
"""


def rotated(intake: Intake, number: int, at: int) -> Any:
    """A request of which everything is new that a caller controls."""
    said = f"{number:08d}"
    body = {"model": f"m{said}", "user": f"u{said}", "metadata": {"session_id": f"s{said}"}, f"field{said}": 1,
            "messages": [{"role": "system", "content": f"be {said}"}, {"role": "user", "content": f"text {said}"}]}  # fmt: skip
    headers = (
        ("authorization", f"Bearer sk-{said}"), ("user-agent", f"client/{said}"), ("x-session-id", f"s{said}"),
        (f"x-{said}", said), ("content-type", "application/json"),
    )  # fmt: skip
    address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
    path = "/v1/chat/completions" if number % 2 else f"/v1/{said}"
    head = Head("POST", path, f"q={said}", "1.1", headers, address, f"c{said}", path)
    return intake.facts(head, Body(json.dumps(body).encode()), at)


def inside(thing: object) -> int:
    """Bytes of everything that can be reached from a thing, modules, classes and functions left out."""
    seen, waiting, found = {id(thing)}, deque([thing]), 0
    while waiting:
        one = waiting.popleft()
        found += sys.getsizeof(one)
        for below in gc.get_referents(one):
            if id(below) not in seen and not isinstance(below, (ModuleType, FunctionType, type)):
                seen.add(id(below))
                waiting.append(below)
    return found


def test_what_is_kept_is_flat_under_callers_who_change_everything() -> None:
    counted, seen = Counted(), Seen(most=20)
    sinks = (counted, seen)

    def sink(judgement: Judgement, answer: Answer) -> None:
        for one in sinks:
            one(judgement, answer)

    state = MemoryState(max_keys=40)
    gate = Gate(load([bundled_rules()], REGISTRY.signals), REGISTRY.signals, state=state, sink=sink)
    intake, sizes = Intake(REGISTRY, b"a key of the tests' own"), []
    for number in range(600):
        gate.settle(gate.judge(rotated(intake, number, START + number * 1_000)), Answer(200, Usage(3, 4), duration=1_000))
        if number in (199, 399, 599):
            sizes.append((inside(state), inside(sinks)))
    for before, after in pairwise(sizes):
        assert after[0] <= before[0] * 1.02, sizes
        assert after[1] <= before[1] * 1.02, sizes
    assert state.health()["evicted"]
    assert len(counted.calls.items()) <= MODELS + 1
    assert len(counted.requests.items()) <= ROUTES + 1
    assert OTHER in {key[2] for key, _ in counted.calls.items()}


def test_a_cap_that_was_hit_is_told_as_at_least() -> None:
    gate = Gate(policy(CAPPED), CATALOGUE)
    for number in range(6):
        judgement = judge(gate, {"account.id": "a", "client.network": f"10.0.{number}.0/24"}, START + number)
    entry = record(judgement, Answer())
    assert list(entry["measures"].values()) == [{"at_least": 3}]
    ends = {end.rule: end.verdict for end in judgement.outcome.decision.ends}
    assert ends == {"eleven.few": Verdict.UNKNOWN, "eleven.many": Verdict.MATCH}


def test_past_its_keys_a_limit_is_shared_and_not_forgotten() -> None:
    state = MemoryState(max_keys=10)
    gate = Gate(policy(CAPPED), CATALOGUE, state=state)
    for number in range(200):
        judge(gate, {"account.id": f"a{number}", "client.network": "10.0.0.0/24"}, START)
    again = [judge(gate, {"account.id": "a0", "client.network": "10.0.0.0/24"}, START).outcome for _ in range(5)]
    assert [one.refusal is None for one in again] == [True] * 4 + [False]
    assert state.health()["shared"]


def test_a_span_is_cut_and_says_so() -> None:
    many = pairs([(f"a{number}", "x" * 5_000) for number in range(400)])
    events = [event("security_rule.match", 1, pairs([("text", "y" * 5_000)])) for _ in range(400)]
    whole = span(SpanPlace(1, 10), "POST", Kind.SERVER, (0, 1), many, events)
    assert isinstance(whole, bytes)
    assert len(whole) < (MOST_ATTRIBUTES + MOST_EVENTS + 2) * 1_200 + 4_096
    assert isinstance(many, Pairs)


def caches() -> Iterator[tuple[str, ast.expr, ast.FunctionDef | None]]:
    """Every use of functools' caches, with the function that it decorates."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                for one in node.decorator_list:
                    if ast.unparse(one).split("(")[0] in ("cache", "lru_cache", "functools.cache", "functools.lru_cache"):
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", one, node


@pytest.mark.parametrize(("where", "cache", "function"), [*caches()], ids=lambda one: one if isinstance(one, str) else "")
def test_every_cache_has_an_end(where: str, cache: ast.expr, function: ast.FunctionDef) -> None:
    """A number of entries, or no arguments to tell entries apart by."""
    sized = isinstance(cache, ast.Call) and [*cache.args, *(one.value for one in cache.keywords)]
    assert function.args.args == [] or (sized and ast.unparse(sized[0]) != "None"), where
