"""Who there is: accounts with their owners, ages, payment instruments and networks, and how scaling thins them out.

Scaling by X divides accounts, with at least one left; the window takes the rest, so that rates per account stay what they are.
Networks are numbered over all scenarios, and each number is a /24 of its own among public addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.simulate.drawing import Numbers, Words, among, by_share, mixed, salt, uniform
from gateway.simulate.table import DAY, Order, Scenario

HOUR: Final = DAY // 24
MOST_BANS: Final = 12
ZIPF: Final = 1.1
_NETWORKS: Final = 2**21
_FIRST: Final = 64 << 16  # networks from 64.0.0.0/24 on
_SPREAD: Final = 1_103_515_245  # odd, so that numbers and networks match one to one
_ASNS: Final = (7018, 3320, 2856, 4713, 9506, 24560, 28573, 1221, 577, 3215)
_HOSTING: Final = (16509, 14061, 20473, 24940, 45102)


@dataclass(frozen=True, slots=True)
class Size:
    """A scenario at a scale: how many accounts, over what window (µs), for about how many exchanges."""

    accounts: int
    window: int
    exchanges: float


def sized(scenario: Scenario, scale: float) -> Size:
    """A scenario divided by `scale`. Where conversations move between the keys of an owner, one whole owner is left."""
    moves = scenario.orgs is not None and (scenario.rotates or scenario.hop_within is not None)
    least = max(1, scenario.accounts // scenario.orgs) if moves and scenario.orgs else 1
    accounts = max(least, round(scenario.accounts / scale))
    window = max(1, round(scenario.window * scenario.accounts / scale / accounts))
    return Size(accounts, min(window, scenario.window), scenario.exchanges / scale)


def fewer(count: int, scenario: Scenario, accounts: int) -> int:
    """A number that goes along with accounts (payment instruments, owners, networks), thinned out as they are."""
    return max(1, min(count, round(count * accounts / scenario.accounts)))


@dataclass(frozen=True, slots=True)
class People:
    """The accounts of one scenario. Slots are places in its pool; where accounts are banned each holds one after the other.

    begins: µs; first: number of the first account among all; org, payment, created, plan: by account of this scenario; ends:
    by slot, when each of its accounts is banned; offset: by slot, its first account. networks: first number of its networks.
    """

    scenario: Scenario
    size: Size
    begins: int
    base: int
    first: int
    networks: int
    org: Numbers
    payment: Numbers
    created: Numbers
    plan: Numbers
    ends: Numbers
    gaps: Numbers
    offset: Numbers

    @property
    def ids(self) -> Words:
        """What the ids of its accounts are made of: they follow from seed and scenario, not from what else is simulated."""
        return mixed(self.base ^ 1, np.arange(self.accounts))

    @property
    def slots(self) -> int:
        return self.size.accounts

    @property
    def accounts(self) -> int:
        """How many accounts there are in all, successors included."""
        return len(self.org)

    def holder(self, slot: Numbers, at: Numbers) -> tuple[Numbers, Numbers]:
        """The account that holds each slot at a time; and when it was banned (µs) if no successor is there yet, else 0."""
        if not self.scenario.bans:
            return self.offset[slot], np.zeros(len(slot), dtype=np.int64)
        banned = (self.ends[slot] <= at[:, None]).sum(axis=1)
        last = np.maximum(banned - 1, 0)
        since = self.ends[slot, last]
        waiting = (banned > 0) & (at < since + self.gaps[slot, last])
        latest = np.append(self.offset[1:], self.accounts)[slot] - 1
        return np.minimum(self.offset[slot] + banned - waiting, latest), np.where(waiting, since, 0)

    def network(self, account: Numbers, drawn: Numbers) -> Numbers:
        """The network of each account: its own, one that it shares, or one of many that a request of it takes."""
        egress = self.scenario.egress
        if egress["roaming"]:
            return self.networks + drawn % fewer(egress["roaming"], self.scenario, self.slots)
        shared = fewer(egress["shared"], self.scenario, self.slots)
        own = uniform(self.base ^ 11, account) < egress["own"]
        return self.networks + np.where(own, shared + account, account % shared)

    @property
    def network_count(self) -> int:
        egress = self.scenario.egress
        if egress["roaming"]:
            return fewer(egress["roaming"], self.scenario, self.slots)
        return fewer(egress["shared"], self.scenario, self.slots) + (self.accounts if egress["own"] else 0)

    def weights(self, places: Numbers) -> Numbers:
        """How often each slot is drawn, in parts; by Zipf's law as the ranks that a slot stands for are."""
        if self.scenario.order is not Order.ZIPF:
            return np.full(len(places), 1_000_000, dtype=np.int64)
        width = self.scenario.accounts / self.slots
        ranks = (places + 0.5) * width + 0.5
        first = np.sum(1 / np.arange(1, max(2, round(width) + 1)) ** ZIPF) / max(1.0, round(width))
        found = np.where(places == 0, first, 1 / ranks**ZIPF)
        return np.asarray(np.maximum(1, found / found.sum() * 1e12), dtype=np.int64)


def people(scenario: Scenario, scale: float, seed: int, start: int, first: int, networks: int) -> People:
    """The accounts of a scenario. first, networks: numbers not yet taken by others."""
    size, base = sized(scenario, scale), salt(seed, scenario.id, "people")
    begins = start + scenario.begins
    slots = np.arange(size.accounts)
    ends, gaps = _bans(scenario, size, base, begins, slots)
    counts = (ends < begins + size.window).sum(axis=1) + 1
    offset = np.cumsum(counts) - counts
    slot = np.repeat(slots, counts)
    turn = np.arange(len(slot)) - np.repeat(offset, counts)
    low, high = scenario.age
    age = low + (uniform(base, 1, slot) * (high - low)).astype(np.int64)
    arrived = ends[slot, np.maximum(turn - 1, 0)] + gaps[slot, np.maximum(turn - 1, 0)]
    fresh = arrived - HOUR - (uniform(base, 2, slot, turn) * 5 * HOUR).astype(np.int64)
    number = np.arange(len(slot))
    orgs = number if scenario.orgs is None else number % fewer(scenario.orgs, scenario, size.accounts)
    if scenario.rotates:
        orgs = number // 2
    cards = number if scenario.payments is None else (slot + 7 * turn) % fewer(scenario.payments, scenario, size.accounts)
    return People(
        scenario, size, begins, base, first, networks, orgs, cards, np.where(turn > 0, fresh, begins - age),
        among(len(scenario.plans), base, 3, slot), ends, gaps, offset,
    )  # fmt: skip


def _bans(scenario: Scenario, size: Size, base: int, begins: int, slots: Numbers) -> tuple[Numbers, Numbers]:
    """When the accounts of each slot are banned (never: far away), and how long it takes until there is another (6 to 24 h)."""
    shape = (len(slots), MOST_BANS)
    turns = np.arange(MOST_BANS)[None, :]
    gaps = (6 * HOUR + uniform(base, 4, slots[:, None], turns) * 18 * HOUR).astype(np.int64)
    if not scenario.bans:
        return np.full(shape, 2**62, dtype=np.int64), gaps
    lives = -np.log1p(-uniform(base, 5, slots[:, None], turns)) * DAY / scenario.bans
    return begins + np.cumsum(lives + np.concatenate([np.zeros((len(slots), 1)), gaps[:, :-1]], axis=1), axis=1).astype(
        np.int64
    ), gaps


def network_address(network: Numbers) -> Numbers:
    """The /24 of each network, as its address without the last byte."""
    return _FIRST + (network * _SPREAD) % _NETWORKS


def asn(network: Numbers, shared: npt.NDArray[np.bool_]) -> Numbers:
    """The autonomous system of each network: of a hoster where many share it, else of a carrier."""
    own, hosted = np.asarray(_ASNS), np.asarray(_HOSTING)
    return np.where(shared, hosted[among(len(hosted), 1, network)], own[among(len(own), 2, network)])


def country(count: int, network: Numbers) -> Numbers:
    """Which of a scenario's countries each network is in; the first is the most frequent."""
    return by_share([1 / (place + 1) for place in range(count)], uniform(3, network))
