"""Sweeps of a pool: every so often a few of its accounts are asked, one after the other, whether they still work."""

from __future__ import annotations

from typing import Final

import numpy as np

from gateway.simulate.drawing import Numbers, mixed, salt
from gateway.simulate.flow import Columns
from gateway.simulate.people import HOUR, People
from gateway.simulate.table import Scenario, Tables
from gateway.values import SECOND

BATCH: Final = 20  # accounts of one sweep at 1:1
_APART: Final = 3 * SECOND // 10


class Probes:
    """The probes of one scenario; all come from its first network. scale: how far the batch is thinned out."""

    def __init__(self, scenario: Scenario, people: People, number: int, tables: Tables, seed: int, scale: float) -> None:
        assert scenario.probes is not None, "only scenarios with probes have any"
        self.people, self.number, self.every = people, number, scenario.probes
        self.base = salt(seed, scenario.id, "probes")
        self.batch = BATCH / scale
        self.kind = list(tables.kinds).index("probe")
        self.client = list(tables.clients).index("relay-rewriting")
        self.ends = people.begins + people.size.window

    def slice(self, begins: int, ends: int) -> Columns | None:
        """The probes from one full hour to another; None where there are none."""
        first, last = (max(0, -(-(min(at, self.ends) - self.people.begins) // self.every)) for at in (begins, ends))
        number = np.arange(int(first * self.batch), int(last * self.batch))
        if not len(number):
            return None
        sweep = ((number + 1) / self.batch).astype(np.int64)
        sweep -= (sweep * self.batch).astype(np.int64) > number
        place = number - (sweep * self.batch).astype(np.int64)
        at = self.people.begins + sweep * self.every + place * _APART
        slot = number % self.people.slots
        holder, banned = self.people.holder(slot, at)
        return self._columns(at, holder, np.where(banned > 0, 403, 200))

    def _columns(self, at: Numbers, holder: Numbers, status: Numbers) -> Columns:
        people, count = self.people, len(at)
        root = mixed(self.base, at)
        none, words = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.uint64)
        return {
            "at": at, "scenario": np.full(count, self.number), "account": people.first + holder,
            "client": np.full(count, self.client), "kind": np.full(count, self.kind), "text": none, "turn": none, "root": root,
            "item": root, "network": np.full(count, people.networks), "host": np.full(count, 9),
            "connection": mixed(self.base, at // HOUR), "user": words, "forwarded": none.astype(bool), "model": none,
            "status": status, "retry": none, "output": np.full(count, 9), "signature": words, "issued": words,
        }  # fmt: skip
