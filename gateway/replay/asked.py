"""Who was asked to declare a workload, by the audit records: what `sluice asked` counts.

Only audit records say who was asked. A capture does not: it is counted as unreadable, and `sluice dry-run --decisions` makes
records of it. With a policy, each record is also judged by it, in order of time and with everything counted as it would have
been, so that the last exchange that was asked tells whether it is declared meanwhile.

Memory is bounded: at most `MOST_ROWS` accounts are listed and as many counted by the day, of each at most `KEPT` models and
templates are told apart; what was left out is said.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.audit.segments import streams
from gateway.audit.stored import is_parquet, lines, unpacked
from gateway.declarations import Coverage, Standing, standing_of
from gateway.errors import Place, RecordError
from gateway.language.policy import Policy
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange, is_capture, recorded
from gateway.replay.sources import LATE_RECORDS
from gateway.signals import Catalogue, View
from gateway.values import SECOND, timestamp_text

DAY: Final = 86_400 * SECOND
MOST_ROWS: Final = 100_000
KEPT: Final = 64
LONGEST: Final = 256 * 2**20
NOT_DECLARED: Final = "not declared"


@dataclass(frozen=True, slots=True)
class Seen:
    """One audit record: the exchange, and the kinds it was asked to declare with the rules that asked."""

    exchange: Exchange
    asked: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def at(self) -> int:
        return self.exchange.facts.at

    def value(self, name: str) -> str:
        """A signal of the record, or the empty text where it holds none."""
        found = (self.exchange.facts.recorded or {}).get(name)
        return found if isinstance(found, str) else ""


@dataclass(slots=True)
class Daily:
    """Requests a day (UTC): how many on the busiest one."""

    day: int = -1
    today: int = 0
    peak: int = 0

    def add(self, at: int) -> None:
        day = at // DAY
        if day > self.day:
            self.day, self.today = day, 0
        self.today += 1
        self.peak = max(self.peak, self.today)


@dataclass(slots=True)
class Frequent:
    """The values seen most often, of which at most `KEPT` are kept (Misra and Gries 1982). several: whether there were more."""

    counts: Counter[str] = field(default_factory=Counter)
    several: bool = False

    def add(self, value: str) -> None:
        if not value:
            return
        if value in self.counts or len(self.counts) < KEPT:
            self.counts[value] += 1
            return
        self.several = True
        self.counts = Counter({known: times - 1 for known, times in self.counts.items() if times > 1})

    def top(self, most: int) -> list[str]:
        ranked = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [value for value, _ in ranked[:most]]


@dataclass(slots=True)
class Row:
    """One account and one kind that it was asked to declare. exchanges: in which it was asked. daily: all of its account's,
    asked or not (without an account, those asked). declared: how it stands by the policy that was given."""

    account: str
    org: str
    kind: str
    first: int
    last: int = 0
    exchanges: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    models: Frequent = field(default_factory=Frequent)
    templates: Frequent = field(default_factory=Frequent)
    daily: Daily = field(default_factory=Daily)
    declared: str = ""

    @property
    def settled(self) -> bool:
        """Whether a declaration covers it, or will from its beginning on."""
        return self.declared.startswith(("covered by", "declared as"))


@dataclass(slots=True)
class Asking:
    """Everything that was counted. daily: by account (`a`) or organisation (`o`), all of their requests, asked or not.

    left_off: asked exchanges of accounts past the most that are listed; forgotten: how often a busiest day was let go of.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    daily: dict[tuple[str, str], Daily] = field(default_factory=dict)
    read: int = 0
    unreadable: int = 0
    left_off: int = 0
    forgotten: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, seen: Seen, standing: Callable[[str], str] | None = None) -> None:
        """Count one record. standing: how an exchange stands by a policy, for a kind."""
        account, org = seen.value("account.id"), seen.value("account.org")
        self.read += 1
        self.first = seen.at if self.first is None else min(self.first, seen.at)
        self.last = seen.at if self.last is None else max(self.last, seen.at)
        for key in (("a", account), ("o", org)):
            if key[1]:
                self._of_day(key).add(seen.at)
        for kind, rules in seen.asked:
            row = self.rows.get((account, kind))
            if row is None:
                if len(self.rows) >= MOST_ROWS:
                    self.left_off += 1
                    continue
                daily = self._of_day(("a", account)) if account else Daily()
                row = self.rows[account, kind] = Row(account, org, kind, seen.at, daily=daily)
            row.exchanges += 1
            row.last = max(row.last, seen.at)
            row.rules.update(rules)
            row.models.add(seen.value("request.model"))
            row.templates.add(seen.value("prompt.template"))
            if not account:
                row.daily.add(seen.at)
            if standing is not None:
                row.declared = standing(kind)

    def ranked(self) -> list[Row]:
        """The rows, those asked most often first."""
        return sorted(self.rows.values(), key=lambda row: (-row.exchanges, row.account, row.kind))

    def _of_day(self, key: tuple[str, str]) -> Daily:
        found = self.daily.pop(key, None)
        if found is None:
            found = Daily()
            if len(self.daily) >= 2 * MOST_ROWS:
                del self.daily[next(iter(self.daily))]
                self.forgotten += 1
        self.daily[key] = found  # last used, last let go
        return found


def asking(
    names: Iterable[str],
    catalogue: Catalogue,
    policy: Policy | None,
    on_error: Callable[[RecordError], None],
    opened: Callable[[bytes], bytes] = bytes,
) -> Asking:
    """What these ledgers and files of records say (`-` is standard input). Raises RecordError for one that cannot be opened."""
    found = Asking()

    def unreadable(error: RecordError) -> None:
        found.unreadable += 1
        on_error(error)

    in_time = [_in_time(_stream(files, catalogue, unreadable, opened)) for files in streams(names)]
    merged = heapq.merge(*in_time, key=lambda seen: seen.at)
    if policy is None:
        for seen in merged:
            found.add(seen)
    else:
        _judged(merged, found, policy, catalogue)
    return found


def _judged(records: Iterator[Seen], found: Asking, policy: Policy, catalogue: Catalogue) -> None:
    """Count the records while a policy judges them again."""
    waiting: list[Seen] = []

    def exchanges() -> Iterator[Exchange]:
        for seen in records:
            waiting.append(seen)
            yield seen.exchange

    for replayed in replay(exchanges(), policy, catalogue):
        view = replayed.judgement.view
        found.add(waiting.pop(), lambda kind, view=view: standing_now(view, kind))  # type: ignore[misc]


def standing_now(view: View, kind: str) -> str:
    """How an exchange stands among the declarations of one kind, in words."""
    standing = [one for one in standing_of(view) if one.workload.kind == kind]
    if standing:
        covering = next((one for one in standing if one.covers), None)
        return f"covered by {covering.workload.id}" if covering is not None else _why_not(standing[0], view.facts.at)
    near = view.declared.declarations.near(view) if isinstance(view.declared, Coverage) else []
    outside = next((workload.id for workload in near if workload.kind == kind), "")
    return f"outside the scope of {outside}" if outside else NOT_DECLARED


def _why_not(standing: Standing, at: int) -> str:
    workload = standing.workload
    if workload.since > at:
        return f"declared as {workload.id}, from {timestamp_text(workload.since)[:10]} on"
    if workload.until <= at:
        return f"{workload.id} expired on {timestamp_text(workload.until)[:10]}"
    return f"{workload.id}: {standing.why_not}"


def _stream(
    names: Iterable[str], catalogue: Catalogue, on_error: Callable[[RecordError], None], opened: Callable[[bytes], bytes]
) -> Iterator[Seen]:
    for name in names:
        if is_parquet(name):
            raise RecordError(Place(name), "is Parquet: compact records do not say who was asked, only audit records do")
        with unpacked(name) as file:
            for place, text in lines(name, file, on_error):
                try:
                    yield _seen(opened(text), place, catalogue)
                except RecordError as error:
                    on_error(error)


def _seen(text: bytes, place: Place, catalogue: Catalogue) -> Seen:
    try:
        entry: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(place, f"is not JSON: {error}") from None
    if is_capture(entry):
        what = "is a capture, and only audit records say who was asked"
        raise RecordError(place, f"{what}; have `sluice dry-run --decisions FILE` make records of it")
    try:
        asked = tuple((str(one["kind"]), tuple(map(str, one["by"]))) for one in entry["outcome"].get("asked", ()))
        return Seen(recorded(entry, place, catalogue), asked)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(place, f"is not a whole audit record: {type(error).__name__}: {error}") from None


def _in_time(records: Iterator[Seen]) -> Iterator[Seen]:
    """One file in order of time: a record is written when its answer ends, so those of long streams come late."""
    held: list[tuple[int, int, Seen]] = []
    for number, seen in enumerate(records):
        heapq.heappush(held, (seen.at, number, seen))
        if len(held) > LATE_RECORDS:
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]
