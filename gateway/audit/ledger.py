"""The ledger: records appended to segments, each tied to the one before, and segments gathered under roots that are chained.

Written by one thread of one process. `add` ties records to the chain and holds them; `write` hands what is held to the system,
and goes on at the very byte where a full disk stopped it; `tend` forces to the disk what is due, closes a segment that is large
or old enough, and drops those that are older than is kept.

What a crash can lose, and where it shows: `kill -9` loses what was taken and not yet written, a power failure also what was
written since the last sync. How many were taken stands in a page shared with the system, which outlives the process, so the
next start knows how many are missing and says so in the line that closes the segment, with the bytes of a torn line it cut.
Every start begins a new segment.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any, Final

from gateway.audit.chain import START, Tree, leaf, link, with_hex
from gateway.audit.roots import Roots, Signer
from gateway.audit.segments import TAKEN, journal, segment_file, segments, walk
from gateway.errors import ConfigError, Place, Problem
from gateway.values import SECOND, parse_timestamp, timestamp_text

if sys.platform != "win32":
    import fcntl

MOST_CHAINS: Final = 256
_COUNT: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How a ledger is kept. sync: µs between two syncs, 0 for one after each write. size: bytes, and every: µs, after which a
    segment is closed. retain: µs after which a closed segment is dropped, 0 for never. signer: signs what closes a segment.
    """

    sync: int = SECOND // 5
    size: int = 64 * 2**20
    every: int = 86_400 * SECOND
    retain: int = 0
    signer: Signer | None = None


@dataclass(slots=True)
class _Segment:
    """The segment that is open. head: the hash of its last record, or the root that its first one follows. first, last: µs."""

    number: int
    head: bytes
    tree: Tree = field(default_factory=Tree)
    first: int = 0
    last: int = 0
    size: int = 0

    def tie(self, at: int, found: bytes) -> None:
        """Tie a record to the chain, by its leaf."""
        self.head = link(self.head, found)
        self.tree.add(found)
        self.first, self.last = min(self.first or at, at), max(self.last, at)

    def plain(self) -> dict[str, Any]:
        """What the line says that closes it."""
        first, last = (timestamp_text(at) if at else None for at in (self.first, self.last))
        counted = {"segment": self.number, "records": self.tree.count, "first": first, "last": last}
        return {**counted, "head": self.head.hex(), "tree": self.tree.root.hex()}


class Ledger:
    """Appends records to a chain of its own below a folder: the first that no other process writes to.

    Raises ConfigError where the folder cannot be written.

    written: records that are in the file since the start. lost: those that an earlier process took and never wrote; torn: bytes
    of what it left that is no whole record; unrecorded: decisions that found no place. Each stands in the journal, too.
    """

    def __init__(self, folder: Path, settings: LedgerSettings | None = None) -> None:
        self.settings = settings or LedgerSettings()
        self.written = self.lost = self.unrecorded = self.torn = 0
        self._said: dict[str, int] = {}
        self._held: deque[tuple[bytes, int]] = deque()
        self._held_bytes = self._offset = 0
        self._file: int | None = None
        self._segment = _Segment(1, START)
        self._unsynced, self._synced, self._opened = False, 0, 0
        try:
            self.folder, self._taken_file = _claim(folder)
            self._page = mmap(self._taken_file, _COUNT.size)
            self._roots = Roots(self.folder, self.settings.signer)
            self._recover()
        except OSError as error:
            mend = "name a folder that can be written, in which nothing else is"
            raise ConfigError([Problem(Place(str(folder)), f"cannot hold audit records: {error.strerror}", mend)]) from None

    @property
    def held(self) -> int:
        """Bytes that are tied to the chain and not yet written."""
        return self._held_bytes

    def count(self, taken: int) -> None:
        """Note how many decisions were taken since the start; it stands there also when this process is killed."""
        _COUNT.pack_into(self._page, 0, self._before + taken)

    def add(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Tie records to the chain: each its time (µs) and its JSON, without a line end."""
        lines = []
        for at, body in records:
            self._segment.tie(at, leaf(body))
            lines.append(with_hex(body, b"hash", self._segment.head))
        if not lines:
            return
        text = b"\n".join([*lines, b""])
        self._held.append((text, len(lines)))
        self._held_bytes += len(text)

    def write(self) -> None:
        """Hand what is held to the system. Raises OSError where it refuses; what is left is held for the next time."""
        while self._held:
            text, count = self._held[0]
            if self._file is None:
                self._begin()
            assert self._file is not None
            while self._offset < len(text):
                done = os.write(self._file, memoryview(text)[self._offset :])
                self._offset += done
                self._segment.size += done
                self._unsynced = True
            self._held.popleft()
            self._held_bytes -= len(text)
            self._offset = 0
            self.written += count

    def tend(self) -> None:
        """Do what is due: sync, close the segment, drop old ones. Raises OSError."""
        now = time.monotonic_ns() // 1_000
        if self._unsynced and now - self._synced >= self.settings.sync:
            self._sync(now)
        full = self._segment.size >= self.settings.size or now - self._opened >= self.settings.every
        if self._file is not None and not self._held and full:
            self.seal()

    def seal(self, end: str = "closed") -> None:
        """Close the segment. Raises OSError, and leaves it open then."""
        assert self._file is not None
        self._sync(time.monotonic_ns() // 1_000)
        news = {name: count - self._said.get(name, 0) for name, count in self._rare.items()}
        self._roots.say({**self._segment.plain(), "end": end, **{name: count for name, count in news.items() if count}})
        self._said = self._rare
        os.close(self._file)
        self._file = None
        self._drop(self._segment.last)
        self._segment = _Segment(self._segment.number + 1, self._roots.root)

    def rest(self) -> None:
        """Write what is held and close the segment; the next record begins another. Raises OSError."""
        self.write()
        if self._file is not None:
            self.seal()

    def act(self, entry: dict[str, Any]) -> None:
        """Put in the journal, between two segments, what an operator did. Raises OSError."""
        self.rest()
        self._roots.say(entry)
        self._segment = _Segment(self._segment.number, self._roots.root)

    def close(self) -> None:
        """`rest`, and let others write. Raises OSError."""
        try:
            self.rest()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._page.close()
            self._roots.close()
            os.close(self._taken_file)

    def health(self) -> dict[str, object]:
        told: dict[str, object] = {"chain": self.folder.name, "segment": self._segment.number, "root": self._roots.root.hex()}
        told["held_bytes"] = self._held_bytes
        return told | {name: value for name, value in self._rare.items() if value}

    @property
    def _rare(self) -> dict[str, int]:
        return {"lost": self.lost, "torn": self.torn, "unrecorded": self.unrecorded}

    def _begin(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        self._file = os.open(segment_file(self.folder, self._segment.number), flags, 0o600)
        self._opened = time.monotonic_ns() // 1_000
        _sync_folder(self.folder)

    def _sync(self, now: int) -> None:
        if self._file is not None:
            os.fsync(self._file)
        self._unsynced, self._synced = False, now

    def _drop(self, newest: int) -> None:
        """Drop segments whose last record is older, by the newest one (µs), than is kept. The journal says so first."""
        if not self.settings.retain or not newest:
            return
        oldest = newest - self.settings.retain
        there = segments(self.folder)
        for line in list(journal(self.folder)):
            number = line.segment
            if number in there and line.entry["last"] and parse_timestamp(line.entry["last"]) < oldest:
                self._roots.say({"dropped": number, "records": line.entry["records"], "before": timestamp_text(oldest)})
                there[number].unlink()

    def _recover(self) -> None:
        """Find where the chain stands, and close what an earlier process left open."""
        closed = [line for line in self._roots.lines if line.segment is not None]
        number, total = max((line.segment or 0 for line in closed), default=0), sum(line.entry["records"] for line in closed)
        there = segments(self.folder)
        for one in {line.dropped or 0 for line in self._roots.lines} & there.keys():  # said to be dropped just before a crash
            there.pop(one).unlink()
        left_open = [one for one in there if one > number]
        taken = _COUNT.unpack_from(self._page)[0]
        for one in left_open:
            self._segment = _Segment(one, self._roots.root)
            total += self._mend(there[one], max(0, taken - total) if one == left_open[-1] else 0)
        if not left_open and taken > total:
            self.lost = taken - total
        self._segment = _Segment(max([number, *left_open]) + 1, self._roots.root)
        self._before = total
        self.count(0)

    def _mend(self, file: Path, taken: int) -> int:
        """Close a segment that was left open: cut what is no whole record, and keep it aside. How many records it holds."""
        good = 0
        with file.open("rb") as lines:
            for line in walk(lines, self._roots.root):
                if not line.follows or not line.whole:
                    break
                self._segment.tie(parse_timestamp(json.loads(line.body)["at"]), line.leaf)
                good += len(line.text)
        cut = file.stat().st_size - good
        self.torn += cut
        if cut:
            with file.open("rb") as lines:
                lines.seek(good)
                _keep(file.with_suffix(".torn"), lines.read())
            os.truncate(file, good)
        count = self._segment.tree.count
        self.lost += max(0, taken - count)
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND)
        self.seal("recovered")
        return count


def _claim(folder: Path) -> tuple[Path, int]:
    """The first chain of a folder that no other process writes to, and the file that says it is ours while it is open."""
    for number in range(1, MOST_CHAINS + 1):
        chain = folder / str(number)
        chain.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(chain / TAKEN, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        if os.fstat(file).st_size < _COUNT.size:
            os.ftruncate(file, _COUNT.size)
        return chain, file
    mend = "give each gateway a folder of its own"
    raise ConfigError([Problem(Place(str(folder)), f"{MOST_CHAINS} processes write to this ledger", mend)])


def _keep(file: Path, rest: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(rest)


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file survive a power failure."""
    if sys.platform == "win32":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
