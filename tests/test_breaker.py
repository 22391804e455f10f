"""Circuit breakers: when they open, who finds out, and what a process says of those it watches."""

from __future__ import annotations

from gateway.breaker import AFTER, LONGEST, REST, Breaker, Position
from gateway.dependencies import Dependencies
from gateway.facts import Cause
from gateway.failing import Dependency, Fail, FailModes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(AFTER):
        breaker.met(good=False, problem="gone")
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(Clock())
    for _ in range(AFTER - 1):
        breaker.met(good=False)
    breaker.met(good=True)
    for _ in range(AFTER - 1):
        breaker.met(good=False, problem="gone")
    assert (breaker.position, breaker.admits(), breaker.failing, breaker.problem) == (Position.CLOSED, True, True, "gone")
    breaker.met(good=False)
    assert (breaker.position, breaker.admits(), breaker.opened, breaker.wait) == (Position.OPEN, False, 1, REST)


def test_one_finds_out_and_a_success_closes_it() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += REST
    assert breaker.position is Position.HALF_OPEN
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.met(good=True)
    assert (breaker.position, breaker.failing, breaker.problem, breaker.wait) == (Position.CLOSED, False, "", 0.0)


def test_a_failure_opens_it_again_for_longer_up_to_the_longest() -> None:
    clock = Clock()
    breaker = opened(clock)
    for time in range(2, 40):
        clock.now += breaker.wait
        assert breaker.admits()
        breaker.met(good=False)
        breaker.met(good=False)  # what was on its way still
        assert breaker.wait == min(LONGEST, REST * time)
    assert breaker.opened == 39


def test_who_never_says_what_it_met_holds_the_others_up_for_one_rest() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += REST
    assert breaker.admits()
    clock.now += REST
    assert breaker.admits()


def test_what_fails_is_known_and_what_is_declared_closed_shuts() -> None:
    clock = Clock()
    modes = {Dependency.OTLP: Fail.CLOSED, Dependency.STATE: Fail.OPEN}
    found = Dependencies(FailModes(dependencies=modes))
    otlp, state, other = Breaker(clock), Breaker(clock), Breaker(clock)
    for name, where, breaker in ((Dependency.OTLP, "o", otlp), (Dependency.STATE, "s", state), (Dependency.STATE, "t", other)):
        found.watch(name, where, breaker)
    assert (found.now(0), found.ready(0)) == (frozenset(), True)
    state.met(good=False)
    assert (found.now(0), found.ready(0), found.causes(found.now(0))) == ({Dependency.STATE}, True, [])
    otlp.met(good=False)
    assert (found.ready(0), found.causes(found.now(0))) == (False, [Cause.OTLP_UNAVAILABLE])
    state.met(good=True)
    otlp.met(good=True)
    assert (found.now(0), found.ready(0)) == (frozenset(), True)
    assert found.health()["state"] == {
        "mode": "open",
        "s": {"breaker": "closed", "failures": 0, "opened": 0},
        "t": {"breaker": "closed", "failures": 0, "opened": 0},
    }


def test_records_that_degrade_shut_once_too_many_wait() -> None:
    found, breaker, full = Dependencies(), Breaker(Clock()), [False]
    found.watch(Dependency.RECORDS, "ledger", breaker)
    found.bound(lambda: full[0])
    breaker.met(good=False)
    assert (found.causes(found.now(0)), found.ready(0)) == ([], True)
    full[0] = True
    assert (found.causes(found.now(0)), found.ready(0)) == ([Cause.RECORDS_UNAVAILABLE], False)
