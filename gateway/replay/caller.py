"""The caller's view of a decision: only what a caller may be told, and was told when it happened.

No threshold, signal, measure, rule, limit or other account is named here; shadow rules are not mentioned at all. The
keys of this view are fixed: `reference`, `at`, `what` (a sentence), `status`, `code`, `message`,
`errors` (a sentence on how often such a decision is wrong, as known then),
`retry_after` (seconds), `held` (seconds), `restricted` (what was taken from it, as its answer said), `declare` (the kinds of
workloads that the caller was asked to declare), `declare_where` (by which header of
its answer it was told where: no record holds the place), `help` (where to verify or appeal), and `capture` where nobody was
told anything yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from gateway.decision import Action, Public
from gateway.enforcement import CAUSE_ANSWERS
from gateway.replay.explain import Explanation
from gateway.values import SECOND

CAPTURE: Final = "A CAPTURE: evaluated now, with nothing counted before it"
DECLARE_WHERE: Final = (
    "The answer said so in its header `sluice-declare`, and where to do it in its header `link`, if the operator names a place."
)
_PASSED: Final = "The request was passed on."
_WHAT: Final = {
    Action.DELAY: "The request was held for a moment and then passed on.",
    Action.RESTRICT: "The request was passed on with less than it asked for.",
    Action.THROTTLE: "The request was refused for now: a usage limit had no room left.",
    Action.VERIFY: "The request was refused until the account is verified.",
    Action.DENY: "The request was refused.",
}


def caller_view(explanation: Explanation) -> dict[str, Any]:
    """What may be told to whoever made the request."""
    entry, outcome = explanation.entry, explanation.entry["outcome"]
    action = Action[str(outcome["action"]).upper()]
    tree: dict[str, Any] = {"capture": CAPTURE} if explanation.capture else {}
    tree |= {"reference": entry["reference"], "at": entry["at"], "what": _WHAT.get(action, _PASSED)}
    if "status" in outcome:
        tree |= _refusal(explanation)
    if outcome.get("delay_us"):
        tree["held"] = outcome["delay_us"] / SECOND
    if outcome.get("restricted"):
        tree["restricted"] = list(outcome["restricted"])
        if reason := explanation.now.enforced.reason:
            tree["code"] = reason.code  # its sentence speaks of refusals, and this request was passed on
    elif action is Action.RESTRICT:
        tree["what"] = _PASSED
    if outcome.get("asked"):
        tree["declare"] = [asked["kind"] for asked in outcome["asked"]]
        tree["declare_where"] = DECLARE_WHERE
    refusal = explanation.now.enforced.refusal
    if refusal is not None and refusal.link and refusal.public.code == outcome.get("code"):
        tree["help"] = refusal.link
    return tree


def _refusal(explanation: Explanation) -> dict[str, Any]:
    """What a refused caller may be told of the refusal."""
    outcome, measured = explanation.entry["outcome"], explanation.entry.get("measured", {})
    tree: dict[str, Any] = {"status": outcome["status"], "code": outcome["code"]}
    if message := _message(explanation, outcome["code"]):
        tree["message"] = message
    if "retry_after" in outcome:
        tree["retry_after"] = outcome["retry_after"]
    if known := [measured[rule] for rule in outcome.get("by", ()) if rule in measured]:
        tree["errors"] = error_rate(max(known, key=itemgetter("upper_95")))
    return tree


def _message(explanation: Explanation, code: str) -> str:
    """The sentence that goes with a public code: as the evaluation gives it, else as this policy or the causes declare it."""
    refusal = explanation.now.enforced.refusal
    if refusal is not None and refusal.public.code == code:
        return refusal.public.message
    publics: list[Public] = [rule.public for rule in explanation.policy.rules]
    publics += [plan.public for plan in explanation.policy.limits]
    publics += [public for _, public in CAUSE_ANSWERS.values()]
    return next((public.message for public in publics if public.code == code), "")


def error_rate(measured: Mapping[str, Any]) -> str:
    """What is known of a rule's errors, as a sentence."""
    share, accounts, days = measured["upper_95"] * 100, measured["benign_accounts"], measured["days"]
    seen = f"{accounts:,} over {days} days, as of {measured['at'][:10]}"
    return f"At most {share:.2g} % of honest accounts meet it by mistake ({seen})."


def caller_lines(tree: dict[str, Any]) -> list[str]:
    """The caller's view as lines of text."""
    lines = [f"{tree['capture']}.", ""] if "capture" in tree else []
    lines += [f"reference   {tree['reference']}", f"time        {tree['at']}", "", tree["what"]]
    if "status" in tree:
        lines.append(f"Status {tree['status']}, code {tree['code']}" + (f": {tree['message']}" if "message" in tree else "."))
    elif "code" in tree:
        lines.append(f"Code {tree['code']}.")
    if "errors" in tree:
        lines.append(tree["errors"])
    if "held" in tree:
        lines.append(f"It was held for {tree['held']:g} seconds.")
    if "restricted" in tree:
        lines.append(f"Taken from it: {', '.join(tree['restricted'])}.")
    if "declare" in tree:
        lines.append(f"You were asked to declare what this is: {' or '.join(f'a {kind}' for kind in tree['declare'])}.")
        lines.append(tree["declare_where"])
    if "retry_after" in tree:
        lines.append(f"Retry after {tree['retry_after']} seconds.")
    if "help" in tree:
        lines.append(f"To verify or appeal: {tree['help']}")
    return lines
