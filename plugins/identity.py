"""Who is charged: `account.*`, from the credential through a directory.

Without a directory an account is the keyed hash of its credential, and its own org. The directory here is a YAML file,
read at start and again when it changes; a broken edit keeps the last good one and says so in health. Credentials stand
in it as SHA-256 digests, so that the file holds no secret:

    accounts:
      - id: acme-research
        org: acme
        credentials: ["sha256:<hex of the key>"]
        created: 2026-01-15T00:00:00Z
        plan: paid
        billing_country: FR
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.credentials import credential_hash
from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.plugins.reloaded import ReloadedFile
from gateway.registry import Registry, Settings
from gateway.signals import Signal, View
from gateway.strict.document import read
from gateway.strict.shapes import Field, Problems, flag, listing, mapping, scalar, text
from gateway.values import BOOL, COUNTRY, DURATION, STRING, TIMESTAMP, Missing, Type

NO_CREDENTIAL: Final = Missing("no credential was sent")
NO_DIRECTORY: Final = Missing("no account directory")
NOT_LISTED: Final = Missing("the account directory does not say")

_FIELDS: Final[dict[str, Type]] = {
    "org": STRING, "plan": STRING, "verified": BOOL, "payment": STRING, "created": TIMESTAMP,
    "billing_country": COUNTRY, "kyc_country": COUNTRY, "ownership_country": COUNTRY,
}  # fmt: skip
_MEANINGS: Final = {
    "plan": "the plan the account is on",
    "verified": "whether the account's owner was verified",
    "payment": "an opaque hash of the payment instrument, as the operator supplies it",
    "billing_country": "the country of the billing address",
    "kyc_country": "the country an identity check found",
    "ownership_country": "the country of the owning company",
}


def _digest(value: Any) -> str:
    hexed = str(value).removeprefix("sha256:").lower()
    if len(hexed) != 64 or set(hexed) - set("0123456789abcdef"):
        raise ValueError("not the SHA-256 of a credential; write sha256: and 64 hexadecimal digits, never the key itself")
    return hexed


_ACCOUNT: Final = {
    "id": Field(text("id", 200), required=True),
    "credentials": Field(listing(scalar(_digest, "credential"), "credentials"), default=[]),
    **{name: Field(flag(name) if kind is BOOL else scalar(kind.parse, name)) for name, kind in _FIELDS.items()},
}
_DIRECTORY: Final = {"accounts": Field(listing(mapping(_ACCOUNT, "an account"), "accounts"), required=True)}


def load_directory(path: Path, hash_key: bytes) -> dict[str, dict[str, Any]]:
    """Accounts by the keyed hash of each credential. Raises ConfigError with every problem found."""
    problems = Problems(raises=ConfigError)
    try:
        entry = mapping(_DIRECTORY, "an account directory")(read(path), problems)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    if problems.found or entry is None:
        raise ConfigError(problems.found)
    accounts: dict[str, dict[str, Any]] = {}
    named = [account["id"] for account in entry["accounts"]]
    presented = [digest for account in entry["accounts"] for digest in account["credentials"]]
    for what, seen in (("id", named), ("credential", presented)):
        twice = sorted(text for text, count in Counter(seen).items() if count > 1)
        problems.found += [Problem(Place(str(path)), f"the {what} '{text}' stands twice") for text in twice]
    if problems.found:
        raise ConfigError(problems.found)
    for account in entry["accounts"]:
        values = {name: value for name, value in account.items() if value is not None and name != "credentials"}
        values.setdefault("org", account["id"])
        for digest in account["credentials"]:
            accounts[credential_hash(bytes.fromhex(digest), hash_key)] = values
    return accounts


class FileDirectory:
    """A directory file in memory, by the keyed hash of each credential."""

    def __init__(self, path: Path, hash_key: bytes) -> None:
        self._file = ReloadedFile(path, lambda file: load_directory(file, hash_key))

    def find(self, credential: str) -> Mapping[str, Any] | None:
        return self._file.content.get(credential)

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        accounts = {id(entry) for entry in self._file.content.values()}
        return {"accounts": len(accounts), "problem": self._file.problem}


def register(registry: Registry, settings: Settings) -> None:
    section = settings.get("identity", {})
    path = section.get("directory")
    directory = FileDirectory(path, section["hash_key"]) if path else None
    if directory:
        registry.watch("directory", directory)
    registry.add_signals(_signals(Accounts(directory)))


class Accounts:
    """The `account.*` values of an exchange: what its source states, else what the directory says of its credential."""

    def __init__(self, directory: FileDirectory | None) -> None:
        self._directory = directory

    def entry(self, view: View) -> Mapping[str, Any] | Missing:
        """The account's entry, or why there is none."""
        facts = view.facts
        if facts.account is not None:
            return facts.account
        if facts.credential is None:
            return NO_CREDENTIAL
        if self._directory is None:
            return NO_DIRECTORY
        return self._directory.find(facts.credential) or NOT_LISTED

    def value(self, name: str) -> Callable[[View], object]:
        """A resolver for one field of the entry."""

        def resolve(view: View) -> object:
            found = self.entry(view)
            given = found if isinstance(found, Missing) else found.get(name)
            return NOT_LISTED if given is None else given

        return resolve

    def id(self, view: View) -> object:
        given = self.value("id")(view)
        if isinstance(given, Missing) and view.facts.credential is not None:
            return f"key:{view.facts.credential}"
        return given

    def org(self, view: View) -> object:
        given = self.value("org")(view)
        return self.id(view) if isinstance(given, Missing) else given

    def age(self, view: View) -> object:
        given = self.value("age")(view)
        if not isinstance(given, Missing):
            return given
        created = self.value("created")(view)
        return max(0, view.facts.at - created) if isinstance(created, int) else created

    def known(self, view: View) -> object:
        found = self.entry(view)
        return False if found is NOT_LISTED else found if isinstance(found, Missing) else True


def _signals(accounts: Accounts) -> list[Signal]:
    missing = "no credential, no directory, or the directory does not say"
    return [
        Signal("account.id", STRING, "who is charged: the directory's id, else a keyed hash of the credential", accounts.id,
               missing="no credential was sent", confounder="one person with several keys"),
        Signal("account.org", STRING, "who owns the account; without a directory each account is its own org", accounts.org,
               missing="no credential was sent"),
        Signal("account.known", BOOL, "whether the directory lists the credential", accounts.known, missing="no directory"),
        Signal("account.age", DURATION, "time since the account was created", accounts.age, missing=missing,
               confounder="a migrated workload under a new account", least=0),
        *(Signal(f"account.{name}", _FIELDS[name], meaning, accounts.value(name), missing=missing)
          for name, meaning in _MEANINGS.items()),
    ]  # fmt: skip
