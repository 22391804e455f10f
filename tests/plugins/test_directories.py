"""Directories: what files, databases and services may say, what is an error at start, and how a service is asked."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, text

from gateway.config import load_config
from gateway.credentials import credential_hash
from gateway.errors import ConfigError
from gateway.facts import Cause, Freshness, LookedUp
from gateway.gate import Gate
from gateway.language.compile import compile_nodes
from gateway.plugins.identity.cache import RemoteDirectory
from gateway.plugins.identity.file import FileDirectory
from gateway.plugins.identity.http import LARGEST
from gateway.plugins.identity.sql import tables
from gateway.registry import Registry
from gateway.registry import load as load_registry
from gateway.strict.document import parse
from gateway.values import SECOND, parse_timestamp
from gateway.web.intake import Body, Head, Intake
from tests.accounts_service import Service, reply
from tests.postgres import PASSWORD, Server

KEY = b"a key of the tests' own"
CACHE = {"most": 100, "keep": 60 * SECOND, "absent": 10 * SECOND, "stale": 3_600 * SECOND}
FULL = {
    "id": "acme-1", "org": "acme", "plan": "paid", "verified": True, "payment": "p1", "created": "2026-01-15T00:00:00Z",
    "billing_country": "FR", "billing_source": "card", "billing_date": "2026-02-01T12:30:00+01:00",
    "kyc_country": "NO", "kyc_source": "passport", "kyc_date": "2026-02-02T00:00:00Z",
    "ownership_country": "SG", "ownership_source": "register", "ownership_date": "2026-02-03T00:00:00Z",
}  # fmt: skip
TYPED = {name: parse_timestamp(value) if name == "created" or name.endswith("_date") else value for name, value in FULL.items()}


def digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def opened(directory: Any, timeout: float = 1.0, **more: Any) -> RemoteDirectory:
    """The directory of these settings, started with a clock that stands still."""
    section = {"directory": directory, "hash_key": KEY, "timeout": int(timeout * SECOND), "cache": CACHE, **more}
    registry: Registry = load_registry({"identity": section})
    assert isinstance(registry.lookup, RemoteDirectory)
    registry.lookup.start(lambda: 0)
    return registry.lookup


def asked(directory: RemoteDirectory, *keys: str) -> list[LookedUp]:
    """What it says of these keys, one after the other."""

    async def run() -> list[LookedUp]:
        try:
            return [await directory.fetch(credential_hash(digest(key), KEY), digest(key)) for key in keys]
        finally:
            await directory.close()

    return asyncio.run(run())


def file_of(tmp_path: Path, name: str, written: str | bytes) -> Path:
    file = tmp_path / name
    file.write_bytes(written.encode() if isinstance(written, str) else written)
    return file


def found_in(file: Path, key: str) -> Any:
    return FileDirectory(file, KEY).find(credential_hash(digest(key), KEY)).entry


# Files


def test_a_csv_file_says_what_a_yaml_file_says(tmp_path: Path) -> None:
    names = ["credentials", *FULL]
    credentials = f"sha256:{digest('sk-1').hex()} {digest('sk-2').hex()}"
    cells = [credentials, *(str(value).lower() if value is True else str(value) for value in FULL.values())]
    csv = file_of(
        tmp_path, "accounts.csv", "\ufeff" + ",".join(names) + "\r\n" + ",".join(f'"{cell}"' for cell in cells) + "\r\n"
    )
    fields = ", ".join(f"{name}: {cell}" for name, cell in zip(names[1:], cells[1:], strict=True))
    yaml = file_of(
        tmp_path,
        "accounts.yaml",
        f'accounts: [{{credentials: ["{digest("sk-1").hex()}", "{digest("sk-2").hex()}"], {fields}}}]',
    )
    assert found_in(csv, "sk-1") == found_in(csv, "sk-2") == found_in(yaml, "sk-1") == found_in(yaml, "sk-2") == TYPED


def test_an_empty_cell_says_nothing(tmp_path: Path) -> None:
    file = file_of(tmp_path, "accounts.csv", f"id,plan,credentials\n\nacme,,{digest('sk-1').hex()}\n")
    assert found_in(file, "sk-1") == {"id": "acme", "org": "account:acme"}


D = digest("sk-1").hex()


@pytest.mark.parametrize(
    ("written", "messages"),
    [
        ("id,bilingcountry\n", [":1:1: unknown column 'bilingcountry'; did you mean 'billing_country'?"]),
        ("plan\nfree\n", [":1:1: an account needs 'id'"]),
        ("", [":1:1: an account needs 'id'"]),
        ("id,id\n", [":1:1: the column 'id' stands twice"]),
        ("id,plan\na,free\nb\n", [":3:1: has 1 cells, not 2 as the first row"]),
        ("id,plan\n,free\n", [":2:1: an account needs 'id'"]),
        ("id,billing_country\na,XX\nb,YY\n", [":2:1: billing_country: 'XX' is not", ":3:1: billing_country: 'YY' is not"]),
        ("id,created\na,yesterday\n", [":2:1: created: 'yesterday' is not a time"]),
        ("id,verified\na,maybe\n", [":2:1: verified: 'maybe' is not true or false"]),
        ("id,credentials\na,sk-live-key\n", [":2:1: credential: not the SHA-256 of a credential"]),
        (f"id,credentials\na,{D}\nb,{D}\n", [":3:1: a credential stands twice"]),
        (f"id,credentials\na,{D} {D}\n", [":2:1: a credential stands twice"]),
        ('id,plan\n"a\nb",free\na,free\na,paid\n', [":5:1: the id 'a' stands twice"]),
        ('id,plan\na,"free\n', ["is not CSV: unexpected end of data"]),
        (b"id\n\xff\n", ["is not UTF-8 at byte 3"]),
        ("id\n" + "a" * 201, [":2:1: id: longer than 200 characters"]),
        ("id,plan\na," + "p" * 501, [":2:1: plan: longer than 500 characters"]),
        ("id,org\na,account:b\n", [":2:1: org: 'account:…' is what an account without an org is called"]),
        ("id,org\nb,acme\nacme,\n", [":3:1: the id 'acme' is an org of other accounts; state its org"]),
        ("id,org\nb,acme\nacme,other\n", [":3:1: the id 'acme' is an org of other accounts; state its org"]),
    ],
)
def test_every_problem_of_a_csv_file_has_its_line(tmp_path: Path, written: str | bytes, messages: list[str]) -> None:
    file = file_of(tmp_path, "accounts.csv", written)
    with pytest.raises(ConfigError) as caught:
        FileDirectory(file, KEY)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(str(file)) and message in line
        assert "sk-live-key" not in line


def test_repeated_names_in_a_yaml_file_have_their_line(tmp_path: Path) -> None:
    written = f"accounts:\n- {{id: a, credentials: [{D}]}}\n- {{id: a}}\n- {{id: b, credentials: ['sha256:{D}']}}\n"
    file = file_of(tmp_path, "accounts.yaml", written)
    with pytest.raises(ConfigError) as caught:
        FileDirectory(file, KEY)
    first, second = str(caught.value).splitlines()
    assert first == f"{file}:3:3: the id 'a' stands twice"
    assert second == f"{file}:4:3: a credential stands twice"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"directory": Path("accounts.txt")}, "accounts.txt is neither a .yaml nor a .csv file"),
        (
            {"directory": Path("accounts.yaml"), "query": "SELECT 1"},
            "'query' is for an SQL database, but the directory is a file",
        ),
        ({"directory": Path("accounts.yaml"), "token_file": Path("t")}, "'token_file' is for an HTTP service"),
        ({"directory": "https://accounts.example", "query": "SELECT 1"}, "but the directory is a https URL"),
        ({"directory": "sqlite:///accounts.db", "token_file": Path("t")}, "but the directory is a sqlite URL"),
        ({"directory": "http://accounts.example/x"}, "is asked without TLS; write https://"),
        ({"directory": "https://me:secret@accounts.example/x"}, "a token belongs in identity.token_file"),
        ({"directory": "https://accounts.example/x?token=secret"}, "has a query, and may show it"),
        ({"directory": "oracular://x"}, "is not the URL of a database"),
        ({"directory": "sqlite:////nowhere/accounts.db"}, "there is no file /nowhere/accounts.db"),
        ({"directory": "sqlite://"}, "there is no file (none named)"),
        ({"directory": "mysql+pymysql://root@localhost/x"}, "needs the pymysql package"),
    ],
)
def test_a_directory_that_cannot_be_right(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_registry({"identity": {"hash_key": KEY, "timeout": SECOND, "cache": CACHE, **section}})
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


# Databases


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the default tables and two accounts, one of which has two keys."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/accounts.db" if sqlite else request.getfixturevalue("postgres").url
    engine, metadata = create_engine(url), tables()
    metadata.create_all(engine)
    timed = {name: value for name, value in TYPED.items() if isinstance(value, int) and value is not True}
    row = {**FULL, **{name: datetime.fromtimestamp(value / SECOND, UTC) for name, value in timed.items()}}
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["accounts"]), [row])
        connection.execute(insert(metadata.tables["accounts"]), [{"id": "bare"}])
        listed = [("acme-1", "sk-1"), ("acme-1", "sk-2"), ("bare", "sk-3")]
        rows = [{"credential": digest(key).hex(), "account": account} for account, key in listed]
        connection.execute(insert(metadata.tables["credentials"]), rows)
    yield url
    metadata.drop_all(engine)
    engine.dispose()


def test_the_default_tables(database: str) -> None:
    first, second, third, unknown = asked(opened(database), "sk-1", "sk-2", "sk-3", "sk-4")
    assert first.entry == second.entry == TYPED
    assert third.entry == {"id": "bare", "org": "account:bare"}
    assert unknown == LookedUp(None, Freshness.FRESH)


def test_a_statement_of_ones_own(database: str) -> None:
    query = (
        "SELECT a.id, a.payment AS plan, a.verified FROM accounts a JOIN credentials c ON c.account = a.id "
        "WHERE c.credential = :credential AND a.verified"
    )
    first, third = asked(opened(database, query=query), "sk-1", "sk-3")
    assert first.entry == {"id": "acme-1", "org": "account:acme-1", "plan": "p1", "verified": True}
    assert third.entry is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "SELECT id, plan AS tariff FROM accounts WHERE id = :credential",
            "identity.query: unknown field 'tariff' of an account",
        ),
        ("SELECT plan FROM accounts WHERE id = :credential", "identity.query: it gives no 'id'"),
        ("SELECT id, plan AS id FROM accounts WHERE id = :credential", "the column 'id' is there twice"),
        ("SELECT id FROM accounts", "must look up :credential and nothing else; its parameters: none"),
        ("SELECT id FROM accounts WHERE id = :credential AND plan = :plan", "its parameters: :credential, :plan"),
        ("SELEC id WHERE :credential", "syntax error"),
        ("SELECT id FROM nowhere WHERE id = :credential", "nowhere"),
    ],
)
def test_a_statement_that_cannot_be_right(database: str, query: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(database, query=query)
    assert message in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_database_without_the_tables(tmp_path: Path, postgres: Server) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    for url in (f"sqlite:///{tmp_path}/empty.db", postgres.url):
        with pytest.raises(ConfigError) as caught:
            opened(url)
        assert "create its tables as gateway.plugins.identity.sql says" in str(caught.value)
        assert PASSWORD not in str(caught.value)
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_server_that_does_not_let_us_in(postgres: Server) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(postgres.url.replace(PASSWORD, "wrong-password"))
    assert "password authentication failed" in str(caught.value)
    assert "wrong-password" not in str(caught.value)


def test_what_a_url_says_behind_its_question_mark_is_shown_to_nobody(postgres: Server) -> None:
    url = postgres.url.replace(f":{PASSWORD}@", "@") + f"?password={PASSWORD}&application_name=shown-to-nobody"
    directory = opened(url, query="SELECT 'a' AS id, 'x' AS plan WHERE :credential <> ''")
    number = "SELECT CAST(CAST(left(CAST(:credential AS text), 40) AS numeric) AS text) AS id"
    postgres_says = opened(url, query=number)
    for one in (directory, postgres_says):
        asked(one, "sk-1")
        assert PASSWORD not in str(one.health()) and "shown-to-nobody" not in str(one.health())
    assert "22P02" in str(postgres_says.health()["problem"]), "which kind of fault, and not the value that it is about"
    assert D not in str(postgres_says.health())


def test_a_broken_answer_is_not_repeated(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a line that is no HTTP, nor the values of an entry, nor names in it that are no fields."""

    def no_http(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"a-secret\r\n\r\n")
        handler.close_connection = True

    payment = 4242424242424242  # whole: four of its digits may well be a port of ours
    entry = {"id": "a-name", "payment": payment, "billing_country": "a-secret", "a-secret": 1}
    directory = opened(service.url)
    for behave in (no_http, answering(200, entry)):
        service.behave = behave
        asked(directory, "sk-1")
        assert directory.health()["problem"]
        written = str(directory.health()) + caplog.text
        assert str(payment) not in written and "a-secret" not in written
        assert "a-name" not in str(directory.health())


def test_two_accounts_for_one_credential_are_no_answer(database: str) -> None:
    directory = opened(database, query="SELECT id FROM accounts WHERE :credential <> ''")
    (found,) = asked(directory, "sk-1")
    assert found.freshness is Freshness.UNREADABLE
    assert "gives more than one account for a credential" in str(directory.health()["problem"])


def test_an_entry_that_cannot_be_read_is_no_answer_and_not_an_unknown_key(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET billing_country = 'XX' WHERE id = 'acme-1'"))
    engine.dispose()
    directory = opened(database)
    first, third = asked(directory, "sk-1", "sk-3")
    assert first.freshness is Freshness.UNREADABLE
    assert third.entry == {"id": "bare", "org": "account:bare"}
    health = directory.health()
    assert health["problem"] == ""
    assert "an entry cannot be read: billing_country is missing or no valid country" in str(health["last_failure"])
    written = caplog.text
    assert "the entry of account 'acme-1' cannot be read: billing_country" in written
    assert "acme-1" not in str(health)
    for secret in (PASSWORD, "XX"):
        assert secret not in str(health) + written


def test_nothing_is_written_to_a_file(tmp_path: Path) -> None:
    """Not even by a statement that would."""
    file = tmp_path / "accounts.db"
    engine = create_engine(f"sqlite:///{file}")
    tables().create_all(engine)
    engine.dispose()
    with pytest.raises(ConfigError) as caught:
        opened(f"sqlite:///{file}", query="INSERT INTO accounts (id) VALUES (:credential) RETURNING id")
    assert "attempt to write a readonly database" in str(caught.value)


# Services


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    running.accounts = {f"sha256:{digest('sk-1').hex()}": FULL}
    yield running
    running.close()


def test_a_service_is_asked_by_the_hash_and_nothing_else(service: Service, tmp_path: Path) -> None:
    token = file_of(tmp_path, "token", "first-token\n")
    directory = opened(service.url, token_file=token)
    first, second = asked(directory, "sk-1", "sk-2")
    assert first.entry == TYPED
    assert second == LookedUp(None, Freshness.FRESH)
    assert [body for _, body in service.seen[1:]] == [{"credential": f"sha256:{digest(key).hex()}"} for key in ("sk-1", "sk-2")]
    assert {headers["authorization"] for headers, _ in service.seen} == {"Bearer first-token"}
    token.write_text("a-second-token")
    directory.refresh()
    asked(directory, "sk-3")
    assert service.seen[-1][0]["authorization"] == "Bearer a-second-token"
    token.write_text("")
    directory.refresh()
    asked(directory, "sk-4")
    assert service.seen[-1][0]["authorization"] == "Bearer a-second-token"
    assert "holds no bearer token" in str(directory.health()["problem"])
    assert "sk-" not in str(service.seen)


@pytest.mark.parametrize("written", [b"", b" \n", b"two words", b"\xff\xfe", "schl\u00fcssel".encode()])
def test_a_token_file_without_a_token(service: Service, tmp_path: Path, written: bytes) -> None:
    with pytest.raises(ConfigError, match="holds no bearer token"):
        opened(service.url, token_file=file_of(tmp_path, "token", written))


def slow(handler: BaseHTTPRequestHandler) -> None:
    """One byte at a time, each in time."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    for _ in range(1_000):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def answering(status: int, document: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, status, document)


FAILURES: list[tuple[Any, str]] = [
    (answering(500, {}), "answered with status 500"),
    (answering(401, {}), "answered with status 401"),
    (answering(302, {}), "answered with status 302"),
    (answering(200, b"<html>"), "answered with what is not JSON"),
    (answering(200, b""), "answered with what is not JSON"),
    (answering(200, b"[" * 60_000), "answered with what is not JSON"),
    (answering(200, b'{"id": "a", "id": "b"}'), "a key stands twice"),
    (answering(200, ["id"]), "answered with JSON that is no object"),
    (answering(200, {"plan": "free"}), "an entry cannot be read: id is missing"),
    (answering(200, {"id": "a", "tarif": "free"}), "an entry cannot be read: it has a field that there is none of"),
    (answering(200, {"id": "a", "plan": ["x"]}), "an entry cannot be read: plan is"),
    (answering(200, {"id": 7}), "cannot be read: id is"),
    (answering(200, {"id": "a", "plan": "x" * LARGEST}), f"answered with more than {LARGEST} bytes"),
    (slow, "did not answer within 0.4 s"),
    (cut, "broke off"),
    (hang_up, "broke off"),
]


@pytest.mark.parametrize(("behave", "problem"), FAILURES)
def test_a_failing_service_is_unavailable_and_says_why(service: Service, behave: Any, problem: str) -> None:
    directory = opened(service.url, timeout=0.4)
    service.behave = behave
    (found,) = asked(directory, "sk-1")
    unreadable = "cannot be read" in problem  # it answers, and what it says of this one account is no entry
    assert found == LookedUp(None, Freshness.UNREADABLE if unreadable else Freshness.UNAVAILABLE)
    assert problem in str(directory.health()["problem"])
    assert len(service.seen) <= 3, "the start, and at most two tries"


def test_a_service_that_is_not_there(service: Service) -> None:
    directory = opened(service.url)
    service.close()
    (found,) = asked(directory, "sk-1")
    assert found.freshness is Freshness.UNAVAILABLE
    assert "cannot be reached" in str(directory.health()["problem"])
    later = opened(service.url)  # starts all the same: what is declared for failures holds from the first request on
    assert "cannot be reached" in str(later.health()["problem"])


def test_a_host_that_forgets_to_ask_lets_nobody_through(service: Service) -> None:
    section = {"directory": service.url, "hash_key": KEY, "timeout": SECOND, "cache": CACHE}
    registry = load_registry({"identity": section})
    intake, head = Intake(registry, KEY), Head("GET", "/v1/models", headers=(("authorization", "Bearer sk-1"),))
    facts = intake.facts(head, Body(), 0)
    assert intake.must_ask(facts)
    gate = Gate(compile_nodes([parse("pack: p\nversion: 1\nlanguage: 1", "p.yaml")], registry.signals), registry.signals)
    assert gate.judge(facts).outcome.cause is Cause.DIRECTORY_UNAVAILABLE
    assert gate.judge(facts).outcome.refusal is not None


def test_a_service_is_checked_even_inside_a_running_loop(service: Service) -> None:
    async def inside() -> Awaitable[None] | None:
        opened(service.url)
        return None

    asyncio.run(inside())
    assert service.seen[0][1] == {"credential": "sha256:" + "0" * 64}


def test_what_is_wrong_with_the_settings_of_a_directory_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "accounts.db").touch()
    for key, said in (("query", "{directory: 'sqlite:///accounts.db', query: 'SELEC 1'}"), ("directory", "{directory: a.txt}")):
        (tmp_path / "a.txt").touch()
        (tmp_path / "gateway.yaml").write_text(f"upstreams: {{openai: {{url: 'http://127.0.0.1:1'}}}}\nidentity: {said}\n")
        with pytest.raises(ConfigError) as caught:
            registry = load_registry(load_config(tmp_path / "gateway.yaml").settings)
            assert registry.lookup is not None
            registry.lookup.start(lambda: 0)
        assert f"{tmp_path}/gateway.yaml:2:" in str(caught.value)
        assert f"identity.{key}: " in str(caught.value)
