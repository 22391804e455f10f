"""Region: what databases of every shape say of an address, and evidence of a country kept apart by source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.record import record
from gateway.config import bundled_rules
from gateway.errors import ConfigError
from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.language.compile import compile_nodes, load
from gateway.plugins.databases import Database, Found, samples, understood
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.strict.document import parse
from gateway.values import SECOND, Missing, parse_timestamp
from tests.geo import AT, BUILT, viewed, write

UNLISTED = Missing("the geo database does not list the address")
DAY = 86_400 * SECOND
SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("GeoIP2-Country", {"country": {"iso_code": "FR", "names": {"en": "France"}}, "registered_country": {"iso_code": "DE"}},
     {"country": "FR"}),
    ("GeoIP2-City", {"country": {"iso_code": "UA"}, "subdivisions": [{"iso_code": "43"}, {"iso_code": "9"}]},
     {"country": "UA", "subdivision": "UA-43"}),
    ("GeoIP2-City without subdivisions", {"country": {"iso_code": "MC"}, "subdivisions": []}, {"country": "MC"}),
    ("GeoIP2-Enterprise",
     {"country": {"iso_code": "US"}, "subdivisions": [{"iso_code": "VA"}],
      "traits": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example", "user_type": "hosting"}},
     {"country": "US", "subdivision": "US-VA", "asn": 64500, "as_org": "Example", "kinds": {"hosting"}}),
    ("GeoIP2-Enterprise of a relay", {"country": {"iso_code": "US"}, "traits": {"user_type": "consumer_privacy_network"}},
     {"country": "US", "kinds": {"relay"}}),
    ("GeoIP2-Enterprise of a satellite", {"traits": {"is_satellite_provider": True, "connection_type": "Satellite"}},
     {"kinds": {"satellite"}}),
    ("GeoLite2-ASN", {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"},
     {"asn": 64500, "as_org": "Example"}),
    ("GeoIP2-Anonymous-IP",
     {"is_anonymous": True, "is_anonymous_vpn": True, "is_hosting_provider": True, "is_tor_exit_node": True},
     {"kinds": {"vpn", "hosting", "tor"}}),
    ("GeoIP-Anonymous-Plus",
     {"is_anonymous": True, "is_residential_proxy": True, "is_public_proxy": True, "anonymizer_confidence": 99,
      "provider_name": "Example"}, {"kinds": {"residential-proxy", "public-proxy"}}),
    ("GeoIP2-Anonymous-IP, flags off", {"is_anonymous_vpn": False, "is_hosting_provider": 0}, {}),
    ("GeoIP2-Connection-Type", {"connection_type": "Satellite"}, {"kinds": {"satellite"}}),
    ("DBIP-Country-Lite", {"continent": {"code": "EU"}, "country": {"iso_code": "SE", "is_in_european_union": True}},
     {"country": "SE"}),
    ("ip-location-db country", {"country_code": "NO"}, {"country": "NO"}),
    ("ip-location-db city", {"country_code": "NO", "state1": "Oslo", "city": "Oslo"}, {"country": "NO"}),
    ("ipinfo country", {"country": "JP", "country_name": "Japan", "continent": "AS"}, {"country": "JP"}),
    ("ipinfo location", {"country": "US", "region": "California", "region_code": "CA"},
     {"country": "US", "subdivision": "US-CA"}),
    ("ipinfo lite", {"country": "United States", "country_code": "US", "asn": "AS64500", "as_name": "Example"},
     {"country": "US", "asn": 64500, "as_org": "Example"}),
    ("ipinfo asn", {"asn": "AS64501", "name": "Example", "domain": "example.com"}, {"asn": 64501, "as_org": "Example"}),
    ("ipinfo privacy", {"vpn": "true", "proxy": "false", "tor": "", "relay": True, "hosting": "true"},
     {"kinds": {"vpn", "relay", "hosting"}}),
    ("a whole code", {"country_code": "UA", "region_code": "UA-14"}, {"country": "UA", "subdivision": "UA-14"}),
    ("lower case", {"country_code": "no"}, {"country": "NO"}),
    ("Kosovo, as databases write it", {"country_code": "XK"}, {"country": "XK"}),
    ("Hong Kong has a code of its own", {"country_code": "HK"}, {"country": "HK"}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "said"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_records_of_every_shape(row: dict[str, Any], said: dict[str, Any], tmp_path: Path) -> None:
    """Written to a file and read from it, as a database would have it."""
    found = Database(write(tmp_path / "x.mmdb", {"203.0.113.0/24": row})).find("203.0.113.9")
    fields = {name: getattr(found, name) for name in ("country", "subdivision", "asn", "as_org", "kinds")}
    assert {name: value for name, value in fields.items() if not isinstance(value, Missing) and value} == said


@pytest.mark.parametrize("code", ["EU", "AP", "A1", "A2", "O1", "ZZ", "UK", "AN", "XX", "??", "FRA", "France", "1", "Ｆ\uff32"])
def test_what_is_no_country_is_missing_with_that_reason(code: str) -> None:
    for row in ({"country_code": code}, {"country": {"iso_code": code}}, {"country": code}):
        found = understood({**row, "region_code": "CA"})
        reason = Missing(f"the geo database says {code!r}, which is no ISO 3166-1 alpha-2 country code")
        assert (found.country, found.subdivision) == (reason, reason)


def test_a_long_code_does_not_fill_the_records() -> None:
    found = understood({"country_code": "x" * 5_000}).country
    assert isinstance(found, Missing)
    assert len(found.reason) < 120


@pytest.mark.parametrize("row", [{}, {"country": {}}, {"country": None}, {"country": {"iso_code": ""}}, {"country_code": 7}])
def test_a_record_without_a_country(row: dict[str, Any]) -> None:
    assert understood(row).country == Missing("the geo database lists the address without a country")


@pytest.mark.parametrize("part", ["", "California", "U S", "1234", None, 5])
def test_what_is_no_subdivision(part: object) -> None:
    listed = {"country_code": "US", "subdivisions": [{"iso_code": part}]}
    for row in (listed, {"country_code": "US", "region_code": part}):
        assert understood(row).subdivision == Missing("the geo database names no subdivision")


@pytest.mark.parametrize("system", [0, "AS0", "ASx", -1, 2**32, True])
def test_what_is_no_system(system: object) -> None:
    found = understood({"asn": system}).asn
    assert isinstance(found, Missing)
    assert "no AS number" in found.reason


def test_country_system_age_and_source(tmp_path: Path) -> None:
    country = write(
        tmp_path / "c.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "FR"}}, "2001:db8::/32": {"country_code": "NO"}}
    )
    asn = write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"autonomous_system_number": 64500, "as_name": "Example"}}, "Test-ASN")
    geo = {"country": country, "asn": asn}
    view = viewed(geo)
    assert (view.get("client.country"), view.get("client.asn"), view.get("client.as_org")) == ("FR", 64500, "Example")
    assert view.get("client.geo_age") == AT - BUILT * SECOND
    assert view.get("client.geo_source") == "Test-Country of 2030-03-16"
    assert viewed(geo, "2001:db8::1").get("client.country") == "NO"
    assert viewed(geo, "198.51.100.1").get("client.country") == UNLISTED
    assert viewed(geo, None).get("client.country") == view.catalogue["client.ip"].resolve(View(Facts(at=AT), view.catalogue))


def test_a_country_database_that_tells_systems_answers_for_them(tmp_path: Path) -> None:
    both = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "US", "asn": "AS64500", "as_name": "Both"}})
    assert viewed({"country": both}).get("client.asn") == 64500
    other = write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"asn": 64501}})
    assert viewed({"country": both, "asn": other}).get("client.asn") == 64501


def test_a_database_that_was_built_after_the_exchange_is_not_of_negative_age(tmp_path: Path) -> None:
    country = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "US"}})
    assert viewed({"country": country}, at=(BUILT - 5) * SECOND).get("client.geo_age") == 0


def test_ipv6_asked_of_a_database_of_ipv4(tmp_path: Path) -> None:
    country = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "US"}}, version=4)
    assert viewed({"country": country}).get("client.country") == "US"
    assert viewed({"country": country}, "2001:db8::1").get("client.country") == Missing("the geo database lists IPv4 only")


def test_without_a_database_the_country_is_missing() -> None:
    view = viewed({})
    for name in ("client.country", "client.subdivision", "client.geo_age", "client.geo_source"):
        assert view.get(name) == Missing("no country database")
    assert view.get("client.asn") == Missing("no asn database")
    assert "region rules end as unknown" in str(load_registry({}).watched["geo.country"].health())


@pytest.mark.parametrize("there", [True, False])
def test_age_and_source_stand_in_every_record(tmp_path: Path, there: bool) -> None:
    """Also where no rule asks for them: one here asks for the path."""
    geo = {"country": write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "US"}})} if there else {}
    catalogue = load_registry({"geo": geo}).signals
    about = "id: p.a, title: T, family: client, severity: low, owner: o, mode: enforce"
    rule = f"{{{about}, when: {{request.path: /x}}, then: {{action: observe}}}}"
    policy = compile_nodes([parse(f"pack: p\nversion: 1\nlanguage: 1\nrules:\n  - {rule}\n", "p.yaml")], catalogue)
    gate = Gate(policy, catalogue)
    judgement = gate.judge(Facts(at=AT, peer="203.0.113.9", method="GET", path="/y"))
    entry = record(judgement, Answer())
    if there:
        assert entry["signals"]["client.geo_source"] == "Test-Country of 2030-03-16"
        assert entry["signals"]["client.geo_age"] == catalogue["client.geo_age"].type.plain(AT - BUILT * SECOND)
    else:
        assert {name: entry["missing"][name] for name in ("client.geo_age", "client.geo_source")} == {
            "client.geo_age": "no country database", "client.geo_source": "no country database",
        }  # fmt: skip


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.databases.CACHE", 8)
    database = Database(write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "US"}}))
    for last in range(100):
        assert database.find(f"203.0.113.{last}").country == "US"
    assert len(database._file.content._cache) <= 8


def test_the_sample_is_spread_over_all_addresses() -> None:
    four, six = list(samples(4)), list(samples(6))
    assert len(four) == 4_096
    assert {int(found) >> 24 for found in four} == set(range(256))
    assert len(six) == 2 * len(four)
    assert sum(found.version == 6 and int(found) >> 125 == 1 for found in six) == len(four)


def test_a_database_that_is_too_old_tells_nothing(tmp_path: Path) -> None:
    """By the time of the exchange; how old it is stays told."""
    row = {"country_code": "UA", "region_code": "43", "asn": 64500, "as_name": "Example"}
    geo: dict[str, Any] = {"country": write(tmp_path / "c.mmdb", {"203.0.113.0/24": row})}
    late = BUILT * SECOND + 60 * DAY + 1
    names = ("client.country", "client.subdivision", "client.asn", "client.as_org")
    reason = Missing("the geo database Test-Country of 2030-03-16 is older than geo.max_age 60d")
    assert [viewed(geo, at=late - 1).get(name) for name in names] == ["UA", "UA-43", 64500, "Example"]
    view = viewed(geo, at=late)
    assert [view.get(name) for name in names] == [reason] * 4
    assert (view.get("client.geo_age"), view.get("client.geo_source")) == (60 * DAY + 1, "Test-Country of 2030-03-16")
    assert viewed({**geo, "max_age": 90 * DAY}, at=late).get("client.country") == "UA"
    short = viewed({**geo, "max_age": DAY}).get("client.country")
    assert short == Missing("the geo database Test-Country of 2030-03-16 is older than geo.max_age 1d")
    fresh = write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"asn": 64501}}, built=BUILT + 2)
    assert viewed({**geo, "asn": fresh}, at=late).get("client.asn") == 64501


def test_what_an_old_database_says_is_no_evidence(french: dict[str, Path]) -> None:
    view = evidence({"forwarded": "198.51.100.7", "billing": "IR"}, {**french, "max_age": 1})
    reason = "the geo database Test-Country of 2030-03-16 is older than geo.max_age 1us"
    found: Any = view.get("region.evidence")
    assert {one for one in found if reason.partition(" 1us")[0] in one} == {
        one for one in found if one.startswith(("network unknown", "forwarded unknown"))
    }
    assert len([one for one in found if one.startswith(("network unknown", "forwarded unknown"))]) == 2
    assert view.get("region.countries") == {"IR"}


def test_the_shipped_rules_end_unknown_by_an_old_database(tmp_path: Path) -> None:
    """Never as no_match, which would say that the caller is elsewhere; and health names the database."""
    registry = load_registry({"geo": {"country": write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "KP"}})}})
    gate = Gate(load([bundled_rules() / "region.yaml"], registry.signals), registry.signals)
    health = registry.watched["geo.country"].health
    ends = []
    for age in (60 * DAY, 60 * DAY + 1):
        assert health()["note"] == ""
        at = BUILT * SECOND + age
        entry = record(gate.judge(Facts(at=at, peer="203.0.113.9", method="GET", path="/y")), Answer())
        verdicts = {one["id"]: one["verdict"] for one in entry["rules"]}
        ends.append((verdicts["region.network-only"], verdicts["region.unsupported"]))
    assert ends == [("match", "unknown"), ("unknown", "unknown")]
    assert health()["note"] == "the geo database Test-Country of 2030-03-16 is older than geo.max_age 60d"
    assert health()["problem"] == ""


def test_health_judges_by_the_clock_that_was_handed_in(tmp_path: Path) -> None:
    geo = {"asn": write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"asn": 1}}, "Test-ASN")}
    late = load_registry({"geo": geo, "clock": lambda: BUILT * SECOND + 61 * DAY}).watched["geo.asn"].health()
    assert (late["note"], late["problem"]) == ("the geo database Test-ASN of 2030-03-16 is older than geo.max_age 60d", "")


def test_a_bad_file_at_start_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mmdb").write_bytes(b"not a database")
    for name in ("bad.mmdb", "absent.mmdb", ""):
        with pytest.raises(ConfigError, match=r"is not a geo database: .*; name an \.mmdb file"):
            Database(tmp_path / name)


# evidence


KYC_DATE = parse_timestamp("2026-02-03")
UNKNOWN = "the account directory does not say"


def evidence(values: Mapping[str, Any], geo: Mapping[str, Any], ip: str | None = "203.0.113.9") -> View:
    """An exchange whose account signals are given; the rest of them are not known."""
    names = ("billing", "kyc", "ownership")
    view = viewed(geo, ip)
    for name in names:
        view.resolved[f"account.{name}_country"] = values.get(name, Missing(UNKNOWN))
        view.resolved[f"account.{name}_source"] = values.get(f"{name}_source", Missing(UNKNOWN))
        view.resolved[f"account.{name}_date"] = values.get(f"{name}_date", Missing(UNKNOWN))
    view.resolved["reseller.forwarded_client"] = values.get("forwarded", Missing("none forwarded"))
    return view


@pytest.fixture
def french(tmp_path: Path) -> dict[str, Path]:
    rows = {"203.0.113.0/24": {"country_code": "FR"}, "198.51.100.0/24": {"country_code": "IR"}}
    return {"country": write(tmp_path / "c.mmdb", rows)}


def test_evidence_is_one_readable_line_a_source(french: dict[str, Path]) -> None:
    given = {
        "billing": "FR", "billing_source": "payment provider", "kyc": "DE", "kyc_source": "Identity  \n office" + "x" * 200,
        "kyc_date": KYC_DATE, "forwarded": "198.51.100.7",
    }  # fmt: skip
    assert evidence(given, french).get("region.evidence") == {
        "network FR, by Test-Country, of 2030-03-16",
        "billing FR, by payment provider, of unknown date",
        f"kyc DE, by {('Identity office' + 'x' * 200)[:80]}, of 2026-02-03",
        "ownership unknown: the account directory does not say",
        "forwarded IR, by Test-Country, of 2030-03-16, on the caller's word",
    }


def test_evidence_where_nothing_is_known() -> None:
    view = evidence({}, {})
    assert view.get("region.evidence") == {
        "network unknown: no country database",
        *(f"{name} unknown: {UNKNOWN}" for name in ("billing", "kyc", "ownership")),
        "forwarded unknown: none forwarded",
    }
    forwarded: Any = evidence({"forwarded": "198.51.100.7"}, {}).get("region.evidence")
    assert "forwarded unknown: no country database" in forwarded
    nothing = Missing("no source names a country")
    assert view.get("region.sources") == 0
    assert (view.get("region.countries"), view.get("region.agreement")) == (nothing, nothing)
    assert view.get("region.conflict") == Missing("fewer than two sources name a country")


COUNTED: list[tuple[str, dict[str, Any], int, int, set[str], bool | None]] = [
    ("the network alone", {}, 1, 1, {"FR"}, None),
    ("network and billing agree", {"billing": "FR"}, 2, 2, {"FR"}, False),
    ("network and billing differ", {"billing": "IR"}, 2, 1, {"FR", "IR"}, True),
    ("two against the network", {"billing": "IR", "kyc": "IR"}, 3, 2, {"FR", "IR"}, True),
    ("all four", {"billing": "FR", "kyc": "FR", "ownership": "FR"}, 4, 4, {"FR"}, False),
    ("four countries", {"billing": "IR", "kyc": "DE", "ownership": "NO"}, 4, 1, {"FR", "IR", "DE", "NO"}, True),
    ("the caller's word counts nowhere", {"forwarded": "198.51.100.7"}, 1, 1, {"FR"}, None),
    ("nor beside others", {"forwarded": "198.51.100.7", "billing": "FR"}, 2, 2, {"FR"}, False),
    ("one register is one witness", {"kyc": "FR", "ownership": "FR", "kyc_source": "Register", "ownership_source": "register"},
     2, 2, {"FR"}, False),
    ("two registers are two", {"kyc": "FR", "ownership": "FR", "kyc_source": "register", "ownership_source": "notary"},
     3, 3, {"FR"}, False),
    ("one register that contradicts itself",
     {"kyc": "FR", "ownership": "IR", "kyc_source": "register", "ownership_source": "register"}, 2, 2, {"FR", "IR"}, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "sources", "agreement", "countries", "conflict"), [row[1:] for row in COUNTED], ids=[r[0] for r in COUNTED]
)
def test_who_agrees(
    french: dict[str, Path], given: dict[str, Any], sources: int, agreement: int, countries: set[str], conflict: bool | None
) -> None:
    view = evidence(given, french)
    assert view.get("region.sources") == sources
    assert view.get("region.agreement") == agreement
    assert view.get("region.countries") == countries
    wanted = Missing("fewer than two sources name a country") if conflict is None else conflict
    assert view.get("region.conflict") == wanted


def test_a_forwarded_address_never_becomes_a_location(french: dict[str, Path]) -> None:
    view = evidence({"forwarded": "198.51.100.7"}, french, ip="192.0.2.1")
    assert view.get("client.country") == UNLISTED
    assert view.get("region.countries") == Missing("no source names a country")


def test_a_failed_signal_is_told_as_unknown(french: dict[str, Path]) -> None:
    view = evidence({}, french)
    del view.resolved["account.kyc_country"]
    view.catalogue = {name: signal for name, signal in view.catalogue.items() if name != "account.kyc_country"}
    assert "kyc unknown: no such signal" in view.get("region.evidence")  # type: ignore[operator]


def test_an_unlisted_address_has_a_value_of_its_own() -> None:
    assert Found() == Found(UNLISTED, UNLISTED, UNLISTED, UNLISTED, frozenset())
