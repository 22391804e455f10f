"""Reading one pack: a file of related lists, rules and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.language.lists import ValueList, read_list
from gateway.language.plans import read_limit, read_prices
from gateway.language.policy import PlanLimit, Rule
from gateway.language.rules import read_rule
from gateway.language.words import Speech, slug
from gateway.signals import Catalogue
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, raw, scalar, whole

LANGUAGE: Final = 1


def language_of(value: Any) -> int:
    if value != LANGUAGE or isinstance(value, bool):
        raise ValueError(f"{value!r} is not spoken here; write language: {LANGUAGE}")
    return LANGUAGE


PACK_FIELDS: Final = {
    "pack": Field(scalar(slug, "pack"), required=True, doc="the pack's name"),
    "version": Field(whole("version", 1), required=True, doc="must increase when behaviour changes"),
    "language": Field(scalar(language_of, "language"), required=True, doc="the version of this language"),
    "lists": Field(raw, doc="named lists of values"),
    "rules": Field(listing(raw, "rules"), default=[], doc="the rules"),
    "limits": Field(listing(raw, "limits"), default=[], doc="limits of the plan"),
    "prices": Field(raw, doc="what models cost, for limits in usd"),
}


class Pack(NamedTuple):
    """One file, read."""

    name: str
    version: int
    rules: tuple[Rule, ...]
    limits: tuple[PlanLimit, ...]
    lists: Mapping[str, ValueList]
    node: Node


def read_pack(node: Node, catalogue: Catalogue, problems: Problems) -> Pack | None:
    """The pack of one file; None when not even its name and version could be read (what it holds is checked all the same)."""
    entry = mapping(PACK_FIELDS, "a pack")(node, problems)
    if entry is None:
        return None
    name = entry["pack"] or ""
    lists: dict[str, ValueList | None] = {}
    if (declared := entry["lists"]) is not None:
        if not isinstance(declared.value, dict):
            problems.add(declared.place, f"lists must be a mapping, not {declared.kind}")
        else:
            lists = {key: read_list(name, key, child, problems) for key, child in declared.value.items()}
    known = {key: found for key, found in lists.items() if found is not None}
    speech = Speech(name, catalogue, known, frozenset(f"@{key}" for key, found in lists.items() if found is None), problems)
    prices = read_prices(entry["prices"], problems) if entry["prices"] is not None else None
    rules = [rule for child in entry["rules"] if (rule := read_rule(child, speech)) is not None]
    limits = [limit for child in entry["limits"] if (limit := read_limit(child, speech, prices)) is not None]
    if not name or entry["version"] is None:
        return None
    return Pack(name, entry["version"], tuple(rules), tuple(limits), known, node)
