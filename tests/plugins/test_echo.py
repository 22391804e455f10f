"""What came back of earlier answers: real requests and answers through the gate, and the ways around it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.audit.record import record, recorded_answer, stable
from gateway.errors import Place
from gateway.facts import Answer, Call, End, Facts, Message
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.plugins.echo import EVERY, FEWEST, LENGTH, RUN, fresh, marks
from gateway.plugins.issued import issued_by
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.gemini import Gemini
from gateway.plugins.protocols.openai import OpenAI
from gateway.protocol import Heard, Hearing
from gateway.replay.exchange import recorded
from gateway.values import SECOND, Missing
from gateway.web.tap import Tap
from tests.judging import CATALOGUE, START, policy

KEY = b"a key of this test"
WORDS = (  # noqa: SIM905 - thirty words read better as a text
    "harbour lantern granite meadow copper whistle orchard saddle thunder velvet anchor barley candle dragon ember falcon "
    "garden hammer island jacket kettle ladder marble needle oyster pepper quarry ribbon silver timber"
).split()
RULES = """
pack: t
version: 1
language: 1
rules:
  - id: t.echo
    title: Answers come back
    family: content
    severity: low
    owner: o
    measures:
      echoed: {count: true, per: [account.id], where: {prompt.echo: {gte: 0.5}}, window: 1h}
    when: {any: [{id: now, prompt.echo: {gte: 0.5}}, {id: before, echoed: {gte: 1}}]}
    then: {action: observe}
    mode: enforce
  - id: t.spread
    title: What was issued to one owner comes back from another
    family: coordination
    severity: low
    owner: o
    measures:
      owners: {distinct: account.org, per: [prompt.signature], window: 24h}
    when: {id: several, owners: {gte: 2}}
    then: {action: observe}
    mode: enforce
"""


def text(seed: int, words: int = 240) -> str:
    """Sentences that no other seed makes: each word follows from a walk of its own."""
    found, place = [], seed
    for _ in range(words):
        place = (place * 1_103_515_245 + 12_345 + seed) % 2**31
        found.append(WORDS[place >> 16 & 31 if place >> 16 & 31 < len(WORDS) else place % len(WORDS)])
    return " ".join(" ".join(found[n : n + 12]).capitalize() + "." for n in range(0, words, 12))


def call(said: str, **more: Any) -> Call:
    return Call("chat", messages=(*more.pop("before", ()), Message("user", said)), **more)


def exchange(gate: Gate, asked: Call, answer: Answer, account: str = "a", at: int = START) -> Judgement:
    facts = Facts(
        at=at, method="POST", path="/v1/chat/completions", call=asked, account={"id": account, "org": f"{account}-org"}
    )
    judgement = gate.judge(facts)
    gate.settle(judgement, answer)
    return judgement


def echo(gate: Gate, asked: Call, account: str = "a", at: int = START + SECOND) -> object:
    return exchange(gate, asked, Answer(200), account, at).view.get("prompt.echo")


def whole(value: object) -> bool:
    """Whether all came back, but for marks of which two came to one place."""
    return isinstance(value, float) and 0.9 <= value <= 1


def heard(said: str, asked: Call | None = None, status: int = 200) -> Gate:
    """A gate through which one answer went."""
    gate = Gate(policy(RULES), CATALOGUE)
    exchange(gate, asked or call("Tell me a long story, please."), Answer(status, said=said))
    return gate


def test_an_answer_that_comes_back_is_known() -> None:
    said = text(1)
    gate = heard(said)
    assert whole(echo(gate, call(said)))
    assert echo(gate, call(text(2))) == 0.0
    half = echo(gate, call(said + "\n" + text(3)))
    assert isinstance(half, float)
    assert 0.3 < half < 0.7


def test_rules_see_it_at_once_and_measures_once_the_call_is_over() -> None:
    gate = heard(text(1))
    first = exchange(gate, call(text(1)), Answer(200), at=START + SECOND)
    after = exchange(gate, call(text(2)), Answer(200), at=START + 2 * SECOND)
    label = next(label for label in first.evaluated.values if label.startswith("count by account.id"))
    assert (first.evaluated.values[label], after.evaluated.values[label]) == (0, 1)
    assert [[end.rule.id for end in one.evaluated.ends if end.counts] for one in (first, after)] == [["t.echo"], ["t.echo"]]


SAID = text(1)
SENTENCES = SAID.split(". ")
HITS = {
    "as it was": SAID,
    "inside a judge's frame": f"Rate the answer below.\n\n### Answer\n{SAID}\n\nYour rating:",
    "wrapped anew": SAID.replace(" ", "\n", 40).replace("\n", " \t\r\n"),
    "as a list with marks": "\n".join(f"- **{sentence}**" for sentence in SENTENCES),
    "sliced by sentence": ". ".join(SENTENCES[4:12]),
    "in another order of sentences": ". ".join(reversed(SENTENCES)),
    "in capitals": SAID.upper(),
    "with zero-width characters": SAID.replace("a", "a\u200b"),
    "in look-alike letters": SAID.replace("a", "\u0430").replace("e", "\u0435"),
    "in full-width letters": "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in SAID),
}
OTHER = {word: f"x{n}y" for n, word in enumerate(WORDS)}
MISSES = {
    "every fourth word another": " ".join("instead" if n % 4 == 0 else word for n, word in enumerate(SAID.split())),
    "translated": " ".join(
        {word: f"x{n}y" for n, word in enumerate(WORDS)}.get(word.strip(".").lower(), "z") for word in SAID.split()
    ),
    "the words in another order": " ".join(sorted(SAID.split())),
    "backwards": " ".join(reversed(SAID.split())),
}


@pytest.mark.parametrize("way", HITS)
def test_ways_around_it_that_are_seen(way: str) -> None:
    found = echo(heard(SAID), call(HITS[way]))
    assert isinstance(found, float)
    assert found >= 0.3


@pytest.mark.parametrize("way", MISSES)
def test_ways_around_it_that_are_not(way: str) -> None:
    assert echo(heard(SAID), call(MISSES[way])) == 0.0


def test_another_account_another_day_and_refused_answers_say_nothing() -> None:
    gate = heard(SAID)
    assert echo(gate, call(SAID), account="b") == 0.0
    assert echo(gate, call(SAID), at=START + LENGTH + SECOND) == 0.0
    assert echo(heard(SAID, status=500), call(SAID)) == 0.0


LONE = [
    {"before": (Message("user", "Hello"), Message("assistant", SAID))},
    {"tools": ("search",)}, {"stream": True}, {"end_user": "u"},
    {"before": (Message("tool", SAID, frozenset({"tool_result"})),)},
]  # fmt: skip


@pytest.mark.parametrize("more", LONE)
def test_conversations_tools_streams_and_end_users_are_neither_compared_nor_remembered(more: dict[str, Any]) -> None:
    assert not fresh(call(SAID, **more))
    assert isinstance(echo(heard(SAID), call(SAID, **more)), Missing)
    gate = heard(SAID, call("Tell me a story.", **more))
    assert echo(gate, call(SAID)) == 0.0


def test_what_the_prompt_said_itself_is_no_echo_of_its_answer() -> None:
    gate = heard(SAID + " " + text(5), call(SAID))
    assert echo(gate, call(SAID)) == 0.0
    assert whole(echo(gate, call(text(5))))


def test_too_little_said_is_unknown_and_not_nothing() -> None:
    gate = heard(SAID)
    assert isinstance(echo(gate, call("Thanks!")), Missing)
    assert isinstance(echo(gate, call(" ".join(WORDS[: RUN - 1]))), Missing)


def test_nothing_is_asked_remembered_or_listened_to_where_no_rule_speaks_of_it() -> None:
    gate = Gate(policy(RULES.replace("prompt.echo", "prompt.length").replace("0.5", "5")), CATALOGUE)
    judgement = exchange(gate, call("Tell me a story."), Answer(200, said=SAID))
    assert judgement.engine.hears(judgement.view) == Hearing(text=False, issued=True)
    assert gate.state.health()["recalled"] == {"keys": 0, "let_go": 0}
    assert isinstance(judgement.view.get("prompt.echo"), Missing)


def test_marks_are_keyed_and_about_one_word_in_so_many_begins_one() -> None:
    long = " ".join(text(seed) for seed in range(40))
    found = marks(long, KEY)
    assert found == marks(long, KEY)
    assert not set(found) & set(marks(long, b"another"))
    assert 0.5 < len(found) * EVERY / len(long.split()) < 1.5
    assert len(marks("雨が降る夜の港で古い灯台が静かに海を照らしていた" * 3, KEY)) >= FEWEST


def test_a_record_replays_to_the_same_value_and_holds_no_text() -> None:
    gate = heard(SAID)
    answer = Answer(200, said=SAID, issued=("resp_" + "1" * 40,))
    judgement = exchange(gate, call(SAID), answer, at=START + SECOND)
    entry = json.loads(json.dumps(record(judgement, answer)))
    written = json.dumps(entry)
    assert not any(sentence in written for sentence in SENTENCES)
    assert "resp_" not in written
    assert whole(entry["signals"]["prompt.echo"])
    again = recorded(entry, Place("r", 1, 1), CATALOGUE)
    other = Gate(policy(RULES), CATALOGUE, ids=lambda facts: entry["id"])
    replayed = other.judge(again.facts)
    other.settle(replayed, again.answer)
    assert replayed.view.get("prompt.echo") == entry["signals"]["prompt.echo"]
    assert replayed.view.get("response.issued") == recorded_answer(entry, CATALOGUE)["response.issued"]
    assert stable(record(replayed, again.answer))["answer"] == entry["answer"]


def test_one_foreign_owner_who_hands_back_what_was_issued_is_enough() -> None:
    named = "resp_" + "7" * 40
    gate = Gate(policy(RULES), CATALOGUE)
    exchange(gate, call("Begin."), Answer(200, issued=(named,)), account="a")
    own = exchange(gate, call("Go on.", presented=(named,)), Answer(200), account="a", at=START + SECOND)
    assert not any(end.counts for end in own.evaluated.ends)
    foreign = exchange(gate, call("Go on.", presented=(named,)), Answer(200), account="b", at=START + 2 * SECOND)
    assert [end.rule.id for end in foreign.evaluated.ends if end.counts] == ["t.spread"]


def test_what_was_never_issued_here_ties_nobody() -> None:
    named = "resp_" + "8" * 40
    gate = Gate(policy(RULES), CATALOGUE)
    exchange(gate, call("Begin."), Answer(429, end=End.REFUSED))
    other = exchange(gate, call("Go on.", presented=(named,)), Answer(200), account="b", at=START + SECOND)
    assert not any(end.counts for end in other.evaluated.ends)


SIGNED = "EqoBCkgIARAB" * 4
PARTS = [{"type": "thinking", "signature": SIGNED}, {"type": "text", "text": "five"}]
ITEMS = [
    {"type": "reasoning", "encrypted_content": SIGNED},
    {"type": "message", "content": [{"type": "output_text", "text": "four"}]},
]
SIX = {"content": {"parts": [{"text": "six", "thoughtSignature": SIGNED}]}}
ANSWERS: list[tuple[Any, dict[str, Any], Heard]] = [
    (OpenAI(), {"id": "chatcmpl-1", "choices": [{"message": {"content": "1"}}, {"message": {"content": "2"}}]}, Heard("1\n2")),
    (OpenAI(), {"choices": [{"text": "three"}]}, Heard("three")),
    (OpenAI(), {"id": "resp_1", "object": "response", "output": ITEMS}, Heard("four", ("resp_1", SIGNED))),
    (Anthropic(), {"content": PARTS}, Heard("five", (SIGNED,))),
    (Anthropic(), {"content": [{"type": "redacted_thinking", "data": SIGNED}]}, Heard("", (SIGNED,))),
    (Gemini(), {"candidates": [SIX]}, Heard("six", (SIGNED,))),
    (OpenAI(), {"choices": "odd", "output": [1], "object": "response", "id": 3}, Heard()),
    (Gemini(), {"candidates": [{"content": 3}, 4]}, Heard()),
    (Anthropic(), {"content": 7, "delta": "x", "content_block": []}, Heard()),
]


@pytest.mark.parametrize(("dialect", "document", "expected"), ANSWERS)
def test_answers_of_every_protocol_are_heard(dialect: Any, document: dict[str, Any], expected: Heard) -> None:
    assert dialect.heard(document) == expected
    tap = Tap(dialect, "application/json", "", Hearing(text=True, issued=True))
    for byte in json.dumps(document).encode():
        tap.feed(bytes([byte]))
    tap.close()
    assert Heard(tap.said, tap.issued) == expected


STREAMS = [
    (Anthropic(), {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": SIGNED}}, (SIGNED,)),
    (Anthropic(), {"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": SIGNED}}, (SIGNED,)),
    (OpenAI(), {"type": "response.created", "response": {"object": "response", "id": "resp_2", "model": "m"}}, ("resp_2",)),
    (OpenAI(), {"type": "response.output_item.done", "item": {"type": "reasoning", "encrypted_content": SIGNED}}, (SIGNED,)),
    (Gemini(), {"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": SIGNED}]}}]}, (SIGNED,)),
]


@pytest.mark.parametrize(("dialect", "event", "expected"), STREAMS)
def test_what_streams_issue_is_heard_only_where_it_is_listened_for(dialect: Any, event: Any, expected: tuple[str, ...]) -> None:
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    for hearing, found in ((Hearing(issued=True), expected), (Hearing(), ())):
        tap = Tap(dialect, "text/event-stream", "", hearing)
        for byte in b'data: {"type": "ping"}\n\n' + data:
            tap.feed(bytes([byte]))
        tap.close()
        assert tap.issued == found
    assert issued_by(event) == expected
