"""Identifiers sealed per account: encrypted in the record, with a key of the account's own that stands elsewhere.

The box of a record holds the values that hashes took the place of (AES-256-GCM, bound to the record's id). The keys stand in an
SQLite file beside the ledger, readable by its owner only. Erasing an account deletes its key and its name there; the records
stay as they are, and the chain over them with them, but nobody can open them any more. Whoever keeps copies of the key file has
to let go of them, too.

An account that no directory lists, and every one past `MOST_ACCOUNTS`, shares the key of its day with all others of that kind:
whoever invents credentials must not make keys.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.audit.identifiers import Names
from gateway.errors import ConfigError, Place, Problem, SluiceError
from gateway.values import timestamp_text

MOST_ACCOUNTS: Final = 1_000_000
_REMEMBERED: Final = 100_000
_PATIENCE: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, account TEXT UNIQUE, key BLOB, made INTEGER NOT NULL, erased INTEGER)
"""
CONTENT: Final = "content"  # what was said is sealed with whoever said it; no signal has that name
Key = tuple[str, bytes]


class ErasedError(SluiceError):
    """The key of an account was dropped: its identifiers cannot be read any more."""


class Keys:
    """The keys of accounts. Raises ConfigError for a file that is none; sqlite3.Error where the disk refuses."""

    def __init__(self, file: Path, create: bool = True) -> None:
        self.file, self._known = file, dict[str, Key]()
        if not create and not file.exists():
            raise ConfigError([Problem(Place(str(file)), "there is no such file of keys", "name it in audit.keys")])
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
            self._database = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_SCHEMA)
            self._version = self._seen()
            self._count = int(self._database.execute("SELECT count(*) FROM keys").fetchone()[0])
        except (OSError, sqlite3.Error) as error:
            raise ConfigError([Problem(Place(str(file)), f"cannot hold keys: {error}", "name a file of audit.keys")]) from None

    def of(self, names: Iterable[str], at: int) -> dict[str, Key]:
        """The key of each name, made and on the disk where there was none. at: µs."""
        if self._version != (seen := self._seen()):  # another process made or erased some
            self._known.clear()
            self._version = seen
        wanted = set(names)
        if missing := wanted - self._known.keys():
            if len(self._known) + len(missing) > _REMEMBERED:
                self._known.clear()
                missing = wanted
            self._known |= self._made(sorted(missing), at)
        return {name: self._known[name] for name in wanted}

    def room(self) -> bool:
        """Whether a further account may have a key of its own."""
        return self._count < MOST_ACCOUNTS

    def knows(self, name: str) -> bool:
        return name in self._known

    def find(self, identity: str) -> bytes:
        """A key by its id. Raises ErasedError, or LookupError where there never was one."""
        row = self._database.execute("SELECT key, erased FROM keys WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise LookupError(f"the key {identity} is not in {self.file}")
        if row[0] is None:
            raise ErasedError(f"the key {identity} was erased on {timestamp_text(row[1])[:10]}")
        return bytes(row[0])

    def erase(self, name: str, at: int) -> str | None:
        """Drop the key of an account, and its name. The key's id; None where there is no such account. at: µs."""
        row = self._database.execute("SELECT id FROM keys WHERE account = ?", (name,)).fetchone()
        if row is None:
            return None
        self._database.execute("UPDATE keys SET key = NULL, account = NULL, erased = ? WHERE id = ?", (at, row[0]))
        self._known.pop(name, None)
        return str(row[0])

    def close(self) -> None:
        self._database.close()

    def _made(self, names: Sequence[str], at: int) -> dict[str, Key]:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            fresh = [(secrets.token_hex(8), name, secrets.token_bytes(32), at) for name in names]
            added = self._database.executemany("INSERT OR IGNORE INTO keys (id, account, key, made) VALUES (?, ?, ?, ?)", fresh)
            self._count += added.rowcount
            marks = ", ".join("?" * len(names))
            rows = execute(f"SELECT account, id, key FROM keys WHERE account IN ({marks})", names).fetchall()  # noqa: S608
            execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                execute("ROLLBACK")
            raise
        return {name: (identity, bytes(key)) for name, identity, key in rows}

    def _seen(self) -> int:
        return int(self._database.execute("PRAGMA data_version").fetchone()[0])


class Seals:
    """Hides the identifiers of records behind hashes and boxes. Raises ConfigError where the extra is not installed."""

    def __init__(self, names: Names, keys: Keys | None) -> None:
        self._names, self._keys = names, keys
        self._cipher = _cipher() if keys is not None else None

    def hide(self, records: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """The records as the ledger holds them; each with its time (µs). Raises sqlite3.Error where keys cannot be kept."""
        values = [self._names.taken(entry) for _, entry in records]
        hidden = [self._names.replaced(entry, taken, at) for (at, entry), taken in zip(records, values, strict=True)]
        if self._keys is None or self._cipher is None:
            return hidden
        owners = [self._owner(entry, at) for at, entry in records]
        keys = self._keys.of(owners, max((at for at, _ in records), default=0))
        for entry, taken, owner in zip(hidden, values, owners, strict=True):
            identity, key = keys[owner]
            nonce = secrets.token_bytes(12)
            content = {CONTENT: entry[CONTENT]} if CONTENT in entry else {}
            box = nonce + self._cipher(key).encrypt(nonce, _packed({**taken, **content}), entry["id"].encode())
            entry |= {CONTENT: {"captured": True, "sealed": True}} if content else {}
            entry["sealed"] = {"key": identity, "box": base64.b64encode(box).decode()}
        return hidden

    def _owner(self, entry: Mapping[str, Any], at: int) -> str:
        """Whose key seals a record: that of its account, or of the day."""
        assert self._keys is not None
        signals = entry["signals"]
        account, listed = signals.get("account.id"), signals.get("account.known") is not False
        own = isinstance(account, str) and listed and (self._keys.knows(account_key(account)) or self._keys.room())
        return account_key(account) if own else f"day:{timestamp_text(at)[:10]}"


def account_key(account: str) -> str:
    """What the key of an account is kept under."""
    return f"account:{account}"


class Opener:
    """Puts back into records what was sealed. keys: None where nobody here holds them.

    unopened: why records stayed as they are, with how many.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys
        self._cipher = _cipher() if keys is not None else None
        self.unopened: dict[str, int] = {}

    def __call__(self, text: bytes) -> bytes:
        """A line of a ledger with its identifiers; unchanged where it holds none that are sealed, or they cannot be opened."""
        if b'"sealed":' not in text:
            return text
        try:
            entry = json.loads(text)
            return json.dumps(self.opened(entry), ensure_ascii=False).encode("utf-8", "surrogatepass")
        except SluiceError as error:
            why = "of accounts that were erased" if isinstance(error, ErasedError) else str(error)
        except (ValueError, TypeError, KeyError, AttributeError, LookupError) as error:
            why = str(error)
        self.unopened[why] = self.unopened.get(why, 0) + 1
        return text

    def opened(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A record with its identifiers. Raises ErasedError, SluiceError where they cannot be opened, LookupError."""
        sealed = entry.get("sealed")
        if sealed is None:
            return dict(entry)
        if self._keys is None or self._cipher is None:
            raise SluiceError("sealed, and no keys are given: name the gateway.yaml whose audit.keys hold them by --config")
        from cryptography.exceptions import InvalidTag

        box = base64.b64decode(sealed["box"])
        try:
            packed = self._cipher(self._keys.find(sealed["key"])).decrypt(box[:12], box[12:], entry["id"].encode())
        except InvalidTag:
            raise SluiceError("the box does not open with its key: one of them was altered") from None
        kept = {name: value for name, value in entry.items() if name not in ("sealed", "names")}
        values = json.loads(packed)
        kept |= {CONTENT: values.pop(CONTENT)} if CONTENT in values else {}
        return {**kept, "signals": {**entry["signals"], **values}}


def _packed(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # an extra: only where identifiers are sealed
    except ModuleNotFoundError:
        mend = "install sluicegate[sign], or keep them as `identifiers: hashed`"
        raise ConfigError([Problem(Place("audit.identifiers"), "sealing needs the cryptography package", mend)]) from None
    return AESGCM
