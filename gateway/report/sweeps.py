"""What each threshold of each rule would catch, and whom it would catch wrongly, had it been written otherwise.

For every comparison with a number the rest of its condition is asked: where it holds, the exchange would match at every
threshold that its value passes. The comparisons themselves decide (`Leaf.test`, with another operand), and a tree in which one
of them is taken for true is evaluated by the tree's own rules. Steps of a graded response are thresholds as well. Counted are
matches before exceptions, declared workloads and corroboration, because those do not depend on the threshold.

Memory is bounded: a few thresholds around the written one, and for each the accounts by number, at most `MOST_ACCOUNTS` of a
side. Where there were more, its numbers of accounts are lower bounds, and `at_least` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.decision import Mode
from gateway.language.conditions import All, Condition, Leaf, No, Values
from gateway.language.conditions import Any as Either
from gateway.language.operators import OPERATORS
from gateway.language.policy import Policy, Rule
from gateway.report.observed import Observed
from gateway.values import DURATION, FLOAT, INT, SECOND, Type

FACTORS: Final = (0.1, 0.2, 0.33, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
MOST_ACCOUNTS: Final = 100_000
SIDES: Final = ("harvest", "honest", "unlabelled")
_UNITS: Final = tuple(SECOND * seconds for seconds in (86_400, 3_600, 60, 1))
_SWEPT: Final = {"gte": 1, "gt": 1, "lte": -1, "lt": -1}
_TRUE: Final = All(())
_FALSE: Final = Either(())


@dataclass(slots=True)
class Sweep:
    """One threshold. variants: the comparison at each threshold, the loosest first. rest: the condition without it.

    always: what holds where the rule matches whatever the threshold; None where nothing can. exchanges, accounts: by side, how
    many thresholds were passed, and of each account the most. capped: sides with more accounts than are told apart.
    """

    rule: Rule
    what: str
    leaf: Leaf
    variants: Sequence[Leaf]
    rest: Condition
    always: Condition | None
    exchanges: dict[str, Counter[int]] = field(default_factory=lambda: {side: Counter() for side in SIDES})
    accounts: dict[str, dict[str, int]] = field(default_factory=lambda: {side: {} for side in SIDES})
    capped: set[str] = field(default_factory=set)

    def add(self, values: Values, account: str, side: str) -> None:
        """Count one exchange on which the other comparisons may hold."""
        passed = self._passed(values(self.leaf.name))
        if self.always is not None and self.always.evaluate(values) is True:
            passed = len(self.variants)
        elif not passed or self.rest.evaluate(values) is not True:
            return
        self.exchanges[side][passed] += 1
        best = self.accounts[side]
        if account in best or len(best) < MOST_ACCOUNTS:
            best[account] = max(passed, best.get(account, 0))
        else:
            self.capped.add(side)

    def _passed(self, value: object) -> int:
        for place, variant in enumerate(self.variants):
            if variant.test(value) is not True:
                return place
        return len(self.variants)

    def plain(self) -> dict[str, Any]:
        """`thresholds` (from loose to strict, `written` marks the one in the pack) and per side what each would catch.

        at_least: the sides whose accounts were more than are told apart.
        """
        points = range(len(self.variants))
        per_account = {side: Counter(best.values()) for side, best in self.accounts.items()}
        return {
            "rule": self.rule.id, "what": self.what, "leaf": str(self.leaf), "unit": str(self.leaf.type),
            "thresholds": [variant.operand for variant in self.variants],
            "shown": [variant.shown for variant in self.variants], "written": self.leaf.operand,
            "exchanges": {side: [_above(counts, place) for place in points] for side, counts in self.exchanges.items()},
            "accounts": {side: [_above(counts, place) for place in points] for side, counts in per_account.items()},
            "at_least": [side for side in SIDES if side in self.capped],
        }  # fmt: skip


def _above(counts: Counter[int], place: int) -> int:
    return sum(count for passed, count in counts.items() if passed > place)


class Sweeps:
    """The thresholds of a policy that are swept."""

    def __init__(self, policy: Policy) -> None:
        self._rules = [
            (rule, core, sweeps)
            for rule in policy.rules
            if rule.mode is not Mode.OFF and (sweeps := [*_leaves(rule), *_steps(rule)])
            for core in [_supposed(rule.when, {id(sweep.leaf) for sweep in sweeps}, _TRUE)]
        ]

    def add(self, seen: Observed, side: str) -> None:
        """Count one exchange. side: whether its label means harvesting, honesty, or nothing."""
        for rule, core, sweeps in self._rules:
            values = seen.values(rule)
            if core.evaluate(values) is True:
                for sweep in sweeps:
                    sweep.add(values, seen.account, side)

    def plain(self) -> list[dict[str, Any]]:
        """Every threshold that would catch anything somewhere."""
        return [sweep.plain() for _, _, sweeps in self._rules for sweep in sweeps if any(sweep.exchanges.values())]


def _leaves(rule: Rule) -> Iterator[Sweep]:
    """The comparisons of a rule with a number, but for those that must not hold."""
    for leaf in _affirmed(rule.when):
        if leaf.operator.name in _SWEPT and leaf.type in (INT, FLOAT, DURATION) and leaf.operand:
            rest, never = (_supposed(rule.when, {id(leaf)}, truth) for truth in (_TRUE, _FALSE))
            yield Sweep(rule, leaf.id, leaf, _variants(leaf), rest, never if _has_choice(rule.when) else None)


def _steps(rule: Rule) -> Iterator[Sweep]:
    """The steps of a graded response: each is a threshold of its measure where the condition holds."""
    response, asked = rule.response, {(leaf.name, leaf.operand) for leaf in rule.when.leaves() if leaf.operator.name == "gte"}
    for start, effect in zip(response.starts, response.effects, strict=False):
        if response.of is not None and start and (response.of, start) not in asked:
            kind, of = rule.measures[response.of].type, response.of
            operand = start if kind is FLOAT else round(start)
            leaf = Leaf(f"step {effect.action}", of, OPERATORS["gte"], operand, kind.show(operand), kind, rule.at("then"))
            yield Sweep(rule, leaf.id, leaf, _variants(leaf), rule.when, None)


def _affirmed(condition: Condition) -> Iterator[Leaf]:
    if isinstance(condition, Leaf):
        yield condition
    elif not isinstance(condition, No):
        for part in condition.parts:
            yield from _affirmed(part)


def _has_choice(condition: Condition) -> bool:
    """Whether anything in it may hold in place of something else."""
    return not isinstance(condition, Leaf) and (isinstance(condition, Either) or any(map(_has_choice, condition.parts)))


def _variants(leaf: Leaf) -> list[Leaf]:
    """The comparison at thresholds around its own, the loosest first."""
    operands = {_rounded(leaf.type, leaf.operand * factor) for factor in FACTORS}
    operands = {operand for operand in operands if operand > 0} | {leaf.operand}
    ordered = sorted(operands, reverse=_SWEPT[leaf.operator.name] < 0)
    return [replace(leaf, operand=operand, shown=leaf.type.show(operand)) for operand in ordered]


def _rounded(kind: Type, value: float) -> float:
    """A threshold as a person would write it: whole, two digits, or in the unit that suits it."""
    if kind is FLOAT:
        return float(f"{value:.2g}")
    unit = next((unit for unit in _UNITS if value >= 2 * unit), 1) if kind is DURATION else 1
    return round(value / unit) * unit


def _supposed(condition: Condition, leaves: set[int], truth: Condition) -> Condition:
    """A condition in which some comparisons are replaced by what is always true, or never."""
    if isinstance(condition, Leaf):
        return truth if id(condition) in leaves else condition
    return type(condition)(tuple(_supposed(part, leaves, truth) for part in condition.parts))
