"""One request as the contradictions table looks at it: its headers by name, its tools, the traits of its build.

Everything is worked out of the facts when a row first asks for it, and once; nothing here judges, and nothing is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import repeat
from typing import Final

from gateway.facts import Call, Facts

MOST_TOOLS: Final = 256
LEAST_ALIKE: Final = 3
SEARCHED: Final = 65_536


class Trait(StrEnum):
    """A structure of the call that no honest first-party client has."""

    DERIVED_ACCOUNT = "derived-account"
    TOOLS_ALIKE = "tools-alike"
    SPLIT_WORDS = "split-words"


_DERIVED: Final = re.compile(
    r'(?:"account_uuid"\s*:\s*"|_account_)[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'
)
_SPLIT: Final = re.compile("[A-Za-z]\u200b[A-Za-z]")
_SUFFIXED: Final = re.compile(r"(?:[A-Z][a-z0-9]+)+_tool")
_RANDOM: Final = re.compile(r"_(?=[a-z]*\d)[a-z0-9]{6}")


def tools_alike(names: Sequence[str]) -> bool:
    """Whether three or more tools all end in `_tool` behind a name in capitals, or all in the same six random characters."""
    if len(names) < LEAST_ALIKE:
        return False
    ends = {name[-7:] for name in names[:MOST_TOOLS]}
    same = len(ends) == 1 and _RANDOM.fullmatch(next(iter(ends))) is not None
    return same or all(_SUFFIXED.fullmatch(name[:200]) for name in names[:MOST_TOOLS])


def _split_words(call: Call) -> bool:
    return call.system.find("\u200b", 0, SEARCHED) >= 0 and _SPLIT.search(call.system, 0, SEARCHED) is not None


_TRAITS: Final[tuple[tuple[Trait, Callable[[Call], bool]], ...]] = (
    (Trait.DERIVED_ACCOUNT, lambda call: bool(call.end_user) and _DERIVED.search((call.end_user or "")[:1_024]) is not None),
    (Trait.TOOLS_ALIKE, lambda call: tools_alike(call.tools)),
    (Trait.SPLIT_WORDS, _split_words),
)


class Sent:
    """One request, as the rows look at it: everything is worked out when a row first asks for it."""

    def __init__(self, facts: Facts, runtime: object, wire: object, style: object, ja4: object, direct: bool) -> None:
        self.facts, self.runtime, self.direct = facts, runtime, direct
        self.wire = wire if isinstance(wire, str) else None
        self.style: frozenset[str] = style if isinstance(style, frozenset) else frozenset()
        self.ja4 = ja4 if isinstance(ja4, str) else ""
        self.names = facts.first.keys()
        self.agent = self.value("user-agent") or ""
        self._order: list[str] | None = None
        self._traits: frozenset[Trait] | None = None
        self._tools: frozenset[str] | None = None

    def value(self, header: str) -> str | None:
        """All values of a header as one list, lower-case."""
        if header not in self.names:
            return None
        return ", ".join(self.facts.header_values(header)).lower()

    def any_begins(self, prefixes: tuple[str, ...]) -> bool:
        """Whether the name of a header begins with one of these."""
        return any(map(str.startswith, self.names, repeat(prefixes)))

    def before(self, first: str, second: str) -> bool:
        """Whether both headers were sent, the first one before the second."""
        if first not in self.names or second not in self.names:
            return False
        order = self.order
        return order.index(first) < order.index(second)

    @property
    def order(self) -> list[str]:
        """The names of the headers, in the order sent."""
        if self._order is None:  # not a cached_property, whose lock costs more than this
            self._order = [name for name, _ in self.facts.headers]
        return self._order

    @property
    def tools(self) -> frozenset[str]:
        if self._tools is None:
            call = self.facts.call
            self._tools = frozenset(call.tools[:MOST_TOOLS]) if call else frozenset()
        return self._tools

    def takes(self, wanted: Mapping[str, frozenset[str]]) -> bool:
        """Whether each of these tools is declared with all of these parameters."""
        call = self.facts.call
        if call is None:
            return not any(wanted.values())
        if not all(name in self.tools for name, needed in wanted.items() if needed):
            return False
        known = dict(zip(call.tools[:MOST_TOOLS], call.schemas, strict=False))
        return all(needed.issubset(known.get(name, ())) for name, needed in wanted.items())

    @property
    def traits(self) -> frozenset[Trait]:
        if self._traits is None:
            call = self.facts.call
            self._traits = frozenset([trait for trait, shown in _TRAITS if shown(call)]) if call else frozenset()
        return self._traits
