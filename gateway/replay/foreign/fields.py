"""Which field of an access log tells what. Every log is written with fields of its own, so the tables can be written anew.

`DEFAULTS` are the names of nginx's variables, and those of Envoy's and Istio's JSON examples. A file for `--fields` says what
differs: per program, what is told (`MEANINGS`) and the fields that tell it, of which the first counts; `headers` by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.errors import LoadError
from gateway.strict.document import read
from gateway.strict.shapes import Field, Problems, entries, mapping, one_or_more, text

Names = tuple[str, ...]
MEANINGS: Final = {
    "at": "when: seconds since 1970, or RFC 3339",
    "id": "the request's own id",
    "request": "method, path and version in one, as nginx's `request`",
    "method": "the method",
    "path": "the path; what follows `?` is left out",
    "http_version": "such as `HTTP/1.1`",
    "peer": "the other end of the connection, with or without its port",
    "connection": "an id that is the same for all requests of one connection",
    "account": "who is charged",
    "org": "who owns the account",
    "size": "bytes of the request body",
    "status": "the status that was answered",
    "model": "the model asked for",
    "input_tokens": "tokens of the request",
    "output_tokens": "tokens of the answer",
    "label": "the class it belongs to",
}


@dataclass(frozen=True, slots=True)
class Log:
    """The fields of one program's log. told: by what they tell (`MEANINGS`); headers: by the header's name, lower-case."""

    told: Mapping[str, Names]
    headers: Mapping[str, Names]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of each program's access log."""

    nginx: Log = field(
        default=Log(
            {
                "at": ("msec", "time_iso8601"), "id": ("request_id",), "request": ("request",), "method": ("request_method",),
                "path": ("request_uri", "uri"), "http_version": ("server_protocol",), "peer": ("remote_addr",),
                "connection": ("connection",), "account": ("remote_user",), "size": ("content_length", "http_content_length"),
                "status": ("status",),
            },
            {"user-agent": ("http_user_agent",), "x-forwarded-for": ("http_x_forwarded_for",)},
        )
    )  # fmt: skip
    envoy: Log = field(
        default=Log(
            {
                "at": ("start_time",), "id": ("request_id",), "method": ("method",), "path": ("path",),
                "http_version": ("protocol",), "peer": ("downstream_direct_remote_address", "downstream_remote_address"),
                "connection": ("connection_id",), "size": ("bytes_received",), "status": ("response_code",),
            },
            {"user-agent": ("user_agent",), "x-forwarded-for": ("x_forwarded_for",)},
        )
    )  # fmt: skip


DEFAULTS: Final = Fields()
_NAMES: Final = one_or_more(text("a field"), text("a field"), "fields")
_LOG: Final = mapping(
    {name: Field(_NAMES, doc=meaning) for name, meaning in MEANINGS.items()}
    | {"headers": Field(entries(_NAMES, "headers"), default={}, doc="fields that hold a request header, by its name")},
    "the fields of a log",
)
_FILE: Final = {name: Field(_LOG, doc=f"the fields of {name}'s access log") for name in ("nginx", "envoy")}


def read_fields(path: Path) -> Fields:
    """What a file says, before the defaults. Raises LoadError with every problem in it."""
    problems = Problems()
    given = mapping(_FILE, "a file of fields")(read(path), problems)
    if problems.found:
        raise LoadError(problems.found)
    return Fields(*(_over(getattr(DEFAULTS, name), given[name]) if given and given[name] else getattr(DEFAULTS, name)
                    for name in _FILE))  # fmt: skip


def _over(log: Log, given: Mapping[str, Any]) -> Log:
    told = {name: tuple(names) for name, names in given.items() if name in MEANINGS and names}
    headers = {name.lower(): tuple(names) for name, names in given["headers"].items()}
    return Log({**log.told, **told}, {**log.headers, **headers})
