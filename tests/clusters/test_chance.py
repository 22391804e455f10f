"""What chance does: tails that are right, nulls that ties do not pass by accident."""

from __future__ import annotations

from collections import Counter
from math import exp, factorial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clusters.chance import Chance
from gateway.clusters.families import FAMILIES, JOIN, LINK, PLANES, planes, weight
from gateway.clusters.links import links
from gateway.clusters.pairs import FLOOR, failovers, probability, surprise, synchrony
from gateway.clusters.population import Population
from gateway.clusters.published import wilson
from gateway.values import SECOND
from tests.clusters.finding import seen_of
from tests.clusters.traffic import BEGIN, DAY, HOUR, MINUTE, Entry, entry, normal, records, said


@given(st.integers(1, 60), st.floats(0.001, 50))
def test_the_tail_of_a_poisson_variable(count: int, expected: float) -> None:
    exact = 1 - sum(exp(-expected) * expected**k / factorial(k) for k in range(count))
    if count <= expected:
        assert surprise(count, expected) == 0
    elif exact > 1e-9:
        assert probability(count, expected) == pytest.approx(exact, rel=1e-4)
    else:
        assert 18 < surprise(count, expected) <= FLOOR


def test_the_floor() -> None:
    assert surprise(1_000, 0.001) == surprise(3, 0) == FLOOR
    assert surprise(0, 0) == 0


def test_wilson() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_one_plane_weighs_nothing_and_weak_ones_together_too_little() -> None:
    """Which pairs of families may link, by themselves and at their most: those with a payment, or what was carried over."""
    assert weight({"payment": 5, "device": 3}) == weight({"hop": 6, "failover": 6, "signature": 6}) == 0
    assert weight({"payment": 5, "template": 1}) == 0
    linking = {
        frozenset((one, other)) for one in FAMILIES for other in FAMILIES
        if weight({one: FAMILIES[one].most, other: FAMILIES[other].most}) >= LINK
    }  # fmt: skip
    weak = {"template", "egress", "device", "session", "probe", "synchrony"}
    assert [sorted(pair) for pair in linking if pair <= weak] == []
    assert all(pair & {"payment", "hop", "signature", "failover"} for pair in linking)
    assert weight({"hop": FAMILIES["hop"].each, "template": 3}) < LINK, "one carried conversation is not enough"
    assert weight({"template": 3, "egress": 2}) >= JOIN
    assert planes(PLANES) == {"content", "identity", "network"}


def test_accounts_chosen_at_random_are_tied_as_often_as_chance_says() -> None:
    """Of groups drawn from honest traffic, hardly more than one in twenty passes at one in twenty."""
    seen = seen_of(records(normal))
    population = Population(seen, 0)
    chance = Chance(population, links(population, seen.phase), seed=1)
    rng, passed = Random(2), Counter[str]()
    for _ in range(60):
        group = sorted(rng.sample(range(len(population)), 30))
        passed.update(name for name, test in chance.against(group, FAMILIES).items() if test.p <= 0.05)
    assert set(passed) <= {"egress", "template", "payment"}
    assert max(passed.values(), default=0) <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5


def users(rng: Random, count: int, when: object) -> list[Entry]:
    """Users of one template, each of whom sends sixty times; `when` says at what time."""
    return [
        entry(when(rng, user, number), f"user-{user}", said(rng, "one"))  # type: ignore[operator]
        for user in range(count)
        for number in range(60)
    ]


def _in_lessons(rng: Random, user: int, number: int) -> int:
    return BEGIN + number % 5 * DAY + 9 * HOUR + rng.randrange(HOUR)


def _at_the_full_hour(rng: Random, user: int, number: int) -> int:
    return BEGIN + number * HOUR + rng.randrange(MINUTE)


def _together(rng: Random, user: int, number: int) -> int:
    return BEGIN + number * HOUR + number * 7 % 60 * MINUTE + rng.randrange(20 * SECOND)


def test_lessons_are_no_synchrony() -> None:
    seen = seen_of(users(Random(1), 40, _in_lessons))
    assert len(synchrony(Population(seen, 0), seen.phase)) <= 40 * 39 / 2 * 0.2  # what a tail of one in five lets pass


def test_a_schedule_that_everybody_keeps_is_no_synchrony() -> None:
    """The same full hours, alone and among others who keep them with templates of their own."""
    rng = Random(1)
    alone = users(rng, 10, _at_the_full_hour)
    crowd = [
        entry(_at_the_full_hour(rng, user, number), f"other-{user}", said(rng, f"own-{user}"))
        for user in range(100)
        for number in range(60)
    ]
    seen = seen_of(alone)
    assert len(synchrony(Population(seen, 0), seen.phase)) > 40
    seen = seen_of([*alone, *crowd])
    assert len(synchrony(Population(seen, 0), seen.phase)) <= 45 * 0.2


def test_batches_are_synchrony() -> None:
    seen = seen_of(users(Random(1), 40, _together))
    found = synchrony(Population(seen, 0), seen.phase)
    assert len({node for pair in found for node in pair}) == 40
    assert all(tie.count >= 30 and tie.nats > 20 for tie in found.values())


def refused(again: bool, later: int = SECOND) -> list[Entry]:
    """One is refused, another sends the same; `again`: the first does so, too."""
    made = []
    for number in range(5):
        at, told = BEGIN + number * HOUR, {"prompt.whole": f"whole-{number}"}
        made += [entry(at, "first", told, status=429), entry(at + later, "second", told)]
        made += [entry(at + later + SECOND, "first", told)] if again else []
    return made


def test_an_echo_is_another_account_at_once_and_not_the_same_one_again() -> None:
    ties = failovers(Population(seen_of(refused(again=False)), 0))
    assert [tie.count for tie in ties.values()] == [5]
    assert failovers(Population(seen_of(refused(again=True)), 0)) == {}
    assert failovers(Population(seen_of(refused(again=False, later=MINUTE)), 0)) == {}
