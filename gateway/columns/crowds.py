"""How many keys a window has, so that columns are not asked where the state would have pushed keys out and read «at least N».

The state keeps a row of every key for some ticks after its last use (`gateway.state.windows`), notes each key once in a tick,
and with every event takes at least one of the notes that are due. So it never has more keys than the most notes that any
stretch of those ticks holds, and one more; while that is below its cap nothing is pushed out, and columns read as it does. That
is more than there are keys, by as many times as a key comes back in another tick: columns give up early, never late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gateway.columns.groups import Spans
from gateway.columns.values import Hashes, Ints
from gateway.errors import NotInColumnsError
from gateway.state.operations import Window
from gateway.state.windows import ticks_of

_SPARE: Final = 2  # the one more, and the key that an event is about to add


@dataclass(frozen=True, slots=True)
class Crowd:
    """The keys of windows of one length under some signals.

    ticks, counts: how many were noted in each tick that is still kept; last: the last one's keys.
    """

    ticks: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    last: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def joined(self, spans: Spans, window: Window, most: int) -> Crowd:
        """Those and the keys of a chunk. most: that the state keeps. Raises NotInColumnsError where they may be more."""
        per_tick, kept = ticks_of(window)
        tick = spans.slices // per_tick
        heads = np.flatnonzero(np.append(True, (tick[1:] != tick[:-1]) | (spans.groups.gid[1:] != spans.groups.gid[:-1])))
        heads, gid = heads[: len(tick)], spans.groups.gid
        if not len(heads):
            return self
        noted, keys = tick[heads], spans.groups.keys[gid[heads]]
        if len(self.ticks):  # the tick in which the chunk begins may have begun before it
            begun = np.flatnonzero(noted == self.ticks[-1])
            again = begun[np.isin(keys[begun], self.last)]
            noted, keys = np.delete(noted, again), np.delete(keys, again)
        ticks, places = np.unique(np.concatenate([self.ticks, noted]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([self.counts, np.ones(len(noted), np.int64)])).astype(np.int64)
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        crowds = running[1:] - running[np.searchsorted(ticks, ticks - kept)]
        if crowds.max(initial=0) + _SPARE > most:
            told = f"a window that may have more than {most:,} keys, of which the state forgets some (--max-keys keeps more)"
            raise NotInColumnsError(told)
        same = len(self.ticks) and ticks[-1] == self.ticks[-1]
        last = np.concatenate([self.last if same else self.last[:0], keys[noted == ticks[-1]]])
        still = ticks >= ticks[-1] - kept
        return Crowd(ticks[still], counts[still], last)


Crowds = dict[tuple[str, int], Crowd]  # by the signals of the key, and the length of the window


def crowded(crowds: Crowds, wanted: Iterable[tuple[str, Spans, Window]], most: int) -> Crowds:
    """All of them after a chunk. wanted: which windows there are, by name. Raises NotInColumnsError as `Crowd.joined` does."""
    found = {**crowds}
    for key, (spans, window) in {(name, window.length): (spans, window) for name, spans, window in wanted}.items():
        found[key] = crowds.get(key, Crowd()).joined(spans, window, most)
    return found
