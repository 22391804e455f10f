"""Conditions of a whole policy brought into one shared form, before code is written from them.

Equal leaves of all rules become one `Test`, equal values one `Source`. Groups are flattened, repeated parts dropped, `none` of
`none` undone, and parts put in the order in which they cost least. That order is made of the leaves alone, so it does not
depend on the order of rules, files or parts; and Kleene logic gives the same truth in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.language.conditions import Condition, Leaf
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Rule
from gateway.language.text import Look, TextView
from gateway.signals import Catalogue, Cost
from gateway.values import STRING, Type

_COSTS: Final = {cost: rank for rank, cost in enumerate(Cost)}
_OPERATORS: Final = {
    "eq": 1, "in": 1, "ne": 2, "not_in": 2, "lt": 2, "lte": 2, "gt": 2, "gte": 2, "between": 2, "present": 2,
    "any_of": 3, "all_of": 3, "starts_with": 3, "ends_with": 3, "contains": 4, "within": 5, "matches": 6,
}  # fmt: skip
_LETTERS: Final = {Look.RAW: "v", Look.SKELETON: "n", Look.FOLDED: "f"}
_DEAREST: Final = 7
_GROUP: Final = 10
Weight = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a signal by its name, or a measure by its label, or two of them that make a ratio.

    cost: the rank of what resolving it needs; measures are counted before any rule is looked at, so theirs is the lowest.
    """

    number: int
    name: str
    type: Type
    cost: int = 0
    measured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison, shared by every rule that makes it."""

    number: int
    source: Source
    leaf: Leaf
    weight: Weight

    @property
    def look(self) -> Look:
        """The form of a text that is looked at; of a set, each text is."""
        return self.leaf.look

    @property
    def variable(self) -> str:
        """What holds the value in emitted code, in the form that is looked at."""
        return f"{_LETTERS[self.look]}{self.source.number}"


@dataclass(frozen=True, slots=True)
class Join:
    """Terms under `all`, `any` or `none`, cheapest first."""

    word: str
    parts: tuple[Term, ...]
    weight: Weight


Term = Test | Join


@dataclass(slots=True)
class Terms:
    """The terms of rules, in their order. as_declared: parts stay in the order of the condition, whatever they cost."""

    catalogue: Catalogue
    as_declared: bool = False
    rules: list[Rule] = field(default_factory=list)
    roots: list[Term] = field(default_factory=list)
    sources: dict[tuple[str, ...], Source] = field(default_factory=dict)
    tests: dict[tuple[object, ...], Test] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Sequence[Rule], catalogue: Catalogue) -> Terms:
        """The terms of these rules."""
        terms = cls(catalogue)
        for rule in rules:
            terms.rules.append(rule)
            terms.roots.append(terms.term(rule.when, rule.measures))
        return terms

    def term(self, condition: Condition, measures: Mapping[str, Measure | Ratio]) -> Term:
        """A condition in the shared form. measures: what the rule's own names stand for."""
        if isinstance(condition, Leaf):
            return self._test(condition, measures)
        word = condition.word
        flat: dict[str, Term] = {}
        for part in condition.parts:
            below = self.term(part, measures)
            # all(all(…)), any(any(…)) and none(any(…)) add nothing
            members = below.parts if isinstance(below, Join) and below.word == condition.flattens else (below,)
            flat |= {member.weight[2]: member for member in members}
        parts = tuple(flat.values() if self.as_declared else sorted(flat.values(), key=lambda part: part.weight))
        if len(parts) == 1:
            only = parts[0]
            if word != "none":
                return only
            if isinstance(only, Join) and only.word == "none":
                return _join("any", only.parts)
        return _join(word, parts)

    def _test(self, leaf: Leaf, measures: Mapping[str, Measure | Ratio]) -> Test:
        source = self._source(leaf, measures.get(leaf.name))
        # the operator's own name, not the canonical form: `in [x]` and `eq x` differ on values of the wrong type
        key = (source.number, leaf.operator.name, leaf.source or leaf.shown, leaf.view)
        if key not in self.tests:
            rank = _OPERATORS.get(leaf.operator.name, _DEAREST) + len(source.measured)
            rank += _DEAREST if leaf.view is not TextView.RAW else 0
            operand = "@" + "/".join(leaf.source) if leaf.source else leaf.shown
            said = f"{source.name} {leaf.operator.name} {operand} {leaf.view}"
            self.tests[key] = Test(len(self.tests), source, leaf, (source.cost, rank, said))
        return self.tests[key]

    def _source(self, leaf: Leaf, declared: Measure | Ratio | None) -> Source:
        if declared is None:
            return self.signal(leaf.name, leaf.type)
        measured = (declared.over.label, declared.under.label) if isinstance(declared, Ratio) else (declared.label,)
        key = ("measure", *measured)
        if key not in self.sources:
            self.sources[key] = Source(len(self.sources), declared.label, leaf.type, 0, measured)
        return self.sources[key]

    def signal(self, name: str, kind: Type | None = None) -> Source:
        """Where the value of a signal comes from. kind: its type, where it is not to be asked of the catalogue."""
        key = ("signal", name)
        if key not in self.sources:
            signal = self.catalogue.get(name)
            cost, known = (_COSTS[signal.cost], signal.type) if signal else (0, STRING)
            self.sources[key] = Source(len(self.sources), name, kind or known, cost)
        return self.sources[key]


def tests_of(term: Term) -> Iterator[Test]:
    """Every test of a term, as often as it stands there."""
    if isinstance(term, Test):
        yield term
        return
    for part in term.parts:
        yield from tests_of(part)


def spoken(term: Term) -> str:
    """A term in words."""
    if isinstance(term, Test):
        return str(term.leaf)
    return f"{term.word}(" + ", ".join(map(spoken, term.parts)) + ")"


def _join(word: str, parts: tuple[Term, ...]) -> Join:
    said = f"{word}(" + ", ".join(part.weight[2] for part in parts) + ")"
    weight = (max(part.weight[0] for part in parts), _GROUP + sum(part.weight[1] for part in parts), said)
    return Join(word, parts, weight)
