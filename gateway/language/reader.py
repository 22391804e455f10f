"""Reading conditions from YAML: names looked up, operands typed, every comparison that could never hold refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any as Anything
from typing import Final

from gateway.errors import did_you_mean
from gateway.language.conditions import GROUPS, RESERVED, All, Condition, Leaf, shown_value
from gateway.language.lists import Resolve, ValueList
from gateway.language.operators import OPERATORS, Networks, Operand, Operator, pattern
from gateway.language.text import TextView
from gateway.language.views import normalised_operand
from gateway.strict.document import Node
from gateway.strict.shapes import VISIBLE, Problems, one_of
from gateway.values import BOOL, CIDR, IP, STRING, Type

Read = tuple[Anything, str, tuple[str, str] | None]
MAX_LEAVES: Final = 500
_GROUPED: Final = {"and": "write all: [...]", "or": "write any: [...]", "not": "write none: [...]"}
_CALLED: Final = {  # what other languages call them
    "equals": "eq", "equal": "eq", "is": "eq", "=": "eq", "==": "eq", "not_equals": "ne", "is_not": "ne", "!=": "ne",
    "<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "less_than": "lt", "greater_than": "gt", "min": "gte", "max": "lte",
    "at_least": "gte", "at_most": "lte", "one_of": "in", "regex": "matches", "match": "matches", "prefix": "starts_with",
    "suffix": "ends_with", "exists": "present", "cidr": "within", "range": "between",
}  # fmt: skip


@dataclass(slots=True)
class Reader:
    """Reads conditions.

    types: every name that may stand in them; lists: what `"@name"` means; broken: measures and `@lists` that were declared
    but could not be read, of which nothing more is said; least: the least value of a name, where its signal states one.
    """

    types: Mapping[str, Type]
    lists: Resolve
    problems: Problems
    broken: frozenset[str] = frozenset()
    least: Mapping[str, float] = field(default_factory=dict)

    def whole(self, node: Node) -> Condition | None:
        """A condition tree whose leaves have names of their own, or None where it could not be read."""
        before = len(self.problems.found)
        condition = self.condition(node)
        seen: set[str] = set()
        leaves = list(condition.leaves()) if condition and len(self.problems.found) == before else []
        if len(leaves) > MAX_LEAVES:
            what = f"a condition of {len(leaves)} comparisons, but {MAX_LEAVES} is the most"
            self.problems.add(node.place, what, "use a list, or write several rules")
        for leaf in leaves:
            if leaf.id in seen and leaf.id != f"{leaf.name}.{leaf.operator.name}":
                self.problems.add(leaf.place, f"leaf id '{leaf.id}' stands twice in this condition", "give each its own")
            seen.add(leaf.id)
        return condition

    def condition(self, node: Node) -> Condition | None:
        """A condition tree, or None where it could not be read (the problems say why)."""
        entries = dict(node.value) if isinstance(node.value, dict) else {}
        label = entries.pop("id", None)
        if not entries:
            said = "only an id" if label else node.kind
            self.problems.add(node.place, f"a condition must be a mapping such as {{name: {{eq: value}}}}, not {said}")
            return None
        if label is not None and not isinstance(label.value, str):
            self.problems.add(label.place, f"a leaf's id must be text, not {label.kind}")
        elif label is not None and not VISIBLE.search(str(label.value)):
            self.problems.add(label.place, "a leaf's id is blank", "write a word, or leave it out")
        before = len(self.problems.found)
        parts: list[Condition] = []
        for key, child in entries.items():
            parts += self._group(key, child) if key in GROUPS else self._leaves(key, child, label)
        if label is not None and len(self.problems.found) == before and (len(parts) > 1 or entries.keys() & RESERVED):
            mend = "write each comparison as an entry of its own under 'all'"
            self.problems.add(label.place, f"id '{label.value}' must name one comparison, not several", mend)
        return None if not parts else parts[0] if len(parts) == 1 else All(tuple(parts))

    def _group(self, word: str, node: Node) -> list[Condition]:
        if not isinstance(node.value, list) or not node.value:
            self.problems.add(node.place, f"'{word}' must be a list of conditions, not {node.kind}")
            return []
        parts = [part for child in node.value if (part := self.condition(child)) is not None]
        return [GROUPS[word](tuple(parts))] if parts else []

    def _leaves(self, name: str, node: Node, label: Node | None) -> list[Condition]:
        kind = self.types.get(name)
        if kind is None:
            if name not in self.broken:
                mend = _GROUPED.get(name) or did_you_mean(name, list(self.types))
                self.problems.add(node.named, f"unknown signal or measure '{name}'", mend)
            return []
        tests: dict[str, Node]
        if isinstance(node.value, dict):
            tests = dict(node.value)
        elif isinstance(node.value, list) or str(node.value).startswith("@"):
            tests = {"any_of" if kind.element else "in": node}
        else:
            tests = {"contains" if kind.element else "eq": node}
        if not tests:
            self.problems.add(node.place, f"'{name}' is compared with nothing", "write {eq: value} or another operator")
        view = self._view(name, kind, tests)
        leaves = [self.leaf(name, kind, word, operand, label, view) for word, operand in tests.items()]
        return [leaf for leaf in leaves if leaf is not None]

    def _view(self, name: str, kind: Type, tests: dict[str, Node]) -> TextView:
        """The `view` that stands among the operators of one name; it is taken out."""
        node = tests.pop("view", None)
        if node is None:
            return TextView.RAW
        view = one_of(TextView, "view")(node, self.problems)
        if kind.scalar is not STRING:
            self.problems.add(node.named, f"'view' is for text, but '{name}' is {kind}", "remove it")
        elif not tests:
            self.problems.add(node.place, f"'{name}' is compared with nothing", "write an operator beside 'view'")
        for word, operand in tests.items():
            if word == "present":
                self.problems.add(operand.named, "'present' looks at no text and takes no 'view'", "write them apart")
        return TextView(view) if view is not None else TextView.RAW

    def leaf(
        self, name: str, kind: Type, word: str, node: Node, label: Node | None = None, view: TextView = TextView.RAW
    ) -> Leaf | None:
        """One comparison, or None where it could not be read."""
        operator = OPERATORS.get(word)
        if operator is None:
            near = _CALLED.get(word.lower().replace("-", "_"))
            mend = f"did you mean '{near}'?" if near else did_you_mean(word, list(OPERATORS))
            mend = mend or "operators: " + ", ".join(OPERATORS)
            self.problems.add(node.named, f"unknown operator '{word}'", mend)
            return None
        if not operator.fits(kind):
            fitting = ", ".join(op.name for op in OPERATORS.values() if op.fits(kind))
            self.problems.add(node.named, f"'{word}' cannot follow '{name}', which is {kind}", f"use one of {fitting}")
            return None
        if isinstance(node.value, str) and node.value in self.broken:
            return None
        try:
            found = self._operand(operator, kind, node)
            if found is not None and view is TextView.NORMALISED:
                found = (normalised_operand(operator, found[0]), *found[1:])
        except ValueError as error:
            self.problems.add(node.place, f"{name}: {error}")
            return None
        if found is None:
            return None
        operand, shown, source = found
        named = str(label.value) if label else f"{name}.{word}"
        return Leaf(named, name, operator, operand, shown, kind, node.place, source, view, self.least.get(name, -math.inf))

    def _operand(self, operator: Operator, kind: Type, node: Node) -> Read | None:
        need = operator.operand
        if need is Operand.LIST:
            return self._several(node, kind.scalar)
        if need is Operand.NETWORKS:
            found = self._several(node, CIDR)
            return (Networks(found[0]), *found[1:]) if found else None
        if need is Operand.PAIR:
            return (*_pair(kind, node), None)
        if isinstance(node.value, (list, dict)) or node.value is None:
            raise ValueError(f"'{operator.name}' takes {need}, not {node.kind}")
        if need is Operand.FLAG:
            value = BOOL.parse(node.value)
            return value, BOOL.show(value).lower(), None
        if need is Operand.PATTERN:
            text = str(STRING.parse(node.value))
            return pattern(text), repr(text), None
        value = kind.scalar.parse(node.value)
        return value, shown_value(kind.scalar, value), None

    def _several(self, node: Node, kind: Type) -> Read | None:
        if isinstance(node.value, str) and node.value.startswith("@"):
            named = self._named(node.value[1:], kind)
            return named.values, node.value, (named.pack, named.name)
        if not isinstance(node.value, list) or not node.value:
            raise ValueError(f'needs a list of values or "@name", not {node.kind}')
        values, before = set(), len(self.problems.found)
        for child in node.value:
            try:
                values.add(kind.parse(child.plain()))
            except ValueError as error:
                self.problems.add(child.place, str(error))
        if len(self.problems.found) > before:
            return None
        return frozenset(values), shown_value(kind, frozenset(values)), None

    def _named(self, name: str, kind: Type) -> ValueList:
        found = self.lists.get(name)
        if found is None:
            near = get_close_matches(name, list(self.lists), n=1)
            mend = f"did you mean '@{near[0]}'?" if near else "declare it under 'lists'"
            raise ValueError(f"no list named '{name}' in this pack; {mend}")
        if found.type is not kind and not (kind is CIDR and found.type is IP):
            raise ValueError(f"list '{name}' holds {found.type} values, but {kind} is needed")
        return found


def _pair(kind: Type, node: Node) -> tuple[tuple[Anything, Anything], str]:
    if not isinstance(node.value, list) or len(node.value) != 2:
        raise ValueError("'between' takes two values, low and high, such as [1, 5]")
    low: Anything
    low, high = (kind.parse(child.plain()) for child in node.value)
    if low > high:
        shown = f"{kind.show(low)} is more than {kind.show(high)}"
        raise ValueError(f"{shown}, so nothing can lie between; write the lower one first")
    return (low, high), f"[{kind.show(low)}, {kind.show(high)}]"
