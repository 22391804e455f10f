"""Keyed hashes: what a caller said stands in records and counters as these, and nothing else of it does.

A hash is BLAKE2b with a digest of 8 bytes, as 16 hexadecimal digits, under the secret key of the section `identity`. That any
two of n different texts are taken for one has a chance of n²/2⁶⁵: 3·10⁻⁸ with a million texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from gateway.registry import Settings


def key_of(settings: Settings) -> bytes:
    """The key of the settings; the hash takes at most 64 bytes of it. Empty where none is set."""
    key: bytes = settings.get("identity", {}).get("hash_key", b"")
    return key[: blake2b.MAX_KEY_SIZE]


@lru_cache(maxsize=8)
def _begun(key: bytes) -> Any:
    """A hash that has taken its key and nothing else: a copy of it costs half of making one."""
    return blake2b(key=key, digest_size=8)


def keyed(told: bytes, key: bytes) -> str:
    """The hash of some bytes under a key."""
    taking = _begun(key).copy()
    taking.update(told)
    found: str = taking.hexdigest()
    return found


def keyed_parts(parts: Iterable[bytes], key: bytes) -> str:
    """The hash of parts one after the other, each behind its length, so that none can pretend to be two."""
    taking = _begun(key).copy()
    for part in parts:
        taking.update(len(part).to_bytes(8))
        taking.update(part)
    found: str = taking.hexdigest()
    return found


def digest(text: str, key: bytes = b"") -> str:
    """The hash of a text, keyed where the text is a caller's own."""
    return keyed(text.encode("utf-8", "surrogatepass"), key)
