"""Reading one pack: its lists, rules and limits, every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.decision import Action, Mode, Public
from gateway.errors import Place, did_you_mean
from gateway.language.conditions import Condition
from gateway.language.lists import ValueList, read_list
from gateway.language.measures import SHORTEST, Declared, ceiling, not_settled, read_measures, window
from gateway.language.measures import Context as Measuring
from gateway.language.policy import FAMILIES, Corroborate, ExceptionEntry, FalsePositive, Note, PlanLimit, Rule, RuleException
from gateway.language.reader import Reader
from gateway.language.responses import Context, limit_of, read_response
from gateway.signals import Catalogue
from gateway.state.operations import Count, Pace
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, one_of, raw, scalar, text, whole
from gateway.values import INT, duration_text, parse_duration, parse_timestamp

LANGUAGE = 1
_SLUG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class OnMissing(StrEnum):
    """What a limit does when its key, or a value of its `when`, is missing."""

    REFUSE = "refuse"
    SHARE = "share"
    SKIP = "skip"


Family = StrEnum("Family", {name.upper(): name for name in FAMILIES})  # type: ignore[misc]


def _slug(value: Any) -> str:
    if not isinstance(value, str) or not _SLUG.fullmatch(value):
        raise ValueError(f"{value!r} is not a slug; use lower-case letters, digits, dots and hyphens")
    return value


def _within(value: Any) -> int:
    length = parse_duration(value)
    if length < SHORTEST:
        raise ValueError(f"{value} is too short; write {duration_text(SHORTEST)} or more")
    return length


def _language(value: Any) -> int:
    if value != LANGUAGE or isinstance(value, bool):
        raise ValueError(f"{value!r} is not spoken here; write language: {LANGUAGE}")
    return LANGUAGE


_FALSE_POSITIVE = {"cause": Field(text("cause"), required=True), "mitigated_by": Field(text("mitigated_by"), required=True)}
_PUBLIC = {
    "code": Field(scalar(_slug, "code"), required=True, doc="a stable slug that callers may program against"),
    "message": Field(text("message", 300), required=True, doc="a sentence for the caller, without thresholds"),
}
_CORROBORATE = {
    "families": Field(whole("families", 2, len(FAMILIES)), required=True, doc="how many, the rule's own included"),
    "within": Field(scalar(_within, "within"), required=True, doc="how long a match counts, such as 6h"),
    "per": Field(listing(text("per"), "per", empty=False), required=True, doc="the signals both must share"),
    "else": Field(text("else"), default="observe", doc="observe or tag"),
}
_EXCEPTION = {"fields": Field(listing(text("fields"), "fields", empty=False), required=True), "entries": Field(raw)}
_ENTRY = {
    "values": Field(raw, required=True), "reason": Field(text("reason"), required=True),
    "owner": Field(text("owner"), required=True), "expires": Field(scalar(parse_timestamp, "expires"), required=True),
}  # fmt: skip
RULE_FIELDS = {
    "id": Field(scalar(_slug, "id"), required=True, doc="stable slug, never reused"),
    "title": Field(text("title", 200), required=True, doc="what it finds, in words"),
    "family": Field(one_of(Family, "family"), required=True, doc="kind of evidence"),
    "severity": Field(one_of(Severity, "severity"), default=Severity.MEDIUM),
    "owner": Field(text("owner"), required=True, doc="who answers for it"),
    "references": Field(listing(text("references"), "references"), default=[]),
    "false_positives": Field(listing(mapping(_FALSE_POSITIVE, "a false positive"), "false_positives"), default=[]),
    "blind_spots": Field(listing(text("blind_spots"), "blind_spots"), default=[]),
    "measures": Field(raw, doc="declared counts over windows"),
    "when": Field(raw, required=True, doc="the condition"),
    "corroborate": Field(mapping(_CORROBORATE, "corroborate")),
    "then": Field(raw, required=True, doc="the response"),
    "public": Field(mapping(_PUBLIC, "public"), doc="what the caller is told"),
    "evidence": Field(listing(text("evidence"), "evidence"), default=[], doc="values shown with a match"),
    "exceptions": Field(raw),
    "mode": Field(one_of(Mode, "mode"), required=True, doc="enforce, shadow or off"),
}
LIMIT_FIELDS = {
    "id": Field(scalar(_slug, "id"), required=True),
    "per": Field(listing(text("per"), "per", empty=False), required=True, doc="the signals that separate counters"),
    "limit": Field(text("limit"), required=True, doc="such as 60 requests/minute"),
    "window": Field(one_of(Pace, "window"), default=Pace.FIXED, doc="fixed or moving"),
    "when": Field(raw, doc="whom it concerns; signals only"),
    "on_missing": Field(one_of(OnMissing, "on_missing"), required=True, doc="the key is missing: refuse, share, skip"),
    "public": Field(mapping(_PUBLIC, "public")),
    "mode": Field(one_of(Mode, "mode"), required=True),
}
PACK_FIELDS = {
    "pack": Field(scalar(_slug, "pack"), required=True, doc="the pack's name"),
    "version": Field(whole("version", 1), required=True, doc="must increase when behaviour changes"),
    "language": Field(scalar(_language, "language"), required=True, doc="the version of this language"),
    "lists": Field(raw),
    "rules": Field(listing(raw, "rules"), default=[]),
    "limits": Field(listing(raw, "limits"), default=[]),
}
_DEFAULT_PUBLIC = {
    "rule": Public("policy-decision", "This request was not accepted under the service's usage policy."),
    "limit": Public("rate-limited", "Too many requests; retry after the time stated."),
}


def _notes(per: tuple[str, ...], within: int) -> dict[tuple[str, bool], Note]:
    notes = {}
    for family in FAMILIES:
        for enforced in (True, False):
            view = "enforced" if enforced else "would-be"
            label = f"{view} {family} matches by {' and '.join(per)} over {duration_text(within)}"
            notes[family, enforced] = Note(label, window(label, Count.COUNT, within))
    return notes


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
    reader = _PackReader(name, catalogue, lists, problems)
    rules = [rule for child in entry["rules"] if (rule := reader.rule(child)) is not None]
    limits = [limit for child in entry["limits"] if (limit := reader.limit(child)) is not None]
    if not name or entry["version"] is None:
        return None
    return Pack(name, entry["version"], tuple(rules), tuple(limits), reader.lists, node)


class _PackReader:
    def __init__(self, pack: str, catalogue: Catalogue, lists: Mapping[str, ValueList | None], problems: Problems) -> None:
        self.pack, self.catalogue, self.problems = pack, catalogue, problems
        self.lists = {name: found for name, found in lists.items() if found is not None}
        self.broken = frozenset(f"@{name}" for name, found in lists.items() if found is None)
        self.signal_types = {name: signal.type for name, signal in catalogue.items()}

    def rule(self, node: Node) -> Rule | None:
        before = len(self.problems.found)
        entry = mapping(RULE_FIELDS, "a rule")(node, self.problems)
        if entry is None:
            return None
        measures, broken = self._measures(entry["measures"])
        when = self._condition(entry["when"], measures, broken)
        context = Context(entry["id"] or "", entry["mode"] or Mode.OFF, self.catalogue, measures, broken, self.problems)
        response = read_response(entry["then"], context) if entry["then"] is not None else None
        exceptions = self._exceptions(entry["exceptions"])
        corroborate = self._corroborate(entry["corroborate"], node)
        self._names(entry["evidence"], {*measures, *broken}, node.at("evidence"))
        if len(self.problems.found) > before or when is None or response is None:
            return None
        public = Public(**entry["public"]) if entry["public"] else _DEFAULT_PUBLIC["rule"]
        return Rule(
            entry["id"], self.pack, entry["title"], str(entry["family"]), str(entry["severity"]), entry["owner"], when,
            response, public, entry["mode"], node.place, measures, corroborate, exceptions, tuple(entry["evidence"]),
            tuple(entry["references"]), tuple(FalsePositive(**fp) for fp in entry["false_positives"]),
            tuple(entry["blind_spots"]),
        )  # fmt: skip

    def limit(self, node: Node) -> PlanLimit | None:
        before = len(self.problems.found)
        entry = mapping(LIMIT_FIELDS, "a limit")(node, self.problems)
        if entry is None:
            return None
        self._keys(entry["per"] or [], node.at("per"))
        when = self._condition(entry["when"], {}, self.broken) if entry["when"] is not None else None
        shadow = entry["mode"] is Mode.SHADOW
        limit = None
        if entry["limit"] is not None:
            pace = entry["window"] or Pace.FIXED
            limit = limit_of(entry["limit"], entry["id"] or "", pace, shadow, node.at("limit"), self.problems)
        if len(self.problems.found) > before or limit is None:
            return None
        public, per = Public(**entry["public"]) if entry["public"] else _DEFAULT_PUBLIC["limit"], tuple(sorted({*entry["per"]}))
        return PlanLimit(limit, self.pack, per, when, str(entry["on_missing"]), entry["mode"], public, node.place)

    def _measures(self, node: Node | None) -> tuple[Declared, frozenset[str]]:
        """The measures of a rule, and the names of those (and of lists) that could not be read."""
        if node is None:
            return {}, self.broken
        found = read_measures(node, Measuring(self.lists.get, self.broken, self.catalogue, self.problems))
        written = node.value.keys() if isinstance(node.value, dict) else set()
        return found, self.broken | (written - found.keys())

    def _condition(self, node: Node | None, measures: Declared, broken: frozenset[str]) -> Condition | None:
        if node is None:
            return None
        types = self.signal_types | {name: measure.type for name, measure in measures.items()}
        condition = Reader(types, self.lists.get, self.problems, broken).whole(node)
        for leaf in condition.leaves() if condition else ():
            if leaf.name in self.catalogue and self.catalogue[leaf.name].settled:
                self.problems.add(leaf.place, f"'{leaf.name}' is only known after the answer", "use it inside a measure")
            highest = ceiling(measures[leaf.name]) if leaf.name in measures else None
            if highest is not None and (beyond := leaf.beyond(highest)) is not None:
                what = f"{beyond} is above {highest}, the most that '{leaf.name}' can reach"
                mend = "raise its 'cap'" if measures[leaf.name].type is INT else "a share is at most 1"
                self.problems.add(leaf.place, what, mend)
        return condition

    def _names(self, names: Iterable[str], others: Iterable[str], place: Place) -> None:
        known = [*self.catalogue, *others]
        for name in names:
            if name not in known:
                what = "signal or measure" if others else "signal"
                self.problems.add(place, f"unknown {what} '{name}'", did_you_mean(name, known))

    def _keys(self, names: Sequence[str], place: Place) -> None:
        self._names(names, (), place)
        not_settled(names, self.catalogue, place, self.problems)

    def _corroborate(self, entry: Mapping[str, Any] | None, node: Node) -> Corroborate | None:
        if entry is None:
            return None
        assert isinstance(node.value, dict)
        place = node.value["corroborate"]
        self._keys(entry["per"] or (), place.at("per"))
        if entry["else"] not in ("observe", "tag", None):
            self.problems.add(place.at("else"), f"'else' must be observe or tag, not {entry['else']!r}")
            return None
        if None in entry.values():
            return None
        per, within = tuple(sorted({*entry["per"]})), entry["within"]
        return Corroborate(entry["families"], within, per, Action[entry["else"].upper()], _notes(per, within))

    def _exceptions(self, node: Node | None) -> tuple[RuleException, ...]:
        if node is None:
            return ()
        if not isinstance(node.value, dict):
            self.problems.add(node.place, f"exceptions must be a mapping, not {node.kind}")
            return ()
        found = []
        for name, child in node.value.items():
            shape = mapping(_EXCEPTION, f"exception '{name}'")(child, self.problems)
            if shape is None or not shape["fields"]:
                continue
            before = len(self.problems.found)
            self._keys(shape["fields"], child.at("fields"))
            known = len(self.problems.found) == before
            rows = listing(raw, "entries")(shape["entries"], self.problems) if shape["entries"] is not None else []
            entries = [entry for row in rows if known and (entry := self._entry(row, shape["fields"])) is not None]
            found.append(RuleException(name, tuple(shape["fields"]), tuple(entries)))
        return tuple(sorted(found, key=lambda exception: exception.name))

    def _entry(self, node: Node, fields: list[str]) -> ExceptionEntry | None:
        entry = mapping(_ENTRY, "an exception entry")(node, self.problems)
        if entry is None or None in entry.values():
            return None
        plain = entry["values"].plain()
        if not isinstance(plain, list) or len(plain) != len(fields):
            given = f"a list of {len(plain)}" if isinstance(plain, list) else entry["values"].kind
            what = f"an entry needs a list of {len(fields)} values, not {given}"
            self.problems.add(node.at("values"), what, "one each for " + ", ".join(fields))
            return None
        try:
            values = tuple(self.catalogue[name].type.parse(value) for name, value in zip(fields, plain, strict=True))
        except ValueError as error:
            self.problems.add(node.at("values"), str(error))
            return None
        return ExceptionEntry(values, entry["reason"], entry["owner"], entry["expires"], node.place)
