"""Versions of packs over the life of a process: what has been in force does not come back unnoticed.

A pack's version says how new its meaning is. The highest that was in force is remembered, also while the pack is gone, so that
an older one cannot return in two steps. A version that comes back with another meaning is taken, because editing a pack in
place is how rules are written, but it is said: two processes that both report that version would then decide differently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.errors import Place, Problem
from gateway.language.policy import Policy

_RAISE: Final = "raise it above that; what was withdrawn comes back under a new version"


class Known(NamedTuple):
    """The highest version of a pack that was in force, and what it meant."""

    version: int
    meaning: str


class Versions:
    """Remembers the packs of every policy that was in force."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._meanings: dict[str, Mapping[str, str]] = {}

    def learn(self, policy: Policy) -> Mapping[str, str]:
        """What each pack of a policy means, as a digest. Remembered: long lists take a while, so ask ahead, in a thread."""
        found = self._meanings.get(policy.digest)
        if found is None:
            found = self._meanings[policy.digest] = meanings(policy)
        return found

    def change(self, old: Policy, new: Policy) -> tuple[list[Problem], list[str]]:
        """What forbids putting `new` in force in place of `old`, and what is to be told if nothing does."""
        self._note(old)
        meant, lower, notices = self.learn(new), [], []
        for name, version in sorted(new.packs.items()):
            known = self._known.get(name)
            if known is not None and version < known.version:
                since = "is" if name in old.packs else "was"
                what = f"version {version} is lower than {known.version}, which {since} in force"
                lower.append(Problem(Place(f"pack '{name}'"), what, _RAISE))
            elif known is not None and version == known.version and meant[name] != known.meaning:
                notices.append(f"pack '{name}' changed its meaning without a higher version")
        kept = (old, new) if lower else (new,)
        self._meanings = {policy.digest: self._meanings[policy.digest] for policy in kept}
        if not lower:
            self._note(new)
        return lower, notices

    def _note(self, policy: Policy) -> None:
        meant = self.learn(policy)
        self._known |= {name: Known(version, meant[name]) for name, version in policy.packs.items()}


def meanings(policy: Policy) -> dict[str, str]:
    """A digest of what each pack says by itself: its rules, limits and lists, in the form that policies are digested in."""
    said: dict[str, dict[str, list[object]]] = {name: {"rules": [], "limits": [], "lists": []} for name in policy.packs}
    for rule in policy.rules:
        said[rule.pack]["rules"].append(rule.canonical())
    for limit in policy.limits:
        said[limit.pack]["limits"].append(limit.canonical())
    for (pack, name), found in sorted(policy.lists.items()):
        said[pack]["lists"].append([name, sorted(map(str, found.values))])
    return {name: sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() for name, parts in said.items()}
