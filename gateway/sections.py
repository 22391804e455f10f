"""The sections of gateway.yaml: what may be written there.

Shapes only (`literals` says how values are read); what follows from them (files that must be there, keys, defaults that
depend on each other) is `config`'s. Paths are relative to the file they are written in.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from gateway.audit.content import LARGEST, MOST
from gateway.audit.identifiers import Keeping
from gateway.decision import Mode
from gateway.failing import OF_THE_EXCHANGE, Dependency, Fail
from gateway.language.responses import link_of
from gateway.literals import (
    admin_token,
    declaring_link,
    header_value,
    ja4_header,
    listening,
    network,
    or_elsewhere,
    otlp_url,
    proxy_url,
    secret,
    size,
    source,
    state_url,
    upstream_url,
)
from gateway.logs import LEVELS
from gateway.strict.shapes import (
    BEHIND,
    SCALAR,
    Field,
    entries,
    flag,
    listing,
    mapping,
    number,
    one_of,
    one_or_mapping,
    one_or_more,
    path,
    scalar,
    text,
    whole,
)  # fmt: skip
from gateway.values import SECOND, parse_duration

MIB: Final = 2**20
LARGEST_BODY: Final = 32 * MIB


def content_size(literal: Any) -> int:
    """Bytes of `16KiB`, at most 1MiB: what one record may hold of what was said. Raises ValueError."""
    found = size(literal)
    if found > LARGEST:
        raise ValueError(f"{literal!r} is more than a record may hold of what was said; write at most 1MiB")
    return found


def _defaults(fields: Mapping[str, Field]) -> dict[str, Any]:
    """What a section says that is not written."""
    return {key: one.default for key, one in fields.items()}


class AddressHeader(StrEnum):
    """The header in which trusted hops say whom they speak for."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    X_REAL_IP = "x-real-ip"


_WEIGHTED: Final = {
    "url": Field(scalar(upstream_url, "url"), required=True, doc="such as https://api.example.com"),
    "weight": Field(whole("weight", 1, 1_000), default=1, doc="its share of the requests, against the others' weights"),
}
_URLS: Final = one_or_more(scalar(upstream_url, "url"), mapping(_WEIGHTED, "one of several upstreams"), "url")
_ROUTE_WAITS: Final = {
    "read": Field(scalar(parse_duration, "read"), doc="time between two reads of an answer; else the upstream's"),
    "total": Field(scalar(parse_duration, "total"), doc="time for a whole answer; else the upstream's"),
}
_UPSTREAM: Final = {
    "url": Field(_URLS, required=True, doc="such as https://api.example.com, or several with weights"),
    "routes": Field(entries(mapping(_ROUTE_WAITS, "a route"), "routes"), default={}, doc="time-outs by name of route"),
    "connect": Field(scalar(parse_duration, "connect"), default=5 * SECOND, doc="time to connect"),
    "read": Field(scalar(parse_duration, "read"), default=300 * SECOND, doc="time between two reads of an answer"),
    "ask_usage": Field(flag("ask_usage"), default=True, doc="ask streams for their usage where the caller does not"),
    "total": Field(scalar(parse_duration, "total"), default=0, doc="time for a whole answer; else as long as it takes"),
    "proxy": Field(
        or_elsewhere(scalar(proxy_url, "proxy")),
        default="",
        doc="an HTTP proxy on the way, such as http://user:password@host:3128",
    ),
    "connections": Field(whole("connections", 1), default=1_024, doc="open at once, at most; others wait for one"),
    "ca_file": Field(path("ca_file"), doc="authorities whose certificates are believed, in place of the system's"),
}
_CLIENTS: Final = {
    "head": Field(scalar(parse_duration, "head"), default=30 * SECOND, doc="for a request to begin, and its head to end"),
    "body": Field(scalar(parse_duration, "body"), default=120 * SECOND, doc="between two pieces of a body"),
    "idle": Field(
        scalar(parse_duration, "idle"),
        default=75 * SECOND,
        doc="for the next request on a connection; longer than clients keep theirs, or they meet its end",
    ),
    "take": Field(scalar(parse_duration, "take"), default=300 * SECOND, doc="for a client that takes nothing of an answer"),
    "least": Field(whole("least"), default=256, doc="bytes a second that it sends or takes beyond these; 0: any pace"),
    "connections": Field(whole("connections"), default=10_000, doc="open at once, of all clients; 0: any number"),
    "per_address": Field(whole("per_address"), default=0, doc="open at once, of one address or IPv6 /64; 0: any number"),
}
_RELOAD: Final = {
    "watch": Field(scalar(parse_duration, "watch"), default=0, doc="look so often whether the packs changed; else SIGHUP only"),
}
_STOP: Final = {
    "announce": Field(scalar(parse_duration, "announce"), default=0, doc="serve on while /readyz says 503"),
    "grace": Field(scalar(parse_duration, "grace"), default=30 * SECOND, doc="for requests that are under way"),
}
_CACHE: Final = {
    "most": Field(whole("most", 1), default=100_000, doc="accounts held in memory"),
    "keep": Field(scalar(parse_duration, "keep"), default=60 * SECOND, doc="how long an account is taken as it was"),
    "absent": Field(scalar(parse_duration, "absent"), default=10 * SECOND, doc="how long a credential is taken as unknown"),
    "stale": Field(scalar(parse_duration, "stale"), default=3_600 * SECOND, doc="how long after that where it does not answer"),
}
_IDENTITY: Final = {
    "directory": Field(
        or_elsewhere(source("directory")), doc="accounts: a .yaml or .csv file, or a URL (sqlite, postgresql, https)"
    ),
    "query": Field(text("query", 20_000), doc="for SQL: the statement that finds :credential; else the documented tables"),
    "token_file": Field(path("token_file"), doc="for https: a file with the bearer token it is asked with"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=SECOND // 2, doc="for one look-up"),
    "cache": Field(mapping(_CACHE, "cache"), default=_defaults(_CACHE), doc="of SQL and https directories"),
    "hash_key_file": Field(path("hash_key_file"), doc="a file whose bytes are the secret key of all hashes"),
}


class Compression(StrEnum):
    """How requests to an OTLP endpoint are compressed."""

    NONE = "none"
    GZIP = "gzip"


class LogFormat(StrEnum):
    """How incidents are written."""

    TEXT = "text"
    JSON = "json"


LogLevel = StrEnum("LogLevel", {name.upper(): name for name in LEVELS})  # type: ignore[misc]
_LOG: Final = {
    "format": Field(one_of(LogFormat, "format"), default="", doc="text or json; else text on a terminal, json elsewhere"),
    "level": Field(one_of(LogLevel, "level"), default="info", doc="the least that is written: error, warning or info"),
}
_OTLP: Final = {
    "endpoint": Field(scalar(otlp_url, "endpoint"), required=True, doc="http(s)://host:4318/v1/traces or grpc(s)://host:4317"),
    "headers": Field(entries(secret(scalar(header_value, "a header")), "headers"), default={}, doc="sent along"),
    "ca_file": Field(path("ca_file"), doc="authorities whose certificates are believed, in place of the system's"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=5 * SECOND, doc="for one request"),
    "compression": Field(one_of(Compression, "compression"), default=Compression.NONE, doc="none or gzip"),
}
_TO: Final = one_or_mapping(scalar(otlp_url, "otlp"), "endpoint", _OTLP, "otlp")
_CONTENT: Final = {
    "routes": Field(listing(text("a route", 80), "routes", empty=False), required=True, doc="such as chat.completions"),
    "most": Field(scalar(content_size, "most"), default=MOST, doc="bytes of text of the input, and of the output"),
}
_AUDIT: Final = {
    "records": Field(path("records"), doc="folder of the ledger of audit records"),
    "sync": Field(scalar(parse_duration, "sync"), default=SECOND // 5, doc="between two syncs of the ledger to the disk"),
    "segment": Field(scalar(size, "segment"), default=64 * MIB, doc="bytes after which a segment is closed"),
    "every": Field(scalar(parse_duration, "every"), default=86_400 * SECOND, doc="time after which a segment is closed"),
    "retain": Field(scalar(parse_duration, "retain"), default=0, doc="age at which closed segments are dropped; else never"),
    "sign": Field(secret(text("sign", 4_096)), default="", doc="the Ed25519 key that signs closed segments"),
    "identifiers": Field(one_of(Keeping, "identifiers"), default=Keeping.HASHED, doc="plain, hashed or sealed"),
    "keys": Field(path("keys"), doc="file of the accounts' keys, where identifiers are sealed"),
    "names": Field(path("names"), doc="file of dated keys for the hashes of identifiers"),
    "overlap": Field(scalar(parse_duration, "overlap"), default=604_800 * SECOND, doc="both hashes after a change of keys"),
    "otlp": Field(_TO, doc="traces: http://127.0.0.1:4318/v1/traces, grpc://127.0.0.1:4317, or a mapping with 'endpoint'"),
    "content": Field(mapping(_CONTENT, "content"), doc="routes of which records and traces hold what was said; else none"),
    "keep": Field(number("keep", 0, 1), default=1.0, doc="share of allows and observes whose traces are kept"),
}
_METRICS: Final = {
    "listen": Field(scalar(listening, "listen"), doc="address and port of the Prometheus endpoint, such as 127.0.0.1:9464"),
    "otlp": Field(_TO, doc="metrics: http://127.0.0.1:4318/v1/metrics, grpc://127.0.0.1:4317, or a mapping with 'endpoint'"),
    "every": Field(scalar(parse_duration, "every"), default=15 * SECOND, doc="between two exports over OTLP"),
}
_STATE: Final = {
    "url": Field(or_elsewhere(scalar(state_url, "url")), default="memory://", doc="memory:// or redis://…"),
    "timeout": Field(scalar(parse_duration, "timeout"), default=250_000, doc="for one round trip"),
    "prefix": Field(text("prefix", 40), default="sluice", doc="what this installation's keys begin with"),
    "replicas": Field(
        whole("replicas", 1),
        doc="gateway processes in all, workers counted: who holds which share of a limit where `fail: {state: degrade}`",
    ),
}
FailWord = StrEnum("FailWord", {c.name: str(c) for c in (*OF_THE_EXCHANGE, *Dependency)})  # type: ignore[misc]
_CLIENT_ADDRESS: Final = {
    "trusted_proxies": Field(listing(scalar(network, "a network"), "trusted_proxies"), default=[], doc="believed hops"),
    "hops": Field(whole("hops", 1, 20), doc="how many hops are believed, where their addresses are not known"),
    "header": Field(one_of(AddressHeader, "header"), default=AddressHeader.X_FORWARDED_FOR, doc="what the hops write"),
    "proxy_protocol": Field(flag("proxy_protocol"), default=False, doc="trusted proxies speak PROXY v1 or v2 (process only)"),
    "ja4": Field(scalar(ja4_header, "ja4"), doc="the header in which a trusted edge passes the JA4 of the caller's TLS"),
}
_GEO: Final = {
    "country": Field(path("country"), doc="an .mmdb of countries or cities"),
    "asn": Field(path("asn"), doc="an .mmdb of autonomous systems"),
    "anonymous": Field(path("anonymous"), doc="an .mmdb of Anonymous-IP or Anonymous-Plus"),
    "networks": Field(listing(path("networks"), "networks"), default=[], doc="lists of networks or systems, by kind"),
    "max_age": Field(scalar(parse_duration, "max_age"), default=5_184_000 * SECOND, doc="past which an .mmdb no longer speaks"),
}
_RESELLER: Final = {
    "contradictions": Field(path("contradictions"), doc="a table of contradictions, in place of the bundled one"),
    "markers": Field(path("markers"), doc="a table of markers, in place of the bundled one"),
}
_CLUSTERS: Final = {
    "file": Field(path("file"), required=True, doc="what `sluice clusters RECORDS --out` wrote"),
    "max_age": Field(scalar(parse_duration, "max_age"), default=604_800 * SECOND, doc="past which it no longer speaks"),
}
_LINK: Final = scalar(declaring_link, "link", {**SCALAR, BEHIND: link_of})
_DECLARE: Final = {"link": Field(_LINK, required=True, doc="where callers declare a workload")}


class Role(StrEnum):
    """What a token of the admin listener is good for; `operate` includes `read`."""

    READ = "read"
    OPERATE = "operate"

    def may(self, needed: Role) -> bool:
        """Whether this role suffices."""
        return self is Role.OPERATE or needed is Role.READ


_TOKEN: Final = {
    "token": Field(secret(scalar(admin_token, "token")), required=True, doc="at least 24 characters; better elsewhere"),
    "role": Field(one_of(Role, "role"), default=Role.READ, doc="read, or operate, which includes it"),
}
_TLS: Final = {
    "certificate": Field(path("certificate"), required=True, doc="a PEM file: its certificate, and those up to its root"),
    "key": Field(path("key"), required=True, doc="a PEM file: its private key"),
}
_ADMIN: Final = {
    "listen": Field(scalar(listening, "listen"), default=("127.0.0.1", 8790), doc="address and port of its own"),
    "tokens": Field(entries(mapping(_TOKEN, "a token"), "tokens"), required=True, doc="by name"),
    "tls": Field(mapping(_TLS, "tls"), doc="needed where it listens beyond this machine"),
    "rate": Field(whole("rate", 1, 1_000_000), default=600, doc="requests a minute of one token"),
    "halt": Field(path("halt"), doc="the file in which a halt stands; else halt.json beside this file"),
}


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
PLUGIN_SECTIONS: Final = ("identity", "client_address", "geo", "reseller", "declare", "clusters")  # read by plugins
CONFIG_FIELDS: Final = {
    "listen": Field(scalar(listening, "listen"), default=("127.0.0.1", 8787), doc="address and port"),
    "policy": Field(listing(path("policy"), "policy", empty=False), doc="packs or folders of packs; else the bundled ones"),
    "mode": Field(one_of(Mode, "mode"), default=Mode.ENFORCE, doc="above every rule's own mode"),
    "upstreams": Field(entries(mapping(_UPSTREAM, "an upstream"), "upstreams"), default={}, doc="by protocol"),
    "routes": Field(listing(mapping(_ROUTE, "a route"), "routes"), default=[], doc="further paths, judged and passed on"),
    "clients": Field(mapping(_CLIENTS, "clients"), default=_defaults(_CLIENTS), doc="waits and caps"),
    "reload": Field(mapping(_RELOAD, "reload"), default=_defaults(_RELOAD), doc="when the packs are loaded again"),
    "stop": Field(mapping(_STOP, "stop"), default=_defaults(_STOP), doc="how the process ends on SIGTERM"),
    "identity": Field(mapping(_IDENTITY, "identity")),
    "client_address": Field(mapping(_CLIENT_ADDRESS, "client_address")),
    "geo": Field(mapping(_GEO, "geo")),
    "reseller": Field(mapping(_RESELLER, "reseller")),
    "clusters": Field(mapping(_CLUSTERS, "clusters")),
    "declare": Field(mapping(_DECLARE, "declare")),
    "state": Field(mapping(_STATE, "state")),
    "audit": Field(mapping(_AUDIT, "audit"), default=_defaults(_AUDIT)),
    "metrics": Field(mapping(_METRICS, "metrics"), default=_defaults(_METRICS), doc="where metrics go; nowhere by default"),
    "log": Field(mapping(_LOG, "log"), default=_defaults(_LOG), doc="how incidents are written to standard error"),
    "admin": Field(mapping(_ADMIN, "admin")),
    "largest_body": Field(scalar(size, "largest_body"), default=LARGEST_BODY, doc="bytes of request body accepted"),
    "inspect_window": Field(scalar(size, "inspect_window"), default=LARGEST_BODY, doc="bytes of a body that are looked at"),
    "fail": Field(entries(one_of(Fail, "a fail mode"), "fail"), default={},
                  doc="cause or dependency: open, closed; of a dependency also degrade"),
}  # fmt: skip
