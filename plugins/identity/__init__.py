"""Who is charged: `account.*`, from the credential through a directory.

Without a directory an account is the keyed hash of its credential, and its own org. A directory is one of

- a YAML or CSV file (`file`), held in memory and read again when it changes;
- an SQL database through SQLAlchemy (`sql`): `sqlite:///accounts.db`, `postgresql+psycopg://…`;
- an HTTP service (`http`): `https://…`.

The last two are asked before an exchange is judged and remembered in a bounded cache (`cache`). The host asks once for
each exchange (`gateway.registry.Lookup`) and the answer travels in its facts, so that no later edit of a directory
changes what an exchange was judged by. A directory never sees a key, only its SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, Place, Problem
from gateway.failing import Dependency, Fail, FailModes
from gateway.plugins.identity.cache import Keeping, RemoteDirectory
from gateway.plugins.identity.entries import placed
from gateway.plugins.identity.file import READERS, FileDirectory
from gateway.plugins.identity.signals import signals
from gateway.registry import Registry, Settings
from gateway.values import SECOND

SETTING: Final = "identity.directory"
_HTTP: Final = ("http", "https")


def register(registry: Registry, settings: Settings) -> None:
    section = settings.get("identity", {})
    directory = section.get("directory")
    if directory is not None:
        places = settings.get("places", {})
        closed = settings.get("fail", FailModes()).of(Dependency.DIRECTORY) is Fail.CLOSED
        try:
            lookup = (
                _file(directory, section) if isinstance(directory, Path) else _remote(str(directory), section, places, closed)
            )
        except ConfigError as error:
            raise placed(error, places) from None
        if isinstance(lookup, RemoteDirectory):
            registry.depends(Dependency.DIRECTORY, lookup.where, lookup.breaker)
        registry.add_lookup(lookup)
        registry.watch("directory", lookup)
    registry.add_signals(signals())


def _file(path: Path, section: Settings) -> FileDirectory:
    if path.suffix not in READERS:
        raise _wrong(f"{path} is neither a .yaml nor a .csv file", "name such a file, or a URL")
    for key, meant in (("query", "an SQL database"), ("token_file", "an HTTP service")):
        if section.get(key) is not None:
            raise _wrong(f"'{key}' is for {meant}, but the directory is a file", f"remove '{key}'")
    return FileDirectory(path, section["hash_key"])


def _remote(url: str, section: Settings, places: Mapping[str, Place], closed: bool) -> RemoteDirectory:
    scheme = url.partition("://")[0]
    stray, meant = ("query", "an SQL database") if scheme in _HTTP else ("token_file", "an HTTP service")
    if section.get(stray) is not None:
        raise _wrong(f"'{stray}' is for {meant}, but the directory is a {scheme} URL", f"remove '{stray}'")
    timeout = section["timeout"] / SECOND
    source: Any
    if scheme in _HTTP:
        source = import_module(f"{__name__}.http").HttpSource(url, section.get("token_file"))
    else:
        try:
            sql = import_module(f"{__name__}.sql")  # only needed, and only installed, where a database is used
        except ModuleNotFoundError:
            raise _wrong("needs the sqlalchemy package", "install sluicegate[sql], or use a file") from None
        source = sql.SqlSource(url, section.get("query"), timeout)
    cache = {**section["cache"], **({"stale": 0} if closed else {})}
    return RemoteDirectory(source, timeout, Keeping(**cache), places)


def _wrong(message: str, mend: str) -> ConfigError:
    return ConfigError([Problem(Place(SETTING), message, mend)])
