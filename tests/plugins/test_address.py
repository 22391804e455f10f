"""The caller's address: a table of hostile inputs, and the law that what a caller writes himself decides nothing."""

from __future__ import annotations

import ipaddress
import timeit
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.addresses import Networks, network_text, number, written
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.plugins.address import LONGEST_ELEMENT, MOST_HOPS, address, forwarded_for, network_of, register, resolver_of
from gateway.registry import Registry
from gateway.signals import View
from gateway.values import Missing

XFF, FWD, XRI = "x-forwarded-for", "forwarded", "x-real-ip"
PROXIES = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8:aaaa::/48", "fe80::/10"]
NOBODY: dict[str, Any] = {}
KNOWN: dict[str, Any] = {"trusted_proxies": PROXIES}
FORWARDED = {**KNOWN, "header": FWD}
REAL = {**KNOWN, "header": XRI}
ONE, TWO, THREE = {"hops": 1}, {"hops": 2}, {"hops": 3}
PEER = "10.0.0.1"
C = "203.0.113.9"
FAR = ", ".join(["198.51.100.1", *[f"10.1.0.{n}" for n in range(MOST_HOPS)]])

ROWS: list[tuple[dict[str, Any], str | None, list[tuple[str, str]], str | None, str]] = [
    # nobody is believed by default
    (NOBODY, C, [], C, "the connection's other end"),
    (NOBODY, "127.0.0.1", [(XFF, "8.8.8.8")], "127.0.0.1", "loopback is nobody special"),
    (NOBODY, PEER, [(FWD, "for=8.8.8.8"), (XRI, "8.8.8.8")], PEER, "no header is believed"),
    (KNOWN, "198.51.100.7", [(XFF, C)], "198.51.100.7", "an untrusted peer's word is worth nothing"),
    (KNOWN, "11.0.0.0", [(XFF, C)], "11.0.0.0", "one address behind a trusted network"),
    (KNOWN, "9.255.255.255", [(XFF, C)], "9.255.255.255", "one address before it"),
    (KNOWN, "10.255.255.255", [(XFF, C)], C, "the last address of it"),
    # right to left
    (KNOWN, PEER, [(XFF, C)], C, "the proxy's word"),
    (KNOWN, PEER, [(XFF, f"8.8.8.8, {C}")], C, "left of the first stranger is his own word"),
    (KNOWN, PEER, [(XFF, f"{C}, 10.0.0.2")], C, "a trusted proxy inside the list"),
    (KNOWN, PEER, [(XFF, f"8.8.8.8, {C}, 10.0.0.2, 10.0.0.3")], C, "two of them"),
    (KNOWN, PEER, [(XFF, f"10.0.0.9, {C}, 10.0.0.2")], C, "a forged proxy left of the stranger"),
    (KNOWN, PEER, [(XFF, "8.8.8.8"), (XFF, C), (XFF, "10.9.9.9")], C, "all lines are one list"),
    (KNOWN, PEER, [(XFF, C), (XFF, "8.8.8.8")], "8.8.8.8", "the last line is the nearest proxy's"),
    (KNOWN, PEER, [(XFF, "10.0.0.3")], "10.0.0.3", "everybody is trusted: the farthest hop"),
    (KNOWN, PEER, [(XFF, "10.0.0.4, 10.0.0.3")], "10.0.0.4", "everybody is trusted, twice"),
    (KNOWN, PEER, [], PEER, "the proxy wrote nothing"),
    (KNOWN, PEER, [(XFF, FAR)], "10.1.0.0", f"no more than {MOST_HOPS} hops are looked at"),
    (KNOWN, PEER, [(XFF, "8.8.8.8," * 30_000 + C)], C, "an absurdly long header"),
    (KNOWN, PEER, [(XFF, "8" * 200_000 + f", {C}")], C, "an absurdly long element left of the caller"),
    (KNOWN, PEER, [(XFF, f"{C}, " + "8" * 200_000)], PEER, "an absurdly long element from the proxy"),
    (KNOWN, PEER, [(XFF, C + " " * LONGEST_ELEMENT)], PEER, "an address in too many blanks"),
    # other headers than the configured one
    (KNOWN, PEER, [(FWD, "for=8.8.8.8")], PEER, "the proxy passed on a Forwarded that its caller made up"),
    (KNOWN, PEER, [(XRI, "8.8.8.8"), (XFF, C)], C, "the same with X-Real-IP"),
    (FORWARDED, PEER, [(XFF, "8.8.8.8"), (FWD, f"for={C}")], C, "the same the other way round"),
    (REAL, PEER, [(XFF, "8.8.8.8"), (XRI, C)], C, "and with the third"),
    (KNOWN, PEER, [("x-forwarded-for ", "8.8.8.8"), ("x_forwarded_for", "8.8.8.8")], PEER, "names that only look alike"),
    # what is not an address ends the walk
    (KNOWN, PEER, [(XFF, "")], PEER, "an empty header"),
    (KNOWN, PEER, [(XFF, " \t ")], PEER, "a blank one"),
    (KNOWN, PEER, [(XFF, f"{C}, ")], PEER, "a proxy that had nothing to write does not vouch for what stood before"),
    (KNOWN, PEER, [(XFF, f", {C}")], C, "the caller sent an empty header"),
    (KNOWN, PEER, [(XFF, f"{C},, 10.0.0.2")], "10.0.0.2", "an empty element inside"),
    (KNOWN, PEER, [(XFF, C), (XFF, "")], PEER, "an empty line is an empty element"),
    (KNOWN, PEER, [(XFF, "junk")], PEER, "junk"),
    (KNOWN, PEER, [(XFF, "8.8.8.8, junk, 10.0.0.2")], "10.0.0.2", "junk inside"),
    (KNOWN, PEER, [(XFF, "unknown")], PEER, "the proxy does not know"),
    (KNOWN, PEER, [(XFF, "8.8.8.8, unix:")], PEER, "the proxy's caller came over a local socket"),
    (KNOWN, PEER, [(XFF, "localhost")], PEER, "a host name"),
    (KNOWN, PEER, [(XFF, "8.8.8.8 10.0.0.2")], PEER, "blanks do not part a list"),
    (KNOWN, PEER, [(XFF, f"8.8.8.8; {C}")], PEER, "semicolons neither"),
    (KNOWN, PEER, [(XFF, "010.0.0.2")], PEER, "octal or decimal, nobody knows"),
    (KNOWN, PEER, [(XFF, "0x0a000002")], PEER, "one number"),
    (KNOWN, PEER, [(XFF, "10.2")], PEER, "an abbreviated address"),
    (KNOWN, PEER, [(XFF, "999.1.1.1")], PEER, "out of range"),
    (KNOWN, PEER, [(XFF, "203.0.113.0/24")], PEER, "a network"),
    (KNOWN, PEER, [(XFF, f"{C}\xa0")], PEER, "a no-break space is no blank"),
    (KNOWN, PEER, [(XFF, f"{C}\x00")], PEER, "a NUL"),
    (KNOWN, PEER, [(XFF, "\uff11.1.1.1")], PEER, "digits of another script"),
    (KNOWN, PEER, [(XFF, "8.8.8.8%eth0")], PEER, "IPv4 has no zones"),
    # spellings
    (KNOWN, PEER, [(XFF, f" \t{C}\t ")], C, "blanks around"),
    (KNOWN, PEER, [(XFF, f"{C}:4711")], C, "IPv4 with a port"),
    (KNOWN, PEER, [(XFF, f"{C}:")], PEER, "a colon without a port"),
    (KNOWN, PEER, [(XFF, f"{C}:x")], PEER, "a port that is none"),
    (KNOWN, PEER, [(XFF, "[2001:db8::9]:4711")], "2001:db8::9", "IPv6 with a port"),
    (KNOWN, PEER, [(XFF, "[2001:DB8:0::9]")], "2001:db8::9", "brackets only, spelt otherwise"),
    (KNOWN, PEER, [(XFF, "2001:db8::9")], "2001:db8::9", "IPv6 without"),
    (KNOWN, PEER, [(XFF, "[2001:db8::9")], PEER, "a bracket left open"),
    (KNOWN, PEER, [(XFF, "2001:db8::9]")], PEER, "one that was never opened"),
    (KNOWN, PEER, [(XFF, f"[{C}]")], PEER, "brackets are IPv6's"),
    (KNOWN, PEER, [(XFF, f'"{C}"')], C, "quotes"),
    (KNOWN, PEER, [(XFF, f'"{C}')], PEER, "half of them"),
    (KNOWN, PEER, [(XFF, "2001:db8::9%eth0")], "2001:db8::9", "a zone id"),
    (KNOWN, PEER, [(XFF, "[fe80::2%25eth0]:80, [fe80::1%eth0]")], "fe80::2", "zone ids in brackets, escaped too"),
    (KNOWN, PEER, [(XFF, "fe80::1%")], PEER, "a zone id that is empty"),
    (KNOWN, "fe80::1%eth0", [(XFF, C)], C, "a trusted peer with a zone id"),
    # IPv4 inside IPv6
    (KNOWN, "::ffff:10.0.0.1", [(XFF, C)], C, "a dual-stack socket shows a trusted IPv4 proxy"),
    (KNOWN, PEER, [(XFF, f"8.8.8.8, ::ffff:{C}, ::ffff:a00:2")], C, "mapped, in both spellings"),
    (NOBODY, "::ffff:203.0.113.9", [], C, "mapped, without a proxy"),
    (KNOWN, PEER, [(XFF, "64:ff9b::8.8.4.4")], "8.8.4.4", "NAT64: the IPv4 host"),
    (KNOWN, PEER, [(XFF, "8.8.8.8, 64:ff9b::10.0.0.2")], "64:ff9b::a00:2", "NAT64 must not stand for a private address"),
    (KNOWN, PEER, [(XFF, "8.8.8.8, ::10.0.0.2")], "::a00:2", "IPv4-compatible: means nothing any more"),
    (KNOWN, PEER, [(XFF, "8.8.8.8, 2002:a00:2::1")], "2002:a00:2::1", "6to4: anybody may write a trusted address there"),
    ({"trusted_proxies": ["::ffff:10.0.0.0/104"]}, PEER, [(XFF, C)], C, "a network in the mapped spelling"),
    ({"trusted_proxies": ["64:ff9b::808:0/112"]}, "64:ff9b::8.8.4.4", [(XFF, C)], C, "a network behind NAT64"),
    # Forwarded
    (FORWARDED, PEER, [(FWD, f"for={C}")], C, "RFC 7239"),
    (FORWARDED, PEER, [(FWD, f"FOR={C};Proto=https")], C, "names in any case"),
    (FORWARDED, PEER, [(FWD, f"by=8.8.8.8;proto=http ; for={C}")], C, "other pairs before it"),
    (FORWARDED, PEER, [(FWD, f"for=8.8.8.8, for={C}, for=10.0.0.2")], C, "right to left"),
    (FORWARDED, PEER, [(FWD, "for=8.8.8.8"), (FWD, f"for={C}")], C, "several lines"),
    (FORWARDED, PEER, [(FWD, 'for="[2001:db8::9]:4711"')], "2001:db8::9", "IPv6 with a port, quoted"),
    (FORWARDED, PEER, [(FWD, f'for="{C}:_edge"')], C, "a hidden port"),
    (FORWARDED, PEER, [(FWD, 'for="203\\.0.113.9"')], C, "a quoted pair"),
    (FORWARDED, PEER, [(FWD, f'for={C};host="a,b\\",for=8.8.8.8"')], C, "commas and escaped quotes inside a value"),
    (FORWARDED, PEER, [(FWD, f'for="8.8.8.8, for={C}')], C, "a quote that the caller left open"),
    (FORWARDED, PEER, [(FWD, f'for=8.8.8.8\\", for={C}')], C, "a backslash and a quote before the proxy's word"),
    (FORWARDED, PEER, [(FWD, f'x="", for={C}, for=10.0.0.2;by="\\\\"')], C, "a value of one backslash"),
    (FORWARDED, PEER, [(FWD, f'for={C}, for=10.0.0.2;by="')], PEER, "a quote that the proxy left open"),
    (FORWARDED, PEER, [(FWD, "for=8.8.8.8, for=_hidden")], PEER, "an obfuscated name"),
    (FORWARDED, PEER, [(FWD, "for=8.8.8.8, for=unknown")], PEER, "unknown"),
    (FORWARDED, PEER, [(FWD, "for=8.8.8.8, proto=https")], PEER, "an element without for"),
    (FORWARDED, PEER, [(FWD, "for=8.8.8.8;for=9.9.9.9")], PEER, "two in one element"),
    (FORWARDED, PEER, [(FWD, C)], PEER, "a bare address"),
    (FORWARDED, PEER, [(FWD, "for = 8.8.8.8")], PEER, "blanks around the equals sign"),
    (FORWARDED, PEER, [(FWD, f"notfor=8.8.8.8;for={C};;")], C, "a name that ends alike, empty pairs"),
    (FORWARDED, PEER, [(FWD, "for=" + "8" * 100_000 + f", for={C}")], C, "an absurdly long element left of the caller"),
    # X-Real-IP
    (REAL, PEER, [(XRI, C)], C, "one address"),
    (REAL, PEER, [(XRI, "10.0.0.5")], "10.0.0.5", "a proxy's own"),
    (REAL, PEER, [(XRI, "8.8.8.8"), (XRI, C)], C, "the last line is the proxy's"),
    (REAL, PEER, [(XRI, "8.8.8.8, 10.0.0.5")], "10.0.0.5", "no list: the walk is one step long"),
    # hops
    (ONE, "198.51.100.7", [(XFF, f"8.8.8.8, {C}")], C, "one hop, whatever its address"),
    (TWO, "198.51.100.7", [(XFF, f"8.8.8.8, {C}, 198.51.100.8")], C, "two hops"),
    (THREE, "198.51.100.7", [(XFF, f"{C}, 198.51.100.8")], C, "fewer than said: the farthest"),
    (TWO, "198.51.100.7", [(XFF, f"{C}, unknown")], "198.51.100.7", "unreadable hops end this walk, too"),
    (ONE, "198.51.100.7", [], "198.51.100.7", "the proxy wrote nothing"),
    (ONE, None, [(XFF, C)], C, "a proxy on a local socket"),
    ({"hops": 2, "header": FWD}, "198.51.100.7", [(FWD, f"for=8.8.8.8, for={C}, for=198.51.100.8")], C, "hops in Forwarded"),
    # peers that are no addresses
    (KNOWN, None, [(XFF, C)], None, "no peer, nobody to believe"),
    (KNOWN, "testclient", [(XFF, C)], None, "a name is no address"),
    (KNOWN, "unix:/run/x.sock", [(XFF, C)], None, "a path neither"),
    (KNOWN, "", [(XFF, C)], None, "nothing at all"),
]  # fmt: skip


def resolved(settings: dict[str, Any], peer: str | None, headers: list[tuple[str, str]], name: str = "client.ip") -> object:
    """A signal as the gateway would resolve it."""
    registry = Registry()
    register(registry, {"client_address": settings})
    return View(Facts(at=0, peer=peer, headers=tuple(headers), connection="c-1"), registry.signals).get(name)


@pytest.mark.parametrize(("settings", "peer", "headers", "found", "why"), ROWS, ids=[row[4] for row in ROWS])
def test_the_callers_address(
    settings: dict[str, Any], peer: str | None, headers: list[tuple[str, str]], found: str | None, why: str
) -> None:
    assert resolved(settings, peer, headers) == (found or Missing("no client address")), why


TEXT = st.text(st.sampled_from(list(',;="\\ \t:[]%_.for8.8abc10')) | st.characters(max_codepoint=255), max_size=200)
WRITTEN = st.sampled_from([C, "2001:db8::9", "198.51.100.8", "junk", ""])
PROXIED = st.lists(st.sampled_from(["10.0.0.2", "10.200.0.1", "2001:db8:aaaa::5"]), max_size=3)


@pytest.mark.parametrize("header", [XFF, FWD])
@given(forged=TEXT, joined=st.booleans(), caller=WRITTEN, proxies=PROXIED)
@example(forged='for="8.8.8.8', joined=True, caller=C, proxies=["10.0.0.2"])
@example(forged='\\"', joined=True, caller=C, proxies=["2001:db8:aaaa::5"])
@example(forged="10.0.0.9,", joined=True, caller="", proxies=[])
def test_what_a_caller_wrote_himself_decides_nothing(
    header: str, forged: str, joined: bool, caller: str, proxies: list[str]
) -> None:
    """A caller sends `forged`; the first proxy adds whom it sees (`caller`), each further one the proxy before it."""
    said = [caller, *proxies]
    chain = ", ".join(said if header == XFF else [f'for="[{hop}]"' if ":" in hop else f"for={hop}" for hop in said])
    lines = [f"{forged}, {chain}"] if joined else [forged, chain]
    ask = resolver_of({"client_address": {**KNOWN, "header": header}}).resolve
    assert ask(PEER, lines) == ask(PEER, [chain])
    counting = resolver_of({"client_address": {"hops": len(said), "header": header}}).resolve
    assert counting(PEER, lines) == counting(PEER, [chain])


@given(forged=st.lists(TEXT, max_size=4), header=st.sampled_from([XFF, FWD, XRI]))
def test_an_untrusted_peer_decides_nothing_at_all(forged: list[str], header: str) -> None:
    for settings in (NOBODY, KNOWN):
        assert resolver_of({"client_address": {**settings, "header": header}}).resolve(C, forged) == C


@given(st.ip_addresses())
def test_an_address_is_read_as_the_standard_library_reads_it(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    known, host = number(str(found)), getattr(found, "ipv4_mapped", None) or found
    assert known is not None
    if known >> 32 == int(found) >> 32 or host.version == 4:  # not behind NAT64
        assert written(known) == str(host)
        assert network_text(known) == str(ipaddress.ip_network(f"{host}/{24 if host.version == 4 else 64}", strict=False))


@given(st.lists(st.tuples(st.ip_addresses(), st.integers(0, 32)), max_size=6), st.ip_addresses())
def test_networks_hold_what_the_standard_library_says(drawn: list[tuple[Any, int]], found: Any) -> None:
    networks = [ipaddress.ip_network(f"{base}/{length}", strict=False) for base, length in drawn]
    networks = [network for network in networks if network.version == 4 or network.prefixlen >= 8]
    inside = [network[0] for network in networks] + [network[-1] for network in networks] + [found]
    known = Networks(networks)
    for one in inside:
        of = number(str(one))
        assert of is not None
        if getattr(one, "ipv4_mapped", None) is None and not str(one).startswith("64:ff9b"):
            expected = any(one in network for network in networks if network.version == one.version)
            mapped = one.version == 4 and any(ipaddress.ip_address(f"::ffff:{one}") in n for n in networks if n.version == 6)
            assert (of in known) == (expected or mapped)


def test_hostile_headers_cost_little() -> None:
    """Work depends on what trusted hops wrote, never on what stands left of it: a thousand times the header, the same time."""
    for header, last in ((XFF, C), (FWD, f"for={C}")):
        ask = resolver_of({"client_address": {**KNOWN, "header": header}}).resolve
        costs = {}
        for size in (100, 100_000):
            line = '"\\",' * size + last
            assert ask(PEER, [line]) == C
            costs[size] = min(timeit.repeat(lambda line=line, ask=ask: ask(PEER, [line]), number=200, repeat=7))
        assert costs[100_000] < 20 * costs[100], costs


def test_networks_that_callers_are_counted_by() -> None:
    assert resolved(NOBODY, C, [], "client.network") == "203.0.113.0/24"
    assert resolved(NOBODY, "2001:db8:1:2:3:4:5:6", [], "client.network") == "2001:db8:1:2::/64"
    assert resolved(NOBODY, "::ffff:203.0.113.9", [], "client.network") == "203.0.113.0/24"
    assert isinstance(resolved(NOBODY, None, [], "client.network"), Missing)
    assert network_of("2001:db8::1") == "2001:db8::/64"
    assert network_of("nonsense") is None


@pytest.mark.parametrize(
    ("settings", "peer", "own"),
    [(NOBODY, C, True), (KNOWN, C, True), (KNOWN, PEER, False), (KNOWN, "::ffff:10.0.0.1", False), (ONE, C, False),
     (ONE, None, False), (KNOWN, None, True)],
)  # fmt: skip
def test_connections_of_a_believed_proxy_are_not_the_callers(settings: dict[str, Any], peer: str | None, own: bool) -> None:
    found = resolved(settings, peer, [], "client.connection")
    assert found == ("c-1" if own else Missing("the connection is a trusted proxy's, not the caller's"))


def test_a_host_that_does_not_tell_connections_apart() -> None:
    registry = Registry()
    register(registry, {})
    assert isinstance(View(Facts(at=0, peer=C), registry.signals).get("client.connection"), Missing)


def test_the_address_of_one_hop_as_an_object() -> None:
    assert address("[2001:db8::9]:443") == ipaddress.ip_address("2001:db8::9")
    assert address("::ffff:203.0.113.9") == ipaddress.ip_address(C)
    assert address("unknown") is None
    assert forwarded_for('by=x;for="a\\"b"') == 'a"b'


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{trusted_proxies: [10.0.0.0/8], hops: 1}", "2:55: client_address has both 'trusted_proxies' and 'hops'; keep"),
        ("{proxy_protocol: true}", "2:34: proxy_protocol: nobody is trusted to speak it; name the balancers"),
        ("{proxy_protocol: true, hops: 1}", "proxy_protocol: nobody is trusted to speak it"),
        ("{header: x-real-ip, hops: 2}", "2:43: hops: x-real-ip names one address, not 2; write hops: 1"),
        ("{header: client-ip}", "'client-ip' is none of x-forwarded-for, forwarded, x-real-ip"),
        ("{hops: 0}", "hops"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, section: str, message: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{openai: {{url: 'http://127.0.0.1:1'}}}}\nclient_address: {section}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert message in str(caught.value)


def test_settings_that_do_not(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    for section in (
        "{trusted_proxies: [10.0.0.0/8], proxy_protocol: true}",
        "{hops: 1, header: x-real-ip}",
        "{hops: 20}",
        "{}",
    ):
        file.write_text(f"upstreams: {{openai: {{url: 'http://127.0.0.1:1'}}}}\nclient_address: {section}\n")
        registry = Registry()
        register(registry, load_config(file, {}).settings)
        assert registry.signals["client.ip"].recorded
