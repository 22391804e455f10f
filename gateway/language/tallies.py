"""What the measures of a policy count of one exchange, written out as plain Python: one pass over all of them.

`counting.py` walks the measures one by one and stays as the reference; a property test holds the two together. What the pass
does better: a signal is looked up once for all keys, filters and amounts that speak of it; equal comparisons of all filters are
evaluated once, as those of rules are (`emit.py`, which also says why no text of a policy can become code); the measures that
share a key are named together, and a key that is missing costs one look.

The pass knows values of the expected classes. Whatever else comes (a value of the wrong type, a failed provider, a comparison
that raises) ends it with an exception, and the walk answers for that exchange. Filters are evaluated in the order in which they
are written, as the walk does, so that both resolve the same signals and a record holds the same, whichever counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Final

from gateway.language.bindings import Bindings
from gateway.language.conditions import spoken
from gateway.language.measures import Measure
from gateway.language.terms import Source, Term, Terms, Test, tests_of
from gateway.language.unit import Shared, Unit
from gateway.signals import Catalogue, View
from gateway.state.operations import Count, Sight
from gateway.values import Failed

NUMBERS: Final = (Count.SUM, Count.QUANTILE)  # what counts whole numbers as they are
Counted = tuple[list[str], list[Sight], dict[str, object]]
Tally = Callable[[View], Counted]
KeyOf = Callable[[tuple[str, ...], View], object]
AmountOf = Callable[[Measure, View], object]


class Unusual(Exception):
    """A value that the pass leaves to the walk."""


class _Same:
    """Measures that mean the same: equal labels, and equal operands where a label only names a list."""

    __slots__ = ("amount_of", "catalogue", "key_of", "measures", "over", "said")

    def __init__(
        self, measures: Sequence[Measure], over: bool, catalogue: Catalogue, key_of: KeyOf, amount_of: AmountOf
    ) -> None:
        self.measures, self.over, self.catalogue = tuple(measures), over, catalogue
        self.key_of, self.amount_of = key_of, amount_of
        filters = [one.where for one in measures if one.where is not None]
        listed = [leaf.operand for where in filters for leaf in where.leaves() if leaf.source]
        self.said = (over, [one.label for one in measures], [str(where) for where in filters], listed)

    def __hash__(self) -> int:
        return hash((self.over, id(self.catalogue), *self.said[1]))

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Same)
        return self.catalogue is other.catalogue and self.said == other.said


def tallied(
    measures: Sequence[Measure], over: bool, catalogue: Catalogue, key_of: KeyOf, amount_of: AmountOf
) -> tuple[str, Tally]:
    """The text of the pass over these measures, and the pass: labels, operations, and the values of what cannot be counted.

    over: whether it runs when the exchange is over and then counts what speaks of answers, or before that what speaks of
    requests. key_of and amount_of answer for values of other classes than text and numbers.
    """
    return _remembered(_Same(measures, over, catalogue, key_of, amount_of))


@lru_cache(maxsize=8)
def _remembered(same: _Same) -> tuple[str, Tally]:
    emitter = _Emitter(same)
    text = emitter.text()
    run = emitter.bindings.bind([text], {})
    return text, run  # type: ignore[return-value]  # the function's name is all that both programs share


class _Plain(Bindings):
    """Bindings whose leaves raise what they raise: the walk says then what broke."""

    def ask(self, test: Test) -> str:
        self._names[f"T{test.number}"] = test.leaf.test
        return f"T{test.number}(v{test.source.number})"

    def name(self, name: str, value: object) -> str:
        """Bind a value under a name made by this file."""
        self._names[name] = value
        return name


class _Emitter:
    """Writes the pass over some measures."""

    def __init__(self, same: _Same) -> None:
        self.same, self.terms = same, Terms(same.catalogue, as_declared=True)
        self.bindings = _Plain({})
        for name, value in {"new": tuple.__new__, "S": Sight, "fromkeys": dict.fromkeys, "tuple": tuple}.items():
            self.bindings.name(name, value)
        counting = [measure for measure in same.measures if measure.settled is same.over]
        self.filters: dict[str, Term] = {}
        for measure in counting:
            if measure.where is not None:
                self.filters[_filter(measure)] = self.terms.term(measure.where, {})
        self.places = {said: f"w{place}" for place, said in enumerate(self.filters)}
        self.amounts: dict[tuple[str, bool], list[Measure]] = {}
        for measure in counting:
            if measure.of is not None:
                self.amounts.setdefault(_kind(measure), []).append(measure)
        self.counted = {kind: f"a{place}" for place, kind in enumerate(self.amounts)}
        self.counting: Collection[str] = frozenset(measure.label for measure in counting)

    def text(self) -> str:
        """The source of the pass."""
        unit = Unit(Shared(self.terms, self.bindings, {}, {}), [], "run", "view")
        different = {test.number: test.source.number for term in self.filters.values() for test in tests_of(term)}
        unit.used = Counter(different.values())
        known: set[str] = set()
        keys: dict[tuple[str, ...], list[Measure]] = {}
        for measure in self.same.measures:
            keys.setdefault(measure.per, []).append(measure)
        for place, per in enumerate(keys):
            self._key(unit, place, per, known)
        for said, term in self.filters.items():
            truth = unit.truth(term, 1, known)
            unit.write(1, f"{self.places[said]} = {truth} is True")
        for kind, measures in self.amounts.items():
            self._amount(unit, kind, measures, known)
        for place, measures in enumerate(keys.values()):
            self._rows(unit, place, measures)
        unit.write(1, "return labels, sights, values")
        return unit.text("    get, R = view.get, view.resolved", "    labels, sights, values = [], [], {}")

    def _read(self, unit: Unit, name: str, depth: int, known: set[str]) -> str:
        signal: Source = self.terms.signal(name)
        unit.value(signal, depth, known)
        return f"v{signal.number}"

    def _key(self, unit: Unit, place: int, per: tuple[str, ...], known: set[str]) -> None:
        """Have `k` hold a key. As in the walk, what follows a part that is missing is not asked for."""
        odd, depth, parts = self.bindings.name(f"K{place}", _key(self.same.key_of, per)), 1, []
        unit.write(1, f"k{place} = None")
        for name in per:
            value = self._read(unit, name, depth, known)
            whole = (
                self.bindings.kind(self.terms.signal(name).type) == "int"
            )  # what other kinds say in a key is made by `key_of`
            parts.append(f"str({value})" if whole else value)
            unit.write(depth, f"if type({value}) is {'int' if whole else 'str'}:")
            depth, known = depth + 1, set(known)
        unit.write(depth, f"k{place} = ({''.join(f'{part}, ' for part in parts)})")
        unit.write(1, f"if k{place} is None:", f"    k{place} = {odd}(view)")

    def _amount(self, unit: Unit, kind: tuple[str, bool], measures: list[Measure], known: set[str]) -> None:
        name, whole = kind
        variable, depth = self.counted[kind], 1
        if all(measure.where is not None for measure in measures):
            unit.write(1, f"{variable} = None")
            unit.write(1, f"if {' or '.join(sorted({self.places[_filter(measure)] for measure in measures}))}:")
            depth, known = 2, set(known)
        value = self._read(unit, name, depth, known)
        odd = self.bindings.name(variable.upper(), _amount(self.same.amount_of, measures[0]))
        unit.write(depth, f"{variable} = {value} if type({value}) is {'int' if whole else 'str'} else {odd}(view)")

    def _rows(self, unit: Unit, place: int, measures: list[Measure]) -> None:
        labels = self.bindings.name(f"L{place}", tuple(measure.label for measure in measures))
        unit.write(1, f"if type(k{place}) is tuple:", f"    labels += {labels}", "    sights += (")
        for number, measure in enumerate(measures):
            window = self.bindings.name(f"W_{place}_{number}", measure.window)
            unit.write(3, f"new(S, ({window}, k{place}, {self._value(measure)})),")
        unit.write(2, ")")
        unit.write(1, "else:", f"    values.update(fromkeys({labels}, k{place}))")

    def _value(self, measure: Measure) -> str:
        if measure.label not in self.counting:
            return "None"
        value = "1" if measure.of is None else self.counted[_kind(measure)]
        return value if measure.where is None else f"{value} if {self.places[_filter(measure)]} else None"


def _filter(measure: Measure) -> str:
    return spoken(measure.where.canonical()) if measure.where is not None else ""


def _kind(measure: Measure) -> tuple[str, bool]:
    return measure.of or "", measure.window.kind in NUMBERS


def _key(key_of: KeyOf, per: tuple[str, ...]) -> Callable[[View], object]:
    return lambda view: key_of(per, view)


def _amount(amount_of: AmountOf, measure: Measure) -> Callable[[View], object]:
    def amount(view: View) -> object:
        value = amount_of(measure, view)
        if isinstance(value, Failed):
            raise Unusual
        return value if isinstance(value, (int, str)) else None

    return amount
