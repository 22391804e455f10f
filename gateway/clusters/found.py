"""Clusters found: groups that two planes hold together, with all that can be said for and against each.

A cluster is told by its members, by the links of every family (with counts, times, odds and what chance would do), by what
remains of it when any one family is removed, and by units: exchanges, conversation roots, distinct slots, accounts, orgs,
days. Nothing here names an actor; an id is made of the members' hash, and kept over a rerun by the cluster that has most of
the old one's accounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from gateway.clusters.chance import Against, Chance, families_of, tied_by
from gateway.clusters.families import FAMILIES, planes
from gateway.clusters.grouping import Group, groups
from gateway.clusters.links import Links, links
from gateway.clusters.pairs import Tie, probability
from gateway.clusters.population import Population
from gateway.clusters.records import UNITS, Seen

MIN_SIZE: Final = 5
MOST_LINKS: Final = 40
KEPT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Link:
    """One link inside a cluster. what: the hash of the shared value, or of the two who are tied.

    accounts: orgs of the cluster that it ties; holders: of everybody; count: exchanges behind it; first, last: µs since 1970;
    expected: of `accounts` (of `count` where two are tied) by chance; odds: against chance, a half added to every count.
    """

    family: str
    what: str
    accounts: int
    holders: int
    count: int
    first: int
    last: int
    expected: float
    odds: float
    p: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one family says of a cluster: its test against matched accounts, and all its links in sums."""

    against: Against
    links: int
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a cluster without one family: its members in groups that two planes still tie, and how many groups."""

    orgs: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster. orgs, accounts: its members, sorted. links: the most surprising; more: how many are not shown.

    families: those that speak of it. without: what remains when a family is removed. units: see `UNITS` and the tallies; None
    where the signal was never recorded.
    """

    id: str
    orgs: tuple[str, ...]
    accounts: tuple[str, ...]
    families: Mapping[str, Evidence]
    links: tuple[Link, ...]
    more: int
    without: Mapping[str, Remaining]
    units: Mapping[str, int | None]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Found:
    """Everything found. dropped: groups that were too small; unproven: that were no more tied than chance in two planes."""

    population: Population
    clusters: tuple[Cluster, ...]
    dropped: int
    unproven: int
    looked: int
    strong: int


def find(seen: Seen, seed: int = 0, min_size: int = MIN_SIZE, previous: Mapping[str, frozenset[str]] | None = None) -> Found:
    """The clusters in what was seen. min_size: orgs. previous: the accounts of earlier clusters, whose ids are kept."""
    population = Population(seen, seed)
    tied = links(population, seen.phase)
    formed = groups(population, tied)
    large = [group for group in formed if len(group) >= min_size]
    chance = Chance(population, tied, seed, {node for group in large for node in group})
    parts = {name: groups(population, tied, name) for name in FAMILIES} if large else {}
    units = _units(seen, population, large)
    made: list[Cluster] = []
    for group, counted in zip(large, units, strict=True):
        speaking = families_of(chance.against(group, FAMILIES), len(group))
        if len(planes(speaking)) >= 2:
            made.append(_cluster(group, speaking, population, tied, parts, min_size, counted))
    named = _carried(made, previous or {})
    ranked = sorted(named, key=lambda one: (-len(one.accounts), one.id))
    small, unproven = len(formed) - len(large), len(large) - len(made)
    return Found(population, tuple(ranked), small, unproven, tied.looked, len(tied.strong))


def _cluster(
    group: Group,
    speaking: Mapping[str, Against],
    population: Population,
    tied: Links,
    parts: Mapping[str, Sequence[Group]],
    min_size: int,
    units: Mapping[str, int | None],
) -> Cluster:
    inside = frozenset(group)
    listed = {name: list(_links(name, inside, population, tied)) for name in speaking}
    ranked = sorted(
        (link for one in listed.values() for link in one), key=lambda link: (link.p, -link.odds, link.family, link.what)
    )
    accounts = tuple(sorted(account for node in group for account in population.accounts[node]))
    families = {
        name: Evidence(
            test, len(listed[name]), sum(link.count for link in listed[name]),
            min(link.first for link in listed[name]), max(link.last for link in listed[name]),
        )
        for name, test in speaking.items()
    }  # fmt: skip
    orgs = tuple(population.names[node] for node in group)
    return Cluster(
        f"cluster-{blake2b(chr(0).join(orgs).encode('utf-8', 'surrogatepass'), digest_size=5).hexdigest()}", orgs, accounts,
        families, tuple(ranked[:MOST_LINKS]), max(0, len(ranked) - MOST_LINKS),
        {name: _remaining(inside, parts[name], min_size) for name in speaking}, units,
        min(population.firsts[node] for node in group), max(population.lasts[node] for node in group),
    )  # fmt: skip


def _links(name: str, inside: frozenset[int], population: Population, tied: Links) -> Iterator[Link]:
    size, shared = len(inside), population.shared.get(name)
    if shared is None:
        for (one, other), tie in tied.ties[name].items():
            if one in inside and other in inside:
                yield _tie(name, (population.names[one], population.names[other]), tie)
        return
    holds = sum(shared.degree[node] for node in inside) / shared.incidences
    for place in sorted({place for node in tied_by(shared, inside) for place in shared.held[node]}):
        value, table = shared.values[place], shared.table
        rows = [row for row in value.rows if table.nodes[row] in inside]
        if len(rows) > 1:
            expected = min(holds * len(value.rows), size)
            odds = ((len(rows) + 0.5) / (size - len(rows) + 0.5)) / ((expected + 0.5) / (size - expected + 0.5))
            yield Link(
                name, f"{value.id:016x}", len(rows), len(value.rows), sum(table.counts[row] for row in rows),
                min(table.firsts[row] for row in rows), max(table.lasts[row] for row in rows), expected, odds,
                probability(len(rows), expected),
            )  # fmt: skip


def _tie(name: str, names: Iterable[str], tie: Tie) -> Link:
    what = blake2b(chr(0).join(names).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    odds = (tie.count + 0.5) / (tie.expected + 0.5)
    return Link(name, what, 2, 2, tie.count, tie.first, tie.last, tie.expected, odds, probability(tie.count, tie.expected))


def _remaining(inside: frozenset[int], parts: Sequence[Group], min_size: int) -> Remaining:
    pieces = [kept for part in parts if len(kept := inside.intersection(part)) >= min_size]
    return Remaining(sum(map(len, pieces)), len(pieces))


def _units(seen: Seen, population: Population, large: Sequence[Group]) -> list[dict[str, int | None]]:
    """What each group did: tallies are sums, the units of `UNITS` distinct values (see `table` for when they are estimates)."""
    place_of = {node: place for place, group in enumerate(large) for node in group}
    counted = {unit: [0] * len(large) for unit in UNITS}
    for unit, counts in counted.items():
        table = population.tables[unit]
        for _, rows in table.groups():
            for place in {place_of[table.nodes[row]] for row in rows if table.nodes[row] in place_of}:
                counts[place] += 1
    known = {"root": seen.recorded["prompt.root"], "slots": seen.recorded["prompt.slots"], "day": 1}
    found: list[dict[str, int | None]] = []
    for place, group in enumerate(large):
        units: dict[str, int | None] = {
            name: sum(column[node] for node in group) for name, column in population.tallies.items()
        }
        for unit, counts in counted.items():
            units[unit] = round(counts[place] / population.tables[unit].share) if known[unit] else None
        found.append(units)
    return found


def _carried(clusters: Sequence[Cluster], previous: Mapping[str, frozenset[str]]) -> list[Cluster]:
    """The clusters with the ids of earlier ones of which they have at least half of the accounts, each id once."""
    overlaps = []
    owners: dict[str, list[str]] = {}
    for name, accounts in sorted(previous.items()):
        for account in accounts:
            owners.setdefault(account, []).append(name)
    for place, cluster in enumerate(clusters):
        shared: dict[str, int] = {}
        for account in cluster.accounts:
            for name in owners.get(account, ()):
                shared[name] = shared.get(name, 0) + 1
        overlaps += [(-count, name, place) for name, count in shared.items() if count >= KEPT * len(previous[name])]
    ids: dict[int, str] = {}
    for _, name, place in sorted(overlaps):
        if place not in ids and name not in ids.values():
            ids[place] = name
    return [replace(cluster, id=ids.get(place, cluster.id)) for place, cluster in enumerate(clusters)]
