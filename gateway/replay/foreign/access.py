"""Access logs of nginx (`escape=json`) and Envoy (`json_format`), one request a line. A field with `-` or nothing: none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gateway.errors import Place
from gateway.facts import End
from gateway.replay.exchange import Exchange
from gateway.replay.foreign.fields import Fields, Log, Names
from gateway.replay.foreign.partial import Told, exchange
from gateway.replay.making import Maker
from gateway.values import parse_timestamp

Entry = Mapping[str, Any]
_ABSENT: Final = ("", "-", None)
_FACTS: Final = ("method", "path", "http_version", "peer", "connection", "size")
_TOKENS: Final = ("input_tokens", "output_tokens")
_GONE: Final = 499  # nginx's status for a client that left before it was answered


def of_nginx(entry: Entry, fields: Fields) -> bool:
    """Whether an entry is a line of nginx's."""
    return _is_one(entry, fields.nginx)


def of_envoy(entry: Entry, fields: Fields) -> bool:
    """Whether an entry is a line of Envoy's."""
    return _is_one(entry, fields.envoy) and any(name in entry for name in fields.envoy.told["status"])


def nginx(entry: Entry, place: Place, maker: Maker) -> Iterator[Exchange]:
    """The exchange of a line of nginx's. Raises ValueError."""
    yield _exchange(entry, maker.fields.nginx, place, maker)


def envoy(entry: Entry, place: Place, maker: Maker) -> Iterator[Exchange]:
    """The exchange of a line of Envoy's. Raises ValueError."""
    yield _exchange(entry, maker.fields.envoy, place, maker)


def _is_one(entry: Entry, log: Log) -> bool:
    def holds(meaning: str) -> bool:
        return any(name in entry for name in log.told.get(meaning, ()))

    return holds("at") and (holds("method") or holds("request"))


def _exchange(entry: Entry, log: Log, place: Place, maker: Maker) -> Exchange:
    told = _read(entry, log.told)
    facts: dict[str, Any] = {**_request(told.get("request")), **{name: told[name] for name in _FACTS if name in told}}
    for name, read in _AS.items():
        if facts.get(name) is not None:
            facts[name] = read(facts[name])
    if facts.get("size", "") is None:
        del facts["size"]  # no length was sent: there may be a body all the same
    status = None if told.get("status") in (None, "0", 0) else int(told["status"])
    account = {name: _text(told[key]) for name, key in (("id", "account"), ("org", "org")) if told.get(key) is not None}
    found = Told(
        at=parse_timestamp(_number(told["at"])), id=_text(told.get("id")), facts=facts, headers=_read(entry, log.headers),
        account=account or None, call={"model": told["model"]} if told.get("model") is not None else None,
        usage={name: int(told[name]) for name in _TOKENS if told.get(name) is not None},
        answer={"status": status} if "status" in told else {}, label=told.get("label"),
        end=End.CLIENT_GONE if status == _GONE else End.COMPLETE,
    )  # fmt: skip
    return exchange(found, place, maker)


def _read(entry: Entry, names: Mapping[str, Names]) -> dict[str, Any]:
    """What a line holds, by what it tells: the first of the fields that is there."""
    found = {}
    for meaning, fields in names.items():
        if name := next((name for name in fields if name in entry), None):
            found[meaning] = None if entry[name] in _ABSENT else entry[name]
    return found


def _request(line: object) -> dict[str, Any]:
    """What a request line says; one that is no HTTP says nothing."""
    parts = line.split(" ") if isinstance(line, str) else []
    return dict(zip(("method", "path", "http_version"), parts, strict=True)) if len(parts) == 3 else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object) -> object:
    """A time as it is written: nginx's seconds stand in quotes in many a format."""
    return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value


def _host(value: object) -> str:
    """An address without its port."""
    text = str(value)
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


_AS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "method": str, "path": str, "http_version": lambda value: str(value).removeprefix("HTTP/"), "peer": _host,
    "connection": str, "size": int,
}  # fmt: skip
