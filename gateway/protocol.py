"""What a wire protocol (OpenAI, Anthropic, …) must be able to say, as plugins say it.

A `Dialect` reads a request body into a `Call`, finds the usage in answers, and writes errors in the shape its clients
expect. It does no I/O. `Route.path` is exact, or has `*` for whole segments, or ends
in `/*:verb` for a model's name with a verb behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from gateway.decision import Public, Restriction
from gateway.facts import Call, Usage

LONGEST_MODEL = 512


class Unreadable(Exception):
    """A body that is JSON but not what the protocol says; the text tells the caller what to mend."""


class Takes(StrEnum):
    """What kind of body a route reads, and so what document its `read` is given."""

    JSON = "json"
    FORM = "form"  # multipart/form-data: the fields by name; texts, and `forms.File` for files
    TEXT = "text"  # anything: {"text": …}, as far as it is UTF-8


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `read` turns the parsed body into a Call; None for routes whose body is not read.

    marked_by: a header that tells this route from the same one of another protocol, such as anthropic-version.
    """

    name: str
    method: str
    path: str
    read: Callable[[Mapping[str, Any]], Call] | None = None
    marked_by: str = ""
    takes: Takes = Takes.JSON

    def of_model(self, model: str) -> Route:
        """This route, of a path that names the model."""
        read = self.read
        return replace(self, read=lambda document: replace(read(document), model=model[:LONGEST_MODEL])) if read else self


@dataclass(frozen=True, slots=True)
class Hearing:
    """What is listened to in an answer: its text; what it issues that a later call hands back.

    content: characters of what it says, streams included, that are captured; 0 for none.
    """

    text: bool = False
    issued: bool = False
    content: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What one answer document, or one event of a stream, says, and what it issues: ids of answers, signatures of reasoning.

    finish: why the answer ended, in the protocol's words.
    """

    text: str = ""
    issued: tuple[str, ...] = ()
    finish: str = ""


class Dialect(Protocol):
    """One wire protocol.

    credential_headers: the headers that may carry the key, `(name, scheme prefix)`, tried in order.
    """

    name: str
    routes: tuple[Route, ...]
    credential_headers: tuple[tuple[str, str], ...]

    def usage(self, document: Mapping[str, Any], so_far: Usage) -> Usage:
        """Usage after one answer document: a whole JSON answer, or one event of a stream."""
        ...

    def heard(self, document: Mapping[str, Any]) -> Heard:
        """What one answer document, or event of a stream, says and issues. Only what a later call could hand back counts."""
        ...

    def restrict(self, route: str, document: dict[str, Any], restriction: Restriction) -> list[str]:
        """Take from a request body, in place, what a restriction withholds; returns what changed, such as `max_tokens=1024`."""
        ...

    def ask_for_usage(self, route: str, keys: Collection[str], raw: bytes) -> bytes | None:
        """A JSON body that asks for a stream, with the usage asked for too and nothing else changed.

        keys: its top-level keys. None where usage comes unasked, the caller asked, or it cannot be asked for.
        """
        ...

    def without_usage(self, event: bytes) -> bytes:
        """One whole event of a stream without what was sent only because we asked for usage; nothing where that is all."""
        ...

    def error(self, status: int, public: Public, reference: str) -> bytes:
        """An error body in the shape this protocol's clients parse."""
        ...

    def error_event(self, public: Public, reference: str) -> bytes:
        """The bytes that tell a client inside a running event stream that it broke."""
        ...
