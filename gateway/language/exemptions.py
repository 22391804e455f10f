"""Reading a rule's exceptions: the author fixes which fields make one, operators add entries with owner and expiry."""

from __future__ import annotations

from typing import Final

from gateway.language.policy import ExceptionEntry, RuleException
from gateway.language.words import Speech
from gateway.strict.document import Node
from gateway.strict.shapes import VISIBLE, Field, listing, mapping, raw, scalar, text
from gateway.values import parse_timestamp

EXCEPTION_FIELDS: Final = {
    "fields": Field(listing(text("fields"), "fields", empty=False), required=True, doc="the signals an entry gives values of"),
    "entries": Field(raw, doc="exempted combinations of values"),
}
ENTRY_FIELDS: Final = {
    "values": Field(raw, required=True, doc="one value for each field"),
    "reason": Field(text("reason"), required=True, doc="why this is exempted"),
    "owner": Field(text("owner"), required=True, doc="who answers for it"),
    "expires": Field(scalar(parse_timestamp, "expires"), required=True, doc="when it ends, such as 2027-01-01T00:00:00Z"),
}


def read_exceptions(node: Node | None, speech: Speech) -> tuple[RuleException, ...]:
    """The `exceptions` section of a rule."""
    if node is None:
        return ()
    problems = speech.problems
    if not isinstance(node.value, dict):
        problems.add(node.place, f"exceptions must be a mapping, not {node.kind}")
        return ()
    found = []
    for name, child in node.value.items():
        if not VISIBLE.search(name):
            problems.add(child.named, f"{name!r} is no name of an exception", "write a word; records name it")
        shape = mapping(EXCEPTION_FIELDS, f"exception '{name}'")(child, problems)
        if shape is None or not shape["fields"]:
            continue
        before = len(problems.found)
        speech.keys(shape["fields"], child.at("fields"))
        known = len(problems.found) == before
        rows = listing(raw, "entries")(shape["entries"], problems) if shape["entries"] is not None else []
        entries = [entry for row in rows if known and (entry := _entry(row, shape["fields"], speech)) is not None]
        found.append(RuleException(name, tuple(shape["fields"]), tuple(entries)))
    return tuple(sorted(found, key=lambda exception: exception.name))


def _entry(node: Node, fields: list[str], speech: Speech) -> ExceptionEntry | None:
    entry = mapping(ENTRY_FIELDS, "an exception entry")(node, speech.problems)
    if entry is None or None in entry.values():
        return None
    plain = entry["values"].plain()
    if not isinstance(plain, list) or len(plain) != len(fields):
        given = f"a list of {len(plain)}" if isinstance(plain, list) else entry["values"].kind
        what = f"an entry needs a list of {len(fields)} values, not {given}"
        speech.problems.add(node.at("values"), what, "one each for " + ", ".join(fields))
        return None
    try:
        values = tuple(speech.catalogue[name].type.parse(value) for name, value in zip(fields, plain, strict=True))
    except ValueError as error:
        speech.problems.add(node.at("values"), str(error))
        return None
    return ExceptionEntry(values, entry["reason"], entry["owner"], entry["expires"], node.place)
