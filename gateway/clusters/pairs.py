"""Links between two nodes that no single shared value makes: failover echoes and synchrony.

Failover: what one node was refused (401, 403, 429, 503, 529) comes again under another within `AT_ONCE`, and the first never
sends it again; who runs a public suite tries again himself. Two who say the same as often when nobody was refused say the
same anyway, and are left out. Under the null the other sends what it sends at random times of its own active span, so each
refusal is echoed with the probability sends · window / span, and echoes follow a Poisson law with the sum as its mean. Two
who read one list in the same order at the same pace are not independent; the two conditions above are there for them.

Synchrony (the idea of SynchroTrap: the same action in the same bins, again and again) compares the users of one template. The
null keeps how often each used it in every hour, and redistributes those minutes by when everybody else was active: for counts
a and b in an hour, a·b·s shared minutes are expected, where s is the share of pairs, among the users of other templates in
that hour, that fall into one minute (with `EVEN` pairs added that fall evenly, so that a quiet hour is even). Rhythms of
days, lessons and releases, and crowds at the full hour, are so subtracted; what is left is finer than an hour. Shared minutes
are taken as Poisson, which exaggerates their spread and thus errs towards no link. Two users who react to one event within an
hour break the assumption: hence `LEAST_SHARED` in `LEAST_HOURS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import exp, lgamma, log
from typing import Final

from gateway.clusters.families import FAMILIES, LEAST_ODDS
from gateway.clusters.population import NEIGHBOURS, Population, close
from gateway.clusters.records import MINUTE
from gateway.values import SECOND

AT_ONCE: Final = 10 * SECOND
LEAST_SHARED: Final = 6
LEAST_HOURS: Final = 3
MOST_USERS: Final = 5_000
EVEN: Final = 10
FLOOR: Final = 30.0
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tie:
    """What ties two nodes in one family. count: how often; expected: how often by chance; first, last: µs since 1970."""

    count: int
    expected: float
    first: int
    last: int

    @property
    def nats(self) -> float:
        """The surprise of so many, in nats, at most `FLOOR`."""
        return surprise(self.count, self.expected)


def surprise(count: int, expected: float) -> float:
    """-log P(X >= count) of a Poisson variable, at most `FLOOR`; zero where no more came than expected."""
    if count <= expected or not count:
        return 0.0
    if expected <= 0:
        return FLOOR
    term, total, further = 1.0, 1.0, count
    while term > 1e-9 * total:
        further += 1
        term *= expected / further
        total += term
    return min(FLOOR, -(count * log(expected) - expected - lgamma(count + 1) + log(total)))


def probability(count: int, expected: float) -> float:
    """P(X >= count) of a Poisson variable, no lower than e to the power of -`FLOOR`."""
    return exp(-surprise(count, expected))


def failovers(population: Population) -> dict[Pair, Tie]:
    """Who took over at once what another was refused."""
    table, family = population.tables["whole"], FAMILIES["failover"]
    found: dict[Pair, Tie] = {}
    for _, rows in table.groups():
        if len(rows) < 2 or not any(table.slots[row] & 1 for row in rows):
            continue
        sent = Counter(table.nodes[row] for row in rows)
        if not 2 <= len(sent) <= family.widest:
            continue
        moments = sorted((table.slots[row] >> 1, table.nodes[row], table.slots[row] & 1) for row in rows)
        latest = {node: at for at, node, _ in moments}
        for place, (at, node, was) in enumerate(moments):
            others = set()
            for later, other, _ in moments[place + 1 :] if was else ():
                if later - at > AT_ONCE:
                    break
                if other != node and other not in others and latest[node] == at:
                    others.add(other)
                    active = max(population.lasts[other] - population.firsts[other], AT_ONCE)
                    _tell(found, node, other, 1, min(1.0, sent[other] * AT_ONCE / active), at, later)
    same = _said_anyway(population, found)
    return {pair: tie for pair, tie in found.items() if tie.nats >= LEAST_ODDS and tie.count > same[pair]}


def _said_anyway(population: Population, found: Mapping[Pair, Tie]) -> Counter[Pair]:
    """How often the two of each pair said the same though nobody was refused: as readers of one public list do."""
    table, widest = population.tables["whole"], FAMILIES["failover"].widest
    counted: Counter[Pair] = Counter()
    for _, rows in table.groups() if found else ():
        if len(rows) > 1 and not any(table.slots[row] & 1 for row in rows):
            nodes = sorted({table.nodes[row] for row in rows})
            if len(nodes) <= widest:
                counted.update(pair for pair in combinations(nodes, 2) if pair in found)
    return counted


def _tell(found: dict[Pair, Tie], one: int, other: int, count: int, expected: float, first: int, last: int) -> None:
    pair = (one, other) if one < other else (other, one)
    known = found.get(pair)
    if known is not None:
        count, expected = count + known.count, expected + known.expected
        first, last = min(first, known.first), max(last, known.last)
    found[pair] = Tie(count, expected, first, last)


def synchrony(population: Population, phase: int) -> dict[Pair, Tie]:
    """Who uses a template in the same minutes, again and again."""
    table = population.tables["bins"]
    everybody = Counter(table.slots)
    found: dict[Pair, Tie] = {}
    for _, rows in table.groups():
        used: dict[int, list[int]] = {}
        for row in rows:
            used.setdefault(table.nodes[row], []).append(table.slots[row])
        used = {node: minutes for node, minutes in used.items() if len(minutes) >= LEAST_SHARED}
        if not 2 <= len(used) <= MOST_USERS:
            continue
        crowds = Crowds(everybody, Counter(table.slots[row] for row in rows))
        minutes = {node: frozenset(slots) for node, slots in used.items()}
        hours = {node: Counter(slot // 60 for slot in slots) for node, slots in used.items()}
        for one, other in sorted(_candidates(used, population)):
            both = minutes[one] & minutes[other]
            if len(both) >= LEAST_SHARED and len({slot // 60 for slot in both}) >= LEAST_HOURS:
                expected = crowds.expected(hours[one], hours[other])
                if surprise(len(both), expected) >= LEAST_ODDS:
                    begin, end = min(both) * MINUTE - phase, (max(both) + 1) * MINUTE - phase
                    _tell(found, one, other, len(both), expected, begin, end)
    return found


def _candidates(used: Mapping[int, list[int]], population: Population) -> list[Pair]:
    """Pairs that were near in enough minutes; who meets in a crowded minute is chosen by a fixed order of nodes."""
    present: dict[int, list[int]] = {}
    for node, slots in used.items():
        for slot in slots:
            present.setdefault(slot, []).append(node)
    met: Counter[Pair] = Counter()
    for nodes in present.values():
        if len(nodes) > 1:
            met.update(close(nodes, population.near, few=NEIGHBOURS))
    return [pair for pair, times in met.items() if times >= LEAST_HOURS]


class Crowds:
    """How active the users of other templates were in every minute: all, less those of this template."""

    def __init__(self, everybody: Mapping[int, int], own: Mapping[int, int]) -> None:
        self._everybody, self._own = everybody, own
        self._squares: dict[int, float] = {}

    def expected(self, one: Mapping[int, int], other: Mapping[int, int]) -> float:
        """How many minutes two nodes share by chance, given how many each had in every hour."""
        few, many = (one, other) if len(one) <= len(other) else (other, one)
        return sum(
            min(count * many[hour] * self._square(hour), count, many[hour]) for hour, count in few.items() if hour in many
        )

    def _square(self, hour: int) -> float:
        found = self._squares.get(hour)
        if found is None:
            slots = range(hour * 60, hour * 60 + 60)
            active = [self._everybody.get(slot, 0) - self._own.get(slot, 0) for slot in slots]
            total = sum(active)
            pairs = sum(count * (count - 1) for count in active)
            found = self._squares[hour] = (pairs + EVEN / 60) / (total * (total - 1) + EVEN)
        return found
