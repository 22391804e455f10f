"""Who holds what, and how rare that is among everybody: the values that can tie accounts, each with its odds.

The null of a shared value keeps degrees: every account holds as many values of the family as it does, and every value has as
many holders, but who holds which is random. An account with k of the family's values then holds a value of d holders with the
probability k·d / M, where M counts all pairs of account and value. It assumes that accounts choose independently, which
people who know each other do not; `families` cuts the weights for that. A popular value is improbable to nobody, so it weighs
little (`LEAST_ODDS`) or nothing, and camouflage with popular values does not help: each value is weighed by itself, by the
logarithm of how many use it, and none is averaged away.

Nodes are numbered anew by their names, so that nothing depends on the order of records.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from typing import Final

from gateway.clusters.families import FAMILIES, LEAST_ODDS, SHARED, Family
from gateway.clusters.records import Seen
from gateway.clusters.table import Table

NEIGHBOURS: Final = 6
EVERYBODY: Final = 24


@dataclass(frozen=True, slots=True)
class Value:
    """A value that ties accounts. id: its hash; holders: row numbers of the family's table; nats: log-odds against chance."""

    id: int
    rows: tuple[int, ...]
    nats: float


class Shared:
    """One family's values. held: by node, the positions of its values in `values`. degree: values of any kind, by node."""

    def __init__(self, family: Family, table: Table, nodes: int) -> None:
        self.family, self.table = family, table
        self.values: list[Value] = []
        self.held: dict[int, set[int]] = {}
        self.degree = array("I", bytes(4 * nodes))
        least, counts = family.least, table.counts
        for row, node in enumerate(table.nodes):
            self.degree[node] += counts[row] >= least
        self.incidences = sum(self.degree)
        self.popular = 0
        for value, rows in table.groups():
            if len(rows) > 1:
                self._value(value, tuple(row for row in rows if counts[row] >= least))

    def _value(self, value: int, rows: tuple[int, ...]) -> None:
        if len(rows) < 2:
            return
        nodes, family = [self.table.nodes[row] for row in rows], self.family
        mean = sum(self.degree[node] for node in nodes) / len(nodes)
        nats = log(self.incidences / (mean * len(rows)))
        if len(rows) > family.widest or sum(self.table.counts[row] for row in rows) > family.busiest or nats < LEAST_ODDS:
            self.popular += 1
            return
        for node in nodes:
            self.held.setdefault(node, set()).add(len(self.values))
        self.values.append(Value(value, rows, nats))

    def nodes(self, place: int) -> list[int]:
        """The holders of a value."""
        return [self.table.nodes[row] for row in self.values[place].rows]

    def nats(self, one: int, other: int) -> float:
        """How much what two nodes share says that they are tied, cut as the family says."""
        mine, theirs = self.held.get(one), self.held.get(other)
        if not mine or not theirs or mine.isdisjoint(theirs):
            return 0.0
        most = max(self.degree[one], self.degree[other])
        found = 0.0
        for place in mine & theirs:
            rows = self.values[place].rows
            nats = log(self.incidences / (most * len(rows)))
            found += min(self.family.each, nats) if nats >= LEAST_ODDS else 0.0
        return min(found, self.family.most)


class Population:
    """Everybody, in an order that depends on names only. near: by node, a place by which each value sorts its holders."""

    def __init__(self, seen: Seen, seed: int) -> None:
        accounts = seen.accounts
        self.names = sorted(accounts.orgs)
        rank = [0] * len(self.names)
        for place, name in enumerate(self.names):
            rank[accounts.orgs[name]] = place
        self.accounts: list[list[str]] = [[] for _ in self.names]
        for account, node in sorted(accounts.accounts):
            self.accounts[rank[node]].append(account)
        order = sorted(range(len(rank)), key=rank.__getitem__)
        self.tallies = {name: array("Q", (column[node] for node in order)) for name, column in accounts.tallies.items()}
        self.firsts = array("q", (accounts.firsts[node] for node in order))
        self.lasts = array("q", (accounts.lasts[node] for node in order))
        for table in seen.tables.values():
            table.merge(rank)
        self.tables = seen.tables
        self.shared = {name: Shared(FAMILIES[name], seen.tables[name], len(rank)) for name in SHARED}
        self.near = array("Q", (_place(seed, name) for name in self.names))
        self.begins = min(self.firsts, default=0)
        self.ends = max(self.lasts, default=0)

    def __len__(self) -> int:
        return len(self.names)


def close(nodes: list[int], near: array[int], few: int = EVERYBODY) -> Iterator[tuple[int, int]]:
    """Pairs of nodes that meet: all of a few, of many each with its nearest, in an order that is the same for all values.

    So accounts that share two large values meet again under the second. The number of pairs is linear in the nodes.
    """
    ranked = sorted(nodes, key=near.__getitem__)
    most = len(ranked) if len(ranked) <= few else NEIGHBOURS + 1
    for place, one in enumerate(ranked):
        for other in ranked[place + 1 : place + most]:
            yield (one, other) if one < other else (other, one)


def _place(seed: int, name: str) -> int:
    told = b"near %d\0%b" % (seed, name.encode("utf-8", "surrogatepass"))
    return int.from_bytes(blake2b(told, digest_size=8).digest())
