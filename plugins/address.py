"""The caller's address: one resolver, right to left through trusted proxies, trusting nobody by default."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address(text: str) -> Address | None:
    """The address of one hop: ports, brackets, zone ids and IPv4-in-IPv6 taken off; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


@dataclass(frozen=True, slots=True)
class Resolver:
    """Finds the client's address. trusted: networks whose word about the hop before them is believed."""

    trusted: tuple[Network, ...] = ()

    def resolve(self, peer: str | None, forwarded: Iterable[str]) -> Address | None:
        """The first address from the right that is not a trusted proxy; an unreadable hop ends the walk."""
        current = address(peer) if peer else None
        if current is None or not self.trusts(current):
            return current
        hops = [hop for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops):
            found = address(hop)
            if found is None:
                return current
            current = found
            if not self.trusts(current):
                return current
        return current

    def trusts(self, found: Address) -> bool:
        return any(found in network for network in self.trusted)


def network_of(found: Address) -> str:
    """The network an address is counted by: /24 for IPv4, /64 for IPv6."""
    return str(ipaddress.ip_network(f"{found}/{24 if found.version == 4 else 64}", strict=False))
