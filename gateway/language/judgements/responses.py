"""Judgements on what rules do, and on what must stand beside it. Law 7 is kept here: content alone never acts, volume alone
never denies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway.decision import Action
from gateway.errors import Place, Problem
from gateway.language.conditions import Leaf
from gateway.language.judgements.subject import Subject, counts_of, first_above, strongest
from gateway.language.logic import Formula, Found, Joined, asked, search, step_leaf
from gateway.language.operators import OPERATORS
from gateway.language.policy import Rule
from gateway.signals import Catalogue
from gateway.values import BOOL

# What a directory or a record states of an account comes with its id, and an account has an owner (`plugins.identity`).
_ACCOUNT = ("account.id", "account.org")
_WITHOUT_ACCOUNT = "account.known"


def content_alone(subject: Subject) -> Iterator[Problem]:
    """A content rule that does more than tag, in any of its steps, without evidence of a second family."""
    for rule in subject.policy.rules:
        if rule.family == "content" and strongest(rule) > Action.TAG and rule.corroborate is None:
            mend = "add 'corroborate' with 2 families, or let it observe or tag"
            yield Problem(first_above(rule, Action.TAG), f"content rule '{rule.id}' acts alone", mend)


def volume_denies(subject: Subject) -> Iterator[Problem]:
    """A volume rule that does more than throttle, in any of its steps, without evidence of a second family."""
    for rule in subject.policy.rules:
        if rule.family == "volume" and strongest(rule) > Action.THROTTLE and rule.corroborate is None:
            what = f"volume rule '{rule.id}' does more than throttle"
            yield Problem(first_above(rule, Action.THROTTLE), what, "throttle, or corroborate")


def no_evidence(subject: Subject) -> Iterator[Problem]:
    """A rule that refuses requests and names no values to show for it."""
    for rule in subject.policy.rules:
        if strongest(rule).refuses and not rule.evidence:
            what = f"rule '{rule.id}' refuses requests but names no evidence"
            yield Problem(rule.place, what, "list the values under 'evidence'")


def unnamed_mitigations(subject: Subject) -> Iterator[Problem]:
    """A false positive that is said to be kept out by a leaf, exception or corroboration that the rule does not have."""
    for rule in subject.policy.rules:
        known = {leaf.id for leaf in rule.when.leaves()} | {exception.name for exception in rule.exceptions}
        known |= {"corroborate"} if rule.corroborate else set()
        for number, claim in enumerate(rule.false_positives):
            if claim.mitigated_by not in known:
                what = f"'{claim.mitigated_by}' mitigates nothing: rule '{rule.id}' has no such leaf"
                yield Problem(rule.at(f"false_positives/{number}"), what, "name a leaf, an exception, or corroborate")


def keyless_throttles(subject: Subject) -> Iterator[Problem]:
    """A throttle whose key may be missing when its rule matches: such a request is not throttled at all."""
    for rule in subject.policy.rules:
        for number, effect in enumerate(rule.response.effects):
            place = rule.at(f"steps/{number}") if rule.response.of else rule.at("then")
            lost = [name for name in effect.per if _may_lack(name, rule, number, subject.catalogue)]
            if effect.limit is not None and lost:
                where = " or ".join(lost)
                what = f"throttle of rule '{rule.id}' does nothing where {where} is missing, which its condition allows"
                yield Problem(place, what, f"add {{{lost[0]}: {{present: true}}}} to 'when', or throttle by another key")


def impossible_gates(subject: Subject) -> Iterator[Problem]:
    """A gate that its own numbers cannot meet: even no wrong match among the accounts it asks for leaves too wide a bound."""
    for rule in subject.policy.rules:
        gate = rule.gate
        if gate is None or upper_95(gate.min_benign_accounts) <= gate.max_upper_95:
            continue
        bound = upper_95(gate.min_benign_accounts)
        asks = f"0 of {gate.min_benign_accounts} accounts matched still leaves {bound:.2g} possible, not {gate.max_upper_95:g}"
        what = f"the gate of rule '{rule.id}' cannot be met by the accounts it asks for: {asks}"
        least = least_accounts(gate.max_upper_95)
        mend = f"ask for {least} accounts or more" if least else "no number of accounts proves a bound of 0"
        yield Problem(rule.at("gate"), what, mend)


def upper_95(accounts: int) -> float:
    """The one-sided 95 % upper bound of a share of which none of `accounts` was seen (Clopper and Pearson, no successes)."""
    return -math.expm1(math.log(0.05) / accounts)


def least_accounts(bound: float) -> int:
    """How many accounts without a wrong match it takes to reach an upper bound; 0 where none are enough."""
    if not 0 < bound < 1:
        return 1 if bound >= 1 else 0
    found = math.ceil(math.log(0.05) / math.log1p(-bound))
    return found if upper_95(found) <= bound else found + 1


def _may_lack(name: str, rule: Rule, number: int, catalogue: Catalogue | None) -> bool:
    if catalogue is not None and name in catalogue and catalogue[name].missing == "never":
        return False
    formulas: list[Formula] = [asked(rule.when, True, rule.measures), asked(_present(name, rule.place), False, {})]
    if rule.response.of is not None:
        starts = (*rule.response.starts, math.inf)
        leaf = step_leaf(rule.response.of, starts[number], starts[number + 1], rule.measures, rule.place)
        formulas.append(asked(leaf, True, rule.measures))
    return search(*formulas, *_known(rule)).found is not Found.NONE


def _present(name: str, place: Place) -> Leaf:
    return Leaf(f"{name}.present", name, OPERATORS["present"], True, "true", BOOL, place)


def _known(rule: Rule) -> list[Joined]:
    """What is known of presence: a measure has a value only under a key, and account fields come with the account."""
    found = []
    for label, declared in rule.measures.items():
        keys = {key for count in counts_of(declared) for key in count.per}
        with_keys = Joined(tuple(asked(_present(key, rule.place), True, {}) for key in sorted(keys)), every=True)
        found.append(Joined((asked(_present(label, rule.place), False, rule.measures), with_keys), every=False))
    for name in sorted({leaf.name for leaf in rule.when.leaves()}):
        if name.startswith("account.") and name != _WITHOUT_ACCOUNT and name not in rule.measures:
            with_account = Joined(tuple(asked(_present(key, rule.place), True, {}) for key in _ACCOUNT), every=True)
            found.append(Joined((asked(_present(name, rule.place), False, {}), with_account), every=False))
    return found
