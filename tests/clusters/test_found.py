"""Clusters in traffic of known truth: rings found, honest look-alikes left alone, and what cannot be told apart said so."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from gateway.clusters.published import text
from tests.clusters.finding import kinds, members, tree_of, without
from tests.clusters.traffic import (
    HONEST,
    RINGS,
    Entry,
    agency,
    campus,
    corporate,
    cron,
    kind,
    lockstep,
    normal,
    records,
    relay,
    ring,
    scattered,
    slow,
)

SEEDS = (1, 2)


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> tuple[list[Entry], dict[str, Any]]:
    made = records(*RINGS.values(), *HONEST.values(), scattered, agency, seed=request.param)
    return made, tree_of(made)


@pytest.fixture(scope="module")
def small() -> list[Entry]:
    """A ring and a relay among few: enough to look at closely."""
    return records(ring, relay, normal, scale=0.3)


def test_each_ring_is_one_cluster(world: tuple[list[Entry], dict[str, Any]]) -> None:
    """Recall and precision by account are one for all four shapes, the low and slow one among them."""
    made, tree = world
    truth = Counter(kind(org) for org in {one["signals"]["account.org"] for one in made})
    found = {next(iter(one)): one for one in kinds(tree)}
    for name in RINGS:
        assert found[name] == {name: truth[name]}, f"{name}: {kinds(tree)}"


def test_no_honest_org_is_in_any_cluster(world: tuple[list[Entry], dict[str, Any]]) -> None:
    """But for the agency, which is built like a ring and which the report tells to be declared."""
    inside = {kind(org) for orgs in members(world[1]) for org in orgs}
    assert inside.isdisjoint(HONEST)
    assert inside == {*RINGS, "agency"}


def test_what_shares_one_template_only_is_a_known_miss(world: tuple[list[Entry], dict[str, Any]]) -> None:
    """A ring with a card, a home and a rhythm for each account shows what thousands of users of one product show."""
    assert "scattered" not in {kind(org) for orgs in members(world[1]) for org in orgs}


def test_every_cluster_stands_on_two_planes(world: tuple[list[Entry], dict[str, Any]]) -> None:
    for one in world[1]["clusters"]:
        assert len(one["planes"]) >= 2
        assert set(one["families"]) == set(one["evidence"]) == set(one["without"])
        for said in one["evidence"].values():
            assert said["odds"] > 2 and said["p_floor"] <= said["p"] <= 0.05
            assert said["links"] > 0 and said["first"] <= said["last"]


def test_what_remains_without_a_family(world: tuple[list[Entry], dict[str, Any]]) -> None:
    found = {next(iter(made)): one for made, one in zip(kinds(world[1]), world[1]["clusters"], strict=True)}
    assert found["ring"]["without"]["egress"] == {"orgs": 60, "pieces": 1}
    assert found["ring"]["without"]["payment"] == {"orgs": 0, "pieces": 0}
    assert found["slow"]["without"]["template"] == {"orgs": 0, "pieces": 0}
    assert found["relay"]["without"]["failover"] == {"orgs": 50, "pieces": 1}
    assert found["lockstep"]["without"]["synchrony"] == {"orgs": 0, "pieces": 0}


def test_a_relay_of_ordinary_users_is_tied_without_their_words(world: tuple[list[Entry], dict[str, Any]]) -> None:
    found = next(one for one, made in zip(world[1]["clusters"], kinds(world[1]), strict=True) if "relay" in made)
    assert {"payment", "hop", "failover"} <= set(found["families"])
    assert "template" not in found["families"]


def test_units_are_counted(world: tuple[list[Entry], dict[str, Any]]) -> None:
    made, tree = world
    for one in tree["clusters"]:
        orgs = set(one["org_names"])
        own = [entry for entry in made if entry["signals"]["account.org"] in orgs]
        units = one["units"]
        assert units["exchanges"] == len(own)
        assert units["roots"] == len({entry["signals"]["prompt.root"] for entry in own})
        assert units["slots"] == len({entry["signals"]["prompt.slots"] for entry in own})
        assert units["days"] == len({entry["at"][:10] for entry in own})
        assert units["output_tokens"] == 300 * len(own)
        assert units["refused"] == sum(entry["answer"]["status"] == 429 for entry in own)
        assert (one["first"], one["last"]) == (own[0]["at"], own[-1]["at"])


def test_the_order_of_records_does_not_matter(small: list[Entry]) -> None:
    shuffled = random.Random(5).sample(small, len(small))
    assert text(tree_of(shuffled)) == text(tree_of(small))
    assert members(tree_of(small))


def test_the_same_seed_gives_the_same_bytes_and_another_the_same_members(small: list[Entry]) -> None:
    one, other = tree_of(small, seed=1), tree_of(small, seed=2)
    assert text(one) == text(tree_of(small, seed=1))
    assert sorted(map(sorted, members(one))) == sorted(map(sorted, members(other)))


def test_labels_and_names_play_no_part(small: list[Entry]) -> None:
    """Records say the opposite of the truth, and orgs are called by numbers: the same accounts are found."""
    orgs = sorted({one["signals"]["account.org"] for one in small})
    names = dict(zip(orgs, random.Random(3).sample(range(len(orgs)), len(orgs)), strict=True))
    masked = []
    for one in small:
        signals = one["signals"]
        org = signals["account.org"]
        label = "benign" if kind(org) in RINGS else "distill"
        named = {"account.org": f"{names[org]:05}", "account.id": f"a{names[org]:05}"}
        masked.append({**one, "label": label, "signals": {**signals, **named}})
    expected = sorted(sorted(f"{names[org]:05}" for org in found) for found in members(tree_of(small)))
    assert sorted(map(sorted, members(tree_of(masked)))) == expected


def test_accounts_of_one_org_are_one_party() -> None:
    """Forty keys on one card, one exit, one template, with conversations on any of them: nothing to link."""
    made = records(corporate, normal, scale=0.3)
    assert members(tree_of(made, min_size=2)) == []
    keyed = without([one for one in made if one["signals"]["account.org"] == "corporate"], "account.org")
    apart = tree_of([*keyed, *records(normal, scale=0.3)])
    assert [one["size"] for one in apart["clusters"]] == [40]  # the same traffic, were each key a party of its own


def test_one_plane_is_never_enough() -> None:
    made = records(ring, lockstep, relay, normal, scale=0.3)
    assert members(tree_of(without(made, "prompt.template", "client.network", "prompt.opening", "prompt.whole"))) == []
    assert members(tree_of(without(made, "prompt.template", "account.payment"))) == []


def test_camouflage_with_public_templates_hides_nothing() -> None:
    """Members that fill fifty templates of the world between their own are as tied as before."""
    rng = random.Random(4)
    cover = []
    for one in records(ring, scale=0.3):
        for _ in range(2):
            told = {"prompt.template": f"public-{rng.randrange(50)}", "prompt.slots": f"cover-{rng.random()}"}
            cover.append({**one, "signals": {**one["signals"], **told}})
    assert kinds(tree_of([*records(ring, scale=0.3), *cover, *records(normal)])) == [{"ring": 18}]


def test_a_value_that_everybody_has_links_nobody() -> None:
    """A directory that says the same payment for all invoiced customers, on a campus with one starter kit."""
    made = [
        {**one, "signals": {**one["signals"], "account.payment": "invoice"}} for one in records(campus, cron, normal, scale=0.3)
    ]
    tree = tree_of(made)
    assert members(tree) == []
    assert tree["families"]["payment"] == {"plane": "identity", "share": 1.0, "values": 0, "popular": 1}


def test_a_slow_ring_is_found_by_cards_and_templates_only() -> None:
    made = records(slow, normal, scale=0.3)
    assert kinds(tree_of(made)) == [{"slow": 18}]
    assert members(tree_of(without(made, "account.payment"))) == []


def test_ids_outlive_a_rerun() -> None:
    first = tree_of(records(ring, relay, normal, scale=0.3))
    known = {one["id"]: frozenset(one["accounts"]) for one in first["clusters"]}
    grown = tree_of(records(ring, relay, normal, scale=0.42), previous=known)
    assert members(grown) != members(first)
    assert {one["id"] for one in grown["clusters"]} == set(known)
    for one in grown["clusters"]:
        assert known[one["id"]] <= set(one["accounts"])
    fresh = tree_of(records(ring, relay, normal, scale=0.42))
    assert {one["id"] for one in fresh["clusters"]}.isdisjoint(known)


def test_an_id_goes_to_one_cluster_only() -> None:
    known = {"cluster-old": frozenset(f"ring-{n}-key" for n in range(18)) | {f"relay-{n}-key" for n in range(15)}}
    tree = tree_of(records(ring, relay, normal, scale=0.3), previous=known)
    assert len(tree["clusters"]) == 2
    assert [one["id"] for one in tree["clusters"]].count("cluster-old") == 1


def test_few_among_few_find_nothing_surprising() -> None:
    """Records of a ring alone: there is nobody to compare it with, so nothing it shares is rare."""
    assert members(tree_of(records(ring, scale=0.3))) == []


def test_paraphrases_are_tied_by_what_they_keep() -> None:
    """Every account of a ring words its template in its own way, so that only its kin is shared."""
    made = []
    for one in records(slow, scale=0.3):
        signals = one["signals"]
        kept = signals["prompt.template"]
        told = {"prompt.template": f"{kept} of {signals['account.id']}", "prompt.kin": kept}
        made.append({**one, "signals": {**signals, **told}})
    honest = records(normal, scale=0.3)
    assert kinds(tree_of([*made, *honest])) == [{"slow": 18}]
    assert members(tree_of(without([*made, *honest], "prompt.kin"))) == []
