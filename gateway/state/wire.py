"""How a batch and its answer are written for Redis: the words of `batch.lua`, and the command that carries them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b, sha1
from typing import Final

from gateway.decision import Room
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
from gateway.state.trips import bulk, packed
from gateway.values import SECOND, AtLeast

_SLACK: Final = 60 * SECOND
_LONGEST: Final = 200
_MILLISECOND: Final = 1_000
_FORMS: Final = 10_000
_SHARE_PARTS: Final = (b"w", b"wt", *(b"w%d" % ring for ring in range(SLICES)))


class Wire:
    """Writes commands for one script under one prefix. What it has to say of a window is made once and kept."""

    def __init__(self, script: bytes, prefix: str) -> None:
        self._prefix = b"{%b}" % prefix.encode()  # a cluster keeps all keys with one tag in one place
        self._named = [b"EVALSHA", sha1(script, usedforsecurity=False).hexdigest().encode()]
        self._told = [b"EVAL", script]
        self._forms: dict[str, _Form] = {}

    def command(self, batch: Batch) -> bytes:
        """The command that does a batch."""
        keys, arguments = self.written(batch)
        return packed([*self._named, b"%d" % len(keys), *keys, *arguments])

    def in_full(self, command: bytes) -> bytes:
        """A command with the script itself in place of its name."""
        return command.replace(bulk(self._named), bulk(self._told), 1)

    def written(self, batch: Batch) -> tuple[list[bytes], list[bytes]]:
        """The keys and arguments of the script for a batch; `batch.lua` says how it reads them."""
        keys: list[bytes] = []
        texts: list[bytes] = []
        words = [f"{SLICES} {batch.at} {max(batch.at, batch.over)} {len(batch.returns)}"]
        for take, at in batch.returns:
            keys.append(_limit_key(self._prefix, take))
            words.append(f"{_take(take, at, take.cost, texts)} {at}")
        words.append(str(len(batch.sights)))
        self._write(batch.sights, batch.at, keys, words, texts)
        for takes in (batch.takes, batch.shadow_takes):
            words.append(str(len(takes)))
            for take in takes:
                keys.append(_limit_key(self._prefix, take))
                words.append(_take(take, batch.at, needed(take, takes), texts))
        words.append(str(len(batch.recalls)))
        for recall in batch.recalls:
            keys.append(b"%b:r%b" % (self._prefix, _short(b"/", _raw(joined((recall.name, *recall.key))))))
            words.append(_recall(recall, batch.at))
        return keys, [" ".join(words).encode(), *texts]

    def _write(self, sights: list[Sight], at: int, keys: list[bytes], words: list[str], texts: list[bytes]) -> None:
        forms = self._forms
        named: dict[int, bytes] = {}  # dozens of sights share a few key objects
        for window, key, value in sights:
            form = forms.get(window.digest)
            if form is None:
                form = self._form(window)
            name = named.get(id(key))
            if name is None:
                name = named[id(key)] = _raw(joined(key))
            raw = form.name + name
            if len(raw) <= _LONGEST:
                keys += [begin + raw for begin in form.begins]
            else:
                short = _short(b"/", raw)[1:]
                keys += [begin[:-1] + b"#" + short for begin in form.begins]
            if value is None:
                counted = "-"
            elif form.adds:
                counted = "1" if value == 1 else str(bounded(int(value)))
            else:
                counted = "="
                texts.append(_text(window, value))
            words.append(f"{window.kind._value_} {at // form.slice} {form.tail} {counted}")

    def _form(self, window: Window) -> _Form:
        if len(self._forms) >= _FORMS:  # of policies that left
            self._forms.clear()
        parts = _SHARE_PARTS if window.kind in NO_ZERO else (b"w",)
        most = window.rank if window.kind is Count.QUANTILE else window.cap
        form = self._forms[window.digest] = _Form(
            _raw(joined((window.digest, ""))), [b"%b:%b/" % (self._prefix, part) for part in parts], window.length // SLICES,
            f"{_expiry(window.length)} {most}", window.kind in (Count.COUNT, Count.SUM),
        )  # fmt: skip
        return form


@dataclass(frozen=True, slots=True)
class _Form:
    """What is the same of all sights of a window: how its keys begin, µs of a slice, its last words, and whether it adds up."""

    name: bytes
    begins: list[bytes]
    slice: int
    tail: str
    adds: bool


def read(batch: Batch, answer: bytes) -> Reply:
    """The reply to a batch from the script's numbers. Raises ValueError where they are not what the batch asked for."""
    found = [int(number) for number in answer.split()]
    if len(found) != 2 * len(batch.sights) + 3 * len(batch.takes) + 3 * len(batch.shadow_takes) + len(batch.recalls):
        raise ValueError(f"{len(found)} numbers")
    told = 2 * len(batch.sights)
    readings: list[int | float | AtLeast | None] = found[:told:2]  # type: ignore[assignment]
    for place, sight in enumerate(batch.sights):
        second = found[2 * place + 1]
        if second or sight.window.kind in NO_ZERO:
            readings[place] = _reading(sight.window.kind, found[2 * place], second)
    numbers = iter(found[told:])
    rooms = [_room(take.limit, next(numbers), next(numbers), next(numbers)) for take in batch.takes]
    shadow = [_room(take.limit, next(numbers), next(numbers), next(numbers)) for take in batch.shadow_takes]
    return Reply(readings, rooms, shadow, [next(numbers) for _ in batch.recalls])


def _text(window: Window, value: int | str) -> bytes:
    return str(bin_of(int(value))).encode() if window.kind is Count.QUANTILE else _short(b":", _raw(str(value)))


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


def _limit_key(prefix: bytes, take: Take) -> bytes:
    limit = take.limit
    kind = "shadow" if limit.shadow else "live"
    if limit.unit is Unit.REQUESTS:
        name = joined((kind, str(limit.amount), str(limit.period), limit.pace, limit.id, *take.key))
    else:
        name = joined((kind, limit.unit, str(limit.period), limit.pace, limit.id, *take.key))
    return b"%b:l%b" % (prefix, _short(b"/", _raw(name)))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can carry lone surrogates


def _short(mark: bytes, raw: bytes) -> bytes:
    """The text after a mark, or the hash of a long one after another mark."""
    return mark + raw if len(raw) <= _LONGEST else b"#" + blake2b(raw, digest_size=20).hexdigest().encode()


def _expiry(length: int) -> int:
    """Real milliseconds after which Redis may forget what belongs to a window of this length (µs)."""
    return (2 * length + _SLACK) // _MILLISECOND
