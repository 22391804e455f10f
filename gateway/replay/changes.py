"""«What would change it»: suppositions that are claimed only because they were evaluated.

The search proposes values (`probes`) and asks the rule's own condition; what it finds goes through the whole engine, with
everything else as recorded, and only what the engine then says is told. Single values come first; pairs where no single
one reaches an end. The work is bounded by the constants below, and what was left out is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Any, Final

from gateway.decision import Verdict
from gateway.language.conditions import Leaf, Truth
from gateway.language.measures import Measure, Ratio, ceiling
from gateway.language.policy import Rule
from gateway.readings import counted, exception_of, rule_values, step_of
from gateway.replay.explain import Explanation, flat
from gateway.replay.probes import Rung, height, ladder, proposals, spoken, thresholds_of
from gateway.replay.remedies import remedies
from gateway.replay.scene import Again, Supposed
from gateway.state.operations import Count
from gateway.values import AtLeast, Failed, Missing, Type

MOST_NAMES: Final = 16
MOST_REGIMES: Final = 4
MOST_PAIRS: Final = 4
MOST_TRIED: Final = 4_000
_DECIDED: Final[dict[Truth, Verdict]] = {True: Verdict.MATCH, False: Verdict.NO_MATCH}

Result = tuple[Truth, str, int | None]
Judge = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value supposed to be another. phrase: the range it stands for; value: the nearest value of it."""

    name: str
    was: str
    phrase: str
    value: object
    kind: Type
    supposed: Supposed

    def told(self) -> dict[str, Any]:
        plain = None if isinstance(self.value, Missing) else self.kind.plain(self.value)
        return {"name": self.name, "from": self.was, "to": self.phrase, "value": plain}


@dataclass(frozen=True, slots=True)
class Search:
    """One rule on one exchange, to be judged under suppositions by its own condition."""

    rule: Rule
    told: Explanation

    def values(self, supposed: Supposed) -> Callable[[str], object]:
        """What the rule's names stand for under a supposition."""
        measured = {**self.told.evaluated.values, **supposed.measures}
        return rule_values(flat(self.rule, set(supposed.measures)), self.told.scene.supposing(supposed), measured)

    def result(self, supposed: Supposed) -> Result:
        """How the rule ends by itself: its condition, then its exceptions, then its step."""
        values = self.values(supposed)
        truth = self.rule.when.evaluate(values)
        if truth is not True:
            return truth, "", None
        excepted = exception_of(self.rule, self.told.scene.supposing(supposed))
        return truth, excepted, None if excepted else step_of(self.rule, values)

    def names(self) -> list[str]:
        """The names that can decide, in the order of the rule."""
        found = [leaf.name for leaf in self.rule.when.leaves()] + ([self.rule.response.of] if self.rule.response.of else [])
        return list(dict.fromkeys(found))[:MOST_NAMES]

    def leaves(self, name: str) -> list[Leaf]:
        return [leaf for leaf in self.rule.when.leaves() if leaf.name == name]

    def kind(self, name: str) -> Type:
        declared = self.rule.measures.get(name)
        return declared.type if declared else self.told.view.catalogue[name].type

    def setting(self, name: str, value: object, phrase: str) -> Setting:
        declared, kind = self.rule.measures.get(name), self.kind(name)
        was = self.values(Supposed())(name)
        shown = (
            ("missing" if isinstance(was, Missing) else "failed") if isinstance(was, (Missing, Failed)) else spoken(kind, was)
        )
        supposed = Supposed(measures={declared.label: value}) if declared else Supposed(signals={name: value})
        return Setting(name, shown, phrase, value, kind, supposed)

    def settings(self, name: str, judge: Callable[[Supposed], object]) -> list[Setting]:
        """The nearest values of a name for which the judge says something else than now, each with its range."""
        current, kind = self.values(Supposed())(name), self.kind(name)

        def judged(value: object) -> object:
            return judge(self.setting(name, value, "").supposed)

        now, found = judge(Supposed()), []
        if kind.ordered:
            found = [self.setting(name, *one) for one in _regimes(self._ladder(name, current), current, judged, now)]
        taken = frozenset().union(*(_items(leaf) for leaf in self.leaves(name)))
        seen = {repr(judged(one.value)) for one in found} | {repr(now)}
        for leaf in self.leaves(name):
            for value, phrase in proposals(leaf, current, taken, self.told.policy.lists):
                if kind.ordered and not isinstance(value, Missing):
                    continue
                if (key := repr(judged(value))) not in seen:
                    seen.add(key)
                    found.append(self.setting(name, value, phrase))
        return found

    def _ladder(self, name: str, current: object) -> list[Rung]:
        declared, kind, starts = self.rule.measures.get(name), self.kind(name), self.rule.response.starts
        numbers = [number for leaf in self.leaves(name) for number in thresholds_of(leaf)]
        numbers += starts if self.rule.response.of == name else []
        numbers += self._of_ratios(name)
        stands = height(current)
        positive = declared is not None or (min(numbers, default=0) >= 0 and (stands or 0) >= 0)
        lowest = self._own(declared) if positive else None
        return ladder(kind, numbers, stands or 0, ceiling(declared) if declared else None, lowest)

    def _own(self, declared: Measure | Ratio | None) -> int:
        """What this request alone makes a count or sum, when it is counted as it is judged: no lower value can be."""
        if not isinstance(declared, Measure) or declared.settled:
            return 0
        value = counted(declared, self.told.view)
        own = value if declared.window.kind is Count.SUM else 1 if declared.window.kind in (Count.COUNT, Count.DISTINCT) else 0
        return max(own, 0) if value is not None and isinstance(own, int) else 0

    def _of_ratios(self, name: str) -> Iterator[float]:
        """The values of a count at which a ratio made of it comes to one of its thresholds."""
        declared, measured = self.rule.measures.get(name), self.told.evaluated.values
        for other, ratio in self.rule.measures.items():
            if declared is None or not isinstance(ratio, Ratio) or isinstance(declared, Ratio):
                continue
            over, under = height(measured.get(ratio.over.label)), height(measured.get(ratio.under.label))
            numbers = [number for leaf in self.leaves(other) for number in thresholds_of(leaf)]
            numbers += self.rule.response.starts if self.rule.response.of == other else ()
            if ratio.over.label == declared.label and under:
                yield from (under * number for number in numbers)
            if ratio.under.label == declared.label and over:
                yield from (over / number for number in numbers if number)


def _items(leaf: Leaf) -> frozenset[Any]:
    return leaf.operand if isinstance(leaf.operand, frozenset) else frozenset({repr(leaf.operand), leaf.operand})


def _regimes(rungs: list[Rung], current: object, judged: Judge, now: object) -> Iterator[tuple[object, str]]:
    """The ranges below and above the current value in which the judge says something else, nearest first."""
    stands = height(current)
    if stands is None:
        yield from _walk(rungs, judged, now, up=True)
        return
    capped = isinstance(current, AtLeast)
    below = [rung for rung in rungs if rung.value < stands or (capped and rung.value == stands)]
    yield from _walk(below[::-1], judged, now, up=False)
    yield from _walk([] if capped else [rung for rung in rungs if rung.value > stands], judged, now, up=True)


def _walk(rungs: list[Rung], judged: Judge, now: object, up: bool) -> Iterator[tuple[object, str]]:
    """Ranges where the answer differs from now; `up`: walking from low to high."""
    answers = [judged(rung.value) for rung in rungs]
    before, yielded = now, 0
    for place, (rung, answer) in enumerate(zip(rungs, answers, strict=True)):
        if answer not in (before, now) and yielded < MOST_REGIMES:
            yielded += 1
            after = rungs[place + 1] if place + 1 < len(rungs) else None
            alone = after is not None and _adjacent(rung.value, after.value) and answers[place + 1] != answer
            stated = rung.up if up else rung.down
            yield rung.value, f"exactly {stated.split(' ', 2)[-1]}" if alone and stated.startswith("at ") else stated
        before = answer


def _adjacent(one: float, other: float) -> bool:
    low, high = min(one, other), max(one, other)
    return high - low == 1 if isinstance(one, int) and isinstance(other, int) else math.nextafter(low, high) == high


def ended(one: Again, rule_id: str) -> dict[str, Any]:
    """How a rule ended in one evaluation, and what became of the exchange."""
    place = next((place for place, end in enumerate(one.decision.ends) if end.rule == rule_id), None)
    request = {"action": str(one.enforced.action), "would": str(one.enforced.would)}
    if place is None:
        return {"verdict": str(Verdict.NO_MATCH), "request": request}
    end, asked = one.decision.ends[place], one.evaluated.ends[place].would
    found: dict[str, Any] = {"verdict": str(end.verdict), "request": request}
    if end.verdict is Verdict.MATCH:
        found |= {"asks": str(asked.action) if asked else "nothing", "action": str(end.action), "would": str(end.would)}
    response, measures = one.evaluated.ends[place].rule.response, one.evaluated.ends[place].rule.measures
    start = spoken(measures[response.of].type, response.starts[end.step]) if response.of and end.step is not None else None
    extra = {"step": end.step, "from": start, "excepted": end.excepted or None, "abstained": end.abstained or None}
    return found | {key: value for key, value in extra.items() if value is not None}


def changes(rule: Rule, told: Explanation) -> list[dict[str, Any]]:
    """What would change the end of one rule: each entry says what is supposed and what the engine then gave."""
    search, now = Search(rule, told), ended(told.now, rule.id)
    found: list[tuple[dict[str, Any], Supposed]] = []
    reached = {search.result(Supposed())[0]}
    for name in search.names():
        for setting in search.settings(name, search.result):
            reached.add(search.result(setting.supposed)[0])
            found.append(({"set": [setting.told()]}, setting.supposed))
    found += remedies(rule, told)
    verified = [{**said, "gives": ended(told.again(supposed), rule.id)} for said, supposed in found]
    wanted = {truth: str(end) for truth, end in _DECIDED.items() if truth not in reached}
    for pair in _pairs(search, set(wanted)) if wanted else ():
        gives = ended(told.again(pair[0].supposed.also(pair[1].supposed)), rule.id)
        if gives["verdict"] in wanted.values():
            verified.append({"set": [one.told() for one in pair], "gives": gives})
    return [change for change in verified if change["gives"] != now]


def unreached(found: list[dict[str, Any]], verdict: Verdict) -> list[str]:
    """The ends that no change found leads to, of a rule that ended so."""
    reached = {verdict, *(change["gives"]["verdict"] for change in found if "set" in change)}
    return [str(end) for end in (Verdict.MATCH, Verdict.NO_MATCH) if end not in reached]


def _pairs(search: Search, wanted: set[Truth]) -> Iterator[tuple[Setting, Setting]]:
    """Two values at once, for the ends that no single one reaches: a match, or no match."""
    by_name: list[list[Setting]] = []
    for name in search.names():
        leaves = search.leaves(name)

        def truths(supposed: Supposed, leaves: list[Leaf] = leaves) -> object:
            values = search.values(supposed)
            return [leaf.evaluate(values) for leaf in leaves]

        by_name.append(search.settings(name, truths))
    told = 0
    tried = (pair for one, other in combinations(by_name, 2) for pair in product(one, other))
    for pair in islice(tried, MOST_TRIED):
        if told < MOST_PAIRS and search.result(pair[0].supposed.also(pair[1].supposed))[0] in wanted:
            told += 1
            yield pair
