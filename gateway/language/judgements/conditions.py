"""Judgements on conditions: what can never hold, what always does, what another rule already says.

Each one speaks only of what `gateway.language.logic` proves for every value, missing and capped ones included.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from gateway.decision import Action, Mode
from gateway.errors import Place, Problem
from gateway.language.conditions import Condition, Leaf
from gateway.language.judgements.subject import Stated, Subject, first_leaf, stated, strongest
from gateway.language.logic import (
    ANY_VALUE,
    Answer,
    Formula,
    Found,
    Joined,
    Token,
    asked,
    claimed,
    implication,
    key_of,
    never,
    parts_of,
    search,
    step_leaf,
    tokens,
    valued,
)  # fmt: skip
from gateway.language.operators import OPERATORS
from gateway.language.policy import ExceptionEntry, Policy, Rule, RuleException
from gateway.language.ranges import ABSENT, UNSHOWN, Claim, possible

MOST_NEAR: Final = 300  # rules looked at for one rule, and those of them put to a proof: past that nothing is said
MOST_COMPARED: Final = 100
MOST_ENTRIES: Final = 50
_ORDER: Final = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)


def never_true(subject: Subject) -> Iterator[Problem]:
    """A condition, or a part of one, that no values can meet: its rule never matches, or the part does nothing."""
    for whole in stated(subject.policy):
        for part in _ending(whole.condition, whole, True):
            place, why = _why_never(part, whole)
            if part is whole.condition:
                yield Problem(place, f"{whole.whose} never {whole.holds}: {why}", "correct the comparison, or remove it")
            else:
                yield Problem(place, f"a part of {whole.whose} never holds: {why}", "correct it, or remove the part")


def always_true(subject: Subject) -> Iterator[Problem]:
    """A condition, or a part of one, that no values can fail: it distinguishes nothing."""
    for whole in stated(subject.policy):
        for part in _ending(whole.condition, whole, False):
            place = first_leaf(part).place
            if part is whole.condition:
                what = f"{whole.whose} {whole.holds} whatever the values are: '{part}' always holds when they are present"
                yield Problem(place, what, "narrow the comparison")
            else:
                what = f"a part of {whole.whose} always holds when its values are present: '{part}'"
                yield Problem(place, what, "narrow the comparison, or remove the part")


def implied_rules(subject: Subject) -> Iterator[Problem]:
    """A rule that adds nothing: whenever it matches, another rule of its family matches as well and does at least as much."""
    for rule, other in _implied(subject.policy):
        what = f"rule '{rule.id}' adds nothing: whenever it matches, '{other.id}' matches and does at least as much"
        yield Problem(rule.place, what, "remove it, or let it do more")


def swallowing_exceptions(subject: Subject) -> Iterator[Problem]:
    """Exceptions that exempt everything their rule can match, so that it never acts."""
    for rule in subject.policy.rules:
        known = {leaf.name: leaf for leaf in rule.when.leaves() if leaf.name not in rule.measures}
        tried = [
            (exception, entry)
            for exception in rule.exceptions
            if all(name in known for name in exception.fields)
            for entry in exception.entries
        ]
        matches = asked(rule.when, True, rule.measures)
        if not tried or len(tried) > MOST_ENTRIES or search(matches).found is Found.NONE:
            continue
        alone = [pair for pair in tried if search(matches, _outside(*pair, known)).found is Found.NONE]
        for exception, entry in alone:
            what = f"this entry of exception '{exception.name}' exempts everything that rule '{rule.id}' matches"
            yield Problem(entry.place, what, "name narrower values, or switch the rule off")
        if not alone and search(matches, *(_outside(*pair, known) for pair in tried)).found is Found.NONE:
            what = f"the exceptions of rule '{rule.id}' together exempt everything that it matches"
            yield Problem(tried[0][1].place, what, "name narrower values, or switch the rule off")


def unreachable_steps(subject: Subject) -> Iterator[Problem]:
    """A step of a graded response at which the measure cannot stand while the condition holds."""
    for rule in subject.policy.rules:
        of, starts = rule.response.of, rule.response.starts
        matches = asked(rule.when, True, rule.measures)
        if of is None or search(matches).found is Found.NONE:
            continue
        for number, (low, high) in enumerate(zip(starts, (*starts[1:], float("inf")), strict=True)):
            place = rule.at(f"steps/{number}")
            leaf = step_leaf(of, low, high, rule.measures, place)
            if search(matches, asked(leaf, True, rule.measures)).found is Found.NONE:
                what = f"step from {low:g} of rule '{rule.id}' is never reached: its condition does not hold at such '{of}'"
                yield Problem(place, what, "remove the step, or correct 'from'")


def _ending(part: Condition, whole: Stated, truth: bool) -> Iterator[Condition]:
    """The outermost parts that never end otherwise: never true where `truth`, else never false."""
    if never(part, truth, whole.measures):
        yield part
    elif not never(part, not truth, whole.measures):
        for below in parts_of(part):
            yield from _ending(below, whole, truth)


def _why_never(part: Condition, whole: Stated) -> tuple[Place, str]:
    held: dict[str, list[Claim]] = {}
    waiting: list[Formula] = [asked(part, True, whole.measures)]
    while waiting:
        formula = waiting.pop(0)
        if isinstance(formula, Joined):
            waiting += formula.parts if formula.every else ()
            continue
        claims = held.setdefault(formula.key, [])
        if possible([formula]) is None:
            return formula.leaf.place, f"'{formula.leaf}' is never {_word(formula)}"
        for other in claims:
            if possible([other, formula]) is None:
                said = f"'{formula.leaf}' is never {_word(formula)} while '{other.leaf}' is {_word(other)}"
                return formula.leaf.place, said
        claims.append(formula)
    return first_leaf(part).place, "no values meet it"


def _word(claim: Claim) -> str:
    return "true" if claim.affirms else "false"


def _outside(exception: RuleException, entry: ExceptionEntry, known: dict[str, Leaf]) -> Joined:
    """That an entry does not apply: one of its fields is missing or has another value."""
    leaves = [
        Leaf(name, name, OPERATORS["eq"], value, str(value), known[name].type, entry.place)
        for name, value in zip(exception.fields, entry.values, strict=True)
    ]
    return claimed(leaves, {}, True, every=False, holds=False)


def _covers(other: Rule, rule: Rule) -> bool:
    """Whether a rule does at least as much as another one, wherever both match."""
    if other.family != rule.family or _ORDER.index(other.mode) < _ORDER.index(rule.mode) or rule.mode is Mode.OFF:
        return False
    if any(exception.entries for exception in other.exceptions) or not {*other.abstain_for} <= {*rule.abstain_for}:
        return False
    asked = {effect.ask for effect in rule.response.effects} - {""}
    if not asked <= {effect.ask for effect in other.response.effects}:
        return False
    if other.share < rule.share or (other.share < 1 and rule.mode is Mode.ENFORCE):
        return False
    if other.corroborate is not None and other.corroborate != rule.corroborate:
        return False
    if other.response.canonical() == rule.response.canonical() and other.response.of is None:
        return True
    weakest = min(effect.action for effect in other.response.effects)
    if other.response.of is not None:
        return False
    return strongest(rule) <= Action.OBSERVE or (weakest >= Action.VERIFY and weakest >= strongest(rule))


def _implied(policy: Policy) -> Iterator[tuple[Rule, Rule]]:
    """Rules that another one covers, with the first that does; of two that cover each other only the later id.

    An index keeps the work small: values under which a rule matches must show what the other one needs at least.
    """
    rules = [rule for rule in policy.rules if rule.mode is not Mode.OFF]
    index = _Index(rules)
    for rule in rules:
        answer = search(asked(rule.when, True, rule.measures))
        near = index.near(rule, answer) if answer.found is not Found.NONE else {}
        looked = (near[name] for name in islice(sorted(near), MOST_NEAR) if name != rule.id)
        likely = (other for other in looked if _may_cover(other, rule, answer))
        other = next((other for other in islice(likely, MOST_COMPARED) if _adds_nothing(rule, other)), None)
        if other is not None:
            yield rule, other


def _adds_nothing(rule: Rule, other: Rule) -> bool:
    if implication(rule.when, rule.measures, other.when, other.measures) is not Found.NONE:
        return False
    both_ways = implication(other.when, other.measures, rule.when, rule.measures) is Found.NONE and _covers(rule, other)
    return not both_ways or other.id < rule.id


class _Index:
    """Rules by what values must show before they can match: of each rule's choices the one that the fewest rules share."""

    def __init__(self, rules: list[Rule]) -> None:
        common: Counter[Token] = Counter()
        for rule in rules:
            for leaf in rule.when.leaves():
                common.update(tokens(leaf, rule.measures, lambda token: 0) or ())
        self._needs: defaultdict[Token, list[Rule]] = defaultdict(list)
        self._by_key: defaultdict[str, list[Token]] = defaultdict(list)
        self._free: list[Rule] = []
        for rule in rules:
            needed = tokens(rule.when, rule.measures, lambda token: common[token])
            for token in needed or ():
                self._needs[token].append(rule)
            self._free += [rule] if needed is None else []
        for token in self._needs:
            self._by_key[token[0]].append(token)

    def near(self, rule: Rule, answer: Answer) -> dict[str, Rule]:
        """The rules that may match under the values that make `rule` match, by id."""
        found = {other.id: other for other in self._free}
        for key in {key_of(leaf.name, rule.measures) for leaf in rule.when.leaves()}:
            value = answer.values.get(key, ABSENT if answer.found is Found.SHOWN else UNSHOWN)
            shown = [(key, ANY_VALUE), (key, value)] if value is not UNSHOWN else self._by_key.get(key, [])
            for token in shown if value is not ABSENT else ():
                found.update((other.id, other) for other in self._needs.get(token, ()))
        return found


def _may_cover(other: Rule, rule: Rule, answer: Answer) -> bool:
    if not _covers(other, rule):
        return False
    return answer.found is Found.OPEN or valued(other.when, other.measures, answer.values, ABSENT) is True
