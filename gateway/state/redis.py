"""State in Redis: shared by every worker and replica. One batch is one script, one round trip, one atomic step.

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

Every key goes through KEYS, but no hash tag ties the keys of a batch to one slot: this is for one Redis (with replicas, if
wished), not yet for a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.decision import Room
from gateway.errors import StateError
from gateway.state.holdings import grid
from gateway.state.limits import needed
from gateway.state.operations import (
    NO_ZERO,
    SLICES,
    Batch,
    Count,
    Limit,
    Recall,
    Reply,
    Sight,
    Take,
    Unit,
    Window,
    bin_of,
    bounded,
    edge_of,
    joined,
)
from gateway.state.recalled import places_of, slice_of
from gateway.values import SECOND, AtLeast

CONNECTIONS: Final = 32
_SLACK: Final = 60 * SECOND
_LONGEST: Final = 200
_MILLISECOND: Final = 1_000
_SHARE_PARTS: Final = (b"w", b"wt", *(b"w%d" % ring for ring in range(SLICES)))


class RedisState:
    """Windows and limits that every process with the same Redis and `prefix` shares.

    url: redis://, rediss:// or unix://. timeout: seconds a batch may take, connecting and waiting for one of the
    `CONNECTIONS` included. Nothing is tried twice. While Redis does not answer, one batch at a time finds out
    whether it does again; the others wait for what that one finds.
    """

    local = False

    def __init__(self, url: str, *, timeout: float = 0.25, prefix: str = "sluice") -> None:
        """Raises StateError when the URL is not one of Redis."""
        self._prefix = prefix
        self._timeout = timeout
        self._problem = ""
        self._probe: asyncio.Event | None = None
        try:
            pool = BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, timeout=None, socket_timeout=None, socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0), protocol=2, driver_info=None,
            )  # fmt: skip
            pool.connection_class(**pool.connection_kwargs)  # opens nothing, but finds options that do not exist
        except (TypeError, ValueError):
            raise StateError("the state's URL is not one of Redis: write redis://host:6379/0") from None
        self._where = _where(pool.connection_kwargs)
        self._redis = Redis.from_pool(pool)
        script = files("gateway.state").joinpath("batch.lua").read_bytes()
        self._script: Callable[[list[bytes], list[bytes]], Awaitable[bytes]] = self._redis.register_script(script)

    async def apply(self, batch: Batch) -> Reply:
        """Every operation of the batch, at the batch's time. Raises StateError, within the time-out, when that fails.

        An empty batch changes nothing and finds out whether Redis answers.
        """
        keys, arguments = written(batch, self._prefix)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._ask(keys, arguments)
        except TimeoutError:
            self._problem = f"Redis at {self._where} did not answer within {self._timeout:g} s"
        except (RedisError, OSError) as error:
            self._problem = f"Redis at {self._where}: {error}"
        else:
            try:
                reply = read(batch, answer)
            except (ValueError, AttributeError):  # not what the script writes, whoever wrote it
                self._problem = f"Redis at {self._where} gave an answer that cannot be read"
            else:
                self._problem = ""
                return reply
        raise StateError(self._problem)

    def health(self) -> dict[str, object]:
        """problem: the last failure, until the next success."""
        return {"kind": "redis", "where": self._where, "problem": self._problem}

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, keys: list[bytes], arguments: list[bytes]) -> bytes:
        if not self._problem:
            return await self._script(keys, arguments)
        if self._probe is not None:
            await self._probe.wait()
            if self._problem:
                raise StateError(self._problem)
            return await self._script(keys, arguments)
        self._probe = probe = asyncio.Event()
        try:
            answer = await self._script(keys, arguments)
            self._problem = ""
            return answer
        finally:
            self._probe = None
            probe.set()


def written(batch: Batch, prefix: str) -> tuple[list[bytes], list[bytes]]:
    """The keys and arguments of the script for a batch; `batch.lua` says how it reads them."""
    keys: list[bytes] = []
    texts: list[bytes] = []
    words = [f"{SLICES} {batch.at} {max(batch.at, batch.over)} {len(batch.returns)}"]
    for take, at in batch.returns:
        keys.append(_limit_key(prefix, take))
        words.append(f"{_take(take, at, take.cost, texts)} {at}")
    words.append(str(len(batch.sights)))
    for sight in batch.sights:
        keys += _window_keys(prefix, sight)
        words.append(_sight(sight, batch.at, texts))
    for takes in (batch.takes, batch.shadow_takes):
        words.append(str(len(takes)))
        for take in takes:
            keys.append(_limit_key(prefix, take))
            words.append(_take(take, batch.at, needed(take, takes), texts))
    words.append(str(len(batch.recalls)))
    for recall in batch.recalls:
        keys.append(b"%b:r%b" % (prefix.encode(), _short("/", joined((recall.name, *recall.key)))))
        words.append(_recall(recall, batch.at))
    return keys, [" ".join(words).encode(), *texts]


def read(batch: Batch, answer: bytes) -> Reply:
    """The reply to a batch from the script's numbers. Raises ValueError where they are not what the batch asked for."""
    found = [int(number) for number in answer.split()]
    if len(found) != 2 * len(batch.sights) + 3 * len(batch.takes) + 3 * len(batch.shadow_takes) + len(batch.recalls):
        raise ValueError(f"{len(found)} numbers")
    numbers = iter(found)
    readings = [_reading(sight.window.kind, next(numbers), next(numbers)) for sight in batch.sights]
    rooms = [_room(take.limit, next(numbers), next(numbers), next(numbers)) for take in batch.takes]
    shadow = [_room(take.limit, next(numbers), next(numbers), next(numbers)) for take in batch.shadow_takes]
    return Reply(readings, rooms, shadow, [next(numbers) for _ in batch.recalls])


def _sight(sight: Sight, at: int, texts: list[bytes]) -> str:
    window, counted = sight.window, "-"
    if sight.value is not None:
        if window.kind in (Count.COUNT, Count.SUM):
            counted = str(bounded(int(sight.value)))
        else:
            counted = "="
            texts.append(_text(window, sight.value))
    most = window.rank if window.kind is Count.QUANTILE else window.cap
    return f"{window.kind} {window.slice_of(at)} {_expiry(window.length)} {most} {counted}"


def _text(window: Window, value: int | str) -> bytes:
    return str(bin_of(int(value))).encode() if window.kind is Count.QUANTILE else _short(":", str(value))


def _take(take: Take, at: int, need: int, texts: list[bytes]) -> str:
    """A take's words: how it is kept, amount, units needed in all and by itself, period, expiry, and where it lies.

    The last two are the end of the grid cell for requests; for a bucket, the length of its slices and how many its window
    covers. A lease names its owner among the texts.
    """
    limit = take.limit
    period = limit.period * SECOND
    words = f"{limit.amount} {bounded(need)} {bounded(take.cost)} {period} {_expiry(period)}"
    if limit.unit is Unit.CONCURRENT:
        texts.append(take.owner.encode())
        return f"lease {words} 0 0"
    if limit.unit is not Unit.REQUESTS:
        length, covered = grid(limit)
        return f"bucket {words} {length} {covered}"
    return f"{limit.pace} {words} {(at // period + 1) * period} 0"


def _recall(recall: Recall, at: int) -> str:
    """A recall's words: whether it keeps, its slice, expiry, how many marks, and of each the place and the tag."""
    marks = " ".join(f"{place} {tag}" for place, tag in places_of(recall))
    return f"{int(recall.keep)} {slice_of(recall, at)} {_expiry(recall.length)} {len(recall.marks)} {marks}"


def _reading(kind: Count, first: int, second: int) -> int | float | AtLeast | None:
    if kind is Count.QUANTILE:
        return edge_of(first) if second else None
    if kind is Count.TOP_SHARE:
        return first / second if second else None
    return AtLeast(first) if second else first


def _room(limit: Limit, allowed: int, remaining: int, resets_at: int) -> Room:
    return Room(limit.id, allowed == 1, remaining, resets_at, limit.shadow)


def _window_keys(prefix: str, sight: Sight) -> list[bytes]:
    name = _short("/", joined((sight.window.digest, *sight.key)))
    if sight.window.kind not in NO_ZERO:
        return [b"%b:w%b" % (prefix.encode(), name)]
    return [b"%b:%b%b" % (prefix.encode(), part, name) for part in _SHARE_PARTS]


def _limit_key(prefix: str, take: Take) -> bytes:
    limit = take.limit
    kind = "shadow" if limit.shadow else "live"
    if limit.unit is Unit.REQUESTS:
        name = joined((kind, str(limit.amount), str(limit.period), limit.pace, limit.id, *take.key))
    else:
        name = joined((kind, limit.unit, str(limit.period), limit.pace, limit.id, *take.key))
    return b"%b:l%b" % (prefix.encode(), _short("/", name))


def _short(mark: str, text: str) -> bytes:
    """The text after a mark, or the hash of a long one after another mark. Lone surrogates, which JSON can carry, stay."""
    raw = text.encode("utf-8", "surrogatepass")
    return mark.encode() + raw if len(raw) <= _LONGEST else b"#" + blake2b(raw, digest_size=20).hexdigest().encode()


def _expiry(length: int) -> int:
    """Real milliseconds after which Redis may forget what belongs to a window of this length (µs)."""
    return (2 * length + _SLACK) // _MILLISECOND


def _where(options: dict[str, object]) -> str:
    """The address, without user and password."""
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
