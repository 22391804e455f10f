"""The `account.*` signals: what a source states of the account itself, else what the directory said when it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.facts import Freshness
from gateway.plugins.identity.entries import EVIDENCE, FIELDS
from gateway.signals import Signal, View
from gateway.values import BOOL, DURATION, INT, STRING, Missing

NO_CREDENTIAL: Final = Missing("no credential was sent")
NO_DIRECTORY: Final = Missing("no account directory")
NOT_LISTED: Final = Missing("the account directory does not list the credential")
NOT_SAID: Final = Missing("the account directory does not say")
UNAVAILABLE: Final = Missing("the account directory did not answer")
UNREADABLE: Final = Missing("what the account directory says of the account cannot be read")
_UNKNOWN: Final = {Freshness.UNAVAILABLE: UNAVAILABLE, Freshness.UNREADABLE: UNREADABLE}
NOT_ASKED: Final = "none"

_MEANINGS: Final = {
    "plan": "the plan the account is on",
    "verified": "whether the account's owner was verified",
    "payment": "an opaque hash of the payment instrument, as the operator supplies it",
    "billing_country": "the country of the billing address",
    "kyc_country": "the country an identity check found",
    "ownership_country": "the country of the owning company",
    **{f"{kind}_source": f"where `account.{kind}_country` is known from, as the operator says" for kind in EVIDENCE},
    **{f"{kind}_date": f"when `account.{kind}_country` was found to be so" for kind in EVIDENCE},
}


def entry(view: View) -> Mapping[str, object] | Missing:
    """The account's entry, or why there is none."""
    facts = view.facts
    if facts.account is not None:
        return facts.account
    if facts.looked_up is None:
        return NO_CREDENTIAL if facts.credential is None else NO_DIRECTORY
    if (unknown := _UNKNOWN.get(facts.looked_up.freshness)) is not None:
        return unknown
    return NOT_LISTED if facts.looked_up.entry is None else facts.looked_up.entry


def value(name: str) -> Callable[[View], object]:
    """A resolver for one field of the entry."""

    def resolve(view: View) -> object:
        found = entry(view)
        if isinstance(found, Missing):
            return found
        given = found.get(name)
        return NOT_SAID if given is None else given

    return resolve


_ID, _ORG, _AGE, _CREATED = value("id"), value("org"), value("age"), value("created")


def account_id(view: View) -> object:
    """A directory that did not answer leaves it open who asks: a hash in place of an id would be another account."""
    given = _ID(view)
    if isinstance(given, Missing) and given not in _UNKNOWN.values() and view.facts.credential is not None:
        return f"key:{view.facts.credential}"
    return given


def account_org(view: View) -> object:
    """A credential that nobody knows has no owner: keys made up at will must not look like many owners."""
    given = _ORG(view)
    unowned = given in (UNAVAILABLE, UNREADABLE, NOT_LISTED)
    return account_id(view) if isinstance(given, Missing) and not unowned else given


def account_age(view: View) -> object:
    given = _AGE(view)
    if not isinstance(given, Missing):
        return given
    created = _CREATED(view)
    return max(0, view.facts.at - created) if isinstance(created, int) else created


def account_known(view: View) -> object:
    found = entry(view)
    return False if found is NOT_LISTED else found if isinstance(found, Missing) else True


def account_directory(view: View) -> object:
    looked_up = view.facts.looked_up
    return NOT_ASKED if looked_up is None else str(looked_up.freshness)


def account_credentials(view: View) -> object:
    return view.facts.credentials


def signals() -> list[Signal]:
    """The catalogue of this room."""
    missing = "no credential, no directory, or the directory does not say or did not answer"
    return [
        Signal("account.id", STRING, "who is charged: the directory's id, else a keyed hash of the credential", account_id,
               missing="no credential was sent, or the directory did not answer", confounder="one person with several keys",
               recorded=True),
        Signal("account.org", STRING, "who owns the account: as the directory says, else `account:` and the account's id; "
               "without a directory its id", account_org,
               missing="no credential was sent, or the directory does not list it or did not answer",
               confounder="several keys of one owner, where no directory says whose they are", recorded=True),
        Signal("account.known", BOOL, "whether the directory lists the credential", account_known,
               missing="no directory, or it did not answer"),
        Signal("account.age", DURATION, "time since the account was created", account_age, missing=missing,
               confounder="a migrated workload under a new account", least=0),
        Signal("account.directory", STRING, "how current the directory's answer is: fresh, stale (it could not be asked; as it"
               " was last known), unavailable, unreadable (what it says is wrong),"
               " or none (not asked)", account_directory, recorded=True),
        Signal("account.credentials", INT, "how many different keys the request carried", account_credentials, least=0,
               recorded=True, confounder="a client that was given two keys by mistake"),
        *(Signal(f"account.{name}", FIELDS[name], meaning, value(name), missing=missing)
          for name, meaning in _MEANINGS.items()),
    ]  # fmt: skip
