"""What the measures of a policy count of one exchange. Pure.

Many measures share their key, their filter or what they count. So each of these is found once for an exchange, by the same
functions that answer for one measure (`readings.key_of`, `readings.counted`), and a measure is a row that says which it needs.

Exchanges of everyday values go through a pass written out for these measures (`language.tallies`); the rows are walked where a
value is not of the class it should be, and to say what broke.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.language.conditions import spoken
from gateway.language.measures import Measure
from gateway.language.tallies import tallied
from gateway.readings import amount_of, key_of, passes
from gateway.signals import NOT_RECORDED, Catalogue, View, held
from gateway.state.operations import Sight
from gateway.values import Failed, Missing

Amount = int | str | Missing | Failed
NO_CATALOGUE: Catalogue = {}
_MOST_SHAPES = 256


@dataclass(frozen=True, slots=True)
class _Row:
    """One measure by places: of its key, its filter (0: none) and what it counts (0: exchanges)."""

    measure: Measure
    key: int
    where: int
    of: int


def _filter(measure: Measure) -> str:
    return spoken(measure.where.canonical()) if measure.where is not None else ""


def _kind(measure: Measure) -> tuple[str, str]:
    return (measure.of, str(measure.window.kind)) if measure.of is not None else ("", "")


class Counting:
    """The measures of a policy, laid out so that what they share is looked at once."""

    def __init__(self, measures: Iterable[Measure], catalogue: Catalogue = NO_CATALOGUE) -> None:
        listed = list(measures)
        self._pers = list(dict.fromkeys(measure.per for measure in listed))
        wheres = {_filter(measure): measure for measure in listed if measure.where is not None}
        kinds = {_kind(measure): measure for measure in listed if measure.of is not None}
        self._wheres, self._amounts = list(wheres.values()), list(kinds.values())
        filters = {"": 0, **{text: place for place, text in enumerate(wheres, start=1)}}
        amounts = {("", ""): 0, **{kind: place for place, kind in enumerate(kinds, start=1)}}
        self._rows = [
            _Row(measure, self._pers.index(measure.per), filters[_filter(measure)], amounts[_kind(measure)])
            for measure in listed
        ]
        self._settled = [row for row in self._rows if row.measure.settled]
        issued = {name: signal.issued_as for name, signal in catalogue.items() if signal.issued_as}
        self._issued = [
            (row, place, issued[name])
            for row in self._rows if not row.measure.settled
            for place, name in enumerate(row.measure.per) if name in issued
        ]  # fmt: skip
        looked = {name for measure in listed for name in measure.counts}
        self._held = frozenset(name for name in looked if name in catalogue and held(catalogue[name]))
        self._after = [name for name in sorted(looked) if name in catalogue and catalogue[name].settled]
        self._shapes: dict[frozenset[str], list[Measure]] = {}
        counting = ((False, listed), (True, [row.measure for row in self._settled]))
        self._tallies = {over: tallied(measures, over, catalogue, key_of, amount_of)[1] for over, measures in counting}

    def sights(self, view: View, over: bool) -> tuple[list[str], list[Sight], dict[str, object]]:
        """The labels and operations of what is counted, and the values of what cannot be, by label.

        Before the answer every measure is looked at, and those that speak of requests count; once it is over, those count
        that speak of answers. A measure whose key, filter or value breaks has a value that says so: its rules end as errors.
        """
        try:
            return self._tallies[over](view)
        except Exception:  # a value of another class than its type, or a comparison that raises: the walk tells of it
            return self.walked(view, over)

    def walked(self, view: View, over: bool) -> tuple[list[str], list[Sight], dict[str, object]]:
        """The same, measure by measure: the reference."""
        keys: list[tuple[str, ...] | Missing | Failed | None] = [None] * len(self._pers)
        passing: list[bool | Failed | None] = [True, *([None] * len(self._wheres))]
        amounts: list[Amount | None] = [1, *([None] * len(self._amounts))]
        labels: list[str] = []
        sights: list[Sight] = []
        values: dict[str, object] = {}
        for row in self._settled if over else self._rows:
            measure = row.measure
            key = keys[row.key]
            if key is None:
                key = keys[row.key] = key_of(self._pers[row.key], view)
            value = self._value(row, passing, amounts, view) if measure.settled is over else None
            if not isinstance(key, tuple):
                values[measure.label] = key
            elif isinstance(value, Failed):
                values[measure.label] = value
            else:
                labels.append(measure.label)
                sights.append(Sight(measure.window, key, None if isinstance(value, Missing) else value))
        return labels, sights, values

    def unrecorded(self, view: View) -> dict[str, object]:
        """Of an exchange read from a record: the measures that count what the record does not hold, by label.

        They cannot count it, so what they read would be taken for less than there was: missing is not false.
        """
        recorded = view.facts.recorded or {}
        lacking = frozenset(self._held - recorded.keys()) | {one for one in self._after if recorded.get(one) == NOT_RECORDED}
        if not lacking:
            return {}
        touched = self._shapes.get(lacking)
        if touched is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            listed = [row.measure for row in self._rows]
            touched = self._shapes[lacking] = [measure for measure in listed if not lacking.isdisjoint(measure.counts)]
        aside = View(view.facts, view.catalogue, None, view.resolved.copy(), view.declared)  # what is looked at is not recorded
        return {measure.label: NOT_RECORDED for measure in touched if _misses(measure, lacking, aside)}

    @property
    def hears(self) -> bool:
        """Whether something is counted by what answers issue."""
        return bool(self._issued)

    def issued(self, view: View) -> list[Sight]:
        """What is counted under the values that an answer issued, as if the call it answers had handed them back."""
        passing: list[bool | Failed | None] = [True, *([None] * len(self._wheres))]
        amounts: list[Amount | None] = [1, *([None] * len(self._amounts))]
        found: list[Sight] = []
        for row, place, name in self._issued:
            values, per = view.get(name), row.measure.per
            rest = key_of((*per[:place], *per[place + 1 :]), view) if isinstance(values, frozenset) else None
            value = self._value(row, passing, amounts, view) if isinstance(rest, tuple) else None
            if isinstance(values, frozenset) and isinstance(rest, tuple) and isinstance(value, (int, str)):
                found += [Sight(row.measure.window, (*rest[:place], one, *rest[place:]), value) for one in sorted(values)]
        return found

    def _value(self, row: _Row, passing: list[bool | Failed | None], amounts: list[Amount | None], view: View) -> Amount | None:
        """What a measure counts, None where its filter lets the exchange not through."""
        let = passing[row.where]
        if let is None:
            let = passing[row.where] = self._lets(row.where, view)
        if not let or isinstance(let, Failed):
            return let or None
        value = amounts[row.of]
        if value is None:
            value = amounts[row.of] = self._amount(row.of, view)
        return value

    def _lets(self, place: int, view: View) -> bool | Failed:
        try:
            return passes(self._wheres[place - 1], view)
        except Exception as error:  # a provider of the wrong type: its rules end as error, the others go on
            return Failed(f"{type(error).__name__}: {error}")

    def _amount(self, place: int, view: View) -> Amount:
        try:
            return amount_of(self._amounts[place - 1], view)
        except Exception as error:  # likewise
            return Failed(f"{type(error).__name__}: {error}")


def _misses(measure: Measure, lacking: frozenset[str], view: View) -> bool:
    """Whether a measure would count an exchange by signals that are not recorded, as far as that is known before the answer."""
    if measure.where is None or measure.settled:
        return True
    try:
        truth = measure.where.evaluate(view.get)
    except Exception:  # a provider of the wrong type: the pass that counts says so
        return False
    if truth is None:
        return not lacking.isdisjoint(leaf.name for leaf in measure.where.leaves())
    return truth and measure.of in lacking
