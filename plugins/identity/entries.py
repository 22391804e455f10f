"""What a directory may say of an account: one table of fields for files, databases and services.

id: who is charged; required                       billing_country, kyc_country, ownership_country: ISO 3166-1
org: who owns the account; else it is its own      …_source: where that country is known from, in a word or two
plan, payment: text                                …_date: when that was found
verified: true or false                            created: when the account was

An account without an org is its own under a name that no org can have (`account:` and its id): an account that is called
like somebody else's org must not join it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from gateway.errors import ConfigError, Place, did_you_mean
from gateway.values import BOOL, COUNTRY, STRING, TIMESTAMP, Type

LONGEST: Final = 500
LONGEST_ID: Final = 200
OWN: Final = "account:"
EVIDENCE: Final = ("billing", "kyc", "ownership")
FIELDS: Final[dict[str, Type]] = {
    "id": STRING, "org": STRING, "plan": STRING, "verified": BOOL, "payment": STRING, "created": TIMESTAMP,
    **{f"{kind}_country": COUNTRY for kind in EVIDENCE},
    **{f"{kind}_source": STRING for kind in EVIDENCE},
    **{f"{kind}_date": TIMESTAMP for kind in EVIDENCE},
}  # fmt: skip


def placed(error: ConfigError, places: Mapping[str, Place]) -> ConfigError:
    """The same problems where the settings they are about stand in gateway.yaml, as far as that is known."""
    return ConfigError([
        replace(found, place=places[found.place.path], message=f"{found.place.path}: {found.message}")
        if found.place.path in places else found
        for found in error.problems
    ])  # fmt: skip


class DirectoryError(Exception):
    """A directory that did not answer as it should. It stays within this room: hosts get `Freshness.UNAVAILABLE`.

    Its text names the kind of fault and no value, for health; detail: what standard error says, if more is to be said.
    """

    def __init__(self, said: str, detail: str = "") -> None:
        super().__init__(said)
        self.detail = detail


class BadEntryError(DirectoryError):
    """The directory answered, but this account's entry cannot be read."""


def reader(name: str) -> Callable[[object], object]:
    """What reads the value of a field. It raises ValueError with a sentence for people."""
    kind, most = FIELDS[name], LONGEST_ID if name == "id" else LONGEST

    def read(written: object) -> object:
        if kind is STRING and isinstance(written, str) and (not written.strip() or len(written) > most):
            raise ValueError("it is blank" if not written.strip() else f"longer than {most} characters")
        if name == "org" and isinstance(written, str) and written.startswith(OWN):
            raise ValueError(f"'{OWN}…' is what an account without an org is called")
        return kind.parse(written)

    return read


_READERS: Final = {name: reader(name) for name in FIELDS}


def unknown_field(name: str) -> str:
    """What to say of a field that there is none of."""
    hint = did_you_mean(name, list(FIELDS)) or "known: " + ", ".join(FIELDS)
    return f"unknown field '{name[:80]}' of an account; {hint}"


def entry_of(written: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """The entry of an account, and what is wrong by field. None stands for a field of which nothing is said."""
    entry: dict[str, object] = {}
    wrong = {name: unknown_field(name) for name in written if name not in FIELDS}
    for name, value in written.items():
        if value is None or name in wrong:
            continue
        try:
            entry[name] = _READERS[name](value)
        except ValueError as error:
            wrong[name] = f"{name}: {error}"
    if "id" not in entry and "id" not in wrong:
        wrong["id"] = "an account needs 'id'"
    return with_org(entry), wrong


def with_org(entry: dict[str, object]) -> dict[str, object]:
    """The entry with an org: without one, an account is its own, under a name that no org has."""
    if "id" in entry:
        entry.setdefault("org", f"{OWN}{entry['id']}")
    return entry


def unreadable(entry: Mapping[str, object], wrong: Mapping[str, str]) -> BadEntryError:
    """What to raise for an entry in which something is wrong; its values are told to nobody, its account to standard error."""
    faults = [f"{name} is missing or no valid {FIELDS[name]}" for name in wrong if name in FIELDS]
    faults += ["it has a field that there is none of"] if set(wrong) - set(FIELDS) else []
    said = f"cannot be read: {'; '.join(faults)}"
    return BadEntryError(f"an entry {said}", f"the entry of account {str(entry.get('id', '?'))!r} {said}")
