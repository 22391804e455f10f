"""SIGHUP on the running process: a good policy is put in force whole, a bad one changes nothing, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.web.door import REST, STINT, politely
from tests.web.faulty import Faulty
from tests.web.running import PATIENCE, Gateway, gateway

CHAT = "/v1/chat/completions"
PACK = """
pack: again
version: {version}
language: 1
rules:
  - {{id: again.deny, title: no such use, family: identity, owner: tests, when: {{request.model: {denied}}}, mode: enforce,
     then: {{action: deny}}, public: {{code: not-for-you, message: This model is not for you.}}}}
limits:
  - {{id: again.plan, per: [account.id], limit: 3/hour, when: {{request.model: planned}}, on_missing: skip, mode: enforce}}
"""


def body(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


@pytest.fixture
def running(faulty: Faulty, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own for every test, with one rule that denies the model «before» and a limit of three."""
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\n"
    with gateway(tmp_path, settings, PACK.format(version=5, denied="before")) as found:
        yield found
        found.check()


def status(running: Gateway, model: str, key: str = "sk-reload") -> int:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    answer = httpx.post(f"{running.url}{CHAT}?do=plain_json", content=body(model), headers=headers, trust_env=False)
    return answer.status_code


def health(running: Gateway, path: str = "/healthz") -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(running.url + path, trust_env=False).json()
    return found


def reload(running: Gateway, text: str) -> dict[str, Any]:
    """Write the pack and have it loaded; the policy's health once the process is done with it."""
    before = health(running)["policy"]
    (running.folder / "pack.yaml").write_text(text)
    os.kill(running.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found: dict[str, Any] = health(running)["policy"]
        if found["reloads"] != before["reloads"] or found["problem"] != before["problem"]:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came of the reload: {running.errors}")


def test_a_good_policy_is_put_in_force(running: Gateway) -> None:
    first = health(running)["policy"]
    assert (status(running, "before"), status(running, "after")) == (403, 200)
    found = reload(running, PACK.format(version=6, denied="after"))
    assert (found["reloads"], found["problem"], found["version"]) == (1, "", first["version"] + 1)
    assert found["digest"] != first["digest"]
    assert found["loaded_at"] > first["loaded_at"]
    assert (status(running, "before"), status(running, "after")) == (200, 403)
    assert f"policy loaded again: {found['digest'][:19]}" in running.errors
    assert {record["policy"]["digest"] for record in running.records_after(0, 4)} == {first["digest"], found["digest"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pack: again\nversion: 6\nlanguage: 1\nrules: [{id: again.deny}]\n", "pack.yaml:4:9: "),
        ("pack: [", "pack.yaml:"),
        ("pack: again\nversion: 6\nlanguage: 1\nlists: {gone: {type: country, file: gone.txt}}\n", "gone.txt cannot be read"),
        (PACK.format(version=4, denied="after"), "version 4 is lower than 5, which is in force"),
    ],
    ids=["wrong", "no YAML", "missing list", "lower version"],
)
def test_a_policy_that_cannot_be_used_changes_nothing_and_says_so(running: Gateway, text: str, message: str) -> None:
    first = health(running)["policy"]
    found = reload(running, text)
    assert message in found["problem"]
    assert message in running.errors
    assert f"{first['digest'][:19]}… version {first['version']} stays in force" in running.errors
    kept = ("digest", "version", "loaded_at", "reloads")
    assert {key: found[key] for key in kept} == {key: first[key] for key in kept}
    assert (status(running, "before"), status(running, "after")) == (403, 200)
    told = health(running)
    assert told["status"] == "degraded"
    assert any(message in problem for problem in told["problems"])
    assert httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 200, "it serves as well as before"
    mended = reload(running, PACK.format(version=6, denied="after"))
    assert (mended["problem"], health(running)["status"], status(running, "after")) == ("", "ok", 403)


def test_findings_are_told_as_by_the_check_and_other_settings_are_not_read(running: Gateway) -> None:
    settings = running.folder / "gateway.yaml"
    doubtful = PACK.format(version=6, denied="{in: [after], contains: ''}")
    (running.folder / "pack.yaml").write_text(doubtful)
    checked = CliRunner().invoke(main, ["check", str(running.folder / "pack.yaml")]).output
    (line,) = [one for one in checked.splitlines() if one.endswith("[always-true]")]
    reload(running, doubtful)
    wait_for(running, line)
    assert "changed since the start" not in running.errors
    settings.write_text(settings.read_text() + "largest_body: 1MiB\n")
    reload(running, PACK.format(version=7, denied="after"))
    wait_for(running, f"{settings}: changed since the start; a reload reads the packs only, restart for its settings")


def test_what_the_gate_noticed_is_told_and_stands_in_health(running: Gateway) -> None:
    assert health(running)["policy"]["notices"] == []
    (notice,) = reload(running, PACK.format(version=5, denied="after"))["notices"]
    assert "again" in notice
    wait_for(running, notice)
    assert reload(running, PACK.format(version=6, denied="after"))["notices"] == []


def wait_for(running: Gateway, line: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while line not in running.errors:
        assert time.monotonic() < deadline, running.errors
        time.sleep(0.02)


def test_counters_survive(running: Gateway) -> None:
    assert [status(running, "planned") for _ in range(2)] == [200, 200]
    reload(running, PACK.format(version=6, denied="after"))
    assert [status(running, "planned") for _ in range(2)] == [200, 429]


def test_a_running_stream_is_not_disturbed(running: Gateway) -> None:
    headers = {"content-type": "application/json", "authorization": "Bearer sk-stream"}
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("POST", f"{running.url}{CHAT}?do=slow_stream", content=body("m", stream=True), headers=headers) as answer,
    ):
        pieces = answer.iter_raw()
        first = next(pieces)
        assert reload(running, PACK.format(version=6, denied="m"))["reloads"] == 1
        rest = b"".join(pieces)
    assert b"[DONE]" in first + rest
    assert status(running, "m") == 403
    streamed, denied = running.records_after(0, 2)
    assert (streamed["answer"]["end"], denied["outcome"]["action"]) == ("complete", "deny")
    assert streamed["policy"]["version"] == denied["policy"]["version"] - 1, "it ended under the policy that judged it"


def test_a_request_during_a_reload_has_the_files_read_once_more(running: Gateway) -> None:
    (running.folder / "pack.yaml").write_text(PACK.format(version=6, denied="between"))
    os.kill(running.process.pid, signal.SIGHUP)
    time.sleep(0.005)
    (running.folder / "pack.yaml").write_text(PACK.format(version=7, denied="after"))
    os.kill(running.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while status(running, "after", "sk-other") != 403:
        assert time.monotonic() < deadline, running.errors


@pytest.fixture
def watching(faulty: Faulty, tmp_path: Path) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\nreload: {{watch: 150ms}}\n"
    (tmp_path / "models.txt").write_text("before\n")
    with gateway(tmp_path, settings, LISTED.format(version=1)) as found:
        yield found
        found.check()


LISTED = """
pack: again
version: {version}
language: 1
lists: {{no-use: {{type: string, file: models.txt}}}}
rules:
  - {{id: again.deny, title: no such use, family: identity, owner: tests, when: {{request.model: {{in: "@no-use"}}}},
     mode: enforce, then: {{action: deny}}}}
"""


def until(running: Gateway, key: str, value: object) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (found := health(running)["policy"])[key] != value:
        assert time.monotonic() < deadline, (found, running.errors)
        time.sleep(0.02)
    return found


def test_a_file_that_changed_is_noticed_unasked(watching: Gateway) -> None:
    """Packs, and the lists they name; once for each change, and not at all where nothing changed."""
    assert (status(watching, "before"), status(watching, "after")) == (403, 200)
    (watching.folder / "pack.yaml").write_text(LISTED.format(version=2))
    until(watching, "reloads", 1)
    (watching.folder / "models.txt").write_text("after\n")
    until(watching, "reloads", 2)
    assert (status(watching, "before"), status(watching, "after")) == (200, 403)
    time.sleep(0.7)
    assert health(watching)["policy"]["reloads"] == 2


def test_what_was_refused_is_read_again_when_it_changes_and_not_before(watching: Gateway) -> None:
    (watching.folder / "pack.yaml").write_text("pack: [")
    deadline = time.monotonic() + PATIENCE
    while not health(watching)["policy"]["problem"]:
        assert time.monotonic() < deadline
    time.sleep(0.7)
    assert watching.errors.count("policy not loaded") == 1
    assert status(watching, "before") == 403
    (watching.folder / "pack.yaml").write_text(LISTED.format(version=2))
    assert until(watching, "reloads", 1)["problem"] == ""


def test_it_is_not_read_while_somebody_still_writes(watching: Gateway) -> None:
    (watching.folder / "models.txt").unlink()
    for version in range(2, 8):
        (watching.folder / "pack.yaml").write_text(LISTED.format(version=version))
        time.sleep(0.1)
    (watching.folder / "models.txt").write_text("after\n")
    until(watching, "reloads", 1)
    assert "policy not loaded" not in watching.errors
    assert status(watching, "after") == 403


def test_a_stream_goes_on_while_files_change(watching: Gateway) -> None:
    headers = {"content-type": "application/json", "authorization": "Bearer sk-stream"}
    with (
        httpx.Client(trust_env=False) as client,
        client.stream(
            "POST", f"{watching.url}{CHAT}?do=slow_stream", content=body("m", stream=True), headers=headers
        ) as answer,
    ):
        pieces = answer.iter_raw()
        first = next(pieces)
        (watching.folder / "models.txt").write_text("m\n")
        until(watching, "reloads", 1)
        assert b"[DONE]" in first + b"".join(pieces)
    assert status(watching, "m") == 403


def test_polite_work_rests_between_stints_and_gives_its_result() -> None:
    def work() -> int:
        return sum(len(str(number)) for number in range(60_000))

    started = time.process_time()
    expected = work()
    busy = time.process_time() - started
    wall, cpu = time.monotonic(), time.process_time()
    assert politely(work) == expected
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    rests = busy / (STINT / 1e6)
    assert wall - cpu >= 0.5 * rests * REST


def test_polite_work_passes_on_what_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        politely(lambda: 1 // 0)
