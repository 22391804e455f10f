"""One function of an emitted program, written line by line; `emit.py` says what is written and why it is safe.

Variables: `v` a value, `t` whether it is of its type (True, None where it is absent, else False), `l` the truth of a leaf, `g`
of a group, `n` a normalised text and `f` the one that patterns look at (both None where it is no text or had to be cut), `c`
the leaves that a text could pass. A variable that an earlier line may or may not have set is looked at first (`if v3 is U`);
where it must have been set, it is just used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.language.bindings import Bindings
from gateway.language.terms import Join, Source, Term, Terms, Test, spoken, tests_of
from gateway.language.text import Look

_NESTED: Final = 8  # parts of an `all` that are written one inside the other
_SAID: Final = 200


@dataclass(frozen=True, slots=True)
class Shared:
    """What the functions of one program share.

    gathered: the tests whose texts are scanned together, with the source and view; across: the variables that are kept for
    the whole pass, numbered.
    """

    terms: Terms
    bindings: Bindings
    gathered: Mapping[int, tuple[int, str]]
    across: Mapping[str, int]


class Unit:
    """One function being written. known: variables that are set wherever the line being written is reached."""

    def __init__(
        self, shared: Shared, numbers: Iterable[int], name: str, parameters: str, known: set[str] | None = None
    ) -> None:
        self._shared, self.name, self.parameters = shared, name, parameters
        self.lines: list[str] = []
        self.started: set[str] = set()
        self.unset: list[str] = []
        known = set() if known is None else set(known)
        roots = {number: shared.terms.roots[number] for number in numbers}
        different = {test.number: test.source.number for root in roots.values() for test in tests_of(root)}
        self.used = Counter(different.values())  # a value that one test looks at needs no variable for its type
        for number in roots:
            self._rule(number, known)

    def text(self, *head: str) -> str:
        """The function's source."""
        unset = [f"    {' = '.join(self.unset)} = U"] if self.unset else []
        return "\n".join([f"def {self.name}({self.parameters}):", *head, *unset, *(self.lines or ["    pass"]), ""])

    def write(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def value(self, source: Source, depth: int, known: set[str]) -> None:
        """Have `v` hold a source's value, and `t` whether it is of the type: True, None where absent, else False."""
        name, number = f"v{source.number}", source.number
        inner = self._once(name, depth, known)
        if inner is None:
            return
        self.write(inner, f"v{number} = {self._shared.bindings.reading(source)}")
        if not source.measured:
            self.write(inner, f"if v{number} is U:", f"    v{number} = get({source.name!r})")
        if self.used[number] > 1:
            kind = self._shared.bindings.kind(source.type)
            typed = f"True if type(v{number}) is {kind} else None if type(v{number}) in ABSENT else False"
            self.write(inner, f"t{number} = {typed}")

    def test(self, test: Test, depth: int, known: set[str]) -> str:
        """Have a variable hold a test's truth; its name."""
        name = f"l{test.number}"
        inner = self._once(name, depth, known)
        if inner is None:
            return name
        inside = known if inner == depth else set(known)
        self.value(test.source, inner, inside)
        expression = self._asked(test, inner, inside)
        self.write(inner, f"{self._kept(name)}{expression}")
        return name

    def _asked(self, test: Test, depth: int, known: set[str]) -> str:
        """The expression of a test, once its value is there."""
        number, bindings = test.source.number, self._shared.bindings
        shared = self.used[number] > 1
        typed = f"t{number}" if shared else f"type(v{number}) is {bindings.kind(test.source.type)}"
        absent = f"t{number} is None" if shared else f"type(v{number}) in ABSENT"
        plain = bindings.plain(test)
        if test.look is not Look.RAW and test.source.type.element is None:
            self._derived(test.variable, f"{test.look}(v{number}) if {typed} else None", depth, known)
            typed = f"{test.variable} is not None"
        if test.number in self._shared.gathered:
            scan = bindings.scan(*self._shared.gathered[test.number])
            looked = f"{scan}({test.variable}) if {typed} else NONE"
            found = self._derived(f"c{number}_{test.look}", looked, depth, known)
            plain = f"({plain} if {test.number} in {found} else False)"
        return f"{plain} if {typed} else {bindings.absent(test)} if {absent} else {bindings.ask(test)}"

    def _derived(self, name: str, expression: str, depth: int, known: set[str]) -> str:
        """Have a variable hold something made of a test's value; its name."""
        inner = self._once(name, depth, known)
        if inner is not None:
            self.write(inner, self._kept(name) + expression)
        return name

    def _once(self, name: str, depth: int, known: set[str]) -> int | None:
        """At which depth to write what sets a variable; None where it is set already."""
        if name in known:
            return None
        known.add(name)
        if name not in self.started:
            self.started.add(name)
        else:
            if name not in self.unset:
                self.unset.append(name)
            self.write(depth, f"if {name} is U:")
            depth += 1
        if name in self._shared.across:
            self.write(depth, f"{name} = K.get({self._shared.across[name]}, U)", f"if {name} is U:")
            depth += 1
        return depth

    def _kept(self, name: str) -> str:
        """What an assignment to a variable begins with; one of several functions is kept for the whole pass."""
        return f"{name} = K[{self._shared.across[name]}] = " if name in self._shared.across else f"{name} = "

    def _rule(self, number: int, known: set[str]) -> None:
        root = self._shared.terms.roots[number]
        self.write(1, f"# {comment(self._shared.terms.rules[number].id)}: {comment(spoken(root))}")
        if isinstance(root, Join) and root.word == "all" and len(root.parts) <= _NESTED:
            names, depth = [], 1
            for part in root.parts:
                names.append(self.truth(part, depth, known))
                self.write(depth, f"if {names[-1]} is not False:")
                depth, known = depth + 1, set(known)
            self.write(depth, f"out.append(({number}, {' and '.join(names)}))")
            return
        name = self.truth(root, 1, known)
        self.write(1, f"if {name} is not False:", f"    out.append(({number}, {name}))")

    def truth(self, term: Term, depth: int, known: set[str], level: int = 0) -> str:
        """Have a variable hold a term's truth; its name."""
        if isinstance(term, Test):
            return self.test(term, depth, known)
        name = f"g{level}_{depth}"
        decided = "False" if term.word == "all" else "True"
        first = self.truth(term.parts[0], depth, known, level + 1)
        self.write(depth, f"{name} = {first}")
        for part in term.parts[1:]:
            self.write(depth, f"if {name} is not {decided}:")
            other = self.truth(part, depth + 1, set(known), level + 1)
            joined = (
                f"{other} and {name}" if decided == "False" else f"True if {other} else {name} if {other} is False else None"
            )
            self.write(depth + 1, f"{name} = {joined}")
        if term.word == "none":
            self.write(depth, f"{name} = None if {name} is None else not {name}")
        return name


def comment(text: str) -> str:
    """A text as it may stand in a comment: printable ASCII on one line, of bounded length."""
    said = ascii(text)[1:-1]
    return said if len(said) <= _SAID else said[:_SAID] + "..."
