"""Captures: requests as they were sent (`ts`, `path`, `headers`, `body` or `body_raw`, …); their signals are computed anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import Place, did_you_mean
from gateway.facts import LONGEST_SAID, Answer, Cause, End, Usage
from gateway.replay.exchange import Exchange, identity
from gateway.replay.making import Maker
from gateway.signals import Catalogue
from gateway.values import parse_timestamp
from gateway.web.intake import Body, Head, Intake


def capture(entry: Mapping[str, Any], place: Place, maker: Maker) -> Iterator[Exchange]:
    """The exchange of a capture. Raises what a part of the wrong kind raises, and UnansweredError."""
    intake = maker.intake
    path, _, query = str(entry["path"]).partition("?")
    connection = entry.get("conn")
    if connection is not None and "run" in entry:
        connection = f"{entry['run']}:{connection}"
    head = Head(
        method=str(entry["method"]), path=path, query=query,
        http_version=str(entry.get("http_version", "1.1")).removeprefix("HTTP/"),
        headers=tuple((str(name).lower(), str(value)) for name, value in entry["headers"]),
        peer=entry.get("client_ip"), connection=str(connection) if connection is not None else None,
    )  # fmt: skip
    raw = entry["body_raw"].encode("utf-8", "surrogateescape") if isinstance(entry.get("body_raw"), str) else None
    document = None if raw is not None else entry.get("body")
    size = len(raw) if raw is not None else int(head.header("content-length") or 0)
    at, account = parse_timestamp(entry["ts"]), _account(entry, maker.catalogue)
    cause = Cause.BODY_TOO_LARGE if size > intake.largest else None
    facts = intake.facts(head, Body(raw=raw, document=document, size=size, cause=cause), at, account)
    facts = maker.looked_up(head, facts, place)
    label, scenario = entry.get("label"), entry.get("scenario")
    yield Exchange(place, identity(place, entry["ts"]), facts, _answer(entry, head, intake), label, scenario)


def _account(entry: Mapping[str, Any], catalogue: Catalogue) -> Mapping[str, object] | None:
    """The account a capture states: an id or a mapping of `account.*`; else its client and upstream key make one."""
    given = entry.get("account")
    if isinstance(given, Mapping):
        named = {str(name).removeprefix("account."): value for name, value in given.items()}
        return {name: account_value(name, value, catalogue) for name, value in named.items()}
    if given is not None:
        return {"id": str(given)}
    if "client" in entry:
        key = entry.get("upstream_key")
        return {"id": str(entry["client"]) if key is None else f"{entry['client']}#{key}"}
    return None


def account_value(name: str, value: object, catalogue: Catalogue) -> object:
    """The value of `account.NAME` as its type reads it. Raises ValueError."""
    if name == "created":
        return parse_timestamp(value)
    signal = catalogue.get(f"account.{name}")
    if signal is None:
        known = [known.removeprefix("account.") for known in catalogue if known.startswith("account.")]
        raise ValueError(f"unknown account value '{name}'; {did_you_mean(name, known)}")
    return signal.type.parse(value)


def _answer(entry: Mapping[str, Any], head: Head, intake: Intake) -> Answer:
    response = entry.get("response") or {}
    usage = response.get("usage")
    found = intake.route(head)
    used = found[0].usage({"usage": usage}, Usage()) if found and isinstance(usage, dict) else Usage()
    status, end = response.get("status", entry.get("status")), End(response.get("end", "complete"))
    said, issued = response.get("text", entry.get("resp")), response.get("issued")
    return Answer(
        status=status, usage=used, end=end, model=response.get("model"),
        said=said[:LONGEST_SAID] if isinstance(said, str) else "",
        issued=tuple(one for one in issued if isinstance(one, str)) if isinstance(issued, list) else (),
    )  # fmt: skip
