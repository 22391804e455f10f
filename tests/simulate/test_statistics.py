"""A label means what it says: what the research table states of each scenario is measured on its traffic."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import polars as pl
import pytest

from gateway.config import default_config
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY
from gateway.simulate.people import sized
from gateway.simulate.table import CASE, Order, tables
from gateway.simulate.traffic import START, Traffic

SETTINGS = default_config(DRY_RUN_KEY)
REGISTRY = load_registry(SETTINGS.settings)
DAY = 86_400_000_000
HOUR = DAY // 24
SCALES = {"D1": 4.0, "D2": 100.0, "D3": 500.0, "D4": 20.0, "X1": 1.0, "R1": 500.0, "R2": 200.0, "R3": 200.0, "B1": 10.0,
          "B2": 20.0, "B3": 20.0, "B4": 40.0, "B5": 20.0, "P1": 300.0, "P2": 100.0, "A1": 1000.0, "A2": 50.0, "N1": 1000.0,
          "N2": 5.0, "M1": 10.0, "T2": 60.0, "T4": 10.0, "T7": 20.0, "T8": 20.0, "T10": 10.0}  # fmt: skip


@cache
def traffic(name: str) -> pl.DataFrame:
    """The exchanges of a scenario, at a scale at which they take a second."""
    made = Traffic(name, SCALES[name], 3)
    return pl.concat([pl.DataFrame(pl.from_arrow(table)) for table in made.compact(REGISTRY, SETTINGS.hash_key)])


def rows(name: str) -> Iterator[Any]:
    return traffic(name).iter_rows(named=True)


def days(name: str) -> float:
    at = traffic(name)["at"]
    return (at.max() - at.min()) / DAY  # type: ignore[operator]


def share(name: str, condition: pl.Expr) -> float:
    return float(traffic(name).select(condition.mean()).item())


def roots(name: str) -> pl.DataFrame:
    """One row for each conversation: its turns and the accounts and orgs that it goes through."""
    accounts, orgs = (pl.col(f"account.{of}").n_unique().alias(f"{of}s") for of in ("id", "org"))
    return traffic(name).group_by("prompt.root").agg(pl.len().alias("turns"), accounts.alias("accounts"), orgs)


def hops(name: str) -> float:
    """The share of later turns under another account than the turn before."""
    moved = traffic(name).filter(pl.col("status") == 200).sort("at").with_columns(
        pl.col("account.id").shift(1).over("prompt.root").alias("before")
    ).filter(pl.col("before").is_not_null() & (pl.col("prompt.turns") > 1))  # fmt: skip
    return float(moved.select((pl.col("account.id") != pl.col("before")).mean()).item())


@pytest.mark.parametrize("name", sorted(SCALES))
def test_rates_do_not_depend_on_the_scale(name: str) -> None:
    scenario, found = tables().scenarios[name], traffic(name)
    size = sized(scenario, SCALES[name])
    assert len(found) == pytest.approx(size.exchanges, rel=0.12, abs=30)
    rate = scenario.exchanges / scenario.accounts / scenario.window
    assert size.exchanges / size.accounts / size.window == pytest.approx(rate, rel=0.01)
    assert days(name) == pytest.approx(size.window / DAY, rel=0.25, abs=0.25)
    assert found["label"].unique().to_list() == [scenario.label]
    assert found["at"].is_sorted() and found["id"].n_unique() == len(found)
    assert found["at"].min() >= START + scenario.begins  # type: ignore[operator]


def test_the_campaigns_are_those_of_the_case() -> None:
    found = [tables().scenarios[name] for name in CASE]
    assert sum(one.accounts for one in found) == 24_000
    assert sum(one.exchanges for one in found) == pytest.approx(16.72e6, rel=0.001)


def test_every_indicator_has_an_honest_twin_and_a_guilty_one() -> None:
    for honest in (True, False):
        held = {i for one in tables().scenarios.values() for i in one.indicators if one.label.startswith("benign") is honest}
        assert held == set(range(1, 11)), honest


def test_d1_is_a_synchronous_pool_with_few_cards_and_six_templates() -> None:
    found = traffic("D1")
    assert found["account.payment"].n_unique() == 10
    assert found["client.network"].n_unique() == 3
    per_account = found.group_by("account.id").len()["len"]
    assert per_account.max() - per_account.min() <= 1  # type: ignore[operator]
    assert found["prompt.template"].n_unique() == 6
    flags = found["prompt.structure"].list
    assert (flags.contains("answer_given") & flags.contains("asks_reasoning")).mean() == pytest.approx(0.5, abs=0.02)
    assert (flags.contains("rubric") & flags.contains("candidates")).mean() == pytest.approx(0.35, abs=0.02)
    assert flags.contains("rewrite_task").mean() == pytest.approx(0.15, abs=0.02)
    assert found["prompt.slots"].n_unique() / len(found) == pytest.approx(0.97, abs=0.01)
    assert set(found["request.temperature"].unique()) == {0.7}
    assert found["output_tokens"].mean() / found["input_tokens"].mean() > 3  # type: ignore[operator]
    assert share("D1", pl.col("prompt.signature").is_not_null()) == pytest.approx(0.02, abs=0.004)
    in_bins = (found["at"] % (10 * HOUR // 60) < HOUR // 60).mean()
    assert in_bins == pytest.approx(0.8 + 0.2 / 10, abs=0.02)


def test_signatures_are_handed_back_by_another_account_than_they_were_issued_to() -> None:
    issued: dict[str, str] = {}
    crossed = []
    for row in rows("D1"):
        if row["prompt.signature"] in issued:
            crossed.append(issued[row["prompt.signature"]] != row["account.org"])
        issued |= dict.fromkeys(row["response.issued"] or (), row["account.org"])
    assert len(crossed) > 500 and sum(crossed) / len(crossed) > 0.95


def test_d2_loops_with_tools_paraphrases_and_reconstructs_at_the_end() -> None:
    found = traffic("D2")
    looping = found.filter(pl.col("prompt.tools").is_not_null())
    turns = looping.group_by("prompt.root").len()["len"]
    assert turns.mean() == pytest.approx(12, rel=0.05)
    assert looping["at"].max() - found["at"].min() == pytest.approx(35 * DAY, rel=0.02)  # type: ignore[operator]
    late = found.filter(pl.col("prompt.tools").is_null())
    assert late["prompt.structure"].list.contains("answer_given").mean() == 0 or late["prompt.turns"].max() == 1
    assert late["prompt.structure"].list.contains("asks_reasoning").all()
    assert hops("D2") == pytest.approx(0.08, abs=0.02)  # a turn that hops goes there and comes back
    assert 25 < found["prompt.template"].n_unique() <= 2 * 25 * 64
    assert found["client.fingerprint"].n_unique() == 3


def test_d3_is_a_relay_pool_with_cover_bans_successors_echoes_probes_and_a_pivot() -> None:
    found = traffic("D3")
    work = found.filter(pl.col("reseller.probe").is_null())
    assert work["prompt.template"].value_counts(sort=True)["count"][:12].sum() / len(work) == pytest.approx(0.4, abs=0.03)
    a_day = work.group_by("account.id", pl.col("at") // DAY).len()
    assert a_day["len"].median() <= 12  # type: ignore[operator]
    slots = 40
    banned = found["account.id"].n_unique() - slots
    assert banned / slots / 60 == pytest.approx(0.015, abs=0.006)
    release = START + 20 * DAY
    new = pl.col("request.model") == "large-3"
    assert work.filter(pl.col("at") < release).select(new.mean()).item() == 0
    assert work.filter(pl.col("at") > release + DAY).select(new.mean()).item() == pytest.approx(0.48, abs=0.02)
    assert share("D3", pl.col("status") == 429) == pytest.approx(0.008, abs=0.002)
    probes = found.filter(pl.col("reseller.probe").is_not_null())["at"]
    assert (probes.diff().drop_nulls() % (10 * HOUR // 60) == 0).all()
    assert len(probes) / slots / 60 == pytest.approx(20 * 144 / 20_000, rel=0.02)  # a sweep of 20 every ten minutes, at 1:1
    assert hops("D3") == pytest.approx(0.7, abs=0.12)


@pytest.mark.parametrize("name", ["D3", "T8"])
def test_what_was_refused_comes_again_at_once_under_another_account(name: str) -> None:
    bad = {"D3": 429, "T8": 503}[name]
    refused: dict[str, Any] = {}
    again = []
    for row in rows(name):
        if row["status"] == bad:
            refused[row["prompt.whole"]] = row
        elif row["prompt.whole"] in refused and row["status"] == 200:
            first = refused.pop(row["prompt.whole"])
            same_org = first["account.org"] == row["account.org"]
            again.append((row["at"] - first["at"], same_org, first["account.id"] != row["account.id"]))
    assert len(again) > 20 and all(200_000 <= delay <= 2_000_000 for delay, *_ in again)
    assert all(same is (name == "T8") for _, same, _ in again)
    if name == "D3":
        assert all(other for *_, other in again)


def test_successors_come_within_a_day_and_are_new() -> None:
    born = traffic("D3").group_by("account.id").agg(pl.col("account.age").min().alias("age"), pl.col("at").min().alias("at"))
    late = born.filter(pl.col("at") > START + 5 * DAY)
    assert len(late) > 10 and (late["age"] < 3 * DAY).mean() > 0.9


def test_d4_shares_template_and_card_and_nothing_else() -> None:
    found = traffic("D4")
    assert found["client.network"].n_unique() == found["account.id"].n_unique() == 150
    assert len(found) / 150 / 10 == pytest.approx(5.6, rel=0.03)
    assert found["account.payment"].n_unique() == 25
    assert found["prompt.template"].n_unique() == 3
    assert found["reseller.probe"].null_count() == len(found)


def test_x1_tries_different_phrasings_and_is_mostly_refused() -> None:
    found = traffic("X1")
    assert found["prompt.template"].n_unique() == len(found) == pytest.approx(12_000, rel=0.01)
    assert share("X1", pl.col("output_tokens") < 40) > 0.92
    assert found["prompt.structure"].list.contains("asks_reasoning").all()


def test_r1_uses_the_accounts_of_d3_and_some_of_its_own() -> None:
    theirs, ours = (set(traffic(name)["account.id"].unique()) for name in ("D3", "R1"))
    assert len(ours & theirs) > 0.6 * len(theirs) and len(ours - theirs) == 4
    assert traffic("R1")["prompt.template"].n_unique() / len(traffic("R1")) > 0.5
    assert share("R1", pl.col("reseller.forwarded_client").is_not_null()) == pytest.approx(0.3, abs=0.06)
    assert (roots("R1").filter(pl.col("turns") > 4)["orgs"] > 1).mean() > 0.6


@pytest.mark.parametrize("name", ["R2", "R3"])
def test_honest_relays_move_conversations_within_one_org(name: str) -> None:
    found = roots(name)
    assert found["orgs"].max() == 1 and found["accounts"].max() > 1  # type: ignore[operator]
    assert traffic(name)["account.payment"].n_unique() == 1


def test_r3_shows_what_relay_software_writes() -> None:
    assert share("R3", pl.col("reseller.markers").list.len() > 0) == pytest.approx(1 / 2, abs=0.15)
    assert traffic("R3")["client.network"].n_unique() <= 2


@pytest.mark.parametrize(("name", "turns"), [("B1", 72.5), ("B2", 45)])
def test_swe_bench_has_few_roots_with_many_turns(name: str, turns: float) -> None:
    runs = traffic(name).filter(pl.col("prompt.turns") == 1)
    assert len(traffic(name)) / len(runs) == pytest.approx(turns, rel=0.08)
    assert traffic(name)["prompt.template"].n_unique() == 1
    assert share(name, pl.col("prompt.has_tool_results")) > 0.95
    assert name == "B1" or set(traffic(name)["request.model"].unique()) == {"large-3"}


def test_suites_repeat_their_items_and_decode_cold() -> None:
    found = traffic("B3")
    assert set(found["request.temperature"].unique()) == {0.0}
    assert found["request.parameters"].list.contains("seed").all()
    by_template = found.group_by("prompt.template").agg(pl.len().alias("n"), pl.col("prompt.slots").n_unique().alias("items"))
    assert len(by_template) == 3
    assert by_template.sort("items")["items"][0] <= 198


def test_regressions_and_judges_have_finite_items() -> None:
    assert traffic("T10")["prompt.slots"].n_unique() <= 400 < len(traffic("T10"))
    assert set(((traffic("T10")["at"] // HOUR) % 24).unique()) <= {2, 3, 4}
    assert traffic("B4")["prompt.structure"].list.contains("rubric").all()


def test_b5_looks_like_a_harvest_and_is_one_laboratory() -> None:
    found = traffic("B5")
    assert found["prompt.slots"].n_unique() / len(found) == pytest.approx(0.9, abs=0.01)
    assert found["prompt.structure"].list.contains("reasoning_tags").all()
    assert set(found["request.temperature"].unique()) == {1.0}


@pytest.mark.parametrize(("name", "low", "high"), [("P1", 3, 6), ("P2", 2, 5)])
def test_products_have_one_system_prompt_and_talk_with_their_users(name: str, low: int, high: int) -> None:
    found = traffic(name)
    assert found["prompt.system"].n_unique() == found["account.id"].n_unique() == 1
    turns = roots(name)["turns"]
    assert (turns.is_between(low, high + 1)).mean() > 0.95
    assert found["request.end_user"].all() and found["prompt.slots"].n_unique() / len(found) > 0.95
    assert name == "P1" or found["account.age"].max() < 6 * DAY  # type: ignore[operator]


def test_coding_agents_take_many_turns_by_working_day() -> None:
    found = traffic("A1")
    assert roots("A1")["turns"].mean() == pytest.approx(160, rel=0.2)
    assert (((found["at"] // DAY) + 3) % 7 < 5).mean() > 0.85
    assert found["client.session"].null_count() < 0.6 * len(found)


def test_build_agents_start_at_the_hour_from_many_networks() -> None:
    found = traffic("A2")
    first = found.filter(pl.col("prompt.turns") == 1)
    assert (first["at"] % HOUR < 3 * HOUR // 60).all()
    per_key = found.group_by("account.id").agg(pl.col("client.network").n_unique(), pl.col("client.fingerprint").n_unique())
    assert per_key["client.network"].min() > 20 and per_key["client.fingerprint"].min() == 3  # type: ignore[operator]


def test_ordinary_use_is_uneven_and_shares_public_templates() -> None:
    found = traffic("N1")
    assert tables().scenarios["N1"].order is Order.ZIPF
    sizes = found.group_by("account.id").len().sort("len", descending=True)["len"]
    assert sizes[:5].sum() / len(found) > 0.3
    spread = found.group_by("prompt.template").agg(pl.col("account.org").n_unique().alias("orgs")).sort("orgs", descending=True)
    assert spread["orgs"][5] > 15


def test_a_hackathon_is_new_behind_one_address_with_a_starter() -> None:
    found = traffic("N2")
    assert found["client.network"].n_unique() == 1 and found["account.age"].max() < 5 * DAY  # type: ignore[operator]
    assert found["prompt.template"].value_counts(sort=True)["count"][0] / len(found) == pytest.approx(0.5, abs=0.05)


def test_a_migration_moves_conversations_between_the_keys_of_one_org() -> None:
    found = roots("M1")
    assert found["orgs"].max() == 1
    moved = (found["accounts"] > 1).sum()
    assert 0 < moved < 0.1 * len(found)


def test_everything_together_has_every_scenario() -> None:
    made = Traffic("case+benign", 20_000, 1)
    found = pl.concat([pl.DataFrame(pl.from_arrow(table)) for table in made.compact(REGISTRY, SETTINGS.hash_key)])
    assert set(found["scenario"].unique()) == set(tables().scenarios)
    assert found["at"].is_sorted()
