"""The caller's address: `client.ip`, `client.network`, and the connection if it is the caller's own.

One resolver decides, and by default it believes nobody: the address is that of the connection's other end. Where
gateway.yaml names `trusted_proxies`, or a number of `hops`, what they wrote is read from right to left: every proxy adds
whom it spoke with at the right, so the first address that is not a believed proxy's is the caller, and all that stands left of
it is the caller's own word. That part is not even looked at.

- One header is read, the one that is configured. A proxy that writes X-Forwarded-For passes on a `Forwarded` header that its
  caller made up.
- What is not an address (`unknown`, `_hidden`, `unix:`, a host name, junk, an empty element) ends the walk at the last
  address that was believed. An empty element is no exception: a proxy that had nothing to write must not vouch for what
  its caller wrote before it.
- Work is bounded whatever is sent: at most MOST_HOPS elements of at most LONGEST_ELEMENT characters.

IPv6 callers are counted by /64, IPv4 by /24. `gateway.addresses` says what becomes of IPv4 inside IPv6. Behind a balancer that
speaks the PROXY protocol the process sees the caller's own address and connection (`gateway.web.proxied`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from gateway.addresses import LONGEST, Address, Network, Networks, as_object, network_text, number, written
from gateway.registry import Registry, Settings
from gateway.signals import Signal, View
from gateway.values import CIDR, IP, STRING, Missing

NO_PEER: Final = Missing("no client address")
NOT_TOLD: Final = Missing("the host does not tell connections apart")
NOT_OWN: Final = Missing("the connection is a trusted proxy's, not the caller's")
__all__ = ["Address", "Network", "Resolver", "address", "forwarded_for", "hop", "network_of", "register", "resolver_of"]

X_FORWARDED_FOR: Final = "x-forwarded-for"

MOST_HOPS: Final = 32
LONGEST_ELEMENT: Final = 512
CACHED: Final = 8_192
LARGEST_CACHED: Final = 512  # characters of a header that may be kept as a key

_PORT: Final = r"\d{1,5}|_[\w.-]{1,40}"  # RFC 7239 §6: a port may be hidden behind a name
_BRACKETED: Final = re.compile(rf"\[([^\[\]]*:[^\[\]]*)\](?::(?:{_PORT}))?", re.ASCII)
_PORTED: Final = re.compile(rf"([\d.]+):(?:{_PORT})", re.ASCII)
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf"""[ \t]*(?:({_TOKEN})=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?[ \t]*(?:;|\Z)""")
_ESCAPED: Final = re.compile(r"\\(.)")
_FIRST, _ENDLESS = -1, -2


def hop(text: str) -> int | None:
    """The number of the address that one hop is written as, with or without brackets, port, quotes or zone id.

    IPv6 with a port but without brackets cannot be told from a longer address and is read as that.
    """
    text = text.strip(" \t")
    if text[:1] == '"' == text[-1:]:
        text = text[1:-1]
    plain = number(text)
    if plain is not None or ":" not in text or len(text) > LONGEST:
        return plain
    found = _BRACKETED.fullmatch(text) or _PORTED.fullmatch(text)
    return number(found[1]) if found else None


def address(text: str) -> Address | None:
    """The address of one hop (see `hop`); None for anything else."""
    found = hop(text)
    return None if found is None else as_object(found)


def forwarded_for(element: str) -> str | None:
    """What one element of a `Forwarded` header says after `for=`; None if nothing, or not as RFC 7239 §4 has it."""
    found, place = None, 0
    while place < len(element):
        pair = _PAIR.match(element, place)
        if pair is None:
            return None
        if pair[1] and pair[1].lower() == "for":
            if found is not None:
                return None
            found = pair[3] if pair[2] is None else _ESCAPED.sub(r"\1", pair[2])
        place = pair.end()
    return found


def _forwarded_hop(element: str) -> int | None:
    found = forwarded_for(element)
    return None if found is None else hop(found)


def _comma(line: str, end: int) -> int:
    """Where the element that ends at `end` begins: the place of the comma before it, _FIRST, or _ENDLESS if it is too long."""
    floor = max(0, end - LONGEST_ELEMENT)
    found = line.rfind(",", floor, end)
    return found if found >= 0 else _ENDLESS if floor else _FIRST


def _comma_outside_quotes(line: str, end: int) -> int:
    """The same where commas may stand in quoted strings.

    Read from the right, so that a quote which a caller left open cannot swallow what a proxy wrote behind it.
    """
    floor, place, inside = max(0, end - LONGEST_ELEMENT), end, False
    while True:
        quote = line.rfind('"', floor, place)
        comma = -1 if inside else line.rfind(",", floor, place)
        if comma > quote:
            return comma
        if quote < 0:
            return _ENDLESS if floor else _FIRST
        escaped = inside and line[quote - 1 : quote] == "\\"  # an opening quote has an equals sign before it
        inside, place = inside == escaped, quote


_HEADERS: Final[dict[str, tuple[Callable[[str, int], int], Callable[[str], int | None], int]]] = {
    X_FORWARDED_FOR: (_comma, hop, MOST_HOPS),
    "forwarded": (_comma_outside_quotes, _forwarded_hop, MOST_HOPS),
    "x-real-ip": (_comma, hop, 1),
}  # fmt: skip


class Resolver:
    """Finds the caller's address; a pure function of its settings and what it is asked.

    trusted: networks of proxies whose word about the hop before them is believed. hops: in their place, how many hops are
    believed whatever their addresses; that nobody can come in past them is then the operator's to ensure. header: where
    they write it. Where both are given, which gateway.yaml does not allow, `hops` counts. believing: whether anybody is.
    """

    __slots__ = ("_cut", "_most", "_read", "believing", "header", "hops", "trusted")

    def __init__(self, trusted: Iterable[Network | str] = (), hops: int = 0, header: str = X_FORWARDED_FOR) -> None:
        self.trusted, self.hops, self.header = Networks(trusted), hops, header
        self.believing = bool(self.trusted) or hops > 0
        self._cut, self._read, most = _HEADERS[header]
        self._most = min(hops, most) if hops else most

    def resolve(self, peer: str | None, lines: Sequence[str]) -> str | None:
        """The caller's address as text; None where not even the other end of the connection has one.

        peer: the connection's other end. lines: every line of the configured header, in the order sent.
        """
        found = hop(peer) if peer else None
        if self.believing and self._believes(found):
            for said in islice(self._from_the_right(lines), self._most):
                if said is None:
                    break
                found = said
                if not self.hops and said not in self.trusted:
                    break
        return None if found is None else written(found)

    def believes(self, peer: str | None) -> bool:
        """Whether what this peer says in headers about its caller is believed."""
        return self.believing and self._believes(hop(peer) if peer else None)

    def _believes(self, found: int | None) -> bool:
        return self.hops > 0 or (found is not None and found in self.trusted)

    def _from_the_right(self, lines: Sequence[str]) -> Iterator[int | None]:
        for line in reversed(lines):
            end = len(line)
            while end >= 0:
                comma = self._cut(line, end)
                yield self._read(line[comma + 1 : end]) if comma != _ENDLESS else None
                end = comma


@lru_cache(CACHED)
def network_of(text: str) -> str | None:
    """The network an address is counted by: /24 for IPv4, /64 for IPv6; None if it is none."""
    found = number(text)
    return None if found is None else network_text(found)


def resolver_of(settings: Settings) -> Resolver:
    """The resolver of the section `client_address`."""
    given: dict[str, Any] = dict(settings.get("client_address", {}))
    return Resolver(given.get("trusted_proxies", ()), given.get("hops", 0), str(given.get("header", X_FORWARDED_FOR)))


def register(registry: Registry, settings: Settings) -> None:
    resolver = resolver_of(settings)
    header, believing = resolver.header, resolver.believing
    remembered = lru_cache(CACHED)(resolver.resolve)
    believed = lru_cache(CACHED)(resolver.believes)

    def ip(view: View) -> object:
        facts = view.facts
        lines = tuple(facts.header_values(header)) if believing else ()
        resolve = remembered if sum(map(len, lines)) <= LARGEST_CACHED else resolver.resolve
        return resolve(facts.peer, lines) or NO_PEER

    def network(view: View) -> object:
        found = view.get("client.ip")
        return network_of(found) if isinstance(found, str) else found

    def connection(view: View) -> object:
        facts = view.facts
        if facts.connection is None:
            return NOT_TOLD
        return NOT_OWN if believed(facts.peer) else facts.connection

    registry.add_signals((
        Signal("client.ip", IP, "the caller's address behind trusted proxies", ip, missing="the host knows no peer",
               confounder="shared addresses: campus, company, carrier NAT, VPN", source="RFC 7239; PROXY protocol",
               recorded=True),
        Signal("client.network", CIDR, "the address's /24 (IPv4) or /64 (IPv6)", network, missing="no address",
               confounder="shared networks", recorded=True),
        Signal("client.connection", STRING, "the keep-alive connection the exchange came on", connection,
               missing="the host does not tell, or a trusted proxy stands between",
               confounder="one program that holds several of its own keys"),
    ))  # fmt: skip
