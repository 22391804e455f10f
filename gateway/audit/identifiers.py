"""What in a record says who somebody is, and what stands in the ledger in its place.

`IDENTIFIERS` is the whole table. A keyed hash takes the place of each value: equal values have equal hashes while one key is in
force, so that counting, grouping and replaying go on; the form stays that of the signal, so that everything that reads records
reads these. An address becomes one of `fd00::/8`, inside what its network became.

Keys rotate by a file of dated keys (`NameKeys.read`). For `overlap` after a new one came into force records hold both hashes
(`was`), which joins the two times for whoever has the ledger; whoever holds both keys can join any value.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from socket import AF_INET6, inet_ntop
from typing import Any, Final

from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.strict.document import contents
from gateway.values import parse_timestamp

LARGEST: Final = 2**16
REMEMBERED: Final = 8_192  # as many addresses as `client_address` remembers: 2 MB, which fill soon and then stay


class Keeping(StrEnum):
    """How a ledger keeps identifiers: as they are, as keyed hashes, or as keyed hashes with what they stand for sealed."""

    PLAIN = "plain"
    HASHED = "hashed"
    SEALED = "sealed"


class Form(StrEnum):
    """The form of an identifier, which its hash keeps."""

    TEXT = "text"
    ADDRESS = "address"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One signal that says who somebody is. why: what records need it for. hashed: whether `hashed` takes it out, too, not only
    `sealed`: what names an account is what exceptions, workloads and shares go by, so a record without it explains nothing.
    """

    form: Form
    why: str
    hashed: bool = True


IDENTIFIERS: Final[Mapping[str, Identifier]] = {
    "account.id": Identifier(Form.TEXT, "who is charged: limits, counts, exceptions, workloads and shares go by it", False),
    "account.org": Identifier(Form.TEXT, "who owns the account: rings are told from companies by it", False),
    "account.payment": Identifier(Form.TEXT, "accounts with one payment instrument are tied by it"),
    "client.ip": Identifier(Form.ADDRESS, "rules may compare addresses; the networks below are made of it"),
    "client.network": Identifier(Form.NETWORK, "how many networks an account, and accounts a network, comes with"),
    "client.session": Identifier(Form.TEXT, "sessions of several accounts are tied by it"),
    "client.device": Identifier(Form.TEXT, "devices of several accounts are tied by it"),
}


@dataclass(frozen=True, slots=True)
class NameKeys:
    """Keys of the hashes, each with the time (µs) from which it is in force, oldest first.

    overlap: µs for which records hold the hashes of the key before as well.
    """

    keys: Sequence[tuple[int, bytes]]
    overlap: int = 0

    @classmethod
    def derived(cls, secret: bytes) -> NameKeys:
        """One key for all times, from the secret of the gateway's other hashes."""
        return cls([(0, blake2b(b"names in the ledger", key=secret[:64], digest_size=32).digest())])

    @classmethod
    def read(cls, file: Path, overlap: int) -> NameKeys:
        """The keys of a file: a date and 64 hexadecimal digits a line, `#` begins a comment. Raises ConfigError."""
        keys, problems = [], []
        mend = "write the day it is in force from and 64 hexadecimal digits, such as `2026-11-01 9f86d0…`"
        try:
            lines = contents(file, LARGEST).decode("utf-8", "replace").splitlines()
        except LoadError as error:
            raise ConfigError(error.problems) from None
        for number, line in enumerate(lines, 1):
            if not (said := line.partition("#")[0].split()):
                continue
            try:
                (day, digits) = said
                keys.append((parse_timestamp(day), bytes.fromhex(digits)))
                if len(keys[-1][1]) != 32:
                    raise ValueError(f"has {4 * len(digits)} bits")
            except ValueError:  # the line may hold a key: it is not repeated
                problems.append(Problem(Place(str(file), number, 1), "is no dated key", mend))
        if not keys and not problems:
            problems.append(Problem(Place(str(file)), "holds no key", mend))
        if problems:
            raise ConfigError(problems)
        return cls(sorted(keys), overlap)

    def at(self, at: int) -> tuple[bytes, bytes | None]:
        """The key in force at a time (µs), and the one before where both are to be told."""
        place = max((number for number, (since, _) in enumerate(self.keys) if since <= at), default=0)
        since, key = self.keys[place]
        return key, self.keys[place - 1][1] if place and at < since + self.overlap else None


def key_id(key: bytes) -> str:
    """What a key is called in records."""
    return blake2b(b"id of a key", key=key, digest_size=4).hexdigest()


@lru_cache(maxsize=REMEMBERED)
def hashed(name: str, value: str, key: bytes) -> str:
    """The keyed hash of an identifier, in its form. A value that is not of that form is hashed as text."""
    try:
        match IDENTIFIERS[name].form:
            case Form.ADDRESS:
                return _address(_network(_around(value), key) + _digest(name, value, key, 8))
            case Form.NETWORK:
                return f"{_address(_network(value, key) + bytes(8))}/64"
    except ValueError:
        pass
    return "~" + _digest(name, value, key, 8).hex()


def _around(value: str) -> str:
    """The network of an address, as `client.network` has it. Raises ValueError."""
    address = ipaddress.ip_address(value)
    if isinstance(address, ipaddress.IPv4Address):
        return f"{value[: value.rindex('.')]}.0/24"
    return f"{_address(address.packed[:8] + bytes(8))}/64"


def _address(packed: bytes) -> str:
    """An IPv6 address in its usual form; `ipaddress` takes four times as long for it."""
    return inet_ntop(AF_INET6, packed)


def _network(value: str, key: bytes) -> bytes:
    return b"\xfd" + _digest("client.network", value, key, 7)


def _digest(name: str, value: str, key: bytes, size: int) -> bytes:
    return blake2b(f"{name}\0{value}".encode("utf-8", "surrogatepass"), key=key, digest_size=size).digest()


def hidden(entry: Mapping[str, Any]) -> bool:
    """Whether hashes stand in a record in the place of identifiers."""
    return "names" in entry


class Names:
    """Puts keyed hashes in the place of identifiers. keeping: which of them."""

    def __init__(self, keeping: Keeping, keys: NameKeys) -> None:
        self.keys = keys
        self._wanted = [name for name, one in IDENTIFIERS.items() if one.hashed or keeping is Keeping.SEALED]

    def taken(self, entry: Mapping[str, Any]) -> dict[str, str]:
        """The identifiers of a record that are to be replaced."""
        signals = entry["signals"]
        return {name: value for name in self._wanted if isinstance(value := signals.get(name), str)}

    def replaced(self, entry: Mapping[str, Any], values: Mapping[str, str], at: int) -> dict[str, Any]:
        """A record with hashes in the place of these values. at: its time (µs)."""
        key, before = self.keys.at(at)
        signals = dict(entry["signals"])
        for name, value in values.items():
            signals[name] = hashed(name, value, key)
        told: dict[str, Any] = {**entry, "signals": signals, "names": {"key": key_id(key)}}
        if before is not None and values:
            told["names"] |= {"before": key_id(before), "was": {name: hashed(name, v, before) for name, v in values.items()}}
        return told
