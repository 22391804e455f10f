"""Markers: literal texts that known relay software leaves, from a data table in which every entry ages.

A literal is trivial to change, so an entry says where it was read, since when, until when it is believed and how specific it
is; what has expired (by the time of the request) no longer matches, and health counts it. Long or telling literals are
kept as SHA-256 (of at most 512 characters). What is found is a set of neutral names; rules give it no more than a tag, or ask
for other evidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, LoadError
from gateway.facts import Facts
from gateway.plugins.reloaded import ReloadedFile
from gateway.strict.document import Node, read
from gateway.strict.shapes import Field, Problems, listing, mapping, one_of, placed, scalar, text
from gateway.values import parse_timestamp

SEARCHED: Final = 16_384
LONGEST_HASHED: Final = 512
MOST_TOOLS: Final = 256
CACHED: Final = 1_024


class Specificity(StrEnum):
    """How surely a marker means a relay, weakest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Where(StrEnum):
    """What part of a request an entry looks at."""

    HEADER = "header"
    AGENT = "agent"
    SYSTEM = "system"
    FIRST_USER = "first-user"
    FIRST_ANSWER = "first-answer"
    USER_ID = "user-id"
    TOOLS = "tools"


class Match(StrEnum):
    """How an entry's literal is compared."""

    EQUALS = "equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    SHA256 = "sha256"


STRENGTH: Final = {kind: place for place, kind in enumerate(Specificity)}


def _message(role: str) -> Callable[[Facts], tuple[str, ...]]:
    def find(facts: Facts) -> tuple[str, ...]:
        for message in facts.call.messages[:4] if facts.call else ():
            if message.role == role:
                return (message.text,)
        return ()

    return find


def _product(facts: Facts) -> tuple[str, ...]:
    agent = facts.header("user-agent")
    return (agent[:200].partition("/")[0].lower(),) if agent else ()


_TEXTS: Final[Mapping[Where, Callable[[Facts], tuple[str, ...]]]] = {
    Where.AGENT: _product,
    Where.SYSTEM: lambda facts: (facts.call.system,) if facts.call and facts.call.system else (),
    Where.FIRST_USER: _message("user"),
    Where.FIRST_ANSWER: _message("assistant"),
    Where.USER_ID: lambda facts: (facts.call.end_user,) if facts.call and facts.call.end_user else (),
    Where.TOOLS: lambda facts: facts.call.tools[:MOST_TOOLS] if facts.call else (),
}


@dataclass(frozen=True, slots=True)
class Marker:
    """One entry. first_seen, expires: µs since 1970; literal: lower-case for headers, as it is elsewhere."""

    id: str
    where: Where
    header: str
    match: Match
    literal: str
    first_seen: int
    expires: int
    specificity: Specificity


class Group:
    """The markers that look at one part of a request."""

    def __init__(self, markers: Iterable[Marker]) -> None:
        by_match: dict[Match, dict[str, list[Marker]]] = {match: {} for match in Match}
        for marker in markers:
            by_match[marker.match].setdefault(marker.literal, []).append(marker)
        self._equal, self._held, self._begin, self._digests = (by_match[match] for match in Match)

    def found(self, text: str) -> list[Marker]:
        """The markers whose literal a text is, holds or begins with."""
        found: list[Marker] = []
        for literal in self._held:
            if text.find(literal, 0, SEARCHED) >= 0:
                found += self._held[literal]
        for literal in self._begin:
            if text.startswith(literal):
                found += self._begin[literal]
        if self._equal:
            found += self._equal.get(text.strip(), ())
        if self._digests and len(text) <= LONGEST_HASHED:
            found += self._digests.get(_hashed(text), ())
        return found


@lru_cache(CACHED)
def _hashed(text: str) -> str:
    """The SHA-256 of a text of at most `LONGEST_HASHED` characters: names of software and system texts come again."""
    return sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()


class Grouped:
    """The markers of a table by the part of a request that they look at, so that each part is looked at once."""

    def __init__(self, markers: tuple[Marker, ...]) -> None:
        self.markers = markers
        self.specificity = {marker.id: marker.specificity for marker in markers}
        places = {(marker.where, marker.header): None for marker in markers}
        groups = {(where, name): Group(m for m in markers if (m.where, m.header) == (where, name)) for where, name in places}
        self.headers = {name: group for (where, name), group in groups.items() if where is Where.HEADER}
        self.texts = tuple((_TEXTS[where], group) for (where, _), group in groups.items() if where is not Where.HEADER)

    def found(self, facts: Facts) -> list[Marker]:
        """The markers that a request shows, expired ones too."""
        found: list[Marker] = []
        for name in self.headers.keys() & facts.first.keys():
            for value in facts.header_values(name):
                found += self.headers[name].found(value[:SEARCHED].lower())
        for parts, group in self.texts:
            for part in parts(facts):
                found += group.found(part)
        return found


_HEX: Final = re.compile(r"[0-9a-f]{64}")
_TIME: Final = scalar(parse_timestamp, "a date")
_MARKER: Final = {
    "id": Field(text("id", 60), required=True, doc="neutral, never reused"),
    "where": Field(one_of(Where, "where"), required=True, doc="what part of a request it looks at"),
    "header": Field(text("header", 100), default="", doc="where: header: its name"),
    **{str(kind): Field(text(str(kind), 4_000)) for kind in Match},
    "source": Field(text("source"), required=True, doc="where it was read"),
    "first_seen": Field(_TIME, required=True, doc="since when it is known"),
    "expires": Field(_TIME, required=True, doc="until when it is believed"),
    "specificity": Field(one_of(Specificity, "specificity"), required=True, doc="low, medium or high"),
}
_TABLE: Final = {"markers": Field(listing(placed(mapping(_MARKER, "a marker")), "markers"), required=True)}


def load_markers(path: Path) -> Grouped:
    """The markers of a table. Raises ConfigError with every problem found, each with its place."""
    problems = Problems(raises=ConfigError)
    try:
        table = mapping(_TABLE, "a table of markers")(read(path), problems)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    written: list[tuple[dict[str, Any], Node]] = table["markers"] or [] if table else []
    ids: set[str] = set()
    for entry, node in written:
        _judge(entry, node, problems)
        if entry["id"] in ids:
            problems.add(node.place, f"the marker '{entry['id']}' stands twice", "give it an id of its own")
        ids |= {entry["id"]} - {None}
    if problems.found or table is None:
        raise ConfigError(problems.found)
    return Grouped(tuple(_marker(entry) for entry, _ in written))


def _judge(entry: Mapping[str, Any], node: Node, problems: Problems) -> None:
    matches = [kind for kind in Match if entry[str(kind)] is not None]
    if len(matches) != 1:
        problems.add(node.place, "a marker needs exactly one of " + ", ".join(Match))
    if entry["sha256"] is not None and not _HEX.fullmatch(entry["sha256"]):
        problems.add(
            node.at("sha256"), "sha256 must be 64 lower-case hexadecimal digits", "hash the text without blanks around it"
        )
    if (entry["where"] is Where.HEADER) != bool(entry["header"]):
        problems.add(node.place, "'header' belongs to 'where: header', and only there", "name the header, in lower case")
    if None not in (entry["first_seen"], entry["expires"]) and entry["expires"] <= entry["first_seen"]:
        problems.add(node.at("expires"), "a marker must expire after it was first seen")


def _marker(entry: Mapping[str, Any]) -> Marker:
    match = next(kind for kind in Match if entry[str(kind)] is not None)
    lower = entry["where"] in (Where.HEADER, Where.AGENT) and match is not Match.SHA256
    literal = entry[str(match)].lower() if lower else entry[str(match)]
    return Marker(
        entry["id"], entry["where"], entry["header"].lower(), match, literal, entry["first_seen"], entry["expires"],
        entry["specificity"],
    )  # fmt: skip


class Markers:
    """The table in use: read again when its file changes. It knows the time of the last request, for what health says."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile(path, load_markers)
        self._seen = 0

    def found(self, facts: Facts) -> frozenset[str]:
        """The ids of the entries that the request shows and that have not expired at its time."""
        if facts.at > self._seen:
            self._seen = facts.at
        return frozenset([marker.id for marker in self._file.content.found(facts) if marker.expires > facts.at])

    def strongest(self, ids: Iterable[str]) -> str | None:
        """The highest specificity of these entries; None of none."""
        known = self._file.content.specificity
        kinds = [known[name] for name in ids if name in known]
        return str(max(kinds, key=STRENGTH.__getitem__)) if kinds else None

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        """How many entries there are, and how many had expired when the last request came."""
        markers = self._file.content.markers
        expired = sum(marker.expires <= self._seen for marker in markers)
        return {"entries": len(markers), "expired": expired, "problem": self._file.problem}
