"""Shapes: what a YAML node must look like, stated once, as tables.

Every mapping the project reads (packs, rule tests, gateway.yaml, directories) is described by `Field`s; reading,
«did you mean», documentation and JSON Schema come from the same table. Reading never raises for what is wrong in a node: it
adds to `Problems` and returns None, so that all errors of a file are reported at once.

A `Shape` carries the JSON Schema (2020-12) of what it accepts. Where code decides (a converter, a reader of its own) the
schema names that code under `BEHIND`, and `filled` writes out what is known of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.errors import LoadError, Place, Problem, did_you_mean
from gateway.strict.document import Node

LARGEST: Final = 2**53
MAX_PROBLEMS: Final = 1_000
MAX_MESSAGE: Final = 1_000
Read = Callable[[Node, "Problems"], Any]
Schema = dict[str, Any]
BEHIND: Final = "$behind"
VISIBLE: Final = re.compile(r"[^\s\u200b-\u200f\u2060\ufeff]")
SCALAR: Final[Schema] = {"type": ["string", "number", "boolean"]}


@dataclass(slots=True)
class Problems:
    """Problems gathered while reading. raises: what is raised when there are too many of them to go on (MAX_PROBLEMS)."""

    found: list[Problem] = field(default_factory=list)
    raises: type[LoadError] = LoadError

    def add(self, place: Place, message: str, mend: str = "") -> None:
        self.found.append(Problem(place, _short(message), _short(mend)))
        if len(self.found) >= MAX_PROBLEMS:
            raise self.raises(
                [*self.found, Problem(Place(place.path), f"has {MAX_PROBLEMS} problems or more", "mend these first")]
            )


def _short(text: str) -> str:
    """A text that repeats what was written, cut in its middle."""
    half = MAX_MESSAGE // 2
    return text if len(text) <= MAX_MESSAGE else f"{text[:half]}…{text[-half:]}"


@dataclass(frozen=True, slots=True)
class Shape:
    """A reader that knows what it accepts. fields: of a mapping with exactly these keys; each: of what free names stand for."""

    read: Read
    schema: Schema
    fields: Mapping[str, Field] = field(default_factory=dict)
    each: Read | None = None

    def __call__(self, node: Node, problems: Problems) -> Any:
        return self.read(node, problems)


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a mapping: how its value is read, whether it must be there, what it means."""

    read: Read
    required: bool = False
    default: Any = None
    doc: str = ""

    @property
    def schema(self) -> Schema:
        """What the value may be, with what it means."""
        inner = schema_of(self.read)
        return {"description": self.doc, **inner} if self.doc else inner


def schema_of(read: Read) -> Schema:
    """The schema of a reader; a plain function says nothing of itself."""
    return read.schema if isinstance(read, Shape) else {BEHIND: read}


def object_schema(fields: Mapping[str, Field]) -> Schema:
    """The schema of a mapping with exactly these keys."""
    needed = [key for key, spec in fields.items() if spec.required]
    properties = {key: spec.schema for key, spec in fields.items()}
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": needed} if needed else {})


def filled(schema: Any, known: Mapping[Any, Schema]) -> Any:
    """A schema in which what is `known` of the code behind it is written out; of other code nothing more is demanded."""
    if isinstance(schema, dict):
        plain = {key: filled(value, known) for key, value in schema.items() if key != BEHIND}
        return plain | known.get(schema.get(BEHIND), {})
    return [filled(item, known) for item in schema] if isinstance(schema, list) else schema


def mapping(fields: Mapping[str, Field], what: str) -> Shape:
    """A mapping with exactly these keys; returns a dict with every key, defaults filled in."""

    def read(node: Node, problems: Problems) -> dict[str, Any] | None:
        if not isinstance(node.value, dict):
            problems.add(node.place, f"{what} must be a mapping, not {node.kind}")
            return None
        known = list(fields)
        for key in node.value:
            if key not in fields:
                problems.add(node.value[key].named, f"unknown key '{key}' in {what}", did_you_mean(key, known))
        values = {}
        for key, spec in fields.items():
            if key in node.value:
                values[key] = spec.read(node.value[key], problems)
            else:
                values[key] = spec.default
                if spec.required:
                    problems.add(node.place, f"{what} needs '{key}'", spec.doc)
        return values

    return Shape(read, object_schema(fields), fields)


def listing(item: Read, what: str, empty: bool = True) -> Shape:
    """A list, each item read by `item`; unreadable items are left out."""

    def read(node: Node, problems: Problems) -> list[Any]:
        if not isinstance(node.value, list):
            problems.add(node.place, f"{what} must be a list, not {node.kind}")
            return []
        if not node.value and not empty:
            problems.add(node.place, f"{what} is empty")
        values = [item(child, problems) for child in node.value]
        return [value for value in values if value is not None]

    return Shape(read, {"type": "array", "items": schema_of(item)} | ({} if empty else {"minItems": 1}))


def entries(item: Read, what: str) -> Shape:
    """A mapping of free names to values of one shape."""

    def read(node: Node, problems: Problems) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            problems.add(node.place, f"{what} must be a mapping, not {node.kind}")
            return {}
        values = {key: item(child, problems) for key, child in node.value.items()}
        return {key: value for key, value in values.items() if value is not None}

    return Shape(read, {"type": "object", "additionalProperties": schema_of(item)}, each=item)


def scalar(convert: Callable[[Any], Any], what: str, schema: Schema | None = None) -> Shape:
    """A scalar that `convert` turns into its value; its ValueError becomes the problem's text."""

    def read(node: Node, problems: Problems) -> Any:
        if isinstance(node.value, (dict, list)) or node.value is None:
            problems.add(node.place, f"{what} must be a single value, not {node.kind}")
            return None
        try:
            return convert(node.value)
        except ValueError as error:
            problems.add(node.place, f"{what}: {error}")
            return None

    return Shape(read, schema or {**SCALAR, BEHIND: convert})


def one_or_more(single: Read, entry: Read, what: str) -> Shape:
    """A single value, or a list of such values and of mappings; returns a list of what was read."""

    def each(node: Node, problems: Problems) -> Any:
        return (entry if isinstance(node.value, dict) else single)(node, problems)

    several = listing(Shape(each, {"anyOf": [schema_of(single), schema_of(entry)]}), what, empty=False)

    def read(node: Node, problems: Problems) -> list[Any]:
        if isinstance(node.value, list):
            return several(node, problems)  # type: ignore[no-any-return]
        found = single(node, problems)
        return [] if found is None else [found]

    return Shape(read, {"anyOf": [schema_of(single), several.schema]})


def one_or_mapping(single: Read, key: str, fields: Mapping[str, Field], what: str) -> Shape:
    """A mapping with these keys, or the value of one of them alone; returns a dict with every key, defaults filled in."""
    whole_of = mapping(fields, what)

    def read(node: Node, problems: Problems) -> dict[str, Any] | None:
        if isinstance(node.value, dict):
            return whole_of(node, problems)  # type: ignore[no-any-return]
        return {name: one.default for name, one in fields.items()} | {key: single(node, problems)}

    return Shape(read, {"anyOf": [schema_of(single), whole_of.schema]})


def text(what: str, longest: int = 2_000) -> Shape:
    """Text of at most `longest` characters, of which at least one can be seen."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text; put it in quotes")
        if len(value) > longest:
            raise ValueError(f"longer than {longest} characters")
        if not VISIBLE.search(value):
            raise ValueError(f"{value!r} is blank; write a text")
        return value

    return scalar(convert, what, {"type": "string", "maxLength": longest, "pattern": VISIBLE.pattern})


def whole(what: str, low: int = 0, high: int = LARGEST) -> Shape:
    """A whole number between `low` and `high`."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            span = f"from {low} to {high}" if high < LARGEST else f"of {low} or more"
            raise ValueError(f"{value!r} is not a whole number {span}")
        return value

    return scalar(convert, what, {"type": "integer", "minimum": low, "maximum": high})


def number(what: str, low: float, high: float) -> Shape:
    """A number between `low` and `high`."""

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a number from {low:g} to {high:g}")
        return float(value)

    return scalar(convert, what, {"type": "number", "minimum": low, "maximum": high})


def flag(what: str) -> Shape:
    """true or false."""

    def convert(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not true or false")
        return value

    return scalar(convert, what, {"type": "boolean"})


def one_of(kind: type[StrEnum], what: str) -> Shape:
    """A word of an enumeration."""
    words = [str(member) for member in kind]

    def convert(value: Any) -> StrEnum:
        if value not in words:
            hint = did_you_mean(str(value), words)
            raise ValueError(f"{value!r} is none of {', '.join(words)}" + (f"; {hint}" if hint.startswith("did") else ""))
        return kind(value)

    return scalar(convert, what, {"enum": words})


def path(what: str) -> Shape:
    """A file path, relative to the file it is written in."""
    written = text(what)

    def read(node: Node, problems: Problems) -> Path | None:
        value = written(node, problems)
        return Path(node.file).parent / value if value is not None else None

    return Shape(read, written.schema)


def placed(shape: Read) -> Shape:
    """The value together with its node, for checks that come later and must know the place."""

    def read(node: Node, problems: Problems) -> tuple[Any, Node] | None:
        before = len(problems.found)
        value = shape(node, problems)
        return None if value is None and len(problems.found) > before else (value, node)

    return Shape(read, schema_of(shape))


def raw(node: Node, problems: Problems) -> Node:
    """The node itself, for a reader of its own."""
    return node
