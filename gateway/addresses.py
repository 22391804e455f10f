"""Addresses and networks as integers: how they are read, written down and compared, the same way for every face.

An address is one number of 128 bits. IPv4 stands where RFC 4291 §2.5.5.2 maps it (`::ffff:a.b.c.d`), so both spellings of
one host are one number, and a network is a range of numbers. `ipaddress` objects would say the same at ten times the cost.

IPv4 inside IPv6, case by case:

- IPv4-mapped (`::ffff:0:0/96`) is the IPv4 host: this is how a dual-stack socket shows it.
- NAT64's well-known prefix (`64:ff9b::/96`, RFC 6052) is the IPv4 host, too: a translator before an IPv6-only server writes
  every IPv4 caller that way, and all of them would share one /64. Only public addresses are taken out: RFC 6052 §3.1
  forbids others there, and `64:ff9b::10.0.0.1` must not pass for a trusted 10.0.0.1. Other translation prefixes are the
  operator's own choice and stay what they are.
- IPv4-compatible (`::a.b.c.d`) stays IPv6: it has been without meaning since RFC 4291, and no host answers there.
- 6to4 (`2002::/16`) and Teredo stay IPv6: the IPv4 address in them is a tunnel's end that anybody may write, not the caller.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST: Final = 100  # characters; the longest IPv6 address has 45, and zone ids are names of interfaces
_MAPPED: Final = 0xFFFF << 32
_NAT64: Final = 0x64FF9B << 96
_LOW_32: Final = 2**32 - 1
_HOST_64: Final = 2**64 - 1
_ZONE: Final = re.compile(r"[\w.~%@:-]+", re.ASCII)


def number(text: str) -> int | None:
    """The number of an address; a zone id is cut off. None for anything that is not exactly one address."""
    if len(text) > LONGEST:
        return None
    try:
        if ":" not in text:
            return _MAPPED | int.from_bytes(socket.inet_pton(socket.AF_INET, text))
        if "%" in text:
            text, _, zone = text.partition("%")
            if _ZONE.fullmatch(zone) is None:
                return None
        return _unwrapped(int.from_bytes(socket.inet_pton(socket.AF_INET6, text)))
    except (OSError, ValueError):
        return None


def _unwrapped(found: int) -> int:
    """The number, or that of the public IPv4 host it stands for behind NAT64."""
    if found >> 32 == _NAT64 >> 32 and ipaddress.IPv4Address(found & _LOW_32).is_global:
        return _MAPPED | (found & _LOW_32)
    return found


def is_ipv4(found: int) -> bool:
    """Whether a number is an IPv4 host's."""
    return found >> 32 == _MAPPED >> 32


def as_object(found: int) -> Address:
    """The same address as an object of the standard library."""
    return ipaddress.IPv4Address(found & _LOW_32) if is_ipv4(found) else ipaddress.IPv6Address(found)


def written(found: int) -> str:
    """The address as text: dotted, or as RFC 5952 says."""
    if is_ipv4(found):
        return socket.inet_ntop(socket.AF_INET, (found & _LOW_32).to_bytes(4))
    return str(ipaddress.IPv6Address(found))  # inet_ntop does not write IPv6 the same way everywhere


def network_text(found: int) -> str:
    """The network an address is counted by: /24 for IPv4, /64 for IPv6 (what one subscriber has at least)."""
    return f"{written(found & ~255)}/24" if is_ipv4(found) else f"{written(found & ~_HOST_64)}/64"


class Networks:
    """A set of networks: whether an address lies in one of them takes one binary search.

    networks: as text (`10.0.0.0/8`) or objects of `ipaddress`. Raises ValueError for anything else.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: Iterable[Network | str] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(span for network in networks for span in _spans(str(network))):
            if self._ends and start <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def __contains__(self, found: int) -> bool:
        place = bisect_right(self._starts, found)
        return place > 0 and found <= self._ends[place - 1]

    def __bool__(self) -> bool:
        return bool(self._starts)


def _spans(text: str) -> Iterable[tuple[int, int]]:
    """The ranges of numbers that a network covers: one, and behind NAT64 the public IPv4 hosts that it stands for, too.

    Of larger networks than a /16 none: they hold private ones, and `64:ff9b::/96` is everybody.
    """
    network = ipaddress.ip_network(text)
    start, end = int(network.network_address), int(network.broadcast_address)
    if network.version == 4:
        return ((_MAPPED | start, _MAPPED | end),)
    inner = max(0, network.prefixlen - 96)
    if start >> 32 == _NAT64 >> 32 and inner >= 16 and ipaddress.IPv4Network((start & _LOW_32, inner)).is_global:
        return ((start, end), (_MAPPED | (start & _LOW_32), _MAPPED | (end & _LOW_32)))
    return ((start, end),)
