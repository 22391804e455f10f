"""The door: a request head and body become `Facts`, once, the same way for every face.

JSON is read strictly: UTF-8, no duplicate keys (two readers would disagree on which one counts), no NaN, bounded depth.
What cannot be read becomes a `Cause` in the facts, never an exception: the gate answers it by the declared fail mode.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final, NoReturn

from gateway.credentials import credential_hash, presented
from gateway.facts import Call, Cause, Facts, Freshness, LookedUp
from gateway.protocol import Dialect, Route, Unreadable
from gateway.registry import Registry
from gateway.signals import View

MAX_DEPTH: Final = 100
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LONG_SEGMENT: Final = re.compile(r"[^/]{20,}")
_JSON_TYPES: Final = ("application/json", "text/json")
_NOT_YET: Final = LookedUp(None, Freshness.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and headers as the host saw them.

    path is unescaped and without query, raw_path as it was sent; header names are lower-case.
    """

    method: str
    path: str
    query: str = ""
    http_version: str = "1.1"
    headers: tuple[tuple[str, str], ...] = ()
    peer: str | None = None
    connection: str | None = None
    raw_path: str = ""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def joined(self, name: str) -> str:
        """Every value of a header as one list, lower-case: a second line must not hide behind the first."""
        return ", ".join(value.strip() for key, value in self.headers if key == name).lower()


@dataclass(frozen=True, slots=True)
class Body:
    """A request body as far as it is known. raw: its bytes; document: parsed already (a record); cause: why not read."""

    raw: bytes | None = None
    document: object = None
    size: int | None = None
    cause: Cause | None = None
    detail: str = ""


class Intake:
    """Makes facts. hash_key: the secret under which credentials are hashed; largest: most bytes a decoded body may have."""

    def __init__(self, registry: Registry, hash_key: bytes, largest: int = 32 * 2**20) -> None:
        self.registry = registry
        self.hash_key = hash_key
        self.largest = largest

    def route(self, head: Head) -> tuple[Dialect, Route] | None:
        """The protocol and route called. An escaped slash may stand inside a last segment, dot segments nowhere."""
        found = self.registry.route(head.method, head.path, head.header)
        if found is None and head.raw_path not in ("", head.path):
            found = self.registry.route(head.method, head.raw_path, head.header)
        dots = "/." in head.path and not {".", ".."}.isdisjoint(head.path.split("/"))
        return None if dots else found

    def facts(self, head: Head, body: Body, at: int, account: Mapping[str, object] | None = None) -> Facts:
        """The facts of one exchange at the time `at` (µs since 1970)."""
        found = self.route(head)
        dialect, route = found if found else (None, None)
        cause, detail, document = body.cause, body.detail, body.document
        raw = body.raw
        if route is None:
            cause = Cause.ROUTE_UNRECOGNISED
        elif cause is None and document is None and route.read is not None:
            raw, document, cause, detail = self._read(head, raw or b"")
        call, keys = None, ()
        if isinstance(document, dict):
            keys = tuple(document)
        if cause is None and route is not None and route.read is not None:
            call, detail = _call(route, document)
            cause = Cause.BODY_MALFORMED if call is None else None
        keyed = presented(head.headers, head.query, dialect)
        credential = credential_hash(keyed.digest, self.hash_key) if keyed.digest else None
        lookup = self.registry.lookup if credential and account is None else None
        return Facts(
            at=at, method=head.method, path=head.path if route else shown(head.path),
            http_version=head.http_version, headers=head.headers, peer=head.peer,
            connection=head.connection, credential=credential, credentials=keyed.different,
            protocol=dialect.name if dialect else None, route=route.name if route else None,
            template=route.path if route else None,
            size=body.size if body.size is not None else len(body.raw or b""), body=raw, keys=keys, call=call, cause=cause,
            detail=detail, account=account, looked_up=(lookup.find(credential) or _NOT_YET) if lookup and credential else None,
        )  # fmt: skip

    def must_ask(self, facts: Facts) -> bool:
        """Whether the account directory has to be asked before these facts are judged; until then it counts as unavailable."""
        return facts.looked_up is _NOT_YET

    async def look_up(self, head: Head, facts: Facts) -> Facts:
        """The facts with what the account directory says of their credential; the answer then holds for the whole exchange."""
        found, lookup = self.route(head), self.registry.lookup
        digest = presented(head.headers, head.query, found[0] if found else None).digest
        if lookup is None or facts.credential is None or digest is None:
            return facts
        network = View(facts, self.registry.signals).get("client.network")
        turn = network if isinstance(network, str) else ""
        return replace(facts, looked_up=await lookup.fetch(facts.credential, digest, turn))

    def _read(self, head: Head, raw: bytes) -> tuple[bytes | None, object, Cause | None, str]:
        kind = (head.joined("content-type") or "application/json").partition(";")[0].strip()
        if kind not in _JSON_TYPES and not kind.endswith("+json"):
            return raw, None, Cause.MEDIA_TYPE, ""
        encoding = head.joined("content-encoding") or "identity"
        if encoding != "identity":
            if encoding not in _WBITS:
                return None, None, Cause.BODY_ENCODING, ""
            try:
                raw = inflated(raw, _WBITS[encoding], self.largest)
            except zlib.error:
                return None, None, Cause.BODY_MALFORMED, f"the {encoding} data is broken"
            except OverflowError:
                return None, None, Cause.BODY_TOO_LARGE, ""
        try:
            return raw, strict_json(raw), None, ""
        except Unreadable as error:
            return raw, None, Cause.BODY_MALFORMED, str(error)


def shown(path: str) -> str:
    """A path that nobody knows, as it may be kept: long segments are left out, because keys get into paths by mistake."""
    return _LONG_SEGMENT.sub("…", path)


def _call(route: Route, document: object) -> tuple[Call | None, str]:
    if not isinstance(document, dict):
        return None, "it must be a JSON object"
    try:
        return route.read(document) if route.read else None, ""
    except Unreadable as error:
        return None, str(error)


def inflated(data: bytes, wbits: int, largest: int) -> bytes:
    """Decompressed data of at most `largest` bytes. Raises OverflowError beyond, zlib.error for broken data.

    Anything behind the end is an error: the upstream might read on where we stopped.
    """
    machine = zlib.decompressobj(wbits)
    out = machine.decompress(data, largest + 1)
    if len(out) > largest:
        raise OverflowError
    if not machine.eof or machine.unused_data:
        raise zlib.error("cut off, or more behind its end")
    return out


def strict_json(raw: bytes) -> Any:
    """The value of a JSON text. Raises Unreadable, saying what is wrong and where."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Unreadable(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        raise Unreadable("a number in it has too many digits") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Unreadable(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Unreadable(f"the key '{twice[:80]}' stands twice in one object")
    return found


def _number(text: str) -> float:
    found = float(text)
    if not isfinite(found):
        raise Unreadable(f"the number {text[:40]} in it is too large")
    return found


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH + 1:
        depth += 1
        children: list[Any] = []
        for item in level:
            inner = item.values() if isinstance(item, dict) else item
            children += [child for child in inner if isinstance(child, (dict, list))] if isinstance(item, (dict, list)) else []
        level = children
    return depth
