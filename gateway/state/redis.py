"""State in Redis: shared by every worker and replica. One batch is one script, one atomic step; one request, one round trip.

The script (`batch.lua`) does what `memory` does, at the time that is in the batch; neither Redis' clock nor this
machine's decides anything. What cannot be the same:

- Redis forgets a key after twice its window and a minute of *real* time: recorded time that runs slower than that
  belongs in memory;
- events later than `operations.LATENESS` may find a key in Redis that memory has forgotten, and memory's `max_keys` has
  no counterpart: how much Redis holds, and what it does when full, is Redis' own setting (use `noeviction`: then a
  full Redis is an error that shows, not a limit that is forgotten).

A batch that timed out may still have been counted. What it took of requests, tokens and money stays taken until it leaves the
window, because giving back what was perhaps never taken would make room: limits then admit too little, never too much. Leases
are given back by their owner's name, which makes no room that was not taken; `owed` says when.

**A cluster.** One batch is one atomic step over all its keys, and a cluster does that within one slot only. So all keys of an
installation carry its prefix as their hash tag and lie on one node: a cluster makes them survive that node, and lets
installations with other prefixes live on others, but does not spread the load of one. Any node may be named; the URL says
database 0.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.breaker import Breaker
from gateway.errors import StateError
from gateway.state.operations import Batch, Reply
from gateway.state.trips import QUIET, Connection, Node, Trips
from gateway.state.wire import Wire, read
from gateway.tally import Histogram


class RedisState:
    """Windows and limits that every process with the same Redis and `prefix` shares.

    url: redis://, rediss:// or unix://. timeout: seconds a batch may take, connecting included, and as long again where it
    first waits for what another one finds. quiet: seconds for which a batch that has time waits for another one. How batches go
    together, and what happens while Redis does not answer, is `trips`.
    """

    local = False

    def __init__(self, url: str, *, timeout: float = 0.25, prefix: str = "sluice", quiet: float = QUIET) -> None:
        """Raises StateError when the URL is not one of Redis, or the prefix cannot be a hash tag."""
        if not prefix or set(prefix) & set("{}"):
            raise StateError("the state's prefix is a hash tag in Redis' keys: write it without braces, and not empty")
        try:
            pool = ConnectionPool.from_url(
                url, socket_timeout=None, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2,
                driver_info=None,
            )  # fmt: skip
            opened = partial(_opened, pool)
            opened(None)  # opens nothing, but finds options that do not exist
        except (TypeError, ValueError):
            raise StateError("the state's URL is not one of Redis: write redis://host:6379/0") from None
        script = files("gateway.state").joinpath("batch.lua").read_bytes()
        self._where = _where(pool.connection_kwargs)
        self._wire = Wire(script, prefix)
        self._trips = Trips(opened, self._wire.in_full, timeout, self._where, quiet)

    @property
    def trips(self) -> int:
        """Round trips so far."""
        return self._trips.trips

    @property
    def latency(self) -> Histogram:
        """How long round trips took, in seconds."""
        return self._trips.latency

    @property
    def where(self) -> str:
        """Its address, without user and password."""
        return self._where

    @property
    def breaker(self) -> Breaker:
        """Whether it is asked now."""
        return self._trips.breaker

    async def apply(self, batch: Batch) -> Reply:
        """Every operation of the batch, at the batch's time. Raises StateError, within the time-out, when that fails.

        An empty batch changes nothing and finds out whether Redis answers.
        """
        return self._read(batch, await self._trips.ask(self._wire.command(batch)))

    async def later(self, batch: Batch) -> Reply:
        """`apply` for what has time: it waits a few milliseconds for another batch to go with."""
        return self._read(batch, await self._trips.ask(self._wire.command(batch), later=True))

    def health(self) -> dict[str, object]:
        """problem: the last failure, until the next success."""
        return {"kind": "redis", "where": self._where, "problem": self._trips.problem}

    async def close(self) -> None:
        """Send what waits to be sent, and end the connection."""
        await self._trips.close()

    def _read(self, batch: Batch, answer: bytes) -> Reply:
        try:
            return read(batch, answer)
        except (ValueError, AttributeError):  # not what the script writes, whoever wrote it
            self._trips.problem = f"Redis at {self._where} gave an answer that cannot be read"
            raise StateError(self._trips.problem) from None


def _opened(pool: ConnectionPool, node: Node | None) -> Connection:
    """A connection that is not connected yet: to the place of the URL, or to a node that a cluster named."""
    place = {} if node is None else {"host": node[0] or pool.connection_kwargs.get("host"), "port": node[1]}
    connection: Connection = pool.connection_class(**{**pool.connection_kwargs, **place})
    return connection


def _where(options: dict[str, object]) -> str:
    """The address, without user and password."""
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
