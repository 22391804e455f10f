"""Network kinds: lists read line by line, what they say and when they no longer do, and what they cost."""

from __future__ import annotations

import ipaddress
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.plugins.network_kinds import NO_SYSTEM, NOBODY, UNNAMED, NetworkLists
from gateway.plugins.networks import KINDS, MAX_ITEMS, NetworkList, load_networks, merged, number_of, span_of
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import SECOND, Missing, parse_timestamp
from tests.geo import AT, BUILT, viewed, write

HEAD = "# kind: {kind}\n# source: {kind} watch\n# date: 2030-03-01\n# licence: CC0-1.0\n"
DAY = 86_400 * SECOND


def listed(folder: Path, items: str = "203.0.113.0/24", kind: str = "vpn", max_age: str = "", name: str = "") -> Path:
    file = folder / (name or f"{kind}.txt")
    aged = f"# max_age: {max_age}\n" if max_age else ""
    file.write_text(HEAD.format(kind=kind) + aged + items + "\n", encoding="utf-8")
    return file


def said(geo: dict[str, Any], ip: str | None = "203.0.113.9", at: int = AT) -> tuple[object, object, object]:
    view = viewed(geo, ip, at)
    return (view.get("client.network_kind"), view.get("client.network_kinds"), view.get("client.network_source"))


def test_a_list_is_read_with_all_it_says(tmp_path: Path) -> None:
    file = tmp_path / "exits.txt"
    file.write_text(
        "\ufeff# Exits\n#kind: tor\n# source : the project itself\n# date: 2030-03-01\n# license: CC0-1.0\n# max_age: 2d\n"
        "# see: elsewhere\n\n203.0.113.7\n2001:db8::/32   # a network\r\n  AS64500 # Example\n64501\n192.0.2.0/255.255.255.0\n"
        "# kind: vpn\n::ffff:198.51.100.0/120\n203.0.113.7\n", encoding="utf-8"
    )  # fmt: skip
    found = load_networks(file)
    assert (found.name, found.kind, found.source, found.licence) == ("exits.txt", "tor", "the project itself", "CC0-1.0")
    assert (found.date, found.max_age, found.good_until) == (
        parse_timestamp("2030-03-01"),
        2 * DAY,
        parse_timestamp("2030-03-03"),
    )
    assert (found.items, found.networks, sorted(found.systems)) == (7, 4, [64500, 64501])
    assert found.label == "the project itself of 2030-03-01"
    inside = [
        "203.0.113.7",
        "2001:db8::1",
        "2001:db8:ffff::",
        "192.0.2.0",
        "192.0.2.255",
        "198.51.100.200",
        "::ffff:203.0.113.7",
    ]
    outside = ["203.0.113.6", "203.0.113.8", "2001:db7:ffff::", "2001:db9::", "192.0.1.255", "192.0.3.0", "::cb00:7107"]
    assert [ip for ip in inside if not found.names(number_of(ip), None)] == []
    assert [ip for ip in outside if found.names(number_of(ip), None)] == []
    assert found.names(number_of("8.8.8.8"), 64501)
    assert not found.names(number_of("8.8.8.8"), 64502)


PROBLEMS: list[tuple[str, list[str]]] = [
    ("203.0.113.0/24\n", [":1:1: does not say its kind; write '# kind: vpn' above the first item"]),
    ("203.0.113.0/24\n# kind: vpn\n", [":1:1: does not say its kind"]),
    ("# kind: vpm\n203.0.113.0/24\n", [":1:1: 'vpm' is no kind of network; did you mean 'vpn'?"]),
    ("# kind: vpn\n# kind: tor\n203.0.113.7\n", [":2:1: says 'kind' a second time; it stands in line 1"]),
    ("# kind: vpn\n# date: soon\n# max_age: long\n203.0.113.7\n",
     [":2:1: date: 'soon' is not a time", ":3:1: max_age: 'long' is not a duration"]),
    ("# kind: vpn\n# max_age: 90d\n203.0.113.7\n",
     [":2:1: says how long it is good, but not from when; add '# date: 2026-11-01'"]),
    ("# kind: vpn\n", [": lists nothing; an empty file is most often a failed download"]),
    ("", [": lists nothing", ":1:1: does not say its kind"]),
    ("# kind: vpn\n203.0.113.9/24\nx\n0.0.0.0/0\n::/0\nAS0\n1.2.3\n01.2.3.4\n",
     [":2:1: '203.0.113.9/24' is an address within a network; write the network as 203.0.113.0/24",
      ":3:1: 'x' is not a network", ":4:1: '0.0.0.0/0' is every address there is", ":5:1: '::/0' is every address there is",
      ":6:1: 'AS0' is not an AS number", ":7:1: '1.2.3' is not", ":8:1: '01.2.3.4' is not"]),
    ("# kind: vpn\n1.2.3.4/33\n1.2.3.4/-1\n1.2.3.4/\nfe80::1%eth0\n1.2.3.4 x\n",
     [":2:1: '1.2.3.4/33' is not", ":3:1: '1.2.3.4/-1' is not", ":4:1: '1.2.3.4/' is not", ":5:1: 'fe80::1%eth0' is not",
      ":6:1: '1.2.3.4 x' is not"]),
    ("# kind: vpn\n<html>\n<body>404</body>\n", [":2:1: '<html>' is not a network", ":3:1:"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problems"), PROBLEMS)
def test_every_problem_is_told_with_its_line(tmp_path: Path, text: str, problems: list[str]) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_networks(tmp_path / "x.txt")
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == len(problems)
    for found, wanted in zip(told, problems, strict=True):
        assert found.startswith(f"{tmp_path / 'x.txt'}{wanted}")


def test_files_that_are_no_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.txt").write_bytes(b"# kind: vpn\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"x\.txt:2:1: is not UTF-8"):
        load_networks(tmp_path / "x.txt")
    with pytest.raises(ConfigError, match=r"absent\.txt: cannot be read"):
        load_networks(tmp_path / "absent.txt")
    monkeypatch.setattr("gateway.plugins.networks.MAX_ITEMS", 3)
    with pytest.raises(ConfigError, match=r"vpn\.txt:8:1: more than 3 items; split the list"):
        load_networks(listed(tmp_path, "1.1.1.1\n1.1.1.2\n1.1.1.3\n1.1.1.4\nnot looked at"))
    assert MAX_ITEMS == 1_000_000


def test_bad_lists_stop_the_start_with_the_problems_of_all(tmp_path: Path) -> None:
    files = [listed(tmp_path, "x"), listed(tmp_path, kind="tor"), tmp_path / "absent.txt", listed(tmp_path, "AS0", "relay")]
    with pytest.raises(ConfigError) as caught:
        load_registry({"geo": {"networks": files}})
    assert [str(problem).removeprefix(f"{tmp_path}/")[:34] for problem in caught.value.problems] == [
        "absent.txt: cannot be read: No suc", "relay.txt:5:1: 'AS0' is not an AS ", "vpn.txt:5:1: 'x' is not a network;",
    ]  # fmt: skip


def test_the_settings_of_a_file_reach_the_signals(tmp_path: Path) -> None:
    listed(tmp_path, kind="relay")
    write(tmp_path / "a.mmdb", {"198.51.100.0/24": {"is_tor_exit_node": True}}, "GeoIP2-Anonymous-IP")
    (tmp_path / "gateway.yaml").write_text("geo: {anonymous: a.mmdb, networks: [relay.txt]}\n")
    geo = load_config(tmp_path / "gateway.yaml", needs_upstreams=False).settings["geo"]
    assert (said(geo)[0], said(geo, "198.51.100.1")[0], said(geo, "8.8.8.8")[0]) == ("relay", "tor", "unknown")


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=30)


@given(SPANS, st.integers(-1, 400))
def test_merged_ranges_hold_what_the_ranges_hold(drawn: list[tuple[int, int]], number: int) -> None:
    ranges = [(start, start + length) for start, length in drawn]
    for version in (4, 6):
        found = merged(ranges, version)
        number_held = number >= 0 and found.hold(number)
        assert number_held == any(start <= number <= end for start, end in ranges)
        apart = list(zip(found.ends, list(found.starts)[1:], strict=False))
        assert all(end + 1 < start for end, start in apart)


@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=6)), st.data())
def test_a_network_is_read_as_the_standard_library_reads_it(address: Any, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, address.max_prefixlen))
    network = ipaddress.ip_network((address, length), strict=False)
    if network.version == 6 and length >= 96 and int(network.network_address) >> 32 == 0xFFFF:
        return
    assert span_of(str(network)) == (network.version, int(network.network_address), int(network.broadcast_address))


def test_the_kinds_of_a_network(tmp_path: Path) -> None:
    geo = {"networks": [listed(tmp_path, "203.0.113.0/24", "hosting"), listed(tmp_path, "203.0.113.8/30", "tor")]}
    assert said(geo) == ("tor", {"tor", "hosting"}, "tor watch of 2030-03-01")
    assert said(geo, "203.0.113.77") == ("hosting", {"hosting"}, "hosting watch of 2030-03-01")
    assert said(geo, "2001:db8::1") == ("unknown", frozenset(), UNNAMED)
    assert said(geo, None)[0] == viewed(geo, None).get("client.ip")


@pytest.mark.parametrize("place", range(len(KINDS) - 1))
def test_the_most_telling_kind_goes_first(tmp_path: Path, place: int) -> None:
    """Whatever the order of the files."""
    more, less = (listed(tmp_path, kind=kind) for kind in KINDS[place : place + 2])
    assert said({"networks": [more, less]}) == said({"networks": [less, more]})
    assert said({"networks": [less, more]})[0] == KINDS[place]


def test_nobody_to_ask_is_not_unknown(tmp_path: Path) -> None:
    country = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "FR"}})
    assert said({}) == (NOBODY, NOBODY, NOBODY)
    assert said({"country": country}) == (NOBODY, NOBODY, NOBODY)


def test_what_databases_flag(tmp_path: Path) -> None:
    flags = {"203.0.113.0/24": {"is_anonymous": True, "is_anonymous_vpn": True}}
    anonymous = write(tmp_path / "a.mmdb", flags, "GeoIP2-Anonymous-IP")
    country = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "FR", "traits": {"user_type": "hosting"}}})
    assert said({"anonymous": anonymous}) == ("vpn", {"vpn"}, "GeoIP2-Anonymous-IP of 2030-03-16")
    assert said({"anonymous": anonymous}, "8.8.8.8") == ("unknown", frozenset(), UNNAMED)
    assert said({"country": country}) == ("hosting", {"hosting"}, "Test-Country of 2030-03-16")
    assert said({"country": country}, "8.8.8.8") == (NOBODY, NOBODY, NOBODY)  # its silence says nothing
    every = {"anonymous": anonymous, "country": country, "networks": [listed(tmp_path, kind="vpn")]}
    assert said(every) == ("vpn", {"vpn", "hosting"}, "vpn watch of 2030-03-01")


def test_lists_of_systems_need_to_know_the_system(tmp_path: Path) -> None:
    systems = listed(tmp_path, "AS64500", "hosting")
    asn = write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"asn": 64500}, "198.51.100.0/24": {"asn": 64501}})
    assert said({"networks": [systems]}) == (NO_SYSTEM, NO_SYSTEM, NO_SYSTEM)
    assert said({"networks": [systems], "asn": asn})[0] == "hosting"
    assert said({"networks": [systems], "asn": asn}, "198.51.100.1")[0] == "unknown"
    assert said({"networks": [systems], "asn": asn}, "192.0.2.1")[0] == "unknown"  # announced by nobody that is known
    assert said({"networks": [systems, listed(tmp_path, kind="vpn")]})[0] == "vpn"  # one answer is an answer


def test_a_list_that_is_too_old_no_longer_speaks(tmp_path: Path) -> None:
    old = listed(tmp_path, kind="tor", max_age="10d")
    last = parse_timestamp("2030-03-11")
    reason = Missing("the list tor.txt (tor watch of 2030-03-01) is older than its max_age of 10d")
    assert said({"networks": [old]}, at=last) == ("tor", {"tor"}, "tor watch of 2030-03-01")
    assert said({"networks": [old]}, at=last + 1) == (reason, reason, reason)
    fresh = listed(tmp_path, kind="hosting")
    assert said({"networks": [old, fresh]}, at=last)[1] == {"tor", "hosting"}
    assert said({"networks": [old, fresh]}, at=last + 1) == ("hosting", {"hosting"}, "hosting watch of 2030-03-01")
    elsewhere = listed(tmp_path, "8.8.8.0/24", "vpn")
    assert said({"networks": [old, elsewhere]}, at=last + 1) == (reason, reason, reason)  # only the old one says so
    assert said({"networks": [old, elsewhere]}, "192.0.2.1", at=last + 1)[0] == "unknown"
    assert said({"networks": [old]}, "192.0.2.1", at=last + 1)[0] == NOBODY


def test_health_tells_the_lists_and_names_the_old_ones(tmp_path: Path) -> None:
    files = [listed(tmp_path, "1.1.1.0/24\n1.1.9.0/24\nAS7", "tor", max_age="10d"), listed(tmp_path)]
    lists = NetworkLists(files)
    healthy = lists.health()
    assert (healthy["note"], healthy["problem"]) == ("", "")
    assert healthy["lists"] == [
        {"name": "tor.txt", "kind": "tor", "networks": 2, "systems": 1, "is": "tor watch of 2030-03-01",
         "good_until": "2030-03-11T00:00:00.000000Z"},
        {"name": "vpn.txt", "kind": "vpn", "networks": 1, "systems": 0, "is": "vpn watch of 2030-03-01"},
    ]  # fmt: skip
    lists.ask("8.8.8.8", None, AT)
    assert lists.health()["note"] == "the list tor.txt (tor watch of 2030-03-01) is older than its max_age of 10d"
    assert lists.health()["problem"] == ""


def test_health_judges_by_the_clock_that_was_handed_in(tmp_path: Path) -> None:
    """And before any exchange came, or while none asks for networks."""
    geo = {"networks": [listed(tmp_path, kind="tor", max_age="10d")]}
    now = parse_timestamp("2030-03-11")
    watched = load_registry({"geo": geo, "clock": lambda: now}).watched["geo.networks"]
    assert watched.health()["note"] == ""
    now += 1
    assert watched.health()["note"] == "the list tor.txt (tor watch of 2030-03-01) is older than its max_age of 10d"
    assert watched.health()["problem"] == ""


def test_without_a_clock_health_judges_by_any_exchange(tmp_path: Path) -> None:
    registry = load_registry({"geo": {"networks": [listed(tmp_path, kind="tor", max_age="10d")]}})
    assert registry.watched["geo.networks"].health()["note"] == ""
    View(Facts(at=AT), registry.signals).get("client.geo_age")  # which every record holds
    assert "older than its max_age" in str(registry.watched["geo.networks"].health()["note"])


def test_an_old_database_no_longer_flags(tmp_path: Path) -> None:
    """As with lists: who names the network but is too old is the reason; silence counts only of those who are heard."""
    flags = write(tmp_path / "a.mmdb", {"203.0.113.0/24": {"is_anonymous_vpn": True}}, "GeoIP2-Anonymous-IP")
    late = BUILT * SECOND + 60 * DAY + 1
    old = Missing("the geo database GeoIP2-Anonymous-IP of 2030-03-16 is older than geo.max_age 60d")
    assert said({"anonymous": flags}, at=late - 1)[0] == "vpn"
    assert said({"anonymous": flags}, at=late) == (old, old, old)
    assert said({"anonymous": flags}, "8.8.8.8", at=late) == (old, old, old)
    assert said({"anonymous": flags, "max_age": 61 * DAY}, at=late)[0] == "vpn"
    both = {"anonymous": flags, "networks": [listed(tmp_path, "8.8.4.0/24", "tor")]}
    assert said(both, at=late) == (old, old, old)
    assert said(both, "8.8.8.8", at=late)[0] == "unknown"
    assert said(both, "8.8.4.4", at=late)[0] == "tor"
    country = write(tmp_path / "c.mmdb", {"203.0.113.0/24": {"country_code": "FR", "hosting": True}})
    found = said({"country": country}, at=late)[0]
    assert found == Missing("the geo database Test-Country of 2030-03-16 is older than geo.max_age 60d")
    assert said({"country": country}, "8.8.8.8", at=late)[0] == NOBODY


def sixty_thousand(folder: Path, version: int) -> tuple[NetworkList, float, list[str]]:
    """A list of 60,000 networks, the seconds it took to load, and addresses to ask for."""
    drawn = Random(7)
    address: Callable[[], str] = (
        (lambda: f"{drawn.randrange(1, 224)}.{drawn.randrange(256)}.{drawn.randrange(256)}")
        if version == 4
        else (lambda: f"2{drawn.randrange(4096):03x}:{drawn.randrange(65536):x}:{drawn.randrange(65536):x}")
    )
    ending, host = (".0/24", ".7") if version == 4 else ("::/48", "::7")
    file = listed(folder, "\n".join(f"{address()}{ending}" for _ in range(60_000)))
    begun = time.perf_counter()
    return load_networks(file), time.perf_counter() - begun, [f"{address()}{host}" for _ in range(20_000)]


@pytest.mark.parametrize(("version", "most"), [(4, 2_000_000), (6, 8_000_000)])
def test_sixty_thousand_networks_cost_little(tmp_path: Path, version: int, most: int) -> None:
    """The bounds are several times what it takes on an idle machine: 0.2 s to load, 2 µs to ask."""
    found, loading, addresses = sixty_thousand(tmp_path, version)
    lists = NetworkLists([tmp_path / "vpn.txt"])
    begun = time.perf_counter()
    for ip in addresses:
        lists.ask(ip, None, AT)
    asking = (time.perf_counter() - begun) / len(addresses)
    assert loading < 2
    assert asking < 30e-6
    assert found.items == 60_000
    tracemalloc.start()
    kept = load_networks(tmp_path / "vpn.txt")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept.networks == found.networks
    assert held < most
