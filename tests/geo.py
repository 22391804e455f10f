"""Geo databases made for tests: any records under any networks, built when a test says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import iso3166
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from gateway.facts import Facts
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import SECOND

BUILT: Final = 1_899_900_000
AT: Final = 1_900_000_000 * SECOND


class Dated(MMDBWriter):
    """A writer that is told when it writes. built: seconds since 1970."""

    built = 0

    def _build_meta(self) -> dict[str, Any]:
        return {**super()._build_meta(), "build_epoch": self.built}


def write(
    path: Path, rows: Mapping[str, Any], kind: str = "Test-Country", built: int = BUILT, description: str = "", version: int = 6
) -> Path:
    """An mmdb file of records by network. built: seconds since 1970."""
    writer = Dated(version, kind, ["en"], {"en": description}, ipv4_compatible=version == 6)
    writer.built = built
    for network, record in rows.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def damaged(path: Path, rows: Mapping[str, Any], network: str, **more: Any) -> Path:
    """A database of which the record of one more network cannot be read; it opens where no sample meets that."""
    data = write(path, {**rows, network: {"country_code": "XXdamagedXX"}}, **more).read_bytes()
    at = data.index(b"XXdamagedXX") - 1
    path.write_bytes(data[:at] + b"\x5f" + data[at + 1 :])  # a text that says it is longer than the file
    return path


def viewed(geo: Mapping[str, Any], ip: str | None = "203.0.113.9", at: int = AT, **facts: Any) -> View:
    """The signals of an exchange from an address, with these settings of `geo`."""
    return View(Facts(at=at, peer=ip, **facts), load_registry({"geo": geo}).signals)


WORLD: Final = sorted(iso3166.countries_by_alpha2)[:45]


def world(path: Path, share: int = 200, countries: list[str] = WORLD, **more: Any) -> Path:
    """A database in which the first `share` /8 networks have a country."""
    return write(path, {f"{n}.0.0.0/8": {"country_code": countries[n % len(countries)]} for n in range(1, share + 1)}, **more)
