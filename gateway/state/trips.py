"""Trips to Redis: commands go out together on one connection, and their answers come back in order.

**One round trip for a request.** What is judged leaves at once, with everything that was asked in the same turn of the event
loop. What is settled has time: it waits for the next command that has none, rides in front of it, and leaves alone after
`QUIET` seconds or when `RIDING` commands wait. So a request that is judged and settled costs one round trip, however many are
under way. Everything leaves in the order in which it was asked, once; `close` sends at once what still waits.

**When Redis does not answer.** A trip that fails ends the connection, all trips that are under way on it, and what waits: they
fail alike, and nothing is sent twice. From then on one command alone finds out whether Redis answers again, on a new
connection; the others wait for what it finds, and are not sent where it finds nothing. At most `MOST` commands wait. After some
such failures in a row the breaker opens: then commands fail at once, and one finds out when it has rested.

**In a cluster** all keys lie in one slot, and any node says which one has it (`MOVED`), at the start and after a fail-over.
What was sent has done nothing then: it goes once more, to that node, when nothing is under way any more.

Redis-py opens the connection (addresses, TLS, passwords) and reads answers; its clients are not used, because they wait for one
answer before they send the next command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

from gateway.breaker import Breaker
from gateway.errors import StateError
from gateway.tally import Histogram

QUIET: Final = 0.005
RIDING: Final = 64
MOST: Final = 10_000
MOVES: Final = 3
REST: Final = 0.5
LONGEST: Final = 5.0
FAST: Final = (0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0)
Node = tuple[str, int]


class Connection(Protocol):
    """What is used of redis-py's connections."""

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def can_read(self) -> bool: ...

    async def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    async def read_response(self, disable_decoding: bool = False, *, disconnect_on_error: bool = True) -> object: ...


@dataclass(slots=True)
class _Asked:
    """A command and where its answer goes. moves: how often it was sent elsewhere."""

    command: bytes
    answer: asyncio.Future[bytes]
    moves: int = 0


class Trips:
    """Sends commands and hands out their answers.

    opened: a new connection, not yet connected, to the node of a cluster where one is given. in_full: a command with the text
    of the script that it only names; so it is sent again to a Redis that does not know the script, and has done nothing.
    timeout: seconds that a trip may take, connecting included. where: the address, for messages. quiet: seconds that what has
    time waits at most. problem: the last failure, until the next success. trips: how many so far;
    latency: of those that were answered, in seconds.
    """

    def __init__(
        self,
        opened: Callable[[Node | None], Connection],
        in_full: Callable[[bytes], bytes],
        timeout: float,
        where: str,
        quiet: float = QUIET,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = ""
        self.breaker, self.latency, self._now = Breaker(now, rest=REST, longest=LONGEST), Histogram(FAST), now
        self.trips = 0
        self._opened, self._in_full = opened, in_full
        self._timeout, self._where, self._patience = timeout, where, quiet
        self._waiting: list[_Asked] = []
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._line: Connection | None = None
        self._node: Node | None = None
        self._down = self._held = self._leaving = self._moving = False
        self._quiet: asyncio.TimerHandle | None = None

    async def ask(self, command: bytes, *, later: bool = False) -> bytes:
        """The answer to a command; `later` says that it may wait for another one. Raises StateError, which `problem` keeps."""
        if self.breaker.wait:  # once it has rested, one command finds out, and the others wait for what it finds
            raise StateError(f"{self.problem or f'Redis at {self._where} failed'}; asked again in {self.breaker.wait:.1f} s")
        if len(self._waiting) >= MOST:
            raise StateError(f"Redis at {self._where}: {MOST} batches wait for it already")
        loop = asyncio.get_running_loop()
        asked = _Asked(command, loop.create_future())
        self._waiting.append(asked)
        if later and len(self._waiting) < RIDING:
            self._quiet = self._quiet or loop.call_later(self._patience, self._leave)
        elif not self._leaving:
            self._leaving = True
            loop.call_soon(self._leave)
        return await asked.answer

    async def close(self) -> None:
        """Send what waits, wait for what is under way, and end the connection."""
        while self._waiting or self._under_way:
            self._leave()
            await asyncio.wait(list(self._under_way))
        if self._line is not None:
            line, self._line = self._line, None
            await line.disconnect()

    def _leave(self) -> None:
        self._leaving = False
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        self._held = bool(self._under_way) and (self._down or self._moving or self._line is None)
        if not self._waiting or self._held:  # what is held leaves when the trip under way has found out
            return
        many = 1 if self._down else len(self._waiting)
        asked, self._waiting = self._waiting[:many], self._waiting[many:]
        before = next(reversed(self._under_way), None)
        trip = asyncio.ensure_future(self._travel(asked, before))
        self._under_way[trip] = None
        trip.add_done_callback(self._ended)

    def _ended(self, trip: asyncio.Task[None]) -> None:
        del self._under_way[trip]
        if self._held:
            self._leave()

    async def _travel(self, asked: list[_Asked], before: asyncio.Task[None] | None) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._answers(asked, before)
        except _LostError:  # as the trip before has told
            self._fail(asked)
        except TimeoutError:
            await self._lose(asked, f"Redis at {self._where} did not answer within {self._timeout:g} s")
        except (RedisError, OSError) as error:
            await self._lose(asked, f"Redis at {self._where}: {error}")
        except BaseException:  # the event loop ends: nobody waits in vain
            await self._lose(asked, f"Redis at {self._where} was given up")
            raise
        else:
            self._down, self.problem = False, ""
            self._hand_out(asked, answers)
            self.breaker.met(good=not self.problem, problem=self.problem)

    async def _answers(self, asked: Sequence[_Asked], before: asyncio.Task[None] | None) -> list[object]:
        """Send commands, and read their answers once those of the trip before have been read."""
        if self._line is not None and before is None and (self._moving or await self._ended_by_redis()):
            await self._line.disconnect(nowait=True)
            self._line = None
        self._moving = False
        line = self._line
        if line is None:
            line = self._opened(self._node)
            await line.connect()
            self._line = line
        self.trips += 1
        begun = self._now()
        await line.send_packed_command([b"".join([one.command for one in asked])], check_health=False)
        if before is not None:
            await asyncio.wait([before])
            if self._line is not line:
                raise _LostError
        answers = [await _answer(line) for _ in asked]
        self.latency.observe(self._now() - begun)
        return answers

    async def _ended_by_redis(self) -> bool:
        """Whether the connection was closed at its other end while nothing was under way."""
        assert self._line is not None
        try:
            return await self._line.can_read()
        except (RedisError, OSError):
            return True

    def _hand_out(self, asked: Sequence[_Asked], answers: Sequence[object]) -> None:
        again: list[_Asked] = []
        for one, answer in zip(asked, answers, strict=True):
            if isinstance(answer, NoScriptError):
                one.command = self._in_full(one.command)
                again.append(one)
            elif isinstance(answer, MovedError) and one.moves >= MOVES:
                self.problem = f"Redis at {self._where}: nodes of its cluster send us back and forth for slot {answer.slot_id}"
                self._fail([one])
            elif isinstance(answer, MovedError):
                one.moves += 1
                self._node, self._moving = (answer.host, answer.port), True
                again.append(one)
            elif isinstance(answer, bytes):
                if not one.answer.done():
                    one.answer.set_result(answer)
            else:
                self.problem = f"Redis at {self._where}: {answer}"
                self._fail([one])
        if again:
            self._waiting[:0], self._held = again, True

    async def _lose(self, asked: Sequence[_Asked], problem: str) -> None:
        """A trip failed: so does what waits, and what is under way behind it."""
        self._down, self.problem = True, problem
        self.breaker.met(good=False, problem=problem)
        waiting, self._waiting = self._waiting, []
        self._fail([*asked, *waiting])
        self._node = None  # the one that is configured knows where else the keys went
        line, self._line = self._line, None
        if line is not None:
            await line.disconnect(nowait=True)

    def _fail(self, asked: Sequence[_Asked]) -> None:
        for one in asked:
            if not one.answer.done():
                one.answer.set_exception(StateError(self.problem or f"Redis at {self._where}: the connection was lost"))


class _LostError(Exception):
    """The connection ended with the trip before."""


def packed(parts: Sequence[bytes]) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n%b" % (len(parts), bulk(parts))


def bulk(parts: Sequence[bytes]) -> bytes:
    """Some of the words of a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in parts])


async def _answer(line: Connection) -> object:
    """An answer, or the error that Redis answered with."""
    try:
        return await line.read_response(disable_decoding=True, disconnect_on_error=False)
    except ResponseError as error:
        return error
