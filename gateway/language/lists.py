"""Named lists of typed values that rules refer to as `"@name"`.

A list file has one item a line; `#` starts a comment. Comment lines on top state where the data comes from:
`# source: …` and `# date: 2026-11-01`, and optionally `# licence: …`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.errors import Place, did_you_mean
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, path, raw, text
from gateway.values import FLOAT, INT, TYPES, Type

MAX_ITEMS = 1_000_000
NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class ValueList:
    """A frozen list. source and date say where it comes from, empty when the file does not say."""

    pack: str
    name: str
    type: Type
    values: frozenset[Any]
    source: str
    date: str
    place: Place


_FIELDS = {
    "type": Field(text("type"), required=True, doc="one of " + ", ".join(TYPES)),
    "file": Field(path("file"), doc="a text file beside the pack, one item a line"),
    "values": Field(listing(raw, "values"), doc="the items themselves"),
    "source": Field(text("source"), default="", doc="where the items come from"),
    "date": Field(text("date"), default="", doc="when they were taken from there"),
}


def read_list(pack: str, name: str, node: Node, problems: Problems) -> ValueList | None:
    """A list declaration of a pack, with the values of its file."""
    if not NAME.fullmatch(name):
        problems.add(node.named, f"list name {name!r} must be a word: lower-case letters, digits, _ and -")
    entry = mapping(_FIELDS, f"list '{name}'")(node, problems)
    if entry is None or entry["type"] is None:
        return None
    kind = TYPES.get(entry["type"])
    if kind is None:
        problems.add(node.at("type"), f"unknown type '{entry['type']}'", did_you_mean(entry["type"], list(TYPES)))
        return None
    if isinstance(node.value, dict) and ("file" in node.value) == ("values" in node.value):
        problems.add(node.place, f"list '{name}' needs either 'file' or 'values'", "write one of the two")
        return None
    empty = ValueList(pack, name, kind, frozenset(), entry["source"] or "", entry["date"] or "", node.place)
    if entry["file"] is not None:
        return _from_file(empty, entry["file"], problems, node.at("file"))
    values = {_parse(kind, item.plain(), item.place, problems) for item in entry["values"] or ()}
    return replace(empty, values=frozenset(values - {None}))


def _from_file(found: ValueList, file: Path, problems: Problems, place: Place) -> ValueList | None:
    values, head = set(), {"source": "", "date": ""}
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                content, _, comment = line.partition("#")
                key, _, said = comment.partition(":")
                if key.strip() in head and not content.strip():
                    head[key.strip()] = head[key.strip()] or said.strip()
                if content.strip():
                    values.add(_parse(found.type, _literal(found.type, content.strip()), Place(str(file), number, 1), problems))
                if len(values) > MAX_ITEMS:
                    problems.add(Place(str(file), number, 1), f"more than {MAX_ITEMS} items", "split the list")
                    return None
    except OSError as error:
        problems.add(place, f"list file {file} cannot be read: {error.strerror}", "paths are relative to the pack")
        return None
    except UnicodeDecodeError:
        problems.add(Place(str(file)), "is not UTF-8", "save the file as UTF-8")
        return None
    source, date = head["source"] or found.source, head["date"] or found.date
    return replace(found, values=frozenset(values - {None}), source=source, date=date, place=Place(str(file)))


def _literal(kind: Type, text: str) -> object:
    """A line of a file as YAML would read it: a number where the type is one."""
    try:
        return int(text) if kind is INT else float(text) if kind is FLOAT else text
    except ValueError:
        return text


def _parse(kind: Type, literal: object, place: Place, problems: Problems) -> object:
    try:
        return kind.parse(literal)
    except ValueError as error:
        problems.add(place, str(error))
        return None


Resolve = Callable[[str], "ValueList | None"]
