"""The door: a request head and body become `Facts`, once, the same way for every face.

JSON is read strictly (`gateway.jsontext`), forms likewise (`gateway.forms`).
What cannot be read becomes a `Cause` in the facts, never an exception: the gate answers it by the declared fail mode.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gateway.credentials import KEY_BEGIN, SHORTEST_KEY, Presented, credential_hash, presented, without_keys
from gateway.facts import Call, Cause, Facts, Freshness, LookedUp
from gateway.forms import read_form
from gateway.jsontext import strict_json
from gateway.protocol import Dialect, Route, Takes, Unreadable
from gateway.registry import Registry
from gateway.signals import View

_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LONG: Final = 20
_KEPT_OUT: Final = re.compile(rf"[^/]{{{_LONG},}}|(?=[^/]{{{SHORTEST_KEY},}})[^/]*?{KEY_BEGIN}[^/]*")
_JSON_TYPES: Final = ("application/json", "text/json")
NO_SOCKETS: Final = "WebSockets are not carried here; use the HTTP API with stream: true"
_TYPES: Final = {Takes.JSON: "application/json", Takes.FORM: "multipart/form-data"}
_NOT_YET: Final = LookedUp(None, Freshness.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and headers as the host saw them.

    path is unescaped and without query, raw_path as it was sent; header names are lower-case. scheme: of the connection itself,
    whatever proxies before it spoke.
    """

    method: str
    path: str
    query: str = ""
    http_version: str = "1.1"
    headers: tuple[tuple[str, str], ...] = ()
    peer: str | None = None
    connection: str | None = None
    raw_path: str = ""
    scheme: str = "http"

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def joined(self, name: str) -> str:
        """Every value of a header as one list, lower-case: a second line must not hide behind the first."""
        return ", ".join(value.strip() for key, value in self.headers if key == name).lower()


class Body(NamedTuple):
    """A request body as far as it is known. raw: its bytes; document: parsed already (a record); cause: why not read."""

    raw: bytes | None = None
    document: object = None
    size: int | None = None
    cause: Cause | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a head tells by lines that every request of its sender has alike, so that it is worked out once (`heads`).

    found: the protocol and route called, None where nobody knows them; path: as it may be kept; credential: the keyed hash of
    the key that `keyed` found; names: of its headers; types: each Content-Type, and `kind` the media type they name; encoding:
    of the body; socket: whether it asks for a WebSocket; waits: for leave to send the body; upgrades: to another protocol.
    """

    found: tuple[Dialect, Route] | None
    path: str
    keyed: Presented
    credential: str | None
    names: frozenset[str]
    types: tuple[str, ...]
    kind: str
    encoding: str
    socket: bool
    waits: bool
    upgrades: bool


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

    def told(self, head: Head) -> Told:
        """What a head tells before its body is here."""
        found = self.route(head)
        keyed = presented(head.headers, head.query, found[0] if found else None)
        offer = head.joined("upgrade")
        return Told(
            found=found, path=without_keys(head.path) if found else shown(head.path), keyed=keyed,
            credential=credential_hash(keyed.digest, self.hash_key) if keyed.digest else None,
            names=frozenset([name for name, _ in head.headers]),
            types=tuple([value for name, value in head.headers if name == "content-type"]),
            kind=(head.joined("content-type") or "application/json").partition(";")[0].strip(),
            encoding=head.joined("content-encoding") or "identity", socket="websocket" in offer,
            waits=(head.header("expect") or "").lower() == "100-continue", upgrades=bool(offer),
        )  # fmt: skip

    def facts(
        self, head: Head, body: Body, at: int, account: Mapping[str, object] | None = None, told: Told | None = None
    ) -> Facts:
        """The facts of one exchange at the time `at` (µs since 1970). told: what its head tells, where that is known."""
        if told is None:
            told = self.told(head)
        dialect, route = told.found or (None, None)
        raw, document, size, cause, detail = body.raw, body.document, body.size, body.cause, body.detail
        reads = route is not None and route.read is not None
        if route is None:
            cause, detail = Cause.ROUTE_UNRECOGNISED, NO_SOCKETS if told.socket else ""
        elif cause is None and document is None and reads:
            raw, document, cause, detail = self._read(told, raw or b"", route.takes)
        call = None
        keys = tuple(document) if isinstance(document, dict) else ()
        if cause is None and reads and route is not None:
            call, detail = _call(route, document)
            cause = Cause.BODY_MALFORMED if call is None else None
        lookup = self.registry.lookup if told.credential and account is None else None
        return Facts(
            at=at, method=head.method, path=told.path,
            http_version=head.http_version, headers=head.headers, peer=head.peer,
            connection=head.connection, scheme=head.scheme, credential=told.credential, credentials=told.keyed.different,
            protocol=dialect.name if dialect else None, route=route.name if route else None,
            template=route.path if route else None,
            size=size if size is not None else len(body.raw or b""), body=raw, keys=keys, call=call, cause=cause,
            detail=detail, account=account,
            looked_up=(lookup.find(told.credential) or _NOT_YET) if lookup and told.credential else None,
        )  # fmt: skip

    def must_ask(self, facts: Facts) -> bool:
        """Whether the account directory has to be asked before these facts are judged; until then it counts as unavailable."""
        return facts.looked_up is _NOT_YET

    async def look_up(self, head: Head, facts: Facts) -> Facts:
        """The facts with what the account directory says of their credential; the answer then holds for the whole exchange."""
        lookup, digest = self.registry.lookup, self.told(head).keyed.digest
        if lookup is None or facts.credential is None or digest is None:
            return facts
        network = View(facts, self.registry.signals).get("client.network")
        turn = network if isinstance(network, str) else ""
        return replace(facts, looked_up=await lookup.fetch(facts.credential, digest, turn))

    def _read(self, told: Told, raw: bytes, takes: Takes) -> tuple[bytes | None, object, Cause | None, str]:
        """The bytes of a JSON body as decoded, None for others, which no signal reads as JSON; the document; what is wrong."""
        types, encoding = told.types, told.encoding
        if takes is not Takes.TEXT and (not _fits(told.kind, takes) or (takes is Takes.FORM and len(types) != 1)):
            return raw if takes is Takes.JSON else None, None, Cause.MEDIA_TYPE, f"send it as {_TYPES[takes]}"
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
            if takes is Takes.JSON:
                return raw, strict_json(raw), None, ""
            form = read_form(types[0], raw) if takes is Takes.FORM else {"text": _text(raw)}
            return None, form, None, ""
        except Unreadable as error:
            return raw if takes is Takes.JSON else None, None, Cause.BODY_MALFORMED, str(error)


def _fits(kind: str, takes: Takes) -> bool:
    return kind == _TYPES[takes] or (takes is Takes.JSON and (kind in _JSON_TYPES or kind.endswith("+json")))


def _text(raw: bytes) -> str:
    """The text of a body, as far as it is any: what is binary is not."""
    return raw.decode("utf-8", "replace") if b"\0" not in raw else ""


def shown(path: str) -> str:
    """A path that nobody knows, as it may be kept.

    Segments that are long, or as long as the shortest keys and with their beginnings in them, are left out, because keys get
    into paths by mistake. Of a known route's path only what looks like a key is: names in it are long, too.
    """
    return _KEPT_OUT.sub("…", path)


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
