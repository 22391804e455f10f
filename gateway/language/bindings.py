"""What the names in emitted source stand for: operands, labels, matchers, and the functions that answer for odd values.

Only here does anything of a policy meet emitted code, and it does so as a value under a name made here, never as text; except
numbers and truth values of exactly those types, and signal names as string literals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from gateway.language.conditions import Truth
from gateway.language.needles import matcher
from gateway.language.program import NOT_COUNTED, Run, ratio
from gateway.language.terms import Source, Test
from gateway.language.text import WHOLE, Look
from gateway.values import Failed, Missing, Type

_KINDS: Final = (str, int, float, bool, frozenset)
_REMEMBERED: Final = 1_024
_FAST: Final = {
    "eq": "{v} == {x}", "ne": "{v} != {x}", "in": "{v} in {x}", "not_in": "{v} not in {x}",
    "lt": "{v} < {x}", "lte": "{v} <= {x}", "gt": "{v} > {x}", "gte": "{v} >= {x}", "between": "{x[0]} <= {v} <= {x[1]}",
    "contains": "{x} in {v}", "starts_with": "{v}.startswith({x})", "ends_with": "{v}.endswith({x})",
    "any_of": "not {v}.isdisjoint({x})", "all_of": "{v} >= {x}", "present": "{x}",
}  # fmt: skip
_OF_NONE: Final = {"in": "False", "not_in": "True", "any_of": "False", "all_of": "True"}
_OF_ONE: Final = {"in": "eq", "not_in": "ne", "any_of": "contains", "all_of": "contains"}

# per source: comparisons, the values that fulfil each, and the name of the function that it leads to
Index = Mapping[int, Sequence[tuple[Test, tuple[Any, ...], str]]]


class Bindings:
    """Names and values, gathered while source is written."""

    def __init__(self, needles: Mapping[tuple[int, str], Sequence[Test]]) -> None:
        self._names: dict[str, Any] = {
            "U": object(), "ABSENT": frozenset({Missing, Failed}), "NONE": (), "NOT_COUNTED": NOT_COUNTED, "ratio": ratio,
            **{str(look): whole for look, whole in WHOLE.items()}, **{kind.__name__: kind for kind in _KINDS}, "type": type,
            "__builtins__": {},
        }  # fmt: skip
        self._needles = needles

    def reading(self, source: Source) -> str:
        """The expression that reads a source's value, `U` where a signal is not resolved yet."""
        if not source.measured:
            return f"R.get({source.name!r}, U)"
        reads = []
        for place, label in enumerate(source.measured):
            name = f"M{source.number}_{place}"
            self._names[name] = label
            reads.append(f"M.get({name}, NOT_COUNTED)")
        return reads[0] if len(reads) == 1 else f"ratio({', '.join(reads)})"

    def kind(self, kind: Type) -> str:
        """The class that values of a type are of, exactly."""
        return next(found.__name__ for found in _KINDS if kind.holds(found()))

    def plain(self, test: Test) -> str:
        """The comparison of a value that is of its type, as an expression."""
        word, operand = test.leaf.operator.name, test.leaf.operand
        texts = test.source.type.element is None
        if test.look is not Look.RAW and not texts:
            return self.ask(test)
        value = test.variable
        if word == "within":
            self._names[f"W{test.number}"] = lru_cache(maxsize=_REMEMBERED)(test.leaf.test)
            return f"W{test.number}({value})"
        if word not in _FAST:
            self._names[f"F{test.number}"] = _of(test.leaf.operator.test, operand)
            return f"F{test.number}({value})"
        if word in _OF_NONE and len(operand) < 2:
            if not operand:
                return _OF_NONE[word]
            word, (operand,) = _OF_ONE[word], operand
        return _FAST[word].format(v=value, x=self._operand(operand, test.number))

    def _operand(self, operand: Any, number: int) -> Any:
        if type(operand) in (int, bool) or (type(operand) is float and isfinite(operand)):
            return repr(operand)
        if type(operand) is tuple:
            return tuple(self._operand(part, number) for part in operand)
        self._names[f"X{number}"] = operand
        return f"X{number}"

    def absent(self, test: Test) -> str:
        """The truth of a test whose value is missing or failed."""
        return repr(not test.leaf.operand) if test.leaf.operator.name == "present" else "None"

    def ask(self, test: Test) -> str:
        """The expression that has the leaf itself answer, whatever the value is."""
        self._names[f"T{test.number}"] = guarded(test.leaf.test)
        return f"T{test.number}(v{test.source.number})"

    def scan(self, number: int, look: str) -> str:
        """The name of the matcher over the texts of a source."""
        name = f"S{number}_{look}"
        if name not in self._names:
            self._names[name] = matcher(self._needles[number, look])
        return name

    def bind(self, units: Sequence[str], index: Index) -> Run:
        """The function `run` of these units."""
        names = self._names
        for place, unit in enumerate(units):
            code = compile(unit, f"<policy part {place}>", "exec", dont_inherit=True)
            exec(code, names)  # noqa: S102 - text written by emit.py, which says there why nothing of a policy is in it
        for number, entries in index.items():
            table: dict[Any, tuple[Any, ...]] = {}
            for _, values, name in entries:
                for value in values:
                    table[value] = (*table.get(value, ()), names[name])
            names[f"AT{number}"] = table
            names[f"EACH{number}"] = tuple((names[name], guarded(test.leaf.test)) for test, _, name in entries)
        return names["run"]  # type: ignore[no-any-return]


def guarded(test: Callable[[Any], Truth]) -> Callable[[Any], Truth]:
    """A leaf's own test; one that breaks is unknown, and why it broke is told when its rule's end is."""

    def ask(value: Any) -> Truth:
        try:
            return test(value)
        except Exception:  # a value of a class of its own, whose comparison raises: an error acts as unknown
            return None

    return ask


def _of(test: Callable[[Any, Any], bool], operand: Any) -> Callable[[Any], bool]:
    return lambda value: test(value, operand)
