"""Where a request comes from: what the operator's databases and lists say of `client.ip` (which `address` finds).

`geo.country`, `geo.asn` and `geo.anonymous` in gateway.yaml name mmdb files (`databases` says which are understood),
`geo.networks` lists of networks by kind (`networks`). They are read again when a file changes; a corrupt one keeps the last
good and says so in health. Without one its signals are missing, so the rules that need them end as `unknown`; and so they are
when it is older than `geo.max_age` at the time of the exchange.

A country database that also tells the system (Enterprise, IPinfo) answers for `client.asn` where no `geo.asn` is named. Age and
source of the country database stand in every record, so that a decision can be judged years later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.errors import ConfigError, Problem
from gateway.failing import Dependency, Fail, FailModes
from gateway.plugins import evidence, network_kinds
from gateway.plugins.databases import MAX_AGE, Absent, Database, Found
from gateway.plugins.network_kinds import Asked, NetworkLists
from gateway.plugins.reloaded import Moment
from gateway.registry import Registry, Settings
from gateway.signals import Signal, View
from gateway.values import ASN, COUNTRY, DURATION, SECOND, STRING, Missing

NO_COUNTRY: Final = evidence.NO_COUNTRY_DATABASE
NO_SYSTEMS: Final = Missing("no asn database")
ROLES: Final = ("country", "asn", "anonymous")


def register(registry: Registry, settings: Settings) -> None:
    geo = settings.get("geo", {})
    moment = Moment(settings.get("clock"))
    lasting = settings.get("fail", FailModes()).of(Dependency.GEO) is Fail.DEGRADE
    databases, lists = _opened(geo, moment, lasting)
    for name, database in databases.items():
        registry.watch(f"geo.{name}", database)
        registry.depends(Dependency.GEO, name, database.breaker, database.failing)
    if "country" not in databases:
        registry.watch("geo.country", Absent())
    if lists is not None:
        registry.watch("geo.networks", lists)
    country = databases.get("country")
    own = [databases[name] for name in ("country", "asn") if name in databases]
    registry.add_signals(_geo_signals(databases, moment))
    registry.add_signals(network_kinds.signals(Asked(lists, databases.get("anonymous"), own)))
    registry.add_signals(evidence.signals(evidence.Evidence(country)))


def _opened(geo: Settings, moment: Moment, lasting: bool) -> tuple[dict[str, Database], NetworkLists | None]:
    """All files of the section. Raises ConfigError with the problems of all of them."""
    databases: dict[str, Database] = {}
    lists: NetworkLists | None = None
    problems: list[Problem] = []
    for name in ROLES:
        try:
            if geo.get(name):
                databases[name] = Database(geo[name], geo.get("max_age", MAX_AGE), moment, lasting=lasting)
        except ConfigError as error:
            problems += error.problems
    try:
        lists = NetworkLists(geo["networks"], moment) if geo.get("networks") else None
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return databases, lists


def _looked_up(database: Database | None, without: Missing, field: Callable[[Found], object]) -> Callable[[View], object]:
    """A resolver for one thing that a database tells of the caller's address."""

    def resolve(view: View) -> object:
        if database is None:
            return without
        ip = view.get("client.ip")
        return field(database.ask(ip, view.facts.at)) if isinstance(ip, str) else ip

    return resolve


def _geo_signals(databases: Mapping[str, Database], moment: Moment) -> list[Signal]:
    country = databases.get("country")
    systems = databases.get("asn", country)

    def geo_age(view: View) -> object:
        moment.seen(view.facts.at)  # asked for every record, so that health knows the time whatever the rules ask
        return max(0, view.facts.at - country.built * SECOND) if country else NO_COUNTRY

    def geo_source(view: View) -> object:
        return country.label if country else NO_COUNTRY

    lists = "no database, one older than `geo.max_age`, or it does not list the address"
    return [
        Signal("client.country", COUNTRY, "where the address is registered: a guess about a network, not a person",
               _looked_up(country, NO_COUNTRY, lambda found: found.country), missing=f"{lists}, or names none of ISO 3166",
               confounder="travel, VPN, cloud egress, a stale database"),
        Signal("client.subdivision", STRING, "the ISO 3166-2 subdivision of the address, such as UA-43: a rougher guess still",
               _looked_up(country, NO_COUNTRY, lambda found: found.subdivision), missing=f"{lists}, or is none of cities",
               confounder="mobile networks and carriers whose addresses move between regions"),
        Signal("client.asn", ASN, "the autonomous system that announces the address",
               _looked_up(systems, NO_SYSTEMS, lambda found: found.asn), missing=lists, confounder="shared cloud egress"),
        Signal("client.as_org", STRING, "the organisation of that autonomous system",
               _looked_up(systems, NO_SYSTEMS, lambda found: found.as_org), missing=lists),
        Signal("client.geo_age", DURATION, "age of the country database; in every record", geo_age,
               missing="no country database", least=0, recorded=True),
        Signal("client.geo_source", STRING, "which country database, of what day; in every record", geo_source,
               missing="no country database", recorded=True),
    ]  # fmt: skip
