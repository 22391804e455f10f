"""Clusters, as `sluice clusters` published them: `cluster.*`, by `account.id`.

Found off the hot path, read here: a look-up in memory. The file is read again when it changes, a broken one keeps the last
good content and says so in health. `cluster.age` says how old the knowledge is, by the time of the exchange; a file older
than `max_age` no longer speaks, because rings move on and accounts change hands.

That an account stands in no cluster is missing, not false: the file knows only accounts that were seen, and a new one has not
been.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError, LoadError, Place, Problem
from gateway.plugins.reloaded import ReloadedFile
from gateway.registry import Registry, Settings
from gateway.signals import Signal, View
from gateway.strict.document import contents
from gateway.values import (
    DURATION,
    INT,
    STRING,
    Missing,
    duration_text,
    parse_duration,
    parse_timestamp,
    set_of,
    timestamp_text,
)

FORMAT: Final = "sluicegate clusters"
VERSION: Final = 1
LARGEST: Final = 2**30
MAX_AGE: Final = parse_duration("7d")
MEND: Final = "write it with `sluice clusters RECORDS --out FILE`"
NO_FILE: Final = Missing("no file of clusters")
NO_ACCOUNT: Final = Missing("no account")
NOT_LISTED: Final = Missing("the account is in no cluster that is known")
MISSING: Final = "in no known cluster, no account, no file of clusters, or a file older than its max_age"
CONFOUNDER: Final = "one agency paying for its customers, one team with several orgs, a relay nobody declared"
SOURCE: Final = "links and their null models: see gateway/clusters"


@dataclass(frozen=True, slots=True)
class Membership:
    """The cluster of an account. size: its accounts."""

    id: str
    families: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True)
class Published:
    """What a file holds. created: µs since 1970, of the latest exchange it knows; digest: of the records it was made from."""

    created: int
    digest: str
    clusters: int
    members: dict[str, Membership]


def read(path: Path) -> Published:
    """A published file. Raises ConfigError."""
    try:
        tree: Any = json.loads(contents(path, LARGEST))
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise ValueError(f"it does not state the format '{FORMAT}'")
        if tree["version"] != VERSION:
            raise ValueError(f"version {tree['version']!r} is not known, only {VERSION}")
        members: dict[str, Membership] = {}
        for one in tree["clusters"]:
            found = Membership(_text(one["id"]), frozenset(map(_text, one["families"])), _count(one["size"]))
            for account in one["accounts"]:
                known = members.setdefault(_text(account), found)
                members[account] = min(known, found, key=lambda cluster: (-cluster.size, cluster.id))
        return Published(parse_timestamp(tree["created"]), _text(tree["source"]["digest"]), len(tree["clusters"]), members)
    except LoadError as error:
        raise ConfigError(error.problems) from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = f"is no file of clusters: {error}" if type(error) is ValueError else f"is no file of clusters: {error!r}"
        raise ConfigError([Problem(Place(str(path)), said, MEND)]) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


class Clusters:
    """The file as it is now. max_age: µs. Raises ConfigError when it cannot be read the first time."""

    def __init__(self, path: Path, max_age: int) -> None:
        self._file = ReloadedFile(path, read)
        self._max_age = max_age
        self._latest = 0

    def age(self, at: int) -> int:
        """How long before a time (µs) the latest exchange was that the file knows; zero where it knows later ones."""
        self._latest = max(self._latest, at)
        return max(0, at - self._file.content.created)

    def membership(self, view: View) -> Membership | Missing:
        """The cluster of the account, or why none can be told."""
        account, age = view.get("account.id"), self.age(view.facts.at)
        if age > self._max_age:
            return Missing(f"the file of clusters is older than {duration_text(self._max_age)}")
        if not isinstance(account, str):
            return account if isinstance(account, Missing) else NO_ACCOUNT
        return self._file.content.members.get(account, NOT_LISTED)

    def refresh(self) -> None:
        self._file.refresh()

    def health(self) -> dict[str, object]:
        """What the file is. A file too old for the latest exchange says nothing any more, and is named in `note`."""
        held = self._file.content
        stale = self._latest - held.created > self._max_age
        note = f"older than its max_age of {duration_text(self._max_age)}: it no longer speaks" if stale else ""
        told = {"clusters": held.clusters, "accounts": len(held.members), "created": timestamp_text(held.created)}
        return {**told, "digest": held.digest, "note": note, "problem": self._file.problem}


def register(registry: Registry, settings: Settings) -> None:
    section = settings.get("clusters", {})
    clusters = Clusters(section["file"], section.get("max_age", MAX_AGE)) if "file" in section else None
    if clusters is not None:
        registry.watch("clusters", clusters)

    def told(what: Callable[[Membership], object]) -> Callable[[View], object]:
        def resolve(view: View) -> object:
            found = clusters.membership(view) if clusters is not None else NO_FILE
            return what(found) if isinstance(found, Membership) else found

        return resolve

    def age(view: View) -> object:
        return clusters.age(view.facts.at) if clusters is not None else NO_FILE

    registry.add_signals((
        Signal("cluster.id", STRING, "the cluster that the account was found in", told(lambda one: one.id), missing=MISSING,
               confounder=CONFOUNDER, source=SOURCE),
        Signal("cluster.families", set_of(STRING), "the kinds of link that tie the cluster: payment, device, template, egress,"
               " hop, session, signature, failover, probe, synchrony", told(lambda one: one.families), missing=MISSING,
               confounder=CONFOUNDER, source=SOURCE),
        Signal("cluster.size", INT, "accounts in the cluster", told(lambda one: one.size), missing=MISSING,
               confounder=CONFOUNDER, source=SOURCE, least=0),
        Signal("cluster.age", DURATION, "how long ago the latest exchange was that the file of clusters knows", age,
               missing="no file of clusters", least=0),
    ))  # fmt: skip
