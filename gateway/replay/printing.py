"""Texts as a terminal takes them: wrapped, cut, coloured by their kind, and unable to do anything to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from textwrap import wrap
from typing import Any, Final

Paint = Callable[[str, str], str]
WIDTH: Final = 128
_LABEL: Final = 18
_LONGEST: Final = 1_000


def plain(text: str, kind: str) -> str:
    """No colour."""
    return text


def printable(value: Any) -> Any:
    """A tree whose texts can do nothing to a terminal: callers choose some of them (models, paths)."""
    if isinstance(value, Mapping):
        return {key: printable(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(below) for below in value]
    if not isinstance(value, str):
        return value
    cut = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def wrapped(line: str, indent: int = _LABEL) -> Iterable[str]:
    """A line in lines of at most `WIDTH` columns where its words allow it; all but the first are indented."""
    return wrap(
        line, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )
