"""Reading what a rule does: one effect, or half-open steps of a measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.decision import Action, Mode
from gateway.errors import did_you_mean
from gateway.strict.document import Node
from gateway.language.measures import Declared
from gateway.language.policy import Effect, Response
from gateway.strict.shapes import Field, Problems, listing, mapping, number, raw, scalar, text, whole
from gateway.signals import Catalogue
from gateway.state.operations import Limit, Pace
from gateway.values import SECOND, parse_duration

MAX_DELAY: Final = 10 * SECOND
_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_LIMIT: Final = re.compile(r"(\d+)\s*(?:([a-z]+)\s*)?/\s*(\d+(?:s|m|h|d)|[a-z]+)")
ACTIONS: Final = tuple(str(action) for action in Action if action is not Action.RESTRICT)

EFFECT_FIELDS: Final = {
    "action": Field(text("action"), required=True, doc="one of " + ", ".join(ACTIONS)),
    "status": Field(whole("status", 400, 499), doc="for deny: 403, or another client error"),
    "limit": Field(text("limit"), doc="for throttle: such as 30/minute"),
    "window": Field(text("window"), default="fixed", doc="for throttle: fixed or moving"),
    "per": Field(listing(text("per"), "per", empty=False), doc="for throttle: the signals that separate counters"),
    "tag": Field(text("tag", 64), doc="for tag: the text added to the request upstream"),
    "hold": Field(scalar(parse_duration, "hold"), doc="for delay: how long the request waits, at most 10s"),
    "link": Field(text("link"), doc="for verify: where the caller can verify"),
}
_STEP_FIELDS: Final = {"from": Field(number("from", 0, 2**53), required=True), **EFFECT_FIELDS}
_STEPS_FIELDS: Final = {"of": Field(text("of"), required=True), "steps": Field(listing(raw, "steps", empty=False), required=True)}
_NEEDS: Final = {"throttle": ("limit", "per"), "tag": ("tag",), "delay": ("hold",)}
_TAKES: Final = {
    "throttle": {"limit", "per"}, "tag": {"tag"}, "delay": {"hold"}, "verify": {"link"}, "deny": {"status"},
}  # fmt: skip
_STATUS: Final = {Action.THROTTLE: 429, Action.VERIFY: 403, Action.DENY: 403}
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Context(NamedTuple):
    """The rule a response belongs to."""

    rule: str
    mode: Mode
    catalogue: Catalogue
    measures: Declared
    problems: Problems


def read_response(node: Node, context: Context) -> Response | None:
    """A rule's `then`."""
    if isinstance(node.value, dict) and "steps" in node.value:
        return _steps(node, context)
    entry = mapping(EFFECT_FIELDS, "then")(node, context.problems)
    effect = _effect(entry, node, context) if entry else None
    return Response((effect,)) if effect else None


def _steps(node: Node, context: Context) -> Response | None:
    entry = mapping(_STEPS_FIELDS, "then")(node, context.problems)
    if entry is None or not entry["steps"]:
        return None
    if entry["of"] not in context.measures:
        context.problems.add(node.place, f"'{entry['of']}' is no measure of this rule",
                             did_you_mean(str(entry["of"]), list(context.measures)))  # fmt: skip
    starts: list[float] = []
    effects: list[Effect] = []
    for child in entry["steps"]:
        step = mapping(_STEP_FIELDS, "a step")(child, context.problems)
        effect = _effect(step, child, context) if step else None
        if step is None or effect is None or step["from"] is None:
            return None
        if starts and step["from"] <= starts[-1]:
            context.problems.add(child.place, f"step from {step['from']:g} does not lie above the one before it",
                                 "write steps in rising order")  # fmt: skip
        starts.append(step["from"])
        effects.append(effect)
    return Response(tuple(effects), entry["of"], tuple(starts))


def _effect(entry: Mapping[str, Any], node: Node, context: Context) -> Effect | None:
    word, problems = entry["action"], context.problems
    if word is None:
        return None
    if word not in ACTIONS:
        problems.add(node.place, f"unknown action '{word}'", did_you_mean(word, ACTIONS))
        return None
    action = Action[word.upper()]
    before = len(problems.found)
    for key in _NEEDS.get(word, ()):
        if entry[key] is None:
            problems.add(node.place, f"action {word} needs '{key}'", EFFECT_FIELDS[key].doc)
    for key in ("status", "limit", "per", "tag", "hold", "link"):
        if entry[key] is not None and key not in _TAKES.get(word, set()):
            problems.add(node.place, f"action {word} does not take '{key}'")
    for name in entry["per"] or []:
        if name not in context.catalogue:
            problems.add(node.place, f"unknown signal '{name}'", did_you_mean(name, list(context.catalogue)))
    if entry["tag"] is not None and not _TAG.fullmatch(entry["tag"]):
        problems.add(node.place, f"tag {entry['tag']!r} must be a slug, because it becomes a header value")
    if entry["hold"] is not None and entry["hold"] > MAX_DELAY:
        problems.add(node.place, "a delay may hold a request for at most 10s", "throttle instead")
    limit = None
    if entry["limit"] is not None:
        if entry["window"] not in list(Pace):
            problems.add(node.place, f"window {entry['window']!r} is neither fixed nor moving")
            return None
        shadow = context.mode is Mode.SHADOW
        limit = limit_of(entry["limit"], f"rule:{context.rule}", Pace(entry["window"]), shadow, node, problems)
    if len(problems.found) > before:
        return None
    status = entry["status"] or _STATUS.get(action, 0)
    return Effect(action, status, limit, tuple(entry["per"] or ()), entry["tag"] or "", entry["hold"] or 0, entry["link"])


def limit_of(written: str, name: str, pace: Pace, shadow: bool, node: Node, problems: Problems) -> Limit | None:
    """A limit such as `60 requests/minute`, `30/10s` or `1000/day`."""
    found = _LIMIT.fullmatch(written.strip())
    if found is None:
        problems.add(node.place, f"{written!r} is not a limit", "write it as 60 requests/minute, 30/10s or 1000/day")
        return None
    unit, period = found[2] or "requests", found[3]
    if unit not in ("request", "requests"):
        problems.add(node.place, f"unit '{unit}' is not known", "limits count requests")
        return None
    seconds = _PERIODS.get(period.removesuffix("s")) if period.isalpha() else parse_duration(period) // SECOND
    if not seconds or not int(found[1]):
        problems.add(node.place, f"{written!r} is not a limit", "periods: " + ", ".join(_PERIODS) + ", or such as 10s")
        return None
    return Limit(name, int(found[1]), seconds, pace, shadow)
