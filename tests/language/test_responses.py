"""What rules and limits may do, as written: limits, pace, defaults."""

from __future__ import annotations

import pytest

from gateway.decision import Action, Mode
from gateway.errors import Place
from gateway.language.amounts import limit_of
from gateway.state.operations import NANO, Limit, Pace, Unit
from gateway.strict.shapes import Problems
from gateway.values import SECOND
from tests.judging import policy

REQUESTS = (Unit.REQUESTS,)
LIMITS = [
    ("60 requests/minute", 60, 60),
    ("1 request/second", 1, 1),
    ("30/10s", 30, 10),
    ("1000/day", 1000, 86_400),
    ("5/hours", 5, 3_600),
    ("60requests / 2m", 60, 120),
    (" 7/1d ", 7, 86_400),
]
NO_LIMITS = [
    "",
    "60",
    "60/",
    "/minute",
    "60/0s",
    "0/minute",
    "60/fortnight",
    "60/s",
    "-1/minute",
    "1.5/minute",
    "60 tokens/minute",
    "60/minute/day",
    "٦٠/minute",
    "60/minute;x",
]


@pytest.mark.parametrize(("written", "amount", "period"), LIMITS)
def test_a_limit_is_an_amount_and_a_period(written: str, amount: int, period: int) -> None:
    problems = Problems()
    assert limit_of(written, "id", Pace.MOVING, True, Place("f"), problems, REQUESTS) == Limit(
        "id", amount, period, Pace.MOVING, True
    )
    assert problems.found == []


@pytest.mark.parametrize("written", NO_LIMITS)
def test_what_is_no_limit_is_said_once(written: str) -> None:
    problems = Problems()
    assert limit_of(written, "id", Pace.FIXED, False, Place("f", 3, 5), problems, REQUESTS) is None
    assert [problem.place for problem in problems.found] == [Place("f", 3, 5)]
    assert problems.found[0].mend


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("200000 tokens/minute", Limit("id", 200_000, 60, Pace.MOVING, False, Unit.TOKENS)),
        ("9000 output tokens/hour", Limit("id", 9_000, 3_600, Pace.MOVING, False, Unit.OUTPUT)),
        ("1 input  token/day", Limit("id", 1, 86_400, Pace.MOVING, False, Unit.INPUT)),
        ("7 cached tokens/10s", Limit("id", 7, 10, Pace.MOVING, False, Unit.CACHED)),
        ("7reasoning tokens /10s", Limit("id", 7, 10, Pace.MOVING, False, Unit.REASONING)),
        ("1 token/10s", Limit("id", 1, 10, Pace.MOVING, False, Unit.TOKENS)),
        ("5 usd/day", Limit("id", 5 * NANO, 86_400, Pace.MOVING, False, Unit.USD)),
        ("0.000000001 usd/day", Limit("id", 1, 86_400, Pace.MOVING, False, Unit.USD)),
        ("12.50 usd/hour", Limit("id", 12_500_000_000, 3_600, Pace.MOVING, False, Unit.USD)),
        ("8 concurrent", Limit("id", 8, 90, Pace.FIXED, False, Unit.CONCURRENT)),
    ],
)
def test_limits_in_other_units(written: str, limit: Limit) -> None:
    problems = Problems()
    assert limit_of(written, "id", Pace.MOVING, False, Place("f"), problems, tuple(Unit), 90) == limit
    assert problems.found == []


EFFECTS = [
    ("{action: allow}", (Action.ALLOW, 0, "", 0, None)),
    ("{action: observe}", (Action.OBSERVE, 0, "", 0, None)),
    ("{action: tag, tag: a.b-c}", (Action.TAG, 0, "a.b-c", 0, None)),
    ("{action: delay, hold: 10s}", (Action.DELAY, 0, "", 10 * SECOND, None)),
    ("{action: throttle, limit: 5/minute, per: [account.id]}", (Action.THROTTLE, 429, "", 0, None)),
    ("{action: verify, link: 'https://example.com'}", (Action.VERIFY, 403, "", 0, "https://example.com")),
    ("{action: deny}", (Action.DENY, 403, "", 0, None)),
    ("{action: deny, status: 451}", (Action.DENY, 451, "", 0, None)),
]


@pytest.mark.parametrize(("then", "effect"), EFFECTS)
@pytest.mark.parametrize("mode", list(Mode))
def test_an_effect_is_what_was_written(then: str, effect: tuple[object, ...], mode: Mode) -> None:
    rule = f"{{id: r, title: t, family: network, owner: o, when: {{client.country: NO}}, then: {then}, mode: {mode}}}"
    (found,) = policy(f"pack: p\nversion: 1\nlanguage: 1\nrules: [{rule}]\n").rules[0].response.effects
    assert (found.action, found.status, found.tag, found.hold, found.link) == effect
    assert found.limit is None or found.limit == Limit("rule:r", 5, 60, Pace.FIXED, mode is Mode.SHADOW)


def test_every_action_of_the_first_cut_is_covered() -> None:
    assert {effect[0] for _, effect in EFFECTS} == set(Action) - {Action.RESTRICT}
