"""Shared state on real nodes of a Redis cluster: one slot for all keys of an installation, found wherever it lies."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.errors import StateError
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Count, Limit, Pace, Recall, Reply, Sight, Take, Unit, Window
from gateway.state.redis import RedisState
from gateway.values import SECOND
from tests.state.conftest import PATIENT, Server
from tests.web.running import free_port

START = 1_793_500_000 * SECOND
SLOTS = 16_384
WINDOWS = [Window(str(kind), kind, 64 * SECOND, 10, 500_000) for kind in Count]
LIMITS = [
    Limit("one", 3, 10, pace, unit=unit)
    for unit, pace in [(Unit.REQUESTS, Pace.FIXED), (Unit.REQUESTS, Pace.MOVING), (Unit.TOKENS, Pace.MOVING)]
] + [Limit("slots", 2, 10, unit=Unit.CONCURRENT)]


class Cluster:
    """Two nodes, of which each has half of the slots."""

    def __init__(self, folder: Path) -> None:
        self.nodes = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "2000")
            self.nodes.append(Server(folder / name, *options))
        for node, slots in zip(self.nodes, ((0, SLOTS // 2 - 1), (SLOTS // 2, SLOTS - 1)), strict=True):
            node.start()
            assert node.command("CLUSTER", "ADDSLOTSRANGE", *map(str, slots)) == b"+OK\r\n"
        first, second = self.nodes
        assert second.command("CLUSTER", "SET-CONFIG-EPOCH", "2") == b"+OK\r\n"
        bus = second.options[3]
        assert first.command("CLUSTER", "MEET", "127.0.0.1", str(second.port), bus) == b"+OK\r\n"
        self.until(lambda: all(b"cluster_state:ok" in node.command("CLUSTER", "INFO") for node in self.nodes))

    def until(self, true: Callable[[], bool]) -> None:
        for _ in range(500):
            if true():
                return
            time.sleep(0.02)
        raise AssertionError("the cluster did not come to rest")

    def owner(self, prefix: str) -> int:
        """Which node has the slot of a prefix."""
        slot = int(self.nodes[0].command("CLUSTER", "KEYSLOT", prefix).strip().removeprefix(b":"))
        return int(slot >= SLOTS // 2)

    def give(self, prefix: str, to: int) -> None:
        """Move a slot to a node, emptied, as a fail-over moves full ones."""
        for node in self.nodes:
            node.command("FLUSHALL")
        slot = self.nodes[0].command("CLUSTER", "KEYSLOT", prefix).strip().removeprefix(b":").decode()
        name = re.search(rb"\r\n([0-9a-f]{40})\r\n", self.nodes[to].command("CLUSTER", "MYID"))
        assert name is not None
        for node in (self.nodes[to], self.nodes[1 - to]):
            assert node.command("CLUSTER", "SETSLOT", slot, "NODE", name[1].decode()) == b"+OK\r\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    for node in found.nodes:
        node.kill()


def batches() -> list[Batch]:
    """Every kind of operation, under several keys."""
    found = []
    for place in range(6):
        at = START + place * SECOND
        sights = [
            Sight(window, (account,), 1 if window.kind is Count.COUNT else 7 + place)
            for window in WINDOWS
            for account in ("a", "b", "}{")
        ]
        takes = [Take(limit, (account,), owner=f"{place}") for limit in LIMITS for account in ("a", "b")]
        returns = [(take, START) for take in takes] if place == 4 else []
        shadow = [Take(Limit("one", 1, 10, shadow=True), ("a",))]
        recalls = [Recall("said", 64 * SECOND, ("a",), (1, 2, 3), place % 2 == 0)]
        found.append(Batch(at, sights, takes, shadow, returns, recalls=recalls))
    return found


def answers(url: str, prefix: str) -> list[Reply]:
    async def use() -> list[Reply]:
        state = RedisState(url, timeout=PATIENT, prefix=prefix)
        try:
            return [await state.apply(batch) for batch in batches()]
        finally:
            await state.close()

    return asyncio.run(use())


@pytest.mark.parametrize("prefix", ["sluice", "other", "a:b"])
def test_a_cluster_answers_what_memory_answers_whichever_node_is_named(cluster: Cluster, prefix: str) -> None:
    memory = MemoryState()
    expected = [memory.apply(batch) for batch in batches()]
    for node in cluster.nodes:
        node.command("FLUSHALL")
    assert [answers(node.url, f"{prefix}{place}") for place, node in enumerate(cluster.nodes)] == [expected, expected]
    keys = [node.command("KEYS", "*").count(b"{") for node in cluster.nodes]
    assert sum(bool(found) for found in keys) == len({cluster.owner(f"{prefix}{place}") for place in range(2)})


def test_a_slot_that_moves_is_followed_and_no_batch_is_lost(cluster: Cluster) -> None:
    async def use() -> list[bool]:
        home = cluster.owner("moving")
        state = RedisState(cluster.nodes[home].url, timeout=PATIENT, prefix="moving")
        take = Take(Limit("one", 100, 3_600), ("a",))
        try:
            first = await asyncio.gather(*(state.apply(Batch(START, takes=[take])) for _ in range(20)))
            cluster.give("moving", 1 - home)
            then = await asyncio.gather(*(state.apply(Batch(START, takes=[take])) for _ in range(60)))
            last = await asyncio.gather(*(state.apply(Batch(START, takes=[take])) for _ in range(60)))
            assert state.health()["problem"] == ""
            return [reply.rooms[0].allowed for reply in (*first, *then, *last)]
        finally:
            await state.close()
            cluster.give("moving", home)

    found = asyncio.run(use())
    assert (found[:20], sum(found[20:])) == ([True] * 20, 100)


def test_nodes_that_send_each_other_on_are_an_error_that_says_so(cluster: Cluster) -> None:
    """While slots are moved, two nodes may each believe that the other has it."""

    async def use() -> None:
        home = cluster.owner("astray")
        state = RedisState(cluster.nodes[home].url, timeout=PATIENT, prefix="astray")
        names = [re.search(rb"\r\n([0-9a-f]{40})\r\n", node.command("CLUSTER", "MYID")) for node in cluster.nodes]
        slot = cluster.nodes[0].command("CLUSTER", "KEYSLOT", "astray").strip().removeprefix(b":").decode()
        other = names[1 - home]
        assert other is not None
        cluster.nodes[home].command("CLUSTER", "SETSLOT", slot, "NODE", other[1].decode())
        try:
            with pytest.raises(StateError, match="back and forth for slot"):
                await state.apply(Batch(START, takes=[Take(Limit("one", 100, 3_600), ("a",))]))
        finally:
            await state.close()
            cluster.give("astray", home)

    asyncio.run(use())


@pytest.mark.parametrize("prefix", ["", "{a}", "a}b"])
def test_a_prefix_that_is_no_hash_tag_is_refused(prefix: str) -> None:
    with pytest.raises(StateError, match="without braces"):
        RedisState("redis://127.0.0.1:1/0", prefix=prefix)
