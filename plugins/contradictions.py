"""The contradictions table: what software that claims to be one thing would never send.

A row says whom it speaks of (`runtimes`, `agents`, `not_agents`, `protocols`) and what was seen; every part that is written
must hold. Rows speak of structure, so they outlast versions; a row without anything seen would accuse everybody and does
not load. What a trusted proxy writes anew (header order, HTTP version) is not held against a caller behind one. A weak row
tells what honest traffic shows as well, most of it behind a company's proxy that writes headers anew: it is told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, LoadError
from gateway.plugins.sent import Sent, Trait
from gateway.plugins.wire import Runtime, Style
from gateway.strict.document import Node, read
from gateway.strict.shapes import Field, Problems, Shape, entries, flag, listing, mapping, one_of, placed, text, whole

LONGEST_AGENT: Final = 200
MOST_CLAIMS: Final = 1_024

Check = Callable[[Sent], bool]


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """What one header's value shows: `contains` all of these texts, or is `equals`; lower-case."""

    header: str
    contains: tuple[str, ...] = ()
    equals: str | None = None

    def holds(self, sent: Sent) -> bool:
        value = sent.value(self.header)
        if value is None:
            return False
        if self.equals is not None and value.strip() != self.equals:
            return False
        return all(map(value.__contains__, self.contains))


@dataclass(frozen=True, slots=True)
class Row:
    """One row: of whom it speaks, and what such software would never send. weak: honest traffic shows it as well."""

    name: str
    weak: bool
    runtimes: frozenset[str]
    agents: tuple[str, ...]
    not_agents: tuple[str, ...]
    protocols: frozenset[str]
    wire: frozenset[str]
    styles: frozenset[str]
    keys: int
    has: frozenset[str]
    lacks: tuple[str, ...]
    values: tuple[HeaderTest, ...]
    http: frozenset[str]
    alpn: frozenset[str]
    order: tuple[tuple[str, str], ...]
    declares: frozenset[str]
    takes: Mapping[str, frozenset[str]]
    declares_none: frozenset[str]
    system: str
    shows: frozenset[str]

    def speaks_of(self, sent: Sent) -> bool:
        """Whether the request claims to come from what this row speaks of."""
        if self.runtimes and sent.runtime not in self.runtimes:
            return False
        agent = sent.agent[:LONGEST_AGENT]
        if (self.agents and not agent.startswith(self.agents)) or (self.not_agents and agent.startswith(self.not_agents)):
            return False
        return not self.protocols or sent.facts.protocol in self.protocols

    @property
    def checks(self) -> tuple[Check, ...]:
        """What has to hold besides, cheapest first: a check for every part that is written."""
        made: list[tuple[object, Check]] = [
            (self.has, lambda sent: sent.names >= self.has),
            (self.lacks, lambda sent: not sent.any_begins(self.lacks)),
            (self.values, lambda sent: all(map(HeaderTest.holds, self.values, repeat(sent)))),
            (self.http, lambda sent: sent.direct and sent.facts.http_version in self.http),
            (self.alpn, lambda sent: sent.ja4[8:10] in self.alpn),
            (self.wire, lambda sent: sent.wire in self.wire),
            (self.styles, lambda sent: sent.style >= self.styles and len(sent.facts.keys) >= self.keys),
            (self.order, lambda sent: sent.direct and all(sent.before(*pair) for pair in self.order)),
            (self.declares, lambda sent: sent.tools >= self.declares),
            (self.takes, lambda sent: sent.takes(self.takes)),
            (self.declares_none, lambda sent: bool(sent.tools) and sent.tools.isdisjoint(self.declares_none)),
            (self.system, lambda sent: sent.facts.call is not None and sent.facts.call.system.startswith(self.system)),
            (self.shows, lambda sent: sent.traits >= self.shows),
        ]
        return tuple(check for written, check in made if written)


Checked = tuple[str, str, Check]  # what is needed, the name of the row, whether it holds
Sought = tuple[Callable[[Sent], Set[str]], tuple[Checked, ...]]

# What a row cannot do without, and where a request shows such: most rows are passed over because a request shows none of it.
_NEEDED: Final[tuple[tuple[Callable[[Row], Set[str]], Callable[[Sent], Set[str]]], ...]] = (
    (lambda row: row.styles, lambda sent: sent.style),
    (lambda row: row.shows, lambda sent: sent.traits),
    (lambda row: row.declares, lambda sent: sent.tools),
    (lambda row: row.has, lambda sent: sent.names),
    (lambda row: {test.header for test in row.values}, lambda sent: sent.names),
    (lambda row: {name for pair in row.order for name in pair}, lambda sent: sent.names),
)


_NOTHING: Final = frozenset({""})


def _anything(sent: Sent) -> Set[str]:
    return _NOTHING


def _found_by(row: Row) -> tuple[Callable[[Sent], Set[str]], Checked]:
    """Where one thing is shown that a row cannot do without, and that thing: the empty text where it can do without any."""
    for needed, shown in _NEEDED:
        if names := needed(row):
            return shown, (min(names), row.name, _all_of(row.checks))
    return _anything, ("", row.name, _all_of(row.checks))


def _all_of(checks: tuple[Check, ...]) -> Check:
    """Whether all hold; most rows have one."""
    return checks[0] if len(checks) == 1 else lambda sent: all(check(sent) for check in checks)


class Rows:
    """The rows of a table. Which of them speak of a claimed client is remembered by what it claims, for a bounded number."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows
        self.weak = frozenset(row.name for row in rows if row.weak)
        self._places = tuple((row, *_found_by(row)) for row in rows)
        self._of: dict[tuple[object, str, str | None], tuple[Sought, ...]] = {}

    def contradicted(self, sent: Sent) -> frozenset[str]:
        """The names of the rows that a request contradicts."""
        found = []
        for shown, rows in self._speaking_of(sent):
            things = shown(sent)
            if things:
                found += [name for needed, name, holds in rows if needed in things and holds(sent)]
        return frozenset(found)

    @property
    def remembered(self) -> int:
        """For how many different claims it is remembered which rows speak of them."""
        return len(self._of)

    def _speaking_of(self, sent: Sent) -> tuple[Sought, ...]:
        claimed = (sent.runtime if isinstance(sent.runtime, str) else None, sent.agent[:LONGEST_AGENT], sent.facts.protocol)
        found = self._of.get(claimed)
        if found is None:
            if len(self._of) >= MOST_CLAIMS:
                self._of.clear()
            found = self._of[claimed] = self._sought(sent)
        return found

    def _sought(self, sent: Sent) -> tuple[Sought, ...]:
        """The rows that speak of what a request claims, by what each cannot do without."""
        found: dict[Callable[[Sent], Set[str]], list[Checked]] = {}
        for row, shown, checked in self._places:
            if row.speaks_of(sent):
                found.setdefault(shown, []).append(checked)
        return tuple((shown, tuple(rows)) for shown, rows in found.items())


def _words(name: str) -> Field:
    return Field(listing(text(name), name), default=[])


_EMPTY: Final = Shape(lambda node, problems: "" if node.value == "" else text("equals")(node, problems), {"type": "string"})
_VALUE: Final = {
    "header": Field(text("header"), required=True, doc="its name"),
    "contains": Field(listing(text("contains"), "contains"), default=[], doc="texts its value holds, all of them"),
    "equals": Field(_EMPTY, doc="its whole value; may be empty"),
}
_ROW: Final = {
    "name": Field(text("name", 60), required=True, doc="neutral, never reused"),
    "why": Field(text("why"), required=True, doc="why such software would never send that"),
    "weak": Field(flag("weak"), default=False, doc="whether honest traffic shows it as well, such as behind a company's proxy"),
    "runtimes": Field(listing(one_of(Runtime, "runtime"), "runtimes"), default=[]),
    "agents": _words("agents"), "not_agents": _words("not_agents"), "protocols": _words("protocols"),
    "wire": Field(listing(one_of(Runtime, "wire"), "wire"), default=[]),
    "styles": Field(listing(one_of(Style, "style"), "styles"), default=[]),
    "keys": Field(whole("keys", 1, 1_000), default=0, doc="with styles: least top-level keys"),
    "has": _words("has"), "lacks": _words("lacks"),
    "values": Field(listing(mapping(_VALUE, "a value"), "values"), default=[]),
    "http": _words("http"), "alpn": _words("alpn"),
    "order": Field(listing(listing(text("order"), "order"), "order"), default=[], doc="pairs: the first before the second"),
    "declares": _words("declares"),
    "takes": Field(entries(listing(text("parameter"), "parameters"), "takes"), default={}, doc="tools, with their parameters"),
    "declares_none": _words("declares_none"),
    "system": Field(text("system"), default="", doc="how the system text begins"),
    "shows": Field(listing(one_of(Trait, "trait"), "shows"), default=[]),
}  # fmt: skip
_SEEN: Final = (
    "wire", "styles", "has", "lacks", "values", "http", "alpn", "order", "declares", "takes", "declares_none", "system",
    "shows",
)  # fmt: skip
_TABLE: Final = {
    "source": Field(text("source"), required=True), "date": Field(text("date"), required=True),
    "claims": Field(listing(placed(mapping(_ROW, "a claim")), "claims", empty=False), required=True),
}  # fmt: skip


def load_rows(path: Path) -> Rows:
    """The rows of a contradictions table. Raises ConfigError with every problem found, each with its place."""
    problems = Problems(raises=ConfigError)
    try:
        table = mapping(_TABLE, "a contradictions table")(read(path), problems)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    written: list[tuple[dict[str, Any], Node]] = table["claims"] or [] if table else []
    names: set[str] = set()
    for row, node in written:
        if not any(row[key] for key in _SEEN):
            mend = "write what was seen: one of " + ", ".join(_SEEN)
            problems.add(node.place, f"the claim '{row['name']}' would accuse everybody it speaks of", mend)
        if row["name"] in names:
            problems.add(node.place, f"the claim '{row['name']}' stands twice", "give it a name of its own")
        if any(len(pair) != 2 for pair in row["order"]):
            problems.add(node.place, "an order takes two header names", "such as [content-length, user-agent]")
        names |= {row["name"]} - {None}
    if problems.found or table is None:
        raise ConfigError(problems.found)
    return Rows(tuple(_row(row) for row, _ in written))


def _row(row: Mapping[str, Any]) -> Row:
    def lower(key: str) -> tuple[str, ...]:
        return tuple(str(word).lower() for word in row[key])

    values = tuple(
        HeaderTest(one["header"].lower(), tuple(part.lower() for part in one["contains"]),
                   one["equals"].lower() if one["equals"] is not None else None)
        for one in row["values"]
    )  # fmt: skip
    return Row(
        name=row["name"], weak=row["weak"], runtimes=frozenset(row["runtimes"]), agents=lower("agents"),
        not_agents=lower("not_agents"), protocols=frozenset(row["protocols"]), wire=frozenset(row["wire"]),
        styles=frozenset(row["styles"]), keys=row["keys"], has=frozenset(lower("has")), lacks=lower("lacks"), values=values,
        http=frozenset(row["http"]), alpn=frozenset(lower("alpn")),
        order=tuple((first.lower(), second.lower()) for first, second in row["order"]), declares=frozenset(row["declares"]),
        takes={name: frozenset(needed) for name, needed in row["takes"].items()},
        declares_none=frozenset(row["declares_none"]), system=row["system"], shows=frozenset(row["shows"]),
    )  # fmt: skip
