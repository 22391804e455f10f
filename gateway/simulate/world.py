"""Everybody there is, over all scenarios: accounts and networks in columns, numbered once for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.simulate.drawing import Numbers, Words
from gateway.simulate.people import People, asn, country, network_address, people
from gateway.simulate.table import Tables

COUNTRIES: Final = ("AU", "BR", "CA", "DE", "FR", "GB", "IN", "JP", "SG", "US")


@dataclass(frozen=True, slots=True)
class World:
    """ids, orgs, cards: what the ids of accounts, owners and instruments are made of; created: µs; plan, home: places in lists.

    address, asn, country: by network.
    """

    people: dict[str, People]
    ids: Words
    orgs: Words
    cards: Words
    created: Numbers
    plans: tuple[str, ...]
    plan: Numbers
    home: Numbers
    address: Numbers
    asn: Numbers
    country: Numbers


def world(tables: Tables, scale: float, seed: int, start: int) -> World:
    """Everybody, at a scale. Numbers do not depend on which scenarios are asked for."""
    known: dict[str, People] = {}
    first = networks = 0
    for scenario in tables.scenarios.values():
        one = known[scenario.id] = people(scenario, scale, seed, start, first, networks)
        first += one.accounts
        networks += one.network_count
    plans = tuple(dict.fromkeys(plan for one in known.values() for plan in one.scenario.plans))
    places = np.concatenate([_countries(one) for one in known.values()])
    return World(
        known,
        np.concatenate([one.ids for one in known.values()]),
        np.concatenate([one.ids[one.org] ^ np.uint64(2**63) for one in known.values()]),
        np.concatenate([one.ids[one.payment] ^ np.uint64(2**62) for one in known.values()]),
        np.concatenate([one.created for one in known.values()]),
        plans,
        np.concatenate([np.asarray([plans.index(plan) for plan in one.scenario.plans])[one.plan] for one in known.values()]),
        np.concatenate([places[one.network(np.arange(one.accounts), np.arange(one.accounts))] for one in known.values()]),
        network_address(np.arange(networks)),
        np.concatenate([_asns(one) for one in known.values()]),
        places,
    )  # fmt: skip


def _countries(one: People) -> Numbers:
    names = np.asarray([COUNTRIES.index(name) for name in one.scenario.countries])
    return names[country(len(names), one.networks + np.arange(one.network_count))]


def _asns(one: People) -> Numbers:
    numbers = np.arange(one.network_count)
    own = numbers >= one.network_count - one.accounts if one.scenario.egress["own"] else np.zeros(len(numbers), dtype=bool)
    return asn(one.networks + numbers, ~own)


def address_text(address: int, host: int) -> str:
    """An address of a network."""
    return f"{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}.{host}"


def user_address(user: int) -> str:
    """The address of an end user, as a relay passes it on."""
    return f"{24 + user % 32}.{user >> 8 & 255}.{user >> 16 & 255}.{1 + (user >> 24) % 250}"
