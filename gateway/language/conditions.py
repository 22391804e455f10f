"""Conditions: Kleene trees over signals and measures.

A `Leaf` is one named comparison; `All`, `Any`, `No` combine. Evaluation gives True, False, or None for unknown.
A missing or failed value makes a leaf unknown, never false; `present` alone is never unknown. The same `Leaf.test`
decides and explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any as Anything

from gateway.errors import Place, did_you_mean
from gateway.strict.document import Node
from gateway.language.lists import Resolve, ValueList
from gateway.language.operators import OPERATORS, Networks, Operand, Operator, pattern
from gateway.strict.shapes import Problems
from gateway.values import CIDR, IP, AtLeast, Failed, Missing, Type

Values = Callable[[str], object]
Truth = bool | None


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison: `name operator operand`. `shown` is the operand as written, for people and the digest."""

    id: str
    name: str
    operator: Operator
    operand: Anything = field(compare=False)
    shown: str
    type: Type
    place: Place = field(compare=False)

    def evaluate(self, values: Values) -> Truth:
        return self.test(values(self.name))

    def test(self, value: object) -> Truth:
        """The comparison for one value."""
        absent = isinstance(value, (Missing, Failed))
        if self.operator.operand is Operand.FLAG:
            return absent is not self.operand
        if absent:
            return None
        if isinstance(value, AtLeast):
            return self.operator.bounded(value.count, self.operand)
        return self.operator.test(value, self.operand)

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def canonical(self) -> object:
        return [self.name, self.operator.name, self.shown]

    def __str__(self) -> str:
        return f"{self.name} {self.operator.name} {self.shown}"


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions combined. Subclasses state how."""

    parts: tuple[Condition, ...]
    word = ""

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def canonical(self) -> object:
        return {self.word: sorted((part.canonical() for part in self.parts), key=repr)}

    def __str__(self) -> str:
        return f"{self.word}(" + ", ".join(str(part) for part in self.parts) + ")"


class All(Group):
    """True when every part is; false as soon as one is false."""

    __slots__ = ()
    word = "all"

    def evaluate(self, values: Values) -> Truth:
        result: Truth = True
        for part in self.parts:
            truth = part.evaluate(values)
            if truth is False:
                return False
            if truth is None:
                result = None
        return result


class Any(Group):
    """True as soon as one part is; false when every part is false."""

    __slots__ = ()
    word = "any"

    def evaluate(self, values: Values) -> Truth:
        result: Truth = False
        for part in self.parts:
            truth = part.evaluate(values)
            if truth is True:
                return True
            if truth is None:
                result = None
        return result


class No(Group):
    """True when every part is false; the negation of `any`."""

    __slots__ = ()
    word = "none"

    def evaluate(self, values: Values) -> Truth:
        truth = Any(self.parts).evaluate(values)
        return None if truth is None else not truth


Condition = Leaf | All | Any | No
_GROUPS: dict[str, type[All] | type[Any] | type[No]] = {"all": All, "any": Any, "none": No}


@dataclass(slots=True)
class Reader:
    """Reads conditions. types: every name that may stand in them; lists: what `"@name"` means."""

    types: Mapping[str, Type]
    lists: Resolve
    problems: Problems

    def condition(self, node: Node) -> Condition | None:
        """A condition tree, or None where it could not be read (the problems say why)."""
        if not isinstance(node.value, dict) or not node.value:
            self.problems.add(node.place, f"a condition must be a mapping such as {{name: {{eq: value}}}}, not {node.kind}")
            return None
        entries = dict(node.value)
        label = entries.pop("id", None)
        parts: list[Condition] = []
        for key, child in entries.items():
            parts += self._group(key, child) if key in _GROUPS else self._leaves(key, child, label)
        return None if not parts else parts[0] if len(parts) == 1 else All(tuple(parts))

    def _group(self, word: str, node: Node) -> list[Condition]:
        if not isinstance(node.value, list) or not node.value:
            self.problems.add(node.place, f"'{word}' must be a list of conditions, not {node.kind}")
            return []
        parts = [part for child in node.value if (part := self.condition(child)) is not None]
        return [_GROUPS[word](tuple(parts))] if parts else []

    def _leaves(self, name: str, node: Node, label: Node | None) -> list[Condition]:
        kind = self.types.get(name)
        if kind is None:
            self.problems.add(node.place, f"unknown signal or measure '{name}'", did_you_mean(name, list(self.types)))
            return []
        tests: dict[str, Node]
        if isinstance(node.value, dict):
            tests = node.value
        elif isinstance(node.value, list) or str(node.value).startswith("@"):
            tests = {"any_of" if kind.element else "in": node}
        else:
            tests = {"contains" if kind.element else "eq": node}
        leaves = [self._leaf(name, kind, word, operand, label) for word, operand in tests.items()]
        return [leaf for leaf in leaves if leaf is not None]

    def _leaf(self, name: str, kind: Type, word: str, node: Node, label: Node | None) -> Leaf | None:
        operator = OPERATORS.get(word)
        if operator is None:
            self.problems.add(node.place, f"unknown operator '{word}'", did_you_mean(word, list(OPERATORS)))
            return None
        if not operator.fits(kind):
            fitting = ", ".join(op.name for op in OPERATORS.values() if op.fits(kind))
            self.problems.add(node.place, f"'{word}' cannot follow '{name}', which is {kind}", f"use one of {fitting}")
            return None
        try:
            operand, shown = self._operand(operator, kind, node)
        except ValueError as error:
            self.problems.add(node.place, str(error))
            return None
        return Leaf(str(label.value) if label else f"{name}.{word}", name, operator, operand, shown, kind, node.place)

    def _operand(self, operator: Operator, kind: Type, node: Node) -> tuple[Anything, str]:
        need = operator.operand
        if need is Operand.FLAG:
            if not isinstance(node.value, bool):
                raise ValueError(f"'{operator.name}' takes true or false, not {node.kind}")
            return node.value, str(node.value).lower()
        if need is Operand.PATTERN:
            return pattern(str(node.value)), repr(str(node.value))
        if need is Operand.NETWORKS:
            values, shown = self._several(node, CIDR)
            return Networks(values), shown
        if need is Operand.LIST:
            return self._several(node, kind.scalar)
        if need is Operand.PAIR:
            if not isinstance(node.value, list) or len(node.value) != 2:
                raise ValueError(f"'{operator.name}' takes two values, low and high")
            low, high = (kind.parse(child.plain()) for child in node.value)
            if low > high:  # type: ignore[operator]
                raise ValueError(f"{kind.show(low)} is more than {kind.show(high)}, so nothing can lie between")
            return (low, high), f"[{kind.show(low)}, {kind.show(high)}]"
        value = kind.scalar.parse(node.plain())
        return value, kind.scalar.show(value)

    def _several(self, node: Node, kind: Type) -> tuple[frozenset[Anything], str]:
        if isinstance(node.value, str) and node.value.startswith("@"):
            found = self._named(node.value[1:], kind, node)
            return found.values, node.value
        if not isinstance(node.value, list) or not node.value:
            raise ValueError(f"needs a list of values or \"@name\", not {node.kind}")
        values = frozenset(kind.parse(child.plain()) for child in node.value)
        return values, "[" + ", ".join(sorted(kind.show(value) for value in values)) + "]"

    def _named(self, name: str, kind: Type, node: Node) -> ValueList:
        found = self.lists(name)
        if found is None:
            raise ValueError(f"no list named '{name}' in this pack")
        if found.type is not kind and not (kind is CIDR and found.type is IP):
            raise ValueError(f"list '{name}' holds {found.type} values, but {kind} is needed")
        return found


def lacking(condition: Condition, values: Values) -> tuple[tuple[str, ...], str]:
    """The names whose values were missing, and the text of the first failure, of a condition that ended unknown."""
    missing, failure = [], ""
    for leaf in condition.leaves():
        value = values(leaf.name)
        if leaf.test(value) is None and leaf.name not in missing:
            missing.append(leaf.name)
            if isinstance(value, Failed) and not failure:
                failure = f"{leaf.name}: {value.reason}"
    return tuple(missing), failure
