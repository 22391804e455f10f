"""The kill switch of a real process: ordered, recorded, obeyed by others, outliving reloads and restarts, and ended."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.segments import chains, journal
from gateway.audit.verify import verify
from gateway.halting import Halt, HaltFile
from gateway.values import SECOND
from tests.admin.conftest import OPERATOR, Administered, administered
from tests.web.running import PATIENCE

ORDER = {"owner": "oncall@example", "reason": "a rule refuses honest callers"}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def ordered(admin: Administered, **more: str) -> dict[str, object]:
    answer = admin.ask("/halt", "PUT", token=OPERATOR, json=ORDER | more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_halt_has_all_rules_judge_in_shadow_and_every_record_says_so(stub: str, tmp_path: Path) -> None:
    with administered(tmp_path, stub) as admin:
        assert admin.call("forbidden").status_code == 403
        told = ordered(admin)
        assert told["mode"] == "shadow" and told["halt"]["by"] == "oncall"  # type: ignore[index]
        assert admin.ask("/halt", "PUT", token=OPERATOR, json=ORDER).status_code == 409
        with admin.gateway.recording() as found:
            passed = admin.call("forbidden")
        assert passed.status_code == 200
        assert found[0]["policy"]["mode"] == "shadow" and found[0]["policy"]["halt"] == told["halt"]["id"]  # type: ignore[index]
        assert found[0]["would"]["action"] == "deny" and found[0]["outcome"]["action"] == "allow"
        assert admin.ask("/health").json()["policy"]["halt"]["reason"] == ORDER["reason"]
        decision = admin.ask(f"/decisions/{found[0]['reference']}").json()
        assert decision["policy"]["halt"] == told["halt"]["id"]  # type: ignore[index]
        admin.gateway.process.send_signal(signal.SIGHUP)
        until(lambda: admin.ask("/policy").json()["reloads"]["reloads"] == 1)
        assert admin.call("forbidden").status_code == 200  # a reload does not end it
        lifted = admin.ask("/halt?owner=oncall@example&reason=mended", "DELETE", token=OPERATOR)
        assert lifted.json() == {"mode": "enforce", "halt": None}
        assert admin.call("forbidden").status_code == 403
    chain = chains(tmp_path / "audit")[0]
    acts = [line.entry for line in journal(chain) if "act" in line.entry]
    assert [(act["act"], act["owner"], act["by"]) for act in acts] == [
        ("halt", ORDER["owner"], "oncall"), ("lift", "oncall@example", "oncall"),
    ]  # fmt: skip
    (found_whole,) = verify(tmp_path / "audit")
    assert not found_whole.problems and any("oncall@example" in str(note) for note in found_whole.notes)


def test_it_outlives_the_process_and_ends_by_itself(stub: str, tmp_path: Path) -> None:
    with administered(tmp_path, stub) as admin:
        ordered(admin, lasts="20s")
    with administered(tmp_path, stub) as admin:
        assert admin.call("forbidden").status_code == 200
        until(lambda: admin.call("forbidden").status_code == 403)
        assert admin.ask("/halt").json()["halt"] is None


def test_another_process_obeys_the_same_file(stub: str, tmp_path: Path) -> None:
    shared = tmp_path / "halt.json"
    with administered(tmp_path / "a", stub) as one:
        ordered(one)
        (tmp_path / "a" / "halt.json").replace(shared)
        until(lambda: one.call("forbidden").status_code == 403)  # the file is gone: so is the halt
        shared.replace(tmp_path / "a" / "halt.json")
        until(lambda: one.call("forbidden").status_code == 200)


HALT = Halt("0011223344556677", 5, "me", "why", "oncall")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"id": 3}', b"\xff\xfe", json.dumps({"id": "a"}).encode()])
def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path, text: bytes) -> None:
    obeyed: list[Halt | None] = []
    halts = HaltFile(tmp_path / "halt.json", obeyed.append)
    halts.write(HALT, 10)
    (tmp_path / "halt.json").write_bytes(text)
    halts.look(11)
    assert obeyed == [HALT] and halts.halt == HALT and "no halt can be read" in halts.problem
    halts.write(None, 12)
    assert obeyed == [HALT, None] and not halts.problem


def test_a_halt_ends_at_its_time_and_is_not_begun_after_it(tmp_path: Path) -> None:
    obeyed: list[Halt | None] = []
    halts = HaltFile(tmp_path / "halt.json", obeyed.append)
    timed = Halt("0011223344556677", 0, "me", "why", "oncall", until=SECOND)
    halts.write(timed, 0)
    halts.look(SECOND - 1)
    assert obeyed == [timed]
    halts.look(SECOND)
    assert obeyed == [timed, None]
    late = HaltFile(tmp_path / "halt.json", obeyed.append)
    late.look(SECOND)
    assert obeyed == [timed, None] and late.halt is None
