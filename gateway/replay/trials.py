"""What was tried on a match besides its condition: exceptions, declared workloads, corroboration by other families.

Each is asked again of the function that decided it, entry by entry, so that a refusal to apply is explained as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.decision import Mode
from gateway.declarations import NOT_COUNTED, Standing, in_time, standing_of
from gateway.language.campaigns import Workload
from gateway.language.conditions import Condition, Leaf
from gateway.language.policy import ExceptionEntry, Rule, RuleException
from gateway.readings import exception_of
from gateway.replay.explain import Explanation
from gateway.values import Failed, Missing, duration_text, timestamp_text

Tree = dict[str, Any]


def _moment(at: int) -> str:
    """A time for people: whole seconds where it is one."""
    return timestamp_text(at).replace(".000000Z", "Z")


def exceptions(rule: Rule, explanation: Explanation) -> list[Tree]:
    """Every exception of a rule: `name`, `fields` with the values seen, `entries` (how many), `result`, and the entry."""
    return [_exception(rule, exception, explanation) for exception in rule.exceptions]


def _exception(rule: Rule, exception: RuleException, explanation: Explanation) -> Tree:
    view, at = explanation.view, explanation.at
    seen = {name: _shown(view.get(name), view.catalogue[name].type) for name in exception.fields}
    tree: Tree = {"name": exception.name, "fields": seen, "entries": len(exception.entries), "result": "no entry matches"}

    def applies(entry: ExceptionEntry) -> bool:
        alone = replace(rule, exceptions=(replace(exception, entries=(entry,)),))
        return bool(exception_of(alone, view))

    if not exception.entries:
        tree["result"] = "no entries"
    for entry in exception.entries:
        expired = not applies(entry) and applies(replace(entry, expires=at + 1))
        if expired or applies(entry):
            until = _moment(entry.expires)
            tree["result"] = f"expired {until}" if expired else "applies"
            tree["entry"] = {"owner": entry.owner, "reason": entry.reason, "until": until, "at": str(entry.place)}
            if not expired:
                break
    return tree


def _shown(value: object, kind: Any) -> str:
    return f"missing ({value.reason})" if isinstance(value, (Missing, Failed)) else kind.show(value)


def workloads(rule: Rule, explanation: Explanation) -> list[Tree]:
    """Every declared workload of the kinds a rule abstains for: whether it covers the exchange, and what it fails on."""
    standing = {one.workload.id: one for one in standing_of(explanation.view)}
    return [
        workload(standing.get(one.id) or one, explanation)
        for one in explanation.policy.workloads
        if one.kind in rule.abstain_for
    ]


def workload(found: Standing | Workload, explanation: Explanation) -> Tree:
    """A declared workload: whose it is, whether the exchange is in its scope and time, and what was counted of it.

    `covers` is whether it did anything; `ceiling` and `items` stand where it declares them and the exchange is in its scope.
    """
    standing = found if isinstance(found, Standing) else None
    one = found.workload if isinstance(found, Standing) else found
    view = explanation.view
    outside = [f"{leaf}; it is {_shown(view.get(leaf.name), leaf.type)}" for leaf in _failing(one.when, explanation)]
    tree: Tree = {
        "id": one.id, "kind": one.kind, "owner": one.owner, "evidence": one.evidence, "from": _moment(one.since),
        "until": _moment(one.until), "in_scope": one.when.evaluate(view.get), "outside": outside,
        "in_time": in_time(one, view), "covers": standing is not None and standing.covers,
    }  # fmt: skip
    if standing is None:
        return tree
    for name, part, within in (
        ("ceiling", one.ceiling, standing.within_ceiling), ("items", one.items, standing.within_items),
    ):  # fmt: skip
        if part is not None:
            declared = part.leaf.shown if name == "ceiling" else str(one.size)
            tree[name] = {
                "declared": declared, "over": duration_text(part.measure.window.length),
                "count": _shown(explanation.evaluated.values.get(part.measure.label, NOT_COUNTED), part.measure.type),
                "within": within,
            }  # fmt: skip
    return tree


def _failing(condition: Condition, explanation: Explanation) -> list[Leaf]:
    return [leaf for leaf in condition.leaves() if leaf.evaluate(explanation.view.get) is not True]


def corroboration(rule: Rule, explanation: Explanation) -> Tree | None:
    """What a rule needs and what was found, in both views: this request's rules by family, and families remembered."""
    need = rule.corroborate
    end = next((end for end in explanation.evaluated.ends if end.rule.id == rule.id), None)
    if need is None or end is None or not end.counts:
        return None
    tree: Tree = {"families": need.families, "within_us": need.within, "per": list(need.per), "else": str(need.otherwise)}
    tree["found"] = list(end.corroborated)
    for view, enforced in (("enforced", True), ("would", False)):
        if enforced and end.effect is None:
            continue
        standing = [
            other for other in explanation.evaluated.ends if other.counts and (not enforced or other.mode is Mode.ENFORCE)
        ]
        now: dict[str, list[str]] = {}
        for other in standing:
            now.setdefault(other.rule.family, []).append(other.rule.id)
        values = explanation.evaluated.values
        labels = {family: note.label for (family, held), note in need.notes.items() if held is enforced}
        kept = sorted(family for family, label in labels.items() if label in values and family != rule.family)
        asked = rule.response.effects[end.step] if end.step is not None else None
        effect = end.effect if enforced else end.would
        lowered = asked is not None and effect is not None and effect.action is not asked.action
        tree[view] = {"now": now, "remembered": kept, "lowered_to": str(need.otherwise) if lowered else None}
    return tree
