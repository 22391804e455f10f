"""Every example runs and does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from click.testing import CliRunner

from gateway.cli import main
from tests.serving import served

EXAMPLES = Path(__file__).parents[1] / "examples"
README = (EXAMPLES.parent / "README.md").read_text()


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demonstration_says_what_became_of_each_caller() -> None:
    found = subprocess.run([sys.executable, EXAMPLES / "minimal/demo.py"], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in found.stdout.splitlines() if line.startswith("│")]
    by_caller = {row[0].partition(":")[0]: row[1:] for row in rows if row[0] and row[1]}
    passed, tagged, throttled, _, denied = range(1, 6)
    for honest, requests in (("product", "15"), ("agent", "12"), ("benchmark", "200")):
        assert by_caller[honest][passed] == requests
        assert by_caller[honest][denied] == by_caller[honest][throttled] == ""
    hobbyist = [int(by_caller["hobbyist"][column]) for column in (passed, throttled)]
    assert (sum(hobbyist), hobbyist[0] >= 20, hobbyist[1] > 0) == (30, True, True), "20 a minute, and what comes back meanwhile"
    assert by_caller["traveller"][tagged] == "1"
    assert by_caller["excluded"][denied] == by_caller["owned elsewhere"][denied] == by_caller["stranger"][denied] == "1"
    assert int(by_caller["harvest"][tagged]) > 80
    assert int(by_caller["ring"][throttled]) > 0
    printed = {masked(line) for line in found.stdout.splitlines()}
    excerpt = README.split("from its record alone (shortened):\n\n")[1].split("\n\n")[0].splitlines()
    assert len(excerpt) > 10
    assert [line for line in excerpt if masked(line) not in printed] == []


def masked(line: str) -> str:
    """A line without its numbers and the spaces that align it."""
    return " ".join(re.sub(r"[0-9]+d( [0-9]+h)?|[0-9.]*[0-9]", "#", line).split())


def test_embed() -> None:
    with served(loaded(EXAMPLES / "embed.py").app) as port:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "m was asked 1 messages; the gateway said allow"
        refused = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"}
        )
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid-body"


def test_plugin() -> None:
    found = subprocess.run([sys.executable, EXAMPLES / "plugin.py"], capture_output=True, text=True, check=True)
    assert found.stdout == "teapot deny 418\nsamovar allow passed\n"


def described() -> dict[str, Any]:
    """The example of a capture in the documentation, read as its one line is."""
    block = (EXAMPLES / "README.md").read_text().split("```json\n")[1].split("```")[0]
    found: dict[str, Any] = json.loads(block)
    return found


def test_the_format_of_captures_is_as_it_is_told(tmp_path: Path) -> None:
    """Every key of the table is in the example, and each says what it does: the example is replayed, whole and altered."""
    table = (EXAMPLES / "README.md").read_text().split("## Captures")[1].split("\n## ")[0]
    example = described()
    documented = set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE))
    assert documented == {*example, "body_raw", "client", "upstream_key", "run", "status"}

    def replayed(**more: Any) -> dict[str, Any]:
        entry = {key: value for key, value in (example | more).items() if value is not None}
        (tmp_path / "c.jsonl").write_text(json.dumps(entry) + "\n")
        arguments = ["dry-run", str(tmp_path / "c.jsonl"), "--decisions", str(tmp_path / "d.jsonl"), "--format", "json"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads((tmp_path / "d.jsonl").read_text())
        return found

    whole = replayed()
    assert whole["at"] == "2026-11-01T02:26:40.000000Z"
    read = {"method": "POST", "path": "/v1/chat/completions", "http_version": "1.1", "protocol": "openai"}
    assert read.items() <= whole["exchange"].items()
    assert whole["signals"]["account.id"] == "acme-1"
    assert whole["answer"] == {"status": 200, "end": "complete", "usage": {"input_tokens": 20, "output_tokens": 120}}
    assert whole["label"] == "chat"
    assert replayed(account="plain")["signals"]["account.id"] == "plain"
    assert replayed(account=None, client="c", upstream_key=2)["signals"]["account.id"] == "c#2"
    assert replayed(body=None, body_raw='{"model": ')["exchange"]["cause"] == "body-malformed"
    assert replayed(response=None, status=500)["answer"]["status"] == 500


def test_replay() -> None:
    result = CliRunner().invoke(main, ["dry-run", str(EXAMPLES / "replay/requests.jsonl"), "--format", "json"])
    report = json.loads(result.stdout)
    matched = {rule["id"]: rule["accounts"] for rule in report["rules"] if rule["match"]}
    assert matched == {"prompt.task-making": 1, "prompt.template-harvest": 1, "reseller.shared-connection": 2}
    assert report["labels"]["chat"]["matched"] == 0
