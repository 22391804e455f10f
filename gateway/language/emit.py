"""A policy written out as plain Python: one pass per request over all rules that are not off.

The pass gives the truth of every rule's condition, exactly as the tree walk of `conditions.py` does, which stays as the
reference: a property test holds the two together. What the pass does better:

- a signal is asked for only when a leaf that needs it is reached, and once; so is a measure;
- equal leaves are evaluated once, whichever rules they stand in (across parts of the pass, where that is worth more than
  asking again);
- leaves stand cheapest first, so that a rule ends at a header more often than at a body or a look-up;
- rules that begin with `eq` or `in` on the same signal are found by its value, where there are enough of them;
- texts that many leaves search are scanned once for all (`needles.py`).

Which signals an exchange resolves follows from the policy and its values alone, not from the order of rules or files.

**Three values.** A value of exactly the declared type is compared in place. `Missing` and `Failed` are unknown in place.
Everything else (a capped count, a value of the wrong type) is given to `Leaf.test` itself.

**Why no text of a policy can become code.** Written into the source are only: words of this file, numbers made here, numbers
and truth values of operands (`repr` of exactly `int`, `float`, `bool`), and the names of signals of the catalogue as string
literals (`repr`). Every other operand, list, pattern and label is bound to a name made here (`X7`, `M3`). What people wrote
appears in comments only, reduced to printable ASCII on one line.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

from gateway.decision import Mode
from gateway.language.bindings import Bindings
from gateway.language.needles import gathered
from gateway.language.policy import Policy, Rule
from gateway.language.program import Program, Run
from gateway.language.terms import Join, Terms, Test, spoken, tests_of
from gateway.language.text import Look
from gateway.language.unit import Shared, Unit, comment
from gateway.signals import Catalogue

_NO_CATALOGUE: Final[Catalogue] = {}
_WHOLE: Final = 64  # rules that one function holds
_PART: Final = 24  # rules of a part where there are more: what is compiled in one go holds up a running process
_INDEXED: Final = 6  # different comparisons of one signal that make looking up cheaper than asking each
_LONGEST: Final = 256  # values of a list that an index takes in
_DEAR: Final = {"contains", "matches", "within"}


def compiled(policy: Policy, catalogue: Catalogue = _NO_CATALOGUE) -> Program:
    """The program of a policy. catalogue: what signals cost; without it all are taken to cost the same."""
    rules = tuple(rule for rule in policy.rules if rule.mode is not Mode.OFF)
    units, run = _remembered(_Same(rules, catalogue))
    return Program(rules, units, run)


def source(policy: Policy, catalogue: Catalogue = _NO_CATALOGUE) -> str:
    """The source of a policy's program, for people to read; what runs is compiled from this text."""
    return compiled(policy, catalogue).source


class _Same:
    """The conditions of rules, equal where they are the very same objects: rule tests, replays, explanations and reloads use
    one policy many times, now and then below another mode."""

    __slots__ = ("catalogue", "rules")

    def __init__(self, rules: tuple[Rule, ...], catalogue: Catalogue) -> None:
        self.rules, self.catalogue = rules, catalogue

    def __hash__(self) -> int:
        return hash((id(self.catalogue), *(id(rule.when) for rule in self.rules)))

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Same)
        return self.catalogue is other.catalogue and len(self.rules) == len(other.rules) and all(
            one.id == two.id and one.when is two.when and one.measures is two.measures
            for one, two in zip(self.rules, other.rules, strict=True)
        )  # fmt: skip


@lru_cache(maxsize=2)
def _remembered(same: _Same) -> tuple[tuple[str, ...], Run]:
    emitter = _Emitter(Terms.of(same.rules, same.catalogue))
    return tuple(emitter.units), emitter.bindings.bind(emitter.units, emitter.index)


class _Emitter:
    """Writes the functions of one policy. units: their texts. index: per source, which comparison leads to which functions."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        needles = gathered(list(terms.tests.values()))
        self.bindings = Bindings(needles)
        found = self._found_by_value()
        plain = [number for number in range(len(terms.roots)) if number not in found]
        parts = _cut(plain, _WHOLE if len(plain) <= _WHOLE else _PART)
        guards = {test.number: test for _, test in sorted(found.items())}
        groups = [
            (guard, f"when_{guard.number}_{place}", part)
            for guard in guards.values()
            for place, part in enumerate(_cut([number for number, test in found.items() if test is guard], _PART))
        ]
        scanned = {test.number: key for key, tests in needles.items() for test in tests}
        standing = [[test for n in part for test in tests_of(terms.roots[n])] for part in [*parts, *(g[2] for g in groups)]]
        self.shared = Shared(terms, self.bindings, scanned, _across(standing, scanned))
        self.units: list[str] = []
        self.index: dict[int, list[tuple[Test, tuple[Any, ...], str]]] = {}
        for guard, name, part in groups:
            unit = Unit(self.shared, part, name, f"get, R, M, K, out, l{guard.number}", {f"l{guard.number}"})
            self.units.append(unit.text(f"    # found by {comment(spoken(guard))}"))
            self.index.setdefault(guard.source.number, []).append((guard, tuple(_values(guard) or ()), name))
        inside = parts[0] if len(parts) == 1 and not self.index else []
        for place, part in enumerate(parts if not inside else []):
            self.units.append(Unit(self.shared, part, f"part_{place}", "get, R, M, K, out").text())
        self.units.append(self._run(inside, len(parts)))

    def _run(self, inside: list[int], parts: int) -> str:
        unit = Unit(self.shared, inside, "run", "get, R, M")
        if not inside:
            unit.write(1, *(f"part_{place}(get, R, M, K, out)" for place in range(parts)))
            for number, groups in sorted(self.index.items()):
                value = groups[0][0].source
                unit.used[number] = len(groups)
                unit.value(value, 1, set())
                unit.write(1, f"if t{number}:")
                unit.write(2, f"for part in AT{number}.get(v{number}, NONE):")
                unit.write(3, "part(get, R, M, K, out, True)")
                unit.write(1, "else:")
                unit.write(2, f"for part, ask in EACH{number}:")
                unit.write(3, f"truth = None if t{number} is None else ask(v{number})")
                unit.write(3, "if truth is not False:")
                unit.write(4, "part(get, R, M, K, out, truth)")
            if self.index:
                unit.write(1, "out.sort()")
        unit.write(1, "return out")
        return unit.text("    out = []", *([] if inside else ["    K = {}"]))

    def _found_by_value(self) -> dict[int, Test]:
        """The rules that are found by the value of a signal of the head, and the comparison each begins with."""
        first: dict[int, Test] = {}
        for number, root in enumerate(self.terms.roots):
            test = root.parts[0] if isinstance(root, Join) and root.word == "all" else root
            if isinstance(test, Test) and test.source.cost == 0 and not test.source.measured and _values(test) is not None:
                first[number] = test
        different: dict[int, set[int]] = {}
        for test in first.values():
            different.setdefault(test.source.number, set()).add(test.number)
        return {number: test for number, test in first.items() if len(different[test.source.number]) >= _INDEXED}


def _cut(numbers: list[int], size: int) -> list[list[int]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _across(parts: list[list[Test]], gathered: Collection[int]) -> dict[str, int]:
    """The variables of dear tests that stand in several functions, numbered: they are kept for the whole pass."""
    seen: dict[str, int] = {}
    for part in parts:
        names = {f"l{test.number}" for test in part if test.leaf.operator.name in _DEAR}
        names |= {test.variable for test in part if test.look is not Look.RAW}
        names |= {f"c{test.source.number}_{test.look}" for test in part if test.number in gathered}
        for name in names:
            seen[name] = seen.get(name, 0) + 1
    return {name: place for place, name in enumerate(sorted(name for name, count in seen.items() if count > 1))}


def _values(test: Test) -> Any:
    """The values under which an index finds a comparison, or None where it is no such comparison."""
    leaf = test.leaf
    if test.source.type.element is not None or test.look is not Look.RAW:
        return None
    if leaf.operator.name == "eq":
        return (leaf.operand,)
    return leaf.operand if leaf.operator.name == "in" and len(leaf.operand) <= _LONGEST else None
