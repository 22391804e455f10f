"""Recorded exchanges, read, of whichever kind: `FORMATS` tells them apart by their keys, `_SHAPES` the files they stand in.

Captures are requests as they were sent; audit records and compact ones bring the signal values of their day. Logs of other
programs (`gateway.replay.foreign`) tell some things only: what rests on the others is *not recorded*. All become `Facts` and
the `Answer` that was given. What is none of them is counted and named, never passed over in silence.
"""

from __future__ import annotations

import csv
import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Final

from gateway.audit.segments import streams
from gateway.audit.stored import BROKEN, LONGEST, is_parquet, lines, unpacked
from gateway.errors import Place, RecordError
from gateway.replay.captures import capture
from gateway.replay.compact import exchange_of
from gateway.replay.exchange import Exchange, UnansweredError, recorded
from gateway.replay.foreign.access import envoy, nginx, of_envoy, of_nginx
from gateway.replay.foreign.fields import DEFAULTS, Fields
from gateway.replay.foreign.litellm import of_litellm, spend_log
from gateway.replay.foreign.otlp import of_otlp, traces
from gateway.replay.making import Maker
from gateway.signals import Catalogue
from gateway.web.intake import Intake

_BETWEEN: Final = re.compile(r"[\s,\[\]]*")  # of the documents of a list, or of those one after another
LATE_RECORDS: Final = 65_536
LATE_CAPTURES: Final = 512
NO_PARQUET: Final = "Parquet needs pyarrow; install sluicegate[columns]"
Entry = Mapping[str, Any]
Take = Callable[[Any, Place], Iterator[Exchange]]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of record. keys: what it is told by, in words. is_one: whether an entry is one. read: its exchanges."""

    keys: str
    is_one: Callable[[Entry, Fields], bool]
    read: Callable[[Entry, Place, Maker], Iterator[Exchange]]


FORMATS: Final[Mapping[str, Format]] = {
    "audit record": Format("signals, policy", lambda e, f: "signals" in e and "policy" in e,
                           lambda e, p, m: iter((recorded(e, p, m.catalogue),))),
    "capture": Format("ts, method, path, headers, body", lambda e, f: "ts" in e and "headers" in e, capture),
    "compact record": Format("compact", lambda e, f: "compact" in e, lambda e, p, m: iter((exchange_of(e, p, m.catalogue),))),
    "OTLP trace export": Format("resourceSpans", of_otlp, traces),
    "LiteLLM spend log": Format("request_id, call_type, startTime", of_litellm, spend_log),
    "Envoy access log": Format("start_time, response_code", of_envoy, envoy),
    "nginx access log": Format("msec or time_iso8601, request_method or request", of_nginx, nginx),
}  # fmt: skip


class Reader:
    """Reads records.

    on_error receives every record that cannot be read; opened puts sealed identifiers back; fields: what the fields of access
    logs tell; `read` and `unreadable` count, and `passed` what is no exchange at all, by why.
    """

    def __init__(
        self,
        intake: Intake,
        catalogue: Catalogue,
        on_error: Callable[[RecordError], None] | None = None,
        opened: Callable[[bytes], bytes] = bytes,
        fields: Fields = DEFAULTS,
    ) -> None:
        self.maker, self.opened = Maker(intake, catalogue, fields), opened
        self.on_error = on_error or (lambda error: None)
        self.read = self.unreadable = 0
        self.passed = self.maker.passed

    def exchanges(self, paths: Iterable[str]) -> Iterator[Exchange]:
        """The exchanges of all files and ledgers, merged by time.

        Raises RecordError for a file that cannot be opened and for one whose disorder is greater than what is held back, and
        UnansweredError where the directory fails.
        """
        with ExitStack() as stack:
            stack.callback(self.close)
            yield from heapq.merge(*map(self._stream, streams(paths)), key=_moment)

    def _stream(self, names: Sequence[str]) -> Iterator[Exchange]:
        """The exchanges of one file, or of the segments of one chain, in order of time."""
        if len(names) == 1 and is_parquet(names[0]):
            return self._rows(names[0])
        return _in_time(exchange for name in names for exchange in self._file(name))

    def _rows(self, name: str) -> Iterator[Exchange]:
        try:
            from gateway.replay.parquet import exchanges  # an extra: only where Parquet is read
        except ImportError:
            raise RecordError(Place(name), NO_PARQUET) from None
        for exchange in exchanges(name, self.maker.catalogue):
            self.read += 1
            yield exchange

    def _file(self, name: str) -> Iterator[Exchange]:
        with unpacked(name) as file:
            found = lines(name, file, self._unreadable)
            first = next(found, None)
            if first is None:
                return
            shape = next(shape for is_one, shape in _SHAPES if is_one(first[1]))
            for place, entry in shape(first, found, file, self._unreadable):
                yield from self._taken(entry, place)

    def _taken(self, entry: object, place: Place) -> Iterator[Exchange]:
        """The exchanges of what stands at a place; what cannot be read is counted and named."""
        try:
            for exchange in self._exchanges(entry, place):
                self.read += 1
                yield exchange
        except UnansweredError:
            raise
        except RecordError as error:
            self._unreadable(error)

    def exchange(self, text: bytes, place: Place) -> Exchange:
        """The exchange of one line. Raises RecordError, also where it holds none or several."""
        try:
            found = list(self._exchanges(text, place))
        finally:
            self.close()
        if len(found) != 1:
            raise RecordError(place, f"holds {len(found)} exchanges, not one")
        return found[0]

    def _exchanges(self, found: object, place: Place) -> Iterator[Exchange]:
        """The exchanges of a line's bytes, or of an entry that is parsed already. Raises RecordError."""
        entry = self._parsed(found, place) if isinstance(found, bytes) else found
        if not isinstance(entry, dict):
            raise RecordError(place, "is not a JSON object")
        fields = self.maker.fields
        format_ = next((one for one in FORMATS.values() if one.is_one(entry, fields)), None)
        if format_ is None:
            raise RecordError(place, _none_of_them())
        try:
            yield from format_.read(entry, place, self.maker)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise RecordError(place, f"is not a whole record: {type(error).__name__}: {error}") from None

    def _parsed(self, text: bytes, place: Place) -> object:
        try:
            return json.loads(self.opened(text))
        except (ValueError, RecursionError) as error:
            zeros = "; it holds NUL bytes, as a crash leaves them: cut them out" if b"\0" in text else ""
            raise RecordError(place, f"is not JSON: {error}{zeros}") from None

    def _unreadable(self, error: RecordError) -> None:
        self.unreadable += 1
        self.on_error(error)

    def close(self) -> None:
        """Let go of the directory's connections."""
        self.maker.close()


def _none_of_them() -> str:
    *others, last = [f"{'an' if name[0] in 'aeAEO' else 'a'} {name} ({one.keys})" for name, one in FORMATS.items()]
    return f"is neither {', '.join(others)} nor {last}; access logs with other fields are read with --fields FILE"


Found = Iterator[tuple[Place, Any]]
Line = tuple[Place, bytes]


def _json_lines(first: Line, rest: Iterator[Line], file: IO[bytes], on_error: Callable[[RecordError], None]) -> Found:
    """One record a line."""
    yield first
    yield from rest


def _document(first: Line, rest: Iterator[Line], file: IO[bytes], on_error: Callable[[RecordError], None]) -> Found:
    """JSON that is laid out over several lines, or is one list: documents one after another, of `LONGEST` bytes at most."""
    place, text = first
    try:
        held = text + file.read(LONGEST)
    except BROKEN as error:
        on_error(RecordError(place, f"the file is broken: {error}"))
        return
    if len(held) >= LONGEST:
        on_error(RecordError(place, f"is one document of more than {LONGEST // 2**20} MiB; write one record a line (jq -c .)"))
        return
    line, at, decoder = place.line, 0, json.JSONDecoder()
    try:
        whole = held.decode()
        while (start := _BETWEEN.match(whole, at).end()) < len(whole):  # type: ignore[union-attr]  # it matches nothing, too
            line += whole.count("\n", at, start)
            found, end = decoder.raw_decode(whole, start)
            yield Place(place.path, line, 1), found
            line, at = line + whole.count("\n", start, end), end
    except json.JSONDecodeError as error:
        broken = Place(place.path, place.line + error.lineno - 1, error.colno)
        on_error(RecordError(broken, f"is not JSON: {error.msg}; what follows was not read"))
    except (ValueError, RecursionError) as error:
        on_error(RecordError(place, f"is not JSON: {error}"))


def _table(first: Line, rest: Iterator[Line], file: IO[bytes], on_error: Callable[[RecordError], None]) -> Found:
    """CSV with a line of names."""
    place = first[0]
    csv.field_size_limit(LONGEST)  # a spend log holds a whole request in one field; the library's bound is 128 KiB
    texts = (line.decode("utf-8", "surrogateescape") for line in _with_blank(first, file))
    rows = csv.reader(texts)
    names = next(rows)
    while True:
        here = Place(place.path, place.line + rows.line_num, 1)
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, *BROKEN) as error:
            on_error(RecordError(here, f"is no row of CSV: {error}"))
            return
        if len(row) == len(names):
            yield here, dict(zip(names, row, strict=True))
        elif row:
            on_error(RecordError(here, f"has {len(row)} fields, but {len(names)} are named in line {place.line}"))


def _with_blank(first: Line, file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a table: within quotes blank ones count."""
    yield first[1]
    while line := file.readline(LONGEST):
        yield line


Shape = Callable[[Line, Iterator[Line], IO[bytes], Callable[[RecordError], None]], Found]


def _opens(text: bytes) -> bool:
    """Whether a first line begins a document that goes on in the next line, or is a list."""
    text = text.strip()
    return text.startswith(b"[") or (text.startswith(b"{") and text.endswith((b"{", b"[", b",")))


_SHAPES: Final[tuple[tuple[Callable[[bytes], bool], Shape], ...]] = (
    (_opens, _document),
    (lambda text: b"request_id" in text and b"startTime" in text and text.lstrip()[:1] not in (b"{", b""), _table),
    (lambda text: True, _json_lines),
)


def _moment(exchange: Exchange) -> int:
    return exchange.facts.at


def _in_time(exchanges: Iterator[Exchange]) -> Iterator[Exchange]:
    """One file in order of time: records are written when their answers end, so those of long streams come late.

    Held back are at most `LATE_RECORDS` records, or `LATE_CAPTURES` captures, which carry whole prompts. Raises RecordError for
    one that comes later still: measures would count it at the wrong time.
    """
    held: list[tuple[int, int, Exchange]] = []
    before: int | None = None
    for number, exchange in enumerate(exchanges):
        most = LATE_RECORDS if exchange.facts.recorded is not None else LATE_CAPTURES
        if before is not None and _moment(exchange) < before:
            raise RecordError(
                exchange.place, f"is earlier than one more than {most:,} records before it; sort the file by time"
            )
        heapq.heappush(held, (_moment(exchange), number, exchange))
        if len(held) > most:
            before, _, found = heapq.heappop(held)
            yield found
    while held:
        yield heapq.heappop(held)[2]
