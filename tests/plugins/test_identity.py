"""Accounts: from a directory file, or from the keyed hash of a credential; never from the credential itself."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.credentials import credential_hash, find_credential
from gateway.errors import ConfigError
from gateway.facts import Facts
from gateway.plugins.identity import FileDirectory
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.openai import OpenAI
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import SECOND, Missing, parse_timestamp

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


def view(file: Path | None, **facts: Any) -> View:
    registry = load_registry({"identity": {"directory": file, "hash_key": KEY}})
    return View(Facts(at=NOW, **facts), registry.signals)


FULL = "id: acme-1, org: acme, plan: paid, verified: true, created: 2026-10-02T00:00:00Z, billing_country: NO, payment: p1"


def test_everything_the_directory_says(tmp_path: Path) -> None:
    found = view(directory(tmp_path, entry("sk-1", FULL)), credential=hashed("sk-1"))
    wanted = {
        "account.id": "acme-1", "account.org": "acme", "account.plan": "paid", "account.verified": True,
        "account.billing_country": "NO", "account.payment": "p1", "account.age": 30 * DAY, "account.known": True,
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert found.get("account.kyc_country") == Missing("the account directory does not say")


def test_an_account_without_an_org_is_its_own(tmp_path: Path) -> None:
    assert view(directory(tmp_path, entry("sk-1", "id: solo")), credential=hashed("sk-1")).get("account.org") == "solo"


def test_an_unknown_credential_is_known_to_be_unknown(tmp_path: Path) -> None:
    found = view(directory(tmp_path, entry("sk-1", "id: a")), credential=hashed("sk-2"))
    assert found.get("account.known") is False
    assert found.get("account.id") == f"key:{hashed('sk-2')}"


def test_without_a_directory_the_hash_is_the_account() -> None:
    found = view(None, credential=hashed("sk-1"))
    assert found.get("account.id") == found.get("account.org") == f"key:{hashed('sk-1')}"
    assert found.get("account.known") == Missing("no account directory")


def test_without_a_credential_there_is_no_account() -> None:
    assert view(None).get("account.id") == Missing("no credential was sent")


def test_account_values_that_a_record_states() -> None:
    found = view(None, account={"id": "x", "age": 5 * DAY})
    assert (found.get("account.id"), found.get("account.org"), found.get("account.age")) == ("x", "x", 5 * DAY)


def test_an_edit_is_picked_up_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    file = directory(tmp_path, entry("sk-1", "id: before"))
    found = FileDirectory(file, KEY)
    directory(tmp_path, entry("sk-1", "id: after-the-edit"))
    found.refresh()
    assert (found.find(hashed("sk-1")) or {})["id"] == "after-the-edit"
    file.write_text("accounts: [{id: }]")
    os.utime(file, ns=(1, 1))
    found.refresh()
    assert (found.find(hashed("sk-1")) or {})["id"] == "after-the-edit"
    assert "accounts.yaml:1:17: id must be a single value, not nothing" in str(found.health()["problem"])
    directory(tmp_path, entry("sk-1", "id: mended"))
    found.refresh()
    assert found.health()["problem"] == ""


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


@pytest.mark.parametrize(
    ("headers", "dialect", "credential"),
    [
        ((("authorization", "Bearer sk-1"),), OpenAI(), "sk-1"),
        ((("authorization", "bearer   sk-1 "),), OpenAI(), "sk-1"),
        ((("api-key", "sk-1"),), OpenAI(), "sk-1"),
        ((("x-api-key", "sk-1"), ("authorization", "Bearer sk-2")), Anthropic(), "sk-1"),
        ((("authorization", "Bearer sk-2"),), Anthropic(), "sk-2"),
        ((("authorization", "Bearer sk-1"), ("authorization", "Bearer sk-2")), OpenAI(), "sk-1"),
        ((("x-api-key", "sk-1"),), None, "sk-1"),
        ((("authorization", "Basic abc"),), OpenAI(), None),
        ((("authorization", "Bearer "),), OpenAI(), None),
        ((), OpenAI(), None),
    ],
)
def test_where_a_credential_is_found(headers: tuple[tuple[str, str], ...], dialect: Any, credential: str | None) -> None:
    assert find_credential(headers, dialect, KEY) == (hashed(credential) if credential else None)


def test_hashes_need_the_secret() -> None:
    digest = sha256(b"sk-1").digest()
    assert credential_hash(digest, KEY) != credential_hash(digest, b"another key of the tests")
