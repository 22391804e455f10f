"""Words that rules, limits and workloads share: slugs, families, what a caller is told, and what a pack may speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.errors import Place, did_you_mean
from gateway.language.conditions import Condition
from gateway.language.lists import ValueList
from gateway.language.measures import Declared, ceiling, not_settled
from gateway.language.policy import FAMILIES, KINDS
from gateway.language.reader import Reader
from gateway.signals import Catalogue, least_of
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, scalar, text
from gateway.values import INT

MAX_SLUG: Final = 200
SLUG: Final = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class OnMissing(StrEnum):
    """What a limit does when its key, a value of its `when`, or the price of a model is missing."""

    REFUSE = "refuse"
    SHARE = "share"
    SKIP = "skip"


Family = StrEnum("Family", {name.upper(): name for name in FAMILIES})  # type: ignore[misc]
Kind = StrEnum("Kind", {name.upper(): name for name in KINDS})  # type: ignore[misc]


def slug(value: Any) -> str:
    """A stable name. Raises ValueError for what is none."""
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ValueError(f"{value!r} is not a slug; use lower-case letters, digits, dots and hyphens")
    if len(value) > MAX_SLUG:
        raise ValueError(f"a slug of {len(value)} characters, but {MAX_SLUG} is the most; some become header values")
    return value


PUBLIC_FIELDS: Final = {
    "code": Field(scalar(slug, "code"), required=True, doc="a stable slug that callers may program against"),
    "message": Field(text("message", 300), required=True, doc="a sentence for the caller, without thresholds"),
}


@dataclass(frozen=True, slots=True)
class Speech:
    """What one pack may speak of. broken: lists that were declared but could not be read, of which nothing more is said."""

    pack: str
    catalogue: Catalogue
    lists: Mapping[str, ValueList]
    broken: frozenset[str]
    problems: Problems

    def condition(self, node: Node | None, measures: Declared, broken: frozenset[str]) -> Condition | None:
        """A whole condition over signals and these measures, or None where it could not be read."""
        if node is None:
            return None
        types = {name: signal.type for name, signal in self.catalogue.items()}
        types |= {name: measure.type for name, measure in measures.items()}
        condition = Reader(types, self.lists, self.problems, broken, least_of(self.catalogue)).whole(node)
        for leaf in condition.leaves() if condition else ():
            if leaf.name in self.catalogue and self.catalogue[leaf.name].settled:
                self.problems.add(leaf.place, f"'{leaf.name}' is only known after the answer", "use it inside a measure")
            highest = ceiling(measures[leaf.name]) if leaf.name in measures else None
            if highest is not None and (beyond := leaf.beyond(highest)) is not None:
                what = f"{beyond} is above {highest}, the most that '{leaf.name}' can reach"
                mend = "raise its 'cap'" if measures[leaf.name].type is INT else "a share is at most 1"
                self.problems.add(leaf.place, what, mend)
        return condition

    def names(self, names: Iterable[str], others: Iterable[str], place: Place) -> None:
        """Report names that are neither signals nor one of `others`."""
        known = dict.fromkeys((*self.catalogue, *others))
        for name in names:
            if name not in known:
                what = "signal or measure" if others else "signal"
                self.problems.add(place, f"unknown {what} '{name}'", did_you_mean(name, list(known)))

    def keys(self, names: Sequence[str], place: Place) -> None:
        """Report names that can be no key: unknown ones, and those only known after the answer."""
        self.names(names, (), place)
        not_settled(names, self.catalogue, place, self.problems)
