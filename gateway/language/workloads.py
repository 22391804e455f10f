"""Reading `workloads.yaml`: declared campaigns, each with a scope, a time, an owner and perhaps a ceiling.

A workload compiles to what rules are made of: its scope is a condition, its ceiling a measure and a comparison. So one
engine decides whether it covers an exchange, and one explanation shows why.

A declared benchmark or batch checks itself: `items` is how many items it has. Counted are the different beginnings of its
conversations (`workload.item`: the first user message, which stays while an agent works and differs behind most few-shot
preambles, where a filter on first turns sees nothing), from its `from` to its `until`. A finite set saturates there and a
harvest does not. One twentieth above `items`, and `SPARE` besides, is allowed: repaired prompts, warm-ups, items that a harness
words in two ways. Past that the declaration does nothing, for the rest of its time.

The window is as long as the declaration and a seventh more, so that nothing of it slides out, and at most `LONGEST_CHECK`: in
a longer declaration only the last so much counts, and a harvest of `items` in every such time is not seen. It is memory of
one set of hashes, never larger than what is allowed. It starts anew where `items`, scope or times are changed, and where state
is lost. A caller who begins every conversation with the same words shows one item: the ceiling still holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.errors import Place, did_you_mean
from gateway.language.amounts import limit_of
from gateway.language.campaigns import CHECKED, Ceiling, Workload
from gateway.language.conditions import All, Condition, Leaf, spoken
from gateway.language.lists import ValueList
from gateway.language.measures import SHORTEST, Measure, window
from gateway.language.operators import OPERATORS
from gateway.language.reader import Reader
from gateway.language.words import Kind, slug
from gateway.signals import Catalogue
from gateway.state.operations import SLICES, Count, Pace, Unit
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, one_of, raw, scalar, text, whole
from gateway.values import INT, SECOND, duration_text, parse_timestamp, timestamp_text

SCOPE: Final = {
    "orgs": "account.org", "accounts": "account.id", "models": "request.model", "templates": "prompt.template",
    "suites": "prompt.known_suite",
}  # fmt: skip
SPARE: Final = 20
MOST_ITEMS: Final = 90_000
LONGEST_CHECK: Final = 400 * 86_400 * SECOND
WORKLOAD_FIELDS: Final = {
    "id": Field(scalar(slug, "id"), required=True, doc="stable slug, never reused"),
    "kind": Field(one_of(Kind, "kind"), required=True, doc="benchmark, integration, relay or batch"),
    "orgs": Field(raw, doc="whose it is: account.org"),
    "accounts": Field(raw, doc="whose it is: account.id"),
    "models": Field(raw, doc="only these: request.model"),
    "templates": Field(raw, doc="only these: prompt.template"),
    "suites": Field(raw, doc="only these: prompt.known_suite"),
    "ceiling": Field(text("ceiling"), doc="how much is declared, such as 200000 requests/day"),
    "items": Field(whole("items", 1, MOST_ITEMS), doc="of a benchmark or batch: how many different items it has, all told"),
    "from": Field(scalar(parse_timestamp, "from"), required=True, doc="when it begins"),
    "until": Field(scalar(parse_timestamp, "until"), required=True, doc="when it ends"),
    "owner": Field(text("owner"), required=True, doc="who answers for it"),
    "evidence": Field(text("evidence"), required=True, doc="why it is believed, such as a ticket or a contract"),
}
ITEM: Final = "workload.item"
FILE_FIELDS: Final = {"workloads": Field(listing(raw, "workloads"), required=True, doc="the declared campaigns")}


def is_workloads(node: Node) -> bool:
    """Whether a YAML tree is a file of workloads, by what stands in it."""
    return isinstance(node.value, dict) and "workloads" in node.value


def read_workloads(node: Node, catalogue: Catalogue, problems: Problems) -> list[Workload]:
    """Every workload of a file that could be read."""
    entry = mapping(FILE_FIELDS, "a workloads file")(node, problems)
    return [found for child in (entry or {}).get("workloads") or () if (found := _workload(child, catalogue, problems))]


def _workload(node: Node, catalogue: Catalogue, problems: Problems) -> Workload | None:
    before = len(problems.found)
    entry = mapping(WORKLOAD_FIELDS, "a workload")(node, problems)
    if entry is None:
        return None
    if entry["orgs"] is None and entry["accounts"] is None:
        problems.add(node.place, "a workload needs 'orgs' or 'accounts'", "say whose it is")
    if entry["from"] is not None and entry["until"] is not None and entry["until"] <= entry["from"]:
        problems.add(node.at("until"), "a workload must end after it begins", "write a later 'until'")
    parts = [part for key in SCOPE if (child := entry[key]) is not None and (part := _part(key, child, catalogue, problems))]
    limit = None
    if entry["ceiling"] is not None:
        place, name = node.at("ceiling"), entry["id"] or ""
        limit = limit_of(entry["ceiling"], name, Pace.MOVING, False, place, problems, (Unit.REQUESTS,))
        if limit is not None and limit.period * SECOND < SHORTEST:
            problems.add(place, f"a ceiling counts over {duration_text(SHORTEST)} or more", "such as 200000 requests/day")
    if len(problems.found) > before or not parts:
        return None
    when: Condition = parts[0] if len(parts) == 1 else All(tuple(parts))
    ceiling = _ceiling(when, limit.amount, limit.period * SECOND, node) if limit is not None else None
    found = Workload(
        entry["id"], str(entry["kind"]), when, entry["from"], entry["until"], entry["owner"], entry["evidence"], ceiling,
        node.place, entry["items"],
    )  # fmt: skip
    return replace(found, items=_items(found, node.at("items"))) if found.size and found.kind in CHECKED else found


def _part(key: str, node: Node, catalogue: Catalogue, problems: Problems) -> Condition | None:
    """One key of the scope: its signal is one of the values, or holds one of them."""
    signal = catalogue.get(SCOPE[key])
    if signal is None:
        problems.add(node.named, f"'{key}' needs the signal {SCOPE[key]}, which no provider gives",
                     did_you_mean(SCOPE[key], list(catalogue)))  # fmt: skip
        return None
    if not isinstance(node.value, list) or not node.value:
        problems.add(node.place, f"'{key}' must be a list of values, not {node.kind}")
        return None
    nothing: Mapping[str, ValueList] = {}
    reader = Reader({signal.name: signal.type}, nothing, problems)
    word = "any_of" if signal.type.element else "in"
    leaf = reader.leaf(signal.name, signal.type, word, node)
    return replace(leaf, id=key) if leaf is not None else None


def allowed(items: int) -> int:
    """How many different items may be seen of a workload that declares so many.

    >>> allowed(2294), allowed(20)
    (2428, 41)
    """
    return items + items // 20 + SPARE


def _items(workload: Workload, place: Place) -> Ceiling:
    most = allowed(workload.size or 0)
    asked = -(-(workload.until - workload.since) * SLICES // (SLICES - 1))
    length = max(SHORTEST, min(asked, LONGEST_CHECK))
    said = f"items of workload {workload.id} since {timestamp_text(workload.since)} over {length}us up to {most}"
    label = f"{said} where {spoken(workload.when.canonical())}"
    measure = Measure(label, ITEM, (), workload.when, window(label, Count.DISTINCT, length, most + 1), False, INT)
    return Ceiling(measure, Leaf("items", label, OPERATORS["lte"], most, str(most), INT, place))


def _ceiling(when: Condition, amount: int, length: int, node: Node) -> Ceiling:
    label = f"count over {duration_text(length)} where {spoken(when.canonical())}"
    measure = Measure(label, None, (), when, window(label, Count.COUNT, length), False, INT)
    leaf = Leaf("ceiling", label, OPERATORS["lte"], amount, str(amount), INT, node.at("ceiling"))
    return Ceiling(measure, leaf)
