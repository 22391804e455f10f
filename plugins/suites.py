"""Public texts known again by hashes: items of benchmark suites, and templates of agents and frameworks.

`rules/data/suites.hashes` and `public_templates.hashes` hold no text, only digests of sentences: nobody can read an item out
of them. Each source says where it is from, when, and under which licence. A sentence is what stands between line ends and `. !
? ; :`, as its letters and digits only, so that neither the label before a question nor its layout hides it.

Looked at are the system text, the first and the last user message, each capped as `prompt.structure` caps them: of 20,480
characters there are at most 731 sentences of `SHORTEST` bytes. Each costs a checksum, and one that may be known a hash: a
chance hit would take a collision of 96 bits. What a known sentence shows is the public text, not who uses it: a pipeline that
takes its seeds from a public benchmark shows it as well, and a private or paraphrased benchmark shows nothing.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Final
from zlib import crc32

from gateway.errors import ConfigError, Place, Problem
from gateway.plugins.prompt import NO_CALL, said_first, said_last, searched
from gateway.plugins.structure import LONGEST_USER
from gateway.plugins.wording import capped, plain_bytes
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import BOOL, STRING, Missing, set_of

SHORTEST: Final = 28
SIZE: Final = 12
NONE_KNOWN: Final = Missing("no item of a known suite")
_KEPT: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_ENDS: Final = frozenset(b"\n.!?;:")
_TABLE: Final = bytes(ord("\n") if byte in _ENDS else byte for byte in range(256))
_DROPPED: Final = bytes(byte for byte in range(0x80) if byte not in _KEPT and byte not in _ENDS)
_LONG: Final = re.compile(rb"[^\n]{%d,}" % SHORTEST)
_STOP: Final = "。".encode()
_FIELDS: Final = ("id", "licence", "date", "source")


def sentences(text: bytes) -> list[bytes]:
    """The sentences of a plain text (`wording.plain_bytes`) as their letters and digits, without shorter ones. Linear."""
    told = text if text.isascii() else text.replace(_STOP, b".")
    return _LONG.findall(told.translate(_TABLE, _DROPPED))


def digest(sentence: bytes) -> bytes:
    """What stands for a sentence: a checksum of 4 bytes, which is looked up first, and a hash of 8."""
    return crc32(sentence).to_bytes(4, "big") + blake2b(sentence, digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Hashes:
    """The digests of one file. names: ids of its sources; checksums: of all digests; digests: each to its source's place."""

    names: tuple[str, ...] = ()
    checksums: frozenset[int] = frozenset()
    digests: dict[bytes, int] = field(default_factory=dict, repr=False)

    def of(self, told: Sequence[bytes], sums: Iterable[int] | None = None) -> frozenset[str]:
        """The ids of the sources of which one of these sentences (`sentences`) is. sums: their checksums, where known."""
        if self.checksums.isdisjoint(map(crc32, told) if sums is None else sums):
            return frozenset()
        likely = map(digest, told)
        return frozenset([self.names[self.digests[one]] for one in likely if one in self.digests])


def load_hashes(path: Path) -> Hashes:
    """A file of hashes: `source: id | licence | date | where from`, then one digest a line in Base64.

    Raises ConfigError with every problem found, each with its line.
    """
    problems: list[Problem] = []
    names: list[str] = []
    digests: dict[bytes, int] = {}
    for number, line in enumerate(_lines(path), 1):
        if line.startswith("source:"):
            parts = [part.strip() for part in line.removeprefix("source:").split("|")]
            if len(parts) != len(_FIELDS) or not all(parts) or parts[0] in names:
                needed = "a source needs these, and an id of its own: " + ", ".join(_FIELDS)
                problems.append(Problem(Place(str(path), number), needed, "write them with | between"))
            names.append(parts[0])
        elif line and line[0] != "#":
            found = _digest(line)
            if found is None or not names:
                said = f"{line[:40]!r} is no digest of {SIZE} bytes in Base64 below a source"
                problems.append(Problem(Place(str(path), number), said, "build the file anew"))
            else:
                digests.setdefault(found, len(names) - 1)
    if problems:
        raise ConfigError(problems)
    return Hashes(tuple(names), frozenset(int.from_bytes(one[:4], "big") for one in digests), digests)


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(Place(str(path)), f"it cannot be read: {error}")]) from None


def _digest(line: str) -> bytes | None:
    try:
        found = a2b_base64(line, strict_mode=True)
    except Error:
        return None
    return found if len(found) == SIZE else None


@lru_cache(maxsize=4)  # immutable, and the same for every registry of a process
def bundled(name: str) -> Hashes:
    """One of the bundled files."""
    return load_hashes(Path(str(files("gateway.rules") / "data" / name)))


def looked_at(view: View) -> bytes:
    """The plain text that public sentences are looked for in: a line end parts sentences, so texts may stand in one."""
    first, text = view.once(said_first), view.once(searched)
    if first is None or first is view.once(said_last):
        return text
    return text + b"\n" + plain_bytes(capped(first, LONGEST_USER))


def _sentences(view: View) -> tuple[list[bytes], list[int]]:
    """The sentences of a call, and their checksums."""
    found = sentences(looked_at(view))
    return found, [*map(crc32, found)]


def register(registry: Registry, settings: Settings) -> None:
    suites, templates = bundled("suites.hashes"), bundled("public_templates.hashes")

    def known_suite(view: View) -> object:
        if view.facts.call is None:
            return NO_CALL
        return suites.of(*view.once(_sentences)) or NONE_KNOWN

    def public(view: View) -> object:
        return bool(templates.of(*view.once(_sentences))) if view.facts.call is not None else NO_CALL

    registry.add_signals((
        Signal("prompt.known_suite", set_of(STRING),
               "public suites and harness templates, by id, of which a sentence is in the prompt",
               known_suite, Cost.BODY, "no model call, or no such sentence",
               "pipelines that take their seeds from public benchmarks, people who quote one"),
        Signal("prompt.public", BOOL, "whether a sentence of a public template (agents, frameworks) stands in the prompt: "
               "thousands share it, so sharing it says nothing", public, Cost.BODY, "no model call",
               "anybody can put such a sentence into a prompt of their own"),
    ))  # fmt: skip
