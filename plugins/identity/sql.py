"""A directory in an SQL database, through SQLAlchemy; SQLite needs nothing else, PostgreSQL the psycopg driver.

By default two tables are read (`tables()` describes them); nothing ever creates or writes them silently. To create them:

    from sqlalchemy import create_engine
    from gateway.plugins.identity.sql import tables
    tables().create_all(create_engine("sqlite:///accounts.db"))

`accounts` has the fields of `entries` as its columns; `credentials` has `credential` (the SHA-256 of a key, 64
hexadecimal digits) and `account` (its id). A statement of your own with `:credential` in it (`identity.query`) reads any
other schema; its columns must be named like the fields.

Statements run in threads: a cancelled `await` of an async driver would wait for a server that may never answer, while a
socket that is shut down ends at once, and so does the thread that waits on it. An SQLite file is opened for reading only, and
anew when it was changed, replaced or removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    MetaData,
    QueuePool,
    String,
    Table,
    create_engine,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.types import TypeEngine

from gateway.errors import ConfigError, Place, Problem
from gateway.plugins.identity.cache import NOBODY
from gateway.plugins.identity.entries import FIELDS, BadEntryError, DirectoryError, entry_of, unknown_field, unreadable
from gateway.values import BOOL, COUNTRY, STRING, TIMESTAMP, Type

T = TypeVar("T")

CONNECTIONS: Final = 8
_COLUMNS: Final[dict[Type, TypeEngine[Any]]] = {BOOL: Boolean(), TIMESTAMP: DateTime(timezone=True), COUNTRY: String(2)}
_LEAST_CONNECT: Final = 2
_OF_DATA: Final = ("22", "23")  # SQLSTATE classes whose messages repeat values
_HEX: Final = re.compile(r"[0-9a-fA-F]{16,}")
DEFAULT_QUERY: Final = (
    f"SELECT {', '.join(f'accounts.{name}' for name in FIELDS)} FROM credentials "  # noqa: S608 (names of our own table)
    "JOIN accounts ON accounts.id = credentials.account WHERE credentials.credential = :credential"
)


def tables() -> MetaData:
    """The default tables, `accounts` and `credentials`; `create_all(engine)` creates them."""
    metadata = MetaData()
    columns: list[Column[Any]] = [
        Column(name, _COLUMNS.get(kind, String(500)), primary_key=name == "id") for name, kind in FIELDS.items()
    ]
    Table("accounts", metadata, *columns)
    Table(
        "credentials", metadata, Column("credential", String(64), primary_key=True),
        Column("account", ForeignKey("accounts.id"), nullable=False, index=True),
    )  # fmt: skip
    return metadata


class _Call:
    """One look-up in a thread, and a way to end it from outside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self.given_up = False

    def waits_on(self, connection: Any) -> None:
        """From here on the thread waits for this DBAPI connection; for none, where it has no socket."""
        fileno = getattr(connection, "fileno", None)
        with self._lock:
            self._descriptor = fileno() if fileno is not None else None
            if self.given_up:
                raise DirectoryError("nobody waits for it any more")

    def is_back(self) -> None:
        """The connection is somebody else's again."""
        with self._lock:
            self._descriptor = None

    def give_up(self) -> None:
        """Have the thread end, by shutting down the socket that it waits on."""
        with self._lock:
            self.given_up = True
            if self._descriptor is not None:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as same:
                    same.shutdown(socket.SHUT_RDWR)


class SqlSource:
    """A database. query: a statement in place of the one of the default tables; timeout: seconds, for locks and connecting.

    Raises ConfigError where URL, driver, file or statement cannot be right.
    """

    kind = "sql"
    connections = CONNECTIONS

    def __init__(self, url: str, query: str | None, timeout: float) -> None:
        try:
            parsed = make_url(url)
            self.where = parsed.set(query={}).render_as_string(hide_password=True)  # options may be secrets too
            self._engine = _engine(parsed, timeout)
        except ModuleNotFoundError as error:
            mend = "install sluicegate[postgresql]" if url.startswith("postgresql") else f"install {error.name}"
            raise _wrong(f"the database needs the {error.name} package", mend) from None
        except (ArgumentError, NoSuchModuleError, ValueError):
            raise _wrong("is not the URL of a database", "write sqlite:///accounts.db or postgresql+psycopg://…") from None
        self._query = text(query or DEFAULT_QUERY)
        named = set(self._query.compile().params)
        if named != {"credential"}:
            known = ", ".join(f":{name}" for name in sorted(named)) or "none"
            raise _wrong(
                f"the statement must look up :credential and nothing else; its parameters: {known}", "", "identity.query"
            )
        self._own = query is not None
        self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        self._stamp: object = None
        self._threads: ThreadPoolExecutor | None = None

    async def check(self) -> None:
        await self._in_thread(self._check)

    async def ask(self, digest: str) -> Mapping[str, object] | None:
        call = _Call()
        try:
            return await self._in_thread(self._look_up, digest, call)
        except asyncio.CancelledError:
            call.give_up()
            raise

    def refresh(self) -> str:
        return ""

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        self._engine.dispose()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CONNECTIONS, "directory")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _check(self) -> None:
        try:
            with self._connected() as connection:
                columns = list(connection.execute(self._query, {"credential": NOBODY}).keys())
        except SQLAlchemyError as error:
            mend = "" if self._own else "create its tables as gateway.plugins.identity.sql says, or set identity.query"
            raise _wrong(f"{self.where}: {_said(error)}", mend) from None
        wrong = [unknown_field(name) for name in columns if name not in FIELDS]
        wrong += [f"the column '{name}' is there twice" for name in dict.fromkeys(columns) if columns.count(name) > 1]
        wrong += [] if "id" in columns else ["it gives no 'id'"]
        if wrong:
            raise ConfigError([Problem(Place("identity.query"), said, "name its columns with AS") for said in wrong])

    def _connected(self) -> Connection:
        """A connection. Raises DirectoryError where a server does not answer, SQLAlchemyError where it never will."""
        try:
            return self._engine.connect()
        except SQLAlchemyError as error:
            never = self._engine.dialect.name == "sqlite" or "authentication failed" in str(error)
            if never:
                raise
            raise _failure(error) from None

    def _look_up(self, digest: str, call: _Call) -> Mapping[str, object] | None:
        try:
            rows = self._rows(digest, call)
        except DBAPIError as error:
            if not error.connection_invalidated or call.given_up:
                raise _failure(error) from None
            rows = self._again(digest, call)
        except SQLAlchemyError as error:
            raise _failure(error) from None
        if len(rows) > 1:
            raise BadEntryError("gives more than one account for a credential")
        if not rows:
            return None
        entry, wrong = entry_of({name: _plain(name, value) for name, value in rows[0].items()})
        if wrong:
            raise unreadable(entry, wrong)
        return entry

    def _again(self, digest: str, call: _Call) -> list[Mapping[str, object]]:
        """Once more, on a new connection: the server may only have been started anew since the old one was last used."""
        try:
            return self._rows(digest, call)
        except SQLAlchemyError as error:
            raise _failure(error) from None

    def _rows(self, digest: str, call: _Call) -> list[Mapping[str, object]]:
        if self._file is not None:
            self._have_the_same(self._file)
        with self._engine.connect() as connection:
            try:
                call.waits_on(connection.connection.dbapi_connection)
                result = connection.execute(self._query, {"credential": digest})
                return [dict(row._mapping) for row in result.fetchmany(2)]
            finally:
                call.is_back()

    def _have_the_same(self, file: Path) -> None:
        """Let go of connections to a file that is not the one that was opened, or was written to since."""
        try:
            found = file.stat()
        except OSError as error:
            raise DirectoryError(f"cannot be read: {error.strerror}") from None
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp = stamp
            self._engine.dispose()


def _engine(url: URL, timeout: float) -> Engine:
    """The engine of a URL: statements by themselves, without a transaction around them; parameters never in a message."""
    always: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        if not file.is_file():
            raise _wrong(
                f"there is no file {url.database or '(none named)'}", "sqlite creates none by itself; name one that is there"
            )

        def opened() -> sqlite3.Connection:
            return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=timeout, check_same_thread=False)

        return create_engine("sqlite://", creator=opened, poolclass=QueuePool, pool_size=CONNECTIONS, max_overflow=0, **always)
    libpq = url.get_driver_name().startswith("psycopg")
    wanted = {"connect_timeout": max(_LEAST_CONNECT, round(timeout)), "client_encoding": "utf8"} if libpq else {}
    arguments = {name: value for name, value in wanted.items() if name not in url.query}
    return create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=timeout, connect_args=arguments, **always)


def _plain(name: str, value: object) -> object:
    """A value of a database as the directory's fields have it."""
    if isinstance(value, date):
        return value.isoformat()
    kind = FIELDS.get(name)
    if kind is BOOL and value in (0, 1):
        return bool(value)
    return str(value) if kind is STRING and isinstance(value, (int, UUID)) else value


def _said(error: SQLAlchemyError) -> str:
    """The first line of what the database said."""
    original = getattr(error, "orig", None)
    return (str(original or error).strip() or type(error).__name__).splitlines()[0][:500]


def _failure(error: SQLAlchemyError) -> DirectoryError:
    """A failed look-up: its kind, and what the database said where that cannot repeat what stands in a row or was asked."""
    original = getattr(error, "orig", None)
    kind = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None) or ""
    said = f"failed: {type(original or error).__name__}" + (f" {kind}" if kind else "")
    repeats = not isinstance(error, DBAPIError) or isinstance(error, (DataError, IntegrityError)) or kind.startswith(_OF_DATA)
    return DirectoryError(said, said if repeats else f"{said}: {_HEX.sub('…', _said(error))}")


def _wrong(message: str, mend: str, where: str = "identity.directory") -> ConfigError:
    return ConfigError([Problem(Place(where), message, mend)])
