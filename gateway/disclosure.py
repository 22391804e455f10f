"""Secrets that stand elsewhere: in gateway.yaml `{env: NAME}` or `{file: PATH}` may stand in place of a value that is one.

The value is read once, before all else is, and stands in the tree where it was named. It is a text whose repr does not show it,
because messages about wrong values repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.errors import LoadError
from gateway.strict.document import Node, contents
from gateway.strict.shapes import Problems

SECRETS: Final = (
    ("state", "url"), ("identity", "directory"), ("upstreams", "*", "proxy"), ("audit", "sign"),
    ("audit", "otlp", "headers", "*"), ("admin", "tokens", "*", "token"),
)  # fmt: skip
LARGEST: Final = 2**16
_WAYS: Final = ("env", "file")
_MEND: Final = "write {env: NAME} or {file: PATH}"


class Disclosed(str):
    """A secret that was read from elsewhere. origin: where."""

    __slots__ = ("origin",)

    origin: str

    def __repr__(self) -> str:
        return "'***'"


def disclosed(node: Node, environ: Mapping[str, str], problems: Problems) -> Node:
    """The tree of a gateway.yaml with its secrets in place. What cannot be read is reported, and left out."""
    for way in SECRETS:
        node = _put(node, way, environ, problems)
    return node


def _put(node: Node, way: tuple[str, ...], environ: Mapping[str, str], problems: Problems) -> Node:
    if not isinstance(node.value, dict):
        return node
    if not way:
        found = _read(node, environ, problems)
        return replace(node, value=found)
    below = dict(node.value)
    for key in _keys(below, way[0]):
        child = _put(below[key], way[1:], environ, problems)
        if child.value is None and below[key].value is not None:
            del below[key]
        else:
            below[key] = child
    return replace(node, value=below)


def _keys(below: Mapping[str, Node], step: str) -> Iterator[str]:
    yield from (key for key in list(below) if step in ("*", key))


def _read(node: Node, environ: Mapping[str, str], problems: Problems) -> Disclosed | None:
    """The secret that a mapping names; None where it names none that is there."""
    assert isinstance(node.value, dict)
    ways = [key for key in node.value if key in _WAYS]
    if len(node.value) != 1 or not ways or not isinstance(named := node.value[ways[0]].value, str) or not named:
        problems.add(node.place, "a secret that stands elsewhere has one place", _MEND)
        return None
    if ways[0] == "env":
        if not (text := environ.get(named, "")):
            problems.add(node.place, f"there is no environment variable {named}, or it is empty", "set it before the start")
            return None
        origin = f"environment variable {named}"
    else:
        file = Path(node.file).parent / named
        try:
            text = contents(file, LARGEST).decode().strip()
        except UnicodeDecodeError:
            problems.add(node.place, f"{file} is not text", "write the value alone into it, as UTF-8")
            return None
        except LoadError as error:
            problems.found += error.problems
            return None
        if not text:
            problems.add(node.place, f"{file} is empty", "write the value alone into it")
            return None
        origin = f"file {file}"
    found = Disclosed(text)
    found.origin = origin
    return found
