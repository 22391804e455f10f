"""Region: one resolver for hostile inputs, and geo databases that may be missing, stale, replaced or corrupt."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.plugins.address import Resolver, address, network_of
from gateway.plugins.region import Database
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import SECOND, Missing

PROXY = Resolver((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:aaaa::/48")))


def write(path: Path, rows: dict[str, dict[str, Any]], kind: str = "Test-Country") -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind, languages=["en"])
    for network, record in rows.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("198.51.100.7", [], "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),  # an untrusted peer's word is worth nothing
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),  # what stands left of the first stranger is his own word
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9", "10.9.9.9"], "203.0.113.9"),  # several headers are one list
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),  # everybody is trusted: the farthest hop
        ("10.0.0.1", ["junk"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, junk, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.0.0.1", ["2001:db8::9"], "2001:db8::9"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8:aaaa::1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ['"203.0.113.9"'], "203.0.113.9"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        (None, ["203.0.113.9"], "None"),
        ("testclient", ["203.0.113.9"], "None"),
    ],
)
def test_the_client_address(peer: str | None, forwarded: list[str], found: str) -> None:
    assert str(PROXY.resolve(peer, forwarded)) == found


def test_nobody_is_trusted_by_default() -> None:
    assert str(Resolver().resolve("127.0.0.1", ["203.0.113.9"])) == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "::g", "[::1", "999.1.1.1", "1.2.3.4/24", "０.0.0.1"])
def test_junk_is_no_address(text: str) -> None:
    assert address(text) is None or text == "[::1"


def test_networks_that_callers_are_counted_by() -> None:
    assert network_of(ipaddress.ip_address("203.0.113.9")) == "203.0.113.0/24"
    assert network_of(ipaddress.ip_address("2001:db8:1:2:3:4:5:6")) == "2001:db8:1:2::/64"


def signals(settings: dict[str, Any], **facts: Any) -> View:
    return View(Facts(at=facts.pop("at", 1_900_000_000 * SECOND), **facts), load_registry(settings).signals)


def test_country_asn_age_and_source(tmp_path: Path) -> None:
    country = write(
        tmp_path / "c.mmdb",
        {"203.0.113.0/24": {"country": {"iso_code": "FR"}}, "2001:db8::/32": {"country": {"iso_code": "NO"}}},
    )
    asn = write(
        tmp_path / "a.mmdb",
        {"203.0.113.0/24": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}},
        "Test-ASN",
    )
    settings = {"geo": {"country": country, "asn": asn}}
    view = signals(settings, peer="203.0.113.9")
    assert view.get("client.country") == "FR"
    assert view.get("client.asn") == 64500
    assert view.get("client.as_org") == "Example"
    assert str(view.get("client.geo_source")).startswith("Test-Country of 20")
    assert isinstance(view.get("client.geo_age"), int)
    assert signals(settings, peer="2001:db8::1").get("client.country") == "NO"
    assert signals(settings, peer="198.51.100.1").get("client.country") == Missing("the geo database does not list the address")


def test_records_of_other_databases(tmp_path: Path) -> None:
    plain = write(tmp_path / "p.mmdb", {"203.0.113.0/24": {"country_code": "SE"}}, "geo-whois-asn-country")
    assert signals({"geo": {"country": plain}}, peer="203.0.113.9").get("client.country") == "SE"


def test_without_a_database_the_country_is_missing() -> None:
    view = signals({}, peer="203.0.113.9")
    assert view.get("client.country") == Missing("no country database")
    assert view.get("client.geo_age") == Missing("no country database")
    assert view.get("client.asn") == Missing("no asn database")


def test_a_database_is_read_again_and_a_corrupt_one_keeps_the_last_good(tmp_path: Path) -> None:
    file = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "FR"}}})
    database = Database(file)
    assert database.find("203.0.113.9") == {"country": "FR", "asn": None, "as_org": None}
    write(tmp_path / "new.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "DE"}}}).replace(file)
    os.utime(file, ns=(1, 1))
    database.refresh()
    assert (database.find("203.0.113.9") or {})["country"] == "DE"
    (tmp_path / "bad.mmdb").write_bytes(b"not a database")
    (tmp_path / "bad.mmdb").replace(file)
    database.refresh()
    assert (database.find("203.0.113.9") or {})["country"] == "DE"
    assert "the last good one stays in use" in str(database.health()["problem"])


def test_a_bad_file_at_start_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mmdb").write_bytes(b"not a database")
    with pytest.raises(ConfigError, match=r"bad\.mmdb: is not a geo database"):
        Database(tmp_path / "bad.mmdb")
    with pytest.raises(ConfigError, match=r"absent\.mmdb: is not a geo database"):
        Database(tmp_path / "absent.mmdb")


def test_connections_of_a_trusted_proxy_are_not_the_callers() -> None:
    settings = {"client_address": {"trusted_proxies": ["10.0.0.0/8"]}}
    assert signals(settings, peer="203.0.113.9", connection="203.0.113.9:1").get("client.connection") == "203.0.113.9:1"
    assert isinstance(signals(settings, peer="10.0.0.1", connection="10.0.0.1:1").get("client.connection"), Missing)
    assert isinstance(signals({}, peer="203.0.113.9").get("client.connection"), Missing)
