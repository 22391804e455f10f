"""Where a request comes from: `client.ip`, its network, and what mmdb databases say of it.

One resolver decides the client's address. It trusts nobody by default; with trusted proxies it walks `X-Forwarded-For`
from the right and stops at the first address that is not one of them. IPv6 callers are counted by /64, IPv4 by /24.

Databases are the operator's (`geo.country`, `geo.asn` in gateway.yaml): MaxMind's Country, City, Enterprise and ASN, or any
mmdb whose records hold `country_code` or `autonomous_system_number`. They are read again when the file changes; a
corrupt one keeps the last good and says so. Without one the signals are missing, so region rules end as `unknown`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import geoip2.database
import geoip2.errors
import maxminddb

from gateway.errors import ConfigError, Place, Problem
from gateway.plugins.address import Resolver, address, network_of
from gateway.plugins.reloaded import ReloadedFile
from gateway.registry import Registry, Settings
from gateway.signals import Signal, View
from gateway.values import ASN, CIDR, COUNTRY, DURATION, IP, SECOND, STRING, Missing, timestamp_text

NO_COUNTRY: Final = Missing("no country database")
NO_PEER: Final = Missing("no client address")
NOT_FOUND: Final = Missing("the geo database does not list the address")
CACHE: Final = 65_536


class Opened:
    """One open mmdb file with a cache in front."""

    def __init__(self, path: Path) -> None:
        """geoip2 checks the file; look-ups go to the reader below it, which skips building model objects."""
        try:
            with geoip2.database.Reader(str(path)) as checked:
                metadata = checked.metadata()
            self._reader = maxminddb.open_database(str(path), maxminddb.MODE_AUTO)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            mend = "name an .mmdb file, such as a GeoLite2 or DB-IP country database"
            raise ConfigError([Problem(Place(str(path)), f"is not a geo database: {error}", mend)]) from None
        self.kind, self.built = metadata.database_type, metadata.build_epoch
        self._cache: dict[str, Mapping[str, Any] | None] = {}

    def find(self, ip: str) -> Mapping[str, Any] | None:
        try:
            return self._cache[ip]
        except KeyError:
            if len(self._cache) >= CACHE:
                self._cache.clear()
            found = self._cache[ip] = self._look(ip)
            return found

    def _look(self, ip: str) -> Mapping[str, Any] | None:
        record = self._reader.get(ip)
        if not isinstance(record, dict):
            return None
        country = record.get("country")
        code = country.get("iso_code") if isinstance(country, dict) else record.get("country_code", country)
        return {
            "country": code if isinstance(code, str) and len(code) == 2 else None,
            "asn": record.get("autonomous_system_number", record.get("asn")),
            "as_org": record.get("autonomous_system_organization", record.get("as_name")),
        }


class Database:
    """One geo database. Raises ConfigError when it cannot be opened the first time."""

    def __init__(self, path: Path) -> None:
        self._file = ReloadedFile(path, Opened)

    @property
    def built(self) -> int:
        """When it was built, in seconds since 1970."""
        return self._file.content.built

    @property
    def kind(self) -> str:
        """The type it states of itself."""
        return self._file.content.kind

    def find(self, ip: str) -> Mapping[str, Any] | None:
        """The record of an address: `country`, `asn`, `as_org` as far as the database has them."""
        return self._file.content.find(ip)

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        return {"kind": self.kind, "built": timestamp_text(self.built * SECOND), "problem": self._file.problem}


class Absent:
    """Stands in health for a country database that nobody named."""

    def refresh(self) -> None:
        """Nothing to read again."""

    def health(self) -> dict[str, object]:
        return {"note": "no country database: region rules end as unknown", "problem": ""}


def register(registry: Registry, settings: Settings) -> None:
    geo = settings.get("geo", {})
    databases = {name: Database(geo[name]) for name in ("country", "asn") if geo.get(name)}
    for name, database in databases.items():
        registry.watch(f"geo.{name}", database)
    if "country" not in databases:
        registry.watch("geo.country", Absent())
    trusted = tuple(ipaddress.ip_network(text) for text in settings.get("client_address", {}).get("trusted_proxies", ()))
    registry.add_signals(_address_signals(Resolver(trusted)))
    registry.add_signals(_geo_signals(databases))


def _address_signals(resolver: Resolver) -> list[Signal]:
    def ip(view: View) -> object:
        found = resolver.resolve(view.facts.peer, view.facts.header_values("x-forwarded-for"))
        return str(found) if found is not None else NO_PEER

    def network(view: View) -> object:
        found = view.get("client.ip")
        return network_of(ipaddress.ip_address(found)) if isinstance(found, str) else found

    def connection(view: View) -> object:
        facts = view.facts
        if facts.connection is None:
            return Missing("the host does not tell connections apart")
        peer = address(facts.peer) if facts.peer else None
        if peer is not None and resolver.trusts(peer):
            return Missing("the connection is a trusted proxy's, not the caller's")
        return facts.connection

    return [
        Signal("client.ip", IP, "the caller's address behind trusted proxies", ip, missing="the host knows no peer",
               confounder="shared addresses: campus, company, carrier NAT, VPN"),
        Signal("client.network", CIDR, "the address's /24 (IPv4) or /64 (IPv6)", network, missing="no address",
               confounder="shared networks"),
        Signal("client.connection", STRING, "the keep-alive connection the exchange came on", connection,
               missing="the host does not tell, or a trusted proxy stands between",
               confounder="one program that holds several of its own keys"),
    ]  # fmt: skip


def _geo_signals(databases: Mapping[str, Database]) -> list[Signal]:
    country = databases.get("country")

    def looked_up(database: str, field: str, view: View) -> object:
        if database not in databases:
            return Missing(f"no {database} database")
        found = view.get("client.ip")
        if not isinstance(found, str):
            return found
        record = databases[database].find(found)
        value = record.get(field) if record else None
        return value if value is not None else NOT_FOUND

    def geo_age(view: View) -> object:
        return max(0, view.facts.at - country.built * SECOND) if country else NO_COUNTRY

    def geo_source(view: View) -> object:
        return f"{country.kind} of {timestamp_text(country.built * SECOND)[:10]}" if country else NO_COUNTRY

    lists = "no database, or the database does not list the address"
    return [
        Signal("client.country", COUNTRY, "where the address is registered: a guess about a network, not a person",
               lambda view: looked_up("country", "country", view), missing=lists,
               confounder="travel, VPN, cloud egress, a stale database"),
        Signal("client.asn", ASN, "the autonomous system that announces the address",
               lambda view: looked_up("asn", "asn", view), missing=lists, confounder="shared cloud egress"),
        Signal("client.as_org", STRING, "the organisation of that autonomous system",
               lambda view: looked_up("asn", "as_org", view), missing=lists),
        Signal("client.geo_age", DURATION, "age of the country database", geo_age, missing="no country database",
               least=0),
        Signal("client.geo_source", STRING, "which country database, of what day", geo_source, missing="no country database"),
    ]  # fmt: skip
