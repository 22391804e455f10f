"""A directory in a file, held in memory: YAML or CSV, read at start and again when it changes.

A broken edit keeps the last good content, says where in health and what on standard error; what it answers is then stale.
Credentials stand in it as SHA-256 digests, so that the file holds no secret. YAML:

    accounts:
      - id: acme-research
        org: acme
        credentials: ["sha256:<hex of the key>"]
        created: 2026-01-15T00:00:00Z
        plan: paid
        billing_country: FR
        billing_source: card
        billing_date: 2026-01-15T00:00:00Z

An account without `org` is its own. One whose `id` is somebody else's org must say whose it is.

CSV has the same names in its first row, any of them but `id` may be left out; several credentials stand in one cell, with
spaces between them. An empty cell says nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.credentials import credential_hash
from gateway.errors import ConfigError, LoadError, Place, did_you_mean
from gateway.facts import Freshness, LookedUp
from gateway.incidents import report
from gateway.plugins.identity.entries import FIELDS, entry_of, reader, with_org
from gateway.plugins.reloaded import ReloadedFile
from gateway.strict.document import Node, contents
from gateway.strict.document import read as read_yaml
from gateway.strict.shapes import Field, Problems, flag, listing, mapping, placed, scalar, text
from gateway.values import BOOL

LARGEST_CSV: Final = 64 * 2**20
MOST_PLACES: Final = 3
NOT_LISTED: Final = LookedUp(None)
Listed = tuple[dict[str, Any], Place]
_WORDS: Final = {"true": True, "false": False}


def digest_of(value: Any) -> str:
    """The hexadecimal digits of a credential's SHA-256. Raises ValueError, which does not repeat what may be a key."""
    hexed = str(value).removeprefix("sha256:").lower()
    if len(hexed) != 64 or set(hexed) - set("0123456789abcdef"):
        raise ValueError("not the SHA-256 of a credential; write sha256: and 64 hexadecimal digits, never the key itself")
    return hexed


_ACCOUNT: Final = {
    "id": Field(text("id", 200), required=True),
    "credentials": Field(listing(scalar(digest_of, "credential"), "credentials"), default=[]),
    **{
        name: Field(flag(name) if kind is BOOL else scalar(reader(name), name)) for name, kind in FIELDS.items() if name != "id"
    },
}
_DIRECTORY: Final = {"accounts": Field(listing(placed(mapping(_ACCOUNT, "an account")), "accounts"), required=True)}


def _yaml(path: Path, problems: Problems) -> list[Listed]:
    directory = mapping(_DIRECTORY, "an account directory")(read_yaml(path), problems)
    found: list[tuple[dict[str, Any], Node]] = (directory or {}).get("accounts") or []
    return [(account, node.place) for account, node in found]


def _csv(path: Path, problems: Problems) -> list[Listed]:
    try:
        written = contents(path, LARGEST_CSV).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(Place(str(path)), f"is not UTF-8 at byte {error.start}")
        return []
    rows = csv.reader(io.StringIO(written, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if not _header_holds(header, Place(str(path), 1, 1), problems):
            return []
        found, begins = [], rows.line_num + 1
        for row in rows:
            place, begins = Place(str(path), begins, 1), rows.line_num + 1
            if row and (account := _row(header, row, place, problems)) is not None:
                found.append((account, place))
    except csv.Error as error:
        problems.add(Place(str(path), rows.line_num, 1), f"is not CSV: {error}")
        return []
    return found


def _header_holds(header: list[str], place: Place, problems: Problems) -> bool:
    before = len(problems.found)
    for name in dict.fromkeys(header):
        if name != "credentials" and name not in FIELDS:
            hint = did_you_mean(name, ["credentials", *FIELDS])
            problems.add(place, f"unknown column '{name}'", hint or "known: credentials, " + ", ".join(FIELDS))
        if header.count(name) > 1:
            problems.add(place, f"the column '{name}' stands twice")
    if "id" not in header:
        problems.add(place, "an account needs 'id': the first row names no such column")
    return len(problems.found) == before


def _row(header: list[str], row: list[str], place: Place, problems: Problems) -> dict[str, Any] | None:
    if len(row) != len(header):
        problems.add(place, f"has {len(row)} cells, not {len(header)} as the first row", "put a cell with commas in quotes")
        return None
    written: dict[str, object] = {name: cell.strip() or None for name, cell in zip(header, row, strict=True)}
    digests = []
    for credential in str(written.pop("credentials", None) or "").split():
        try:
            digests.append(digest_of(credential))
        except ValueError as error:
            problems.add(place, f"credential: {error}")
    for name, value in written.items():
        if FIELDS[name] is BOOL and isinstance(value, str):
            written[name] = _WORDS.get(value.lower(), value)
    entry, wrong = entry_of(written)
    for message in wrong.values():
        problems.add(place, message)
    return None if wrong else {**entry, "credentials": digests}


READERS: Final[Mapping[str, Callable[[Path, Problems], list[Listed]]]] = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv}


def load_directory(path: Path, hash_key: bytes) -> dict[str, LookedUp]:
    """Accounts by the keyed hash of each credential. Raises ConfigError with every problem found."""
    problems = Problems(raises=ConfigError)
    try:
        listed = READERS[path.suffix](path, problems)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    found: dict[str, LookedUp] = {}
    seen: set[tuple[str, str]] = set()
    orgs = {account.get("org") for account, _ in listed}
    for account, place in listed:
        if account["id"] in orgs and account.get("org") != account["id"]:
            problems.add(place, f"the id '{account['id']}' is an org of other accounts", "state its org, or give it another id")
        digests = account.pop("credentials")
        for what, named in (("id", account["id"]), *(("credential", digest) for digest in digests)):
            if (what, named) in seen:
                problems.add(place, f"the id '{named}' stands twice" if what == "id" else f"a {what} stands twice")
            seen.add((what, named))
        entry = LookedUp(with_org({name: value for name, value in account.items() if value is not None}))
        found |= {credential_hash(bytes.fromhex(digest), hash_key): entry for digest in digests}
    if problems.found:
        raise ConfigError(problems.found)
    return found


class FileDirectory:
    """A directory file in memory, by the keyed hash of each credential. Raises ConfigError where it cannot be read at start."""

    def __init__(self, path: Path, hash_key: bytes) -> None:
        self._wrong: ConfigError | None = None

        def load(file: Path) -> dict[str, LookedUp]:
            self._wrong = None
            try:
                return load_directory(file, hash_key)
            except ConfigError as error:
                self._wrong = error
                raise

        self._file = ReloadedFile(path, load)

    def start(self, timer: Callable[[], int]) -> None:
        """Nothing expires here."""

    def find(self, credential: str) -> LookedUp:
        found = self._file.content.get(credential, NOT_LISTED)
        return replace(found, freshness=Freshness.STALE) if self._file.problem else found

    async def fetch(self, credential: str, digest: bytes, network: str = "") -> LookedUp:
        return self.find(credential)

    async def close(self) -> None:
        """Nothing is open."""

    def refresh(self) -> None:
        before = self._wrong
        self._file.refresh()
        if self._wrong is not None and self._wrong is not before:
            report("directory.unavailable", self._file.problem)

    def health(self) -> dict[str, object]:
        """problem: where the file cannot be read. What stands there may be a key by mistake, so health does not repeat it."""
        accounts = {id(looked_up) for looked_up in self._file.content.values()}
        return {"kind": "file", "accounts": len(accounts), "problem": self._where()}

    def _where(self) -> str:
        if self._wrong is None:
            return ""
        places = list(dict.fromkeys(str(problem.place) for problem in self._wrong.problems))
        more = f" and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else ""
        return (
            f"{', '.join(places[:MOST_PLACES])}{more}: cannot be read (standard error says why); the last good one stays in use"
        )
