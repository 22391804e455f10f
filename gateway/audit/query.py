"""Records of a ledger by what they are about: a reference, an account, a rule, an action, a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audit.chain import apart
from gateway.audit.identifiers import Names, hashed
from gateway.audit.segments import chains, journal, segments
from gateway.values import parse_timestamp


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; what is empty asks for nothing. since, until: µs, the latter not included.

    account: an id as the directory names it, or as records show it. rules: of which one must have matched. actions: of which
    one must have been done.
    """

    ids: frozenset[str] = frozenset()
    account: str = ""
    rules: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    since: int = 0
    until: int | None = None

    def holds(self, entry: dict[str, Any], account: frozenset[str]) -> bool:
        """Whether a record is asked for. account: every text that the account may stand as."""
        at = parse_timestamp(entry["at"])
        if at < self.since or (self.until is not None and at >= self.until):
            return False
        if self.ids and entry["id"] not in self.ids:
            return False
        if account and entry["signals"].get("account.id") not in account:
            return False
        if self.actions and entry["outcome"]["action"] not in self.actions:
            return False
        return not self.rules or any(end["id"] in self.rules and end["verdict"] == "match" for end in entry["rules"])


def select(
    folder: Path, query: Query, names: Names | None = None, opened: Callable[[bytes], bytes] = bytes
) -> Iterator[tuple[str, int, bytes]]:
    """The records that a query asks for, as file, line, and JSON without the hash of the chain.

    names: the hashes by which an account is found where it is not opened. opened: puts sealed identifiers back.
    Segments that hold nothing of the time in question are not read, by what the journal says of them. Raises OSError.
    """
    account = frozenset[str]() if not query.account else frozenset({query.account, *_as_hashes(query.account, names)})
    for chain in chains(folder):
        times = {line.segment: line.entry for line in journal(chain) if line.segment is not None}
        for number, file in segments(chain).items():
            if number in times and not _overlaps(times[number], query):
                continue
            with file.open("rb") as lines:
                for place, text in enumerate(lines, 1):
                    found = apart(text.rstrip(b"\n"), b"hash")
                    if found is None or not _possible(found[0], query):
                        continue
                    body = opened(found[0])
                    if query.holds(json.loads(body), account):
                        yield str(file), place, body


def _as_hashes(account: str, names: Names | None) -> list[str]:
    return [hashed("account.id", account, key) for _, key in names.keys.keys] if names is not None else []


def _overlaps(entry: dict[str, Any], query: Query) -> bool:
    if not entry.get("first"):
        return False
    before = query.until is not None and parse_timestamp(entry["first"]) >= query.until
    return not before and parse_timestamp(entry["last"]) >= query.since


def _possible(body: bytes, query: Query) -> bool:
    """Whether a record can hold what is asked for, by its text alone."""
    return not query.ids or any(one.encode() in body for one in query.ids)
