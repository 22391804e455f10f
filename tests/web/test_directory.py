"""The running process before a directory that is asked over a wire: answers, records and health while it fails and after.

And what is said of requests whose credential is unknown, or that carry two.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, insert

from gateway.cli import main
from gateway.judgement import Judgement
from gateway.plugins.identity.sql import tables
from gateway.web.middleware import PolicyMiddleware
from tests.accounts_service import Service
from tests.ledgers import ledger_text
from tests.postgres import PASSWORD, Server
from tests.serving import served
from tests.web.running import KEY, PATIENCE, PROMPT, ROOT, Gateway, gateway

PACK = "pack: none\nversion: 1\nlanguage: 1\n"
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
KEYS = [KEY, *(f"{KEY}-{number}" for number in range(200))]
CACHE = "{keep: 500ms, absent: 200ms, stale: 1h}"


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def filled(url: str) -> None:
    """The default tables, with one account for each key."""
    engine, metadata = create_engine(url), tables()
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["accounts"]), [{"id": f"id-{n}", "plan": "paid"} for n in range(len(KEYS))])
        rows = [{"credential": digest(key), "account": f"id-{n}"} for n, key in enumerate(KEYS)]
        connection.execute(insert(metadata.tables["credentials"]), rows)
    engine.dispose()


@dataclass
class Directory:
    """A directory that a test can have hang, and go on."""

    url: str
    hang: Callable[[], None]
    go_on: Callable[[], None]


@pytest.fixture(params=["postgresql", "http"])
def directory(request: pytest.FixtureRequest) -> Iterator[Directory]:
    if request.param == "http":
        service = Service()
        service.accounts = {f"sha256:{digest(key)}": {"id": f"id-{n}", "plan": "paid"} for n, key in enumerate(KEYS)}

        def hang() -> None:
            service.behave = service.stall

        def go_on() -> None:
            service.behave = None
            service.resumed.set()

        yield Directory(service.url, hang, go_on)
        service.close()
    else:
        server = Server()
        server.start()
        filled(server.url)
        yield Directory(server.url, server.pause, server.resume)
        server.remove()


def settings(stub: str, directory: str, more: str = "") -> str:
    identity = f"identity: {{directory: '{directory}', timeout: 1500ms, cache: {CACHE}{more}}}\n"
    return f"upstreams: {{openai: {{url: {stub}}}, anthropic: {{url: {stub}}}}}\n{identity}"


def ask(running: Gateway, key: str = KEY, **headers: str) -> httpx.Response:
    sent = {"authorization": f"Bearer {key}", **headers}
    return httpx.post(f"{running.url}{CHAT}", json=BODY, headers=sent, timeout=10, trust_env=False)


def until_ready(running: Gateway) -> None:
    deadline = time.monotonic() + PATIENCE
    while (answer := httpx.get(f"{running.url}/healthz", trust_env=False, timeout=10)).json()["status"] != "ok":
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def keyless(running: Gateway) -> None:
    """No key, no digest of one and no password anywhere it writes."""
    running.check()
    written = running.errors + ledger_text(running.folder / "audit") + httpx.get(f"{running.url}/healthz").text
    for secret in (KEY, digest(KEY), PASSWORD):
        assert secret not in written


@pytest.mark.parametrize(("fail", "status"), [("degrade", 503), ("open", 200)])
def test_a_directory_that_hangs_and_goes_on(stub: str, directory: Directory, tmp_path: Path, fail: str, status: int) -> None:
    with gateway(tmp_path / "g", settings(stub, directory.url) + f"fail: {{directory: {fail}}}\n", PACK) as running:
        with running.recording() as records:
            assert ask(running).status_code == 200
        assert records[0]["signals"]["account.id"] == "id-0"
        assert records[0]["signals"]["account.directory"] == "fresh"
        directory.hang()
        time.sleep(0.6)  # what is known is too old by now
        with running.recording() as records:
            assert ask(running).status_code == 200
        assert records[0]["signals"]["account.id"] == "id-0"
        assert records[0]["signals"]["account.directory"] == "stale"
        with running.recording() as records:
            answer = ask(running, KEYS[1])
        assert answer.status_code == status
        assert records[0]["exchange"]["cause"] == "directory-unavailable"
        assert records[0]["signals"]["account.directory"] == "unavailable"
        for name in ("account.id", "account.org", "account.known"):  # a hash in place of an id would be another account
            assert records[0]["missing"][name] == "the account directory did not answer"
        assert "failed" not in records[0]
        assert records[0]["failing"] == {"directory": fail}
        if status == 503:
            assert answer.json()["error"]["code"] == "temporarily-unavailable"
            assert answer.headers["retry-after"] == "5"
        ready = httpx.get(f"{running.url}/readyz", trust_env=False, timeout=10)
        assert ready.status_code == 200, "whoever is known is served"
        assert "did not answer within 1.5 s" in ready.json()["problems"][0]
        directory.go_on()
        until_ready(running)
        with running.recording() as records:
            assert ask(running, KEYS[1]).status_code == 200
        assert records[0]["signals"]["account.id"] == "id-1"
        assert records[0]["signals"]["account.directory"] == "fresh"
        keyless(running)


def test_with_requests_in_flight_none_is_lost_or_judged_otherwise_than_declared(
    stub: str, directory: Directory, tmp_path: Path
) -> None:
    """Old and new accounts and unknown keys, all the time, while the directory hangs and goes on."""
    with gateway(tmp_path / "g", settings(stub, directory.url), PACK) as running:
        with running.recording(10):
            for key in KEYS[:10]:
                assert ask(running, key).status_code == 200
        answers: list[tuple[str, int]] = []
        calm: list[tuple[str, int]] = []  # of those that were over before the directory hung
        hung = threading.Event()

        async def caller(number: int, until: float) -> None:
            turn = 0
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                while time.monotonic() < until:
                    turn += 1
                    kind = ("known", "new", "unknown")[(number + turn) % 3]
                    place = 10 + (number * 37 + turn) % 190
                    key = {"known": KEYS[number % 10], "new": KEYS[place], "unknown": f"no-{number}-{turn}"}[kind]
                    sent = {"authorization": f"Bearer {key}"}
                    found = await client.post(f"{running.url}{CHAT}", json=BODY, headers=sent)
                    answers.append((kind, found.status_code))
                    if not hung.is_set():
                        calm.append(answers[-1])

        async def everything() -> None:
            until = time.monotonic() + 6
            callers = [asyncio.create_task(caller(number, until)) for number in range(24)]
            await asyncio.sleep(0.7)
            hung.set()
            await asyncio.to_thread(directory.hang)
            await asyncio.sleep(3.5)  # twice its time-out, and more
            await asyncio.to_thread(directory.go_on)
            await asyncio.gather(*callers)

        asyncio.run(everything())
        counted = Counter(answers)
        assert {status for kind, status in counted if kind == "known"} == {200}
        assert {status for kind, status in counted if kind == "new"} <= {200, 503}  # by when the breaker asks again
        assert {status for kind, status in counted if kind == "unknown"} == {401, 503}
        assert set(calm) <= {("known", 200), ("new", 200), ("unknown", 401)}, "while it answers, nobody is turned away"
        records = running.records_after(10, len(answers))
        by_status = Counter(record["answer"]["status"] for record in records)
        assert by_status == Counter(status for _, status in answers)
        unavailable = [record["signals"]["account.directory"] == "unavailable" for record in records]
        assert unavailable == [record["answer"]["status"] == 503 for record in records], "nobody else is told 503"
        until_ready(running)
        keyless(running)


@pytest.mark.parametrize("url", [f"postgresql://sluice:{PASSWORD}@127.0.0.1:1/accounts", "http://127.0.0.1:1/accounts"])
@pytest.mark.parametrize(("fail", "status"), [("degrade", 503), ("open", 200)])
def test_a_directory_that_is_not_there_at_the_start(stub: str, tmp_path: Path, url: str, fail: str, status: int) -> None:
    """A gateway that starts while its directory is down answers as declared, and says that it is not ready."""
    more = settings(stub, url) + f"fail: {{directory: {fail}}}\n"
    with gateway(tmp_path, more, PACK) as running:
        assert ask(running).status_code == status
        ready = httpx.get(f"{running.url}/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "127.0.0.1:1/accounts" in ready.text and PASSWORD not in ready.text


# Credentials


@pytest.fixture(scope="module")
def listing(stub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an SQLite directory beside its gateway.yaml, behind a proxy that is believed."""
    folder = tmp_path_factory.mktemp("listing")
    filled(f"sqlite:///{folder}/accounts.db")
    more = settings(stub, "sqlite:///accounts.db") + "client_address: {trusted_proxies: [127.0.0.1/32]}\n"
    with gateway(folder, more, PACK) as running:
        yield running
        keyless(running)


def test_a_file_beside_the_settings(listing: Gateway) -> None:
    with listing.recording() as records:
        assert ask(listing).status_code == 200
    assert records[0]["signals"]["account.id"] == "id-0"


@pytest.mark.parametrize(("sent", "cause", "status"), [({}, "unknown", 401), ({"authorization": ""}, "missing", 401)])
def test_failed_authentication_is_recorded_with_its_address(
    listing: Gateway, sent: dict[str, str], cause: str, status: int
) -> None:
    with listing.recording() as records:
        answer = ask(listing, "sk-wrong", **{"x-forwarded-for": "198.51.100.7, 203.0.113.9", **sent})
    assert answer.status_code == status
    assert records[0]["exchange"]["cause"] == f"credential-{cause}"
    assert records[0]["outcome"]["by"] == [f"intake:credential-{cause}"]
    assert records[0]["signals"]["client.ip"] == "203.0.113.9"
    assert "sk-wrong" not in json.dumps(records)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (CHAT, [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEYS[1]}")]),
        (CHAT, [("authorization", f"Bearer {KEY}"), ("x-api-key", KEYS[1])]),
        (CHAT, [("authorization", f"Bearer {KEY}"), ("X_Api_Key", KEYS[1])]),
        (CHAT, [("authorization", f"Bearer {KEY}"), ("x-goog-api-key", KEYS[1])]),
        (f"{CHAT}?key={KEYS[1]}", [("authorization", f"Bearer {KEY}")]),
        (f"{CHAT}?%6bey={KEYS[1]}", [("authorization", f"Bearer {KEY}")]),
        (f"{CHAT}?access_token={KEYS[1]}", [("authorization", f"Bearer {KEY}")]),
        (CHAT, [("x-goog-api-key", KEY), ("x-goog_api-key", KEYS[1])]),
        (CHAT, [("x-api-key", KEY), ("authorization", f"ApiKey {KEYS[1]}")]),
        (CHAT, [("authorization", f"Bearer {KEY}"), ("x-litellm-api-key", KEYS[1])]),
        (CHAT, [("authorization", f"Bearer {KEY} {KEYS[1]}")]),
        ("/v1/messages", [("x-api-key", KEY), ("authorization", f"Bearer {KEYS[1]}"), ("anthropic-version", "2023-06-01")]),
    ],
)
def test_two_different_keys_are_refused(listing: Gateway, path: str, headers: list[tuple[str, str]]) -> None:
    with listing.recording() as records:
        answer = httpx.post(f"{listing.url}{path}", json={**BODY, "max_tokens": 5}, headers=headers, trust_env=False)
    assert answer.status_code == 400
    assert "Two different API keys were sent; send one." in answer.text
    assert answer.json()["error"]["code"] == "credential-ambiguous"
    assert records[0]["exchange"]["cause"] == "credential-ambiguous"
    assert records[0]["signals"]["account.credentials"] == 2
    assert all(key not in json.dumps(records) for key in (KEY, KEYS[1]))


def test_one_key_in_two_places_is_one_key(listing: Gateway) -> None:
    with listing.recording() as records:
        assert ask(listing, **{"x-api-key": KEY}).status_code == 200
    assert records[0]["signals"]["account.credentials"] == 1


def test_two_keys_that_pass_as_declared_are_in_the_record_and_the_unknown_are_still_refused(stub: str, tmp_path: Path) -> None:
    tmp_path.joinpath("g").mkdir()
    filled(f"sqlite:///{tmp_path}/g/accounts.db")
    with gateway(
        tmp_path / "g", settings(stub, "sqlite:///accounts.db") + "fail: {credential-ambiguous: open}\n", PACK
    ) as running:
        with running.recording() as records:
            assert ask(running, **{"x-api-key": "sk-other"}).status_code == 200
        assert records[0]["exchange"]["cause"] == "credential-ambiguous"
        assert records[0]["signals"]["account.id"] == "id-0"
        with running.recording() as records:
            assert ask(running, "sk-wrong", **{"x-api-key": KEY}).status_code == 401
        assert records[0]["exchange"]["cause"] == "credential-unknown"
        running.check()


# Records of live requests, and the same requests replayed


def captures(folder: Path, *keys: str) -> Path:
    file = folder / "captures.jsonl"
    rows: list[dict[str, Any]] = [
        {"ts": 1_793_500_000 + n, "method": "POST", "path": CHAT, "headers": [["Authorization", f"Bearer {key}"]], "body": BODY}
        for n, key in enumerate(keys)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_dry_run_asks_the_directory_and_finds_what_the_gateway_found(listing: Gateway, tmp_path: Path) -> None:
    keys = [KEY, KEYS[7], "sk-wrong", KEYS[7]]
    with listing.recording(len(keys)) as live:
        for key in keys:
            ask(listing, key)
    decisions, config = tmp_path / "decisions.jsonl", str(listing.folder / "gateway.yaml")
    arguments = ["dry-run", str(captures(tmp_path, *keys)), "--config", config, "--decisions", str(decisions)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    replayed = [json.loads(line) for line in decisions.read_text().splitlines()]
    for mine, again in zip(live, replayed, strict=True):
        wanted = ("account.known", "account.directory", "account.credentials")
        assert [again["signals"][name] for name in wanted] == [mine["signals"][name] for name in wanted]
        assert again["signals"].get("account.id", "key:").partition(":")[0] == mine["signals"]["account.id"].partition(":")[0]
        assert again["outcome"].get("status") == mine["outcome"].get("status")
        assert again["exchange"].get("cause") == mine["exchange"].get("cause")


def test_a_capture_is_explained_with_its_account(listing: Gateway, tmp_path: Path) -> None:
    file, config = captures(tmp_path, KEYS[7]), str(listing.folder / "gateway.yaml")
    result = CliRunner().invoke(main, ["explain", "--record", f"{file}:1", "--config", config, "--format", "json"])
    assert result.exit_code == 0, result.output
    assert "id-7" in result.output


def test_a_dry_run_does_not_go_on_without_the_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(f"sqlite:///{tmp_path}/accounts.db")
    config = tmp_path / "gateway.yaml"
    config.write_text("upstreams: {}\nidentity: {directory: 'sqlite:///accounts.db'}\n")
    engine = create_engine(f"sqlite:///{tmp_path}/accounts.db")
    tables().drop_all(engine)
    engine.dispose()
    file = captures(tmp_path, KEY, KEY)
    for arguments, exit_code in (
        (["dry-run", str(file), "--config", str(config)], 3),
        (["explain", "--record", f"{file}:1", "--config", str(config)], 1),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == exit_code, result.output
        assert f"{file}:1:1: the account directory did not answer: sqlite:///" in result.output
        assert "no such table" in caplog.text
        caplog.clear()


def test_a_record_is_explained_without_asking_the_directory(listing: Gateway, tmp_path: Path) -> None:
    """Whoever looks into a failure of the directory must not need it for that."""
    with listing.recording():
        ask(listing)
    line = len(listing.records())
    config = tmp_path / "gateway.yaml"
    config.write_text("upstreams: {}\nidentity: {directory: 'postgresql://sluice:x@127.0.0.1:1/accounts'}\n")
    where = f"{listing.folder}/audit/1/00000001.jsonl:{line}"
    policy = ["--policy", str(listing.folder / "pack.yaml"), "--policy", str(ROOT / "rules")]
    result = CliRunner().invoke(main, ["explain", "--record", where, "--config", str(config), *policy])
    assert result.exit_code == 0, result.output


def test_the_middleware_asks_too_and_lets_go_at_the_end(tmp_path: Path) -> None:
    """Made inside a running loop, as apps do that are assembled at their start."""
    filled(f"sqlite:///{tmp_path}/accounts.db")
    (tmp_path / "gateway.yaml").write_text("identity: {directory: 'sqlite:///accounts.db'}\n")
    (tmp_path / "pack.yaml").write_text(PACK)
    seen: list[Judgement] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["sluice"].outcome.id.encode()})

    async def made() -> PolicyMiddleware:
        sink = lambda judgement, answer: seen.append(judgement)  # noqa: E731
        return PolicyMiddleware(app, tmp_path / "pack.yaml", config=tmp_path / "gateway.yaml", sink=sink)

    before = threading.active_count()
    with served(asyncio.run(made()), lifespan="on") as port:
        for key, status in ((KEY, 200), ("sk-wrong", 401)):
            sent = {"authorization": f"Bearer {key}"}
            answer = httpx.post(f"http://127.0.0.1:{port}{CHAT}", json=BODY, headers=sent, trust_env=False)
            assert answer.status_code == status
        assert threading.active_count() > before + 1
    assert [judgement.view.get("account.id") for judgement in seen][:1] == ["id-0"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("directory")]


def test_the_middleware_has_ended_when_the_server_hears_that_the_app_has(tmp_path: Path) -> None:
    """From then on a server may stop the loop, and what is still awaited is cut off."""
    filled(f"sqlite:///{tmp_path}/accounts.db")
    (tmp_path / "gateway.yaml").write_text("identity: {directory: 'sqlite:///accounts.db'}\n")
    (tmp_path / "pack.yaml").write_text(PACK)
    left: dict[str, list[str]] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def live() -> None:
        guarded = PolicyMiddleware(app, tmp_path / "pack.yaml", config=tmp_path / "gateway.yaml")
        assert guarded._lookup is not None
        await guarded._lookup.fetch(KEY, bytes(32))

        async def receive() -> Any: ...

        async def send(message: Any) -> None:
            left[message["type"]] = [one.name for one in threading.enumerate() if one.name.startswith("directory")]

        await guarded({"type": "lifespan"}, receive, send)

    asyncio.run(live())
    assert left["lifespan.startup.complete"]
    assert not left["lifespan.shutdown.complete"]
