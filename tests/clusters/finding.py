"""What the tests of clusters share: records to a published tree, and the truth about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.clusters.found import find
from gateway.clusters.published import plain
from gateway.clusters.records import Seen
from gateway.errors import Place, RecordError
from tests.clusters.traffic import Entry, kind


def seen_of(entries: Iterable[Entry], seed: int = 0, most: int | None = None) -> Seen:
    errors: list[RecordError] = []
    seen = Seen(seed, errors.append, most)
    for number, one in enumerate(entries, 1):
        seen.line(json.dumps(one).encode(), Place("records.jsonl", number, 1))
    assert errors == []
    return seen


def tree_of(
    entries: Iterable[Entry], seed: int = 0, min_size: int = 5, previous: Mapping[str, frozenset[str]] | None = None
) -> dict[str, Any]:
    seen = seen_of(entries, seed)
    return plain(find(seen, seed, min_size, previous), seen, seed, min_size)


def members(tree: Mapping[str, Any]) -> list[frozenset[str]]:
    """The orgs of every cluster."""
    return [frozenset(one["org_names"]) for one in tree["clusters"]]


def kinds(tree: Mapping[str, Any]) -> list[dict[str, int]]:
    """What every cluster is made of, in truth; the largest first."""
    return [dict(Counter(map(kind, orgs))) for orgs in members(tree)]


def without(entries: Iterable[Entry], *signals: str) -> list[Entry]:
    """The same records, as if some signals had not been recorded."""
    return [
        {**one, "signals": {name: value for name, value in one["signals"].items() if name not in signals}} for one in entries
    ]
