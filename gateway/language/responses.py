"""Reading what a rule does: one effect, or half-open steps of a measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.decision import Action, Mode
from gateway.errors import Place, did_you_mean
from gateway.language.measures import Declared, Measure, Ratio, ceiling, not_settled
from gateway.language.policy import Effect, Response
from gateway.signals import Catalogue
from gateway.state.operations import Limit, Pace
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, listing, mapping, one_of, raw, scalar, text, whole
from gateway.values import FLOAT, INT, SECOND, duration_text, parse_duration

MAX_DELAY: Final = 10 * SECOND
_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_LIMIT: Final = re.compile(r"([0-9]{1,12})\s*(?:([a-z]+)\s*)?/\s*([0-9]{1,9}(?:s|m|h|d)|[a-z]+)")
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
ACTIONS: Final = tuple(str(action) for action in Action if action is not Action.RESTRICT)


def _tag(value: Any) -> str:
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise ValueError(f"{value!r} is not a slug; it becomes a header value: lower-case letters, digits, dots and hyphens")
    return value


def _hold(value: Any) -> int:
    held = parse_duration(value)
    if not 0 < held <= MAX_DELAY:
        raise ValueError(f"a request may be held for at most {duration_text(MAX_DELAY)}, not {value}; throttle instead")
    return held


EFFECT_FIELDS: Final = {
    "action": Field(text("action"), required=True, doc="one of " + ", ".join(ACTIONS)),
    "status": Field(whole("status", 400, 499), doc="for deny: 403, or another client error"),
    "limit": Field(text("limit"), doc="for throttle: such as 30/minute"),
    "window": Field(one_of(Pace, "window"), doc="for throttle: fixed or moving"),
    "per": Field(listing(text("per"), "per", empty=False), doc="for throttle: the signals that separate counters"),
    "tag": Field(scalar(_tag, "tag"), doc="for tag: the text added to the request upstream"),
    "hold": Field(scalar(_hold, "hold"), doc="for delay: how long the request waits, at most 10s"),
    "link": Field(text("link"), doc="for verify: where the caller can verify"),
}
_STEP_FIELDS: Final = {"from": Field(raw, required=True, doc="the lower bound, included"), **EFFECT_FIELDS}
_STEPS_FIELDS: Final = {
    "of": Field(text("of"), required=True, doc="the measure that decides the step"),
    "steps": Field(listing(raw, "steps", empty=False), required=True),
}
_NEEDS: Final = {"throttle": ("limit", "per"), "tag": ("tag",), "delay": ("hold",)}
_TAKES: Final = {
    "throttle": {"limit", "per", "window"}, "tag": {"tag"}, "delay": {"hold"}, "verify": {"link"}, "deny": {"status"},
}  # fmt: skip
_STATUS: Final = {Action.THROTTLE: 429, Action.VERIFY: 403, Action.DENY: 403}


class Context(NamedTuple):
    """The rule a response belongs to. broken: names of which an error was already reported."""

    rule: str
    mode: Mode
    catalogue: Catalogue
    measures: Declared
    broken: frozenset[str]
    problems: Problems


def read_response(node: Node, context: Context) -> Response | None:
    """A rule's `then`."""
    if isinstance(node.value, dict) and "steps" in node.value:
        return _steps(node, context)
    entry = mapping(EFFECT_FIELDS, "then")(node, context.problems)
    effect = _effect(entry, node, context) if entry is not None else None
    return Response((effect,)) if effect else None


def _steps(node: Node, context: Context) -> Response | None:
    entry = mapping(_STEPS_FIELDS, "then")(node, context.problems)
    if entry is None:
        return None
    of = context.measures.get(entry["of"] or "")
    if of is None and entry["of"] is not None and entry["of"] not in context.broken:
        mend = did_you_mean(entry["of"], list(context.measures))
        context.problems.add(node.at("of"), f"'{entry['of']}' is no measure of this rule", mend)
    steps = [_step(child, of, context) for child in entry["steps"]]
    starts: list[float] = []
    effects: list[Effect] = []
    for child, (start, effect) in zip(entry["steps"], steps, strict=True):
        if start is None or effect is None:
            continue
        if starts and start <= starts[-1]:
            message = f"step from {child.value['from'].plain()} does not lie above the one before it"
            context.problems.add(child.at("from"), message, "write steps in rising order")
        starts.append(start)
        effects.append(effect)
    return Response(tuple(effects), entry["of"], tuple(starts)) if effects and entry["of"] else None


def _step(node: Node, of: Measure | Ratio | None, context: Context) -> tuple[float | None, Effect | None]:
    entry = mapping(_STEP_FIELDS, "a step")(node, context.problems)
    if entry is None:
        return None, None
    effect = _effect(entry, node, context)
    if entry["from"] is None or of is None:
        return None, effect
    try:
        start: Any = (FLOAT if of.type is INT else of.type).parse(entry["from"].plain())
    except ValueError as error:
        context.problems.add(node.at("from"), f"from: {error}")
        return None, effect
    highest = ceiling(of)
    if start < 0 or (highest is not None and start > highest):
        what = "below zero" if start < 0 else f"above {highest}, the most that '{of.label}' can reach"
        context.problems.add(node.at("from"), f"step from {entry['from'].plain()} lies {what}", "no request can come to it")
    return start, effect


def _effect(entry: Mapping[str, Any], node: Node, context: Context) -> Effect | None:
    word, problems = entry["action"], context.problems
    if word is None:
        return None
    if word not in ACTIONS:
        problems.add(node.at("action"), f"unknown action '{word}'", did_you_mean(word, ACTIONS))
        return None
    action = Action[word.upper()]
    before = len(problems.found)
    assert isinstance(node.value, dict)
    for key in _NEEDS.get(word, ()):
        if key not in node.value:
            problems.add(node.place, f"action {word} needs '{key}'", EFFECT_FIELDS[key].doc)
    for key in node.value.keys() & EFFECT_FIELDS.keys() - {"action"} - _TAKES.get(word, set()):
        problems.add(node.value[key].named, f"action {word} does not take '{key}'", "remove it")
    for name in entry["per"] or []:
        if name not in context.catalogue:
            problems.add(node.at("per"), f"unknown signal '{name}'", did_you_mean(name, list(context.catalogue)))
    not_settled(entry["per"] or (), context.catalogue, node.at("per"), problems)
    limit = None
    if entry["limit"] is not None:
        shadow = context.mode is Mode.SHADOW
        pace = entry["window"] or Pace.FIXED
        limit = limit_of(entry["limit"], f"rule:{context.rule}", pace, shadow, node.at("limit"), problems)
    if len(problems.found) > before or any(entry[key] is None for key in _NEEDS.get(word, ())):
        return None
    status, per = entry["status"] or _STATUS.get(action, 0), tuple(sorted({*(entry["per"] or ())}))
    return Effect(action, status, limit, per, entry["tag"] or "", entry["hold"] or 0, entry["link"])


def limit_of(written: str, name: str, pace: Pace, shadow: bool, place: Place, problems: Problems) -> Limit | None:
    """A limit such as `60 requests/minute`, `30/10s` or `1000/day`."""
    found = _LIMIT.fullmatch(written.strip())
    if found is None:
        problems.add(place, f"{written!r} is not a limit", "write it as 60 requests/minute, 30/10s or 1000/day")
        return None
    unit, period = found[2] or "requests", found[3]
    if unit not in ("request", "requests"):
        problems.add(place, f"unit '{unit}' is not known", "limits count requests")
        return None
    if not int(found[1]):
        problems.add(place, f"{written!r} lets nothing through", "allow at least 1; a rule that denies says so itself")
        return None
    seconds = _PERIODS.get(period.removesuffix("s")) if period.isalpha() else parse_duration(period) // SECOND
    if not seconds:
        problems.add(place, f"'{period}' is not a period", "write " + ", ".join(_PERIODS) + ", or such as 10s")
        return None
    return Limit(name, int(found[1]), seconds, pace, shadow)
