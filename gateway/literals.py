"""How the literals of gateway.yaml are read: sizes, addresses, URLs, networks. Each raises ValueError with how to mend it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.credentials import carries
from gateway.language.responses import link_of
from gateway.strict.document import Node
from gateway.strict.shapes import Problems, Shape, path, text

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}")
SHORTEST_TOKEN: Final = 24
_TOKEN: Final = re.compile(rf"[!-~]{{{SHORTEST_TOKEN},4096}}")
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


def listening(literal: Any) -> tuple[str, int]:
    host, _, port = str(literal).rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{literal!r} is not an address; write it as 127.0.0.1:8787 or [::1]:8787")
    return host.strip("[]"), int(port)


def plain_url(literal: Any) -> str:
    """A URL with its scheme in lower case, which is how the readers of it know it (RFC 3986 §3.1)."""
    scheme, mark, rest = str(literal).partition("://")
    return f"{scheme.lower()}{mark}{rest}" if mark else str(literal)


def http_url(literal: Any) -> str:
    url = plain_url(literal)
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise ValueError(f"{literal!r} is not an http(s) URL")
    return url


def otlp_url(literal: Any) -> str:
    """Where spans go: OTLP over HTTP, or over gRPC."""
    url = plain_url(literal)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?|grpcs?://[^\s/?#@]+:\d+", url):
        raise ValueError(
            f"{literal!r} is no OTLP endpoint; write it as http://127.0.0.1:4318/v1/traces or grpc://127.0.0.1:4317"
        )
    return url


def header_value(literal: Any) -> str:
    if not isinstance(literal, str) or not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", literal):
        raise ValueError("is no value of a header; write visible ASCII on one line")  # it may be a secret: not repeated
    return literal


def header_name(name: str) -> bool:
    """Whether this can be the name of a header."""
    return _HEADER.fullmatch(name) is not None


def upstream_url(literal: Any) -> str:
    url = http_url(literal)
    if urlsplit(url).username is not None:  # it may be a password: the URL is not repeated
        raise ValueError("a user or password in it is not sent: callers bring their own key; leave out what is before the @")
    return url


def proxy_url(literal: Any) -> str:
    url = plain_url(literal)
    if not re.fullmatch(r"https?://[^\s/?#]+/?", url):
        raise ValueError(f"{literal!r} is not an HTTP proxy; write it as http://host:3128")
    return url


def state_url(literal: Any) -> str:
    url = plain_url(literal)
    if not re.match(r"(memory://$|rediss?://|unix://)", url):
        raise ValueError(f"{literal!r} is not a state; write memory:// or redis://host:6379/0")
    return url


def declaring_link(literal: Any) -> str:
    """A link that callers follow to tell who they are: nobody on the way may put another in its place."""
    link = link_of(plain_url(literal) if isinstance(literal, str) else literal)
    if link.startswith("http://") and not is_local(urlsplit(link).hostname or ""):
        raise ValueError(f"{literal!r} is not reached over TLS; write https://…; http:// is for this machine itself")
    return link


def is_local(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def admin_token(literal: Any) -> str:
    if not isinstance(literal, str) or not _TOKEN.fullmatch(literal):  # it is a secret: it is not repeated
        raise ValueError(f"a token has at least {SHORTEST_TOKEN} characters and no space; `openssl rand -base64 32` makes one")
    return literal


def ja4_header(literal: Any) -> str:
    if not isinstance(literal, str) or not _HEADER.fullmatch(literal):
        raise ValueError(f"{literal!r} is no name of a header; write it as x-edge-ja4")
    if carries(literal.lower()) or literal.lower() in _SECRETS:
        raise ValueError(f"{literal!r} carries credentials, not what an edge says of TLS; name the header that the edge adds")
    return literal


def network(literal: Any) -> str:
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


def source(what: str) -> Shape:
    """A URL, or the path of a file; the file of an SQLite URL, too, is relative to the file it is written in."""
    written, file = text(what), path(what)

    def read(node: Node, problems: Problems) -> Any:
        value = written(node, problems)
        if not isinstance(value, str) or not _SCHEME.match(value):
            return file(node, problems)
        value = plain_url(value)
        begin, _, named = value.partition(":///")
        embedded = begin.partition("+")[0] == "sqlite" and named
        return f"{begin}:///{(Path(node.file).parent / named).absolute()}" if embedded else value

    return Shape(read, written.schema)


def or_elsewhere(shape: Shape) -> Shape:
    """A value that may be secret: `disclosure` has put it in its place by the time it is read."""
    text_of = {"type": "string", "minLength": 1}
    ways = [
        {"type": "object", "properties": {way: text_of}, "required": [way], "additionalProperties": False}
        for way in ("env", "file")
    ]
    return Shape(shape.read, {"anyOf": [shape.schema, *ways]})


def secret(shape: Shape) -> Shape:
    """The same of a value that is nothing but a secret: wherever it stands, it is not shown."""
    return Shape(shape.read, {**or_elsewhere(shape).schema, "writeOnly": True})
