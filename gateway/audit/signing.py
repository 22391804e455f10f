"""Signatures under the roots of a ledger: Ed25519 (RFC 8032), with keys as PEM or as 64 hexadecimal digits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gateway.errors import ConfigError, Place, Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_MEND = "write it as PEM (`openssl genpkey -algorithm ed25519`) or as 64 hexadecimal digits"


class Key:
    """A private key. text: never repeated in a message."""

    def __init__(self, text: str, where: str) -> None:
        self._key = _read(text, where, private=True)

    def sign(self, message: bytes) -> bytes:
        signature: bytes = self._key.sign(message)
        return signature

    @property
    def public(self) -> str:
        """The public half, as 64 hexadecimal digits."""
        return str(self._key.public_key().public_bytes_raw().hex())


class PublicKey:
    """What holds signatures against a key."""

    def __init__(self, text: str, where: str) -> None:
        self._key: Ed25519PublicKey = _read(text, where, private=False)

    def holds(self, message: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _read(text: str, where: str, private: bool) -> Any:
    """A key by its text. Raises ConfigError where it is none, or the extra is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization  # an extra: only where something is signed
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        mend = "install sluicegate[sign], or leave out the key"
        raise ConfigError([Problem(Place(where), "signatures need the cryptography package", mend)]) from None
    kind: Any = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    try:
        if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
            raw = bytes.fromhex(text.strip())
            return kind.from_private_bytes(raw) if private else kind.from_public_bytes(raw)
        load = (lambda pem: serialization.load_pem_private_key(pem, None)) if private else serialization.load_pem_public_key
        found = load(text.encode())
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, kind):
        what = "private" if private else "public"
        raise ConfigError([Problem(Place(where), f"is no {what} Ed25519 key", _MEND)])
    return found
