"""What a rule test expects, read from its `expect`.

Rule ids stand beside words of their own: `matched`, `refused` and `limits` name rules and limits themselves, all others speak
of the one rule that is named. Expectations speak of the last exchange; only `matched` and `refused` count over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.decision import Action, Verdict
from gateway.errors import Place, did_you_mean
from gateway.language.policy import KINDS, Policy, Rule
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, entries, listing, mapping, one_of, text, whole

TRUTHS: Final = {"true": True, "false": False, "unknown": None}


class Stand(StrEnum):
    """How a plan limit answered: it had room, it refused, or it was not looked at."""

    ROOM = "room"
    REFUSED = "refused"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Range:
    """How many exchanges: from low to high, both included; high None is no bound."""

    low: int
    high: int | None

    def __contains__(self, count: int) -> bool:
        return self.low <= count and (self.high is None or count <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{self.low} or more"
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Expected:
    """The expectations of one case.

    verdicts: rule id to how it ends. details: what else is expected of that one rule, by the words of `DETAILS`.
    matched: rule id to how many of the exchanges it matches. refused: rule or limit id to how many it refuses. limits: limit id
    to how it answers.
    """

    verdicts: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    matched: Mapping[str, Range] = field(default_factory=dict)
    refused: Mapping[str, Range] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    def at(self, *keys: str) -> Place | None:
        """Where an expectation stands: under the first of these keys that is written, such as `leaves` or `limits/p.plan`."""
        return next((self.places[key] for key in keys if key in self.places), None)

    @property
    def names(self) -> frozenset[str]:
        """Every rule and limit that is spoken of."""
        return frozenset({*self.verdicts, *self.matched, *self.refused, *self.limits})


def _truth(node: Node, problems: Problems) -> bool | str | None:
    word = str(node.value).lower() if not isinstance(node.value, (dict, list)) else ""
    if word not in TRUTHS:
        problems.add(node.place, f"a leaf is true, false or unknown, not {node.plain()!r}")
    return word or None


def _leaves(node: Node, problems: Problems) -> dict[str, bool | None]:
    words = entries(_truth, "leaves")(node, problems)
    return {leaf: TRUTHS.get(str(word)) for leaf, word in words.items()}


RANGE_FIELDS: Final = {
    "gte": Field(whole("gte"), default=0, doc="at least so many"), "lte": Field(whole("lte"), doc="at most so many"),
}  # fmt: skip


def _range(node: Node, problems: Problems) -> Range | None:
    if not isinstance(node.value, dict):
        exact = whole("how many")(node, problems)
        return None if exact is None else Range(exact, exact)
    entry = mapping(RANGE_FIELDS, "a count")(node, problems)
    if entry is None or entry["gte"] is None:
        return None
    if entry["lte"] is not None and entry["lte"] < entry["gte"]:
        problems.add(
            node.place, f"no count is at least {entry['gte']} and at most {entry['lte']}", "write the lower one as gte"
        )
        return None
    return Range(entry["gte"], entry["lte"])


_ActionWord: Final = StrEnum("_ActionWord", {action.name: str(action) for action in Action})  # type: ignore[misc]
_AskWord: Final = StrEnum("_AskWord", {"NONE": "none", **{kind.upper(): kind for kind in KINDS}})  # type: ignore[misc]
_VERDICT: Final = one_of(Verdict, "a verdict")
DETAILS: Final[Mapping[str, Field]] = {
    "missing": Field(listing(text("missing"), "missing", empty=False), doc="names that an unknown lacked, among others"),
    "leaves": Field(_leaves, doc="leaf ids and how they end: true, false or unknown"),
    "action": Field(one_of(_ActionWord, "action"), doc="what the rule does in the enforced decision"),
    "would": Field(one_of(_ActionWord, "would"), doc="what it would do if every shadow rule were enforced"),
    "step": Field(whole("step"), doc="which step applies, counted from 0 as in records"),
    "excepted": Field(text("excepted"), doc="the exception that applies"),
    "abstained": Field(text("abstained"), doc="the workload that it abstains for"),
    "asked": Field(one_of(_AskWord, "asked"), doc="the kind of workload that the rule asks the caller to declare, or none"),
    "would_ask": Field(one_of(_AskWord, "would_ask"), doc="the same as if every shadow rule were enforced"),
    "error": Field(text("error"), doc="a part of the error's text"),
}
NAMING: Final[Mapping[str, Field]] = {
    "matched": Field(entries(_range, "matched"), default={}, doc="rule ids and how many exchanges match: 3 or {gte: 3}"),
    "refused": Field(entries(_range, "refused"), default={}, doc="rule or limit ids and how many exchanges they refuse"),
    "limits": Field(entries(one_of(Stand, "limits"), "limits"), default={}, doc="limit ids: room, refused or skipped"),
}
EXPECT_FIELDS: Final[Mapping[str, Field]] = {**DETAILS, **NAMING}


def read_expected(node: Node, policy: Policy, problems: Problems) -> Expected:
    """The expectations under `expect`; what cannot be read is left out and reported."""
    if not isinstance(node.value, dict) or not node.value:
        problems.add(node.place, f"expect must be a mapping of rule ids to verdicts, not {node.kind}")
        return Expected()
    rules, limits = [rule.id for rule in policy.rules], [plan.limit.id for plan in policy.limits]
    before = len(problems.found)
    verdicts: dict[str, str] = {}
    found: dict[str, Any] = {}
    for key, child in node.value.items():
        if key in EXPECT_FIELDS:
            found[key] = EXPECT_FIELDS[key].read(child, problems)
        elif key not in rules:
            problems.add(child.named, f"unknown rule '{key}'", did_you_mean(key, [*rules, *EXPECT_FIELDS]))
        elif (verdict := _VERDICT(child, problems)) is not None:
            verdicts[key] = str(verdict)
    _known(node, "matched", "rule", rules, problems)
    _known(node, "refused", "rule or limit", [*rules, *limits], problems)
    _known(node, "limits", "limit", limits, problems)
    if "missing" in node.value and len(verdicts) == 1:
        _can_lack(node.value["missing"], policy.rule(next(iter(verdicts))), problems)
    matched, refused, stands = (found.pop(key, {}) for key in NAMING)
    if len(problems.found) == before and not (verdicts or matched or refused or stands):
        problems.add(node.place, "a case expects something of a rule", "write its id and match, no_match, unknown or error")
    elif found and len(verdicts) != 1 and len(problems.found) == before:
        several, mend = ("several", "split the case") if verdicts else ("none", "write its id and how it ends")
        problems.add(node.place, ", ".join(found) + f" must speak of one rule, but the case names {several}", mend)
    answers = {name: str(stand) for name, stand in stands.items()}
    return Expected(verdicts, found, matched, refused, answers, dict(_places(node.value)))


def _places(below: Mapping[str, Node], path: str = "") -> Iterator[tuple[str, Place]]:
    for key, child in below.items():
        yield f"{path}{key}", child.named
        if not path and isinstance(child.value, dict):
            yield from _places(child.value, f"{key}/")


def _can_lack(node: Node, rule: Rule | None, problems: Problems) -> None:
    """Report names that the rule never looks up, so that it cannot lack them."""
    if rule is None or not isinstance(node.value, list):
        return
    needed = {leaf.name: 0 for leaf in rule.when.leaves()} | {name: 0 for one in rule.response.effects for name in one.per}
    if any(one.restriction for one in rule.response.effects):
        needed["request.operation"] = 0
    for item in node.value:
        if isinstance(item.value, str) and item.value not in needed:
            problems.add(item.place, f"{rule.id} cannot lack '{item.value}'", did_you_mean(item.value, list(needed)))


def _known(node: Node, key: str, what: str, known: list[str], problems: Problems) -> None:
    assert isinstance(node.value, dict)
    below = node.value[key].value if key in node.value else None
    for name, child in below.items() if isinstance(below, dict) else ():
        if name not in known:
            problems.add(child.named, f"unknown {what} '{name}'", did_you_mean(name, known))
