"""The sections of gateway.yaml: what may be written there, and how each literal is read.

Shapes and literals only; what follows from them (files that must be there, keys, defaults that depend on each other) is
`config`'s. Paths are relative to the file they are written in.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.credentials import carries
from gateway.decision import Mode
from gateway.enforcement import Fail
from gateway.facts import Cause
from gateway.language.responses import link_of
from gateway.strict.document import Node
from gateway.strict.shapes import (
    BEHIND,
    SCALAR,
    Field,
    Problems,
    Shape,
    entries,
    flag,
    listing,
    mapping,
    number,
    one_of,
    path,
    scalar,
    text,
    whole,
)  # fmt: skip
from gateway.values import SECOND, parse_duration

MIB: Final = 2**20
LARGEST_BODY: Final = 32 * MIB
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}")
_SECRETS: Final = ("cookie", "set-cookie", "proxy-authorization")
_EVERY_IPV4: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::ffff:0:0/96"))
_SIZE: Final = re.compile(r"(\d+)\s*(KiB|MiB|GiB)")
_SCALE: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size(literal: Any) -> int:
    """Bytes of `512KiB`, `32MiB` or a plain number."""
    if isinstance(literal, int) and not isinstance(literal, bool) and literal > 0:
        return literal
    found = _SIZE.fullmatch(str(literal))
    if found is None:
        raise ValueError(f"{literal!r} is not a size; write it as 512KiB or 32MiB")
    return int(found[1]) * _SCALE[found[2]]


def _listen(literal: Any) -> tuple[str, int]:
    host, _, port = str(literal).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{literal!r} is not an address; write it as 127.0.0.1:8787 or [::1]:8787")
    return host.strip("[]"), int(port)


def _plain(literal: Any) -> str:
    """A URL with its scheme in lower case, which is how the readers of it know it (RFC 3986 §3.1)."""
    scheme, mark, rest = str(literal).partition("://")
    return f"{scheme.lower()}{mark}{rest}" if mark else str(literal)


def _url(literal: Any) -> str:
    url = _plain(literal)
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise ValueError(f"{literal!r} is not an http(s) URL")
    return url


def _upstream(literal: Any) -> str:
    url = _url(literal)
    if urlsplit(url).username is not None:  # it may be a password: the URL is not repeated
        raise ValueError("a user or password in it is not sent: callers bring their own key; leave out what is before the @")
    return url


def _proxy(literal: Any) -> str:
    url = _plain(literal)
    if not re.fullmatch(r"https?://[^\s/?#]+/?", url):
        raise ValueError(f"{literal!r} is not an HTTP proxy; write it as http://host:3128")
    return url


def _state_url(literal: Any) -> str:
    url = _plain(literal)
    if not re.match(r"(memory://$|rediss?://|unix://)", url):
        raise ValueError(f"{literal!r} is not a state; write memory:// or redis://host:6379/0")
    return url


def _declared_at(literal: Any) -> str:
    """A link that callers follow to tell who they are: nobody on the way may put another in its place."""
    link = link_of(_plain(literal) if isinstance(literal, str) else literal)
    if link.startswith("http://") and not _is_local(urlsplit(link).hostname or ""):
        raise ValueError(f"{literal!r} is not reached over TLS; write https://…; http:// is for this machine itself")
    return link


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ja4_header(literal: Any) -> str:
    if not isinstance(literal, str) or not _HEADER.fullmatch(literal):
        raise ValueError(f"{literal!r} is no name of a header; write it as x-edge-ja4")
    if carries(literal.lower()) or literal.lower() in _SECRETS:
        raise ValueError(f"{literal!r} carries credentials, not what an edge says of TLS; name the header that the edge adds")
    return literal


def _network(literal: Any) -> str:
    try:
        written = ipaddress.ip_interface(str(literal))
    except ValueError:
        raise ValueError(f"{literal!r} is not a network; write it as 10.0.0.0/8") from None
    if written.ip != written.network.network_address:
        raise ValueError(f"{literal!r} is an address inside a network; write {written.network}")
    if any(whole.version == written.version and whole.subnet_of(written.network) for whole in _EVERY_IPV4):  # type: ignore[arg-type]
        raise ValueError(
            f"{literal!r} is everybody, so any caller could write down its own address; name your proxies' networks"
        )
    return str(written.network)


def _source(what: str) -> Shape:
    """A URL, or the path of a file; the file of an SQLite URL, too, is relative to the file it is written in."""
    written, file = text(what), path(what)

    def read(node: Node, problems: Problems) -> Any:
        value = written(node, problems)
        if not isinstance(value, str) or not _SCHEME.match(value):
            return file(node, problems)
        value = _plain(value)
        begin, _, named = value.partition(":///")
        embedded = begin.partition("+")[0] == "sqlite" and named
        return f"{begin}:///{(Path(node.file).parent / named).absolute()}" if embedded else value

    return Shape(read, written.schema)


class AddressHeader(StrEnum):
    """The header in which trusted hops say whom they speak for."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    X_REAL_IP = "x-real-ip"


_UPSTREAM: Final = {
    "url": Field(scalar(_upstream, "url"), required=True, doc="such as https://api.example.com"),
    "connect": Field(scalar(parse_duration, "connect"), default=5 * SECOND, doc="time to connect"),
    "read": Field(scalar(parse_duration, "read"), default=300 * SECOND, doc="time between two reads of an answer"),
    "ask_usage": Field(flag("ask_usage"), default=True, doc="ask streams for their usage where the caller does not"),
    "total": Field(scalar(parse_duration, "total"), default=0, doc="time for a whole answer; else as long as it takes"),
    "proxy": Field(scalar(_proxy, "proxy"), default="", doc="an HTTP proxy on the way, such as http://user:password@host:3128"),
    "connections": Field(whole("connections", 1), default=1_024, doc="open at once, at most; others wait for one"),
    "ca_file": Field(path("ca_file"), doc="authorities whose certificates are believed, in place of the system's"),
}
_CLIENTS: Final = {
    "head": Field(scalar(parse_duration, "head"), default=30 * SECOND, doc="for a request to begin, and its head to end"),
    "body": Field(scalar(parse_duration, "body"), default=120 * SECOND, doc="between two pieces of a body"),
    "take": Field(scalar(parse_duration, "take"), default=300 * SECOND, doc="for a client that takes nothing of an answer"),
}
_CACHE: Final = {
    "most": Field(whole("most", 1), default=100_000, doc="accounts held in memory"),
    "keep": Field(scalar(parse_duration, "keep"), default=60 * SECOND, doc="how long an account is taken as it was"),
    "absent": Field(scalar(parse_duration, "absent"), default=10 * SECOND, doc="how long a credential is taken as unknown"),
    "stale": Field(scalar(parse_duration, "stale"), default=3_600 * SECOND, doc="how long after that where it does not answer"),
}
_UNSAID: Final = {key: one.default for key, one in _CACHE.items()}
_IDENTITY: Final = {
    "directory": Field(_source("directory"), doc="accounts: a .yaml or .csv file, or a URL (sqlite, postgresql, https)"),
    "query": Field(text("query", 20_000), doc="for SQL: the statement that finds :credential; else the documented tables"),
    "token_file": Field(path("token_file"), doc="for https: a file with the bearer token it is asked with"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=SECOND // 2, doc="for one look-up"),
    "cache": Field(mapping(_CACHE, "cache"), default=_UNSAID, doc="of SQL and https directories"),
    "on_failure": Field(one_of(Fail, "on_failure"), default=Fail.REFUSE, doc="it does not answer: pass or refuse"),
    "hash_key_file": Field(path("hash_key_file"), doc="a file whose bytes are the secret key of all hashes"),
    "missing": Field(one_of(Fail, "missing"), doc="requests without a credential: pass or refuse"),
    "unknown": Field(one_of(Fail, "unknown"), doc="credentials the directory does not list: pass or refuse"),
    "ambiguous": Field(one_of(Fail, "ambiguous"), doc="requests with two different credentials: pass or refuse"),
}
_AUDIT: Final = {
    "records": Field(path("records"), doc="file of audit records, one JSON object a line"),
    "otlp": Field(scalar(_url, "otlp"), default="", doc="OTLP/HTTP traces URL, such as http://127.0.0.1:4318/v1/traces"),
    "keep": Field(number("keep", 0, 1), default=1.0, doc="share of allows and observes whose traces are kept"),
}
_STATE: Final = {
    "url": Field(scalar(_state_url, "url"), default="memory://", doc="memory:// or redis://…"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=250_000, doc="for one round trip"),
    "prefix": Field(text("prefix", 40), default="sluice", doc="what this installation's keys begin with"),
    "on_failure": Field(one_of(Fail, "on_failure"), default=Fail.REFUSE, doc="shared state does not answer: pass or refuse"),
}
_IDENTITY_CAUSES: Final = ("credential", "directory")  # their answers are declared under `identity`
CauseWord = StrEnum("CauseWord", {c.name: str(c) for c in Cause if not str(c).startswith(_IDENTITY_CAUSES)})  # type: ignore[misc]
_CLIENT_ADDRESS: Final = {
    "trusted_proxies": Field(listing(scalar(_network, "a network"), "trusted_proxies"), default=[], doc="believed hops"),
    "hops": Field(whole("hops", 1, 20), doc="how many hops are believed, where their addresses are not known"),
    "header": Field(one_of(AddressHeader, "header"), default=AddressHeader.X_FORWARDED_FOR, doc="what the hops write"),
    "proxy_protocol": Field(flag("proxy_protocol"), default=False, doc="trusted proxies speak PROXY v1 or v2 (process only)"),
    "ja4": Field(scalar(_ja4_header, "ja4"), doc="the header in which a trusted edge passes the JA4 of the caller's TLS"),
}
_GEO: Final = {
    "country": Field(path("country"), doc="an .mmdb of countries or cities"),
    "asn": Field(path("asn"), doc="an .mmdb of autonomous systems"),
    "anonymous": Field(path("anonymous"), doc="an .mmdb of Anonymous-IP or Anonymous-Plus"),
    "networks": Field(listing(path("networks"), "networks"), default=[], doc="lists of networks or systems, by kind"),
    "max_age": Field(
        scalar(parse_duration, "max_age"),
        default=60 * 86_400 * SECOND,
        doc="of the .mmdb files, past which they no longer speak",
    ),
}
_RESELLER: Final = {
    "contradictions": Field(path("contradictions"), doc="a table of contradictions, in place of the bundled one"),
    "markers": Field(path("markers"), doc="a table of markers, in place of the bundled one"),
}
_CLUSTERS: Final = {
    "file": Field(path("file"), required=True, doc="what `sluice clusters RECORDS --out` wrote"),
    "max_age": Field(scalar(parse_duration, "max_age"), default=604_800 * SECOND, doc="past which it no longer speaks"),
}
_LINK: Final = scalar(_declared_at, "link", {**SCALAR, BEHIND: link_of})
_DECLARE: Final = {"link": Field(_LINK, required=True, doc="where callers declare a workload")}


class Method(StrEnum):
    """The methods of routes that can be declared."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


_ROUTE: Final = {
    "method": Field(one_of(Method, "method"), required=True, doc="such as POST"),
    "path": Field(text("path", 500), required=True, doc="exact, but for * as a whole segment"),
    "protocol": Field(text("protocol", 40), required=True, doc="whose upstream, credentials and errors it has, such as openai"),
    "judge": Field(text("judge", 80), default="head", doc="head, json, text, or a route of the protocol with such bodies"),
}
CONFIG_FIELDS: Final = {
    "listen": Field(scalar(_listen, "listen"), default=("127.0.0.1", 8787), doc="address and port"),
    "policy": Field(listing(path("policy"), "policy", empty=False), doc="packs or folders of packs; else the bundled ones"),
    "mode": Field(one_of(Mode, "mode"), default=Mode.ENFORCE, doc="above every rule's own mode"),
    "upstreams": Field(entries(mapping(_UPSTREAM, "an upstream"), "upstreams"), default={}, doc="by protocol"),
    "routes": Field(listing(mapping(_ROUTE, "a route"), "routes"), default=[], doc="further paths, judged and passed on"),
    "clients": Field(mapping(_CLIENTS, "clients"), default={key: one.default for key, one in _CLIENTS.items()}, doc="waits"),
    "identity": Field(mapping(_IDENTITY, "identity")),
    "client_address": Field(mapping(_CLIENT_ADDRESS, "client_address")),
    "geo": Field(mapping(_GEO, "geo")),
    "reseller": Field(mapping(_RESELLER, "reseller")),
    "clusters": Field(mapping(_CLUSTERS, "clusters")),
    "declare": Field(mapping(_DECLARE, "declare")),
    "state": Field(mapping(_STATE, "state")),
    "audit": Field(mapping(_AUDIT, "audit")),
    "largest_body": Field(scalar(size, "largest_body"), default=LARGEST_BODY, doc="bytes of request body accepted"),
    "inspect_window": Field(scalar(size, "inspect_window"), default=LARGEST_BODY, doc="bytes of a body that are looked at"),
    "fail": Field(entries(one_of(Fail, "a fail mode"), "fail"), default={}, doc="cause: pass or refuse"),
}  # fmt: skip
