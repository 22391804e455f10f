"""Recorded exchanges, read: captures, the gateway's own audit records, compact records, told apart by their keys.

A capture is a request as it was sent (`ts`, `path`, `headers`, `body` or `body_raw`, …); its signals are computed anew. An
audit record (`v`, `signals`, …) brings the signal values of its day, and so does a compact one (`gateway.replay.compact`), a
line or a row. All become `Facts` and the `Answer` that was given; a line that is none of them is counted and named.
"""

from __future__ import annotations

import asyncio
import gzip
import heapq
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final

from gateway.audit.record import recorded_answer, recorded_signals
from gateway.audit.segments import streams
from gateway.errors import Place, RecordError, did_you_mean
from gateway.facts import LONGEST_SAID, Answer, Cause, End, Facts, Freshness, Usage
from gateway.signals import Catalogue
from gateway.values import parse_timestamp
from gateway.web.intake import Body, Head, Intake

LONGEST: Final = 256 * 2**20
LATE_RECORDS: Final = 65_536
LATE_CAPTURES: Final = 512
PARQUET: Final = b"PAR1"
NO_PARQUET: Final = "Parquet needs pyarrow; install sluicegate[columns]"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded exchange. id: derived from the record, so that a replay is repeatable.

    label: its class, if labelled. scenario: of simulated traffic, the scenario it is of.
    """

    place: Place
    id: str
    facts: Facts
    answer: Answer
    label: str | None = None
    scenario: str | None = None


class UnansweredError(RecordError):
    """The account directory did not answer for a record: what would be said of this one and all that follow would be wrong."""


class Reader:
    """Reads records. A directory that is not in memory is asked once for each credential, and says what it says now.

    on_error receives every record that cannot be read; opened puts sealed identifiers back; `read` and `unreadable` count.
    """

    def __init__(
        self,
        intake: Intake,
        catalogue: Catalogue,
        on_error: Callable[[RecordError], None] | None = None,
        opened: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.intake, self.catalogue, self.opened = intake, catalogue, opened
        self.on_error = on_error or (lambda error: None)
        self.read = self.unreadable = 0
        self._runner: asyncio.Runner | None = None

    def exchanges(self, paths: Iterable[str]) -> Iterator[Exchange]:
        """The exchanges of all files and ledgers, in order of time. Raises UnansweredError where the directory fails."""
        with ExitStack() as stack:
            stack.callback(self.close)
            yield from heapq.merge(*map(self._stream, streams(paths)), key=_moment)

    def _stream(self, names: Sequence[str]) -> Iterator[Exchange]:
        """The exchanges of one file, or of the segments of one chain, in order of time."""
        if len(names) == 1 and is_parquet(names[0]):
            return self._rows(names[0])
        return _in_time(exchange for name in names for exchange in self._file(name))

    def _file(self, name: str) -> Iterator[Exchange]:
        try:
            lines: IO[bytes] = _open(name)
        except OSError as error:
            raise RecordError(Place(name), f"cannot be read: {error.strerror}") from None
        with lines:
            yield from self._lines(name, lines)

    def _rows(self, name: str) -> Iterator[Exchange]:
        try:
            from gateway.replay.parquet import exchanges  # an extra: only where Parquet is read
        except ImportError:
            raise RecordError(Place(name), NO_PARQUET) from None
        for exchange in exchanges(name, self.catalogue):
            self.read += 1
            yield exchange

    def _lines(self, name: str, lines: IO[bytes]) -> Iterator[Exchange]:
        number = 0
        while True:
            number += 1
            place = Place(name, number, 1)
            try:
                text = lines.readline(LONGEST)
            except (OSError, EOFError) as error:
                self._unreadable(RecordError(place, f"the file is broken from here: {error}"))
                return
            if not text:
                return
            if not text.strip():
                continue
            try:
                exchange = self._exchange(text, place)
            except UnansweredError:
                raise
            except RecordError as error:
                self._unreadable(error)
                continue
            self.read += 1
            yield exchange

    def exchange(self, text: bytes, place: Place) -> Exchange:
        """The exchange of one line. Raises RecordError."""
        try:
            return self._exchange(text, place)
        finally:
            self.close()

    def _exchange(self, text: bytes, place: Place) -> Exchange:
        try:
            entry = json.loads(self.opened(text))
        except (ValueError, RecursionError) as error:
            raise RecordError(place, f"is not JSON: {error}") from None
        if not isinstance(entry, dict):
            raise RecordError(place, "is not a JSON object")
        try:
            if "signals" in entry and "policy" in entry:
                return recorded(entry, place, self.catalogue)
            if "ts" in entry and "headers" in entry:
                return self._capture(entry, place)
            if "compact" in entry:
                from gateway.replay.compact import exchange_of  # stands on this module

                return exchange_of(entry, place, self.catalogue)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(place, f"is not a whole record: {type(error).__name__}: {error}") from None
        known = "a capture (ts, method, path, headers, body), an audit record (signals, policy) nor a compact one (compact)"
        raise RecordError(place, f"is neither {known}")

    def _unreadable(self, error: RecordError) -> None:
        self.unreadable += 1
        self.on_error(error)

    def _capture(self, entry: Mapping[str, Any], place: Place) -> Exchange:
        path, _, query = str(entry["path"]).partition("?")
        connection = entry.get("conn")
        if connection is not None and "run" in entry:
            connection = f"{entry['run']}:{connection}"
        head = Head(
            method=str(entry["method"]), path=path, query=query,
            http_version=str(entry.get("http_version", "1.1")).removeprefix("HTTP/"),
            headers=tuple((str(name).lower(), str(value)) for name, value in entry["headers"]),
            peer=entry.get("client_ip"), connection=str(connection) if connection is not None else None,
        )  # fmt: skip
        raw = entry["body_raw"].encode("utf-8", "surrogateescape") if isinstance(entry.get("body_raw"), str) else None
        document = None if raw is not None else entry.get("body")
        size = len(raw) if raw is not None else int(head.header("content-length") or 0)
        at, account = parse_timestamp(entry["ts"]), self._account(entry)
        cause = Cause.BODY_TOO_LARGE if size > self.intake.largest else None
        facts = self.intake.facts(head, Body(raw=raw, document=document, size=size, cause=cause), at, account)
        if self.intake.must_ask(facts):
            facts = self._looked_up(head, facts, place)
        label, scenario = entry.get("label"), entry.get("scenario")
        return Exchange(place, _id(place, text=entry), facts, self._answer(entry, head), label, scenario)

    def _looked_up(self, head: Head, facts: Facts, place: Place) -> Facts:
        """The facts with what the directory says of their credential now. Raises UnansweredError."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        facts, lookup = self._runner.run(self.intake.look_up(head, facts)), self.intake.registry.lookup
        if facts.looked_up is not None and facts.looked_up.freshness is Freshness.UNAVAILABLE and lookup is not None:
            raise UnansweredError(place, f"the account directory did not answer: {lookup.health()['problem']}")
        return facts

    def close(self) -> None:
        """Let go of the directory's connections."""
        runner, self._runner = self._runner, None
        if runner is not None and self.intake.registry.lookup is not None:
            with runner:
                runner.run(self.intake.registry.lookup.close())

    def _account(self, entry: Mapping[str, Any]) -> Mapping[str, object] | None:
        """The account a capture states: an id or a mapping of `account.*`; else its client and upstream key make one."""
        given = entry.get("account")
        if isinstance(given, Mapping):
            named = {str(name).removeprefix("account."): value for name, value in given.items()}
            return {name: self._account_value(name, value) for name, value in named.items()}
        if given is not None:
            return {"id": str(given)}
        if "client" in entry:
            key = entry.get("upstream_key")
            return {"id": str(entry["client"]) if key is None else f"{entry['client']}#{key}"}
        return None

    def _account_value(self, name: str, value: object) -> object:
        if name == "created":
            return parse_timestamp(value)
        signal = self.catalogue.get(f"account.{name}")
        if signal is None:
            known = [known.removeprefix("account.") for known in self.catalogue if known.startswith("account.")]
            raise ValueError(f"unknown account value '{name}'; {did_you_mean(name, known)}")
        return signal.type.parse(value)

    def _answer(self, entry: Mapping[str, Any], head: Head) -> Answer:
        response = entry.get("response") or {}
        usage = response.get("usage")
        found = self.intake.route(head)
        used = found[0].usage({"usage": usage}, Usage()) if found and isinstance(usage, dict) else Usage()
        status, end = response.get("status", entry.get("status")), End(response.get("end", "complete"))
        said, issued = response.get("text", entry.get("resp")), response.get("issued")
        return Answer(
            status=status, usage=used, end=end, model=response.get("model"),
            said=said[:LONGEST_SAID] if isinstance(said, str) else "",
            issued=tuple(one for one in issued if isinstance(one, str)) if isinstance(issued, list) else (),
        )  # fmt: skip


def recorded(entry: Mapping[str, Any], place: Place, catalogue: Catalogue) -> Exchange:
    """The exchange of an audit record, with the signal values of its day. Raises what a part of the wrong kind raises."""
    exchange = entry["exchange"]
    facts = Facts(
        at=parse_timestamp(entry["at"]), method=exchange["method"], path=exchange["path"],
        http_version=exchange.get("http_version", "1.1"), protocol=exchange.get("protocol"), route=exchange.get("route"),
        size=exchange.get("size", 0), seen=exchange.get("seen"),
        cause=Cause(exchange["cause"]) if "cause" in exchange else None, recorded=recorded_signals(entry, catalogue),
    )  # fmt: skip
    answered = entry.get("answer", {})
    answer = Answer(answered.get("status"), Usage(**answered.get("usage", {})), End(answered.get("end", "complete")),
                    answered.get("model"), events=answered.get("events", 0),
                    recorded=recorded_answer(entry, catalogue))  # fmt: skip
    return Exchange(place, str(entry["id"]), facts, answer, entry.get("label"))


def is_capture(entry: object) -> bool:
    """Whether a line holds a captured request, not an audit record."""
    return isinstance(entry, dict) and "signals" not in entry and "headers" in entry


def _moment(exchange: Exchange) -> int:
    return exchange.facts.at


def _in_time(exchanges: Iterator[Exchange]) -> Iterator[Exchange]:
    """One file in order of time: audit records are written when their answers end, so long streams come late.

    Held back are at most `LATE_RECORDS` audit records, or `LATE_CAPTURES` captures, which carry whole prompts.
    """
    held: list[tuple[int, int, Exchange]] = []
    for number, exchange in enumerate(exchanges):
        heapq.heappush(held, (_moment(exchange), number, exchange))
        if len(held) > (LATE_RECORDS if exchange.facts.recorded is not None else LATE_CAPTURES):
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def _open(name: str) -> Any:
    if name == "-":
        return sys.stdin.buffer
    path = Path(name)
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        raise RecordError(Place(name), f"{path.suffix} records are not read yet; unpack to .jsonl or .jsonl.gz")
    return path.open("rb")


def is_parquet(name: str) -> bool:
    """Whether a file is Parquet, by its first bytes; what is no file is not. Raises OSError."""
    if not Path(name).is_file():
        return False
    with Path(name).open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def _id(place: Place, text: Mapping[str, Any]) -> str:
    named = f"{Path(place.path).name}:{place.line}:{text['ts']}"
    return blake2b(named.encode(), digest_size=16).hexdigest()
