"""Whatever a file holds, reading it ends: in a policy or in an error with a place, and within stated memory.

The inputs and the process with a bounded address space that reads them are in `tests/bench/bounds.py`, which tells figures.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LoadError, Place, PolicyError
from gateway.language.compile import load
from gateway.language.operators import Networks
from gateway.strict.document import MAX_KEY, MAX_TEXT, contents, parse
from gateway.strict.shapes import MAX_MESSAGE, MAX_PROBLEMS, Problems
from tests.bench.bounds import CASES, HEAD, SMALL, Case, Outcome, named, pack, run
from tests.judging import CATALOGUE, policy

LIGHT = [case for case in CASES if case.megabytes == SMALL and not case.slow]
HEAVY = [case for case in CASES if case.megabytes > SMALL and not case.slow]
NOBODY = 65_534


def by_name(case: Case) -> str:
    return case.name.replace(" ", "-")


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What came of the small inputs, all read by one process that may grow by 64 MB."""
    found = run(LIGHT, tmp_path_factory.mktemp("light"))
    return {case.name: outcome for case, outcome in zip(LIGHT, found, strict=True)}


def as_stated(case: Case, found: Outcome) -> None:
    assert any(case.said in problem for problem in found.said) if case.said else found.said == []
    assert all(len(problem) < 3 * MAX_MESSAGE for problem in found.said)
    assert len(found.said) <= MAX_PROBLEMS + 1
    assert found.megabytes <= case.megabytes


@pytest.mark.parametrize("case", LIGHT, ids=by_name)
def test_small_input_ends_as_stated(case: Case, light: dict[str, Outcome]) -> None:
    as_stated(case, light[case.name])


@pytest.mark.parametrize("case", HEAVY, ids=by_name)
def test_large_input_ends_as_stated_within_its_memory(case: Case, tmp_path: Path) -> None:
    as_stated(case, run([case], tmp_path)[0])


def test_the_memory_bound_of_these_tests_bites(tmp_path: Path) -> None:
    case = next(case for case in HEAVY if case.name == "a million texts")
    with pytest.raises(RuntimeError, match="MemoryError"):
        run([Case(case.name, case.make, "", 32)], tmp_path)


@pytest.mark.parametrize("where", ["pack", "list"])
def test_a_file_that_may_not_be_read_is_said(where: str, tmp_path: Path) -> None:
    def locked(path: Path) -> None:
        path.write_text(HEAD)
        path.chmod(0)

    (file,) = named(where, locked)(tmp_path)
    for folder in [tmp_path, *tmp_path.parents][: -len(Path(tempfile.gettempdir()).parts)]:
        folder.chmod(0o755)
    user = os.geteuid()
    os.seteuid(user or NOBODY)  # nothing is locked for root
    try:
        with pytest.raises(PolicyError, match="cannot be read: Permission denied"):
            load([file], CATALOGUE)
    finally:
        os.seteuid(user)


def test_a_file_in_a_folder_that_may_not_be_entered_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "p.yaml").write_text(HEAD)
    closed.chmod(0)
    for folder in [tmp_path, *tmp_path.parents][: -len(Path(tempfile.gettempdir()).parts)]:
        folder.chmod(0o755)
    user = os.geteuid()
    os.seteuid(user or NOBODY)
    try:
        with pytest.raises(PolicyError, match="cannot be read: Permission denied"):
            load([closed / "p.yaml"], CATALOGUE)
    finally:
        os.seteuid(user)
        closed.chmod(0o755)


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path: Path) -> None:
    file = tmp_path / "growing.yaml"
    file.write_bytes(b"#" * 4_000_000)
    grow = "import sys\nfile = open(sys.argv[1], 'ab', 0)\nprint(1, flush=True)\nfor _ in range(4_000_000): file.write(b'#')"
    writer = subprocess.Popen([sys.executable, "-c", grow, str(file)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        said = set()
        while "changed" not in str(said) and writer.poll() is None:
            try:
                contents(file, 8_000_000)
            except LoadError as error:
                said.add(str(error))
    finally:
        writer.kill()
        writer.communicate()
    assert said == {f"{file}: changed while it was read; try again, and replace files by renaming"}


def test_keys_and_texts_may_be_as_long_as_is_said() -> None:
    assert parse(f"{'k' * MAX_KEY}: {'v' * MAX_TEXT}", "f").plain() == {"k" * MAX_KEY: "v" * MAX_TEXT}
    with pytest.raises(LoadError, match=f"f:1:1: a key of more than {MAX_KEY} characters; shorten it"):
        parse(f"{'k' * (MAX_KEY + 1)}: v", "f")
    with pytest.raises(LoadError, match=f"f:1:4: a text of more than {MAX_TEXT} characters; shorten it"):
        parse(f"k: {'v' * (MAX_TEXT + 1)}", "f")


def test_the_last_problem_of_too_many_ends_reading() -> None:
    problems = Problems(raises=PolicyError)
    for number in range(1, MAX_PROBLEMS):
        problems.add(Place("f", number, 1), "x" * 10_000 + "y" * 500)
    with pytest.raises(PolicyError) as caught:
        problems.add(Place("f", MAX_PROBLEMS, 1), "the last")
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert str(caught.value.problems[0]) == f"f: has {MAX_PROBLEMS} problems or more; mend these first"
    assert str(caught.value.problems[1]) == "f:1:1: " + "x" * 500 + "…" + "y" * 500


def test_a_pack_with_a_byte_order_mark_is_the_same_policy(tmp_path: Path) -> None:
    for data in (HEAD, "\ufeff" + HEAD):
        (file,) = pack(data)(tmp_path)
        assert policy(contents(file, 1_000).decode()).digest == policy(HEAD).digest


V4 = st.builds(lambda number, bits: ipaddress.ip_network((number >> 32 - bits << 32 - bits, bits)),
               st.integers(0, 2**32 - 1), st.integers(22, 32))  # fmt: skip
V6 = st.builds(lambda number, bits: ipaddress.ip_network((number >> 128 - bits << 128 - bits, bits)),
               st.integers(2**125, 2**125 + 2**12), st.integers(116, 128))  # fmt: skip
NEAR = st.builds(lambda number, bits: ipaddress.ip_network(((10 << 24 | number) >> 32 - bits << 32 - bits, bits)),
                 st.integers(0, 2**12), st.integers(20, 32))  # fmt: skip


@given(st.lists(V4 | V6 | NEAR, min_size=1, max_size=30), st.lists(V4 | V6 | NEAR, min_size=1, max_size=30))
def test_packed_networks_hold_what_the_standard_library_says(held: list[object], asked: list[object]) -> None:
    packed = Networks(frozenset(map(str, held)))
    for network in [*held, *asked]:
        assert isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
        same = [other for other in held if isinstance(other, type(network))]
        covered = any(network.subnet_of(other) for other in ipaddress.collapse_addresses(same))  # type: ignore[arg-type,type-var]
        assert (str(network) in packed) is covered
        first = network.network_address
        assert (str(first) in packed) is any(first in other for other in same)
