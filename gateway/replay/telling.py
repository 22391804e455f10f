"""One explained decision as a tree: the operator's view. JSON prints it as it is, `layout` prints it for people.

Every truth, step, exemption and action in it is what the language's and the engine's own functions return; this file only
names them. Conditions are told without short circuit: a part that did not need to be looked at is told from what was recorded.

Keys of the tree: `capture` (what is said first of a captured request), `reference`, `id`, `at`, `request`, `subject`, `policy`
(of the record; `evaluated_by` where it is another), `decision` and `would` ({action, by}), `outcome`, `workloads` (the declared
ones in whose scope it is), `to_pass` (by view),
`cause`, `state_error`, `settle_error`, `limits`, `rules` (matches first, the strongest on top), `not_matched` (how many rules
are not told), `unsearched` (for how many of those told nothing was looked for that would change them). Keys of a rule: see
`rule_tree`; of a comparison: see `leaf_tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.audit.record import decided
from gateway.decision import Action, Mode, Room, RuleEnd, Verdict
from gateway.declarations import standing_of
from gateway.enforcement import CAUSE_ANSWERS, seconds_until
from gateway.engine import Ended
from gateway.facts import Cause
from gateway.language.conditions import Condition, Leaf
from gateway.language.operators import Networks, Operand
from gateway.language.policy import Effect, Rule
from gateway.readings import key_of, rule_values
from gateway.replay.caller import CAPTURE
from gateway.replay.changes import changes, unreached
from gateway.replay.explain import Explanation, differing_rules
from gateway.replay.probes import height, network_texts, spoken, thresholds_of
from gateway.replay.remedies import to_pass
from gateway.replay.trials import corroboration, exceptions, workload, workloads
from gateway.state.operations import NANO, Unit
from gateway.values import AtLeast, Failed, Missing, Type

Tree = dict[str, Any]
Values = Callable[[str], object]
SUBJECT: Final = ("account.id", "account.org", "client.ip", "client.country", "request.model")
TRUTH: Final = {True: "true", False: "false", None: "unknown"}
_VERDICTS: Final = (Verdict.MATCH, Verdict.ERROR, Verdict.UNKNOWN, Verdict.NO_MATCH)
MOST_CHANGED: Final = 25
MOST_ELEMENTS: Final = 8


def told(explanation: Explanation, only: Collection[str] = ()) -> Tree:
    """The operator's view. `only` names rules; else every rule that did not simply fail to match."""
    entry, exchange = explanation.entry, explanation.entry["exchange"]
    tree: Tree = {"capture": CAPTURE} if explanation.capture else {}
    tree |= {key: entry[key] for key in ("reference", "id", "at")}
    tree["request"] = {key: exchange[key] for key in ("method", "path", "protocol", "route", "size") if key in exchange}
    tree["subject"] = {name: entry["signals"][name] for name in SUBJECT if name in entry["signals"]}
    tree["policy"] = dict(entry["policy"])
    if not explanation.same_policy:
        policy = explanation.policy
        tree["evaluated_by"] = {"digest": policy.digest, "version": policy.version, "differing": differing_rules(explanation)}
        for name, enforced in (("decision", True), ("would", False)):
            tree["evaluated_by"][name] = decided(explanation.decision, enforced=enforced)
    tree |= {key: entry[key] for key in ("decision", "would", "outcome")}
    tree["workloads"] = [workload(one, explanation) for one in standing_of(explanation.view)]
    passing = {"enforced": to_pass(explanation, True), "would": to_pass(explanation, False)}
    tree["to_pass"] = {view: needed for view, needed in passing.items() if needed is not None}
    if "cause" in exchange:
        tree["cause"] = {"name": exchange["cause"], "meaning": CAUSE_ANSWERS[Cause(exchange["cause"])][1].message}
    tree |= {key: entry[key] for key in ("state_error", "settle_error") if key in entry}
    units = {plan.limit.id: plan.limit.unit for plan in explanation.policy.limits}
    tree["limits"] = [_room(room, explanation.at, units.get(room.limit, Unit.REQUESTS)) for room in explanation.scene.rooms]
    ended = {end.rule: (_VERDICTS.index(end.verdict), -end.would, -end.action, end.rule) for end in explanation.decision.ends}
    named = [rule for rule in explanation.policy.rules if rule.id in (only or ended)]
    named.sort(key=lambda rule: ended.get(rule.id, ()))
    tree["rules"] = [rule_tree(rule, explanation, place < MOST_CHANGED) for place, rule in enumerate(named)]
    tree["not_matched"] = sum(rule.mode is not Mode.OFF and rule.id not in ended for rule in explanation.policy.rules)
    tree["unsearched"] = max(0, len(named) - MOST_CHANGED)
    return tree


def _room(room: Room, at: int, unit: Unit = Unit.REQUESTS) -> Tree:
    """A limit's answer; what remains is in its unit, money in dollars. resets_in: seconds."""
    remaining = room.remaining / NANO if unit is Unit.USD else room.remaining
    return {
        "id": room.limit, "shadow": room.shadow, "allowed": room.allowed, "remaining": remaining, "unit": str(unit),
        "resets_in": seconds_until(room.resets_at, at),
    }  # fmt: skip


def rule_tree(rule: Rule, explanation: Explanation, changing: bool = True) -> Tree:
    """One rule: what it is, how it ended, its condition leaf by leaf, what was tried, and what would change it.

    Besides what the rule declares: `verdict`, `action`, `would`, `error`, `missing` ({name, reason}), `when` (its parts),
    `excepted` and `abstained` (the exception, the workload because of which a match does not act), `asks` and `would_ask`,
    on a match `exceptions`, `workloads`, `corroboration`, `measured` (its errors as known at the time) and `throttle`, `steps`
    where it is graded, `evidence`,
    `false_positives` with their leaf now, `changes` ({set, exception, workload, corroborated_by or not_corroborated_by; gives})
    and `not_reached` (ends that no change of one or two values leads to).
    """
    ends = explanation.decision.ends
    place = next((place for place, end in enumerate(ends) if end.rule == rule.id), None)
    end = ends[place] if place is not None else RuleEnd(rule.id, rule.mode, Verdict.NO_MATCH)
    ended = explanation.evaluated.ends[place] if place is not None else None
    values = rule_values(rule, explanation.view, explanation.evaluated.values)
    off = rule.mode is Mode.OFF
    tree: Tree = {
        "id": rule.id, "title": rule.title, "pack": rule.pack, "family": rule.family, "severity": rule.severity,
        "owner": rule.owner, "mode": str(end.mode), "verdict": "off" if off else str(end.verdict), "action": str(end.action),
        "would": str(end.would), "error": end.error, "missing": [_lack(name, values) for name in end.missing],
        "when": condition_tree(rule.when, rule, explanation),
        "measures": {name: declared.label for name, declared in rule.measures.items()},
    }  # fmt: skip
    said = (("excepted", end.excepted), ("abstained", end.abstained), ("asks", end.asks), ("would_ask", end.would_ask))
    tree |= {key: by for key, by in said if by}
    if rule.share < 1:
        tree["share"] = rule.share
    if end.verdict is Verdict.MATCH:
        tree["exceptions"] = exceptions(rule, explanation)
        tree["workloads"] = workloads(rule, explanation)
        tree["corroboration"] = corroboration(rule, explanation)
        tree["measured"] = explanation.entry.get("measured", {}).get(rule.id)
    if rule.response.of is not None:
        tree["steps"] = _steps(rule, values, end)
    if ended is not None and ended.counts:
        tree["throttle"] = _throttle(ended, explanation)
    tree["evidence"] = {name: _value(_type(rule, name, explanation), values(name)) for name in rule.evidence}
    tree["false_positives"] = [_mitigated(rule, cause.cause, cause.mitigated_by, explanation) for cause in rule.false_positives]
    tree |= {"references": list(rule.references), "blind_spots": list(rule.blind_spots)}
    tree["changes"] = changes(rule, explanation) if changing and not off else []
    tree["not_reached"] = unreached(tree["changes"], end.verdict) if changing and not off else []
    return {key: value for key, value in tree.items() if value is not None}


def condition_tree(condition: Condition, rule: Rule, explanation: Explanation) -> Tree:
    """A condition with the truth of every part."""
    values = rule_values(rule, explanation.view, explanation.evaluated.values)
    if isinstance(condition, Leaf):
        label = rule.measures[condition.name].label if condition.name in rule.measures else None
        return leaf_tree(condition, values(condition.name), explanation) | ({"measure": label} if label else {})
    parts = [condition_tree(part, rule, explanation) for part in condition.parts]
    return {"group": condition.word, "truth": TRUTH[condition.evaluate(values)], "parts": parts}


def leaf_tree(leaf: Leaf, value: object, explanation: Explanation) -> Tree:
    """One comparison: `leaf` (its id), `name`, `operator`, `operand`, `truth`, `value`, `shown`, and where they say something
    `view`, `margin` (how far the value is from the threshold), `note` (which element, which network) and `lacks`."""
    tree: Tree = {
        "leaf": leaf.id, "name": leaf.name, "operator": leaf.operator.name,
        "operand": spoken(leaf.type, leaf.operand) if isinstance(leaf.operand, bool) else leaf.shown,
        "truth": TRUTH[leaf.test(value)], **_value(leaf.type, value),
    }  # fmt: skip
    if str(leaf.view) != "raw":
        tree["view"] = str(leaf.view)
    if leaf.operator.operand is not Operand.FLAG:
        found = {"margin": margin(leaf, value), "note": _note(leaf, value, explanation)}
        tree |= {key: said for key, said in found.items() if said}
    return tree


def _value(kind: Type, value: object) -> Tree:
    if isinstance(value, (Missing, Failed)):
        word = "missing" if isinstance(value, Missing) else "failed"
        return {"value": None, "shown": word, "lacks": value.reason}
    if isinstance(value, AtLeast):
        return {"value": {"at_least": value.count}, "shown": kind.show(value)}
    try:
        return {"value": kind.plain(value), "shown": spoken(kind, value)}
    except (TypeError, ValueError):  # a value of the wrong type, as a broken provider gave it
        return {"value": None, "shown": f"{type(value).__name__}, not {kind}"}


def _type(rule: Rule, name: str, explanation: Explanation) -> Type:
    declared = rule.measures.get(name)
    return declared.type if declared else explanation.view.catalogue[name].type


def _lack(name: str, values: Values) -> Tree:
    value = values(name)
    return {"name": name, "reason": value.reason if isinstance(value, (Missing, Failed)) else f"it is {value}"}


def margin(leaf: Leaf, value: object) -> str:
    """How far an ordered value is from the nearest threshold of its comparison; empty where there is none."""
    stands, numbers = height(value), thresholds_of(leaf)
    if not leaf.type.ordered or stands is None or isinstance(value, bool) or leaf.operator.name in ("eq", "ne", "in", "not_in"):
        return ""
    return spoken(leaf.type, min((abs(stands - number) for number in numbers), default=0)) if numbers else ""


def _note(leaf: Leaf, value: object, explanation: Explanation) -> str:
    """Which element or network it was: asked of the comparison itself, with one item in place of all."""
    if isinstance(value, (Missing, Failed)):
        return ""
    if leaf.operator.operand is Operand.NETWORKS:
        return _network(leaf, value, explanation)
    if not isinstance(value, frozenset) or not isinstance(leaf.operand, frozenset):
        return ""
    shown = leaf.type.scalar.show
    holding = [item for item in sorted(leaf.operand, key=str) if replace(leaf, operand=frozenset({item})).test(value)]
    if leaf.operator.name == "all_of":
        lacking = sorted(leaf.operand - frozenset(holding), key=str)
        return "lacks " + _some(map(shown, lacking)) if lacking else ""
    return "has " + _some(map(shown, holding)) if holding else "has none of them"


def _network(leaf: Leaf, value: object, explanation: Explanation) -> str:
    if leaf.test(value) is not True:
        return "in none of them"
    texts = network_texts(leaf, explanation.policy.lists)
    found = next((text for text in sorted(texts) if replace(leaf, operand=Networks(frozenset({text}))).test(value)), None)
    return f"in {found}" if found else "in several of them together"


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:MOST_ELEMENTS]) + (
        f" and {len(listed) - MOST_ELEMENTS} more" if len(listed) > MOST_ELEMENTS else ""
    )


def _steps(rule: Rule, values: Values, end: RuleEnd) -> Tree:
    response = rule.response
    assert response.of is not None
    kind, value = rule.measures[response.of].type, values(response.of)
    stands = height(value)
    steps = [
        {"from": spoken(kind, start), "action": str(effect.action), "now": end.step == place and end.verdict is Verdict.MATCH}
        for place, (start, effect) in enumerate(zip(response.starts, response.effects, strict=True))
    ]
    tree: Tree = {"of": response.of, **_value(kind, value), "steps": steps}
    after = [start for start in response.starts if stands is not None and start > stands]
    if after and stands is not None:
        tree["to_next"] = spoken(kind, min(after) - stands)
    return tree


def _throttle(ended: Ended, explanation: Explanation) -> Tree | None:
    """The limit that a matched throttle takes, in both views, and why it yields where it does."""
    views: Mapping[str, Effect | None] = {"enforced": ended.effect, "would": ended.would}
    found: Tree = {}
    for view, effect in views.items():
        if effect is None or effect.limit is None:
            continue
        shadow = effect.limit.shadow or (view == "would" and ended.shadowed)
        room = next((r for r in explanation.scene.rooms if r.limit == effect.limit.id and r.shadow is shadow), None)
        key = key_of(effect.per, explanation.view)
        limit = f"{effect.limit.amount} per {effect.limit.period} s by {' and '.join(effect.per)}"
        found[view] = {"id": effect.limit.id, "limit": limit, "shadow": shadow}
        if room is not None:
            found[view] |= _room(room, explanation.at)
            found[view]["why"] = "its limit had room, so it yields" if room.allowed else "its limit had no room"
        elif isinstance(key, (Missing, Failed)):
            found[view]["why"] = f"nobody to count by, so it yields: {key.reason}"
        else:
            found[view]["why"] = f"its limit was not looked at, so it yields: {_unseen(view, explanation)}"
    return found or None


def _unseen(view: str, explanation: Explanation) -> str:
    if "state_error" in explanation.entry:
        return "the state did not answer"
    strongest = explanation.decision.action if view == "enforced" else explanation.decision.would
    return f"something stronger refuses ({strongest})" if strongest >= Action.VERIFY else "the request was refused before"


def _mitigated(rule: Rule, cause: str, by: str, explanation: Explanation) -> Tree:
    """An honest cause, and what keeps it out: a leaf with its value now and the truth by which it does, or one by name."""
    tree: Tree = {"cause": cause, "mitigated_by": by}
    found = next(((leaf, keeps) for leaf, keeps in _keeping_out(rule.when, False) if leaf.id == by), None)
    if found is None:
        return tree | {"said": f"kept out by {by}"}
    leaf, keeps = found
    value = rule_values(rule, explanation.view, explanation.evaluated.values)(leaf.name)
    told = leaf_tree(leaf, value, explanation)
    tree |= {"leaf": told, "kept_out_where": TRUTH[keeps]}
    return tree | {"said": _kept_out(by, told, TRUTH[keeps])}


def _keeping_out(condition: Condition, keeps: bool) -> Iterator[tuple[Leaf, bool]]:
    """Every leaf, with the truth by which it keeps its rule from matching: true below a `none`."""
    if isinstance(condition, Leaf):
        yield condition, keeps
        return
    for part in condition.parts:
        yield from _keeping_out(part, keeps is (condition.word != "none"))


def _kept_out(by: str, leaf: Tree, keeps: str) -> str:
    """Whether a leaf keeps its cause out here, and where it would."""
    value = f"({leaf['name']} is {leaf['shown']})"
    if leaf["truth"] == keeps:
        return f"kept out by {by}, which is {keeps} here {value}"
    here = "unknown" if leaf["truth"] == TRUTH[None] else f"{leaf['truth']} and does not"
    return f"would be kept out where {by} is {keeps}; here it is {here} {value}"
