"""Shapes: what a YAML node must look like, stated once, as tables.

Every mapping the project reads (packs, rule tests, gateway.yaml, directories) is described by `Field`s; reading,
«did you mean», and documentation come from the same table. A shape's `read` never raises: it adds to `Problems` and
returns None, so that all errors of a file are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.errors import Place, Problem, did_you_mean
from gateway.strict.document import Node

LARGEST: Final = 2**53
Read = Callable[[Node, "Problems"], Any]


@dataclass(slots=True)
class Problems:
    """Problems gathered while reading."""

    found: list[Problem] = field(default_factory=list)

    def add(self, place: Place, message: str, mend: str = "") -> None:
        self.found.append(Problem(place, message, mend))


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a mapping: how its value is read, whether it must be there, what it means."""

    read: Read
    required: bool = False
    default: Any = None
    doc: str = ""


def mapping(fields: Mapping[str, Field], what: str) -> Read:
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

    return read


def listing(item: Read, what: str, empty: bool = True) -> Read:
    """A list, each item read by `item`; unreadable items are left out."""

    def read(node: Node, problems: Problems) -> list[Any]:
        if not isinstance(node.value, list):
            problems.add(node.place, f"{what} must be a list, not {node.kind}")
            return []
        if not node.value and not empty:
            problems.add(node.place, f"{what} is empty")
        values = [item(child, problems) for child in node.value]
        return [value for value in values if value is not None]

    return read


def entries(item: Read, what: str) -> Read:
    """A mapping of free names to values of one shape."""

    def read(node: Node, problems: Problems) -> dict[str, Any]:
        if not isinstance(node.value, dict):
            problems.add(node.place, f"{what} must be a mapping, not {node.kind}")
            return {}
        values = {key: item(child, problems) for key, child in node.value.items()}
        return {key: value for key, value in values.items() if value is not None}

    return read


def scalar(convert: Callable[[Any], Any], what: str) -> Read:
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

    return read


def text(what: str, longest: int = 2_000) -> Read:
    """Text of at most `longest` characters."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text; put it in quotes")
        if len(value) > longest:
            raise ValueError(f"longer than {longest} characters")
        return value

    return scalar(convert, what)


def whole(what: str, low: int = 0, high: int = LARGEST) -> Read:
    """A whole number between `low` and `high`."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            span = f"from {low} to {high}" if high < LARGEST else f"of {low} or more"
            raise ValueError(f"{value!r} is not a whole number {span}")
        return value

    return scalar(convert, what)


def number(what: str, low: float, high: float) -> Read:
    """A number between `low` and `high`."""

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a number from {low:g} to {high:g}")
        return float(value)

    return scalar(convert, what)


def flag(what: str) -> Read:
    """true or false."""

    def convert(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not true or false")
        return value

    return scalar(convert, what)


def one_of(kind: type[StrEnum], what: str) -> Read:
    """A word of an enumeration."""

    def convert(value: Any) -> StrEnum:
        words = [str(member) for member in kind]
        if value not in words:
            hint = did_you_mean(str(value), words)
            raise ValueError(f"{value!r} is none of {', '.join(words)}" + (f"; {hint}" if hint.startswith("did") else ""))
        return kind(value)

    return scalar(convert, what)


def path(what: str) -> Read:
    """A file path, relative to the file it is written in."""

    def read(node: Node, problems: Problems) -> Path | None:
        value = text(what)(node, problems)
        return Path(node.place.path).parent / value if value is not None else None

    return read


def placed(shape: Read) -> Read:
    """The value together with its node, for checks that come later and must know the place."""

    def read(node: Node, problems: Problems) -> tuple[Any, Node] | None:
        before = len(problems.found)
        value = shape(node, problems)
        return None if value is None and len(problems.found) > before else (value, node)

    return read


def raw(node: Node, problems: Problems) -> Node:
    """The node itself, for a reader of its own."""
    return node
