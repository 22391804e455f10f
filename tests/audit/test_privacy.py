"""Who somebody is: hashed in the ledger, sealed for whoever holds the account's key, gone once that is dropped."""

from __future__ import annotations

import ipaddress
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.audit.delivery import Endpoint
from gateway.audit.identifiers import IDENTIFIERS, Keeping, NameKeys, Names, hashed, key_id
from gateway.audit.opening import AuditSettings
from gateway.audit.record import record
from gateway.audit.sealing import ErasedError, Keys, Opener, Seals
from gateway.audit.spans import OtelSpans
from gateway.audit.trace import begin
from gateway.audit.trail import Trail
from gateway.cli import main
from gateway.errors import ConfigError, SluiceError
from gateway.facts import Answer, Facts
from gateway.gate import Gate
from tests.audit.ledgers import said
from tests.collector import attributes, collector
from tests.judging import CATALOGUE, START, judge, policy
from tests.ledgers import ledger, ledger_text

DAY = 86_400_000_000
OLD, NEW = b"o" * 32, b"n" * 32
WHO = {
    "account.id": "acme-canary", "account.org": "org-canary", "account.payment": "card-canary", "client.ip": "203.0.113.77",
    "client.network": "203.0.113.0/24", "client.session": "session-canary", "client.device": "device-canary",
}  # fmt: skip
PACK = """
pack: demo
version: 1
language: 1
rules:
  - {id: demo.office, title: From the office, family: network, owner: tests, when: {client.ip: {within: [203.0.113.0/24]}},
     then: {action: tag, tag: office}, mode: enforce}
  - {id: demo.acme, title: Acme, family: identity, owner: tests, when: {account.id: acme-canary},
     then: {action: tag, tag: acme}, mode: enforce}
"""


def settle(folder: Path, who: list[dict[str, str]], **settings: Any) -> None:
    """A ledger of one judgement each, a second after another."""
    audit = AuditSettings(keys=folder / "audit.keys", **settings)
    trail = Trail(folder / "audit", settings=audit.ledger(), seals=audit.hides(OLD))
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    for number, signals in enumerate(who):
        judge(gate, signals, START + number * 1_000_000)
    trail.close()


def sluice(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """Ten records of two accounts, sealed; and the gateway.yaml that opens them."""
    other = {**WHO, "account.id": "other-canary", "client.ip": "198.51.100.4", "client.network": "198.51.100.0/24"}
    settle(tmp_path, [WHO, other] * 5, identifiers=Keeping.SEALED)
    (tmp_path / "pack.yaml").write_text(PACK)
    (tmp_path / "key").write_bytes(OLD)
    (tmp_path / "gateway.yaml").write_text(
        "upstreams: {}\npolicy: [pack.yaml]\nidentity: {hash_key_file: key}\naudit: {identifiers: sealed}\n"
    )
    yield tmp_path


def test_equal_values_stay_equal_and_keep_their_form() -> None:
    ip, network = hashed("client.ip", "203.0.113.77", OLD), hashed("client.network", "203.0.113.0/24", OLD)
    assert ipaddress.ip_address(ip) in ipaddress.ip_network(network)
    assert ipaddress.ip_address(ip) in ipaddress.ip_network("fd00::/8")
    assert hashed("client.ip", "203.0.113.78", OLD) != ip
    assert ipaddress.ip_address(hashed("client.ip", "203.0.113.78", OLD)) in ipaddress.ip_network(network)
    assert ipaddress.ip_address(hashed("client.ip", "2001:db8::9", OLD)) in ipaddress.ip_network(
        hashed("client.network", "2001:db8::/64", OLD)
    )
    assert re.fullmatch("~[0-9a-f]{16}", hashed("account.id", "acme", OLD))
    assert len({hashed("account.id", "x", OLD), hashed("account.org", "x", OLD), hashed("account.id", "x", NEW)}) == 3
    for name, value in WHO.items():
        CATALOGUE[name].type.parse(hashed(name, value, OLD))


@pytest.mark.parametrize("keeping", list(Keeping))
def test_what_stands_in_the_ledger(tmp_path: Path, keeping: Keeping) -> None:
    settle(tmp_path, [WHO], identifiers=keeping)
    text, (entry,) = ledger_text(tmp_path / "audit"), ledger(tmp_path / "audit")
    gone = {name for name, value in WHO.items() if f'"{value}"' not in text}
    hidden = {name for name, one in IDENTIFIERS.items() if one.hashed}
    assert gone == {Keeping.PLAIN: set(), Keeping.HASHED: hidden, Keeping.SEALED: set(IDENTIFIERS)}[keeping]
    assert ("names" in entry, "sealed" in entry) == (keeping is not Keeping.PLAIN, keeping is Keeping.SEALED)


def test_sealed_records_open_to_what_was_recorded(sealed: Path) -> None:
    found: list[dict[str, Any]] = []
    gate = Gate(policy(PACK), CATALOGUE, sink=lambda judgement, answer: found.append(record(judgement, answer)))
    judge(gate, WHO, START)
    opener = Opener(Keys(sealed / "audit.keys", create=False))
    again = opener.opened(json.loads(ledger_text(sealed / "audit").splitlines()[0]))
    differ = {key for key in found[0] if json.dumps(found[0][key]) != json.dumps(again[key])}
    assert differ <= {"id", "reference", "timing"}
    assert opener.unopened == {}


def test_explain_needs_the_keys_and_says_so(sealed: Path) -> None:
    reference = ledger(sealed / "audit")[0]["reference"]
    opened = sluice("explain", reference, "--config", sealed / "gateway.yaml")
    assert opened.exit_code == 0, opened.output
    assert "203.0.113.77" in opened.stdout
    (sealed / "audit.keys").rename(sealed / "elsewhere")
    closed = sluice("explain", reference, "--config", sealed / "gateway.yaml")
    assert closed.exit_code == 2
    assert "its identifiers are hashed here: sealed, and no keys are given" in closed.stderr


def test_a_dry_run_reads_by_hashes_what_it_cannot_open_and_says_so(sealed: Path) -> None:
    """Values that rules compare with are there for whoever holds the keys only."""
    for config, done in (([], {"allow": 10}), (["--config", sealed / "gateway.yaml"], {"tag": 5, "allow": 5})):
        told = sluice("dry-run", sealed / "audit", "--policy", sealed / "pack.yaml", "--format", "json", *config)
        assert told.exit_code == 0, told.output
        assert json.loads(told.stdout)["outcomes"] == done
        assert ("read by their hashes: 10 records" in told.stderr) == (not config)


def test_erasing_an_account_leaves_the_chain_whole_and_the_others_readable(sealed: Path) -> None:
    before = ledger_text(sealed / "audit")
    erased = sluice("audit", "erase", "acme-canary", "--config", sealed / "gateway.yaml")
    assert erased.exit_code == 0, erased.output
    assert ledger_text(sealed / "audit") == before
    assert said(sealed / "audit") == ([], [])
    opener = Opener(Keys(sealed / "audit.keys", create=False))
    texts = [opener(line.encode()).decode() for line in before.splitlines()]
    assert [("acme-canary" in text, "other-canary" in text) for text in texts] == [(False, False), (False, True)] * 5
    assert opener.unopened == {"of accounts that were erased": 5}
    assert b"acme-canary" not in (sealed / "audit.keys").read_bytes()
    again = sluice("audit", "erase", "acme-canary", "--config", sealed / "gateway.yaml")
    assert (again.exit_code, "no key of an account 'acme-canary'" in again.stderr) == (1, True)
    reference = ledger(sealed / "audit")[0]["reference"]
    told = sluice("explain", reference, "--config", sealed / "gateway.yaml")
    assert (told.exit_code, "of accounts that were erased" in told.stderr) == (2, True)


def test_a_key_is_dropped_for_a_gateway_that_runs_and_a_new_one_made(tmp_path: Path) -> None:
    running, command = Keys(tmp_path / "keys"), Keys(tmp_path / "keys")
    first = running.of(["account:a", "account:b"], 1)
    assert running.of(["account:a"], 2)["account:a"] == first["account:a"]
    assert command.erase("account:a", 3) == first["account:a"][0]
    second = running.of(["account:a", "account:b"], 4)
    assert second["account:a"] != first["account:a"]
    assert second["account:b"] == first["account:b"]
    with pytest.raises(ErasedError, match="was erased on 1970-01-01"):
        running.find(first["account:a"][0])
    assert running.find(second["account:a"][0]) == second["account:a"][1]


def test_whoever_invents_credentials_makes_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path / "keys")
    seals = Seals(Names(Keeping.SEALED, NameKeys.derived(OLD)), keys)
    unlisted = [
        (START, {"id": f"{n:032x}", "signals": {"account.id": f"made-up-{n}", "account.known": False}}) for n in range(50)
    ]
    assert len({entry["sealed"]["key"] for entry in seals.hide(unlisted)}) == 1
    monkeypatch.setattr("gateway.audit.sealing.MOST_ACCOUNTS", 3)
    for n in range(9):
        seals.hide([(START, {"id": "0" * 32, "signals": {"account.id": f"listed-{n}"}})])
    assert sqlite3.connect(tmp_path / "keys").execute("SELECT count(*) FROM keys").fetchone() == (3,)


def test_a_box_belongs_to_its_record(sealed: Path) -> None:
    opener = Opener(Keys(sealed / "audit.keys", create=False))
    one, _, other = (json.loads(line) for line in ledger_text(sealed / "audit").splitlines()[:3])
    with pytest.raises(SluiceError, match="does not open with its key"):
        opener.opened({**one, "sealed": other["sealed"]})


def test_keys_rotate_by_date_and_records_of_the_overlap_join_them(tmp_path: Path) -> None:
    names = Names(Keeping.HASHED, NameKeys([(START - 9 * DAY, OLD), (START, NEW)], overlap=DAY))
    entry = {"id": "0" * 32, "signals": dict(WHO)}
    before, within, after = (names.replaced(entry, names.taken(entry), START + days * DAY) for days in (-1, 0, 1))
    ip = {key: hashed("client.ip", WHO["client.ip"], key) for key in (OLD, NEW)}
    assert [one["signals"]["client.ip"] for one in (before, within, after)] == [ip[OLD], ip[NEW], ip[NEW]]
    assert within["names"]["was"]["client.ip"] == ip[OLD]
    assert (within["names"]["key"], within["names"]["before"]) == (key_id(NEW), key_id(OLD))
    assert ("was" in before["names"], "was" in after["names"]) == (False, False)


def test_a_join_table_of_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "names").write_text(f"# ours\n2020-01-01 {OLD.hex()}\n2026-01-01 {NEW.hex()}\n")
    settle(tmp_path, [WHO] * 3, identifiers=Keeping.HASHED, names=tmp_path / "names", overlap=3_650 * DAY)
    told = sluice("audit", "join", tmp_path / "audit")
    assert told.exit_code == 0, told.output
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    ip = {key: hashed("client.ip", WHO["client.ip"], key) for key in (OLD, NEW)}
    assert ["client.ip", key_id(OLD), ip[OLD], key_id(NEW), ip[NEW]] in rows
    assert len(rows) == sum(one.hashed for one in IDENTIFIERS.values())


def test_whoever_holds_the_keys_joins_without_an_overlap(sealed: Path) -> None:
    (sealed / "names").write_text(f"2020-01-01 {OLD.hex()}\n2030-01-01 {NEW.hex()}\n")
    (sealed / "gateway.yaml").write_text("upstreams: {}\naudit: {identifiers: sealed, names: names}\n")
    assert sluice("audit", "join", sealed / "audit").exit_code == 1
    told = sluice("audit", "join", sealed / "audit", "--config", sealed / "gateway.yaml")
    assert hashed("account.id", "acme-canary", OLD) in told.stdout
    assert hashed("account.id", "acme-canary", NEW) in told.stdout


def test_dated_keys_are_shown_and_added_and_never_repeated(tmp_path: Path) -> None:
    file = tmp_path / "names"
    assert sluice("audit", "keys", file, "--add", "2026-12-01").exit_code == 0
    told = sluice("audit", "keys", file, "--add", "2027-01-01")
    assert re.fullmatch(r"2026-12-01  key [0-9a-f]{8}\n2027-01-01  key [0-9a-f]{8}\n", told.stdout)
    assert file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().split()[1]
    file.write_text(f"2026-13-01 {secret}\n2026-12-01 {secret[:9]}\n")
    with pytest.raises(ConfigError) as failure:
        NameKeys.read(file, 0)
    assert [problem.place.line for problem in failure.value.problems] == [1, 2]
    assert secret[:9] not in str(failure.value)


def test_a_disk_that_takes_no_keys_holds_the_records(tmp_path: Path) -> None:
    audit = AuditSettings(keys=tmp_path / "audit.keys", identifiers=Keeping.SEALED)
    trail = Trail(tmp_path / "audit", settings=audit.ledger(), seals=audit.hides(OLD))
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    blocking = sqlite3.connect(tmp_path / "audit.keys", isolation_level=None)
    blocking.execute("PRAGMA busy_timeout = 0")
    seals_keys = trail._seals._keys  # type: ignore[union-attr]
    seals_keys._database.execute("PRAGMA busy_timeout = 1")  # type: ignore[union-attr]
    blocking.execute("BEGIN EXCLUSIVE")
    judge(gate, WHO, START)
    trail.flush()
    assert "records are held until they can be kept" in str(trail.health()["problem"])
    assert ledger(tmp_path / "audit") == []
    blocking.execute("ROLLBACK")
    trail.flush()
    assert (trail.health()["problem"], len(ledger(tmp_path / "audit"))) == ("", 1)
    trail.close()


TOLD = f"""
pack: told
version: 1
language: 1
rules:
  - {{id: told.all, title: All, family: identity, owner: tests, when: {{account.id: {{present: true}}}},
     then: {{action: tag, tag: all}}, evidence: [{", ".join(IDENTIFIERS)}, client.country], mode: enforce}}
"""


def spans_of(keeping: Keeping, folder: Path, peer: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Everything that an endpoint received of one judgement as text; of that the event of its match, and the SERVER span."""
    audit = AuditSettings(keys=folder / "audit.keys", identifiers=keeping)
    with collector() as endpoint:
        trail = Trail(folder / "audit", OtelSpans(Endpoint(endpoint.url)), settings=audit.ledger(), seals=audit.hides(OLD))
        gate = Gate(policy(TOLD), CATALOGUE, sink=trail)
        judgement = gate.judge(Facts(at=START, peer=peer, recorded={**WHO, "client.country": "NO"}))
        judgement.trace = begin([])
        gate.settle(judgement, Answer(200))
        trail.close()
    spans = {span.kind: span for span in endpoint.spans()}
    (event,) = spans[Span.SPAN_KIND_INTERNAL].events
    return endpoint.raw().decode("latin-1"), attributes(event), attributes(spans[Span.SPAN_KIND_SERVER])


@pytest.mark.parametrize("peer", [WHO["client.ip"], "198.51.100.99"], ids=["direct", "proxied"])
@pytest.mark.parametrize("keeping", list(Keeping))
def test_spans_tell_of_identifiers_what_the_ledger_does(tmp_path: Path, keeping: Keeping, peer: str) -> None:
    text, event, server = spans_of(keeping, tmp_path, peer)
    (entry,) = ledger(tmp_path / "audit")
    for name in IDENTIFIERS:
        assert event[f"sluice.evidence.{name}"] == entry["signals"][name]
    assert event["sluice.evidence.client.country"] == "NO"
    assert server["client.address"] == entry["signals"]["client.ip"]
    taken = {name for name, one in IDENTIFIERS.items() if one.hashed or keeping is Keeping.SEALED}
    planted = [
        *(WHO[name] for name in taken if keeping is not Keeping.PLAIN),
        *([peer] if keeping is not Keeping.PLAIN else []),
    ]
    assert [value for value in planted if value in text] == []
    said = peer if keeping is Keeping.PLAIN else entry["signals"]["client.ip"] if peer == WHO["client.ip"] else None
    assert server.get("network.peer.address") == said
