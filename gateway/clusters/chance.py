"""A group held against matched random accounts: how many of its members a family ties, and how many it would tie by chance.

For every member an account is drawn, at random, from those in no group that made as many exchanges (within a factor of two;
with the next factors where fewer than `FEWEST` are there; nobody after `TRIES` that were drawn before). The drawn group is
looked at by the same functions. This is repeated with a seed; the p-value is (1 + draws that tie as many) / (1 + draws), so
it is never below 1 / (1 + draws), which is stated as its floor. The odds are those of being tied in the group over those in
the drawn ones, with a half added to every count.

Assumed is that, but for activity, members would be like everybody. Accounts that know each other honestly (one team under two
orgs, one agency's customers) are not, and show odds as high: the test says that a tie is no accident, not that it is abuse.
Groups were chosen because they are tied, so a p-value of a family that chose them is too small by as many groups as could
have been chosen; families that did not choose them are tested fairly. The relative standard error of the expected number is
about the root of 1 / (draws · expected), larger where ties come in clumps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.clusters.links import Links
from gateway.clusters.population import Population, Shared

FEWEST: Final = 20
WORK: Final = 60_000
FEWEST_DRAWS: Final = 19
MOST_DRAWS: Final = 199
TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Against:
    """tied: members tied inside the group. expected: of matched random accounts, on average. odds, p: see above; floor: p's."""

    tied: int
    expected: float
    odds: float
    p: float
    floor: float


class Chance:
    """Draws matched accounts. seed: the same seed draws the same. grouped: who is never drawn."""

    def __init__(self, population: Population, found: Links, seed: int, grouped: Collection[int] = ()) -> None:
        self._population, self._seed = population, seed
        self._strata: dict[int, list[int]] = {}
        for node, exchanges in enumerate(population.tallies["exchanges"]):
            if node in grouped:
                continue
            self._strata.setdefault(exchanges.bit_length(), []).append(node)
        self._pools: dict[int, list[int]] = {}
        self._near: dict[str, dict[int, list[int]]] = {}
        for name, ties in found.ties.items():
            near = self._near[name] = {}
            for one, other in ties:
                near.setdefault(one, []).append(other)
                near.setdefault(other, []).append(one)

    def against(self, members: Sequence[int], families: Iterable[str]) -> dict[str, Against]:
        """Every family's test of a group; of families that tie none of it, none."""
        inside = set(members)
        tied = {name: self.tied(name, inside) for name in families}
        looked = {name: count for name, count in tied.items() if count}
        draws = max(FEWEST_DRAWS, min(MOST_DRAWS, WORK // len(members)))
        rng = Random(f"{self._seed} {self._population.names[members[0]]} {len(members)}")  # noqa: S311 (a repeatable draw)
        sums, exceeded = dict.fromkeys(looked, 0), dict.fromkeys(looked, 0)
        for _ in range(draws):
            drawn = self._draw(members, inside, rng)
            for name, count in looked.items():
                chance = self.tied(name, drawn)
                sums[name] += chance
                exceeded[name] += chance >= count
        size = len(members)
        return {name: _against(count, size, sums[name] / draws, exceeded[name], draws) for name, count in looked.items()}

    def tied(self, name: str, members: set[int]) -> int:
        """How many of some nodes a family ties to another of them."""
        shared = self._population.shared.get(name)
        if shared is not None:
            return len(tied_by(shared, members))
        near = self._near[name]
        return sum(any(other in members for other in near.get(node, ())) for node in members)

    def _draw(self, members: Sequence[int], inside: set[int], rng: Random) -> set[int]:
        drawn: set[int] = set()
        exchanges = self._population.tallies["exchanges"]
        for node in members:
            pool = self._pool(exchanges[node].bit_length())
            for _ in range(TRIES if pool else 0):
                found = pool[rng.randrange(len(pool))]
                if found not in inside and found not in drawn:
                    drawn.add(found)
                    break
        return drawn

    def _pool(self, stratum: int) -> list[int]:
        found = self._pools.get(stratum)
        if found is None:
            found, reach = list(self._strata.get(stratum, ())), 0
            while len(found) < FEWEST and reach < 64:
                reach += 1
                found += self._strata.get(stratum - reach, []) + self._strata.get(stratum + reach, [])
            self._pools[stratum] = found
        return found


def tied_by(shared: Shared, members: Iterable[int]) -> set[int]:
    """The nodes, of some, that share a value of a family with another of them."""
    first: dict[int, int] = {}
    found = set()
    for node in members:
        for place in shared.held.get(node, ()):
            other = first.setdefault(place, node)
            if other != node:
                found |= {node, other}
    return found


def _against(tied: int, size: int, expected: float, exceeded: int, draws: int) -> Against:
    odds = ((tied + 0.5) / (size - tied + 0.5)) / ((expected + 0.5) / (size - expected + 0.5))
    return Against(tied, expected, odds, (1 + exceeded) / (1 + draws), 1 / (1 + draws))


def families_of(tests: Mapping[str, Against], size: int) -> dict[str, Against]:
    """The families that speak of a group: they tie a tenth of it or three at least, and more than chance does."""
    return {
        name: test for name, test in tests.items()
        if test.tied >= max(3, size / 10) and test.p <= 0.05 and test.odds > 2
    }  # fmt: skip
