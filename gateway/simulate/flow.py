"""The exchanges of a scenario, a slice of time after the other, as columns of numbers.

A stream is one time zone and one phase of a scenario. It deals conversations (roots) to accounts at the times of its clock and
lays out their turns; turns that fall behind the slice wait for theirs. Every column follows from the number of the root and of
the turn, so nothing depends on how time was sliced. `FIELDS` says what each column means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.simulate.drawing import Numbers, Words, among, by_share, mixed, salt, uniform
from gateway.simulate.people import HOUR, People, fewer
from gateway.simulate.rhythm import Clock
from gateway.simulate.table import DAY, Kind, Later, Order, Scenario, Tables
from gateway.values import SECOND

Columns = dict[str, npt.NDArray[Any]]
FIELDS: Final[Mapping[str, str]] = {
    "at": "µs since 1970", "scenario": "its number among all", "account": "its number among all accounts",
    "client": "its number among clients", "kind": "its number among kinds of prompt", "text": "variant and paraphrase",
    "turn": "of the model, from 0", "root": "the conversation", "item": "what it is filled with", "network": "its number",
    "host": "last byte of the address", "connection": "an id", "user": "an id of the end user",
    "forwarded": "whether the user's address is passed on", "model": "its number in MODELS", "status": "of the answer",
    "retry": "which retry the client says this is", "output": "tokens of the answer",
    "signature": "what is handed back, 0 for nothing", "issued": "what the answer issues, 0 for nothing",
}  # fmt: skip
MODELS: Final = ("large-2", "small-2", "large-3")
NEW: Final = 2


@dataclass(slots=True)
class Phase:
    """Kinds of prompts in use over a part of a scenario's window."""

    begins: float
    ends: float
    kinds: list[int]
    shares: list[float]


def phases(scenario: Scenario, tables: Tables) -> list[Phase]:
    """The phases of a scenario, in order."""
    names = list(tables.kinds)
    found: dict[tuple[float, float], Phase] = {}
    for use in scenario.prompts:
        span = (use["from"], use["until"])
        phase = found.setdefault(span, Phase(*span, [], []))
        phase.kinds.append(names.index(use["kind"]))
        phase.shares.append(use["share"])
    return list(found.values())


def turns_of(scenario: Scenario, kind: Kind) -> float:
    """How many turns the model takes in a conversation of a kind, on average."""
    return sum(scenario.turns) / 2 if kind.later is not Later.NONE else 1.0


class Stream:
    """One zone and phase of a scenario. roots: how many conversations there are."""

    def __init__(
        self, scenario: Scenario, people: People, exchanges: float, number: int, tables: Tables, seed: int, zone: int,
        phase: Phase, release: int,
    ) -> None:  # fmt: skip
        self.scenario, self.people, self.number, self.phase, self.release = scenario, people, number, phase, release
        self.tables, self.kinds, self.clients = tables, list(tables.kinds.values()), list(tables.clients)
        self.base = salt(seed, scenario.id, people.scenario.id, zone, phase.begins)
        self.zones = min(scenario.zones, people.slots)
        self.zone = zone
        self.slots = np.arange(zone, people.slots, self.zones)
        begins = people.begins + round(people.size.window * phase.begins)
        window = max(1, round(people.size.window * (phase.ends - phase.begins)))
        self.clock = Clock(scenario.rhythm, begins, window, 8 * zone, scenario.synchrony)
        weights = people.weights(np.arange(people.slots))
        self._edges = np.cumsum(weights[self.slots])
        share = weights[self.slots].sum() / weights.sum() * (phase.ends - phase.begins)
        self._turns = [turns_of(scenario, self.kinds[kind]) for kind in phase.kinds]
        self._by_root = [share / turns for share, turns in zip(phase.shares, self._turns, strict=True)]
        mean = sum(phase.shares) / sum(self._by_root)
        again = scenario.echo + scenario.limited
        self.roots = max(1, round(exchanges * share / mean / (1 + again)))
        self._waiting: Columns | None = None

    @property
    def ends(self) -> int:
        """When its last root begins, and the hour is over."""
        return self.clock.begins + self.clock.window

    @property
    def waiting(self) -> bool:
        """Whether conversations go on."""
        return self._waiting is not None

    def slice(self, begins: int, ends: int) -> Columns | None:
        """The exchanges from one time to another; slices must follow each other. None where there are none."""
        made = self._exchanges(*self._begun(begins, ends))
        if self._waiting is not None:
            made = joined([self._waiting, made]) if made is not None else self._waiting
        if made is None:
            return None
        ripe = made["at"] < ends
        self._waiting = taken(made, ~ripe) if not ripe.all() else None
        return taken(made, ripe) if ripe.any() else None

    def _begun(self, begins: int, ends: int) -> tuple[Numbers, Numbers]:
        """The numbers of the roots that begin in a slice, and when."""
        low, high = (int(self.clock.share(at) * self.roots) for at in (begins, ends))
        places = np.arange(max(0, low - 1), min(high + 1, self.roots))
        at = self.clock.times(places, self.roots, self.base)
        kept = (at >= begins) & (at < ends)
        return places[kept], at[kept]

    def _exchanges(self, places: Numbers, at: Numbers) -> Columns | None:
        if not len(places):
            return None
        scenario, base = self.scenario, self.base
        slot = self._slot(places)
        root = mixed(base, 3, places)
        item, kind = self._item(places, root)
        low, high = scenario.turns if len(scenario.turns) == 2 else (1, 1)
        several = np.asarray([one.later is not Later.NONE for one in self.kinds])[kind]
        turns = np.where(several, low + among(high - low + 1, base, 6, places), 1)
        row = np.repeat(np.arange(len(places)), turns)
        turn = np.arange(len(row)) - np.repeat(np.cumsum(turns) - turns, turns)
        pace = 0.6 + 0.8 * uniform(base, 7, places)
        later = at[row] + (turn * pace[row] * scenario.gap).astype(np.int64)
        later += (uniform(base, 8, root[row], turn) * 0.2 * scenario.gap).astype(np.int64)
        made = self._laid_out(later, slot[row], root[row], turn, item[row], kind[row])
        return self._again(made | self._signed(places[row], root[row], turn))

    def _slot(self, places: Numbers) -> Numbers:
        """The slot of each root. Round robin goes through all in turn; else by weight."""
        if self.scenario.order is Order.ROUND_ROBIN:
            return np.asarray(self.slots[places % len(self.slots)])
        drawn = (uniform(self.base, 2, places) * self._edges[-1]).astype(np.int64)
        return np.asarray(self.slots[np.searchsorted(self._edges, drawn, side="right")])

    def _item(self, places: Numbers, root: Words) -> tuple[Words, Numbers]:
        """What each root is filled with, and its kind: what comes again comes in the same frame."""
        scenario, base = self.scenario, self.base
        first = mixed(base, 9, places)
        again = mixed(base, 9, np.maximum(places - 1 - among(50, base, 10, places), 0))
        item = np.where(uniform(base, 11, places) < scenario.novelty, first, again)
        kind = np.asarray(self.phase.kinds)[by_share(self._by_root, uniform(base, 12, item))]
        for number in self.phase.kinds:
            count = scenario.items or self.kinds[number].items
            if count:
                one = mixed(salt("item", self.kinds[number].name), (places // len(self.slots)) % count)
                item = np.where(kind == number, one, item)
        return item, kind

    def _laid_out(self, at: Numbers, slot: Numbers, root: Words, turn: Numbers, item: Words, kind: Numbers) -> Columns:
        people, base = self.people, self.base
        scenario = self.scenario
        slot = self._hopped(slot, root, turn)
        if scenario.rotates:
            changed = people.begins + (people.size.window * (0.3 + 0.4 * uniform(people.base, 20, slot // 2))).astype(np.int64)
            slot = np.minimum(slot // 2 * 2 + (at >= changed), people.slots - 1)
        holder, banned = self._held(slot, at, root, turn)
        texts = np.asarray([one.texts for one in self.kinds])[kind]
        text = (uniform(base, 13, item) * texts).astype(np.int64)
        by_root = scenario.hop > 0 or scenario.egress["roaming"] is not None
        chooser = root if by_root else mixed(people.base, 21, holder)
        client = np.asarray([self.clients.index(name) for name in scenario.clients])[
            by_share(list(scenario.clients.values()), uniform(base, 14, chooser))
        ]
        network = people.network(holder, among(2**31, base, 15, root))
        if scenario.travel:
            away = uniform(people.base, 22, holder, at // (7 * DAY)) < scenario.travel
            network = np.where(away, people.networks + (holder * 7 + at // (7 * DAY)) % max(1, people.network_count), network)
        users = fewer(scenario.users, scenario, people.slots) if scenario.users else 0
        user = mixed(people.base, 23, among(users, base, 16, root)) if users else mixed(people.base, 24, holder)
        answer = np.asarray([one.answer for one in self.kinds])[kind]
        output = answer[:, 0] + (uniform(base, 17, root, turn) * (answer[:, 1] - answer[:, 0] + 1)).astype(np.int64)
        refused = uniform(base, 18, root, turn) < scenario.refused
        made: Columns = {
            "at": at, "scenario": np.full(len(at), self.number), "account": people.first + holder, "client": client,
            "kind": kind, "text": text, "turn": turn, "root": root, "item": item, "network": network,
            "host": 1 + among(250, people.base, 25, holder), "connection": mixed(people.base, 26, holder, client, at // HOUR),
            "user": user, "forwarded": uniform(base, 19, root) < scenario.forwarded,
            "model": self._model(at, holder, root, turn),
            "status": np.where(banned > 0, 403, 200), "retry": np.zeros(len(at), dtype=np.int64),
            "output": np.where(refused, 20 + output % 20, output),
        }  # fmt: skip
        return made

    def _held(self, slot: Numbers, at: Numbers, root: Words, turn: Numbers) -> tuple[Numbers, Numbers]:
        """The account of each slot; who was banned is tried for an hour more, and then another one takes the work."""
        holder, banned = self.people.holder(slot, at)
        gone = (banned > 0) & (at >= banned + HOUR)
        if gone.any():
            moved = np.where(gone, self._other(slot, root, turn + 2_000), slot)
            holder, banned = self.people.holder(moved, at)
        return holder, banned

    def _hopped(self, slot: Numbers, root: Words, turn: Numbers) -> Numbers:
        """The slot under which each turn is sent: of those that hop another one of the pool, or of the same owner."""
        scenario = self.scenario
        if not scenario.hop:
            return slot
        hops = (turn > 0) & (uniform(self.base, 30, root, turn) < scenario.hop)
        return np.where(hops, self._other(slot, root, turn), slot)

    def _other(self, slot: Numbers, root: Words, turn: Any) -> Numbers:
        people, scenario = self.people, self.scenario
        if scenario.hop_within and scenario.orgs:
            owners = fewer(scenario.orgs, scenario, people.slots)
            keys = -(-people.slots // owners)
            moved = slot % owners + owners * among(keys, self.base, 31, root, turn)
            return np.where(moved < people.slots, moved, slot)
        away = 1 + among(max(1, people.slots - 1), self.base, 31, root, turn)
        return (slot + away) % people.slots

    def _model(self, at: Numbers, holder: Numbers, root: Words, turn: Numbers) -> Numbers:
        """The model of each exchange: campaigns take the largest, others one of two; some move to the new one."""
        scenario = self.scenario
        small = uniform(self.people.base, 27, holder) < (0.0 if scenario.label == "distill" else 0.4)
        found = np.where(small, 1, 0)
        if scenario.new_model is None:
            return found
        since = np.clip((at - self.release) / max(1, scenario.new_model["within"]), 0, 1)
        moved = uniform(self.base, 28, root, turn) < since * scenario.new_model["share"]
        return np.where(moved & (at >= self.release), NEW, found)

    def _signed(self, places: Numbers, root: Words, turn: Numbers) -> Columns:
        """What is issued, and handed back: every first answer signs its reasoning, and some calls bring another account's."""
        none = np.zeros(len(root), dtype=np.uint64)
        if not self.scenario.signature:
            return {"signature": none, "issued": none}
        earlier = mixed(self.base, 33, np.maximum(places - 1 - among(40, self.base, 32, root), 0))
        used = uniform(self.base, 34, root, turn) < self.scenario.signature
        return {"signature": np.where(used, earlier, none), "issued": mixed(self.base, 33, places)}

    def _again(self, made: Columns) -> Columns:
        """What is refused comes again: under the same key after a while, or under another at once."""
        scenario, base = self.scenario, self.base
        root, turn = made["root"], made["turn"]
        drawn = uniform(base, 40, root, turn)
        limited = drawn < scenario.limited
        echoed = ((drawn >= scenario.limited) & (drawn < scenario.limited + scenario.echo)) | (made["status"] == 403)
        if not (limited.any() or echoed.any()):
            return made
        same, other = taken(made, limited), taken(made, echoed)
        same["at"] = same["at"] + ((5 + 15 * uniform(base, 41, same["root"], same["turn"])) * SECOND).astype(np.int64)
        same["retry"] = same["retry"] + 1
        made["status"] = np.where(
            limited, 429, np.where(echoed & (made["status"] == 200), scenario.echo_status, made["status"])
        )
        made["output"] = np.where(limited | echoed, 0, made["output"])
        return joined([made, same, self._elsewhere(other)])

    def _elsewhere(self, made: Columns) -> Columns:
        """The same calls under another account, within two seconds."""
        people, base = self.people, self.base
        delay = (0.2 + 1.8 * uniform(base, 42, made["root"], made["turn"])) * SECOND
        at = made["at"] + delay.astype(np.int64)
        slot = np.searchsorted(people.offset, made["account"] - people.first, side="right") - 1
        holder, _ = people.holder(self._other(slot, made["root"], made["turn"] + 1_000), at)
        network = people.network(holder, made["network"] - people.networks)
        return made | {
            "at": at, "account": people.first + holder, "network": network, "status": np.full(len(at), 200),
            "connection": mixed(people.base, 26, holder, made["client"], at // HOUR),
        }  # fmt: skip


def joined(parts: list[Columns]) -> Columns:
    """Some columns behind each other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}


def taken(made: Columns, rows: Any) -> Columns:
    """Some rows, chosen or ordered."""
    return {name: column[rows] for name, column in made.items()}
