"""Accounts: from a directory file, or from the keyed hash of a credential; never from the credential itself."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.credentials import credential_hash
from gateway.errors import ConfigError
from gateway.facts import Facts, Freshness, LookedUp
from gateway.gate import Gate
from gateway.language.compile import compile_nodes
from gateway.plugins.identity.file import FileDirectory
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.strict.document import parse
from gateway.values import SECOND, Missing, parse_timestamp
from gateway.web.intake import Body, Head, Intake

KEY = b"a key of the tests' own"
DAY = 86_400 * SECOND
NOW = parse_timestamp("2026-11-01T00:00:00Z")


def hashed(credential: str) -> str:
    return credential_hash(sha256(credential.encode()).digest(), KEY)


def entry(credential: str, rest: str) -> str:
    return f'  - {{credentials: ["sha256:{sha256(credential.encode()).hexdigest()}"], {rest}}}\n'


def directory(folder: Path, *rows: str) -> Path:
    file = folder / "accounts.yaml"
    file.write_text("accounts:\n" + "".join(rows))
    return file


def view(file: Path | None, key: str = "", account: Any = None) -> View:
    """The signals of a request with this key, as the door makes its facts."""
    registry = load_registry({"identity": {"directory": file, "hash_key": KEY}})
    headers = (("authorization", f"Bearer {key}"),) if key else ()
    facts = Intake(registry, KEY).facts(Head("GET", "/v1/models", headers=headers), Body(), NOW, account)
    return View(facts, registry.signals)


def id_of(found: FileDirectory, key: str) -> object:
    return (found.find(hashed(key)).entry or {}).get("id")


FULL = (
    "id: acme-1, org: acme, plan: paid, verified: true, created: 2026-10-02T00:00:00Z, billing_country: NO, payment: p1, "
    "billing_source: card, billing_date: 2026-10-03T00:00:00Z, ownership_country: SG, ownership_source: register"
)


def test_everything_the_directory_says(tmp_path: Path) -> None:
    found = view(directory(tmp_path, entry("sk-1", FULL)), "sk-1")
    wanted = {
        "account.id": "acme-1", "account.org": "acme", "account.plan": "paid", "account.verified": True,
        "account.billing_country": "NO", "account.payment": "p1", "account.age": 30 * DAY, "account.known": True,
        "account.billing_source": "card", "account.billing_date": NOW - 29 * DAY, "account.ownership_country": "SG",
        "account.ownership_source": "register", "account.directory": "fresh", "account.credentials": 1,
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert found.get("account.kyc_country") == Missing("the account directory does not say")


def test_an_account_without_an_org_is_its_own(tmp_path: Path) -> None:
    assert view(directory(tmp_path, entry("sk-1", "id: solo")), "sk-1").get("account.org") == "account:solo"


def test_an_unknown_credential_is_known_to_be_unknown(tmp_path: Path) -> None:
    found = view(directory(tmp_path, entry("sk-1", "id: a")), "sk-2")
    assert found.get("account.known") is False
    assert found.get("account.id") == f"key:{hashed('sk-2')}"
    assert found.get("account.org") == Missing("the account directory does not list the credential"), "it has no owner"


def test_a_directory_that_did_not_answer_leaves_open_who_asks_and_whose_it_is() -> None:
    """Nothing is known then, not even that a declared workload does not cover it: that would be a fact made of a failure."""
    written = "workloads: [{id: w, kind: benchmark, orgs: [acme], from: 2020-01-01, until: 2035-01-01, owner: o, evidence: e}]"
    registry = load_registry({"identity": {"hash_key": KEY}})
    packs = [parse("pack: p\nversion: 1\nlanguage: 1", "p.yaml"), parse(written, "workloads.yaml")]
    gate = Gate(compile_nodes(packs, registry.signals), registry.signals)
    facts = Facts(NOW, credential=hashed("sk-1"), credentials=1, looked_up=LookedUp(None, Freshness.UNAVAILABLE))
    found = gate.judge(facts).view
    for name in ("account.id", "account.org", "account.known", "account.plan"):
        assert found.get(name) == Missing("the account directory did not answer")
    for name in ("workload.within_scope", "workload.id"):
        assert isinstance(found.get(name), Missing), "unknown, not false"
    unlisted = gate.judge(replace(facts, looked_up=LookedUp(None))).view
    assert unlisted.get("account.id") == f"key:{hashed('sk-1')}"


def test_without_a_directory_the_hash_is_the_account() -> None:
    found = view(None, "sk-1")
    assert found.get("account.id") == found.get("account.org") == f"key:{hashed('sk-1')}"
    assert found.get("account.known") == Missing("no account directory")
    assert found.get("account.directory") == "none"


def test_an_id_that_is_somebody_elses_org_does_not_join_it(tmp_path: Path) -> None:
    """Such an entry is refused, unless it says itself that it is that org's."""
    theirs = entry("sk-1", "id: acme-1, org: acme")
    with pytest.raises(ConfigError, match="the id 'acme' is an org of other accounts; state its org"):
        FileDirectory(directory(tmp_path, theirs, entry("sk-2", "id: acme")), KEY)
    own = directory(tmp_path, theirs, entry("sk-2", "id: acme, org: acme"))
    assert view(own, "sk-2").get("account.org") == "acme"


def test_without_a_credential_there_is_no_account() -> None:
    assert view(None).get("account.id") == Missing("no credential was sent")


def test_account_values_that_a_record_states() -> None:
    found = view(None, account={"id": "x", "age": 5 * DAY})
    assert (found.get("account.id"), found.get("account.org"), found.get("account.age")) == ("x", "x", 5 * DAY)


def test_an_edit_is_picked_up_and_a_broken_one_keeps_the_last_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = directory(tmp_path, entry("sk-1", "id: before"))
    found = FileDirectory(file, KEY)
    directory(tmp_path, entry("sk-1", "id: after-the-edit"))
    found.refresh()
    assert id_of(found, "sk-1") == "after-the-edit"
    assert found.find(hashed("sk-1")).freshness is Freshness.FRESH
    file.write_text("accounts: [{id: }]")
    os.utime(file, ns=(1, 1))
    found.refresh()
    assert id_of(found, "sk-1") == "after-the-edit"
    assert found.find(hashed("sk-1")).freshness is found.find(hashed("sk-2")).freshness is Freshness.STALE
    assert found.health()["problem"] == (
        f"{file}:1:17: cannot be read (standard error says why); the last good one stays in use"
    )
    assert "accounts.yaml:1:17: id must be a single value, not nothing" in caplog.text
    directory(tmp_path, entry("sk-1", "id: mended"))
    found.refresh()
    assert found.health()["problem"] == ""
    assert found.find(hashed("sk-1")).freshness is Freshness.FRESH


def test_an_edit_does_not_change_what_an_exchange_was_told(tmp_path: Path) -> None:
    """Half an exchange read before an edit and half after it would be an account that never was."""
    file = directory(tmp_path, entry("sk-1", "id: before, plan: free"))
    registry = load_registry({"identity": {"directory": file, "hash_key": KEY}})
    head = Head("GET", "/v1/models", headers=(("authorization", "Bearer sk-1"),))
    found = View(Intake(registry, KEY).facts(head, Body(), NOW), registry.signals)
    assert found.get("account.id") == "before"
    directory(tmp_path, entry("sk-1", "id: after-it, plan: paid"))
    registry.watched["directory"].refresh()
    assert found.get("account.plan") == "free"
    again = View(Intake(registry, KEY).facts(head, Body(), NOW), registry.signals)
    assert (again.get("account.id"), again.get("account.plan")) == ("after-it", "paid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accounts: [{id: a, credentials: [sk-live-key]}]", "not the SHA-256 of a credential"),
        ("accounts: [{id: a, billing_country: XX}]", "'XX' is not an ISO 3166-1"),
        ("accounts: [{id: a, bilingcountry: NO}]", "did you mean 'billing_country'?"),
        ("accounts: [{plan: free}]", "an account needs 'id'"),
        ("account: []", "unknown key 'account' in an account directory"),
    ],
)
def test_a_bad_directory_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        FileDirectory(file, KEY)
    assert message in str(caught.value)
    assert str(file) + ":1:" in str(caught.value)


def test_an_error_about_a_credential_does_not_repeat_it(tmp_path: Path) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text("accounts: [{id: a, credentials: [sk-live-key]}]")
    with pytest.raises(ConfigError) as caught:
        FileDirectory(file, KEY)
    assert "sk-live-key" not in str(caught.value)
