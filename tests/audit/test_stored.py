"""The table of what is stored, held to the records and to the code."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.audit.identifiers import IDENTIFIERS, Keeping
from gateway.audit.opening import AuditSettings
from gateway.audit.trail import Trail
from gateway.facts import Answer
from gateway.gate import Gate
from tests.judging import CATALOGUE, START, facts, judge, policy
from tests.ledgers import ledger

README = (Path(__file__).parents[2] / "examples/README.md").read_text()
STORED = README.split("### What is stored, and why")[1].split("\n### ")[0]
FIELDS, WHO = STORED.split("Who somebody is")
PACK = """
pack: demo
version: 1
language: 1
rules:
  - {id: demo.all, title: All, family: network, owner: tests, when: {account.id: {present: true}}, mode: enforce,
     then: {action: tag, tag: all}}
"""


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]


def test_every_field_of_a_record_is_in_the_table(tmp_path: Path) -> None:
    told = {name for row in rows(FIELDS) for name in re.findall(r"`([a-z_]+)`", row[0])}
    audit = AuditSettings(keys=tmp_path / "keys", identifiers=Keeping.SEALED)
    trail = Trail(tmp_path / "audit", settings=audit.ledger(), seals=audit.hides(b"k" * 32))
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    judge(gate, {"account.id": "a", "client.ip": "192.0.2.1"}, START)
    gate.settle(gate.judge(facts({})), Answer(200))
    trail.close()
    found = {name for entry in ledger(tmp_path / "audit") for name in entry} | {"hash"}
    source = (Path(__file__).parents[2] / "gateway/audit/record.py").read_text()
    made = set(re.findall(r'entry\["([a-z_]+)"\] =|found\["([a-z_]+)"\] =', source))
    assert found <= told
    assert {name for pair in made for name in pair if name} & {"state_error", "settle_error", "trace"} <= told
    assert told - found <= {"state_error", "settle_error", "trace", "given", "workloads", "failed"}
    assert all(f'"{name}"' in source for name in told - found)


def test_the_table_of_identifiers_is_that_of_the_code() -> None:
    kept, hashed, sealed = "as it is", "keyed hash", "keyed hash, and sealed"
    assert rows(WHO) == [
        [f"`{name}`", kept, hashed if one.hashed else kept, sealed, one.why] for name, one in IDENTIFIERS.items()
    ]


def test_no_signal_that_names_a_caller_was_forgotten() -> None:
    """By their names and what their providers say: a new one has to be put in the table, or here with its reason."""
    apart = {
        "account.age", "account.billing_country", "account.billing_date", "account.billing_source", "account.credentials",
        "account.directory", "account.known", "account.kyc_country", "account.kyc_date", "account.kyc_source",
        "account.ownership_country", "account.ownership_date", "account.ownership_source", "account.plan", "account.verified",
    }  # fmt: skip
    named = {name for name, signal in CATALOGUE.items() if name.startswith("account.") or signal.type.name in ("ip", "cidr")}
    assert named - apart == {name for name in IDENTIFIERS if name not in ("client.session", "client.device")}
