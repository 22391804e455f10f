"""The hour an exchange came in: of its own time, in replays and old records too."""

from __future__ import annotations

import pytest

from gateway.audit.record import recorded_signals
from gateway.facts import Facts
from gateway.plugins.pace import HOUR
from gateway.signals import View
from gateway.values import Missing
from tests.judging import CATALOGUE, START


@pytest.mark.parametrize("at", [0, HOUR - 1, HOUR, START, START + 10**12])
def test_an_hour_is_counted_from_1970(at: int) -> None:
    assert View.of(Facts(at=at), CATALOGUE).get("request.hour") == at // (3_600 * 1_000_000)


def test_the_same_hour_begins_and_ends_on_the_clock() -> None:
    begins = START // HOUR * HOUR
    hours = [View.of(Facts(at=begins + after), CATALOGUE).get("request.hour") for after in (-1, 0, HOUR - 1, HOUR)]
    assert [int(str(hour)) - begins // HOUR for hour in hours] == [-1, 0, 0, 1]


def test_a_record_of_before_the_signal_existed_has_an_hour() -> None:
    old = Facts(at=START, recorded=recorded_signals({"signals": {"account.id": "a"}}, CATALOGUE))
    assert View.of(old, CATALOGUE).get("request.hour") == START // HOUR


def test_a_record_keeps_no_hour_that_its_time_contradicts() -> None:
    told = Facts(at=START, recorded=recorded_signals({"signals": {"request.hour": 5}}, CATALOGUE))
    assert View.of(told, CATALOGUE).get("request.hour") == START // HOUR


def test_a_rule_test_may_give_one() -> None:
    given = Facts(at=START, recorded=recorded_signals({"signals": {"request.hour": 5}, "given": ["request.hour"]}, CATALOGUE))
    assert View.of(given, CATALOGUE).get("request.hour") == 5
    missing = Facts(at=START, recorded={"request.hour": Missing("not given")})
    assert isinstance(View.of(missing, CATALOGUE).get("request.hour"), Missing)
