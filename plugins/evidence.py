"""Where a caller belongs, source by source: `region.*`. Evidence is kept apart, and never averaged.

Five sources are told: `network` (the country database), `billing`, `kyc` and `ownership` (the account directory: contract
facts), and `forwarded` (the country of an address that the caller itself wrote down). The first four are independent of
each other as long as they do not name the same authority: two contract facts taken from one register are one witness.
`forwarded` is anybody's word; it is shown and never counted.

Unknown is a value of its own:

- `region.evidence` always has five entries, and a source that says nothing stands there as `unknown` with the reason;
- `region.sources` counts witnesses that name a country, so it is never missing: 0 says that nothing is known;
- `region.countries` and `region.agreement` are missing where nothing is known: a rule such as «fewer than two agree» or
  «none of them is listed» must not hold out of ignorance. `region.countries: {present: false}` asks for just that;
- `region.conflict` is missing where fewer than two facts are known: there is nothing to compare, and «no conflict» would be a
  claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.plugins.databases import Database
from gateway.signals import Signal, View
from gateway.values import BOOL, COUNTRY, INT, SECOND, STRING, Failed, Missing, set_of, timestamp_text

CONTRACT: Final = ("billing", "kyc", "ownership")
SAID: Final = tuple((name, *[f"account.{name}_{what}" for what in ("country", "date", "source")]) for name in CONTRACT)
NOTHING_KNOWN: Final = Missing("no source names a country")
NOTHING_TO_COMPARE: Final = Missing("fewer than two sources name a country")
NO_COUNTRY_DATABASE: Final = Missing("no country database")
MOST: Final = 80


class Fact(NamedTuple):
    """What one source says: a country, or why it says none. by: its authority, empty where nobody said. date: µs."""

    name: str
    country: str | Missing
    by: str = ""
    date: int | None = None
    remark: str = ""

    def __str__(self) -> str:
        """One fixed form: `billing FR, by payment provider, of 2026-10-01` or `kyc unknown: no account directory`."""
        if isinstance(self.country, Missing):
            return f"{self.name} unknown: {self.country.reason}"
        day = timestamp_text(self.date)[:10] if self.date is not None else "unknown date"
        return f"{self.name} {self.country}, by {self.by or 'unknown source'}, of {day}{self.remark}"

    @property
    def witness(self) -> str:
        """Who stands behind it: the authority, else the source itself."""
        return self.by.casefold() or self.name


def _text(value: object) -> str:
    """What an operator's directory says, as it may stand in a record: one short line."""
    return " ".join(value.split())[:MOST] if isinstance(value, str) else ""


def _reason(value: object) -> Missing:
    return value if isinstance(value, Missing) else Missing(value.reason if isinstance(value, Failed) else "no country")


class Evidence:
    """The facts of one exchange. country: the country database, if there is one."""

    def __init__(self, country: Database | None) -> None:
        self._database = country

    def independent(self, view: View) -> list[Fact]:
        """What network and contract say: four facts, always in this order."""
        return [self._network(view), *[_contract(view, *names) for names in SAID]]

    def all(self, view: View) -> object:
        return frozenset([str(fact) for fact in (*view.once(self.independent), self._forwarded(view))])

    def _network(self, view: View) -> Fact:
        found = view.get("client.country")
        return self._looked_up("network", found if isinstance(found, str) else _reason(found))

    def _forwarded(self, view: View) -> Fact:
        ip = view.get("reseller.forwarded_client")
        if not isinstance(ip, str):
            return Fact("forwarded", _reason(ip))
        found = self._database.ask(ip, view.facts.at).country if self._database else NO_COUNTRY_DATABASE
        return self._looked_up("forwarded", found, ", on the caller's word")

    def _looked_up(self, name: str, country: str | Missing, remark: str = "") -> Fact:
        if self._database is None:
            return Fact(name, country, remark=remark)
        return Fact(name, country, _text(self._database.kind), self._database.built * SECOND, remark)


def _contract(view: View, name: str, country: str, date: str, source: str) -> Fact:
    found = view.get(country)
    if not isinstance(found, str):
        return Fact(name, _reason(found))
    when = view.get(date)
    return Fact(name, found, _text(view.get(source)), when if isinstance(when, int) else None)


def witnesses(facts: list[Fact]) -> dict[str, set[str]]:
    """Who names which country: facts that name one authority are one witness."""
    said: dict[str, set[str]] = {}
    for fact in facts:
        if isinstance(fact.country, str):
            said.setdefault(fact.country, set()).add(fact.witness)
    return said


def _countries(said: dict[str, set[str]]) -> object:
    return frozenset(said) or NOTHING_KNOWN


def _sources(said: dict[str, set[str]]) -> object:
    return len(set().union(*said.values()))


def _agreement(said: dict[str, set[str]]) -> object:
    return max(map(len, said.values())) if said else NOTHING_KNOWN


def _conflict(facts: list[Fact]) -> object:
    known = [fact.country for fact in facts if isinstance(fact.country, str)]
    return len(set(known)) > 1 if len(known) > 1 else NOTHING_TO_COMPARE


def signals(evidence: Evidence) -> list[Signal]:
    independent = evidence.independent

    def said(view: View) -> dict[str, set[str]]:
        return witnesses(view.once(independent))

    def of(told: Callable[[dict[str, set[str]]], object]) -> Callable[[View], object]:
        return lambda view: told(view.once(said))

    travel = "travel, VPN, cloud egress, a stale database; companies with offices in several countries"
    return [
        Signal("region.evidence", set_of(STRING),
               "what network, billing, kyc, ownership and a forwarded address each say of the country, with source and date",
               evidence.all),
        Signal("region.countries", set_of(COUNTRY), "every country that network, billing, kyc or ownership name",
               of(_countries), missing="none of them names one", confounder=travel),
        Signal("region.sources", INT, "how many independent witnesses name a country; a forwarded address is none",
               of(_sources), confounder="facts taken over from each other under different names", least=0),
        Signal("region.agreement", INT, "how many independent witnesses name the country that most of them name",
               of(_agreement), missing="none of them names one", confounder=travel, least=1),
        Signal("region.conflict", BOOL, "whether network, billing, kyc and ownership name different countries",
               lambda view: _conflict(view.once(independent)), missing="fewer than two of them name one", confounder=travel),
    ]  # fmt: skip
