"""Named lists of typed values that rules refer to as `"@name"`.

A list file has one item a line; `#` starts a comment. Comment lines on top state where the data comes from:
`# source: …` and `# date: 2026-11-01`, and optionally `# licence: …` and `# max_age: 90d`, after which `sluice check` asks for
a fresh one.

A list holds at most a million items in a file of at most 64 MiB. A million of them keep about 75 MB (numbers,
times, durations) to 140 MB (text, addresses, networks), up to 175 MB while they are read; `within` adds 12 to 135 MB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO, TextIOWrapper
from os.path import realpath
from pathlib import Path
from typing import Any, TypeVar

from gateway.errors import LoadError, Place, did_you_mean
from gateway.strict.document import Node, contents, decoded
from gateway.strict.shapes import Field, Problems, listing, mapping, path, raw, scalar, text
from gateway.values import FLOAT, INT, TYPES, Type, parse_duration

MAX_ITEMS = 1_000_000
MAX_LIST_BYTES = 64 * 1024 * 1024
T = TypeVar("T")
NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class ValueList:
    """A frozen list.

    source and date say where it comes from, empty when the file does not say. max_age: µs from its date on for which it is
    good, zero when nothing is said. Neither is part of the policy's digest: they decide nothing.
    """

    pack: str
    name: str
    type: Type
    values: frozenset[Any]
    source: str
    date: str
    place: Place
    max_age: int = 0


LIST_FIELDS = {
    "type": Field(text("type"), required=True, doc="one of " + ", ".join(TYPES)),
    "file": Field(path("file"), doc="a text file beside the pack, one item a line"),
    "values": Field(listing(raw, "values"), doc="the items themselves"),
    "source": Field(text("source"), default="", doc="where the items come from"),
    "date": Field(text("date"), default="", doc="when they were taken from there"),
    "max_age": Field(scalar(parse_duration, "max_age"), default=0, doc="how long they are good from that date on, such as 90d"),
}


def read_list(pack: str, name: str, node: Node, problems: Problems) -> ValueList | None:
    """A list declaration of a pack, with the values of its file."""
    if not NAME.fullmatch(name):
        problems.add(node.named, f"list name {name!r} must be a word: lower-case letters, digits, _ and -")
    entry = mapping(LIST_FIELDS, f"list '{name}'")(node, problems)
    if entry is None or entry["type"] is None:
        return None
    kind = TYPES.get(entry["type"])
    if kind is None:
        problems.add(node.at("type"), f"unknown type '{entry['type']}'", did_you_mean(entry["type"], list(TYPES)))
        return None
    if isinstance(node.value, dict) and ("file" in node.value) == ("values" in node.value):
        problems.add(node.place, f"list '{name}' needs either 'file' or 'values'", "write one of the two")
        return None
    source, date, max_age = entry["source"] or "", entry["date"] or "", entry["max_age"] or 0
    empty = ValueList(pack, name, kind, frozenset(), source, date, node.place, max_age)
    if entry["file"] is not None:
        return _from_file(empty, entry["file"], problems, node.at("file"))
    values = {_read(kind.parse, item.plain(), item.place, problems) for item in entry["values"] or ()}
    return replace(empty, values=frozenset(values - {None}))


def _lines(file: Path, problems: Problems, place: Place) -> Iterable[str]:
    """The lines of a list file; none where it cannot be read."""
    try:
        data = contents(file, MAX_LIST_BYTES)
    except LoadError as error:
        for problem in error.problems:
            problems.add(place, f"list file {file} {problem.message}", problem.mend or "paths are relative to the pack")
        return ()
    try:
        decoded(data, str(file))
    except LoadError as error:
        problems.found += error.problems
        return ()
    return TextIOWrapper(BytesIO(data), encoding="utf-8-sig")


def _from_file(found: ValueList, file: Path, problems: Problems, place: Place) -> ValueList | None:
    shown = Path(realpath(file)).is_relative_to(realpath(Path(place.path).parent))
    values, head, max_age = set(), {"source": "", "date": "", "max_age": ""}, found.max_age
    before = len(problems.found)
    items = 0
    for number, line in enumerate(_lines(file, problems, place), 1):
        here = Place(str(file), number, 1)
        content, _, comment = line.partition("#")
        key, _, said = comment.partition(":")
        if key.strip() in head and not content.strip():
            head[key.strip()] = head[key.strip()] or said.strip()
            if key.strip() == "max_age":
                max_age = _read(parse_duration, said.strip(), here, problems, "max_age: ", shown) or 0
        if content.strip():
            items += 1
            values.add(_read(found.type.parse, _literal(found.type, content.strip()), here, problems, "", shown))
        if items > MAX_ITEMS:
            problems.add(here, f"more than {MAX_ITEMS} items", "split the list")
            return None
    if len(problems.found) > before:
        return None
    values.discard(None)
    source, date = head["source"] or found.source, head["date"] or found.date
    return replace(found, values=frozenset(values), source=source, date=date, place=Place(str(file)), max_age=max_age)


def _literal(kind: Type, text: str) -> object:
    """A line of a file as YAML would read it: a number where the type is one."""
    try:
        return int(text) if kind is INT else float(text) if kind is FLOAT else text
    except ValueError:
        return text


def _read(
    parse: Callable[[object], T], literal: object, place: Place, problems: Problems, what: str = "", shown: bool = True
) -> T | None:
    """A value of a list. shown: False for a file outside its pack's folder, whose lines are not repeated."""
    try:
        return parse(literal)
    except ValueError as error:
        said = str(error) if shown else "this line cannot be read; the file lies outside the pack's folder, so it is not shown"
        problems.add(place, f"{what}{said}")
        return None


Resolve = Mapping[str, ValueList]
