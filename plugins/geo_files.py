"""Geo files looked at from outside, for `sluice geo`: what one is, how old, under what licence, and what it says of an address.

Every record of a database is read here, which takes seconds for a large one; the gateway itself only samples it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import maxminddb

from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.plugins.databases import MAX_AGE, NO_COUNTRY, Found, Opened, samples, too_old, understood
from gateway.plugins.network_kinds import too_old as list_too_old
from gateway.plugins.networks import NetworkList, load_networks, number_of
from gateway.strict.document import contents
from gateway.values import SECOND, Missing, duration_text

NOT_STATED: Final = "licence not stated"
NOTES: Final = (".licence.txt", ".license.txt")
DISTINCT: Final = 50_000
NOTE_BYTES: Final = 2**20
LEAST_LISTED: Final = 0.5
LEAST_COUNTRIES: Final = 30
LEAST_SYSTEMS: Final = 100
EARLY: Final = "of a date that has not come yet"
CLOCKS: Final = "see that its date and this clock are right"
DAY: Final = 86_400 * SECOND

TELLS: Final = {"country": "country", "asn": "asn", "anonymous": "kinds"}

_NAMED: Final = re.compile(r"CC0[-\w.]*|CC[ -]BY[-\w ]*\d\.\d|PDDL[-\w.]*|ODbL[-\w.]*", re.IGNORECASE)
_WORDED: Final = re.compile(r"[^.;]*\blicen[cs]ed?\b[^.;]*", re.IGNORECASE)
_STATED: Final = re.compile(r"#?\s*licen[cs]e\s*:\s*(\S.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GeoFile:
    """What one file is.

    form: database or list. what: the type a database states, or the kind of a list. tells: what can be asked of it.
    networks: how many it holds. systems: AS numbers of a list. built: µs since 1970, None where it is not said. max_age: how
    long it says it is good, zero where it does not. notes: worth knowing, but nothing to mend. problems: what to mend.
    """

    path: Path
    form: str
    what: str
    tells: tuple[str, ...]
    networks: int
    systems: int
    built: int | None
    max_age: int
    source: str
    licence: str
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def look_at(path: Path, now: int, max_age: int) -> GeoFile:
    """One file. now: µs since 1970; max_age: how old it may be where it does not say so itself.

    Raises ConfigError with every problem found when it is neither a database nor a list that the gateway would take.
    """
    database = is_database(path)
    found = _database(path) if database else _list(load_networks(path), path)
    place = Place(str(path))
    problems = list(found.problems)
    limit = found.max_age or max_age
    if found.built is None:
        mend = "write '# date: 2026-11-01' above the first item"
        problems.append(Problem(place, "does not say of what date it is", mend))
    elif found.built > now + DAY:
        problems.append(Problem(place, f"is {EARLY}", CLOCKS))
    elif now - found.built > limit:
        said = f"is {_age(now - found.built)} old; good are {duration_text(limit)}"
        problems.append(Problem(place, said, "take a newer edition"))
    if not found.licence:
        mend = f"put its licence into {path.stem}{NOTES[0]} beside it" + ("" if database else ", or '# licence: …' on top")
        problems.append(Problem(place, NOT_STATED, mend))
    return replace(found, licence=found.licence or NOT_STATED, problems=tuple(problems))


def _age(age: int) -> str:
    unit = DAY if age >= DAY else SECOND
    return duration_text(age // unit * unit)


def says(path: Path, ip: str, now: int) -> dict[str, object]:
    """What a file says of an address; a value it does not have stands there as the reason. Raises ConfigError, ValueError."""
    address = number_of(ip)
    if is_database(path):
        opened = Opened(path)
        try:
            found = opened.find(str(IPv4Address(address[1]) if address[0] == 4 else IPv6Address(address[1])))
        except maxminddb.InvalidDatabaseError:
            raise ConfigError([Problem(Place(str(path)), opened.fault)]) from None
        fields = {name: getattr(found, name) for name in ("country", "subdivision", "asn", "as_org")}
        plain = {name: value.reason if isinstance(value, Missing) else value for name, value in fields.items()}
        return {**plain, "kinds": sorted(found.kinds)}
    listed = load_networks(path)
    told = {"listed": listed.names(address, None), "kind": listed.kind, "speaks": listed.speaks(now)}
    return (
        {**told, "note": "AS numbers are not looked at: the address alone does not tell its system"} if listed.systems else told
    )


def implausible(path: Path) -> str:
    """Why a database is not what anybody would call one of countries or systems; empty when it is.

    Asked are addresses spread over all of IPv4: most are listed, in many countries (or systems), and hardly one in junk.
    Raises ConfigError when it cannot be opened.
    """
    opened = Opened(path)
    found = [opened.find(str(address)) for address in samples(4)]
    countries = {one.country for one in found if isinstance(one.country, str)}
    systems = {one.asn for one in found if isinstance(one.asn, int)}
    listed = sum(isinstance(one.country, str) or isinstance(one.asn, int) for one in found) / len(found)
    if listed < LEAST_LISTED:
        return f"it names a country or system for {listed:.0%} of the addresses asked"
    if len(countries) < LEAST_COUNTRIES and len(systems) < LEAST_SYSTEMS:
        return f"it knows {_several(len(countries), 'country', 'countries')} and {_several(len(systems), 'system')}"
    return ""


def unfit(geo: Mapping[str, Any], now: int) -> Iterator[tuple[str, str, str]]:
    """What is wrong at a time (µs) with the files of the section `geo`: the key that names each, what it is, how to mend it.

    Told are files that no longer speak, come from the future, or tell nothing of what they are named for. Raises ConfigError
    for a file that cannot be read at all.
    """
    newer = "fetch a newer edition: see `sluice geo`"
    for role, told in TELLS.items():
        if role not in geo:
            continue
        opened = Opened(geo[role])
        old = too_old(opened, geo.get("max_age", MAX_AGE), now)
        if old is not None:
            yield role, f"{old.reason}: what it would tell is missing", newer
        if opened.built * SECOND > now + DAY:
            yield role, f"the geo database {opened.label} is {EARLY}", CLOCKS
        if not _ever(told, opened, geo[role]):
            yield role, f"the geo database {opened.label} tells {told} of no address", f"name one that does as geo.{role}"
    for listed in map(load_networks, geo.get("networks", ())):
        if not listed.speaks(now):
            yield "networks", f"{list_too_old(listed).reason}: it says nothing any more", newer
        if listed.date is not None and listed.date > now + DAY:
            yield "networks", f"the list {listed.name} ({listed.label}) is {EARLY}", CLOCKS


def _ever(told: str, opened: Opened, path: Path) -> bool:
    """Whether any record tells this; of a database that is what it is named for, the first few are read."""
    tells: set[str] = set()
    try:
        for record in opened.records():
            _learn(understood(record) if isinstance(record, dict) else Found(), tells)
            if told in tells:
                return True
    except (ValueError, maxminddb.InvalidDatabaseError) as error:
        raise ConfigError([Problem(Place(str(path)), f"is damaged: {error}", "fetch it again")]) from None
    return False


def is_database(path: Path) -> bool:
    return path.suffix.lower() == ".mmdb"


def _database(path: Path) -> GeoFile:
    opened = Opened(path)
    tells: set[str] = set()
    odd: Counter[str] = Counter()
    seen: dict[str, str] = {}
    networks = 0
    try:
        for record in opened.records():
            networks += 1
            known = str(record)
            junk = seen.get(known)
            if junk is None:
                junk = _learn(understood(record), tells) if isinstance(record, dict) else ""
                if len(seen) < DISTINCT:
                    seen[known] = junk
            if junk:
                odd[junk] += 1
    except (ValueError, maxminddb.InvalidDatabaseError) as error:
        said = f"is damaged after {_several(networks, 'network')}: {error}"
        raise ConfigError([Problem(Place(str(path)), said, "fetch it again")]) from None
    notes = [f"{reason}, networks: {count}" for reason, count in odd.most_common(3)]
    if opened.ip_version == 4:
        notes.append("lists IPv4 only")
    licence = _beside(path) or _described(opened.description)
    mute = Problem(Place(str(path)), "tells nothing that rules can ask", "name another database")
    return GeoFile(
        path, "database", opened.kind, tuple(sorted(tells)), networks, 0, opened.built * SECOND, 0, opened.label, licence,
        tuple(notes), () if tells else (mute,),
    )  # fmt: skip


def _learn(found: Found, tells: set[str]) -> str:
    """Note what a record tells; the complaint about a country that is none, if there is one."""
    tells.update(name for name in ("country", "subdivision", "asn", "as_org") if not isinstance(getattr(found, name), Missing))
    if found.kinds:
        tells.add("kinds")
    return found.country.reason if isinstance(found.country, Missing) and found.country != NO_COUNTRY else ""


def _list(found: NetworkList, path: Path) -> GeoFile:
    place = Place(str(path))
    unsourced = Problem(place, "does not say its source", "write '# source: …' above the first item")
    items = _several(found.items - len(found.systems), "item")
    notes = (f"{items}, {_several(found.networks, 'network')} once merged",)
    return GeoFile(
        path, "list", found.kind, ("kinds",), found.networks, len(found.systems), found.date, found.max_age, found.source,
        found.licence or _beside(path), notes, () if found.source else (unsourced,),
    )  # fmt: skip


def _several(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _beside(path: Path) -> str:
    """What the note beside a file states; its first line where it states nothing in so many words."""
    for note in (path.with_name(f"{name}{ending}") for name in (path.name, path.stem) for ending in NOTES):
        try:
            lines = contents(note, NOTE_BYTES).decode("utf-8", "replace").splitlines()
        except LoadError:
            continue
        stated = next((found[1] for line in lines if (found := _STATED.fullmatch(line.strip()))), "")
        return (stated or next((line.strip() for line in lines if line.strip()), ""))[:120]
    return ""


def _described(description: str) -> str:
    found = _NAMED.search(description) or _WORDED.search(description)
    return found[0].strip()[:120] if found else ""
