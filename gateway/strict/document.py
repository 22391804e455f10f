"""YAML 1.2 core as a tree in which every value knows its place.

Stricter than YAML on purpose: no anchors, aliases or tags (an alias bomb cannot be written), no repeated keys, keys are
text. `NO`, `on` and `12:30` are text, as YAML 1.2 says and YAML 1.1 loaders do not; so are `0123`, `0x1F` and `.inf`,
because nobody who writes them in a rule means the number.

Whatever a file holds, reading it ends, and ends within stated memory: only regular files are read; bytes, values, depth and
the length of keys and texts are bounded, and a bound that is passed is a problem with a place. The largest tree
(`MAX_NODES` values in `MAX_BYTES`) takes about 200 MB; the parser hands over one event at a time, so that what stands
behind the bound is never read.
"""

from __future__ import annotations

import codecs
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.errors import LoadError, Place, Problem

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 500_000
MAX_TEXT: Final = 65_536
MAX_KEY: Final = 200

_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
_NUMBERS_BEGIN: Final = frozenset("+-.0123456789")
_WORDS: Final[dict[str, object]] = {
    written: value
    for word, value in (("true", True), ("false", False), ("null", None), ("", None), ("~", None))
    for written in (word, word.title(), word.upper())
}
_CONTROL: Final = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_COLUMNS: Final = MAX_BYTES.bit_length()
_COLUMN: Final = 2**_COLUMNS - 1
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not make us wait
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value: a scalar (`str`, `int`, `float`, `bool`, None), a list of nodes or a dict of text to nodes.

    spot: where it stands in the file. key_spot: where the key stands under which this is the value; 0 outside mappings. Both
    are one number, the column in the lower bits: a tree has many of them, and a `Place` is made only for a message.
    """

    value: object
    file: str
    spot: int = 0
    key_spot: int = 0

    @property
    def place(self) -> Place:
        """Where the value stands."""
        return Place(self.file, self.spot >> _COLUMNS, self.spot & _COLUMN)

    @property
    def key(self) -> Place | None:
        """Where its key stands; None outside mappings."""
        return Place(self.file, self.key_spot >> _COLUMNS, self.key_spot & _COLUMN) if self.key_spot else None

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


def seen(path: Path, ask: Callable[[Path], bool]) -> bool:
    """The answer to a question such as `Path.is_dir`; False where one may not even look, and reading the path then says why."""
    try:
        return ask(path)
    except OSError:
        return False


def contents(path: Path, most: int, name: str | None = None) -> bytes:
    """The bytes of a regular file of at most `most` bytes. `name` stands in the places.

    Raises LoadError when it cannot be read, is a folder, a pipe or a device (which might never end), is larger, or changed
    meanwhile as far as its size and time tell.
    """
    place = Place(name or str(path))
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise LoadError([Problem(place, "is no regular file", "name a file, not a pipe or a device")])
            data = file.read(min(most, before.st_size) + 1)  # one more, to see whether it grew
            after = os.fstat(file.fileno())
    except OSError as error:
        raise LoadError([Problem(place, f"cannot be read: {error.strerror}")]) from None
    if len(data) > most:
        raise LoadError([Problem(place, f"is larger than {_size(most)}", "split it into several files")])
    if len(data) != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise LoadError([Problem(place, "changed while it was read", "try again, and replace files by renaming")])
    return data


def _size(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"


def read(path: Path, shown: str | None = None) -> Node:
    """The tree of a file. Raises LoadError when it cannot be read, passes a bound or is not strict YAML."""
    name = shown or str(path)
    return parse(decoded(contents(path, MAX_BYTES, name), name), name)


def decoded(data: bytes, name: str) -> str:
    """The text of a file. Raises LoadError, with the line, when it is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        wide = "UTF-16, " if data.startswith(_UTF_16) else ""
        line = data[: error.start].count(b"\n") + 1
        raise LoadError([Problem(Place(name, line, 1), f"is {wide}not UTF-8", "save the file as UTF-8")]) from None


def parse(text: str, name: str) -> Node:
    """The tree of one YAML document. `name` stands in the places."""
    try:
        return _Builder(_LOADER(text).get_event, name).document()
    except yaml.MarkedYAMLError as error:
        raise LoadError([_malformed(error, name)]) from None
    except yaml.YAMLError:
        raise LoadError([Problem(_odd(text, name), "is not YAML: a control character stands here", "remove it")]) from None


def _malformed(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
    mend = f"{error.context} that begins at {begun.line + 1}:{begun.column + 1}" if error.context and begun else ""
    return Problem(place, f"is not YAML: {error.problem or error.context}", mend)


def _odd(text: str, name: str) -> Place:
    found = _CONTROL.search(text)
    before = text[: found.start()] if found else text
    return Place(name, before.count("\n") + 1, len(before) - before.rfind("\n"))


class _Builder:
    """Builds the tree of one document from the parser's events, and stops at the first thing that is refused."""

    def __init__(self, event: Callable[[], Any], name: str) -> None:
        self.event, self.name, self.nodes = event, name, 0

    def document(self) -> Node:
        tree: Node | None = None
        while (event := self.event()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                if tree is not None:
                    raise self._refused(event, "a second document", "write one document per file")
                tree = self._node(self.event(), 0, 0)
        return tree or Node(None, self.name, 1 << _COLUMNS | 1)

    def _node(self, event: Any, depth: int, key_spot: int) -> Node:
        kind = event.__class__
        if kind is yaml.AliasEvent or event.tag is not None or event.anchor is not None or depth > MAX_DEPTH:
            raise self._left_out(event)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refused(event, f"more than {MAX_NODES} values", "split the file, or put long lists into list files")
        mark = event.start_mark
        spot = (mark.line + 1) << _COLUMNS | mark.column + 1
        if kind is yaml.ScalarEvent:
            value = event.value
            if len(value) > MAX_TEXT:
                raise self._refused(event, f"a text of more than {MAX_TEXT} characters", "shorten it")
            return Node(value if event.style else _scalar(value), self.name, spot, key_spot)
        below = self._items(depth + 1) if kind is yaml.SequenceStartEvent else self._entries(depth + 1)
        return Node(below, self.name, spot, key_spot)

    def _items(self, depth: int) -> list[Node]:
        items = []
        while (event := self.event()).__class__ is not yaml.SequenceEndEvent:
            items.append(self._node(event, depth, 0))
        return items

    def _entries(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while (event := self.event()).__class__ is not yaml.MappingEndEvent:
            word = self._key(event, entries, depth)
            mark = event.start_mark
            entries[word] = self._node(self.event(), depth, (mark.line + 1) << _COLUMNS | mark.column + 1)
        return entries

    def _key(self, event: Any, entries: Mapping[str, Node], depth: int) -> str:
        plain = event.__class__ is yaml.ScalarEvent and event.tag is None and event.anchor is None
        word = (event.value if event.style else _scalar(event.value)) if plain else self._node(event, depth, 0).value
        if not isinstance(word, str):
            raise self._refused(event, f"a key must be text, not {Node(word, self.name).kind}", "put it in quotes")
        if word == "<<":
            raise self._refused(event, "merge keys are not part of the language", "write the values out")
        if len(word) > MAX_KEY:
            raise self._refused(event, f"a key of more than {MAX_KEY} characters", "shorten it")
        if word in entries:
            first = entries[word].named
            raise self._refused(event, f"key '{word}' stands twice", f"the first is in line {first.line}")
        return word

    def _left_out(self, event: Any) -> LoadError:
        if event.anchor is not None:
            return self._refused(event, "anchors and aliases are not part of the language", "write the value out")
        if event.tag is not None:
            return self._refused(event, f"tag {event.tag} is not part of the language", "remove the tag")
        return self._refused(event, f"nested deeper than {MAX_DEPTH} levels", "write it flatter")

    def _refused(self, event: Any, message: str, mend: str) -> LoadError:
        mark = event.start_mark
        return LoadError([Problem(Place(self.name, mark.line + 1, mark.column + 1), message, mend)])


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBERS_BEGIN or _LEADING_ZERO.match(text):
        return text
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else text
    if _FLOAT.fullmatch(text):
        return number if math.isfinite(number := float(text)) else text
    return text
