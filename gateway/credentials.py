"""Credentials as keyed hashes: the only form in which a key goes further than the door.

A credential's SHA-256 is hashed again under a secret key (HMAC-SHA256, 16 hexadecimal digits kept). The same key joins
the same caller across processes; without the secret the hash tells nothing, even about guessable keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from gateway.protocol import Dialect

ANY_SCHEME = (("authorization", "bearer "), ("x-api-key", ""), ("api-key", ""))


def credential_hash(digest: bytes, hash_key: bytes) -> str:
    """The keyed hash of a credential whose SHA-256 is `digest`."""
    return hmac.new(hash_key, digest, sha256).hexdigest()[:16]


def find_credential(headers: Iterable[tuple[str, str]], dialect: Dialect | None, hash_key: bytes) -> str | None:
    """The keyed hash of the key that a request carries, or None."""
    sent = dict(reversed(list(headers)))
    for name, scheme in dialect.credential_headers if dialect else ANY_SCHEME:
        value = sent.get(name, "")
        if value.lower().startswith(scheme) and (key := value[len(scheme) :].strip()):
            return credential_hash(sha256(key.encode("utf-8", "surrogateescape")).digest(), hash_key)
    return None
