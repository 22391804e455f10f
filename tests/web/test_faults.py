"""Everything a gateway depends on is killed, stalled, slowed and garbled under load, as far as each can happen to it.

Callers who may pass are mixed with such as must not: a model and a region that rules forbid, a key that nobody knows. Counted
are requests that got no answer (none may), that were refused though what is declared does not say so, and that passed though
something forbade it: by what callers are told, by the records, and by what the upstream saw. Then everything is as before.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from gateway.failing import Fail
from tests.accounts_service import Service
from tests.audit.ledgers import said
from tests.collector import collector
from tests.state.conftest import Server
from tests.web.disks import CORNER, FRENCH, KOREAN, Disk, Geo
from tests.web.keeping import Keeping
from tests.web.running import DISK, KEY, PATIENCE, Gateway, gateway
from tests.web.wires import Fault, Wire

PACK = """
pack: faults
version: 1
language: 1
rules:
  - {id: faults.model, title: no such use, family: identity, owner: tests, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}, public: {code: not-for-you, message: Not for you.}}
  - {id: faults.region, title: excluded, family: network, owner: tests, when: {client.country: KP}, mode: enforce,
     then: {action: deny, status: 451}, public: {code: region-not-supported, message: Not in your region.}}
limits:
  - {id: faults.many, per: [account.id], limit: 1000000/hour, on_missing: refuse, mode: enforce}
"""
CALLERS, LASTS, THINKS = 4, 0.6, 0.03
Said = int | str  # a status, or how there was none


@dataclass(frozen=True)
class Kind:
    """A kind of caller, and what it is told while everything is well."""

    status: int
    address: str = FRENCH
    model: str = "m"
    key: str = KEY


KINDS = {
    "honest": Kind(200),
    "forbidden": Kind(403, model="forbidden"),
    "excluded": Kind(451, KOREAN),
    "corner": Kind(451, CORNER),  # from where the damaged geo database cannot be read
    "stranger": Kind(401, key="sk-nobody-knows"),
}
TURNS = ("honest", "forbidden", "honest", "excluded", "honest", "corner", "honest", "stranger")
ALWAYS = list(Fault)[1:]
FAULTS = {
    "state": ALWAYS, "upstream": ALWAYS, "otlp": ALWAYS, "directory": ALWAYS, "records": ALWAYS,
    "geo": [Fault.KILL, Fault.STALL, Fault.CORRUPT],  # it is read whole, once: a slow one is one that comes later
}  # fmt: skip
UNTOUCHED = {  # what keeps nothing from being as it was
    *[(name, Fault.SLOW) for name in FAULTS], ("geo", Fault.KILL), ("geo", Fault.STALL), ("records", Fault.CORRUPT),
}  # fmt: skip

PARTS = {  # of health, where it is seen that a file or a disk fails
    ("geo", Fault.KILL): "geo.country", ("geo", Fault.STALL): "geo.country",
    ("records", Fault.KILL): "audit", ("records", Fault.STALL): "audit",
}  # fmt: skip


def declared(name: str, fault: Fault, mode: Fail, kind: str) -> set[Said]:
    """What may be answered to a kind of caller besides the usual, while something fails of which this mode is declared."""
    if (name, fault) in UNTOUCHED:
        return set()
    if name == "upstream":
        return {502, 503, 504} if kind == "honest" else set()
    if mode is Fail.CLOSED:
        return {503}
    if name == "directory" and kind == "stranger":
        return {200} if mode is Fail.OPEN else {503}
    return {200} if name == "geo" and kind == "corner" else set()


class Breakable(Protocol):
    def put(self, fault: Fault) -> None: ...


@dataclass
class Scene:
    """A gateway, what it depends on, and what its callers were told."""

    running: Gateway
    upstream: Keeping
    things: dict[str, Breakable]
    mode: Fail
    client: httpx.Client
    told: list[tuple[str, Said]] = field(default_factory=list)

    def ask(self, kind: str) -> Said:
        """What one caller is told."""
        one = KINDS[kind]
        sent = {"authorization": f"Bearer {one.key}", "x-forwarded-for": one.address, "x-kind": kind}
        body = {"model": one.model, "messages": [{"role": "user", "content": "hello"}]}
        try:
            found: Said = self.client.post(f"{self.running.url}/v1/chat/completions", json=body, headers=sent).status_code
        except httpx.TransportError as error:
            found = f"lost: {type(error).__name__}"
        self.told.append((kind, found))
        return found

    def load(self, seconds: float) -> None:
        """Callers of all kinds who ask one after the other for so long; each kind once at least, however busy the machine."""
        until, turns = time.monotonic() + seconds, itertools.count()

        def call() -> None:
            while (turn := next(turns)) < len(TURNS) or time.monotonic() < until:
                self.ask(TURNS[turn % len(TURNS)])
                time.sleep(THINKS)

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def until(self, kind: str, *wanted: Said) -> None:
        """Ask until such a caller is told one of these."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.ask(kind)) not in wanted:
            assert time.monotonic() < deadline, f"{kind}: {found}"
            time.sleep(0.05)

    def health(self, part: str) -> dict[str, Any]:
        found = httpx.get(f"{self.running.url}/healthz", timeout=PATIENCE, trust_env=False).json()["parts"][part]
        assert isinstance(found, dict)
        return found

    def records(self, written: int, before: int) -> list[dict[str, Any]]:
        """The records of all that was told, once they are written. written, before: how many were when it began, in both."""
        deadline = time.monotonic() + PATIENCE
        while self.health("audit")["written"] < written + len(self.told) and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.running.records()[before:]


@pytest.fixture(scope="module", params=list(Fail))
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("faults")
    (folder / "g").mkdir()
    with ExitStack() as stack:
        redis, upstream, accounts, geo = Server(folder), Keeping(), Service(), Geo(folder / "g/country.mmdb")
        stack.callback(upstream.close)
        stack.callback(accounts.close)
        redis.start()
        stack.callback(redis.kill)
        accounts.accounts[f"sha256:{sha256(KEY.encode()).hexdigest()}"] = {"id": "acme"}
        traces = stack.enter_context(collector())
        ports = {"state": redis.port, "upstream": upstream.port, "otlp": httpx.URL(traces.url).port}
        wires = {name: Wire(port or 0) for name, port in {**ports, "directory": httpx.URL(accounts.url).port}.items()}
        for wire in wires.values():
            stack.callback(wire.close)
        at = {name: f"127.0.0.1:{wire.port}" for name, wire in wires.items()}
        settings = (
            f"upstreams: {{openai: {{url: 'http://{at['upstream']}', connect: 3s, read: 3s}}}}\n"
            f"state: {{url: 'redis://{at['state']}/0', replicas: 1, timeout: 3s}}\n"
            f"audit: {{otlp: 'http://{at['otlp']}/v1/traces'}}\ngeo: {{country: country.mmdb}}\n"
            f"identity: {{directory: 'http://{at['directory']}/accounts', timeout: 3s, "
            "cache: {keep: 100ms, absent: 100ms}}\nclient_address: {trusted_proxies: [127.0.0.0/8]}\n"
            f"fail: {{{', '.join(f'{name}: {request.param}' for name in FAULTS)}}}\n"
        )
        running = stack.enter_context(gateway(folder / "g", settings, PACK, DISK, bundled=False))
        things: dict[str, Breakable] = {**wires, "geo": geo, "records": Disk(running.folder, running.process.pid)}
        client = stack.enter_context(httpx.Client(timeout=PATIENCE, trust_env=False))
        yield Scene(running, upstream, things, request.param, client)


def take_effect(scene: Scene, name: str, fault: Fault) -> None:
    """What is found out only by looking is looked at until it is."""
    deadline = time.monotonic() + PATIENCE
    if name == "geo" and fault is Fault.CORRUPT:
        scene.until("corner", *declared(name, fault, scene.mode, "corner"))
    elif (part := PARTS.get((name, fault))) is not None:
        while not scene.health(part)["problem"]:
            assert time.monotonic() < deadline, f"nobody sees what happens to {name}"
            scene.ask("honest")
            time.sleep(0.05)


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_none_is_lost_wrongly_refused_or_wrongly_passed(scene: Scene, name: str, fault: Fault) -> None:
    scene.told.clear()
    scene.load(0.1)
    assert all(status == KINDS[kind].status for kind, status in scene.told)
    scene.told.clear()
    written, before, seen = scene.health("audit")["written"], len(scene.running.records()), len(scene.upstream.got)
    scene.things[name].put(fault)
    take_effect(scene, name, fault)
    scene.load(LASTS)
    altered = name == "records" and said(scene.running.folder / "audit")[0]
    scene.things[name].put(Fault.NONE)
    for kind in [*KINDS, "honest", "honest", "honest"]:
        scene.until(kind, KINDS[kind].status)
    found, records = Counter(scene.told), scene.records(written, before)
    ends = [(one["outcome"].get("status") or one["answer"].get("status"), one.get("failing", {})) for one in records]
    why = Counter((status, *failing) for status, failing in ends)
    may = {kind: {KINDS[kind].status, *declared(name, fault, scene.mode, kind)} for kind in KINDS}
    passing = {kind for kind in KINDS if 200 in may[kind]}
    assert bool(altered) is ((name, fault) == ("records", Fault.CORRUPT)), "a ledger says when it was altered"
    assert not [told for _, told in found if isinstance(told, str)], "each has an answer"
    assert len({record["id"] for record in records}) == len(records) == len(scene.told), "a record for each, and none twice"
    assert {one: count for one, count in found.items() if one[1] not in may[one[0]]} == {}, why
    assert {kind for kind, told in found if told == 200} <= passing, "nobody passes who must not"
    sent_on = {line for got in scene.upstream.got[seen:] for line in got.head.split(b"\r\n") if line.startswith(b"x-kind")}
    assert sent_on <= {f"x-kind: {kind}".encode() for kind in passing}, "nor reaches the upstream"
    assert scene.mode is not Fail.CLOSED or not [failing for status, failing in ends if status == 200 and name in failing]
    assert all(name in failing for status, failing in ends if status in (502, 503, 504)), why
