"""Geo databases: any mmdb file, and the few things that rules may ask of it about an address.

What is read: MaxMind's Country, City, Enterprise, ASN, Anonymous-IP and Anonymous-Plus, and flat records as DB-IP, IPinfo and
ip-location-db write them (`country_code`, `asn`, `vpn` and so on). Countries are ISO 3166-1 alpha-2 as the rule language
knows them, with the user-assigned `XK` for Kosovo, which databases and the language both use; `EU`, `AP`, `A1` and the like
name no country, and the value is missing with that reason.

A file is read whole, never mapped: shortening a mapped file kills the process that looks into it. On Linux it goes into
anonymous memory that the C reader maps (a look-up takes about 1 µs), elsewhere into the pure Python reader (about 10 µs).
Either way an open database costs its size in memory, and once more for the moment in which it is read.

A database that is older than `geo.max_age` at the time of the exchange no longer speaks: what it would say is missing, with
that reason, so that rules end as `unknown`. Addresses move on, and an old database accuses whoever has them now.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import geoip2.database
import maxminddb

from gateway.breaker import Breaker
from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.plugins.reloaded import Moment, ReloadedFile
from gateway.strict.document import contents
from gateway.values import ASN, COUNTRY, SECOND, Missing, duration_text, timestamp_text

NOT_FOUND: Final = Missing("the geo database does not list the address")
NO_COUNTRY: Final = Missing("the geo database lists the address without a country")
NO_SUBDIVISION: Final = Missing("the geo database names no subdivision")
NO_SYSTEM: Final = Missing("the geo database names no autonomous system")
IPV4_ONLY: Final = Missing("the geo database lists IPv4 only")
MAX_AGE: Final = 60 * 86_400 * SECOND
CACHE: Final = 65_536
LARGEST: Final = 2**30
SAMPLES: Final = 4_096
LONGEST_NAME: Final = 200
MEND: Final = "name an .mmdb file, such as a GeoLite2 or DB-IP country database"

_LAST_SECOND: Final = 253_402_300_799
_SUBDIVISION: Final = re.compile(r"[A-Z0-9]{1,3}")
_FLAGS: Final = {
    "is_tor_exit_node": "tor", "tor": "tor", "is_anonymous_vpn": "vpn", "vpn": "vpn",
    "is_residential_proxy": "residential-proxy", "is_public_proxy": "public-proxy", "proxy": "public-proxy", "relay": "relay",
    "is_hosting_provider": "hosting", "hosting": "hosting", "is_satellite_provider": "satellite",
}  # fmt: skip
_WORDS: Final = {
    ("connection_type", "Satellite"): "satellite",
    ("user_type", "hosting"): "hosting",
    ("user_type", "consumer_privacy_network"): "relay",
}
_SYSTEM: Final = ("autonomous_system_number", "asn")
_OWNER: Final = ("autonomous_system_organization", "as_name", "name")


@dataclass(frozen=True, slots=True)
class Found:
    """What a database says of one address. kinds: the network kinds it flags, empty where it flags none."""

    country: str | Missing = NOT_FOUND
    subdivision: str | Missing = NOT_FOUND
    asn: int | Missing = NOT_FOUND
    as_org: str | Missing = NOT_FOUND
    kinds: frozenset[str] = frozenset()


UNLISTED: Final = Found()
DAMAGE: Final = Missing("the geo database is damaged where the address stands")
DAMAGED: Final = Found(DAMAGE, DAMAGE, DAMAGE, DAMAGE)
UNLISTED_IPV6: Final = Found(IPV4_ONLY, IPV4_ONLY, IPV4_ONLY, IPV4_ONLY)


def understood(record: Mapping[str, Any]) -> Found:
    """A record of any of the known shapes."""
    traits = record.get("traits")
    layers = (record, traits) if isinstance(traits, dict) else (record,)
    country = _country(record)
    return Found(country, _subdivision(record, country), _system(layers), _owner(layers), _kinds(layers))


def _country(record: Mapping[str, Any]) -> str | Missing:
    nested = record.get("country")
    code = nested.get("iso_code") if isinstance(nested, dict) else record.get("country_code", nested)
    if not isinstance(code, str) or not code:
        return NO_COUNTRY
    try:
        return str(COUNTRY.parse(code))
    except ValueError:
        return Missing(f"the geo database says {code[:20]!r}, which is no ISO 3166-1 alpha-2 country code")


def _subdivision(record: Mapping[str, Any], country: str | Missing) -> str | Missing:
    """ISO 3166-2: the largest subdivision comes first in MaxMind's lists."""
    listed = record.get("subdivisions")
    first = listed[0] if isinstance(listed, list) and listed else None
    code = first.get("iso_code") if isinstance(first, dict) else record.get("region_code")
    if isinstance(country, Missing):
        return country
    part = code.upper().removeprefix(f"{country}-") if isinstance(code, str) else ""
    return f"{country}-{part}" if _SUBDIVISION.fullmatch(part) else NO_SUBDIVISION


def _system(layers: tuple[Mapping[str, Any], ...]) -> int | Missing:
    said = next((layer[key] for layer in layers for key in _SYSTEM if key in layer), None)
    if said is None:
        return NO_SYSTEM
    try:
        return int(str(ASN.parse(said)))
    except ValueError:
        return Missing(f"the geo database says {str(said)[:20]!r}, which is no AS number")


def _owner(layers: tuple[Mapping[str, Any], ...]) -> str | Missing:
    said = next((layer[key] for layer in layers for key in _OWNER if isinstance(layer.get(key), str)), "")
    return said[:LONGEST_NAME] or NO_SYSTEM


def _kinds(layers: tuple[Mapping[str, Any], ...]) -> frozenset[str]:
    flagged = {kind for layer in layers for flag, kind in _FLAGS.items() if layer.get(flag) in (True, "true")}
    worded = {kind for layer in layers for (key, word), kind in _WORDS.items() if layer.get(key) == word}
    return frozenset(flagged | worded)


class Opened:
    """One database in memory, with a cache in front. Raises ConfigError when the file is no sound mmdb file.

    built: seconds since 1970. kind: the type it states of itself. fault: the last look-up that the file could not answer.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._reader = _reader(path)
            metadata = self._reader.metadata()
            for address in samples(metadata.ip_version):
                self._reader.get(address)
        except LoadError as error:
            raise _unusable(path, "; ".join(problem.message for problem in error.problems)) from None
        except (ValueError, maxminddb.InvalidDatabaseError):  # their texts name the copy in memory, not the file
            raise _unusable(path, "it is cut off or damaged, or is no MaxMind DB") from None
        except OSError as error:
            raise _unusable(path, f"it cannot be held in memory: {error.strerror}") from None
        if not 0 <= metadata.build_epoch <= _LAST_SECOND:
            raise _unusable(path, "its build time is none")
        self.kind, self.built, self.ip_version = metadata.database_type, metadata.build_epoch, metadata.ip_version
        self.description = " ".join(str(text) for text in metadata.description.values())
        self.label = f"{self.kind} of {timestamp_text(self.built * SECOND)[:10]}"
        self.fault = ""
        self._cache: dict[str, Found] = {}

    def find(self, ip: str) -> Found:
        """What it says of an address, as text. Raises InvalidDatabaseError where the file is damaged in that place."""
        try:
            return self._cache[ip]
        except KeyError:
            if len(self._cache) >= CACHE:
                self._cache.clear()
            found = self._cache[ip] = self._look(ip)
            return found

    def records(self) -> Iterator[Any]:
        """Every record in it, network by network: seconds for a large file."""
        return (record for _, record in self._reader)

    def _look(self, ip: str) -> Found:
        if self.ip_version == 4 and ":" in ip:
            return UNLISTED_IPV6
        try:
            record = self._reader.get(ip)
        except maxminddb.InvalidDatabaseError as error:
            self.fault = f"a look-up failed: {error}; the file is damaged, replace it"
            raise
        return understood(record) if isinstance(record, dict) else UNLISTED


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError([Problem(Place(str(path)), f"is not a geo database: {why}", MEND)])


def _reader(path: Path) -> maxminddb.Reader:
    """geoip2 opens the file and checks it; look-ups go to the reader below it, which skips building model objects."""
    data = contents(path, LARGEST)
    if sys.platform == "linux" and Path("/proc/self/fd").is_dir() and find_spec("maxminddb.extension"):
        with os.fdopen(os.memfd_create("geo"), "wb") as copy:
            copy.write(data)
            copy.flush()
            return _opened(f"/proc/self/fd/{copy.fileno()}", maxminddb.MODE_MMAP_EXT)
    return _opened(str(path), maxminddb.MODE_MEMORY)


def _opened(name: str, mode: int) -> maxminddb.Reader:
    with geoip2.database.Reader(name, mode=mode):
        return maxminddb.open_database(name, mode)


def samples(ip_version: int) -> Iterator[IPv4Address | IPv6Address]:
    """Addresses spread evenly over what is in use, always the same: a damaged file rarely answers for all of them."""
    for number in range(SAMPLES):
        yield IPv4Address(number * (2**32 // SAMPLES) + 257)
        if ip_version == 6:
            yield IPv6Address((0x2 << 124) + number * (2**125 // SAMPLES) + 257)


def too_old(opened: Opened, max_age: int, at: int) -> Missing | None:
    """Why a database no longer speaks at a time (µs), None while it does. max_age: µs."""
    if at - opened.built * SECOND <= max_age:
        return None
    return Missing(f"the geo database {opened.label} is older than geo.max_age {duration_text(max_age)}")


class Database:
    """A database that is read again when its file changes. Raises ConfigError when it cannot be opened the first time.

    max_age: µs since it was built, past which it no longer speaks, unless `lasting`. moment: what time it is to health and to
    the breaker, which counts look-ups that a damaged file cannot answer. Looking costs nothing, so none is left out while it is
    open: callers from a damaged place would hide from the rules whoever comes from all others.
    """

    def __init__(self, path: Path, max_age: int = MAX_AGE, moment: Moment | None = None, *, lasting: bool = False) -> None:
        self._file = ReloadedFile(path, Opened)
        self._max_age, self._lasting = max_age, lasting
        self._moment = moment or Moment()
        self.breaker = Breaker(lambda: self._moment.now() / SECOND)

    @property
    def built(self) -> int:
        """When it was built, in seconds since 1970."""
        return self._file.content.built

    @property
    def kind(self) -> str:
        """The type it states of itself."""
        return self._file.content.kind

    @property
    def label(self) -> str:
        """Its type and the day it was built."""
        return self._file.content.label

    def find(self, ip: str) -> Found:
        """What it says of an address, however old it is: nothing, with that reason, where it is damaged in that place."""
        opened, breaker = self._file.content, self.breaker
        try:
            found = opened.find(ip)
        except maxminddb.InvalidDatabaseError:
            breaker.met(good=False, problem=opened.fault)
            return DAMAGED
        if breaker.failures:
            breaker.met(good=True)
        return found

    def too_old(self, at: int) -> Missing | None:
        """Why it no longer speaks at the time of an exchange (µs), None while it does."""
        self._moment.seen(at)
        return None if self._lasting else too_old(self._file.content, self._max_age, at)

    def failing(self, at: int) -> str:
        """Why it fails at a time (µs): older than it may be, even if it speaks on, or found damaged and not yet replaced."""
        opened = self._file.content
        old = too_old(opened, self._max_age, at)
        return old.reason if old is not None else opened.fault

    def ask(self, ip: str, at: int) -> Found:
        """What it says of an address at the time of an exchange (µs): nothing, with the reason, once it is too old."""
        old = self.too_old(at)
        return self.find(ip) if old is None else Found(old, old, old, old)

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        """What it is. One that is too old by now is named in `note`; it says nothing any more."""
        opened = self._file.content
        old = too_old(opened, self._max_age, self._moment.now())
        told = {"kind": opened.kind, "built": timestamp_text(opened.built * SECOND), "note": old.reason if old else ""}
        return {**told, "problem": self._file.problem or opened.fault}


class Absent:
    """Stands in health for a country database that nobody named."""

    def refresh(self) -> None:
        """Nothing to read again."""

    def health(self) -> dict[str, object]:
        return {"note": "no country database: region rules end as unknown", "problem": ""}
