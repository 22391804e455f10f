"""Relations between accounts on real bodies, and the published indicators of harvesting beside their honest twins.

The first half sends conversations as SDKs write them through the real readers, signals and rules. The second takes the ten
indicators of a public advisory (AA26-251A) in turn: where one is seen it is observed or tagged at most, because volume and
behaviour alone prove nothing; and its honest twin is never acted on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from gateway.config import bundled_rules
from gateway.decision import Action
from gateway.facts import Answer, Call, Facts
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.compile import load
from gateway.plugins.issued import EDGE, MOST, SHORTEST, handed_back, parts_of
from gateway.registry import load as load_registry
from gateway.replay.driver import answered
from gateway.replay.scenarios import DAY, HOUR, SCENARIOS, Sent
from gateway.signals import View
from gateway.values import SECOND, Missing
from gateway.web.intake import Body, Head, Intake
from tests.judging import START
from tests.test_velocity_evasions import made

REGISTRY: Final = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE: Final = Intake(REGISTRY, b"a key of the tests' own")
POLICY: Final = load([bundled_rules()], REGISTRY.signals)
GENTLE: Final = (Action.ALLOW, Action.OBSERVE, Action.TAG)
SAID: Final = (
    "The lighthouse keeper wrote the day's weather into a ledger, and under it, in smaller letters, what he had dreamt. " * 2
)


def gate() -> Gate:
    return Gate(POLICY, REGISTRY.signals)


def call(key: str, messages: list[dict[str, str]], at: int, address: str = "198.51.100.7") -> Facts:
    """A chat request with a key, as a Python SDK writes it."""
    headers = (("host", "api"), ("authorization", f"Bearer sk-{key}"), ("content-type", "application/json"))
    raw = json.dumps({"model": "m", "messages": messages}).encode()
    return INTAKE.facts(Head("POST", "/v1/chat/completions", headers=headers, peer=address), Body(raw=raw), START + at)


def turns(number: int, topic: str = "a lighthouse") -> list[dict[str, str]]:
    """A conversation of so many answered turns and one more question."""
    told = [{"role": "user", "content": f"Tell me a story about {topic}, please."}]
    for turn in range(number):
        told.append({"role": "assistant", "content": f"{SAID} Chapter {turn} of {topic}."})
        told.append({"role": "user", "content": f"And then, after chapter {turn}?"})
    return told


def settle(running: Gate, facts: Facts, answer: Answer | None = None) -> Judgement:
    judged = running.judge(facts)
    running.settle(judged, answered(judged, answer or Answer(200)))
    return judged


def matches(judged: Judgement) -> set[str]:
    return {end.rule for end in judged.outcome.decision.ends if end.verdict == "match"}


def test_a_conversation_dealt_out_to_two_keys_is_seen_at_its_third_call() -> None:
    running = gate()
    seen = [matches(settle(running, call(f"key-{number % 2}", turns(number), number * SECOND))) for number in range(4)]
    assert ["relations.conversation-hop" in found for found in seen] == [False, False, True, True]


def test_two_keys_with_conversations_of_their_own_are_no_hop() -> None:
    running = gate()
    found = [matches(settle(running, call(f"key-{n % 2}", turns(n // 2, f"topic {n % 2}"), n * SECOND))) for n in range(10)]
    assert not any("relations.conversation-hop" in one for one in found)


def test_examples_that_many_put_before_their_question_are_no_hop() -> None:
    running = gate()
    for number in range(30):
        asked = [*turns(2)[:-1], {"role": "user", "content": f"Now write a story about number {number}."}]
        assert "relations.conversation-hop" not in matches(settle(running, call(f"key-{number}", asked, number * SECOND)))
        follow = [*asked, {"role": "assistant", "content": "Once."}, {"role": "user", "content": "Go on."}]
        assert "relations.conversation-hop" not in matches(settle(running, call(f"key-{number}", follow, number * SECOND)))


@pytest.mark.parametrize(("status", "seen"), [(401, True), (402, True), (403, True), (429, True), (529, True), (500, False)])
def test_what_was_refused_comes_again_under_another_key(status: int, seen: bool) -> None:
    running = gate()
    settle(running, call("one", turns(1), 0), Answer(status))
    again = settle(running, call("two", turns(1), SECOND))
    assert ("relations.failover-echo" in matches(again)) is seen
    assert again.outcome.action in GENTLE


def signature(*presented: str, key: bytes = b"one key") -> object:
    registry = load_registry({"identity": {"hash_key": key}})
    return View.of(Facts(at=0, call=Call("chat", presented=presented)), registry.signals).get("prompt.signature")


def test_what_was_issued_is_known_by_a_keyed_hash_of_the_oldest() -> None:
    old, new = "EqoBCkgIARAB" * 20, "EqoBCkgIARAC" * 20
    assert signature(old) == signature(old, new) != signature(new)
    assert signature(old) != signature(old, key=b"another key")
    assert old[:SHORTEST] not in str(signature(old))


def test_placeholders_are_passed_over() -> None:
    assert isinstance(signature(), Missing)
    assert isinstance(signature("", "dummy", "x" * (SHORTEST - 1)), Missing)
    assert signature("dummy", "s" * SHORTEST) == signature("s" * SHORTEST)
    assert isinstance(View.of(Facts(at=0), REGISTRY.signals).get("prompt.signature"), Missing)


def test_long_ones_are_told_apart_by_their_ends_and_length() -> None:
    begin, end = "b" * EDGE, "e" * EDGE
    assert signature(begin + "x" * 9 + end) == signature(begin + "y" * 9 + end)
    assert len({signature(begin + "x" * n + end) for n in range(1, 5)} | {signature("c" + begin + end + "x")}) == 5
    assert signature("\ud800" * SHORTEST) != signature("\ud801" * SHORTEST)


def test_what_upstreams_issue_is_found_in_the_parts_of_every_protocol() -> None:
    messages = [
        {"role": "user", "content": "text alone"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "…", "signature": "one"}, {"type": "text"}, "odd"]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "two"}, {"type": "thinking", "signature": 3}]},
        "not a message",
    ]
    assert handed_back(parts_of(messages, "content")) == ("one", "two")
    items = [{"type": "reasoning", "encrypted_content": "three", "id": "rs_1"}, {"type": "message"}, {"type": "reasoning"}]
    assert handed_back(items) == ("three",)
    contents = [{"role": "model", "parts": [{"text": "…", "thoughtSignature": "four"}, {"thought_signature": "five"}]}]
    assert handed_back(parts_of(contents, "parts")) == ("four", "five")
    assert handed_back(parts_of("no list", "parts")) == ()
    assert len(handed_back([{"thoughtSignature": str(number)} for number in range(MOST + 5)])) == MOST
    assert handed_back([{"type": ["thinking"], "thoughtSignature": "six"}, {"type": "thinking", "signature": ""}]) == ("six",)


@dataclass(frozen=True)
class Pair:
    """An indicator and its twin, as traffic. rules: what sees the indicator; nothing, where it is for no rule to see."""

    indicator: str
    seen: list[Sent]
    twin: list[Sent]
    rules: frozenset[str] = frozenset()


def sent(
    values: dict[str, object], times: int = 1, every: int = SECOND, after: int = 0, status: int = 200, **each: str
) -> list[Sent]:
    """So many exchanges with these values; `{n}` in the others counts."""
    named = [{name.replace("__", "."): text.replace("{n}", str(n)) for name, text in each.items()} for n in range(times)]
    return [Sent(after + n * every, {**values, **named[n]}, Answer(status)) for n in range(times)]


def who(name: str, age: int = 400 * DAY, **more: object) -> dict[str, object]:
    found = {"account.id": name, "account.org": f"{name}-org", "account.age": age}
    return found | {key.replace("__", "."): value for key, value in more.items()}


def pairs() -> Iterable[Pair]:
    a, b = who("a"), who("b")
    week = sent(a, 168, HOUR) + sent(a, 480, 100 * SECOND, 7 * DAY)
    yield Pair("round-the-clock use", week, sent(b, 168, HOUR), frozenset({"velocity.round-the-clock"}))
    yield Pair("a new account at full speed", sent(who("a", DAY), 1_000), sent(who("b", DAY), 900, 3 * SECOND),
               frozenset({"velocity.new-at-full-speed"}))  # fmt: skip
    places = [sent(who("a", client__country=place), 12, SECOND, 100 * n, client__network=f"203.{n}.{{n}}.0/24")
              for n, place in enumerate(("BR", "VN", "FR", "DE"))]  # fmt: skip
    runners = sent(who("b", client__country="US"), 60, SECOND, client__network="203.9.{n}.0/24")
    yield Pair(
        "one credential, many networks",
        [one for part in places for one in part],
        runners,
        frozenset({"velocity.credential-spread"}),
    )
    ramp = sent(who("a", account__plan="free"), 500, 5 * SECOND)
    batch = sent(who("b", account__plan="team"), 300, 5 * SECOND, 6 * DAY) + sent(b, 500, 5 * SECOND, 8 * DAY)
    yield Pair("more use than the plan and its own past explain", ramp, batch, frozenset({"velocity.ramp"}))
    yield Pair("routing through aggregators", made("hop"), made("product"), frozenset({"relations.conversation-hop"}))
    yield Pair("metadata taken away", sent({"account.id": "a", "account.org": "A"}, 50), sent(b, 50))
    reasons = {"prompt.structure": frozenset({"asks_reasoning"}), "prompt.length": 900}
    yield Pair(
        "asking for reasoning", sent(a | reasons, 60, prompt__template="t"), sent(b | reasons, 60, prompt__template="u{n}")
    )
    whole = {"prompt.whole": "w", "prompt.length": 500}
    yield Pair("failover when refused", sent(a | whole, status=429) + sent(b | whole, after=SECOND),
               sent(a | whole, status=503) + sent(b | whole, after=SECOND), frozenset({"relations.failover-echo"}))  # fmt: skip
    old, new = {"request.model": "old"}, {"request.model": "new"}
    yield Pair("a turn to a new model", sent(a | old, 400) + sent(a | new, 300, SECOND, 2 * DAY),
               sent(b | old, 400) + sent(b | old, 320, SECOND, 2 * DAY) + sent(b | new, 300, SECOND, 2 * DAY),
               frozenset({"velocity.model-pivot"}))  # fmt: skip
    yield Pair("the same items asked again to notice counter-measures", sent(a | whole, 48, HOUR), sent(b | whole, 7, DAY))


PAIRS: Final = tuple(pairs())


def play_all(traffic: list[Sent]) -> tuple[set[str], set[Action]]:
    """The rules of pace and relations that matched, and everything that was done."""
    running, found, done = gate(), set(), set()
    for one in sorted(traffic, key=lambda each: each.after):
        given: dict[str, Any] = {name: REGISTRY.signals[name].type.parse(value) if isinstance(value, str) else value
                                 for name, value in one.values.items()}  # fmt: skip
        judged = settle(running, Facts(at=START + one.after, recorded=given), one.answer)
        found |= matches(judged)
        done.add(judged.outcome.action)
    return found, done


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.indicator)
def test_an_indicator_is_tagged_at_most_and_its_twin_is_not_acted_on(pair: Pair) -> None:
    found, done = play_all(pair.seen)
    assert pair.rules <= found
    assert done <= set(GENTLE)
    twin, done_to_it = play_all(pair.twin)
    assert not pair.rules & twin
    assert done_to_it <= set(GENTLE)


def test_all_ten_indicators_stand_here() -> None:
    assert len({pair.indicator for pair in PAIRS}) == 10


@pytest.mark.parametrize("name", ["campus_nat", "benchmark", "product"])
def test_honest_scenarios_are_not_acted_on(name: str) -> None:
    assert name in SCENARIOS
    for seed in (1, 2):
        found, done = play_all(made(name, seed=seed))
        assert done <= set(GENTLE)
        assert not {rule for rule in found if rule.startswith("relations.")}
