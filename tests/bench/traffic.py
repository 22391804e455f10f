"""Kinds of exchanges that stand for traffic where the engine itself would take too long: what each has the state count.

An exchange of each profile goes through the intake and the engine with the shipped packs, so that every `where` filter is
evaluated on real facts: a chat of an application, an agent in the middle of its work with tools, one template filled again and
again, a search over embeddings, and calls that the upstream turns away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.facts import Answer
from gateway.gate import Gate
from gateway.language.compile import load
from gateway.language.policy import Policy
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.state.operations import Window
from gateway.web.intake import Body, Intake
from tests.bench.judging import ANSWER, KEY, Sent, harvesting, known
from tests.judging import START

RULES: Final = Path(__file__).parents[2] / "rules"


class Asked(NamedTuple):
    """One sight of an exchange: its window, the signals of its key, what is counted, and whether it counts or only looks."""

    window: Window
    per: tuple[str, ...]
    of: str | None
    counts: bool


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """An exchange, how it ends, and how many of a hundred accounts have such."""

    name: str
    share: int
    sent: Sent
    answer: Answer = ANSWER


def _with(sent: Sent, body: dict[str, Any], path: str = "/v1/chat/completions") -> Sent:
    return Sent(replace(sent.head, path=path), json.dumps({"model": "large-2", **body}).encode(), sent.account)


def _agent(sent: Sent) -> Sent:
    """The third turn of an agent that reads files of a repository."""
    tool = {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Read one file of the repository.",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        },
    }
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You mend the tests of a repository. Look before you change anything."},
        {"role": "user", "content": "tests/test_clock.py fails since yesterday. Find out why and propose a patch."},
    ]
    for turn, path in enumerate(("tests/test_clock.py", "clock/zones.py")):
        call = {
            "id": f"call_{turn}",
            "type": "function",
            "function": {"name": "read_file", "arguments": json.dumps({"path": path})},
        }
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append(
            {"role": "tool", "tool_call_id": f"call_{turn}", "content": f"# {path}\n" + "def now(zone):\n    ...\n" * 20}
        )
    return _with(sent, {"messages": messages, "tools": [tool], "stream": True})


CHAT: Final = next(known(1))
PROFILES: Final[Sequence[Profile]] = (
    Profile("chat", 70, CHAT),
    Profile("agent", 12, _agent(CHAT)),
    Profile("one template", 5, next(harvesting(1))),
    Profile("embeddings", 8, _with(CHAT, {"input": ["invoices of last month", "open orders"]}, "/v1/embeddings")),
    Profile("turned away", 3, CHAT, Answer(429, duration=9_000)),
    Profile("unknown to the upstream", 2, CHAT, Answer(401, duration=9_000)),
)


@cache
def registry() -> Registry:
    """The bundled plugins, with the bench's key."""
    return load_registry({"identity": {"hash_key": KEY}})


@cache
def shipped() -> Policy:
    """The bundled packs."""
    return load([RULES], registry().signals)


@cache
def _gate() -> Gate:
    return Gate(shipped(), registry().signals)


@cache
def sights_of(profile: Profile) -> Sequence[Asked]:
    """What the shipped packs count and look at, of the second exchange of a profile's account."""
    gate, intake = _gate(), Intake(registry(), KEY)
    asked: list[Asked] = []
    measures = {measure.window.digest: measure for measure in gate.policy.measures}
    notes = {note.window.digest: spec.per for spec in gate.policy.corroborations for note in spec.notes.values()}
    for moment in range(2):
        facts = intake.facts(profile.sent.head, Body(raw=profile.sent.body), START + moment * 1_000_000, profile.sent.account)
        judgement = gate.judge(facts)
        before = judgement.engine.prepare(judgement.view)
        after = judgement.engine.settle(judgement.view.over(profile.answer), judgement.evaluated)
        asked.clear()
        for window, _, value in (*before.batch.sights, *after.sights):
            measure = measures.get(window.digest)
            per, of = (measure.per, measure.of) if measure is not None else (notes[window.digest], None)
            asked.append(Asked(window, per, of, value is not None))
        gate.settle(judgement, profile.answer)
    return tuple(asked)
