"""Compact facts say what the bodies would: by value where values are fixed, by equality where they are hashes of words."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest

from gateway.config import default_config
from gateway.errors import Place
from gateway.registry import load as load_registry
from gateway.replay.driver import DRY_RUN_KEY
from gateway.replay.sources import Reader
from gateway.signals import View
from gateway.simulate.columns import FACTS, SIGNALS
from gateway.simulate.looks import OF_FRAME, OF_LOOK
from gateway.simulate.table import tables
from gateway.simulate.traffic import Traffic, lines
from gateway.values import Missing
from gateway.web.intake import Intake

SETTINGS = default_config(DRY_RUN_KEY)
REGISTRY = load_registry(SETTINGS.settings)
BY_VALUE = (
    "account.age", "account.billing_country", "account.id", "account.known", "account.org", "account.payment", "account.plan",
    "client.ip", "client.network", "client.retry", "prompt.close_kin", "prompt.structure", "prompt.turns", "request.model",
    "request.models", "reseller.forwarded_client", *OF_LOOK,
)  # fmt: skip
BY_EQUALITY = (
    "client.connection", "client.device", "client.session", "prompt.opening", "prompt.root", "prompt.signature",
    "prompt.slots", "prompt.template", "prompt.whole", "workload.item",
)  # fmt: skip
ABOUT = ("prompt.length", "request.size")
MOST = 150
NO_DATABASE = ("client.asn", "client.country")  # a capture leaves these to the operator's geo databases
SCALES = {"A1": 200_000, "A2": 40_000, "N1": 60_000, "P1": 40_000, "D3": 40_000, "D2": 10_000, "R1": 20_000, "B1": 2_000,
          "B2": 2_000, "R2": 10_000, "R3": 10_000, "P2": 8_000}  # fmt: skip


def pairs(scenario: str) -> list[tuple[dict[str, Any], View, int]]:
    """The first exchanges of a scenario: its compact row, and the view and status of its capture."""
    traffic = Traffic(scenario, SCALES.get(scenario, 800), 7)
    rows = list(islice((row for table in traffic.compact(REGISTRY, SETTINGS.hash_key) for row in lines(table)), MOST))
    reader = Reader(Intake(REGISTRY, SETTINGS.hash_key), REGISTRY.signals)
    read = [reader.exchange(json.dumps(one).encode(), Place("x", 1, 1)) for one in islice(traffic.captures(), MOST)]
    assert len(rows) == len(read) > 3
    views = [View(one.facts, REGISTRY.signals).over(one.answer) for one in read]
    return [(row, view, one.answer.status or 0) for row, view, one in zip(rows, views, read, strict=True)]


def shown(view: View, name: str) -> Any:
    value = view.get(name)
    return None if isinstance(value, Missing) else sorted(value) if isinstance(value, frozenset) else value


def test_every_column_is_claimed_in_some_way() -> None:
    claimed = {*BY_VALUE, *BY_EQUALITY, *ABOUT, *NO_DATABASE, "prompt.kin", "response.issued"}
    assert claimed == set(SIGNALS)


@pytest.mark.parametrize("scenario", sorted(tables().scenarios))
def test_compact_facts_are_what_the_bodies_give(scenario: str) -> None:
    found = pairs(scenario)
    for row, view, status in found:
        assert {name: row[name] for name in BY_VALUE} == {name: shown(view, name) for name in BY_VALUE}
        assert (row["at"], row["status"]) == (view.facts.at, status)
        assert row["prompt.length"] == pytest.approx(shown(view, "prompt.length"), rel=0.25, abs=60)
        assert row["client.asn"] and row["client.country"]
    for name in BY_EQUALITY:
        there = [(row[name], shown(view, name)) for row, view, _ in found]
        assert all((ours is None) == (theirs is None) for ours, theirs in there), name
        assert len({ours for ours, _ in there}) == len({theirs for _, theirs in there}) == len(set(there)), name


def test_a_fixed_frame_has_its_own_template_and_kin() -> None:
    for row, view, _ in pairs("D1"):
        assert all(row[name] == shown(view, name) for name in OF_FRAME)


def test_what_is_issued_is_what_another_hands_back() -> None:
    found = pairs("D1")
    ours = {(tuple(row["response.issued"] or ()), row["prompt.signature"]) for row, _, _ in found}
    theirs = {(tuple(shown(view, "response.issued") or ()), shown(view, "prompt.signature")) for _, view, _ in found}
    assert len(ours) == len(theirs) == len({*zip(sorted(map(str, ours)), sorted(map(str, theirs)), strict=True)})


def test_facts_and_signals_are_columns_once() -> None:
    assert len({*FACTS, *SIGNALS}) == len(FACTS) + len(SIGNALS)
