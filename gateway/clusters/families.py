"""The kinds of link between accounts, each with its plane and with the most that it can weigh: one table, no branches.

A plane is a cause that could make honest accounts look alike. Links of one plane may all come from one cause, so a cluster
needs two planes:

- `content`: what is said. One public program gives thousands of strangers one template.
- `identity`: who pays, on which machine. One agency's card pays for many customers; an image carries its device id along.
- `network`: where and when calls come, and which account a router hands them to. A NAT, a VPN, a class-room, a schedule make
  strangers share places and minutes; one moved conversation shows as a hop, a session, a signature and an echo all at once,
  which is why these four stand in one plane although they look at content: what ties is that somebody carried it over.

Synchrony compares users of one template, but asks of them only when they use it, under a null that keeps how much each used
it in every hour; so it adds to the template and does not repeat it. The template is read only where a conversation begins
(`prompt.opening` is missing), so that a conversation that was carried over is not counted again as a common template.

Weights are natural logarithms of odds (nats), cut twice: `each` for one shared value, `most` for the family. A value may be
rare by chance alone and common among people who know each other, which no null over strangers can tell; the cuts stand for
that doubt. They were chosen so that template and egress together (a campus with a starter kit), template and synchrony (a
tool with a built-in schedule), or template and one carried opening (examples out of a public guide) stay below `LINK`, and a
payment, two carried conversations or a failover beside one of another plane pass it. They are judgements, not estimates; the
tests hold what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LINK: Final = 6.5
JOIN: Final = 5.0
LEAST_ODDS: Final = 1.6
SECOND_PLANE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of link.

    each, most: nats of one shared value and of all together. begins: whether pairs are looked for by its values; the others
    only add to pairs found elsewhere. least: exchanges with a value before an account counts as holding it. widest: holders
    beyond which a value is public text, whatever its odds; busiest: the same by exchanges. meaning: what two accounts have in
    common.
    """

    name: str
    plane: str
    each: float
    most: float
    meaning: str
    begins: bool = True
    least: int = 1
    widest: int = 2**31
    busiest: int = 2**62


FAMILIES: Final = {
    family.name: family
    for family in (
        Family("payment", "identity", 5, 5, "paid with one instrument"),
        Family("device", "identity", 3, 3, "used on one device"),
        Family("template", "content", 3, 3, "fill one prompt template", begins=False, least=3),
        Family("egress", "network", 2, 3, "come from one network with one client fingerprint", begins=False),
        Family("hop", "network", 3, 6, "carry on one conversation", widest=16, busiest=2_000),
        Family("session", "network", 3, 3, "show one client session", widest=64),
        Family("signature", "network", 5, 6, "present what was issued to one of them", widest=64),
        Family("failover", "network", 3, 6, "one takes over at once what the other was refused", widest=16),
        Family("probe", "network", 3, 3, "are probed from one network"),
        Family("synchrony", "network", 3.4, 3.4, "use one template in the same minutes"),
    )
}
PLANES: Final = {name: family.plane for name, family in FAMILIES.items()}
SHARED: Final = tuple(name for name in FAMILIES if name not in ("failover", "synchrony"))


def planes(families: object) -> frozenset[str]:
    """The planes of some families."""
    return frozenset(PLANES[name] for name in families if name in PLANES)  # type: ignore[attr-defined]


def weight(evidence: dict[str, float]) -> float:
    """What evidence by family weighs in all: zero unless a second plane says something of its own (`SECOND_PLANE`)."""
    by_plane: dict[str, float] = {}
    for name, nats in evidence.items():
        by_plane[PLANES[name]] = by_plane.get(PLANES[name], 0.0) + min(nats, FAMILIES[name].most)
    ranked = sorted(by_plane.values(), reverse=True)
    return sum(ranked) if len(ranked) > 1 and ranked[1] >= SECOND_PLANE else 0.0
