"""Simulated traffic: the streams of the scenarios asked for, merged by time, in bounded memory, as rows or captures.

Time is cut into slices of whole hours, so long that about `ROWS` exchanges begin in one. Every slice is made of all streams,
ordered by time (then by stream), and written; conversations that go on wait in their streams. The same name, scale and seed
give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.registry import Registry
from gateway.replay.compact import VERSION
from gateway.simulate.captures import Capturing
from gateway.simulate.drawing import Words, salt
from gateway.simulate.flow import Columns, Stream, joined, phases, taken
from gateway.simulate.looks import Looks
from gateway.simulate.people import HOUR
from gateway.simulate.probes import Probes
from gateway.simulate.table import DAY, Scenario, Tables, chosen, tables
from gateway.simulate.world import World, world
from gateway.values import timestamp_text

ROWS: Final = 250_000
START: Final = 1_793_577_600_000_000  # 2026-11-02T00:00:00Z, a Monday


@dataclass(frozen=True, slots=True)
class Slice:
    """Exchanges in order of time. ids: the number of each in all of the traffic, from 0."""

    made: Columns
    ids: Words


class Traffic:
    """The exchanges of a scenario, or of a set of them. Raises ValueError for a name that is not known.

    scale: by how much it is divided, 1 or more; seed: another seed, other traffic of the same kind.
    """

    def __init__(self, name: str, scale: float, seed: int, start: int = START) -> None:
        self.tables: Tables = tables()
        self.scenarios = chosen(name)
        self.world: World = world(self.tables, scale, seed, start)
        self.prefix = salt(name, scale, seed, start)
        self.release = start + self.tables.release
        self.streams: list[Stream | Probes] = []
        numbers = list(self.tables.scenarios)
        for scenario in self.scenarios:
            self._add(scenario, numbers.index(scenario.id), scale, seed)

    def _add(self, scenario: Scenario, number: int, scale: float, seed: int) -> None:
        own = self.world.people[scenario.id]
        pools = [own] + ([self.world.people[scenario.borrows]] if scenario.borrows else [])
        whole = sum(pool.scenario.accounts for pool in pools)
        for pool in pools:
            part = own.size.exchanges * pool.scenario.accounts / whole
            for phase in phases(scenario, self.tables):
                for zone in range(min(scenario.zones, pool.slots)):
                    self.streams.append(Stream(scenario, pool, part, number, self.tables, seed, zone, phase, self.release))
        if scenario.probes:
            self.streams.append(Probes(scenario, own, number, self.tables, seed, scale))

    @property
    def expected(self) -> int:
        """About how many exchanges there will be."""
        return round(sum(self.world.people[one.id].size.exchanges for one in self.scenarios))

    def declarations(self) -> str:
        """What those who declare themselves would have in a `workloads.yaml`; the empty text where nobody does."""
        found = []
        for one in self.scenarios:
            if one.declared:
                pool = self.world.people[one.id]
                orgs = sorted({f"{int(org):016x}" for org in self.world.orgs[pool.first : pool.first + pool.accounts]})
                told = {
                    "id": f"simulated.{one.id.lower()}", "kind": one.declared, "orgs": json.dumps(orgs),
                    "from": timestamp_text(pool.begins), "until": timestamp_text(pool.begins + one.window + DAY),
                    "owner": "simulation", "evidence": f"scenario {one.id}",
                }  # fmt: skip
                found.append("  - " + "\n    ".join(f"{name}: {value}" for name, value in told.items()) + "\n")
        return "".join(["workloads:\n", *found]) if found else ""

    def slices(self) -> Iterator[Slice]:
        """The exchanges, a slice of time after the other."""
        begins = min(self.world.people[one.id].begins for one in self.scenarios) // HOUR * HOUR
        over = max(stream.ends for stream in self.streams)
        step = max(1, (over - begins) // HOUR * ROWS // max(1, self.expected)) * HOUR
        count = 0
        while True:
            found = [made for stream in self.streams if (made := stream.slice(begins, begins + step)) is not None]
            begins += step
            if found:
                made = joined(found)
                made = taken(made, np.argsort(made["at"], kind="stable"))
                yield Slice(made, np.arange(count, count + len(made["at"]), dtype=np.uint64))
                count += len(made["at"])
            if begins >= over and not any(isinstance(stream, Stream) and stream.waiting for stream in self.streams):
                return

    def compact(self, registry: Registry, hash_key: bytes) -> Iterator[Any]:
        """The exchanges as tables of compact records. Raises ImportError without the extra `columns`."""
        from gateway.simulate.columns import Compacting  # an extra

        compacting = Compacting(self.world, self.tables, Looks(registry, hash_key, self.tables), registry.signals)
        for part in self.slices():
            yield compacting.table(part.made, part.ids, self.prefix)

    def captures(self) -> Iterator[dict[str, Any]]:
        """The exchanges as captures: requests with headers and bodies."""
        capturing = Capturing(self.world, self.tables)
        for part in self.slices():
            yield from capturing.rows(part.made)


def lines(table: Any) -> Iterator[dict[str, Any]]:
    """A table of compact records as rows of JSON: what is missing is null."""
    for row in table.to_pylist():
        yield {"compact": VERSION, **row, "id": row["id"].hex()}
