"""What was tried on a match besides its condition: exceptions, declared workloads, corroboration by other families.

Each is asked again of the function that decided it, entry by entry, so that a refusal to apply is explained as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.decision import Mode
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
    found = []
    for workload in explanation.policy.workloads:
        if workload.kind not in rule.abstain_for:
            continue
        truth = workload.when.evaluate(explanation.view.get)
        outside = [
            f"{leaf}; it is {_shown(explanation.view.get(leaf.name), leaf.type)}"
            for leaf in _failing(workload.when, explanation)
        ]
        tree: Tree = {
            "id": workload.id, "kind": workload.kind, "owner": workload.owner, "evidence": workload.evidence,
            "from": _moment(workload.since), "until": _moment(workload.until), "in_scope": truth,
            "outside": outside, "in_time": workload.since <= explanation.at < workload.until,
        }  # fmt: skip
        if workload.ceiling is not None:
            count = explanation.evaluated.values.get(workload.ceiling.measure.label, Missing("not counted"))
            tree["ceiling"] = {
                "declared": workload.ceiling.leaf.shown, "count": _shown(count, workload.ceiling.measure.type),
                "over": duration_text(workload.ceiling.measure.window.length),
                "within": workload.ceiling.leaf.test(count),
            }  # fmt: skip
        found.append(tree)
    return found


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
