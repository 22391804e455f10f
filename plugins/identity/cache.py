"""A directory that is not in memory, behind a bounded cache: what is known of it, and when it is asked.

- An account is taken as it was for `keep`. In the last fifth of that time it is asked for anew while it is still served.
- A credential that is not listed is remembered for `absent`, in a map of its own: unknown keys neither hammer the directory
  nor drive known accounts out of memory.
- Where the directory does not answer, the last known entry is served as stale for `stale` after that. Nothing known:
  `unavailable`, which the host answers as declared. Where it answers, but with an entry that is wrong: `unreadable`, which
  asking again does not mend.
- While its circuit breaker is open it is not asked for credentials that nobody has seen; whoever is known is asked for as said.
- One look-up at a time goes out for a credential, and no more in all than the source has connections (`lanes` says whose);
  whoever asked may go away, the look-up goes on. Who waits too long for a slot is turned away, which says nothing of the
  directory. While that is failing, one renewal at a time in the background finds out whether it answers again.
- Health is open to whoever reads it: it says which field and what kind of fault. Standard error says which account.

Time is the host's monotonic clock; until one is handed in it stands still, so that a replay asks once for each credential.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.breaker import Breaker
from gateway.errors import ConfigError, Place
from gateway.facts import Freshness, LookedUp
from gateway.incidents import report
from gateway.plugins.identity.entries import BadEntryError, DirectoryError, placed
from gateway.plugins.identity.lanes import FullError, Kind, Lanes
from gateway.values import SECOND

MOST_WAITING: Final = 1_024
NOBODY: Final = "0" * 64
START: Final = 10.0
_RETRY: Final = SECOND
_REST: Final = 0.5  # seconds
_LONGEST: Final = 5.0
_TELL_AGAIN: Final = 60 * SECOND
_NOT_LISTED: Final = LookedUp(None)
_UNAVAILABLE: Final = LookedUp(None, Freshness.UNAVAILABLE)
_UNREADABLE: Final = LookedUp(None, Freshness.UNREADABLE)


NOWHERE: Final[Mapping[str, Place]] = {}


class Source(Protocol):
    """Where accounts are, asked by the hexadecimal SHA-256 of a key. where: what health may show; kind: a word.

    connections: how many look-ups it can have under way at once.
    """

    kind: str
    where: str
    connections: int

    async def ask(self, digest: str) -> Mapping[str, object] | None:
        """The entry of a credential, None where it is not listed. Raises DirectoryError. May be cancelled."""
        ...

    async def check(self) -> None:
        """Find out whether it can be asked at all. Raises ConfigError (it is set up wrongly) or DirectoryError."""
        ...

    def refresh(self) -> str:
        """Read again what it needs of files; returns what is wrong with them."""
        ...

    async def close(self) -> None:
        """Let go of connections; it may be asked again after that."""
        ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is remembered (`most` accounts) and how long (µs); `gateway.sections` says what each means."""

    most: int
    keep: int
    absent: int
    stale: int


@dataclass(slots=True)
class _Held:
    fresh: LookedUp
    stale: LookedUp
    digest: str
    at: int
    tried: int


class RemoteDirectory:
    """A source with a memory. timeout: seconds for the source to answer, and before that for a slot to be free."""

    def __init__(self, source: Source, timeout: float, keeping: Keeping, places: Mapping[str, Place] = NOWHERE) -> None:
        self._source, self._timeout, self._keeping, self._places = source, timeout, keeping, places
        self._timer: Callable[[], int] = lambda: 0
        self.breaker = Breaker(lambda: self._timer() / SECOND, rest=_REST, longest=_LONGEST)
        self._known: OrderedDict[str, _Held] = OrderedDict()
        self._absent: OrderedDict[str, tuple[int, LookedUp]] = OrderedDict()
        self._flights: dict[str, asyncio.Task[LookedUp]] = {}
        self._lanes = Lanes(source.connections, MOST_WAITING)
        self._renewals = 0
        self._renewed = keeping.keep - keeping.keep // 5
        self._problem = self._file_problem = self._last_failure = ""
        self._failures = self._turned_away = 0
        self._told = (0, "")

    def start(self, timer: Callable[[], int]) -> None:
        """Asks for a credential that nobody has. One that does not answer fails no start: its fail mode is for that, too."""
        self._timer = timer

        async def ask() -> None:
            try:
                async with asyncio.timeout(max(START, self._timeout)):
                    await self._source.check()
            finally:
                await self._source.close()

        with ThreadPoolExecutor(1) as thread:  # there may be a running loop in this one
            try:
                thread.submit(asyncio.run, ask()).result()
            except (DirectoryError, TimeoutError) as error:
                said = str(error) or f"did not answer within {START:g} s"
                self._failed(said, getattr(error, "detail", "") or said, down=True)
            except ConfigError as error:
                raise placed(error, self._places) from None

    def find(self, credential: str) -> LookedUp | None:
        held, said = self._known.get(credential), self._waits(credential)
        if held is None:
            return said
        self._known.move_to_end(credential)
        age = self._timer() - held.at
        if age < self._renewed:
            return held.fresh
        if age < self._keeping.keep:
            self._renew(credential, held)
            return held.fresh
        if (self._down or said) and age < self._keeping.keep + self._keeping.stale:
            self._renew(credential, held)
            return held.stale
        return said

    async def fetch(self, credential: str, digest: bytes, network: str = "") -> LookedUp:
        """network: whose turn it is when many ask for credentials that nobody has seen."""
        flight = self._flights.get(credential)
        if flight is None or flight.get_loop() is not asyncio.get_running_loop():
            kind = Kind.KNOWN if credential in self._known else Kind.STRANGE
            flight = self._take_off(credential, digest.hex(), kind, network)
        return await asyncio.shield(flight)

    @property
    def where(self) -> str:
        """What health may show of where it is."""
        return self._source.where

    def refresh(self) -> None:
        self._file_problem = self._source.refresh()

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        flights = [flight for flight in self._flights.values() if flight.get_loop() is loop]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._source.close()

    def health(self) -> dict[str, object]:
        """problem: the last failure, until the next success. absent: credentials remembered as not listed.

        turned_away: look-ups that waited in vain for a slot.
        """
        return {
            "kind": self._source.kind, "where": self._source.where, "accounts": len(self._known), "absent": len(self._absent),
            "problem": self._problem or self._file_problem, "failures": self._failures, "last_failure": self._last_failure,
            "turned_away": self._turned_away,
        }  # fmt: skip

    def _waits(self, credential: str) -> LookedUp | None:
        """What is to be said of a credential without asking again, for now: that it is not listed, or cannot be read."""
        until, said = self._absent.get(credential, (0, None))
        return said if said is not None and self._timer() <= until else None

    def _renew(self, credential: str, held: _Held) -> None:
        """Ask in the background, unless that is under way or was just tried; of a failing directory, one asks for all."""
        now = self._timer()
        if credential in self._flights or now - held.tried < _RETRY or self._waits(credential):
            return
        if self._renewals >= (1 if self._down else MOST_WAITING):
            return
        held.tried = now
        self._renewals += 1
        self._take_off(credential, held.digest, Kind.RENEWAL).add_done_callback(self._renewal_landed)

    def _renewal_landed(self, _: asyncio.Task[LookedUp]) -> None:
        self._renewals -= 1

    def _take_off(self, credential: str, digest: str, kind: Kind, network: str = "") -> asyncio.Task[LookedUp]:
        flight = asyncio.get_running_loop().create_task(self._fly(credential, digest, kind, network))
        self._flights[credential] = flight

        def landed(_: asyncio.Task[LookedUp]) -> None:
            if self._flights.get(credential) is flight:
                del self._flights[credential]

        flight.add_done_callback(landed)
        return flight

    async def _fly(self, credential: str, digest: str, kind: Kind, network: str) -> LookedUp:
        if kind is Kind.STRANGE and not self.breaker.admits():
            return self._last_known(credential)
        try:
            async with asyncio.timeout(self._timeout):
                await self._lanes.enter(kind, network)
        except (TimeoutError, FullError):
            self._turned_away += 1
            return self._last_known(credential)
        try:
            return await self._ask(credential, digest)
        finally:
            self._lanes.leave(kind)

    async def _ask(self, credential: str, digest: str) -> LookedUp:
        try:
            async with asyncio.timeout(self._timeout):
                entry = await self._source.ask(digest)
        except TimeoutError:
            self._failed(f"did not answer within {self._timeout:g} s", down=True)
        except BadEntryError as error:
            self._failed(str(error), error.detail)
            self._answers()
            self._remember_absent(credential, _UNREADABLE)
            return self._last_known(credential, _UNREADABLE)
        except DirectoryError as error:
            self._failed(str(error), error.detail, down=True)
        except Exception as error:  # a driver is third-party code: what breaks in it is the directory's failure, not a caller's
            self._failed(f"broke: {type(error).__name__}", down=True)
        else:
            self._problem = ""
            self._answers()
            return self._remember(credential, digest, entry)
        return self._last_known(credential)

    @property
    def _down(self) -> bool:
        """Whether the last time it was asked it did not answer."""
        return self.breaker.failing

    def _answers(self) -> None:
        self.breaker.met(good=True)

    def _failed(self, said: str, detail: str = "", down: bool = False) -> None:
        if down:
            self.breaker.met(good=False, problem=f"{self._source.where}: {said}")
        self._failures += 1
        self._problem = self._last_failure = f"{self._source.where}: {said}"
        now, told = self._timer(), f"{self._source.where}: {detail or said}"
        if told != self._told[1] or now - self._told[0] >= _TELL_AGAIN:
            self._told = (now, told)
            report("directory.unavailable", told)

    def _last_known(self, credential: str, unknown: LookedUp = _UNAVAILABLE) -> LookedUp:
        held, keeping = self._known.get(credential), self._keeping
        age = self._timer() - held.at if held else 0
        if held is None or age >= keeping.keep + keeping.stale:
            return unknown
        return held.fresh if age < keeping.keep else held.stale

    def _remember(self, credential: str, digest: str, entry: Mapping[str, object] | None) -> LookedUp:
        now = self._timer()
        if entry is None:
            self._known.pop(credential, None)
            return self._remember_absent(credential, _NOT_LISTED)
        self._absent.pop(credential, None)
        held = _Held(LookedUp(entry), LookedUp(entry, Freshness.STALE), digest, now, now)
        self._known[credential] = held
        self._known.move_to_end(credential)
        if len(self._known) > self._keeping.most:
            self._known.popitem(last=False)
        return held.fresh

    def _remember_absent(self, credential: str, said: LookedUp) -> LookedUp:
        self._absent[credential] = (self._timer() + self._keeping.absent, said)
        self._absent.move_to_end(credential)
        if len(self._absent) > self._keeping.most:
            self._absent.popitem(last=False)
        return said
