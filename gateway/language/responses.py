"""Reading what a rule does: one effect, or half-open steps of a measure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.decision import Action, Mode, Restriction
from gateway.errors import did_you_mean
from gateway.language.amounts import limit_of
from gateway.language.measures import Declared, Measure, Ratio, ceiling, not_settled
from gateway.language.policy import Effect, Response
from gateway.language.words import Kind
from gateway.signals import Catalogue
from gateway.state.operations import Limit, Pace, Unit
from gateway.strict.document import Node
from gateway.strict.shapes import Field, Problems, flag, listing, mapping, one_of, raw, scalar, text, whole
from gateway.values import FLOAT, INT, SECOND, duration_text, parse_duration

MAX_DELAY: Final = 10 * SECOND
TAG: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
MAX_LINK: Final = 2_000
LINK: Final = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?#][!#-&(-;=?-\[\]_a-z|~]*)?"
)
ACTIONS: Final = tuple(str(action) for action in Action)


def tag_of(value: Any) -> str:
    if not isinstance(value, str) or not TAG.fullmatch(value):
        raise ValueError(f"{value!r} is not a slug; it becomes a header value: lower-case letters, digits, dots and hyphens")
    return value


def link_of(value: Any) -> str:
    """Where callers are sent, in a header. Raises ValueError for what no header can hold, or no caller should be sent to."""
    if not isinstance(value, str) or len(value) > MAX_LINK or not LINK.fullmatch(value):
        what = f"{value!r} is not a link; it becomes a header value"
        raise ValueError(f"{what}: write an absolute http(s) URL of visible ASCII, without spaces, quotes, < or >")
    return value


def hold_of(value: Any) -> int:
    held = parse_duration(value)
    if not 0 < held <= MAX_DELAY:
        raise ValueError(f"a request may be held for at most {duration_text(MAX_DELAY)}, not {value}; throttle instead")
    return held


RESTRICTION_FIELDS: Final = {
    "max_tokens": Field(whole("max_tokens", 1), doc="the most output tokens"),
    "n": Field(whole("n", 1), doc="the most candidates"),
    "logprobs": Field(flag("logprobs"), default=True, doc="false: no log probabilities"),
    "reasoning": Field(flag("reasoning"), default=True, doc="false: no reasoning text"),
}
EFFECT_FIELDS: Final = {
    "action": Field(text("action"), required=True, doc="one of " + ", ".join(ACTIONS)),
    "status": Field(whole("status", 400, 499), doc="for deny: 403, or another client error"),
    "limit": Field(text("limit"), doc="for throttle: such as 30/minute"),
    "window": Field(one_of(Pace, "window"), doc="for throttle: fixed or moving"),
    "per": Field(listing(text("per"), "per", empty=False), doc="for throttle: the signals that separate counters"),
    "tag": Field(scalar(tag_of, "tag"), doc="for tag: the text added to the request upstream"),
    "hold": Field(scalar(hold_of, "hold"), doc="for delay: how long the request waits, at most 10s"),
    "link": Field(scalar(link_of, "link"), doc="for verify: where the caller can verify, an http(s) URL"),
    "ask": Field(one_of(Kind, "ask"), doc="whatever else is done: the caller is asked to declare a workload of this kind"),
    "to": Field(mapping(RESTRICTION_FIELDS, "to"), doc="for restrict: such as {max_tokens: 1024, n: 1, logprobs: false}"),
}
STEP_FIELDS: Final = {"from": Field(raw, required=True, doc="the lower bound, included"), **EFFECT_FIELDS}
STEPS_FIELDS: Final = {
    "of": Field(text("of"), required=True, doc="the measure that decides the step"),
    "steps": Field(listing(raw, "steps", empty=False), required=True),
}
NEEDS: Final = {"throttle": ("limit", "per"), "tag": ("tag",), "delay": ("hold",), "restrict": ("to",)}
TAKES: Final = {
    "observe": {"ask"}, "tag": {"tag", "ask"}, "delay": {"hold", "ask"}, "restrict": {"to", "ask"},
    "throttle": {"limit", "per", "window", "ask"}, "verify": {"link", "ask"}, "deny": {"status"},
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
    entry = mapping(STEPS_FIELDS, "then")(node, context.problems)
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
    entry = mapping(STEP_FIELDS, "a step")(node, context.problems)
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
    for key in NEEDS.get(word, ()):
        if key not in node.value:
            problems.add(node.place, f"action {word} needs '{key}'", EFFECT_FIELDS[key].doc)
    for key in node.value.keys() & EFFECT_FIELDS.keys() - {"action"} - TAKES.get(word, set()):
        problems.add(node.value[key].named, f"action {word} does not take '{key}'", "remove it")
    for name in entry["per"] or []:
        if name not in context.catalogue:
            problems.add(node.at("per"), f"unknown signal '{name}'", did_you_mean(name, list(context.catalogue)))
    not_settled(entry["per"] or (), context.catalogue, node.at("per"), problems)
    limit, restriction = _limit(entry, node, context), _restriction(entry, node, problems)
    if len(problems.found) > before or any(entry[key] is None for key in NEEDS.get(word, ())):
        return None
    status, per = entry["status"] or _STATUS.get(action, 0), tuple(sorted({*(entry["per"] or ())}))
    tag, hold = entry["tag"] or "", entry["hold"] or 0
    return Effect(action, status, limit, per, tag, hold, entry["link"], restriction, str(entry["ask"] or ""))


def _limit(entry: Mapping[str, Any], node: Node, context: Context) -> Limit | None:
    if entry["limit"] is None:
        return None
    shadow, pace = context.mode is Mode.SHADOW, entry["window"] or Pace.FIXED
    place, name = node.at("limit"), f"rule:{context.rule}"
    return limit_of(entry["limit"], name, pace, shadow, place, context.problems, (Unit.REQUESTS,))


def _restriction(entry: Mapping[str, Any], node: Node, problems: Problems) -> Restriction | None:
    found = Restriction(**entry["to"]) if entry["to"] else None
    if found is not None and not found.plain():
        problems.add(node.at("to"), "restricts nothing", "clamp max_tokens or n, or write logprobs or reasoning: false")
    return found
