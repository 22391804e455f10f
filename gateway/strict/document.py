"""YAML 1.2 core as a tree in which every value knows its place.

Stricter than YAML on purpose: no anchors, aliases or tags (an alias bomb cannot be written), no repeated keys, keys are
text, depth and size are bounded. `NO`, `on` and `12:30` are text, as YAML 1.2 says and YAML 1.1 loaders do not; so are
`0123`, `0x1F` and `.inf`, because nobody who writes them in a rule means the number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from gateway.errors import LoadError, Place, Problem

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 64

_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
_WORDS: Final = {"true": True, "false": False, "null": None, "": None, "~": None}
_CONTROL: Final = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value: a scalar (`str`, `int`, `float`, `bool`, None), a list of nodes or a dict of text to nodes.

    key: where the key stands under which this is the value; None outside mappings.
    """

    value: object
    place: Place
    key: Place | None = None

    @property
    def named(self) -> Place:
        """Where its key stands, or else the value itself."""
        return self.key or self.place

    @property
    def kind(self) -> str:
        """What a person would call it."""
        if self.value is None:
            return "nothing"
        if self.value in ({}, []):
            return "an empty mapping" if isinstance(self.value, dict) else "an empty list"
        names = {dict: "a mapping", list: "a list", bool: "true or false", int: "a number", float: "a number", str: "text"}
        return names[type(self.value)]

    def at(self, key: str) -> Place:
        """Where the value under a key stands, or else the whole."""
        return self.value[key].place if isinstance(self.value, dict) and key in self.value else self.place

    def plain(self) -> object:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def read(path: Path, shown: str | None = None) -> Node:
    """The tree of a file. Raises LoadError when it cannot be read, is too large or is not strict YAML."""
    name = shown or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LoadError([Problem(Place(name), f"cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise LoadError([Problem(Place(name), f"is larger than {MAX_BYTES // 2**20} MiB", "split it into several files")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LoadError([Problem(Place(name, line, 1), "is not UTF-8", "save the file as UTF-8")]) from None
    return parse(text, name)


def parse(text: str, name: str) -> Node:
    """The tree of one YAML document. `name` stands in the places."""
    try:
        events = yaml.parse(text, Loader=_LOADER)
        tree = _document(events, name)
    except yaml.MarkedYAMLError as error:
        raise LoadError([_malformed(error, name)]) from None
    except yaml.YAMLError:
        raise LoadError([Problem(_odd(text, name), "is not YAML: a control character stands here", "remove it")]) from None
    except _Refused as refused:
        raise LoadError([refused.problem]) from None
    return tree


def _malformed(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
    mend = f"{error.context} that begins at {begun.line + 1}:{begun.column + 1}" if error.context and begun else ""
    return Problem(place, f"is not YAML: {error.problem or error.context}", mend)


def _odd(text: str, name: str) -> Place:
    found = _CONTROL.search(text)
    before = text[: found.start()] if found else text
    return Place(name, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _document(events: Iterator[yaml.Event], name: str) -> Node:
    tree: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if tree is not None:
                raise _Refused(Problem(_place(event, name), "a second document", "write one document per file"))
            tree = _node(next(events), events, name, 0)
    return tree or Node(None, Place(name, 1, 1))


def _node(event: yaml.Event, events: Iterator[yaml.Event], name: str, depth: int) -> Node:
    place = _place(event, name)
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise _Refused(Problem(place, "anchors and aliases are not part of the language", "write the value out"))
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise _Refused(Problem(place, f"tag {tag} is not part of the language", "remove the tag"))
    if depth > MAX_DEPTH:
        raise _Refused(Problem(place, f"nested deeper than {MAX_DEPTH} levels", "write it flatter"))
    if isinstance(event, yaml.ScalarEvent):
        return Node(event.value if event.style else _scalar(event.value), place)
    if isinstance(event, yaml.SequenceStartEvent):
        return Node(_items(events, name, depth), place)
    return Node(_entries(events, name, depth), place)


def _items(events: Iterator[yaml.Event], name: str, depth: int) -> list[Node]:
    items = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        items.append(_node(event, events, name, depth + 1))
    return items


def _entries(events: Iterator[yaml.Event], name: str, depth: int) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, name, depth + 1)
        if not isinstance(key.value, str):
            raise _Refused(Problem(key.place, f"a key must be text, not {key.kind}", "put it in quotes"))
        if key.value == "<<":
            raise _Refused(Problem(key.place, "merge keys are not part of the language", "write the values out"))
        if key.value in entries:
            first = entries[key.value].named
            raise _Refused(Problem(key.place, f"key '{key.value}' stands twice", f"the first is in line {first.line}"))
        entries[key.value] = replace(_node(next(events), events, name, depth + 1), key=key.place)
    return entries


def _scalar(text: str) -> object:
    lower = text if text != text.title() and text != text.upper() else text.lower()
    if lower in _WORDS:
        return _WORDS[lower]
    if _LEADING_ZERO.match(text):
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else text
    if _FLOAT.fullmatch(text):
        return number if math.isfinite(number := float(text)) else text
    return text


def _place(event: yaml.Event, name: str) -> Place:
    mark = event.start_mark
    return Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
