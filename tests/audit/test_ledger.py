"""The ledger: whatever is done to it afterwards is found and named; what a crash or a full disk does is told and survived."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.audit.ledger import Ledger, LedgerSettings
from gateway.audit.verify import verify
from gateway.cli import main
from gateway.errors import ConfigError
from tests.audit.ledgers import SECOND, body, said, segment, written
from tests.ledgers import ledger as entries

Change = Callable[[Path], None]
MISSING = "1: %d decisions were taken and are not written: a process still writes, or was ended before it could"
NO_ROOT = "1/roots.jsonl:1:1: the root does not follow"


def edit(place: int, change: Callable[[list[bytes]], list[bytes]], name: str = "") -> Change:
    def run(folder: Path) -> None:
        file = folder / "1" / name if name else segment(folder, place)
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return run


def altered(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[:number], lines[number].replace(b'"v":1', b'"v":2'), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (edit(1, lambda lines: altered(lines, 2)), "1/00000001.jsonl:3:1: does not follow from the line before"),
        (edit(2, lambda lines: [*lines[:1], *lines[2:]]), "1/00000002.jsonl:2:1: does not follow from the line before"),
        (edit(2, lambda lines: lines[1:]), "1/00000002.jsonl:1:1: does not follow from the line before"),
        (edit(2, lambda lines: lines[:-1]), "1/00000002.jsonl:3:1: the segment ends here with 3 records; it was closed with 4"),
        (edit(2, lambda lines: [lines[0], lines[0], *lines[1:]]), "1/00000002.jsonl:2:1: does not follow"),
        (edit(2, lambda lines: [lines[0], lines[2], lines[1], lines[3]]), "1/00000002.jsonl:2:1: does not follow"),
        (edit(3, lambda lines: altered(lines, 0)), "1/00000003.jsonl:1:1: does not follow"),
        (edit(1, lambda lines: [*lines[:3], b"{}\n", *lines[3:]]), "1/00000001.jsonl:4:1: is no record with a hash"),
        (lambda folder: segment(folder, 2).unlink(), "1/00000002.jsonl: is gone, and nothing says it was dropped"),
        (lambda folder: shutil.copy(segment(folder, 1), segment(folder, 2)), "1/00000002.jsonl:1:1: does not follow"),
        (edit(0, lambda lines: [lines[0].replace(b'"records":5', b'"records":4'), *lines[1:]], "roots.jsonl"), NO_ROOT),
        (edit(0, lambda lines: lines[1:], "roots.jsonl"), NO_ROOT),
        (edit(0, lambda lines: [lines[1], lines[0]], "roots.jsonl"), NO_ROOT),
    ],
)  # fmt: skip
def test_what_is_done_to_it_is_found_and_named(tmp_path: Path, change: Change, first: str) -> None:
    written(tmp_path, [5, 4, 3], close=False).write()
    assert said(tmp_path)[0] == []
    change(tmp_path)
    problems, _ = said(tmp_path)
    assert problems[0].startswith(first), problems


def test_a_chain_written_anew_is_found_by_its_root(tmp_path: Path) -> None:
    """Whoever can write the folder can write a whole new chain: only a root noted elsewhere shows it."""
    written(tmp_path / "a", [3, 3])
    root, head = verify(tmp_path / "a")[0].root, verify(tmp_path / "a")[0].head
    assert said(tmp_path / "a", root=root, head=head) == ([], [])
    written(tmp_path / "b", [3, 2])
    assert said(tmp_path / "b") == ([], [])
    assert "segments that it stood for were removed" in said(tmp_path / "b", root=root)[0][0]
    assert "records up to it were removed" in said(tmp_path / "b", head=head)[0][0]


def test_the_newest_segment_removed_with_its_line_is_found_by_the_root(tmp_path: Path) -> None:
    written(tmp_path, [3, 3])
    root = verify(tmp_path)[0].root
    segment(tmp_path, 2).unlink()
    edit(0, lambda lines: lines[:1], "roots.jsonl")(tmp_path)
    problems, notes = said(tmp_path)
    assert (problems, notes) == (
        [],
        [MISSING % 3],
    )
    assert len(said(tmp_path, root=root)[0]) == 1


def test_an_end_that_was_cut_off_an_open_segment_shows_in_the_count_and_against_a_head(tmp_path: Path) -> None:
    written(tmp_path, [4], close=False)
    head = verify(tmp_path)[0].head
    edit(1, lambda lines: lines[:-1])(tmp_path)
    assert said(tmp_path)[1] == [MISSING % 1]
    assert len(said(tmp_path, head=head)[0]) == 1


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Path]:
    """A ledger as a process leaves it that is killed: six records written of eight taken, one of them half."""
    ledger = written(tmp_path / "live", [2, 4], close=False)
    ledger.count(8)
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    with segment(tmp_path / "crashed", 2).open("ab") as file:
        file.write(b'{"v":1,"id":"00')
    yield tmp_path / "crashed"
    ledger.close()


def test_a_crash_is_named_and_the_next_start_goes_on(crashed: Path) -> None:
    problems, notes = said(crashed)
    assert problems == []
    assert notes == [
        "1/00000002.jsonl:5:1: 15 bytes of a line that is not whole: torn by a crash, or being written",
        MISSING % 2,
    ]
    again = Ledger(crashed)
    assert (again.lost, again.torn) == (2, 15)
    assert again.health()["lost"] == 2
    again.add([body(8)])
    again.count(1)
    again.close()
    assert said(crashed) == ([], [
        "1/roots.jsonl:2:1: segment 2: 2 decisions were taken and never written: the process was ended before it could",
        "1/roots.jsonl:2:1: segment 2: 15 bytes of a line that was not whole were cut at a restart",
    ])  # fmt: skip
    assert [entry["id"][-1] for entry in entries(crashed)] == ["0", "1", "2", "3", "4", "5", "8"]
    assert segment(crashed, 2).with_suffix(".torn").read_bytes() == b'{"v":1,"id":"00'
    assert segment(crashed, 2).with_suffix(".torn").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("filled", [True, False])
def test_a_power_failure_costs_nothing_that_was_synced(tmp_path: Path, filled: bool, counted: bool) -> None:
    """Of what was written since the last sync any part is on the disk, cut off or as zeros; the count is there or not."""
    ledger = Ledger(tmp_path / "live", LedgerSettings(sync=0))
    for number in range(6):
        ledger.add([body(number)])
        ledger.write()
        ledger.count(number + 1)
        if number < 3:
            ledger.tend()  # syncs
            synced = segment(tmp_path / "live", 1).stat().st_size
    lines = segment(tmp_path / "live", 1).read_bytes()
    for place, lasting in enumerate(range(synced, len(lines), 47)):
        left = tmp_path / f"{place}"
        shutil.copytree(tmp_path / "live", left)
        segment(left, 1).write_bytes(lines[:lasting] + bytes(len(lines) - lasting if filled else 0))
        if not counted:
            (left / "1/taken").write_bytes(bytes(8))
        whole = lines[:lasting].count(b"\n")
        problems, notes = said(left)
        assert (problems, MISSING % (6 - whole) in notes) == ([], counted)
        again = Ledger(left)
        assert (again.lost, again.torn > 0) == (6 - whole if counted else 0, filled or lines[lasting - 1 : lasting] != b"\n")
        again.add([body(9)])
        again.count(1)
        again.close()
        assert said(left)[0] == []
        assert [entry["id"][-1] for entry in entries(left)] == [*map(str, range(whole)), "9"]
        assert whole >= 3
    ledger.close()


def test_a_restart_after_an_alteration_does_not_hide_it(crashed: Path) -> None:
    edit(2, lambda lines: altered(lines, 1))(crashed)
    Ledger(crashed).close()
    assert "holds whole records, which a restart cut off" in said(crashed)[0][0]


@pytest.mark.parametrize("length", [0, 1, 40, 200])
def test_a_journal_torn_at_any_byte_is_written_again(tmp_path: Path, length: int) -> None:
    written(tmp_path, [2, 2])
    roots = tmp_path / "1" / "roots.jsonl"
    first, second = roots.read_bytes().splitlines(keepends=True)
    roots.write_bytes(first + second[:length])
    Ledger(tmp_path).close()
    assert said(tmp_path)[0] == []
    assert [json.loads(line)["end"] for line in roots.read_text().splitlines()] == ["closed", "recovered"]


def test_nothing_is_added_to_a_journal_that_was_altered(tmp_path: Path) -> None:
    written(tmp_path, [2, 2])
    edit(0, lambda lines: [lines[0].replace(b'"records":2', b'"records":3'), lines[1]], "roots.jsonl")(tmp_path)
    before = (tmp_path / "1" / "roots.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"roots.jsonl:1:1: was altered.*set audit.records to another"):
        Ledger(tmp_path)
    assert (tmp_path / "1" / "roots.jsonl").read_bytes() == before


def test_segments_are_closed_by_size_and_by_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "size", LedgerSettings(size=300))
    for number in range(10):
        ledger.add([body(number)])
        ledger.write()
        ledger.tend()
    ledger.close()
    assert len(list((tmp_path / "size" / "1").glob("0*"))) == 5
    ledger = Ledger(tmp_path / "time", LedgerSettings(every=1))
    for number in range(3):
        ledger.add([body(number)])
        ledger.write()
        ledger.tend()
    assert [one.segments for one in verify(tmp_path / "time")] == [3]
    ledger.close()
    assert said(tmp_path / "size") == said(tmp_path / "time") == ([], [])


def test_what_is_older_than_is_kept_is_dropped_and_the_chain_still_holds(tmp_path: Path) -> None:
    written(tmp_path, [10] * 5, LedgerSettings(retain=25 * SECOND))
    there = sorted(file.name for file in (tmp_path / "1").glob("0*"))
    assert there == ["00000003.jsonl", "00000004.jsonl", "00000005.jsonl"]
    assert said(tmp_path) == ([], ["1/roots.jsonl: segments dropped by retention, whose roots stand: 2"])
    segment(tmp_path, 3).unlink()
    assert said(tmp_path)[0] == ["1/00000003.jsonl: is gone, and nothing says it was dropped"]


def test_a_drop_that_a_crash_interrupted_is_finished(tmp_path: Path) -> None:
    """The journal says that a segment was dropped before it is."""
    ledger = written(tmp_path, [10] * 3, LedgerSettings(retain=15 * SECOND), close=False)
    kept = segment(tmp_path, 1).read_bytes()
    ledger.close()
    assert not segment(tmp_path, 1).exists()
    segment(tmp_path, 1).write_bytes(kept)
    assert said(tmp_path)[0] == []
    Ledger(tmp_path).close()
    assert not segment(tmp_path, 1).exists()


def test_each_of_several_processes_has_a_chain_of_its_own(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path), Ledger(tmp_path)
    assert (one.folder.name, two.folder.name) == ("1", "2")
    for place, ledger in enumerate((one, two, one)):
        ledger.add([body(place)])
        ledger.write()
    one.close()
    three = Ledger(tmp_path)
    assert three.folder.name == "1"
    two.close()
    three.close()
    assert [found.records for found in verify(tmp_path)] == [2, 1]
    assert said(tmp_path) == ([], [])


@pytest.mark.parametrize("room", [1, 50, 170, 333])
def test_a_full_disk_loses_nothing_and_writes_nothing_twice(tmp_path: Path, room: int) -> None:
    """The system refuses in the middle of a line, wherever that is; once there is room, it goes on at that byte."""
    ledger = Ledger(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        for number in range(6):
            ledger.add([body(number)])
            try:
                ledger.write()
            except OSError:
                refused += 1
        assert segment(tmp_path, 1).stat().st_size == room
        assert (ledger.held > 0, refused >= 3) == (True, True)
        with pytest.raises(OSError, match="too large"):
            ledger.rest()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ledger.close()
    assert [entry["id"] for entry in entries(tmp_path)] == [f"{number:032x}" for number in range(6)]
    assert said(tmp_path) == ([], [])


def test_the_command_names_the_first_record_and_exits_by_what_it_found(tmp_path: Path) -> None:
    written(tmp_path / "l", [3, 2])
    whole = CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "l")])
    assert (whole.exit_code, "1: whole, 5 records in 2 segments" in whole.stdout) == (0, True)
    root = verify(tmp_path / "l")[0].root.hex()
    assert f"root {root}" in whole.stdout
    assert CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "l"), "--root", root]).exit_code == 0
    assert CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "l"), "--root", "0" * 64]).exit_code == 1
    edit(1, lambda lines: altered(lines, 1))(tmp_path / "l")
    bad = CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "l")])
    assert bad.exit_code == 1
    assert f"altered: {tmp_path}/l/1/00000001.jsonl:2:1: does not follow" in bad.stderr
    assert CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "none")]).exit_code == 2
    (tmp_path / "empty").mkdir()
    assert "holds no ledger" in CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "empty")]).stderr
    assert "64 hexadecimal digits" in CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "l"), "--root", "xy"]).stderr


def test_a_place_that_cannot_hold_a_ledger_is_said(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"audit.jsonl: cannot hold audit records: .*name a folder"):
        Ledger(tmp_path / "audit.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["audit.jsonl"]
