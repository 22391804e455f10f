"""Reading one rule of a pack: measures, condition, response, corroboration, exceptions, mode; every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.decision import Action, Mode, Public
from gateway.errors import Place
from gateway.language.exemptions import read_exceptions
from gateway.language.measures import SHORTEST, Declared, read_measures, window
from gateway.language.measures import Context as Measuring
from gateway.language.policy import FAMILIES, Corroborate, FalsePositive, Measured, Note, Promotion, Rule
from gateway.language.responses import Context, read_response
from gateway.language.words import PUBLIC_FIELDS, Family, Kind, Severity, Speech, slug
from gateway.state.operations import Count
from gateway.strict.document import Node
from gateway.strict.shapes import Field, listing, mapping, number, one_of, raw, scalar, text, whole
from gateway.values import duration_text, parse_duration, parse_timestamp

_DEFAULT_PUBLIC: Final = Public("policy-decision", "This request was not accepted under the service's usage policy.")
_DEFAULT_SAID: Final = Public("reduced-service", "Less than this request asked for is given, under the service's usage policy.")
PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")


def within_of(value: Any) -> int:
    length = parse_duration(value)
    if length < SHORTEST:
        raise ValueError(f"{value} is too short; write {duration_text(SHORTEST)} or more")
    return length


def share_of(value: Any) -> float:
    found = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 < float(found[1]) <= 100:
        raise ValueError(f"{value!r} is not a share; write more than 0% and at most 100%, such as 5%")
    return float(found[1]) / 100


FALSE_POSITIVE_FIELDS: Final = {
    "cause": Field(text("cause"), required=True, doc="the honest cause of a match"),
    "mitigated_by": Field(text("mitigated_by"), required=True, doc="the leaf or exception that keeps it out, or corroborate"),
}
CORROBORATE_FIELDS: Final = {
    "families": Field(whole("families", 2, len(FAMILIES)), required=True, doc="how many, the rule's own included"),
    "within": Field(scalar(within_of, "within"), required=True, doc="how long a match counts, such as 6h"),
    "per": Field(listing(text("per"), "per", empty=False), required=True, doc="the signals both must share"),
    "else": Field(text("else"), default="observe", doc="observe or tag"),
}
GATE_FIELDS: Final = {
    "max_upper_95": Field(number("max_upper_95", 0, 1), required=True, doc="most wrongly matched accounts, as a share"),
    "min_benign_accounts": Field(whole("min_benign_accounts", 1), required=True, doc="least benign accounts seen"),
    "min_days": Field(whole("min_days", 0, 3_650), default=0, doc="least days of traffic"),
}
MEASURED_FIELDS: Final = {
    "upper_95": Field(number("upper_95", 0, 1), required=True, doc="upper bound of the share of benign accounts matched"),
    "benign_accounts": Field(whole("benign_accounts", 1), required=True, doc="benign accounts seen"),
    "days": Field(whole("days", 0, 3_650), required=True, doc="days of traffic"),
    "at": Field(scalar(parse_timestamp, "at"), required=True, doc="when it was measured"),
    "source": Field(text("source", 200), required=True, doc="on what traffic"),
}
RULE_FIELDS: Final = {
    "id": Field(scalar(slug, "id"), required=True, doc="stable slug, never reused"),
    "title": Field(text("title", 200), required=True, doc="what it finds, in words"),
    "family": Field(one_of(Family, "family"), required=True, doc="kind of evidence"),
    "severity": Field(one_of(Severity, "severity"), default=Severity.MEDIUM, doc="low, medium or high"),
    "owner": Field(text("owner"), required=True, doc="who answers for it"),
    "references": Field(listing(text("references"), "references"), default=[], doc="where the idea comes from"),
    "false_positives": Field(listing(mapping(FALSE_POSITIVE_FIELDS, "a false positive"), "false_positives"), default=[],
                             doc="honest causes, and what keeps them out"),
    "blind_spots": Field(listing(text("blind_spots"), "blind_spots"), default=[], doc="what it does not see"),
    "measures": Field(raw, doc="declared counts over windows"),
    "when": Field(raw, required=True, doc="the condition"),
    "corroborate": Field(mapping(CORROBORATE_FIELDS, "corroborate"), doc="other families of evidence needed to act"),
    "abstain_for": Field(listing(one_of(Kind, "abstain_for"), "abstain_for"), default=[], doc="kinds of declared workloads"),
    "then": Field(raw, required=True, doc="the response"),
    "public": Field(mapping(PUBLIC_FIELDS, "public"), doc="what the caller is told"),
    "evidence": Field(listing(text("evidence"), "evidence"), default=[], doc="values shown with a match"),
    "exceptions": Field(raw, doc="exemptions: their shape by the author, their entries by operators"),
    "gate": Field(mapping(GATE_FIELDS, "gate"), doc="what must be shown before it is enforced"),
    "measured": Field(mapping(MEASURED_FIELDS, "measured"), doc="what is known of its errors, as records will say"),
    "share": Field(scalar(share_of, "share"), default=1.0, doc="of accounts, by stable hash: where an enforced rule acts"),
    "mode": Field(one_of(Mode, "mode"), required=True, doc="enforce, shadow or off"),
}  # fmt: skip


def _notes(per: tuple[str, ...], within: int) -> dict[tuple[str, bool], Note]:
    notes = {}
    for family in FAMILIES:
        for enforced in (True, False):
            view = "enforced" if enforced else "would-be"
            label = f"{view} {family} matches by {' and '.join(per)} over {duration_text(within)}"
            notes[family, enforced] = Note(label, window(label, Count.COUNT, within))
    return notes


def read_rule(node: Node, speech: Speech) -> Rule | None:
    """One rule, or None where it could not be read (the problems say why)."""
    problems = speech.problems
    before = len(problems.found)
    entry = mapping(RULE_FIELDS, "a rule")(node, problems)
    if entry is None:
        return None
    measures, broken = _measures(entry["measures"], speech)
    when = speech.condition(entry["when"], measures, broken)
    context = Context(entry["id"] or "", entry["mode"] or Mode.OFF, speech.catalogue, measures, broken, problems)
    response = read_response(entry["then"], context) if entry["then"] is not None else None
    exceptions = read_exceptions(entry["exceptions"], speech)
    corroborate = _corroborate(entry["corroborate"], node, speech)
    speech.names(entry["evidence"], {*measures, *broken}, node.at("evidence"))
    if isinstance(node.value, dict) and "share" in node.value and entry["mode"] in (Mode.SHADOW, Mode.OFF):
        problems.add(node.at("share"), f"a rule in mode {entry['mode']} acts on nobody", "remove 'share', or enforce the rule")
    if len(problems.found) > before or when is None or response is None:
        return None
    refuses = any(effect.action.refuses for effect in response.effects)
    public = Public(**entry["public"]) if entry["public"] else _DEFAULT_PUBLIC if refuses else _DEFAULT_SAID
    return Rule(
        entry["id"], speech.pack, entry["title"], str(entry["family"]), str(entry["severity"]), entry["owner"], when,
        response, public, entry["mode"], node.place, measures, corroborate, exceptions, tuple(entry["evidence"]),
        tuple(entry["references"]), tuple(FalsePositive(**fp) for fp in entry["false_positives"]),
        tuple(entry["blind_spots"]), tuple(sorted({str(kind) for kind in entry["abstain_for"]})), entry["share"],
        Promotion(**entry["gate"]) if entry["gate"] else None, Measured(**entry["measured"]) if entry["measured"] else None,
        _places(node),
    )  # fmt: skip


def _places(node: Node) -> dict[str, Place]:
    """Where the parts of a rule stand that judgements speak of one by one."""
    assert isinstance(node.value, dict)
    then = node.value["then"].value
    found: dict[str, Place] = {}
    sections = {"steps": then.get("steps") if isinstance(then, dict) else None}
    sections |= {name: node.value.get(name) for name in ("measures", "false_positives", "exceptions")}
    for name, section in sections.items():
        below = section.value if section is not None else None
        parts = below.items() if isinstance(below, dict) else enumerate(below) if isinstance(below, list) else ()
        found |= {f"{name}/{part}": child.named for part, child in parts}
    return found | {
        name: node.value[name].named for name in ("then", "corroborate", "abstain_for", "gate") if name in node.value
    }


def _measures(node: Node | None, speech: Speech) -> tuple[Declared, frozenset[str]]:
    """The measures of a rule, and the names of those (and of lists) that could not be read."""
    if node is None:
        return {}, speech.broken
    found = read_measures(node, Measuring(speech.lists, speech.broken, speech.catalogue, speech.problems))
    written = node.value.keys() if isinstance(node.value, dict) else set()
    return found, speech.broken | (written - found.keys())


def _corroborate(entry: Mapping[str, Any] | None, node: Node, speech: Speech) -> Corroborate | None:
    if entry is None:
        return None
    assert isinstance(node.value, dict)
    place = node.value["corroborate"]
    speech.keys(entry["per"] or (), place.at("per"))
    if entry["else"] not in ("observe", "tag", None):
        speech.problems.add(place.at("else"), f"'else' must be observe or tag, not {entry['else']!r}")
        return None
    if None in entry.values():
        return None
    per, within = tuple(sorted({*entry["per"]})), entry["within"]
    return Corroborate(entry["families"], within, per, Action[entry["else"].upper()], _notes(per, within))
