"""Why a case ended as it did: its last exchange recorded and explained, and of that what decided.

Nothing is told by words of its own: the leaves, steps, corroboration and limits come from the explanation tree (`telling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from gateway.audit.record import record
from gateway.errors import Place, ReplayError
from gateway.language.policy import PlanLimit
from gateway.readings import key_of
from gateway.replay.exchange import recorded
from gateway.replay.explain import Explanation, explain
from gateway.replay.played import Played
from gateway.replay.telling import TRUTH, leaf_tree, rule_tree
from gateway.values import Failed, Missing

Tree = Mapping[str, Any]
MOST_LEAVES: Final = 8
_OTHERWISE: Final = {"true": "false", "false": "true"}
_ACTED: Final = ("action", "would", "excepted", "abstained", "asked", "would_ask")


def explained(played: Played) -> Explanation:
    """The last exchange of a case, explained from its audit record. Raises ReplayError where that gives another answer."""
    entry, catalogue = record(played.last, played.answers[-1]), played.last.view.catalogue
    return explain(recorded(entry, Place("the last exchange"), catalogue), entry, played.policy, catalogue)


def reasons(played: Played, name: str, key: str) -> tuple[str, ...]:
    """What decided how a rule or limit ended. key: the word of the expectation that failed, `verdict` for the end itself."""
    try:
        explanation = explained(played)
    except ReplayError as error:
        return (str(error),)
    rule = played.policy.rule(name)
    if rule is None:
        plan = next((plan for plan in played.policy.limits if plan.limit.id == name), None)
        return tuple(_of_limit(plan, explanation)) if plan is not None else ()
    tree = rule_tree(rule, explanation, changing=False)
    found = [*_acted(tree)] if key in _ACTED else []
    found += [_step(tree)] if key in (*_ACTED, "step") and "steps" in tree else []
    return tuple(found or (_leaf(leaf) for leaf in islice(deciding(tree["when"]), MOST_LEAVES)))


def deciding(tree: Tree) -> Iterator[Tree]:
    """The comparisons that make a told condition true, false or unknown."""
    if "parts" not in tree:
        yield tree
        return
    wanted = _OTHERWISE.get(tree["truth"], tree["truth"]) if tree["group"] == "none" else tree["truth"]
    for part in tree["parts"]:
        if part["truth"] == wanted:
            yield from deciding(part)


def _leaf(leaf: Tree) -> str:
    """A comparison with its value: `billed_there false: account.billing_country NO, wanted in @excluded`."""
    named = "" if leaf["leaf"] == f"{leaf['name']}.{leaf['operator']}" else f"{leaf['leaf']} {leaf['truth']}: "
    lacks = f" ({leaf['lacks']})" if "lacks" in leaf else ""
    view = f"{leaf['view']} " if "view" in leaf else ""
    wanted = "" if leaf["truth"] == "true" else "wanted "
    return f"{named}{leaf['name']} {leaf['shown']}{lacks}, {wanted}{view}{leaf['operator']} {leaf['operand']}"


def _acted(tree: Tree) -> Iterator[str]:
    """What stands between a match and its action."""
    for tried in tree.get("exceptions", ()):
        yield f"exception {tried['name']}: {tried['result']}"
    if "abstained" in tree:
        yield f"abstained for {tree['abstained']}"
    found = tree.get("corroboration") or {}
    if any(found[view]["lowered_to"] for view in ("enforced", "would") if view in found):
        needs = f"it needs {found['families']} families for {' and '.join(found['per'])}"
        yield f"lowered to {found['else']}: {needs}, and found besides its own: {', '.join(found['found']) or 'none'}"
    for view, limit in tree.get("throttle", {}).items():
        yield f"limit ({view}) {limit['limit']}: {limit['why']}"


def _step(tree: Tree) -> str:
    steps = tree["steps"]
    listed = ", ".join(f"from {step['from']} {step['action']}" for step in steps["steps"])
    return f"{steps['of']} is {steps['shown']}: {listed}"


def _of_limit(plan: PlanLimit, explanation: Explanation) -> Iterator[str]:
    """Whether a limit concerns the exchange and can be counted, and what room it had."""
    view = explanation.view
    if plan.when is not None and (truth := plan.when.evaluate(view.get)) is not True:
        leaves = [leaf for leaf in plan.when.leaves() if leaf.evaluate(view.get) is truth]
        yield f"its 'when' is {TRUTH[truth]}: " + "; ".join(
            _leaf(leaf_tree(one, view.get(one.name), explanation)) for one in leaves
        )
    key = key_of(plan.per, view)
    if isinstance(key, (Missing, Failed)):
        yield f"it cannot be counted: {key.reason}"
    for room in explanation.scene.rooms:
        if room.limit == plan.limit.id:
            yield f"it had {'room' if room.allowed else 'no room'}"
