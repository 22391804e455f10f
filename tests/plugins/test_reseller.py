"""Contradictions, markers, probes and forwarded end users: the tables, how they load, and what they find."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.plugins.contradictions import MOST_CLAIMS, load_rows
from gateway.plugins.markers import Markers, load_markers
from gateway.plugins.sent import Sent
from gateway.registry import load
from gateway.signals import View
from gateway.values import SECOND, Missing
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures
from tests.plugins.wires import AGENT, CHAT, KEY, PLAIN, PYTHON, RULES, START, TALK, but, registry, sent, signal, written

TABLE = """source: here
date: "2026-11-23"
claims:
"""
MARKER = """markers:
  - {id: m, where: header, header: x-tool, contains: relay, source: here, first_seen: 2026-01-01, expires: 2027-01-01,
     specificity: medium}
"""


def contradictions(facts: Facts) -> Any:
    return signal("reseller.contradictions", facts)


def test_a_go_serialiser_below_a_python_sdk() -> None:
    raw = written(CHAT).replace(b"<", b"\\u003c")
    assert contradictions(sent(PYTHON, raw)) == {"go-escapes", "go-transport"}
    assert contradictions(sent(but(PLAIN, {"user-agent": "Go-http-client/1.1"}), raw)) == set()
    assert signal("reseller.contradiction_count", sent(PYTHON, raw)) == 1
    assert signal("reseller.weak_contradiction_count", sent(PYTHON, raw)) == 1


def test_an_sdk_without_its_headers() -> None:
    stripped = sent(but(PYTHON, without=["x-stainless-"]))
    assert contradictions(stripped) == {"sdk-headers-stripped"}
    assert signal("reseller.contradiction_count", stripped) == 0
    assert signal("reseller.weak_contradiction_count", stripped) == 1


def test_a_response_header_in_a_request() -> None:
    assert contradictions(sent(but(PLAIN, {"x-accel-buffering": "no"}))) == {"response-header"}


def test_honest_clients_do_not_contradict_themselves() -> None:
    """Over the excerpt of real clients: none but relays disagrees with what it claims."""
    known = registry()
    intake, found = Intake(known, KEY), set()
    for capture in captures():
        path = capture["path"].partition("?")[0]
        headers = tuple((name.lower(), value) for name, value in capture["headers"])
        facts = intake.facts(Head(capture["method"], path, headers=headers), Body(document=capture["body"]), 0)
        if View(facts, known.signals).get("reseller.contradictions"):
            found.add(capture["label"])
    assert found == {"relay"}


def test_behind_a_trusted_proxy_order_and_version_are_not_held_against_anybody() -> None:
    behind = registry(ja4=True)
    placed = (("content-length", "9"), ("accept-encoding", "gzip"), *AGENT)
    assert signal("reseller.contradictions", sent(placed, TALK, http="2", using=behind), behind) == {
        "header-placed", "agent-headers-placed", "agent-over-h2",
    }  # fmt: skip
    assert signal("reseller.contradictions", sent(placed, TALK, http="2", peer="192.0.2.7", using=behind), behind) == set()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{name: a, why: b, has: [x], agnts: [curl/]}", "4:33: unknown key 'agnts' in a claim"),
        ("{name: a, why: b, styles: [html-escape]}", "did you mean 'html-escapes'"),
        ("{name: a, why: b, runtimes: [pyton], has: [x]}", "did you mean 'python'"),
        ("{name: a, why: b, runtimes: [python]}", "would accuse everybody"),
        ("{name: a, why: b, order: [[one, two, three]]}", "an order takes two header names"),
        ("{name: a, has: [x]}", "a claim needs 'why'"),
        ("{name: a, why: b, shows: [tools]}", "'tools' is none of derived-account"),
        ("{name: a, why: b, values: [{contains: [x]}]}", "a value needs 'header'"),
        ("{name: a, why: b, has: [x]}\n  - {name: a, why: b, has: [y]}", "'a' stands twice"),
        ("{name: a, why: b, has: [x]}\n  - [1]", "a claim must be a mapping"),
        ("{name: a, why: b, weak: maybe, has: [x]}", "weak"),
        ("{name: a, why: b, weak: true}", "would accuse everybody"),
        ("{name: a, why: b, takes: [Bash]}", "takes must be a mapping"),
    ],
)
def test_a_table_of_contradictions_loads_strictly(row: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text(f"{TABLE}  - {row}\n")
    with pytest.raises(ConfigError) as caught:
        load_rows(file)
    assert message in str(caught.value)
    assert "rows.yaml:" in str(caught.value)


def test_an_edited_table_is_in_force_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text(f"{TABLE}  - {{name: one, why: w, has: [x-one]}}\n")
    known = load({"reseller": {"contradictions": file}})
    watched, facts = known.watched["reseller.contradictions"], sent(but(PLAIN, {"x-one": "1", "x-two": "2"}))
    assert signal("reseller.contradictions", facts, known) == {"one"}
    file.write_text(f"{TABLE}  - {{name: two, why: w, has: [x-two]}}\n")
    os.utime(file, ns=(1, 1))
    watched.refresh()
    assert signal("reseller.contradictions", facts, known) == {"two"}
    file.write_text("claims: 1\n")
    os.utime(file, ns=(2, 2))
    watched.refresh()
    assert signal("reseller.contradictions", facts, known) == {"two"}
    assert "the last good one stays" in str(watched.health()["problem"])
    assert watched.health()["entries"] == 1


def test_a_mistake_in_one_table_does_not_hide_that_in_the_other(tmp_path: Path) -> None:
    rows, markers = tmp_path / "rows.yaml", tmp_path / "markers.yaml"
    rows.write_text(f"{TABLE}  - {{name: one, why: w}}\n")
    markers.write_text(MARKER.replace("medium", "hgh"))
    with pytest.raises(ConfigError) as caught:
        load({"reseller": {"contradictions": rows, "markers": markers}})
    assert {problem.place.path for problem in caught.value.problems} == {str(rows), str(markers)}
    rows.write_text(f"{TABLE}  - {{name: one, why: w, has: [x]}}\n")
    with pytest.raises(ConfigError) as caught:
        load({"reseller": {"contradictions": rows, "markers": markers}})
    assert {problem.place.path for problem in caught.value.problems} == {str(markers)}


def test_callers_cannot_grow_what_is_remembered_of_their_claims() -> None:
    rows = load_rows(RULES / "data" / "contradictions.yaml")
    for number in range(MOST_CLAIMS + 10):
        asked = Sent(sent(but(PLAIN, {"user-agent": f"app/{number}"})), "python", None, None, None, direct=True)
        assert rows.contradicted(asked) == frozenset()
    assert 0 < rows.remembered <= MOST_CLAIMS
    long = Sent(sent(but(PLAIN, {"user-agent": "curl/" + "x" * 9_000, "accept": ""})), None, None, None, None, direct=True)
    assert rows.contradicted(long) == {"empty-accept"}


@pytest.mark.parametrize(
    ("where", "match", "headers", "body"),
    [
        ("header, header: X-Tool", "contains: Relay", but(PLAIN, {"x-tool": "my-relay/2"}), CHAT),
        ("header, header: x-tool", "equals: relay", but(PLAIN, {"x-tool": " Relay "}), CHAT),
        ("header, header: x-tool", "starts_with: rel", but(PLAIN, {"x-tool": "relay"}), CHAT),
        ("header, header: x-tool", f"sha256: {sha256(b'relay').hexdigest()}", but(PLAIN, {"x-tool": "Relay"}), CHAT),
        ("agent", "equals: relay-x", but(PLAIN, {"user-agent": "Relay-X/1.2"}), CHAT),
        ("system", "starts_with: You are", PLAIN, {**CHAT, "messages": [{"role": "system", "content": "You are x"}]}),
        ("first-user", "contains: a < b", PLAIN, CHAT),
        ("first-answer", "equals: Yes.", PLAIN,
         {**CHAT, "messages": [*CHAT["messages"], {"role": "assistant", "content": "Yes. "}]}),
        ("user-id", "equals: probe", PLAIN, {**CHAT, "user": "probe"}),
        ("tools", "starts_with: relay_", PLAIN,
         {**CHAT, "tools": [{"type": "function", "function": {"name": name}} for name in ("a", "relay_b")]}),
    ],
)  # fmt: skip
def test_what_a_marker_looks_at(where: str, match: str, headers: Any, body: Any) -> None:
    entry = f"{{id: m, where: {where}, {match}, source: s, first_seen: 2026-01-01, expires: 2027-01-01, specificity: high}}"
    known = registry(f"markers:\n  - {entry}\n")
    assert signal("reseller.markers", sent(headers, body), known) == {"m"}
    assert signal("reseller.marker_specificity", sent(headers, body), known) == "high"
    assert signal("reseller.markers", sent(but(PLAIN, {"user-agent": "x"}), TALK, path="/v1/chat/completions"), known) == (
        {"m"} if where == "first-user" else set()
    )


def test_the_strongest_marker_counts() -> None:
    entries = "".join(
        f"  - {{id: m{kind}, where: agent, equals: app, source: s, first_seen: 2026-01-01, expires: 2027-01-01,\n"
        f"     specificity: {kind}}}\n"
        for kind in ("medium", "high", "low")
    )
    known = registry(f"markers:\n{entries}")
    assert signal("reseller.marker_specificity", sent(PLAIN), known) == "high"
    assert isinstance(signal("reseller.marker_specificity", sent(PYTHON), known), Missing)


def test_an_expired_marker_says_nothing_and_health_says_so(tmp_path: Path) -> None:
    file = tmp_path / "markers.yaml"
    file.write_text(MARKER)
    markers = Markers(file)
    shown = but(PLAIN, {"x-tool": "relay"})
    end = 1_798_761_600 * SECOND
    assert markers.found(sent(shown, at=end - 1)) == {"m"}
    assert markers.health() == {"entries": 1, "expired": 0, "problem": ""}
    assert markers.found(sent(shown, at=end)) == frozenset()
    assert markers.health() == {"entries": 1, "expired": 1, "problem": ""}
    file.write_text(MARKER.replace("2027-01-01", "2028-01-01"))
    os.utime(file, ns=(1, 1))
    markers.refresh()
    assert markers.found(sent(shown, at=end)) == {"m"}
    assert markers.health() == {"entries": 1, "expired": 0, "problem": ""}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: here, ", "", "a marker needs 'source'"),
        ("expires: 2027-01-01,", "", "a marker needs 'expires'"),
        ("first_seen: 2026-01-01, ", "", "a marker needs 'first_seen'"),
        ("     specificity: medium", "     specificity: hgh", "did you mean 'high'"),
        ("where: header, header: x-tool", "where: header", "'header' belongs to 'where: header'"),
        ("where: header, header: x-tool", "where: system, header: x-tool", "'header' belongs to 'where: header'"),
        ("contains: relay", "contains: relay, equals: relay", "exactly one of equals, contains, starts_with, sha256"),
        ("contains: relay, ", "", "exactly one of equals, contains, starts_with, sha256"),
        ("contains: relay", "sha256: abc", "64 lower-case hexadecimal digits"),
        ("expires: 2027-01-01", "expires: 2025-01-01", "must expire after it was first seen"),
        ("expires: 2027-01-01", "expires: soon", "'soon' is not a time"),
        ("id: m,", "name: m,", "unknown key 'name'"),
    ],
)
def test_a_table_of_markers_loads_strictly(old: str, new: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "markers.yaml"
    file.write_text(MARKER.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_markers(file)
    assert message in str(caught.value)
    assert "markers.yaml:2" in str(caught.value) or "markers.yaml:3" in str(caught.value)


def test_the_shipped_markers_name_nobody_and_all_expire_within_a_year() -> None:
    for marker in load_markers(RULES / "data" / "markers.yaml").markers:
        assert marker.id.replace("-", "").isalnum()
        assert START < marker.expires <= START + 366 * 86_400 * SECOND


def test_forwarded_end_users_are_counted_not_trusted() -> None:
    def forwarded(**headers: str) -> Any:
        return signal("reseller.forwarded_client", sent(but(PLAIN, {k.replace("_", "-"): v for k, v in headers.items()})))

    assert forwarded(x_forwarded_for="8.8.4.4, 10.0.0.1") == "8.8.4.4"
    assert forwarded(cf_connecting_ip="8.8.4.4") == "8.8.4.4"
    assert forwarded(x_forwarded_for="10.0.0.1, 2606:4700::1") == "2606:4700::1"
    for junk in ("10.0.0.1", "203.0.113.9", "", "x" * 5_000, "," * 5_000):
        assert isinstance(forwarded(x_forwarded_for=junk), Missing)


def test_end_users_are_read_from_the_standard_header_too() -> None:
    def forwarded(value: str, **more: str) -> Any:
        return signal("reseller.forwarded_client", sent(but(PLAIN, {"forwarded": value, **more})))

    assert forwarded("for=8.8.4.4;proto=https") == "8.8.4.4"
    assert forwarded('proto=https;For="[2606:4700::1]:4711", for=10.0.0.1') == "2606:4700::1"
    assert forwarded("for=10.0.0.1, for=8.8.4.4:80") == "8.8.4.4"
    assert forwarded('secret="a, for=1.1.1.1, \\"b";for=8.8.4.4') == "8.8.4.4"
    assert forwarded("for=_hidden", **{"x-forwarded-for": "8.8.4.4"}) == "8.8.4.4"
    for junk in ("8.8.4.4", "for=unknown", "for=", 'for="8.8.4.4', "by=8.8.4.4", "for=8.8.4.4;for=8.8.8.8", "," * 5_000,
                 '"\\' * 5_000, "x" * 3_000 + ",for=8.8.4.4"):  # fmt: skip
        assert isinstance(forwarded(junk), Missing)


def probing(text: str, path: str = "", **more: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return signal("reseller.probe", sent(PLAIN, body, path=path))


def test_a_probe_asks_only_whether_an_upstream_lives() -> None:
    assert probing("hi", max_tokens=16) == probing("Hi ", max_completion_tokens=10) == probing("hi", max_tokens=1_024)
    assert probing("hi", max_tokens=16) != probing("ping", max_tokens=16)
    assert isinstance(probing("are you alive? answer yes or no", max_tokens=20), str)
    embedded = {"model": "m", "input": "hello world"}
    assert isinstance(signal("reseller.probe", sent(PLAIN, embedded, path="/v1/embeddings")), str)


def test_what_is_not_a_probe() -> None:
    long, tool = "please write a short poem about rain", {"type": "function", "function": {"name": "f"}}
    assert isinstance(probing("hi"), Missing)
    assert isinstance(probing(long, max_tokens=101), Missing)
    assert isinstance(probing(long * 2, max_tokens=16), Missing)
    assert isinstance(probing("hi", max_tokens=16, tools=[tool]), Missing)
    assert isinstance(probing(" ", max_tokens=16), Missing)
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}]
    assert isinstance(signal("reseller.probe", sent(PLAIN, {"model": "m", "messages": turns, "max_tokens": 9})), Missing)
    item = {"model": "m", "input": "a sentence of a document that is to be found again"}
    assert isinstance(signal("reseller.probe", sent(PLAIN, item, path="/v1/embeddings")), Missing)
    system = [{"role": "system", "content": "Answer A, B, C or D."}, {"role": "user", "content": long}]
    assert isinstance(signal("reseller.probe", sent(PLAIN, {"model": "m", "messages": system, "max_tokens": 9})), Missing)
