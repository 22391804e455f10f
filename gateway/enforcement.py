"""Decision to outcome: the only place where shadow becomes «pass», and where a refusal gets its public face.

An exchange may be refused for four reasons, looked at in this order: a rule denies or asks to verify; the exchange could
not be read as its protocol says and the declared fail mode refuses; shared state is down and the fail mode is closed;
a limit has no room. The caller is told a code, a sentence and a reference, never a threshold or a signal's name.
"""

from __future__ import annotations

from functools import reduce
from operator import attrgetter
from typing import Final, NamedTuple

from gateway.decision import Action, Asked, Decision, Mode, Public, Refusal, Restriction, Room, Verdict
from gateway.engine import Evaluated, Prepared
from gateway.facts import Cause
from gateway.language.policy import Effect, PlanLimit, Rule
from gateway.state.operations import NANO, TOKEN_UNITS, Limit, Unit
from gateway.values import SECOND

_UNAVAILABLE: Final = Public("temporarily-unavailable", "The gateway lacks something that it must have; retry shortly.")
CAUSE_ANSWERS: Final[dict[Cause, tuple[int, Public]]] = {
    Cause.ROUTE_UNRECOGNISED: (404, Public("unknown-route", "This gateway does not serve this method and path.")),
    Cause.WEBSOCKET: (403, Public("no-websockets", "WebSockets are not carried here; use the HTTP API with stream: true.")),
    Cause.MEDIA_TYPE: (415, Public("unsupported-media-type", "This endpoint does not take bodies of this type")),
    Cause.BODY_ENCODING: (415, Public("unsupported-encoding", "Send the body plain, or as gzip or deflate.")),
    Cause.BODY_TOO_LARGE: (413, Public("body-too-large", "The request body is larger than this gateway accepts.")),
    Cause.BODY_BEYOND_WINDOW: (413, Public("body-too-large", "The request body is larger than this gateway inspects.")),
    Cause.BODY_MALFORMED: (400, Public("invalid-body", "The request body is not what this endpoint expects")),
    Cause.CREDENTIAL_MISSING: (401, Public("credential-missing", "No API key was sent.")),
    Cause.CREDENTIAL_UNKNOWN: (401, Public("credential-unknown", "This API key is not known here.")),
    Cause.CREDENTIAL_AMBIGUOUS: (400, Public("credential-ambiguous", "Two different API keys were sent; send one.")),
    Cause.ACCOUNT_UNREADABLE: (403, Public("account-unreadable", "The account of this API key is set up wrongly; tell us.")),
    Cause.DIRECTORY_UNAVAILABLE: (503, Public("temporarily-unavailable", "API keys cannot be checked now; retry shortly.")),
    **dict.fromkeys((Cause.GEO_UNAVAILABLE, Cause.OTLP_UNAVAILABLE, Cause.RECORDS_UNAVAILABLE), (503, _UNAVAILABLE)),
}
_STATE_DOWN: Final = Public("temporarily-unavailable", "The gateway cannot check its limits right now; retry shortly.")
_KEY_MISSING: Final = Public("key-missing", "The request lacks what its usage limit is counted by, such as an API key.")
_NO_PRICE: Final = Public("model-not-priced", "This model is not offered under this plan.")
_STATE_RETRY: Final = 5
_QUOTA_UNITS: Final = {
    **{unit: unit.replace(" ", "-") for unit in TOKEN_UNITS}, Unit.USD: "usd-cents", Unit.CONCURRENT: "concurrent-requests",
}  # fmt: skip
_CENT: Final = NANO // 100
_VERIFY_CODE: Final = "verification-required"


class Trouble(NamedTuple):
    """What stands in an exchange's way besides rules: a cause to refuse it for, shared state that is down.

    would_refuse: whether it would be refused for such a thing if everything were enforced.
    """

    cause: Cause | None = None
    detail: str = ""
    state_down: bool = False
    would_refuse: bool = False


class Enforced(NamedTuple):
    """What enforcement made of a decision."""

    action: Action
    would: Action
    refusal: Refusal | None
    tags: tuple[str, ...] = ()
    delay: int = 0
    restriction: Restriction | None = None
    reason: Public | None = None
    asked: tuple[Asked, ...] = ()


_allowed: Final = attrgetter("allowed")
NO_TROUBLE: Final = Trouble()
NOTHING_DONE: Final = Enforced(Action.ALLOW, Action.ALLOW, None)


def enforce(
    decision: Decision,
    evaluated: Evaluated,
    prepared: Prepared,
    rooms: list[Room],
    trouble: Trouble,
    at: int,
) -> Enforced:
    """The enforced outcome of one decision at the time `at` (µs)."""
    if not evaluated.ends and trouble == NO_TROUBLE and not prepared.turned_away and all(map(_allowed, rooms)):
        return NOTHING_DONE
    acting = [
        (ended.rule, ended.effect)
        for ended, end in zip(evaluated.ends, decision.ends, strict=True)
        if ended.effect is not None and end.verdict is Verdict.MATCH and end.action is ended.effect.action
    ]
    asked = _asked(evaluated)
    refusal = _refusal(decision, acting, prepared, rooms, trouble, at)
    action = _action_of(refusal, decision)
    would = max(decision.would, action, Action.THROTTLE if any(not room.allowed for room in rooms) else Action.ALLOW)
    if trouble.would_refuse or prepared.turned_away:
        would = Action.DENY
    tags = tuple(sorted({effect.tag for _, effect in acting if effect.action is Action.TAG}))
    delay = max((effect.hold for _, effect in acting if effect.action is Action.DELAY), default=0)
    if refusal is not None:
        return Enforced(action, would, refusal, asked=asked)
    restricting = sorted(
        ((rule, effect.restriction) for rule, effect in acting if effect.restriction), key=lambda pair: pair[0].id
    )
    restriction = reduce(Restriction.and_also, (demand for _, demand in restricting)) if restricting else None
    reason = restricting[0][0].public if restricting else None
    return Enforced(action, would, None, tags, delay, restriction, reason, asked)


def _asked(evaluated: Evaluated) -> tuple[Asked, ...]:
    """What enforced matches that stand ask the caller to declare, whatever else they do and whether or not a limit had room."""
    found: dict[str, list[str]] = {}
    for end in evaluated.ends:
        if end.effect is not None and end.effect.ask and end.counts:
            found.setdefault(end.effect.ask, []).append(end.rule.id)
    return tuple([Asked(kind, tuple(sorted(by))) for kind, by in sorted(found.items())]) if found else ()


def rate_headers(plans: list[PlanLimit], rooms: list[Room], at: int) -> tuple[tuple[str, str], ...]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for the plan limits that apply."""
    by_id = {room.limit: room for room in rooms if not room.shadow}
    shown = [(plan.limit, by_id[plan.limit.id]) for plan in plans if plan.limit.id in by_id]
    if not shown:
        return ()
    policy = ", ".join(f'"{limit.id}";{_quota(limit)}' for limit, _ in shown)
    room_left = ", ".join(
        f'"{limit.id}";r={_published(limit, room.remaining)};t={seconds_until(room.resets_at, at)}' for limit, room in shown
    )
    return (("ratelimit-policy", policy), ("ratelimit", room_left))


def _quota(limit: Limit) -> str:
    unit = _QUOTA_UNITS.get(limit.unit)
    named = f';qu="{unit}"' if unit else ""
    window = "" if limit.unit is Unit.CONCURRENT else f";w={limit.period}"
    return f"q={_published(limit, limit.amount)}{named}{window}"


def _published(limit: Limit, units: int) -> int:
    return units // _CENT if limit.unit is Unit.USD else units


def seconds_until(then: int, at: int) -> int:
    """Whole seconds from `at` to `then` (µs), rounded up, never negative."""
    return max(0, -((at - then) // SECOND))


def _refusal(
    decision: Decision,
    acting: list[tuple[Rule, Effect]],
    prepared: Prepared,
    rooms: list[Room],
    trouble: Trouble,
    at: int,
) -> Refusal | None:
    if decision.action >= Action.VERIFY:
        strongest = sorted((pair for pair in acting if pair[1].action is decision.action), key=lambda pair: pair[0].id)
        rule, effect = strongest[0]
        public = Public(_VERIFY_CODE, rule.public.message) if decision.action is Action.VERIFY else rule.public
        return Refusal(effect.status, public, tuple(r.id for r, _ in strongest), link=effect.link)
    if trouble.cause is not None:
        status, public = CAUSE_ANSWERS[trouble.cause]
        if trouble.detail:
            public = Public(public.code, f"{public.message.rstrip('.')}: {trouble.detail}")
        return Refusal(status, public, (f"intake:{trouble.cause}",), _STATE_RETRY if status == 503 else None)
    if trouble.state_down:
        return Refusal(503, _STATE_DOWN, ("state",), retry_after=_STATE_RETRY)
    if keyless := tuple(plan.limit.id for plan in prepared.refusing if plan.mode is Mode.ENFORCE):
        return Refusal(401, _KEY_MISSING, keyless)
    if unpriced := tuple(plan.limit.id for plan in prepared.unpriced if plan.mode is Mode.ENFORCE):
        return Refusal(403, _NO_PRICE, unpriced)
    return _throttled(acting, prepared, rooms, at)


def _throttled(acting: list[tuple[Rule, Effect]], prepared: Prepared, rooms: list[Room], at: int) -> Refusal | None:
    full = [room for room in rooms if not room.allowed and not room.shadow]
    if not full:
        return None
    publics = {plan.limit.id: plan.public for plan in prepared.plans}
    publics |= {effect.limit.id: rule.public for rule, effect in acting if effect.limit}
    names = sorted(room.limit for room in full)
    wait = max(seconds_until(room.resets_at, at) for room in full)
    return Refusal(429, publics[names[0]], tuple(name.removeprefix("rule:") for name in names), max(1, wait))


def _action_of(refusal: Refusal | None, decision: Decision) -> Action:
    if refusal is None:
        return decision.action
    if decision.action >= Action.VERIFY:
        return decision.action
    return Action.THROTTLE if refusal.status == 429 else Action.DENY
