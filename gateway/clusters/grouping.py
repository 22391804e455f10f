"""From links to groups: cores tied by strong links, thin bridges cut, cores joined that share what hardly anybody else has.

Single-link chains are what must not happen: one accidental link between two groups would make them one, and popular things
would link the world. So

1. only strong links count, each of two planes by itself (`links`), never a chain of weak ones;
2. a link whose removal would part three accounts or more from three or more others is a bridge, and is cut when it is thin
   (below `BRIDGE`): two dense groups are held together by more than one pair;
3. a ring that spreads its cards thinly falls into small cores. Two cores are joined when values of two planes tie them
   (`JOIN`), and only values count of whose holders half or more are in cores (`PURE`); or, where both have three nodes or
   more, by one value that half of each hold and hardly anybody outside of cores (`ALONE`). This is the dense part of the
   bipartite graph of accounts and values, as in camouflage-resistant search for dense subgraphs. A campus network or a public
   template has most of its holders outside, so it joins nothing, however many cores touch it; and what is joined was tied by
   two planes before.

Everything is linear in links and holders but for sorting, and runs again without one family to say what remains then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from gateway.clusters.families import FAMILIES, JOIN, LINK, weight
from gateway.clusters.links import Evidence, Links
from gateway.clusters.pairs import Pair
from gateway.clusters.population import Population

BRIDGE: Final = 10.0
BRIDGED: Final = 3
PURE: Final = 0.5
ALONE: Final = 0.8
DENSE: Final = 0.5
ROUNDS: Final = 8
NEIGHBOURS: Final = 4
Group = tuple[int, ...]


def groups(population: Population, found: Links, without: str = "") -> list[Group]:
    """All groups, of two nodes or more, as if a family had not been looked at."""
    kept: dict[Pair, float] = {}
    for pair, evidence in found.strong.items():
        nats = weight({name: value for name, value in evidence.items() if name != without})
        if nats >= LINK:
            kept[pair] = nats
    cut = bridges(kept)
    cores = components(pair for pair in kept if pair not in cut)
    for _ in range(ROUNDS):
        joined = _join(cores, population, without)
        if len(joined) == len(cores):
            break
        cores = joined
    return cores


class Union:
    """Disjoint sets of numbers; each is called by its least member."""

    def __init__(self) -> None:
        self._up: dict[int, int] = {}

    def find(self, node: int) -> int:
        root = node
        while self._up.setdefault(root, root) != root:
            root = self._up[root]
        while self._up[node] != root:
            self._up[node], node = root, self._up[node]
        return root

    def unite(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._up[high] = low

    def sets(self) -> list[Group]:
        found: dict[int, list[int]] = {}
        for node in sorted(self._up):
            found.setdefault(self.find(node), []).append(node)
        return sorted(map(tuple, found.values()))


def components(pairs: Iterable[Pair]) -> list[Group]:
    """What hangs together."""
    union = Union()
    for one, other in pairs:
        union.unite(one, other)
    return union.sets()


def bridges(links: Mapping[Pair, float]) -> set[Pair]:
    """Thin links that alone hold two larger groups together (Tarjan's low points, without recursion)."""
    near: dict[int, list[int]] = {}
    for one, other in sorted(links):
        near.setdefault(one, []).append(other)
        near.setdefault(other, []).append(one)
    entered: dict[int, int] = {}
    cut: set[Pair] = set()
    for start in near:
        if start not in entered:
            cut |= _bridges(start, near, links, entered)
    return cut


def _bridges(start: int, near: Mapping[int, list[int]], links: Mapping[Pair, float], entered: dict[int, int]) -> set[Pair]:
    low, below, found = {}, {}, []
    entered[start] = low[start] = len(entered)
    below[start] = 1
    stack = [(start, -1, iter(near[start]))]
    while stack:
        node, parent, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            stack.pop()
            if parent >= 0:
                low[parent] = min(low[parent], low[node])
                below[parent] += below[node]
                if low[node] > entered[parent]:
                    found.append((parent, node))
        elif following not in entered:
            entered[following] = low[following] = len(entered)
            below[following] = 1
            stack.append((following, node, iter(near[following])))
        elif following != parent:
            low[node] = min(low[node], entered[following])
    cut = set()
    for parent, node in found:
        pair = (parent, node) if parent < node else (node, parent)
        if min(below[node], below[start] - below[node]) >= BRIDGED and links[pair] < BRIDGE:
            cut.add(pair)
    return cut


def _join(cores: list[Group], population: Population, without: str) -> list[Group]:
    """Cores joined by what their members share, and hardly anybody else does."""
    core_of = {node: place for place, core in enumerate(cores) for node in core}
    evidence: dict[Pair, Evidence] = {}
    union = Union()
    for place in range(len(cores)):
        union.find(place)
    for name, shared in population.shared.items():
        family = FAMILIES[name]
        for place, value in enumerate(shared.values if name != without else ()):
            nodes = shared.nodes(place)
            inside = Counter(core_of[node] for node in nodes if node in core_of)
            purity = inside.total() / len(nodes)
            for pair in _neighbours(inside) if purity >= PURE else ():
                known = evidence.setdefault(pair, {})
                known[name] = min(known.get(name, 0.0) + min(value.nats, family.each), family.most)
            if purity >= ALONE:
                dense = [core for core, held in inside.items() if held >= max(BRIDGED, DENSE * len(cores[core]))]
                for core in dense[1:]:
                    union.unite(dense[0], core)
    for (one, other), known in evidence.items():
        if weight(known) >= JOIN:
            union.unite(one, other)
    return sorted(tuple(sorted(node for place in places for node in cores[place])) for places in union.sets())


def _neighbours(places: Collection[int]) -> list[Pair]:
    """Each core with the next few that hold the same value; the order is that of the cores, the same for every value."""
    ranked = sorted(places)
    most = len(ranked) if len(ranked) <= 4 * NEIGHBOURS else NEIGHBOURS + 1
    return [(one, other) for place, one in enumerate(ranked) for other in ranked[place + 1 : place + most]]
