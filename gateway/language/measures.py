"""Measures: declared counts over windows, per key.

A measure's `label` is its canonical form in words (`distinct account.id by client.fingerprint over 1h`). Equal labels are
one measure, whichever rules declare it; the label names it in audit records, and its hash in shared state, so a counter
survives a reload unless its definition changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from gateway.errors import did_you_mean
from gateway.language.conditions import Condition, Reader
from gateway.strict.document import Node
from gateway.language.lists import Resolve
from gateway.strict.shapes import Field, Problems, flag, listing, mapping, raw, scalar, text, whole
from gateway.signals import Catalogue
from gateway.state.operations import SLICES, Count, Window
from gateway.values import DURATION, FLOAT, INT, SECOND, Type, duration_text, parse_duration


@dataclass(frozen=True, slots=True)
class Measure:
    """A windowed count. settled: counts after the answer, because it speaks of `response.*`."""

    label: str
    of: str | None
    per: tuple[str, ...]
    where: Condition | None
    window: Window
    settled: bool
    type: Type


@dataclass(frozen=True, slots=True)
class Ratio:
    """One measure over another; unknown while the lower one is zero."""

    label: str
    over: Measure
    under: Measure
    type: Type = field(default=FLOAT)


Declared = Mapping[str, Measure | Ratio]

COUNTS = tuple(str(kind) for kind in Count)
_FIELDS = {
    "count": Field(flag("count"), doc="true: how many exchanges"),
    "sum": Field(text("sum"), doc="the signal to add up (whole numbers or durations)"),
    "distinct": Field(text("distinct"), doc="the signal whose different values are counted"),
    "top_share": Field(text("top_share"), doc="the signal whose most frequent value's share is taken"),
    "ratio": Field(listing(text("ratio"), "ratio"), doc="two measures: the first over the second"),
    "per": Field(listing(text("per"), "per"), doc="the signals whose values separate the counters"),
    "where": Field(raw, doc="what is counted at all"),
    "window": Field(scalar(parse_duration, "window"), doc="how far back, such as 1h"),
    "cap": Field(whole("cap", 1, 100_000), default=1_000, doc="most different values kept per key"),
}


def read_measures(node: Node, catalogue: Catalogue, lists: Resolve, problems: Problems) -> dict[str, Measure | Ratio]:
    """The `measures` section of a rule; ratios may name measures declared before or after them."""
    if not isinstance(node.value, dict):
        problems.add(node.place, f"measures must be a mapping, not {node.kind}")
        return {}
    declared: dict[str, Measure | Ratio] = {}
    ratios: list[tuple[str, Node, list[str]]] = []
    for name, child in node.value.items():
        if name in catalogue:
            problems.add(child.place, f"measure '{name}' has the name of a signal", "choose another name")
        entry = mapping(_FIELDS, f"measure '{name}'")(child, problems)
        if entry is None:
            continue
        if entry["ratio"] is not None:
            ratios.append((name, child, entry["ratio"]))
        elif (measure := _read(child, entry, catalogue, lists, problems)) is not None:
            declared[name] = measure
    for name, child, parts in ratios:
        if (ratio := _ratio(child, parts, declared, problems)) is not None:
            declared[name] = ratio
    return declared


def _read(node: Node, entry: Mapping[str, Any], catalogue: Catalogue, lists: Resolve, problems: Problems) -> Measure | None:
    kinds = [kind for kind in COUNTS if entry[kind]]
    if len(kinds) != 1:
        problems.add(node.place, "a measure needs exactly one of " + ", ".join((*COUNTS, "ratio")))
        return None
    kind, of = Count(kinds[0]), None if kinds[0] == "count" else entry[kinds[0]]
    names = [*([of] if of else []), *(entry["per"] or [])]
    for name in names:
        if name not in catalogue:
            problems.add(node.place, f"unknown signal '{name}'", did_you_mean(name, list(catalogue)))
    if not entry["per"]:
        problems.add(node.place, "a measure needs 'per', the signals that separate its counters")
    if entry["window"] is None or entry["window"] < SLICES * SECOND:
        problems.add(node.place, f"a measure needs a 'window' of {SLICES}s or more")
    if kind is Count.SUM and of is not None and of in catalogue and catalogue[of].type not in (INT, DURATION):
        problems.add(node.place, f"'{of}' is {catalogue[of].type}; a sum needs whole numbers or durations")
    settled_keys = [name for name in entry["per"] or [] if name in catalogue and catalogue[name].settled]
    if settled_keys:
        problems.add(node.place, f"'{settled_keys[0]}' is only known after the answer and cannot be a key")
    reader = Reader({name: signal.type for name, signal in catalogue.items()}, lists, problems)
    where = reader.condition(entry["where"]) if entry["where"] is not None else None
    if any(name not in catalogue for name in names) or not entry["per"] or entry["window"] is None or settled_keys:
        return None
    return _measure(kind, of, tuple(entry["per"]), where, entry["window"], entry["cap"], catalogue)


def _measure(
    kind: Count, of: str | None, per: tuple[str, ...], where: Condition | None, length: int, cap: int, catalogue: Catalogue
) -> Measure:
    spoken = [str(kind), *([of] if of else []), "by", " and ".join(per), "over", duration_text(length)]
    if where is not None:
        spoken += ["where", str(where)]
    if kind in (Count.DISTINCT, Count.TOP_SHARE):
        spoken += ["up to", str(cap)]
    label = " ".join(spoken)
    named = [*([of] if of else []), *([leaf.name for leaf in where.leaves()] if where else [])]
    settled = any(catalogue[name].settled for name in named)
    kind_of = FLOAT if kind is Count.TOP_SHARE else catalogue[of].type if kind is Count.SUM and of else INT
    return Measure(label, of, per, where, window(label, kind, length, cap), settled, kind_of)


def window(label: str, kind: Count, length: int, cap: int = 1_000) -> Window:
    """The window that a label names."""
    return Window(blake2b(label.encode(), digest_size=8).hexdigest(), kind, length, cap)


def _ratio(node: Node, parts: list[str], declared: Declared, problems: Problems) -> Ratio | None:
    if len(parts) != 2:
        problems.add(node.place, "a ratio takes two measures, such as [templates, requests]")
        return None
    found = [declared.get(part) for part in parts]
    for part, measure in zip(parts, found, strict=True):
        if not isinstance(measure, Measure):
            problems.add(node.place, f"'{part}' is no measure of this rule", did_you_mean(part, list(declared)))
    over, under = found
    if not isinstance(over, Measure) or not isinstance(under, Measure):
        return None
    return Ratio(f"({over.label}) / ({under.label})", over, under)
