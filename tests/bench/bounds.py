"""What hostile or oversized input ends in, in which memory and time: `python -m tests.bench.bounds` prints a table.

Every case is files written into a folder, and what reading them may cost. Each is read in a process of its own whose address
space may grow by the stated megabytes and no more; `tests/language/test_bounds.py` asserts what is said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMALL = 64
HEAD = "pack: p\nversion: 1\nlanguage: 1\n"
RULE = "id: {id}, title: t, family: client, owner: o, then: {{action: observe}}, mode: shadow, when: {when}"
CHILD = """
import json, resource, sys, time
from pathlib import Path
from gateway.config import load_config
from gateway.errors import LoadError
from gateway.language.compile import load
from gateway.replay.cases import load_tests
from tests.judging import CATALOGUE, policy
megabytes, inputs = json.loads(sys.stdin.read())
def read(kind, paths):
    if kind == "config":
        return load_config(paths[0])
    if kind == "tests":
        return load_tests(paths, policy("pack: p\\nversion: 1\\nlanguage: 1"), CATALOGUE)
    found = load(paths, CATALOGUE)
    if kind == "search":
        [leaf.test("a" * 100_000 + "!") for rule in found.rules for leaf in rule.when.leaves()]
    return found
status = lambda key: int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) // 1024
resource.setrlimit(resource.RLIMIT_AS, ((status("VmSize") + megabytes) * 2**20,) * 2)
for kind, paths in inputs:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = status("VmRSS"), time.perf_counter()
    try:
        read(kind, [Path(path) for path in paths])
        said = []
    except LoadError as error:
        said = [str(problem) for problem in error.problems]
    taken = time.perf_counter() - began
    print(json.dumps({"said": said, "megabytes": max(0, status("VmHWM") - before), "seconds": taken}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One input.

    make: writes it into a folder and names what is read. said: what must be found in a problem; empty when it loads. megabytes:
    what reading may add. kind: pack, config, tests, or search (loads, then evaluates). slow: only the bench runs it.
    """

    name: str
    make: Callable[[Path], list[Path]]
    said: str
    megabytes: int = SMALL
    kind: str = "pack"
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input: the problems, the memory it added and the time it took."""

    said: list[str]
    megabytes: int
    seconds: float


def run(cases: Sequence[Case], folder: Path) -> list[Outcome]:
    """Read the inputs one after the other in a process of its own.

    Raises RuntimeError with its last words when the process dies.
    """
    inputs = []
    for number, case in enumerate(cases):
        below = folder / str(number)
        below.mkdir()
        inputs.append((case.kind, [str(path) for path in case.make(below)]))
    given = json.dumps([max(case.megabytes for case in cases), inputs])
    done = subprocess.run([sys.executable, "-c", CHILD], input=given, capture_output=True, text=True, timeout=300, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:] or f"ended with {done.returncode}")
    return [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]


def pack(text: str | bytes, name: str = "p.yaml") -> Callable[[Path], list[Path]]:
    """One file with this text."""

    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return [folder / name]

    return make


def rules(count: int, when: str = "{request.stream: true}", first: int = 0) -> str:
    """A pack of so many rules."""
    lines = (f"  - {{{RULE.format(id=f'p.r{number}', when=when)}}}" for number in range(first, first + count))
    return HEAD + "rules:\n" + "\n".join(lines)


def matching(pattern: str) -> Callable[[Path], list[Path]]:
    return pack(rules(1, f"{{request.model: {{matches: {json.dumps(pattern)}}}}}"))


def listed(kind: str, items: int, item: Callable[[int], str], padding: str = "") -> Callable[[Path], list[Path]]:
    """A pack with a list file."""

    def make(folder: Path) -> list[Path]:
        with (folder / "items.txt").open("w") as file:
            file.write("# source: generated\n# date: 2026-11-01\n")
            file.writelines(f"{item(number)}{padding}\n" for number in range(items))
        signal, word = {"cidr": ("client.ip", "within"), "string": ("request.model", "in"), "int": ("request.size", "in")}[kind]
        text = rules(1, f'{{{signal}: {{{word}: "@items"}}}}').replace(
            "rules:", f"lists: {{items: {{type: {kind}, file: items.txt}}}}\nrules:"
        )
        return pack(text)(folder)

    return make


def named(where: str, made: Callable[[Path], Any]) -> Callable[[Path], list[Path]]:
    """Something odd in place of a pack or a list file. made: puts it at a path."""

    def make(folder: Path) -> list[Path]:
        if where == "pack":
            made(folder / "p.yaml")
            return [folder / "p.yaml"]
        made(folder / "items.txt")
        return pack(HEAD + "lists: {items: {type: string, file: items.txt}}")(folder)

    return make


def many_packs(folder: Path) -> list[Path]:
    """A million rules in as many bytes as five files may have."""
    found = []
    for number in range(5):
        text = rules(60_000, first=number * 60_000).replace("pack: p\n", f"pack: p{number}\n")
        found += pack(text + "\n#" + "x" * (7_900_000 - len(text)), f"p{number}.yaml")(folder)
    return found


def address(number: int) -> str:
    return f"{number >> 16 & 127 | 1}.{number >> 8 & 255}.{number & 255}.0/24"


def conditions(count: int) -> str:
    return "{any: [" + ", ".join(f"{{request.size: {{gte: {number}}}}}" for number in range(count)) + "]}"


def deep(levels: int) -> str:
    return "{all: [" * levels + "{request.stream: true}" + "]}" * levels


CASES = [
    Case("a pack of 10 MB", pack(HEAD + "#" * 10_000_000), "is larger than 8 MiB; split it"),
    Case("8 MB of short values", pack("[" + "1," * 4_000_000 + "]"), ":1:1000000: more than 500000 values; split", 256),
    Case("an alias bomb", pack("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), ":1:4: anchors and aliases are not part"),
    Case("10,000 nested lists", pack("[" * 10_000 + "]" * 10_000), ":1:66: nested deeper than 64 levels"),
    Case("10,000 nested mappings", pack("{a: " * 10_000 + "}" * 10_000), "nested deeper than 64 levels"),
    Case("1,000 levels of indentation", pack("".join(" " * n + "a:\n" for n in range(1_000))), "nested deeper than 64 levels"),
    Case("a condition of 40 levels", pack(rules(1, deep(40))), "nested deeper than 64 levels"),
    Case("a condition of 30 levels", pack(rules(1, deep(30))), ""),
    Case("100,000 comparisons", pack(rules(1, conditions(100_000))), ":5:97: a condition of 100000 comparisons, but 500", 512),
    Case("500 comparisons", pack(rules(1, conditions(500))), ""),
    Case(
        "50,000 comparisons and 500", pack(rules(101, conditions(500))), ":1:1: 50500 comparisons in all packs, but 50000", 256
    ),
    Case("10,000 rules", pack(rules(10_000)), "", 256, slow=True),
    Case("10,001 rules", pack(rules(10_001)), ":1:1: 10001 rules in all packs, but 10000 is the most; load fewer", 256),
    Case("a million rules", many_packs, "the packs together are larger than 32 MiB; load fewer"),
    Case(
        "a key of 100,000 characters",
        pack(HEAD + '? "' + "k" * 100_000 + '"\n: 1\n'),
        ":4:3: a key of more than 200 characters",
    ),
    Case("a text of a million characters", pack(HEAD + "a: " + "k" * 1_000_000), ":4:4: a text of more than 65536 characters"),
    Case("a thousand errors and more", pack(HEAD + "rules: [" + "1," * 100_000 + "]"), "has 1000 problems or more; mend these"),
    Case("100,000 unknown keys", pack(HEAD + "\n".join(f"key{n}: 1" for n in range(100_000))), "has 1000 problems or more"),
    Case("repetition of repetition", matching("((a{100}){100}){100}"), "is not a linear-time regular expression"),
    Case("a thousand thousand letters", matching(r"(\pL{500}){2}" * 300), "is not a linear-time regular expression"),
    Case(
        "an alternation of 60,000 characters", matching("|".join(f"w{n}" for n in range(10_000))), "more than 4000 characters"
    ),
    Case("2,000 groups, searched", matching("(" * 1_900 + "a" + ")" * 1_900), "", kind="search"),
    Case("every letter 1,000 times, searched", matching("[a-z]{500}.*[0-9]{400}"), "", kind="search"),
    Case("1e999", pack(rules(1, "{request.size: {gte: 1e999}}")), "'1e999' is not a whole number"),
    Case("a number of 5,000 digits", pack(rules(1, "{request.size: {gte: " + "9" * 5_000 + "}}")), "is not a whole number"),
    Case("an AS number of 5,000 digits", pack(rules(1, "{client.asn: " + "9" * 5_000 + "}")), "client.asn: "),
    Case("a duration of 5,000 digits", pack(rules(1, "{account.age: {lt: " + "9" * 5_000 + "d}}")), "is longer than 100 years"),
    Case("NUL", pack(HEAD + "a: x\0y\n"), ":4:5: is not YAML: a control character stands here"),
    Case("an escape character", pack(HEAD + "a: \x1b[0m\n"), ":4:4: is not YAML: a control character stands here"),
    Case("a byte order mark", pack(b"\xef\xbb\xbf" + HEAD.encode()), ""),
    Case("UTF-16", pack(HEAD.encode("utf-16")), "p.yaml:1:1: is UTF-16, not UTF-8; save the file as UTF-8"),
    Case("UTF-16 without a mark", pack(HEAD.encode("utf-16-le")), ":1:2: is not YAML: a control character stands here"),
    Case("Latin-1", pack(HEAD.encode() + b"# \xe5\n"), "p.yaml:4:1: is not UTF-8"),
    Case("a million texts", listed("string", 1_000_000, lambda n: f"template-{n:08x}"), "", 512),
    Case("a million numbers", listed("int", 1_000_000, str), "", 384, slow=True),
    Case("a million networks", listed("cidr", 1_000_000, address), "", 512, slow=True),
    Case("a million items and one", listed("int", 1_000_001, str), "items.txt:1000003:1: more than 1000000 items", 384),
    Case("a list file of 70 MB", listed("string", 10_000, str, "x" * 7_000), "items.txt is larger than 64 MiB; split it", 256),
    Case("a list of 2,000 wrong items", listed("int", 2_000, lambda n: "?"), "items.txt: has 1000 problems or more"),
    Case("a folder without packs", named("pack", Path.mkdir), "p.yaml: holds no pack"),
    Case("a folder as a list", named("list", Path.mkdir), "items.txt cannot be read: Is a directory"),
    Case("a pipe as a pack", named("pack", os.mkfifo), "p.yaml: is no regular file; name a file, not a pipe or a device"),
    Case("a pipe as a list", named("list", os.mkfifo), "items.txt is no regular file"),
    Case("an endless device as a pack", named("pack", lambda path: path.symlink_to("/dev/zero")), "p.yaml: is no regular file"),
    Case(
        "an endless device as a list", named("list", lambda path: path.symlink_to("/dev/zero")), "items.txt is no regular file"
    ),
    Case("a link to itself as a pack", named("pack", lambda path: path.symlink_to(path)), "Too many levels of symbolic links"),
    Case("a link to itself as a list", named("list", lambda path: path.symlink_to(path)), "Too many levels of symbolic links"),
    Case("an alias bomb of rule tests", pack("cases: &a [*a]\n", "p.test.yaml"), ":1:8: anchors and aliases", kind="tests"),
    Case("10,000 nested lists of tests", pack("cases: " + "[" * 10_000, "p.test.yaml"), "nested deeper than 64", kind="tests"),
    Case("a pipe of rule tests", named("pack", os.mkfifo), "is no regular file", kind="tests"),
    Case("an alias bomb of settings", pack("mode: &a enforce\n", "gateway.yaml"), ":1:7: anchors and aliases", kind="config"),
    Case("settings of 10 MB", pack("#" * 10_000_000, "gateway.yaml"), "is larger than 8 MiB", kind="config"),
    Case(
        "an endless hash key",
        pack("upstreams: {}\nidentity: {hash_key_file: /dev/zero}\n"),
        "zero: is no regular",
        kind="config",
    ),
]


def main() -> None:
    print(f"{'input':40} {'MB':>5} {'of':>5} {'s':>6}  ends in")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            (found,) = run([case], Path(folder))
            said = (found.said[0] if found.said else "loads").replace(f"{folder}/0/", "")
            print(f"{case.name:40} {found.megabytes:5} {case.megabytes:5} {found.seconds:6.2f}  {said[:90]}")


if __name__ == "__main__":
    main()
