"""Measures: declared counts over windows, per key.

A measure's `label` is its canonical form in words (`distinct account.id by client.fingerprint over 1h`). Equal labels are
one measure, whichever rules declare it; the label names it in audit records, and its hash in shared state, so a counter
survives a reload unless its definition changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from gateway.errors import Place, did_you_mean
from gateway.language.conditions import RESERVED, Condition, spoken
from gateway.language.lists import NAME, Resolve
from gateway.language.reader import Reader
from gateway.signals import Catalogue, least_of
from gateway.state.operations import SLICES, Count, Window
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, flag, listing, mapping, number, raw, scalar, text, whole
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

    @property
    def counts(self) -> frozenset[str]:
        """The signals that say whether and what it counts of an exchange, beside its key."""
        leaves = self.where.leaves() if self.where is not None else ()
        return frozenset(leaf.name for leaf in leaves) | ({self.of} if self.of is not None else frozenset())

    @property
    def columns(self) -> bool:
        """Whether it can be computed over whole columns: what is known when the request is judged, filtered by such operators.

        Every kind can: a window is made of slices that depend on an event's own time only (`state.operations`).
        """
        return not self.settled and (self.where is None or all(leaf.operator.columns for leaf in self.where.leaves()))


@dataclass(frozen=True, slots=True)
class Ratio:
    """One measure over another; unknown while the lower one is zero."""

    label: str
    over: Measure
    under: Measure
    type: Type = field(default=FLOAT)

    @property
    def columns(self) -> bool:
        """Whether both measures can be computed over whole columns."""
        return self.over.columns and self.under.columns


Declared = Mapping[str, Measure | Ratio]

SHORTEST: Final = SLICES * SECOND
MILLION: Final = 1_000_000
NUMERIC: Final = (Count.SUM, Count.QUANTILE)
COUNTS = tuple(str(kind) for kind in Count)
MEASURE_FIELDS = {
    "count": Field(flag("count"), doc="true: how many exchanges"),
    "sum": Field(text("sum"), doc="the signal to add up (whole numbers or durations)"),
    "distinct": Field(text("distinct"), doc="the signal whose different values are counted"),
    "top_share": Field(text("top_share"), doc="the signal whose most frequent value's share is taken"),
    "quantile": Field(text("quantile"), doc="the signal whose values are ranked (whole numbers or durations)"),
    "rank": Field(number("rank", 0.001, 0.999), doc="for quantile: which one, such as 0.5 for the median or 0.95"),
    "ratio": Field(listing(text("ratio"), "ratio"), doc="two measures: the first over the second"),
    "per": Field(listing(text("per"), "per", empty=False), doc="the signals whose values separate the counters"),
    "where": Field(raw, doc="what is counted at all"),
    "window": Field(scalar(parse_duration, "window"), doc="how far back, such as 1h"),
    "cap": Field(whole("cap", 1, 100_000), default=1_000, doc="most different values kept per key"),
}


class Context(NamedTuple):
    """What the measures of one rule may speak of. broken: names of which an error was already reported."""

    pack_lists: Resolve
    broken: frozenset[str]
    catalogue: Catalogue
    problems: Problems


def read_measures(node: Node, context: Context) -> dict[str, Measure | Ratio]:
    """The `measures` section of a rule; ratios may name measures declared before or after them."""
    problems = context.problems
    if not isinstance(node.value, dict):
        problems.add(node.place, f"measures must be a mapping, not {node.kind}")
        return {}
    declared: dict[str, Measure | Ratio] = {}
    ratios: list[tuple[str, Node, list[str]]] = []
    for name, child in node.value.items():
        if name in context.catalogue or name in RESERVED:
            what = "the name of a signal" if name in context.catalogue else "a word of the language as its name"
            problems.add(child.named, f"measure '{name}' has {what}", "choose another name")
        elif not NAME.fullmatch(name):
            problems.add(child.named, f"measure name {name!r} must be a word: lower-case letters, digits, _ and -")
        entry = mapping(MEASURE_FIELDS, f"measure '{name}'")(child, problems)
        if entry is None:
            continue
        if entry["ratio"] is not None:
            ratios.append((name, child, entry["ratio"]))
        elif (measure := _read(child, entry, context)) is not None:
            declared[name] = measure
    found = {name: _ratio(child, parts, declared, node, problems) for name, child, parts in ratios}
    return declared | {name: ratio for name, ratio in found.items() if ratio is not None}


def _read(node: Node, entry: Mapping[str, Any], context: Context) -> Measure | None:
    catalogue, problems, before = context.catalogue, context.problems, len(context.problems.found)
    assert isinstance(node.value, dict)
    kinds = [kind for kind in COUNTS if kind in node.value]
    if len(kinds) == 1 and entry[kinds[0]] is None:
        return None
    if len(kinds) != 1 or entry[kinds[0]] is False:
        problems.add(node.place, "a measure needs exactly one of " + ", ".join((*COUNTS, "ratio")))
        return None
    kind, of = Count(kinds[0]), None if kinds[0] == "count" else entry[kinds[0]]
    for name, place in [*([(of, node.at(kinds[0]))] if of else []), *((name, node.at("per")) for name in entry["per"] or ())]:
        if name not in catalogue:
            problems.add(place, f"unknown signal '{name}'", did_you_mean(name, list(catalogue)))
    if "per" not in node.value:
        problems.add(node.place, "a measure needs 'per'", "name the signals that separate its counters, such as [account.id]")
    if "window" not in node.value or (entry["window"] is not None and entry["window"] < SHORTEST):
        problems.add(node.at("window"), f"a measure needs a 'window' of {duration_text(SHORTEST)} or more", "such as 1h")
    if kind in NUMERIC and of is not None and of in catalogue and catalogue[of].type not in (INT, DURATION):
        problems.add(node.at(str(kind)), f"'{of}' is {catalogue[of].type}; a {kind} needs whole numbers or durations")
    if (kind is Count.QUANTILE) != ("rank" in node.value):
        mend = "such as 0.95" if kind is Count.QUANTILE else "remove it"
        what = "a quantile needs 'rank'" if kind is Count.QUANTILE else f"a {kind} takes no 'rank'"
        problems.add(node.place if kind is Count.QUANTILE else node.value["rank"].named, what, mend)
    not_settled(entry["per"] or (), catalogue, node.at("per"), problems)
    types = {name: signal.type for name, signal in catalogue.items()}
    reader = Reader(types, context.pack_lists, problems, context.broken, least_of(catalogue))
    where = reader.whole(entry["where"]) if entry["where"] is not None else None
    not_counted([of or ""], catalogue, node.at(str(kind)), problems)
    not_compared(where, catalogue, problems)
    unread = None in (entry["cap"], entry["window"]) or not entry["per"] or (entry["where"] is not None and where is None)
    if unread or len(problems.found) > before:
        return None
    counting = Counting(kind, of, tuple(sorted({*entry["per"]})), where, entry["window"], entry["cap"], entry["rank"])
    return measure_of(counting, catalogue)


def not_settled(names: Iterable[str], catalogue: Catalogue, place: Place, problems: Problems) -> None:
    """Report names that are only known after the answer and so can be no key."""
    for name in names:
        if name in catalogue and catalogue[name].late:
            when = "after the answer" if catalogue[name].settled else "once the state has answered"
            problems.add(place, f"'{name}' is only known {when} and cannot be a key", "use a signal of the request")
    not_counted(names, catalogue, place, problems)


def not_counted(names: Iterable[str], catalogue: Catalogue, place: Place, problems: Problems) -> None:
    """Report names that are only known once everything is counted, where they would decide what is."""
    for name in names:
        if name in catalogue and catalogue[name].counted:
            what = f"'{name}' is only known once everything has been counted, and cannot decide what is"
            problems.add(place, what, "compare it in the 'when' of a rule, or use workload.kind")


def not_compared(where: Condition | None, catalogue: Catalogue, problems: Problems) -> None:
    """The same of a condition that decides what is counted."""
    for leaf in where.leaves() if where is not None else ():
        not_counted([leaf.name], catalogue, leaf.place, problems)


def not_recalled(condition: Condition | None, catalogue: Catalogue, problems: Problems) -> None:
    """Report signals of a condition that decides what the state is asked, known only once it has answered."""
    for leaf in condition.leaves() if condition is not None else ():
        if leaf.name in catalogue and catalogue[leaf.name].recalls is not None:
            what = f"'{leaf.name}' is only known once the state has answered, and cannot decide what is taken"
            problems.add(leaf.place, what, "compare it in the 'when' of a rule, or in a measure")


class Counting(NamedTuple):
    """What a measure is made of. length: µs; cap: of distinct values; rank: of a quantile."""

    kind: Count
    of: str | None
    per: tuple[str, ...]
    where: Condition | None
    length: int
    cap: int
    rank: float | None = None


def measure_of(counting: Counting, catalogue: Catalogue) -> Measure:
    """The measure with its canonical label; equal countings give equal labels and so one counter."""
    kind, of, where = counting.kind, counting.of, counting.where
    words = [str(kind), *([of] if of else []), *([f"at {counting.rank:g}"] if counting.rank is not None else [])]
    words += ["by", " and ".join(counting.per), "over", duration_text(counting.length)]
    if where is not None:
        words += ["where", spoken(where.canonical())]
    if kind in (Count.DISTINCT, Count.TOP_SHARE):
        words += ["up to", str(counting.cap)]
    label = " ".join(words)
    named = [*([of] if of else []), *([leaf.name for leaf in where.leaves()] if where else [])]
    settled = any(catalogue[name].late for name in named)
    type_of = FLOAT if kind is Count.TOP_SHARE else catalogue[of].type if kind in NUMERIC and of else INT
    rank = round((counting.rank or 0) * MILLION)
    return Measure(label, of, counting.per, where, window(label, kind, counting.length, counting.cap, rank), settled, type_of)


def window(label: str, kind: Count, length: int, cap: int = 1_000, rank: int = 0) -> Window:
    """The window that a label names."""
    return Window(blake2b(label.encode(), digest_size=8).hexdigest(), kind, length, cap, rank)


def ceiling(measure: Measure | Ratio) -> int | None:
    """The most that a measure can read, where its definition says so; a share is at most one."""
    if isinstance(measure, Ratio):
        return None
    return {Count.DISTINCT: measure.window.cap, Count.TOP_SHARE: 1}.get(measure.window.kind)


def _ratio(node: Node, parts: list[str], declared: Declared, section: Node, problems: Problems) -> Ratio | None:
    assert isinstance(node.value, dict)
    assert isinstance(section.value, dict)
    for key in node.value.keys() & MEASURE_FIELDS.keys() - {"ratio"}:
        problems.add(node.value[key].named, f"a ratio takes no '{key}'", "write it in the two measures")
    if len(parts) != 2:
        problems.add(node.at("ratio"), "a ratio takes two measures, such as [templates, requests]")
        return None
    for part in parts:
        if part not in section.value:
            problems.add(node.at("ratio"), f"'{part}' is no measure of this rule", did_you_mean(part, list(section.value)))
        elif isinstance(below := section.value[part].value, dict) and "ratio" in below:
            problems.add(node.at("ratio"), f"'{part}' is itself a ratio", "a ratio takes two counts")
    over, under = (declared.get(part) for part in parts)
    if not isinstance(over, Measure) or not isinstance(under, Measure):
        return None
    return Ratio(f"({over.label}) / ({under.label})", over, under)
