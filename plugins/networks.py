"""Lists of networks by kind: which exits are Tor's, whose addresses are a VPN's, a relay service's, a data centre's.

A list is a plain text file: a network, an address or an AS number a line, `#` begins a comment. Comments above the first item
say what it is:

    # kind: vpn                 one of KINDS
    # source: …                 who publishes it
    # date: 2026-11-01          when it was taken from there
    # licence: MIT              under what licence
    # max_age: 90d              how long it is good from that date on; for ever if left out

A list that is older than its `max_age` at the time of the exchange no longer speaks: addresses move on, and an old list
accuses whoever has them now. What only such a list says is missing, with that reason.

At most a million items in 64 MiB. 60,000 networks load in about 0.2 s and keep about 1 MB (IPv4) to 6 MB (IPv6); a look-up is
one bisection per list, under 1 µs each.
"""

from __future__ import annotations

import re
import socket
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from gateway.addresses import is_ipv4, number
from gateway.errors import ConfigError, LoadError, Place, Problem, did_you_mean
from gateway.strict.document import contents, decoded
from gateway.strict.shapes import Problems
from gateway.values import ASN, CIDR, parse_duration, parse_timestamp, timestamp_text

KINDS: Final = ("tor", "vpn", "residential-proxy", "public-proxy", "relay", "hosting", "satellite")
MAX_ITEMS: Final = 1_000_000
LARGEST: Final = 64 * 2**20
UNKNOWN: Final = "unknown"

_HEAD: Final = ("kind", "source", "date", "licence", "max_age")
_SPELT: Final = {"license": "licence"}
_FAMILIES: Final = {4: (socket.AF_INET, 32), 6: (socket.AF_INET6, 128)}
_LOW_32: Final = 2**32 - 1
_SYSTEM: Final = re.compile(r"(?:[Aa][Ss])?\d+")

Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Spans:
    """Ranges of addresses as whole numbers, sorted and apart from each other; starts and ends run in step."""

    starts: Sequence[int]
    ends: Sequence[int]

    def hold(self, number: int) -> bool:
        place = bisect_right(self.starts, number) - 1
        return place >= 0 and number <= self.ends[place]


def merged(spans: Iterable[tuple[int, int]], version: int) -> Spans:
    """Ranges in order, with those that overlap or touch made one."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(spans):
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return Spans(array("Q", starts), array("Q", ends)) if version == 4 else Spans(tuple(starts), tuple(ends))


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One list. date: µs since 1970, None where it is not said; max_age: µs, zero where nothing is said.

    items: lines that name something; networks: ranges that are left of them once overlaps are merged.
    """

    name: str
    kind: str
    source: str
    licence: str
    date: int | None
    max_age: int
    items: int
    spans: dict[int, Spans]
    systems: frozenset[int]

    @property
    def networks(self) -> int:
        return sum(len(spans.starts) for spans in self.spans.values())

    @property
    def label(self) -> str:
        """Which list, of what date."""
        dated = timestamp_text(self.date)[:10] if self.date is not None else "unknown date"
        return f"{self.source or self.name} of {dated}"

    @property
    def good_until(self) -> int | None:
        """The last microsecond at which it speaks; None: always."""
        return self.date + self.max_age if self.date is not None and self.max_age else None

    def speaks(self, at: int) -> bool:
        return self.good_until is None or at <= self.good_until

    def names(self, address: tuple[int, int], system: object) -> bool:
        """Whether it holds an address (version and number) or its system."""
        return self.spans[address[0]].hold(address[1]) or system in self.systems


def number_of(ip: str) -> tuple[int, int]:
    """The version and number of an address, IPv4 within IPv6 taken out. Raises ValueError for what is none."""
    found = number(ip)
    if found is None:
        raise ValueError(f"{ip!r} is not an IP address")
    return (4, found & _LOW_32) if is_ipv4(found) else (6, found)


def span_of(item: str) -> Span:
    """The version, first and last address of a network or an address. Raises ValueError when it is neither."""
    head, slash, tail = item.partition("/")
    version = 6 if ":" in head else 4
    family, width = _FAMILIES[version]
    try:
        first = int.from_bytes(socket.inet_pton(family, head), "big")
    except OSError:
        return _unusual(item)
    if slash and not (tail.isascii() and tail.isdigit() and len(tail) <= 3 and int(tail) <= width):
        return _unusual(item)
    rest = (1 << (width - int(tail) if slash else 0)) - 1
    if first & rest or rest == (1 << width) - 1:
        return _unusual(item)
    if version == 6 and is_ipv4(first) and rest <= _LOW_32:
        return 4, first & _LOW_32, first & _LOW_32 | rest
    return version, first, first | rest


def _unusual(item: str) -> Span:
    """What the quick way does not read: a mask written out is a network, the rest is told what is wrong with it."""
    if "%" in item:
        raise ValueError(f"'{item}' is not a network: it names an interface of one machine")
    network = ip_network(str(CIDR.parse(item)))
    if network.prefixlen == 0:
        raise ValueError(f"'{item}' is every address there is; name networks")
    return network.version, int(network.network_address), int(network.broadcast_address)


@dataclass(slots=True)
class _Reading:
    """A list while it is read: what stands above the first item, and the items so far."""

    path: Path
    problems: Problems = field(default_factory=lambda: Problems(raises=ConfigError))
    head: dict[str, tuple[str, Place]] = field(default_factory=dict)
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {4: [], 6: []})
    systems: set[int] = field(default_factory=set)
    items: int = 0

    def line(self, place: int, line: str) -> None:
        item, _, comment = line.partition("#")
        item = item.strip()
        if not item:
            if not self.items:
                self._about(place, comment)
            return
        self.items += 1
        try:
            if _SYSTEM.fullmatch(item):
                self.systems.add(int(str(ASN.parse(item))))
            else:
                version, first, last = span_of(item)
                self.spans[version].append((first, last))
        except ValueError as error:
            self.problems.add(Place(str(self.path), place, 1), str(error))

    def _about(self, line: int, comment: str) -> None:
        key, colon, said = comment.partition(":")
        key = _SPELT.get(key.strip(), key.strip())
        if not colon or key not in _HEAD:
            return
        place = Place(str(self.path), line, 1)
        if key in self.head:
            self.problems.add(place, f"says '{key}' a second time; it stands in line {self.head[key][1].line}", "leave one")
            return
        self.head[key] = (said.strip(), place)

    def done(self) -> NetworkList:
        """The list. Raises ConfigError with every problem found."""
        words = {key: said for key, (said, _) in self.head.items()}
        kind, date, max_age = self._kind(), self._moment(), self._max_age()
        if self.head.get("max_age") and date is None and "date" not in self.head:
            self.problems.add(
                self.head["max_age"][1], "says how long it is good, but not from when", "add '# date: 2026-11-01'"
            )
        if not self.items:
            self.problems.add(Place(str(self.path)), "lists nothing", "an empty file is most often a failed download")
        if self.problems.found:
            raise ConfigError(self.problems.found)
        spans = {version: merged(found, version) for version, found in self.spans.items()}
        said = (words.get("source", ""), words.get("licence", ""))
        return NetworkList(self.path.name, kind, *said, date, max_age, self.items, spans, frozenset(self.systems))

    def _kind(self) -> str:
        if "kind" not in self.head:
            self.problems.add(Place(str(self.path), 1, 1), "does not say its kind", "write '# kind: vpn' above the first item")
            return UNKNOWN
        kind, place = self.head["kind"]
        if kind not in KINDS:
            self.problems.add(place, f"'{kind}' is no kind of network", did_you_mean(kind, KINDS))
        return kind

    def _moment(self) -> int | None:
        said, place = self.head.get("date", ("", None))
        try:
            return parse_timestamp(said) if place else None
        except ValueError as error:
            self.problems.add(place or Place(str(self.path)), f"date: {error}")
            return None

    def _max_age(self) -> int:
        said, place = self.head.get("max_age", ("", None))
        try:
            return parse_duration(said) if place else 0
        except ValueError as error:
            self.problems.add(place or Place(str(self.path)), f"max_age: {error}")
            return 0


def load_networks(path: Path) -> NetworkList:
    """A list file. Raises ConfigError with every problem found, each with its line."""
    reading = _Reading(path)
    try:
        text = decoded(contents(path, LARGEST), str(path)).removeprefix("\ufeff")
    except LoadError as error:
        raise ConfigError(error.problems) from None
    for place, line in enumerate(text.split("\n"), 1):
        reading.line(place, line)
        if reading.items > MAX_ITEMS:
            too_many = Problem(Place(str(path), place, 1), f"more than {MAX_ITEMS} items", "split the list")
            raise ConfigError([*reading.problems.found, too_many])
    return reading.done()
