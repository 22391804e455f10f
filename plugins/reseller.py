"""Signs that a relay stands between the caller and us: `reseller.*`.

Header values decay within weeks; that a caller claims one client and sends what another would outlasts them. So first come
contradictions (a data table of structure), then markers (a data table of literals, which expire), probes and forwarded end
users. A match means «a relay is present», never «abuse»: what follows is the rules' business, and the first is to ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError, Problem
from gateway.facts import Call
from gateway.plugins.address import address, forwarded_for
from gateway.plugins.contradictions import Rows, load_rows
from gateway.plugins.edge import Edge
from gateway.plugins.keyed import digest, key_of
from gateway.plugins.markers import Markers
from gateway.plugins.reloaded import ReloadedFile
from gateway.plugins.sent import Sent
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import INT, STRING, Missing, set_of

NOT_A_PROBE: Final = Missing("not such a body")
NOT_FORWARDED: Final = Missing("no forwarded public address")
NO_MARKER: Final = Missing("no marker was found")
STANDARD: Final = "forwarded"
FORWARDED: Final = frozenset({STANDARD, "x-forwarded-for", "x-real-ip", "cf-connecting-ip", "true-client-ip"})
CLIENT: Final = ("client.runtime", "client.wire_runtime", "client.json_style", "client.ja4")
MOST_HOPS: Final = 16
MOST_HOP: Final = 100
CACHED: Final = 4_096
MOST_FORWARDED: Final = 2_048
_TURNS: Final = re.compile(r'\\.|[",]')

PROBE_SHORT: Final = 64
PROBE_SMALL: Final = 100
GREETING: Final = 4
GREETING_SMALL: Final = 4_096
INPUT_SHORT: Final = 32


class Table:
    """The contradictions table in use: read again when its file changes."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile(path, load_rows)

    @property
    def rows(self) -> Rows:
        return self._file.content

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        return {"entries": len(self.rows.rows), "problem": self._file.problem}


def probe_text(call: Call | None) -> str | None:
    """The text of a body that only asks whether an upstream lives; None for any other.

    It is one short message without tools that allows a tiny answer, or a bare greeting that allows a short one, or one
    short text to embed.
    """
    if call is None or call.tools or len(call.messages) != 1:
        return None
    said = call.messages[0].text.strip()
    if not said:
        return None
    if call.operation == "embeddings":
        return said.lower() if len(said) <= INPUT_SHORT else None
    most = call.max_tokens
    tiny = most is not None and most <= PROBE_SMALL and len(said) <= PROBE_SHORT and not call.system
    greeting = most is not None and most <= GREETING_SMALL and len(said) <= GREETING
    return said.lower() if tiny or greeting else None


def _hops(name: str, value: str) -> list[str]:
    """The first hops that one header names, as they were written."""
    if name == STANDARD:
        told = (forwarded_for(element) for element in islice(_elements(value[:MOST_FORWARDED]), MOST_HOPS))
        return [hop for hop in told if hop is not None]
    return value.split(",", MOST_HOPS)[:MOST_HOPS]


def _elements(value: str) -> Iterator[str]:
    """The elements of a `Forwarded` header, in order: commas in quoted strings do not part them (RFC 7239 §4)."""
    begin, inside = 0, False
    for turn in _TURNS.finditer(value):
        if turn[0] == '"':
            inside = not inside
        elif turn[0] == "," and not inside:
            yield value[begin : turn.start()]
            begin = turn.end()
    yield value[begin:]


def _forwarded(view: View) -> object:
    if FORWARDED.isdisjoint(view.facts.first):
        return NOT_FORWARDED
    sent = [line for line in view.facts.headers if line[0] in FORWARDED]
    hops = [hop for name, value in sent for hop in _hops(name, value) if len(hop) <= MOST_HOP]
    own = view.get("client.ip")
    for hop in hops[:MOST_HOPS]:
        claimed = _public(hop)
        if claimed is not None and claimed != own:
            return claimed
    return NOT_FORWARDED


@lru_cache(CACHED)
def _public(hop: str) -> str | None:
    """The address that one hop names, if it is none of a private network. hop: at most `MOST_HOP` characters."""
    found = address(hop)
    return str(found) if found and (found.is_global or found.is_reserved) else None


def _tables(contradictions: Path, markers: Path) -> tuple[Table, Markers]:
    """Both tables. Raises ConfigError with the problems of both: a mistake in one does not hide those in the other."""
    problems: list[Problem] = []
    table = found = None
    try:
        table = Table(contradictions)
    except ConfigError as error:
        problems += error.problems
    try:
        found = Markers(markers)
    except ConfigError as error:
        problems += error.problems
    if table is None or found is None:
        raise ConfigError(problems)
    return table, found


def register(registry: Registry, settings: Settings) -> None:
    section = settings.get("reseller", {})
    data = Path(str(files("gateway.rules") / "data"))
    table, markers = _tables(
        section.get("contradictions") or data / "contradictions.yaml", section.get("markers") or data / "markers.yaml"
    )
    registry.watch("reseller.contradictions", table)
    registry.watch("reseller.markers", markers)
    key = key_of(settings)
    registry.add_signals(_contradictions(table, Edge.of(settings)))
    registry.add_signals(_markers(markers))

    def probe(view: View) -> object:
        text = probe_text(view.facts.call)
        if text is None:
            return NOT_A_PROBE
        return digest(text, key)

    registry.add_signals((
        Signal("reseller.probe", STRING, "keyed hash of a health-check-like body: one short message and a tiny answer, a bare "
               "greeting, or one short text to embed", probe, Cost.BODY, "not such a body",
               confounder="people say hi; a monitor on one's own keys"),
        Signal("reseller.forwarded_client", STRING, "a public end-user address that the caller itself forwarded, in "
               "X-Forwarded-For, Forwarded or the like; never a place", _forwarded, missing="none forwarded",
               confounder="products that pass their users' addresses on; a CDN before us that `client_address` does not name, "
               "which then forwards everybody's; corporate egress proxies (few addresses)"),
    ))  # fmt: skip


def _contradictions(table: Table, edge: Edge) -> tuple[Signal, ...]:
    def contradictions(view: View) -> object:
        runtime, wire, style, ja4 = [view.get(name) for name in CLIENT]
        return table.rows.contradicted(Sent(view.facts, runtime, wire, style, ja4, direct=not edge.between(view.facts)))

    def count(view: View) -> object:
        found = view.get("reseller.contradictions")
        return len(found - table.rows.weak) if isinstance(found, frozenset) else found

    def weak(view: View) -> object:
        found = view.get("reseller.contradictions")
        return len(found & table.rows.weak) if isinstance(found, frozenset) else found

    rewriting = "companies' proxies: most only write headers anew, few write bodies anew"
    headers = "companies' proxies that drop, add, sort or write headers anew, or open TLS; programs that copy an agent's tools"
    return (
        Signal("reseller.contradictions", set_of(STRING), "ways in which the claimed client and what it sent disagree",
               contradictions, Cost.BODY, confounder=rewriting, source="consistency checks outlive value checks"),
        Signal("reseller.contradiction_count", INT, "how many such ways, without the weak ones", count, Cost.BODY,
               confounder="a company's own gateway that writes bodies anew or translates them", least=0),
        Signal("reseller.weak_contradiction_count", INT, "how many weak ways, which honest traffic shows as well", weak,
               Cost.BODY, confounder=headers, least=0),
    )  # fmt: skip


def _markers(markers: Markers) -> tuple[Signal, ...]:
    def found(view: View) -> object:
        return markers.found(view.facts)

    def specificity(view: View) -> object:
        names = view.get("reseller.markers")
        return markers.strongest(names) or NO_MARKER if isinstance(names, frozenset) else names

    copied = "old scripts, and people who quote such texts"
    return (
        Signal("reseller.markers", set_of(STRING), "known relay texts that the request shows and that have not expired", found,
               Cost.BODY, confounder=copied, source="public sources of relays, named in the table"),
        Signal("reseller.marker_specificity", STRING, "low, medium or high: of the strongest such text", specificity, Cost.BODY,
               "no marker was found", copied),
    )  # fmt: skip
