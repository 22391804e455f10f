"""The small scenarios: each is what its docstring says, repeats by its seed, and gives values of the bundled signals' types."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from gateway.replay.scenarios import DAY, HOUR, MINUTE, SCENARIOS, Sent
from tests.judging import CATALOGUE


def made(name: str, seed: int = 1, **given: Any) -> list[Sent]:
    """The exchanges of a scenario with some parameters given and the others as they are by default."""
    scenario = SCENARIOS[name]
    unknown = given.keys() - scenario.fields.keys()
    assert not unknown
    return list(scenario.make(Random(seed), {key: field.default for key, field in scenario.fields.items()} | given))


def column(sent: list[Sent], name: str) -> list[Any]:
    return [one.values[name] for one in sent]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_repeats_by_its_seed_in_order_and_in_time(name: str) -> None:
    sent = made(name, seed=7)
    assert sent == made(name, seed=7)
    assert sent != made(name, seed=8)
    times = [one.after for one in sent]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < SCENARIOS[name].fields["over"].default
    defaults = {key: field.default for key, field in SCENARIOS[name].fields.items()}
    assert len(sent) == SCENARIOS[name].size(defaults)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_value_is_one_that_the_signal_could_have(name: str) -> None:
    for one in made(name):
        for signal, value in one.values.items():
            assert CATALOGUE[signal].type.holds(value), signal
            assert CATALOGUE[signal].type.parse(CATALOGUE[signal].type.plain(value)) == value
        assert one.answer.status == 200
        assert one.answer.usage.output_tokens


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_says_what_it_stands_for_and_what_each_parameter_means(name: str) -> None:
    said = SCENARIOS[name].make.__doc__ or ""
    assert "Stands for" in said
    assert [key for key in SCENARIOS[name].fields if f"{key}:" not in said] == []


def test_a_ring_is_young_and_does_one_work_in_turn_from_one_place() -> None:
    sent = made("ring", accounts=16, requests=10, templates=2, networks=2)
    accounts = column(sent, "account.id")
    assert accounts[:16] == accounts[16:32]
    assert set(Counter(accounts).values()) == {10}
    assert len(set(column(sent, "account.org"))) == 16
    assert len(set(column(sent, "account.payment"))) == 2
    assert len(set(column(sent, "client.fingerprint"))) == 1
    assert len(set(column(sent, "client.network"))) == 2
    assert len(set(column(sent, "prompt.template"))) == 2
    assert len(set(column(sent, "prompt.slots"))) == 160
    assert max(column(sent, "account.age")) < 20 * DAY
    gaps = [later.after - sooner.after for sooner, later in pairwise(sent)]
    assert max(gaps) < 2 * 30 * MINUTE / 160


def test_a_campus_shares_everything_but_the_work() -> None:
    sent = made("campus_nat", accounts=300, requests=4)
    assert len(set(column(sent, "account.id"))) == 300
    assert len(set(column(sent, "client.fingerprint"))) == len(set(column(sent, "client.network"))) == 1
    assert len(set(column(sent, "prompt.template"))) == len(sent)
    assert len(set(column(sent, "account.payment"))) == 300
    young = {one.values["account.id"] for one in sent if int(str(one.values["account.age"])) < 30 * DAY}
    assert 0.8 < len(young) / 300 < 0.97
    assert len(set(column(made("campus_nat", starter=1), "prompt.template"))) == 1


def test_a_benchmarks_fillings_are_finite() -> None:
    sent = made("benchmark", items=50, repeats=6)
    assert set(Counter(column(sent, "prompt.slots")).values()) == {6}
    half = len(sent) // 2
    assert len(set(column(sent[:half], "prompt.slots"))) == len(set(column(sent, "prompt.slots"))) == 50
    assert len(set(column(sent, "account.org"))) == len(set(column(sent, "prompt.template"))) == 1
    assert not any(column(sent, "prompt.has_tool_results"))
    agentic = made("benchmark", items=10, repeats=1, turns=30)
    assert sum(column(agentic, "prompt.has_tool_results")) == 290
    assert max(column(agentic, "prompt.turns")) == 59


def test_a_harvests_fillings_are_endless_round_the_clock_and_answered_at_length() -> None:
    sent = made("harvest", accounts=4, requests=300, over=DAY)
    assert len(set(column(sent, "prompt.slots"))) == len(sent)
    assert len(set(column(sent, "prompt.template"))) == 1
    assert set(column(sent, "prompt.turns")) == {1}
    assert len({one.after // HOUR for one in sent}) == 24
    assert len(set(column(sent, "client.network"))) == len(set(column(sent, "account.org"))) == 4
    usage = [one.answer.usage for one in sent]
    assert sum(one.output_tokens or 0 for one in usage) > 2.5 * sum(one.input_tokens or 0 for one in usage)
    mixed = made("harvest", requests=1_000, share=0.4)
    assert 0.35 < sum(template == "harvest-template-0" for template in column(mixed, "prompt.template")) / 1_000 < 0.45


def test_a_products_conversations_are_long_streamed_and_by_day() -> None:
    sent = made("product", requests=2_000)
    assert len(set(column(sent, "prompt.system"))) == len(set(column(sent, "account.org"))) == 1
    assert min(column(sent, "prompt.turns")) >= 3
    assert all(column(sent, "request.stream"))
    assert all(column(sent, "request.end_user"))
    assert 0.85 < sum(8 * HOUR <= one.after < 20 * HOUR for one in sent) / 2_000 < 0.95
    assert len(set(column(sent, "prompt.template"))) == len(sent)
    assert len(set(column(sent, "reseller.forwarded_client"))) > 90
    assert len(set(column(made("product", frames=3), "prompt.template"))) == 3


def test_a_hops_conversations_change_their_owner_on_few_connections() -> None:
    sent = made("hop", conversations=40, turns=6)
    assert len(set(column(sent, "client.connection"))) == 4
    owners, turns = defaultdict(set), defaultdict(list)
    for one in sent:
        owners[one.values["prompt.system"]].add(one.values["account.org"])
        turns[one.values["prompt.system"]].append(one.values["prompt.turns"])
    assert len(owners) == 40
    assert sum(len(found) > 1 for found in owners.values()) > 30
    assert all(found == [1, 3, 5, 7, 9, 11] for found in turns.values())
    kept = made("hop", sticky=1)
    assert len({(one.values["prompt.system"], one.values["account.org"]) for one in kept}) == 30


def test_two_runs_share_templates_and_accounts_but_no_fillings() -> None:
    one, two = made("harvest", seed=1), made("harvest", seed=2)
    assert set(column(one, "prompt.template")) == set(column(two, "prompt.template"))
    assert set(column(one, "account.id")) == set(column(two, "account.id"))
    assert not set(column(one, "prompt.slots")) & set(column(two, "prompt.slots"))
