"""Clusters as JSON: what the command prints, what it publishes for the gateway to read, and what it reads back itself.

Keys of the file, version 1. Times are RFC 3339; a reader must refuse a version it does not know.

- `format`, `version`, `seed`, `min_size`; `created`: the time of the latest exchange in the records, because nothing here
  reads a clock and a file is as fresh as what it knows; `source`: `records`, `unreadable`, `without_account`, `from`, `to`,
  and `digest`, the same for the same set of records in any order.
- `population`: `accounts` and `orgs` of all, `groups_too_small`, `groups_unproven` (not tied more than by chance in two
  planes); `families`: by name the `plane`, the `values` that can tie, those too `popular`, the `share` of all values that was
  looked at; `recorded`: in how many records each signal stands.
- `clusters`: each with `id`, `size` (accounts), `orgs` (how many), `families` and `planes`; `first`, `last`; `units`
  (`exchanges`, `roots`, `slots`, `accounts`, `orgs`, `days`, tokens, `refused`, `declared`: exchanges in the scope of a
  declared workload that covers them; null where never recorded); `evidence` by family (`links`, `count`, `first`, `last`,
  `tied` orgs, `expected` by chance, `odds`, `p`, `p_floor`); `without` by family (`orgs` that remain, in `pieces`); `links`,
  the most surprising, and `more_links`; `accounts`, `org_names`.
- `honest`, where known-honest records were given: `orgs`, `in_clusters`, `share`, `low`, `high` (Wilson, 95 %).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any, Final

from gateway.clusters.families import PLANES, SHARED, planes
from gateway.clusters.found import Cluster, Evidence, Found, Link
from gateway.clusters.records import Seen
from gateway.errors import ConfigError, Place, Problem
from gateway.strict.document import contents
from gateway.values import timestamp_text

FORMAT: Final = "sluicegate clusters"
VERSION: Final = 1
LARGEST: Final = 2**30
NAMED: Final = {"root": "roots", "slots": "slots", "day": "days"}
_TABLES: Final = {"failover": "whole", "synchrony": "bins"}
_NORMAL: Final = 1.959963984540054


def plain(found: Found, seen: Seen, seed: int, min_size: int) -> dict[str, Any]:
    """Everything found, as JSON. Raises ValueError where no record named an account."""
    if not len(found.population):
        raise ValueError("no record names an account")
    begins, ends = timestamp_text(found.population.begins), timestamp_text(found.population.ends)
    source = {
        "records": seen.read, "unreadable": seen.unreadable, "without_account": seen.nameless,
        "from": begins, "to": ends, "digest": seen.digest,
    }  # fmt: skip
    population = {
        "accounts": len(seen.accounts.accounts), "orgs": len(found.population),
        "groups_too_small": found.dropped, "groups_unproven": found.unproven,
    }  # fmt: skip
    return {
        "format": FORMAT, "version": VERSION, "created": ends, "seed": seed, "min_size": min_size, "source": source,
        "population": population, "families": {name: _family(name, found, seen) for name in PLANES},
        "recorded": seen.recorded, "clusters": [_cluster(one) for one in found.clusters],
        **({"honest": _honest(found, seen)} if seen.honest else {}),
    }  # fmt: skip


def text(tree: Mapping[str, Any]) -> str:
    """The file, byte for byte the same for the same content."""
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def publish(tree: Mapping[str, Any], path: Path) -> None:
    """Write the file so that a reader sees the old one or the new one, whole. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text(tree).encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def earlier(path: Path) -> dict[str, frozenset[str]]:
    """The accounts of the clusters of a published file, by id. Raises ConfigError for a file that is none."""
    try:
        tree = json.loads(contents(path, LARGEST))
        if tree["format"] != FORMAT or tree["version"] != VERSION:
            raise ValueError(f"format {tree['format']!r}, version {tree['version']!r}")
        return {str(one["id"]): frozenset(map(str, one["accounts"])) for one in tree["clusters"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        mend = "name a file that this version of `sluice clusters --out` wrote, or remove it"
        said = f"is no file of clusters: {type(error).__name__}: {error}"
        raise ConfigError([Problem(Place(str(path)), said, mend)]) from None


def _family(name: str, found: Found, seen: Seen) -> dict[str, Any]:
    told: dict[str, Any] = {"plane": PLANES[name], "share": seen.tables[_TABLES.get(name, name)].share}
    if name in SHARED:
        shared = found.population.shared[name]
        told |= {"values": len(shared.values), "popular": shared.popular}
    return told


def _cluster(one: Cluster) -> dict[str, Any]:
    units = {NAMED.get(name, name): count for name, count in one.units.items()}
    return {
        "id": one.id, "size": len(one.accounts), "orgs": len(one.orgs), "families": sorted(one.families),
        "planes": sorted(planes(one.families)), "first": timestamp_text(one.first), "last": timestamp_text(one.last),
        "units": {**units, "accounts": len(one.accounts), "orgs": len(one.orgs)},
        "evidence": {name: _evidence(said) for name, said in one.families.items()},
        "without": {name: {"orgs": rest.orgs, "pieces": rest.pieces} for name, rest in one.without.items()},
        "links": [_link(link) for link in one.links], "more_links": one.more,
        "accounts": list(one.accounts), "org_names": list(one.orgs),
    }  # fmt: skip


def _evidence(said: Evidence) -> dict[str, Any]:
    test = said.against
    return {
        "links": said.links, "count": said.count, "first": timestamp_text(said.first), "last": timestamp_text(said.last),
        "tied": test.tied, "expected": _short(test.expected), "odds": _short(test.odds), "p": _short(test.p),
        "p_floor": _short(test.floor),
    }  # fmt: skip


def _link(link: Link) -> dict[str, Any]:
    return {
        "family": link.family, "what": link.what, "orgs": link.accounts, "holders": link.holders, "count": link.count,
        "first": timestamp_text(link.first), "last": timestamp_text(link.last), "expected": _short(link.expected),
        "odds": _short(link.odds), "p": _short(link.p),
    }  # fmt: skip


def _honest(found: Found, seen: Seen) -> dict[str, Any]:
    inside = len({org for one in found.clusters for org in one.orgs} & seen.honest)
    low, high = wilson(inside, len(seen.honest))
    share = inside / len(seen.honest)
    return {
        "orgs": len(seen.honest),
        "in_clusters": inside,
        "share": _short(share),
        "low": _short(low),
        "high": _short(high),
    }


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 %.

    >>> [round(bound, 4) for bound in wilson(0, 1_000)]
    [0.0, 0.0038]
    """
    share, square = hits / trials, _NORMAL**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    reach = _NORMAL * sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
