"""Links: every pair of nodes that some hard evidence brings together, with all that ties the two.

Pairs are looked for by the values of families that begin (`Family.begins`), by failover and by synchrony; template and egress
only add to such pairs. A pair is kept when its evidence reaches `LINK` in two planes. The number of pairs looked at is linear
in the number of holders, because large values are not paired with everybody (`population.close`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.clusters.families import FAMILIES, LINK, weight
from gateway.clusters.pairs import Pair, Tie, failovers, synchrony
from gateway.clusters.population import Population, close

Evidence = dict[str, float]


@dataclass(frozen=True, slots=True)
class Links:
    """What ties whom. ties: by family, of pairs that share no value; strong: pairs that reach `LINK`, with nats by family.

    looked: how many pairs were looked at.
    """

    ties: Mapping[str, Mapping[Pair, Tie]]
    strong: Mapping[Pair, Evidence]
    looked: int


def links(population: Population, phase: int) -> Links:
    """All strong links of a population."""
    ties = {"failover": failovers(population), "synchrony": synchrony(population, phase)}
    looked: set[Pair] = set()
    strong: dict[Pair, Evidence] = {}
    for pair in _pairs(population, ties):
        if pair in looked:
            continue
        looked.add(pair)
        evidence = evidence_of(pair, population, ties)
        if weight(evidence) >= LINK:
            strong[pair] = evidence
    return Links(ties, dict(sorted(strong.items())), len(looked))


def evidence_of(pair: Pair, population: Population, ties: Mapping[str, Mapping[Pair, Tie]]) -> Evidence:
    """What ties a pair, in nats by family."""
    found = {name: shared.nats(*pair) for name, shared in population.shared.items()}
    for name, known in ties.items():
        tie, family = known.get(pair), FAMILIES[name]
        if tie is not None:
            found[name] = min(tie.nats, family.each * tie.count, family.most)
    return {name: nats for name, nats in found.items() if nats > 0}


def _pairs(population: Population, ties: Mapping[str, Mapping[Pair, Tie]]) -> Iterator[Pair]:
    for known in ties.values():
        yield from known
    for shared in population.shared.values():
        if shared.family.begins:
            for place in range(len(shared.values)):
                yield from close(shared.nodes(place), population.near)
