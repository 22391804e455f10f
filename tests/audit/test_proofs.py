"""Asking a ledger and proving from it, by the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit.ledger import LedgerSettings
from gateway.audit.opening import AuditSettings
from gateway.audit.signing import Key, PublicKey
from gateway.audit.trail import Trail
from gateway.audit.verify import verify
from gateway.cli import main
from gateway.errors import ConfigError
from gateway.gate import Gate
from gateway.values import timestamp_text
from tests.audit.ledgers import said, segment, written
from tests.judging import CATALOGUE, START, judge, policy
from tests.ledgers import ledger

README = (Path(__file__).parents[2] / "examples/README.md").read_text()
SECOND = 1_000_000
PACK = """
pack: demo
version: 1
language: 1
rules:
  - {id: demo.denied, title: Denied, family: identity, owner: tests, when: {request.model: forbidden}, mode: enforce,
     then: {action: deny}, public: {code: not-you, message: Not for you.}}
"""


def sluice(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *[str(one) for one in arguments]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty decisions in five segments, a minute apart; every fourth is denied; accounts a and b in turns."""
    folder = tmp_path_factory.mktemp("asked")
    trail = Trail(folder / "audit", settings=LedgerSettings(), seals=AuditSettings().hides(b"k" * 32))
    gate = Gate(policy(PACK), CATALOGUE, sink=trail)
    for number in range(20):
        model = "forbidden" if number % 4 == 3 else "m"
        signals = {"account.id": "ab"[number % 2], "request.model": model, "client.ip": "203.0.113.7"}
        judge(gate, signals, START + number * 60 * SECOND)
        if number % 4 == 3:
            trail.rest()
    trail.close()
    return folder


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ([], 20),
        (["--account", "a"], 10),
        (["--rule", "demo.denied"], 5),
        (["--rule", "demo.denied", "--account", "a"], 0),
        (["--action", "deny"], 5),
        (["--action", "deny", "--action", "allow"], 20),
        (["--since", timestamp_text(START + 300 * SECOND), "--until", timestamp_text(START + 600 * SECOND)], 5),
        (["--since", timestamp_text(START + 300 * SECOND), "--limit", "3"], 3),
        (["--reference", "sg-" + "0" * 32], 0),
    ],
)  # fmt: skip
def test_records_are_found_by_what_they_are_about(folder: Path, asked: list[str], count: int) -> None:
    told = sluice("query", folder / "audit", *asked)
    assert (told.exit_code, len(told.stdout.splitlines())) == (0 if count else 1, count), told.output
    for line in told.stdout.splitlines():
        assert json.loads(line)["v"] == 1


def test_a_record_is_found_by_its_reference_and_a_bad_time_is_said(folder: Path) -> None:
    entry = ledger(folder / "audit")[7]
    told = sluice("query", folder / "audit", "--reference", entry["reference"])
    assert [json.loads(line)["id"] for line in told.stdout.splitlines()] == [entry["id"]]
    assert sluice("query", folder / "audit", "--since", "yesterday").exit_code == 2


def test_the_export_holds_every_record_with_its_values(folder: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    assert sluice("export", folder / "audit", "--out", tmp_path / "x.parquet").exit_code == 0
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    entries = sorted(ledger(folder / "audit"), key=lambda entry: str(entry["at"]))
    assert [(row["id"].hex(), row["account.id"]) for row in rows] == [(e["id"], e["signals"]["account.id"]) for e in entries]
    lines = sluice("export", folder / "audit", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [entry["id"] for entry in entries]


def proof_of(folder: Path, place: int, out: Path, *more: str) -> dict[str, Any]:
    told = sluice("prove", folder / "audit", ledger(folder / "audit")[place]["reference"], "--out", out, *more)
    assert told.exit_code == 0, told.output
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("place", range(20))
def test_a_proof_holds_by_the_root_alone(folder: Path, tmp_path: Path, place: int) -> None:
    root = verify(folder / "audit")[0].root.hex()
    proof = proof_of(folder, place, tmp_path / "proof.json")
    assert proof["root"] == root
    told = sluice("check-proof", tmp_path / "proof.json", "--root", root)
    assert (told.exit_code, json.loads(told.stdout)["id"]) == (0, ledger(folder / "audit")[place]["id"])
    assert sluice("check-proof", tmp_path / "proof.json", "--root", "0" * 64).exit_code == 1


def test_a_proof_that_was_tampered_with_proves_nothing(folder: Path, tmp_path: Path) -> None:
    root, proof = verify(folder / "audit")[0].root.hex(), proof_of(folder, 6, tmp_path / "proof.json")
    (segment_line,) = [line for line in proof["journal"] if '"segment":2,' in line]
    for change in (
        {"record": proof["record"].replace('"allow"', '"deny"', 1)},
        {"place": proof["place"] + 1},
        {"beside": proof["beside"][:-1]},
        {"beside": proof["beside"][::-1]},
        {"journal": proof["journal"][1:]},
        {"journal": [segment_line.replace('"records":4', '"records":5'), *proof["journal"][1:]]},
        {"before": "0" * 64},
        {"beside": "x"},
        {"journal": []},
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**proof, **change}))
        told = sluice("check-proof", tmp_path / "bad.json", "--root", root)
        assert (told.exit_code, "proves nothing" in told.stderr) == (1, True), change
    (tmp_path / "bad.json").write_text("[")
    assert sluice("check-proof", tmp_path / "bad.json", "--root", root).exit_code == 2


def test_the_snippet_of_the_page_checks_proofs(folder: Path, tmp_path: Path) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "the ledger" in block]
    root, proof = verify(folder / "audit")[0].root.hex(), proof_of(folder, 9, tmp_path / "proof.json")
    run = [sys.executable, "-c", code, str(tmp_path / "proof.json")]
    done = subprocess.run([*run, root], capture_output=True, text=True, check=False)
    assert done.stdout == f"{json.loads(proof['record'])['id']} stands in the ledger\n", done.stderr
    assert subprocess.run([*run, "1" * 64], capture_output=True, check=False).returncode == 1
    (tmp_path / "proof.json").write_text(json.dumps({**proof, "record": proof["record"].replace("sg-", "sh-")}))
    assert subprocess.run([*run, root], capture_output=True, check=False).returncode == 1


def test_a_proof_below_an_earlier_root_and_none_below_one_that_came_before(folder: Path, tmp_path: Path) -> None:
    roots = [json.loads(line)["root"] for line in (folder / "audit/1/roots.jsonl").read_text().splitlines()]
    assert len(proof_of(folder, 0, tmp_path / "p.json", "--root", roots[2])["journal"]) == 3
    late = sluice("prove", folder / "audit", ledger(folder / "audit")[19]["reference"], "--root", roots[0])
    assert (late.exit_code, "is not one of this chain since" in late.stderr) == (1, True)


def test_what_cannot_be_proved_is_said(tmp_path: Path) -> None:
    open_one = written(tmp_path, [2], close=False)
    told = sluice("prove", tmp_path, f"{1:032x}")
    assert (told.exit_code, "is still open" in told.stderr) == (1, True)
    assert "no decision" in sluice("prove", tmp_path, "f" * 32).stderr
    open_one.close()


PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"  # RFC 8032 §7.1, test 1
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_signatures_are_those_of_the_standard_and_hold_the_journal(tmp_path: Path) -> None:
    key = Key(PRIVATE, "sign")
    assert key.public == PUBLIC
    written(tmp_path / "l", [2, 2], LedgerSettings(signer=key))
    (tmp_path / "public").write_text(PUBLIC)
    good = sluice("verify", tmp_path / "l", "--public-key", tmp_path / "public")
    assert (good.exit_code, "2 signatures" in good.stdout) == (0, True)
    assert said(tmp_path / "l", verifier=PublicKey("00" * 31 + "01", "other"))[0][0].endswith("is not that of this key")
    written(tmp_path / "unsigned", [2])
    assert "is not signed" in sluice("verify", tmp_path / "unsigned", "--public-key", tmp_path / "public").stderr
    assert segment(tmp_path / "l", 1).exists()


def test_keys_are_read_as_openssl_writes_them_and_never_repeated(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    assert PublicKey(public.read_text(), "p").holds(b"m", Key(private.read_text(), "k").sign(b"m"))
    assert not PublicKey(public.read_text(), "p").holds(b"n", Key(private.read_text(), "k").sign(b"m"))
    for text in ("secret-canary", PRIVATE[:-1] + "z", public.read_text()):
        with pytest.raises(ConfigError, match="is no private Ed25519 key") as failure:
            Key(text, "audit.sign")
        assert text not in str(failure.value)
