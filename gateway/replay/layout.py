"""The operator's tree as lines for people: columns aligned, truth first, at most `WIDTH` columns where values allow it.

Only layout lives here; every word about the decision comes from the tree. `paint` colours a text by its kind; without one the
text is plain, and colour never moves a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.replay.caller import error_rate
from gateway.replay.printing import Paint, plain, printable, wrapped

Tree = Mapping[str, Any]
_WIDEST: Final = 40


def lines(tree: Tree, paint: Paint = plain, verbose: bool = False) -> Iterator[str]:
    """The whole explanation. `verbose` adds blind spots and references."""
    tree = printable(tree)
    yield from _head(tree, paint)
    for rule in tree["rules"]:
        yield ""
        yield from _rule(rule, tree["outcome"], paint, verbose)
    if tree["not_matched"]:
        yield ""
        count = tree["not_matched"]
        yield f"{count} rule{'s' if count > 1 else ''} simply did not match (--rule ID tells why)"
    if tree["unsearched"]:
        searched = len(tree["rules"]) - tree["unsearched"]
        yield from wrapped(
            f"«would change it» was looked for in the first {searched} rules; --rule ID looks for it in another", 2
        )


def _head(tree: Tree, paint: Paint) -> Iterator[str]:
    if "capture" in tree:
        yield paint(f"{tree['capture']}.", "bad")
        yield ""
    if other := tree.get("evaluated_by"):
        yield paint(
            f"OTHER POLICY: this record was made by {_short(tree['policy'])}; it is evaluated below by another policy,", "bad"
        )
        yield paint(f"{_short(other)}. What follows need not be what was decided then.", "bad")
        yield f"  by it: decision {_by(other['decision'])}; would be {_by(other['would'])}"
        differing = ", ".join(other["differing"]) or "none"
        yield from wrapped(f"  rules that end otherwise than recorded: {differing}")
        yield ""
    request = tree["request"]
    yield f"{tree['reference']}  {tree['at']}  {request['method']} {request['path']}"
    yield _line("policy", f"{_short(tree['policy'])}, mode {tree['policy']['mode']}")
    for name, value in tree["subject"].items():
        yield _line(name, str(value))
    yield _line("decision", _by(tree["decision"], paint))
    yield _line("would be", f"{_by(tree['would'], paint)}  (as if every shadow rule were enforced)")
    yield _line("outcome", _outcome(tree["outcome"]))
    if "cause" in tree:
        yield _line("cause", f"{tree['cause']['name']}: {tree['cause']['meaning']}")
    for name in ("state_error", "settle_error"):
        if name in tree:
            yield _line(name, tree[name])
    for workload in tree["workloads"]:
        covers = "covers it" if workload["covers"] else "does nothing"
        yield from wrapped(_line("workload", f"{_workload(workload)}: it {covers}"))
    for room in tree["limits"]:
        yield _line("limit", _room(room))
    for name, text in _once({view: _to_pass(needed) for view, needed in tree["to_pass"].items()}, "to pass").items():
        yield from wrapped(_line(name, text))


def _short(policy: Tree) -> str:
    return f"{policy['digest'][:19]}… version {policy['version']}"


def _by(decided: Tree, paint: Paint = plain) -> str:
    return paint(decided["action"], "bad" if decided["by"] else "good") + (
        f"  by {', '.join(decided['by'])}" if decided["by"] else ""
    )


def _outcome(outcome: Tree) -> str:
    said = [outcome["action"]]
    said += [f"{name} {outcome[name]}" for name in ("status", "code") if name in outcome]
    said += [f"by {', '.join(outcome['by'])}"] if outcome.get("by") else []
    said += [f"retry after {outcome['retry_after']} s"] if "retry_after" in outcome else []
    said += [f"tags {', '.join(outcome['tags'])}"] if outcome.get("tags") else []
    said += [f"the caller was asked to declare {_asked(outcome['asked'])}"] if outcome.get("asked") else []
    said += [f"held for {outcome['delay_us'] / 1e6:g} s"] if outcome.get("delay_us") else []
    taken = outcome.get("restriction") or {}
    said += ["restricted to " + ", ".join(f"{name} {most}" for name, most in sorted(taken.items()))] if taken else []
    said += [f"taken: {', '.join(outcome['restricted'])}"] if outcome.get("restricted") else []
    return ", ".join(said)


def _asked(asked: Sequence[Tree]) -> str:
    return " and ".join(f"a {one['kind']} (by {', '.join(one['by'])})" for one in asked)


def _room(room: Tree) -> str:
    said = "had room" if room["allowed"] else "had no room"
    shadow = " (shadow)" if room["shadow"] else ""
    return f"{room['id']}{shadow}: {said}, {room['remaining']} {room['unit']} left, resets in {room['resets_in']} s"


def _to_pass(needed: Tree) -> str:
    if "impossible" in needed:
        return "no rule or limit decides it: refused by " + ", ".join(needed["impossible"])
    rules, limits = needed["without_rules"], needed["with_room"]
    said = [f"{' and '.join(rules)} must not match"] if rules else []
    said += [f"{' and '.join(limits)} must have room"] if limits else []
    return "; ".join(said) or "nothing of it stands in the way"


def _line(name: str, text: str) -> str:
    return f"{name:<16}{text}"


def _rule(rule: Tree, outcome: Tree, paint: Paint, verbose: bool) -> Iterator[str]:
    verdict = paint(rule["verdict"], "bad" if rule["verdict"] == "match" else "doubt")
    asks = f" → {rule['action']}" if rule["verdict"] == "match" else ""
    barred = next((f", {word} ({rule[word]})" for word in ("excepted", "abstained") if word in rule), "")
    would = f", would be {rule['would']}" if rule["verdict"] == "match" and rule["would"] != rule["action"] else ""
    share = f", share {rule['share']:.0%}" if "share" in rule else ""
    wish = rule.get("asks") or rule.get("would_ask")
    would += f", {'asks' if rule.get('asks') else 'would ask'} for a declared {wish}" if wish else ""
    yield f"{rule['id']}  {verdict}{barred or asks + would}  ({rule['family']}, {rule['severity']}, {rule['mode']}{share})"
    yield f"  {rule['title']}"
    if rule["error"]:
        yield from wrapped(f"  error           {rule['error']}")
    for lack in rule["missing"]:
        yield from wrapped(f"  lacks           {lack['name']}: {lack['reason']}")
    yield from _condition(rule["when"], paint)
    used = {leaf["name"]: leaf["measure"] for leaf in _leaves(rule["when"]) if "measure" in leaf}
    for name, label in used.items():
        yield from wrapped(_entry("measure", f"{name} = {label}"))
    yield from _tried(rule)
    telling = verbose or rule["verdict"] == "match"
    if rule["evidence"] and telling:
        yield from wrapped(
            _entry("evidence", ", ".join(f"{name} = {_seen(value)}" for name, value in rule["evidence"].items()))
        )
    for cause in rule["false_positives"] if telling else ():
        yield from wrapped(_entry("false positive", f"{cause['cause']}: {cause['said']}"))
    if "measured" in rule:
        yield from wrapped(_entry("errors", f"{error_rate(rule['measured'])} Source: {rule['measured']['source']}"))
    if verbose:
        yield from (_entry("blind spot", text) for text in rule["blind_spots"])
        yield from (_entry("reference", text) for text in rule["references"])
    yield from _changes(rule["changes"], outcome)
    for verdict in rule["not_reached"]:
        yield f"    no one or two of these values would make it end as {verdict}"


def _entry(name: str, text: str) -> str:
    return f"  {name:<16}{text}"


def _seen(value: Tree) -> str:
    return f"{value['shown']} ({value['lacks']})" if "lacks" in value else str(value["shown"])


def _leaves(tree: Tree) -> Iterator[Tree]:
    if "parts" not in tree:
        yield tree
    for part in tree.get("parts", ()):
        yield from _leaves(part)


def _condition(tree: Tree, paint: Paint) -> Iterator[str]:
    """One row a comparison: truth, id, name, value, operator and operand, margin or what it lacks."""
    rows = list(_rows(tree, 0))
    cells = [_cells(node) for _, node in rows]
    deepest = max(depth for depth, _ in rows)
    widths = [min(max(len(row[column]) for row in cells), _WIDEST) for column in range(4)]
    for (depth, node), row in zip(rows, cells, strict=True):
        truth = paint(f"{node['truth']:<8}", {"true": "bad", "false": "good"}.get(node["truth"], "doubt"))
        indent, pads = "  " * depth, [widths[0] + 2 * (deepest - depth), *widths[1:], 0]
        told = node["group"] if "group" in node else "  ".join(f"{text:<{pad}}" for text, pad in zip(row, pads, strict=True))
        yield from wrapped(f"    {indent}{truth}{told}".rstrip(), 14)


def _rows(tree: Tree, depth: int) -> Iterator[tuple[int, Tree]]:
    yield depth, tree
    for part in tree.get("parts", ()):
        yield from _rows(part, depth + 1)


def _cells(node: Tree) -> list[str]:
    if "group" in node:
        return [""] * 5
    view = f"{node['view']} " if "view" in node else ""
    named = "" if node["leaf"] == f"{node['name']}.{node['operator']}" else node["leaf"]
    distance = "off by" if node["truth"] == "false" else "margin"
    last = [f"{distance} {node['margin']}" if "margin" in node else "", node.get("note", ""), node.get("lacks", "")]
    return [named, node["name"], node["shown"], f"{view}{node['operator']} {node['operand']}", "; ".join(filter(None, last))]


def _tried(rule: Tree) -> Iterator[str]:
    for tried in rule.get("exceptions", ()):
        seen = ", ".join(f"{name} {value}" for name, value in tried["fields"].items())
        entry = tried.get("entry")
        by = f" (owner {entry['owner']}, until {entry['until']}: {entry['reason']})" if entry else ""
        yield from wrapped(_entry("exception", f"{tried['name']} [{seen}]: {tried['result']}{by}{_of(tried)}"))
    for workload in rule.get("workloads", ()):
        yield from wrapped(_entry("workload", _workload(workload)))
    if (found := rule.get("corroboration")) is not None:
        yield from _corroboration(found)
    if (steps := rule.get("steps")) is not None:
        told = [f"{'▸ ' if step['now'] else ''}from {step['from']} {step['action']}" for step in steps["steps"]]
        further = f"; {steps['to_next']} to the next" if "to_next" in steps else ""
        yield from wrapped(_entry("steps", f"{steps['of']} is {steps['shown']}: {', '.join(told)}{further}"))
    for view, text in _once({view: _limit(limit) for view, limit in rule.get("throttle", {}).items()}, "limit").items():
        yield from wrapped(_entry(view, text))


def _limit(limit: Tree) -> str:
    room = f" ({limit['remaining']} left, resets in {limit['resets_in']} s)" if "remaining" in limit else ""
    return f"{limit['limit']}: {limit['why']}{room}"


def _once(views: Mapping[str, str], name: str) -> dict[str, str]:
    """The text of each view, or one text where both say the same."""
    if len(set(views.values())) == 1 and len(views) == 2:
        return {name: next(iter(views.values()))}
    return {name if view == "enforced" else f"{name} (would)": text for view, text in views.items()}


def _of(tried: Tree) -> str:
    return f", of {tried['entries']}" if tried["entries"] > 1 else ""


def _workload(workload: Tree) -> str:
    said = ["in scope" if workload["in_scope"] is True else "not in scope: " + "; ".join(workload["outside"])]
    if not workload["in_time"]:
        said.append(f"not in time ({workload['from']} to {workload['until']})")
    if (ceiling := workload.get("ceiling")) is not None:
        word = {True: "within", False: "above", None: "unknown against"}[ceiling["within"]]
        said.append(f"{word} its ceiling: {ceiling['count']} requests in {ceiling['over']}, {ceiling['declared']} declared")
    if (items := workload.get("items")) is not None:
        word = {True: "within its items", False: "outgrown", None: "its items not known"}[items["within"]]
        said.append(f"{word}: {items['count']} different ones seen, {items['declared']} declared")
    return f"{workload['id']} ({workload['kind']}, owner {workload['owner']}): {', '.join(said)}"


def _corroboration(found: Tree) -> Iterator[str]:
    yield _entry("corroboration", f"needs {found['families']} families for {' and '.join(found['per'])}, else {found['else']}")
    texts = {}
    for view in ("enforced", "would"):
        if view in found:
            now = "; ".join(f"{family} ({', '.join(rules)})" for family, rules in sorted(found[view]["now"].items()))
            kept = ", ".join(found[view]["remembered"]) or "none"
            lowered = f"; too few, so lowered to {found[view]['lowered_to']}" if found[view]["lowered_to"] else "; enough"
            texts[view] = f"now {now or 'none'}; remembered: {kept}{lowered}"
    for name, text in _once(texts, "found").items():
        yield from wrapped(_entry(name, text))


def _changes(changes: Sequence[Tree], outcome: Tree) -> Iterator[str]:
    if changes:
        yield "  would change it"
    for change in changes:
        gives = change["gives"]
        end = gives["verdict"].replace("_", " ")
        if gives["verdict"] == "match":
            step = f"step from {gives['from']}: " if "from" in gives else ""
            barred = next((word for word in ("excepted", "abstained") if word in gives), "")
            end = barred or f"{step}{gives['asks']}"
        request = gives["request"]
        both = (
            request["action"] if request["action"] == request["would"] else f"{request['action']}, would be {request['would']}"
        )
        same = all(outcome[view] == action for view, action in request.items())
        yield from wrapped(f"    {_supposed(change)}: {end}" + ("" if same else f"  (the request: {both})"), 6)


def _supposed(change: Tree) -> str:
    if "set" in change:
        return " and ".join(f"{one['name']} {one['from']} → {one['to']}" for one in change["set"])
    if "exception" in change:
        values = ", ".join(f"{name} {value}" for name, value in change["exception"]["values"].items())
        return f"an entry in {change['exception']['name']} [{values}]"
    if "workload" in change:
        return _declared(change["workload"])
    if "corroborated_by" in change:
        return f"a match of family {change['corroborated_by']}"
    return f"not corroborated by {', '.join(change['not_corroborated_by'])}"


def _declared(workload: Tree) -> str:
    if "ceiling" in workload:
        return f"workload {workload['id']} with a ceiling of at least {workload['ceiling']}"
    return f"a declared {workload['kind']} that covers it"
