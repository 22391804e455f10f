"""What a judgement is given, and what judgements share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from gateway.decision import Action
from gateway.errors import Place, Problem
from gateway.language.conditions import Condition, Leaf
from gateway.language.logic import Declared
from gateway.language.measures import Measure, Ratio
from gateway.language.policy import Policy, Rule
from gateway.signals import Catalogue

NO_MEASURES: Final[Declared] = {}


class Subject(NamedTuple):
    """What is judged. today: µs since 1970, None to judge nothing that depends on the date. catalogue: None if not at hand."""

    policy: Policy
    today: int | None = None
    catalogue: Catalogue | None = None


Judge = Callable[[Subject], Iterator[Problem]]


class Stated(NamedTuple):
    """A condition of a policy, and whose it is. holds: what it means that it is true."""

    whose: str
    holds: str
    condition: Condition
    measures: Declared


def stated(policy: Policy) -> Iterator[Stated]:
    """Every condition of a policy: of rules, of what their measures count, of limits."""
    for rule in policy.rules:
        yield Stated(f"rule '{rule.id}'", "matches", rule.when, rule.measures)
        for name, declared in rule.measures.items():
            if isinstance(declared, Measure) and declared.where is not None:
                yield Stated(f"measure '{name}' of rule '{rule.id}'", "counts", declared.where, NO_MEASURES)
    for plan in policy.limits:
        if plan.when is not None:
            yield Stated(f"limit '{plan.limit.id}'", "applies", plan.when, NO_MEASURES)


def counts_of(declared: Measure | Ratio) -> tuple[Measure, ...]:
    """The windows that a declared measure reads: its own, or those of a ratio's two parts."""
    return (declared.over, declared.under) if isinstance(declared, Ratio) else (declared,)


def strongest(rule: Rule) -> Action:
    """The strongest action that a rule may take."""
    return max(effect.action for effect in rule.response.effects)


def first_above(rule: Rule, most: Action) -> Place:
    """Where the first effect of a rule stands that does more than `most`."""
    over = next(number for number, effect in enumerate(rule.response.effects) if effect.action > most)
    return rule.at(f"steps/{over}") if rule.response.of else rule.at("then")


def first_leaf(condition: Condition) -> Leaf:
    """The first comparison of a condition."""
    return next(iter(condition.leaves()))
