"""Credentials as keyed hashes: the only form in which a key goes further than the door.

A credential's SHA-256 is hashed again under a secret key (HMAC-SHA256, 16 hexadecimal digits kept). The same key joins
the same caller across processes; without the secret the hash tells nothing, even about guessable keys.

A request may carry several keys: a header twice, two headers, one in its query. Which of them the upstream reads is the
upstream's choice, so every place where one might be read is looked at, whatever the protocol: two that differ are two callers.
So is one value that readers take apart differently: a credential holds neither blanks nor commas (RFC 9110 §11.2, §5.3).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl

from gateway.protocol import Dialect

# The names under which servers of these protocols and of their neighbours read keys. An underscore reads like a hyphen on
# servers that pass headers on as CGI variables.
CARRIERS: Final = (
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "apikey", "x-litellm-api-key", "ocp-apim-subscription-key",
)  # fmt: skip
_CARRIERS: Final = frozenset(CARRIERS)
QUERY_KEYS: Final = frozenset({"key", "api-key", "apikey", "access-token", "subscription-key", *CARRIERS})
# How keys of model providers and their neighbours begin, as their documentation shows them; and how long the shortest are.
KEY_BEGINS: Final = (
    "sk-", "sk_", "pk-", "pk_", "rk_", "ak-", "gsk_", "csk-", "xai-", "hf_", "r8_", "fw_", "tgp_", "pplx-", "nvapi-", "sess-",
    "key-", "ghp_", "AIza", "ya29.", "AKIA", "ASIA", "eyJ",
)  # fmt: skip
SHORTEST_KEY: Final = 16
KEY_BEGIN: Final = rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, KEY_BEGINS))})"  # as part of a regular expression
_KEY: Final = re.compile(rf"{KEY_BEGIN}(?:[\w.+=-]{{{SHORTEST_KEY - 4},}}|[\w.+=-]*\Z)")
_NO_KEY: Final = frozenset({  # schemes whose credentials are no API keys
    "aws4-hmac-sha256", "basic", "digest", "hoba", "mutual", "negotiate", "ntlm", "scram-sha-1", "scram-sha-256", "vapid",
})  # fmt: skip
_SCHEMES: Final = frozenset({"bearer", "apikey", "api-key", "token", "key"})
_APART: Final = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request presented. digest: the SHA-256 of the key it is judged by, None where it has none; different: how many."""

    digest: bytes | None = field(default=None, repr=False)
    different: int = 0


NOTHING: Final = Presented()


def credential_hash(digest: bytes, hash_key: bytes) -> str:
    """The keyed hash of a credential whose SHA-256 is `digest`."""
    return hmac.new(hash_key, digest, sha256).hexdigest()[:16]


def without_keys(text: str) -> str:
    """A text without what begins, and is as long, as known keys are; at its end, where it may be cut, of any length."""
    return _KEY.sub("…", text)


def carries(name: str) -> bool:
    """Whether a key is looked for in the header of this lower-case name."""
    return name.replace("_", "-") in _CARRIERS


def presented(headers: Iterable[tuple[str, str]], query: str = "", dialect: Dialect | None = None) -> Presented:
    """The keys of a request. Judged by: the first in the protocol's own order of headers, then any other, then the query's."""
    found: list[tuple[str, str]] = []
    for name, value in headers:
        carrier = name.replace("_", "-") if "_" in name else name
        if carrier in _CARRIERS:
            found += [(carrier, key) for key in _keys(carrier, value)]
    if query:
        found += [("", key) for key in _in_query(query)]
    if not found:
        return NOTHING
    if len(found) == 1:
        return Presented(_digest(found[0][1]), 1)
    order = [name for name, _ in dialect.credential_headers] if dialect else list(CARRIERS)
    chosen = min(found, key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order) + (not pair[0]))
    return Presented(_digest(chosen[1]), len({key for _, key in found}))


def _keys(carrier: str, value: str) -> list[str]:
    """What readers may take for the key in a header's value: nothing, as in a scheme that carries no API key; one; or several.

    Any blank between scheme and key is read like the one space of RFC 9110. What has parts is the first of them to some
    readers and the whole to others.
    """
    parts = [part for part in _APART.split(value) if part]
    scheme = parts[0].lower() if parts else ""
    if carrier == "authorization":
        if scheme in _NO_KEY or (scheme in _SCHEMES and len(parts) == 1):
            return []
        if scheme in _SCHEMES or len(parts) > 1:
            del parts[0]
    elif scheme == "bearer" and len(parts) > 1:
        del parts[0]
    return parts if len(parts) < 2 else [parts[0], " ".join(parts)]


def _in_query(query: str) -> list[str]:
    """The keys of a query; some servers take a semicolon for an ampersand."""
    pairs = parse_qsl(query.replace(";", "&"), encoding="utf-8", errors="surrogateescape")
    named = (value.strip() for name, value in pairs if name.strip().lower().replace("_", "-") in QUERY_KEYS)
    return [value for value in named if value]


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
