"""What a wire protocol (OpenAI, Anthropic, …) must be able to say, as plugins say it.

A `Dialect` reads a request body into a `Call`, finds the usage in answers, and writes errors in the shape its clients
expect. It does no I/O. `Route.path` is exact, or ends in `/*` for one last segment,
or in `/*:verb` for a model's name with a verb behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.decision import Public, Restriction
from gateway.facts import Call, Usage

LONGEST_MODEL = 512


class Unreadable(Exception):
    """A body that is JSON but not what the protocol says; the text tells the caller what to mend."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `read` turns the parsed body into a Call; None for routes without a body.

    marked_by: a header that tells this route from the same one of another protocol, such as anthropic-version.
    """

    name: str
    method: str
    path: str
    read: Callable[[Mapping[str, Any]], Call] | None = None
    marked_by: str = ""

    def of_model(self, model: str) -> Route:
        """This route, of a path that names the model."""
        read = self.read
        return replace(self, read=lambda document: replace(read(document), model=model[:LONGEST_MODEL])) if read else self


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

    def restrict(self, route: str, document: dict[str, Any], restriction: Restriction) -> list[str]:
        """Take from a request body, in place, what a restriction withholds; returns what changed, such as `max_tokens=1024`."""
        ...

    def error(self, status: int, public: Public, reference: str) -> bytes:
        """An error body in the shape this protocol's clients parse."""
        ...

    def error_event(self, public: Public, reference: str) -> bytes:
        """The bytes that tell a client inside a running event stream that it broke."""
        ...
