"""Plan limits in tokens, money and requests under way: held back before the answer, settled by what it says."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit.record import record
from gateway.decision import Action
from gateway.errors import Place
from gateway.facts import Answer, End, Usage
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.policy import Price, Prices
from gateway.replay.exchange import recorded
from gateway.state.operations import NANO
from gateway.values import SECOND
from tests.judging import CATALOGUE, START, facts, policy

PACK = """
pack: p
version: 1
language: 1
prices:
  m: {input: 2, output: 10, cached: 0.5}
  small-*: {input: 0.1, output: 0.4}
  small-but-dear: {input: 100, output: 400}
limits:
  - {id: p.l, per: [account.id], limit: %s, on_missing: %s, mode: %s%s}
"""
SENT = {
    "account.id": "a",
    "request.operation": "chat",
    "request.model": "m",
    "request.size": 400,
    "request.max_tokens": 50,
    "request.n": 1,
}


def gate(limit: str, on_missing: str = "skip", mode: str = "enforce", more: str = "") -> Gate:
    return Gate(policy(PACK % (limit, on_missing, mode, more)), CATALOGUE)


def ask(judging: Gate, at: int = START, **values: Any) -> Judgement:
    sent = {name: value for name, value in {**SENT, **values}.items() if value is not None}
    return judging.judge(facts(sent, at))


def left(judgement: Judgement) -> int:
    return judgement.outcome.rooms[0].remaining


def after(judging: Gate, answer: Answer, **values: Any) -> int:
    """Units left a moment after one exchange was judged and settled, by a look that holds nothing back for itself."""
    judging.settle(ask(judging, **values), answer)
    looked = ask(judging, START + SECOND)
    units = left(looked) + sum(take.cost for take in looked.held)
    judging.settle(looked, Answer(end=End.UPSTREAM_FAILED))
    return units


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ({}, 100 + 50),
        ({"request.max_tokens": None}, 100 + 1_000),
        ({"request.max_tokens": 5_000}, 100 + 1_000),
        ({"request.n": 3}, 100 + 150),
        ({"request.n": None}, 100 + 50),
        ({"request.size": 401}, 101 + 50),
        ({"request.size": 0, "request.max_tokens": 0}, 1),
    ],
)
def test_what_is_held_back_before_the_answer(values: dict[str, Any], held: int) -> None:
    assert left(ask(gate("10000 tokens/minute"), **values)) == 10_000 - held


def test_how_much_output_is_held_back_is_the_limits_to_say() -> None:
    assert left(ask(gate("10000 tokens/minute", more=", reserve: 7"))) == 10_000 - 107


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ({"request.operation": "embeddings"}, 100),
        ({"prompt.length": 40}, 10 + 50),
        ({"prompt.length": 0, "request.size": 10**9}, 50),
        ({"request.size": 10**9}, 10_000),
    ],
)
def test_what_is_held_back_of_other_requests(values: dict[str, Any], held: int) -> None:
    """Images are not counted by their bytes, and a request larger than its limit waits instead of being refused for ever."""
    assert left(ask(gate("10000 tokens/minute"), **values)) == 10_000 - held


@pytest.mark.parametrize("limit", ["10000 tokens/minute", "5 usd/day"])
@pytest.mark.parametrize("operation", [None, "count_tokens"])
def test_a_request_that_generates_nothing_takes_nothing(operation: str | None, limit: str) -> None:
    found = ask(gate(limit, "refuse"), **{"request.operation": operation, "request.model": None})
    assert (found.outcome.action, found.outcome.rooms) == (Action.ALLOW, ())


@pytest.mark.parametrize(("on_missing", "action"), [("refuse", Action.DENY), ("share", Action.ALLOW), ("skip", Action.ALLOW)])
def test_a_body_that_could_not_be_read_is_something_missing(on_missing: str, action: Action) -> None:
    found = ask(gate("10000 tokens/minute", on_missing), **{"request.operation": None, "request.cause": "media-type"})
    assert found.outcome.action is action
    assert len(found.outcome.rooms) == (on_missing == "share")


@pytest.mark.parametrize("window", ["fixed", "moving"])
@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (Answer(200, Usage(90, 30)), 120),
        (Answer(200, Usage(90, 900)), 990),
        (Answer(200, Usage(None, 30)), 30),
        (Answer(200), 150),
        (Answer(200, end=End.CLIENT_GONE), 150),
        (Answer(200, Usage(90, 4), end=End.CLIENT_GONE), 150),
        (Answer(200, Usage(90, 400), end=End.CLIENT_GONE), 490),
        (Answer(200, end=End.CLIENT_GONE, events=700), 800),
        (Answer(200, Usage(90, 4), end=End.UPSTREAM_CUT, events=700), 790),
        (Answer(200, end=End.CLIENT_GONE, events=70, size=9_000), 170),
        (Answer(200, end=End.CLIENT_GONE, size=9_000), 150),  # no more can have been said
        (Answer(200, Usage(90, 4), end=End.STOPPED), 150),
        (Answer(200, end=End.UPSTREAM_CUT), 150),
        (Answer(504, end=End.UPSTREAM_FAILED), 150),
        (Answer(end=End.UPSTREAM_FAILED), 0),
        (Answer(502, end=End.UPSTREAM_FAILED), 0),
        (Answer(503), 0),
        (Answer(429), 0),
    ],
)
def test_what_an_exchange_takes_in_the_end(answer: Answer, used: int, window: str) -> None:
    """Going away early buys nothing: what was held back stays taken, and what went out beyond it counts too."""
    assert after(gate("10000 tokens/minute", more=f", window: {window}"), answer) == 10_000 - used


def test_more_than_was_held_back_is_taken_all_the_same_and_must_leave_the_window_first() -> None:
    judging = gate("1000 tokens/minute")
    judging.settle(ask(judging), Answer(200, Usage(90, 5_000)))
    refused = ask(judging, START + SECOND)
    assert refused.outcome.action is Action.THROTTLE
    assert refused.outcome.refusal is not None
    assert refused.outcome.refusal.by == ("p.l",)
    assert ask(judging, START + 60 * SECOND).outcome.action is Action.ALLOW


@pytest.mark.parametrize("window", ["fixed", "moving"])
def test_an_answer_that_ends_in_another_window_counts_there(window: str) -> None:
    """One request a minute, at its last second, each answered in the next one with five times what a minute allows."""
    judging, found = gate("10000 tokens/minute", more=f", window: {window}"), []
    last_second = START - START % (60 * SECOND) + 59 * SECOND
    for minute in range(5):
        judgement = ask(judging, last_second + minute * 60 * SECOND)
        found.append(judgement.outcome.action)
        refused = judgement.outcome.refusal is not None
        answer = Answer(429, end=End.REFUSED) if refused else Answer(200, Usage(100, 50_000), duration=55 * SECOND)
        judging.settle(judgement, answer)
    assert found == [Action.ALLOW, Action.THROTTLE] * 2 + [Action.ALLOW]


def test_what_was_not_used_makes_no_room_in_another_window() -> None:
    judging, end = gate("150 tokens/minute"), START - START % (60 * SECOND) + 60 * SECOND
    first = ask(judging, end - SECOND)
    assert ask(judging, end).outcome.action is Action.ALLOW
    judging.settle(first, Answer(200, Usage(1, 1), duration=2 * SECOND))
    assert ask(judging, end + 2 * SECOND).outcome.action is Action.THROTTLE


@pytest.mark.parametrize(
    ("kind", "held", "used"),
    [
        ("tokens", 150, 130),
        ("input tokens", 100, 90),
        ("output tokens", 50, 40),
        ("cached tokens", 100, 30),
        ("reasoning tokens", 50, 25),
    ],
)
def test_tokens_of_each_kind_are_held_back_and_settled(kind: str, held: int, used: int) -> None:
    limit = f"10000 {kind}/minute"
    asked = ask(gate(limit))
    assert left(asked) == 10_000 - held
    assert asked.outcome.headers[0][1] == f'"p.l";q=10000;qu="{kind.replace(" ", "-")}";w=60'
    assert after(gate(limit), Answer(200, Usage(90, 40, 30, 25))) == 10_000 - used
    assert after(gate(limit), Answer(200)) == 10_000 - held, "an answer that says nothing keeps what was held back"


@pytest.mark.parametrize(
    ("model", "held", "used"),
    [
        ("m", 100 * 2_000 + 50 * 10_000, 60 * 2_000 + 30 * 500 + 40 * 10_000),
        ("small-1", 100 * 100 + 50 * 400, 90 * 100 + 40 * 400),
        ("small-but-dear", 100 * 100_000 + 50 * 400_000, 90 * 100_000 + 40 * 400_000),
    ],
)
def test_money_is_tokens_times_the_price_of_the_model(model: str, held: int, used: int) -> None:
    values = {"request.model": model}
    assert left(ask(gate("5 usd/day"), **values)) == 5 * NANO - held
    assert after(gate("5 usd/day"), Answer(200, Usage(90, 40, 30)), **values) == 5 * NANO - used


@pytest.mark.parametrize("model", ["unheard-of", None])
@pytest.mark.parametrize(("on_missing", "action"), [("refuse", Action.DENY), ("share", Action.ALLOW), ("skip", Action.ALLOW)])
def test_a_model_without_a_price_is_something_missing(on_missing: str, action: Action, model: str | None) -> None:
    judgement = ask(gate("5 usd/day", on_missing), **{"request.model": model})
    assert judgement.outcome.action is action
    dearest = 100 * 100_000 + 50 * 400_000
    assert [room.remaining for room in judgement.outcome.rooms] == ([5 * NANO - dearest] if on_missing == "share" else [])


def test_prices_are_found_by_the_longest_beginning() -> None:
    price, longer, exact = Price(1, 1, 1), Price(2, 2, 2), Price(3, 3, 3)
    prices = Prices({"a*": price, "a-b*": longer, "a-b-c": exact})
    assert [prices.of(model) for model in ("a", "a-bx", "a-b-c", "b")] == [price, longer, exact, None]
    assert Prices({"a": Price(1, 9, 3), "b": Price(2, 1, 2)}).dearest == Price(2, 9, 3)


def test_requests_under_way_hold_a_slot_until_they_are_settled() -> None:
    judging = gate("2 concurrent")
    first, second, third = (ask(judging) for _ in range(3))
    assert [judgement.outcome.action for judgement in (first, second, third)] == [Action.ALLOW, Action.ALLOW, Action.THROTTLE]
    judging.settle(third, Answer(429, end=End.REFUSED))
    assert ask(judging).outcome.action is Action.THROTTLE, "a refused request held no slot and frees none"
    judging.settle(first, Answer(200, end=End.CLIENT_GONE))
    assert [ask(judging).outcome.action for _ in range(2)] == [Action.ALLOW, Action.THROTTLE]


def test_a_slot_is_renewed_for_as_long_as_its_exchange_is_under_way() -> None:
    judging, woken = gate("1 concurrent", more=", lease: 30s"), []
    judging.holding = woken.append
    lasting = ask(judging)
    assert woken == [30 * SECOND // 4]
    for quarter in range(1, 40):
        at = START + quarter * 30 * SECOND // 4
        assert judging.renew(at) == 30 * SECOND // 4
        assert ask(judging, at).outcome.action is Action.THROTTLE
    judging.settle(lasting, Answer(200))
    assert judging.renew(at + SECOND) == 0
    assert ask(judging, at + SECOND).outcome.action is Action.ALLOW


def test_a_slot_of_an_exchange_that_everybody_forgot_ends_with_its_lease() -> None:
    judging = gate("1 concurrent", more=", lease: 30s")
    judging.holding = lambda within: None
    ask(judging)
    assert judging.renew(START + 20 * SECOND) == 0
    assert ask(judging, START + 30 * SECOND).outcome.action is Action.ALLOW


def test_a_slot_that_nobody_gives_back_is_free_after_its_lease() -> None:
    judging = gate("1 concurrent", more=", lease: 30s")
    ask(judging)
    assert ask(judging, START + 30 * SECOND - 1).outcome.action is Action.THROTTLE
    assert ask(judging, START + 30 * SECOND).outcome.action is Action.ALLOW


def test_a_request_that_another_limit_refuses_takes_nothing_of_any() -> None:
    text = PACK % ("300 tokens/minute", "skip", "enforce", "")
    text += "  - {id: p.m, per: [account.id], limit: 1/minute, on_missing: skip, mode: enforce}\n"
    text += "  - {id: p.n, per: [account.id], limit: 1 concurrent, on_missing: skip, mode: enforce}\n"
    judging = Gate(policy(text), CATALOGUE)
    judging.settle(ask(judging), Answer(200, Usage(10, 10)))
    refused = ask(judging, START + SECOND)
    assert {room.limit: (room.allowed, room.remaining) for room in refused.outcome.rooms} == {
        "p.l": (True, 280), "p.m": (False, 0), "p.n": (True, 1),
    }  # fmt: skip


def test_shadow_limits_count_apart_and_settle_too() -> None:
    judging = gate("200 tokens/minute", mode="shadow")
    first = ask(judging)
    assert (first.outcome.action, first.outcome.would) == (Action.ALLOW, Action.ALLOW)
    second = ask(judging)
    assert (second.outcome.action, second.outcome.would) == (Action.ALLOW, Action.THROTTLE)
    judging.settle(first, Answer(200, Usage(1, 1)))
    assert ask(judging).outcome.would is Action.ALLOW


def test_the_caller_is_told_in_the_units_of_the_limit() -> None:
    def told(limit: str) -> list[str]:
        return [value for _, value in ask(gate(limit)).outcome.headers]

    assert told("1000 tokens/minute") == ['"p.l";q=1000;qu="tokens";w=60', '"p.l";r=850;t=20']
    assert told("5 usd/day") == ['"p.l";q=500;qu="usd-cents";w=86400', '"p.l";r=499;t=77600']
    assert told("3 concurrent") == ['"p.l";q=3;qu="concurrent-requests"', '"p.l";r=2;t=1']
    assert told("3/minute") == ['"p.l";q=3;w=60', '"p.l";r=2;t=20']


def test_a_rule_can_measure_a_quantile() -> None:
    rule = """
pack: q
version: 1
language: 1
rules:
  - id: q.large
    title: large
    family: volume
    owner: o
    measures: {typical: {quantile: request.size, rank: 0.5, per: [account.id], window: 1h}}
    when: {typical: {gte: 100}}
    then: {action: observe}
    mode: enforce
"""
    judging, verdicts = Gate(policy(rule), CATALOGUE), []
    for size in (10, 500, 500, 10, 10, 10):
        judgement = judging.judge(facts({"account.id": "a", "request.size": size}))
        verdicts.append([str(end.verdict) for end in judgement.outcome.decision.ends])
    assert verdicts == [[], [], ["match"], [], [], []]
    assert record(judgement, Answer(200))["measures"] == {"quantile request.size at 0.5 by account.id over 1h": 10}
    looked = judging.judge(facts({"request.size": 1}))
    assert [str(end.verdict) for end in looked.outcome.decision.ends] == ["unknown"]


@pytest.mark.parametrize(
    ("answer", "more", "used"),
    [
        (Answer(200, end=End.CLIENT_GONE, size=2_000), {}, 600),  # its usage, which stands at its end, never came
        (Answer(200, end=End.UPSTREAM_CUT, size=2_000), {}, 600),
        (Answer(200, end=End.CLIENT_GONE, size=200), {}, 160),
        (Answer(200, Usage(90, 30), end=End.CLIENT_GONE, size=2_000), {}, 160),
        (Answer(200, size=2_000), {}, 160),
        (Answer(200, end=End.CLIENT_GONE, size=2_000), {"request.logprobs": True}, 160),
        (Answer(200, end=End.CLIENT_GONE, size=2_000), {"request.operation": "embeddings"}, 100),
    ],
)
def test_an_answer_in_one_piece_is_not_had_for_less_by_leaving_before_its_end(
    answer: Answer, more: dict[str, Any], used: int
) -> None:
    judging = gate("10000 tokens/minute", more=", reserve: 60")
    assert 10_000 - after(judging, answer, **{"request.max_tokens": None, **more}) == used


def test_a_record_holds_what_a_replay_needs_to_charge_a_stream_that_broke_off() -> None:
    judging = gate("1000 output tokens/minute")
    judgement, answer = ask(judging), Answer(200, Usage(90, 1), End.CLIENT_GONE, events=77, size=9_000)
    again = recorded(record(judgement, answer), Place("records", 1), CATALOGUE).answer
    assert (again.events, again.size) == (77, 9_000)
    whole = record(judgement, Answer(200, Usage(90, 77), events=77, size=9_000))["answer"]
    assert not {"events", "size"} & whole.keys(), "the usage says more"
