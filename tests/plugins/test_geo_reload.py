"""Geo files that change under a running process: replaced, rewritten in place, truncated, damaged, gone, and back again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.plugins.databases import DAMAGE, DAMAGED, Database, Opened
from gateway.plugins.network_kinds import NetworkLists
from gateway.registry import load as load_registry
from tests.geo import AT, damaged, viewed, write

IP = "203.0.113.9"
ROWS = {f"{n}.0.0.0/8": {"country_code": "FR", "note": f"row {n}"} for n in range(1, 220)}
KEPT = "the last good one stays in use"


def other(folder: Path, code: str = "DE") -> Path:
    return write(folder / "other.mmdb", {"203.0.113.0/24": {"country_code": code}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "c.mmdb", ROWS)


def replaced(file: Path) -> None:
    other(file.parent).replace(file)


def rewritten(file: Path) -> None:
    file.write_bytes(other(file.parent).read_bytes())


def put_back_with_its_old_date(file: Path) -> None:
    before = file.stat()
    data = other(file.parent).read_bytes()
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, rewritten, put_back_with_its_old_date])
def test_a_new_edition_is_taken(file: Path, change: Callable[[Path], None]) -> None:
    database = Database(file)
    assert database.find(IP).country == "FR"
    change(file)
    assert database.find(IP).country == "FR"
    database.refresh()
    assert database.find(IP).country == "DE"
    assert database.health()["problem"] == ""


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def half_copied(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def headless(file: Path) -> None:
    file.write_bytes(file.read_bytes()[100:])


def scrambled(file: Path) -> None:
    """Sound at both ends, and garbage where the tree of addresses was."""
    data = file.read_bytes()
    file.write_bytes(data[:40] + b"\xff" * 400 + data[440:])


def html(file: Path) -> None:
    file.write_text("<html>404 not found</html>")


def gone(file: Path) -> None:
    file.unlink()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("change", [emptied, halved, half_copied, headless, scrambled, html, gone, a_folder])
def test_a_damaged_file_keeps_the_last_good_one_and_says_so(file: Path, change: Callable[[Path], None]) -> None:
    good = file.with_name("good.mmdb")
    shutil.copy(file, good)
    database = Database(file)
    change(file)
    database.refresh()
    assert KEPT in str(database.health()["problem"])
    assert "c.mmdb: is not a geo database: " in str(database.health()["problem"])
    assert [database.find(f"{n}.1.2.3").country for n in range(1, 220)] == ["FR"] * 219
    database.refresh()
    assert KEPT in str(database.health()["problem"]), "it stays said until the file is mended"
    shutil.rmtree(file) if file.is_dir() else None
    good.replace(file)
    database.refresh()
    assert database.health()["problem"] == ""


@pytest.mark.parametrize("change", [emptied, halved, half_copied, headless, scrambled, html, gone, a_folder])
def test_a_damaged_file_is_refused_at_the_start(file: Path, change: Callable[[Path], None]) -> None:
    change(file)
    with pytest.raises(ConfigError, match=r"c\.mmdb: is not a geo database: .+; name an \.mmdb file") as caught:
        Opened(file)
    assert "/proc/" not in str(caught.value)


def test_damage_that_no_sample_met_is_missing_and_stands_in_health(tmp_path: Path) -> None:
    """One record of a network too small to be sampled is garbage: that address has no country, the others have."""
    file = damaged(tmp_path / "c.mmdb", ROWS, "198.51.100.4/30")
    database = Database(file)
    assert database.find(IP).country == "FR"
    assert database.health()["problem"] == ""
    assert [database.find("198.51.100.5") for _ in range(4)] == [DAMAGED] * 4
    assert "a look-up failed" in str(database.health()["problem"])
    assert "a look-up failed" in database.failing(AT), "until it is replaced"
    assert database.find(IP).country == "FR", "whoever comes from the damaged place hides nobody else"
    for role, name in (("country", "client.country"), ("anonymous", "client.network_kind")):
        assert viewed({role: file}, "198.51.100.5").get(name) == DAMAGE


LOOK = """
import os, sys
from pathlib import Path
from {module} import {name}
file = Path(sys.argv[1])
opened = {opening}
os.truncate(file, 0)
print([opened.{find}(f"{{n}}.1.2.3") is None for n in range(1, 220)].count(False), flush=True)
"""


def looked_up_after_truncation(file: Path, **words: str) -> subprocess.CompletedProcess[str]:
    program = LOOK.format(**words)
    return subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, timeout=60, check=False)


def test_truncating_an_open_database_does_not_kill_the_process(file: Path) -> None:
    ours = looked_up_after_truncation(
        file, module="gateway.plugins.databases", name="Opened", opening="Opened(file)", find="find"
    )
    assert (ours.returncode, ours.stdout.strip()) == (0, "219")


@pytest.mark.parametrize("mode", ["MODE_AUTO", "MODE_MMAP"])
def test_a_mapped_one_would(file: Path, mode: str) -> None:
    """The reason why databases are read into memory."""
    opening = f"maxminddb.open_database(file, maxminddb.{mode})"
    mapped = looked_up_after_truncation(file, module="os", name="path; import maxminddb", opening=opening, find="get")
    assert mapped.returncode == -signal.SIGBUS


def test_the_pure_reader_says_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no anonymous memory to map: the same answers, from a copy of its own as well."""
    quick = Database(file)
    monkeypatch.setattr("gateway.plugins.databases.find_spec", lambda name: None)
    pure = Database(file)
    assert type(pure._file.content._reader) is not type(quick._file.content._reader)
    os.truncate(file, 0)
    asked = [f"{n}.1.2.3" for n in range(1, 255)] + ["2001:db8::1"]
    assert [pure.find(ip) for ip in asked] == [quick.find(ip) for ip in asked]


def test_a_list_of_networks_is_taken_anew_and_a_bad_one_keeps_the_last(tmp_path: Path) -> None:
    head, file = "# kind: tor\n# date: 2030-01-01\n", tmp_path / "tor.txt"
    file.write_text(f"{head}203.0.113.0/24\n")
    lists = NetworkLists([file])
    assert set(lists.ask(IP, None, AT).labels) == {"tor"}
    for bad in ("", f"{head}203.0.113.0/24\nnothing\n", f"{head}", "<html>\n"):
        file.write_text(bad)
        lists.refresh()
        assert KEPT in str(lists.health()["problem"])
        assert set(lists.ask(IP, None, AT).labels) == {"tor"}
    file.write_text(f"{head}198.51.100.0/24\n")
    lists.refresh()
    assert lists.health()["problem"] == ""
    assert (set(lists.ask(IP, None, AT).labels), set(lists.ask("198.51.100.1", None, AT).labels)) == (set(), {"tor"})


def test_all_of_it_is_watched(tmp_path: Path, file: Path) -> None:
    (tmp_path / "tor.txt").write_text("# kind: tor\n203.0.113.0/24\n")
    geo = {"country": file, "asn": file, "anonymous": file, "networks": [tmp_path / "tor.txt"]}
    watched = load_registry({"geo": geo}).watched
    assert {name for name in watched if name.startswith("geo.")} == {"geo.country", "geo.asn", "geo.anonymous", "geo.networks"}
    file.write_text("damaged")
    (tmp_path / "tor.txt").write_text("damaged")
    for thing in watched.values():
        thing.refresh()
    assert all(KEPT in str(thing.health()["problem"]) for name, thing in watched.items() if name.startswith("geo."))
