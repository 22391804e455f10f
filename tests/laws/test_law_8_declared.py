"""Law 8: nothing is skipped in silence. Each thing that can be missing has a declared answer, and is seen wherever one looks.

The dependencies fail for real: nobody answers where Redis, the directory, the traces' endpoint or the upstream should be; the
disk of the records refuses; a geo database is too old. For every mode of each it is looked at what the caller is told, what
stands in the record, in health and in metrics; and no limit is counted by a process for itself unless that was declared.
"""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config import load_config
from gateway.failing import DEPENDENCIES, Dependency, Fail
from gateway.web.app import Process, build
from gateway.web.metering import Metering
from tests.geo import write
from tests.web.conftest import faulty as faulty  # a fixture
from tests.web.faulty import Faulty
from tests.web.running import free_port

PACK = """
pack: law
version: 1
language: 1
limits:
  - {id: law.calls, per: [account.id], limit: 4/hour, on_missing: share, mode: enforce}
"""
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
HEADERS = {"authorization": "Bearer sk-law", "content-type": "application/json"}
SETTINGS = {
    Dependency.STATE: "state: {{url: 'redis://127.0.0.1:{nobody}/0', replicas: 2}}\n",
    Dependency.DIRECTORY: "identity: {{directory: 'http://127.0.0.1:{nobody}/accounts'}}\n",
    Dependency.GEO: "geo: {{country: old.mmdb, max_age: 1d}}\n",
    Dependency.OTLP: "audit: {{otlp: 'http://127.0.0.1:{nobody}/v1/traces'}}\n",
}
TOLD = {  # what five requests in a row are answered once it fails; the limit is four
    (Dependency.STATE, Fail.OPEN): [200] * 5,
    (Dependency.STATE, Fail.CLOSED): [503] * 5,
    (Dependency.STATE, Fail.DEGRADE): [200, 200, 429, 429, 429],  # four, shared by two processes
    (Dependency.DIRECTORY, Fail.OPEN): [200] * 4 + [429],
    (Dependency.DIRECTORY, Fail.CLOSED): [503] * 5,
    (Dependency.DIRECTORY, Fail.DEGRADE): [503] * 5,  # nobody was known before
    (Dependency.GEO, Fail.OPEN): [200] * 4 + [429],
    (Dependency.GEO, Fail.CLOSED): [503] * 5,
    (Dependency.GEO, Fail.DEGRADE): [200] * 4 + [429],
    (Dependency.OTLP, Fail.OPEN): [200] * 3 + [429] * 2,  # the first of all went before it was known
    (Dependency.OTLP, Fail.CLOSED): [503] * 5,
    (Dependency.OTLP, Fail.DEGRADE): [200] * 3 + [429] * 2,
    (Dependency.RECORDS, Fail.OPEN): [200] * 3 + [429] * 2,
    (Dependency.RECORDS, Fail.CLOSED): [503] * 5,
    (Dependency.RECORDS, Fail.DEGRADE): [200] * 3 + [429] * 2,
    (Dependency.UPSTREAM, Fail.OPEN): [502] * 4 + [429],
    (Dependency.UPSTREAM, Fail.CLOSED): [502] * 3 + [503, 429],  # three in a row open the breaker
    (Dependency.UPSTREAM, Fail.DEGRADE): [502] * 4 + [429],
}
FIRST = (Dependency.OTLP, Dependency.RECORDS)  # a request has to go before these are found to fail


def set_up(folder: Path, name: Dependency, mode: Fail, upstream: str) -> Process:
    nobody = free_port()
    where = f"http://127.0.0.1:{nobody}" if name is Dependency.UPSTREAM else upstream
    if name is Dependency.GEO:
        write(folder / "old.mmdb", {"192.0.2.0/24": {"country_code": "FR"}}, built=int(time.time()) - 10 * 86_400)
    (folder / "pack.yaml").write_text(PACK)
    (folder / "gateway.yaml").write_text(
        f"policy: [pack.yaml]\nupstreams: {{openai: {{url: '{where}', connect: 1s}}}}\nfail: {{{name}: {mode}}}\n"
        "client_address: {trusted_proxies: [127.0.0.0/8]}\n" + SETTINGS.get(name, "").format(nobody=nobody)
    )
    return build(load_config(folder / "gateway.yaml"))


@contextmanager
def refusing_disk(refuses: bool) -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if refuses:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def asked(process: Process, name: Dependency, records: list[dict[str, Any]]) -> tuple[list[int], dict[str, Any], str]:
    """Statuses of five requests while it fails; then health, and the metrics of what it touched."""
    transport = httpx.ASGITransport(app=process.app, client=("127.0.0.1", 1))
    async with process.app.router.lifespan_context(process.app), httpx.AsyncClient(transport=transport) as client:

        async def ask() -> int:
            sent = {**HEADERS, "x-forwarded-for": "192.0.2.7"}
            answer = await client.post("http://law/v1/chat/completions?do=plain_json", content=BODY, headers=sent)
            if answer.status_code == 503:
                code = answer.json()["error"]["code"]
                assert code in ("temporarily-unavailable", "upstream-resting")
                assert answer.headers["retry-after"]
            return answer.status_code

        with refusing_disk(name is Dependency.RECORDS):
            if name in FIRST:
                assert await ask() == 200
                until = time.monotonic() + 10
                while name not in process.gate.dependencies.failing and time.monotonic() < until:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                records.clear()
            statuses = [await ask() for _ in range(5)]
            health = process.health()
            source = Metering(process).source()
        process.trail.breaker.met(good=True)  # the disk takes them again
        await asyncio.to_thread(process.trail.flush)
    return statuses, health, str(source.counted.failing.items())


@pytest.mark.parametrize("mode", list(Fail))
@pytest.mark.parametrize("name", list(Dependency))
def test_what_fails_is_answered_as_declared_and_seen(name: Dependency, mode: Fail, faulty: Faulty, tmp_path: Path) -> None:
    process = set_up(tmp_path, name, mode, faulty.url)
    records: list[dict[str, Any]] = []
    process.trail._on_record = records.append
    statuses, health, touched = asyncio.run(asked(process, name, records))
    assert statuses == TOLD[name, mode]
    records = records[-5:]
    for record, status in zip(records, statuses, strict=True):
        touched_it = name is not Dependency.UPSTREAM or status != 429  # of upstreams, only who would have been sent there
        assert record.get("failing", {}) == ({str(name): str(mode)} if touched_it else {}), "the record says so"
    assert [record["outcome"].get("status") or record["answer"]["status"] for record in records] == statuses
    assert health["dependencies"][name]["mode"] == str(mode)
    assert f"('{name}', '{mode}')" in touched, "metrics say so"
    shut = mode is Fail.CLOSED
    assert health["ready"] is not shut
    own = process.gate.asking.share
    assert (own is not None) is (name is Dependency.STATE and mode is Fail.DEGRADE), "no counting for itself in silence"
    if name is not Dependency.GEO:  # whose age is no failed look-up
        (breaker,) = [one for key, one in health["dependencies"][name].items() if key != "mode"]
        assert breaker["failures"] > 0


def test_every_dependency_says_what_each_mode_means() -> None:
    assert set(DEPENDENCIES) == set(Dependency)
    for row in DEPENDENCIES.values():
        assert all((row.what, row.open, row.closed, row.degrade))
