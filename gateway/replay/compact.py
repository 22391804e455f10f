"""Compact records: an exchange as one flat row of facts and signal values, for replay at scale.

A row holds facts under plain names (`at`, `path`, `status`, …: `FACTS`) and signals under their own, which have a dot. Three
things differ and stay apart: a value; null, which is *missing* (unknown to rules); a column that is not there, which is *not
recorded*. Durations and times are whole microseconds, sets are lists in the order of their texts. What a policy declares
(`derived` signals) is never held: it is found anew under the policy in force. Of signals that are known after the answer only
those are columns that no fact tells (`response.issued`). A signal whose provider failed is null and named in `failed`.

Ids are 32 hexadecimal digits and belong to the row, not to its place or its file, so that a replay of the same rows is the same
however they are split, renamed or packed (law 2).

One row is one row of a Parquet file (`gateway.replay.parquet`) or one JSON object a line, which says `"compact": 1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from gateway.errors import Place, RecordError, did_you_mean
from gateway.facts import Answer, Cause, End, Facts, Usage
from gateway.replay.exchange import Exchange
from gateway.signals import Catalogue, View
from gateway.values import INT, STRING, Failed, Missing, Type

VERSION: Final = 1
NONE: Final = Missing("none in the record")
FACTS: Final[Mapping[str, Type]] = {
    "at": INT, "id": STRING, "method": STRING, "path": STRING, "http_version": STRING, "protocol": STRING, "route": STRING,
    "size": INT, "seen": INT, "cause": STRING, "status": INT, "input_tokens": INT, "output_tokens": INT, "cached_tokens": INT,
    "reasoning_tokens": INT, "end": STRING, "model": STRING, "events": INT, "answer_size": INT, "failed": STRING,
    "label": STRING, "scenario": STRING,
}  # fmt: skip
REQUIRED: Final = ("at", "id")
USAGE: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_ID: Final = re.compile(r"[0-9a-f]{32}")
Row = Mapping[str, Any]


def columns_of(catalogue: Catalogue) -> dict[str, Type]:
    """Every signal that may be a column, with its type, in the order of names."""
    return {
        name: signal.type
        for name, signal in sorted(catalogue.items())
        if not signal.derived and (signal.recorded or not signal.settled)
    }


def row_of(exchange: Exchange, catalogue: Catalogue) -> dict[str, Any]:
    """The row of an exchange: of an audit record the values it holds, of a capture all that can be worked out of it.

    What only a running state knows (`prompt.echo`) is not recorded of a capture.
    """
    facts, answer = exchange.facts, exchange.answer
    row: dict[str, Any] = {
        "at": facts.at, "id": _identity(exchange.id), "method": facts.method, "path": facts.path,
        "http_version": facts.http_version, "protocol": facts.protocol, "route": facts.route, "size": facts.size,
        "seen": facts.seen, "cause": None if facts.cause is None else str(facts.cause), "status": answer.status,
        "end": str(answer.end), "model": answer.model, "events": answer.events or None,
        "answer_size": answer.size or None,
        "label": exchange.label, "scenario": exchange.scenario,
        **{name: getattr(answer.usage, name) for name in USAGE},
    }  # fmt: skip
    failed = {}
    for name, value in _known(facts, answer, catalogue).items():
        if isinstance(value, Failed):
            failed[name] = value.reason
        row[name] = None if isinstance(value, (Missing, Failed)) else plain(value)
    return row | ({"failed": json.dumps(failed, sort_keys=True)} if failed else {})


def _known(facts: Facts, answer: Answer, catalogue: Catalogue) -> dict[str, object]:
    told = {**(facts.recorded or {}), **(answer.recorded or {})}
    columns = columns_of(catalogue)
    if facts.recorded is not None:
        return {name: value for name, value in told.items() if name in columns}
    view = View(facts, catalogue, answer)
    return {name: view.get(name) for name in columns if catalogue[name].recalls is None}


def plain(value: object) -> object:
    """A signal's value as rows hold it."""
    return sorted(value) if isinstance(value, frozenset) else value


def _identity(text: str) -> str:
    """An id as rows hold it: of one that is not of 32 hexadecimal digits, its hash."""
    return text if _ID.fullmatch(text) else blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Rows:
    """Makes exchanges of the rows of one source. columns: the names that its rows hold. Raises RecordError for bad ones."""

    def __init__(self, columns: Iterable[str], catalogue: Catalogue, place: Place) -> None:
        known = columns_of(catalogue)
        held = list(columns)
        if lacking := [name for name in REQUIRED if name not in held]:
            raise RecordError(place, f"compact records need the column '{lacking[0]}'")
        for name in held:
            if name not in FACTS and "." not in name:
                raise RecordError(place, f"unknown column '{name}'; {did_you_mean(name, list(FACTS))}".rstrip("; "))
        self.settled = {name for name in held if name in known and catalogue[name].settled}
        self.signals = [name for name in held if name in known and name not in self.settled]
        self._blank: dict[str, object] = dict.fromkeys(self.signals, NONE)

    def exchange(self, row: Row, place: Place) -> Exchange:
        """The exchange of a row of typed values (sets frozen). Raises RecordError."""
        try:
            return self._exchange(row, place)
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(place, f"is not a whole compact record: {error}") from None

    def _exchange(self, row: Row, place: Place) -> Exchange:
        get = row.get
        recorded = self._blank.copy()
        for name in self.signals:
            if (value := get(name)) is not None:
                recorded[name] = value
        if failed := get("failed"):
            recorded |= {name: Failed(str(reason)) for name, reason in json.loads(failed).items()}
        cause = get("cause")
        facts = Facts(
            row["at"], get("method") or "POST", get("path") or "/", get("http_version") or "1.1", protocol=get("protocol"),
            route=get("route"), size=get("size") or 0, seen=get("seen"), cause=None if cause is None else Cause(cause),
            recorded=recorded,
        )  # fmt: skip
        told = {name: NONE if get(name) is None else row[name] for name in self.settled}
        usage = Usage(get("input_tokens"), get("output_tokens"), get("cached_tokens"), get("reasoning_tokens"))
        answer = Answer(get("status"), usage, End(get("end") or "complete"), get("model"), events=get("events") or 0,
                        size=get("answer_size") or 0, recorded=told)  # fmt: skip
        return Exchange(place, row["id"], facts, answer, get("label"), get("scenario"))


def exchange_of(entry: Row, place: Place, catalogue: Catalogue) -> Exchange:
    """The exchange of one row written as JSON. Raises RecordError."""
    if entry["compact"] != VERSION:
        raise RecordError(place, f"compact records of version {entry['compact']!r} are not known, only {VERSION}")
    row = {name: value for name, value in entry.items() if name != "compact"}
    rows = Rows(row, catalogue, place)
    types = {**FACTS, **columns_of(catalogue)}
    for name, value in row.items():
        if value is not None and name in types:
            row[name] = _typed(name, types[name], value, place)
    if not isinstance(row["id"], str) or not _ID.fullmatch(row["id"]) or row["at"] is None:
        raise RecordError(place, "needs `at` (µs since 1970) and `id` (32 hexadecimal digits)")
    return rows.exchange(row, place)


def _typed(name: str, kind: Type, value: object, place: Place) -> object:
    found = frozenset(value) if kind.element and isinstance(value, list) else value
    found = float(found) if kind.name == "float" and type(found) is int else found
    if not kind.holds(found):
        raise RecordError(place, f"'{name}' is {type(value).__name__}, but is a {kind}{_UNITS.get(kind.name, '')}")
    return found


_UNITS: Final = {"duration": " (whole µs)", "timestamp": " (whole µs since 1970)"}
