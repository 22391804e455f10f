"""What is asked of the admin listener and what it answers, as types: they check what comes in, and the OpenAPI document is
written from them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.decision import Action, Mode, Verdict

MOST = 500
_MONTHS = r"(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])"
_MOMENT = rf"^20[0-9]{{2}}-({_MONTHS})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,6}})?Z$"
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(description="RFC 3339, UTC")]
Moment = Annotated[str, Meta(description="RFC 3339, UTC, such as 2026-11-30T12:00:00Z", pattern=_MOMENT)]
Reference = Annotated[str, Meta(description="sg-… as the caller saw it", pattern=r"^(sg-)?[0-9a-f]{32}$")]
Limit = Annotated[int, Meta(ge=1, le=MOST, description="how many at most")]
_PLAIN = r"^[^\u0000-\u001f\u007f]+$"
Words = Annotated[str, Meta(max_length=500, pattern=_PLAIN)]
Name = Annotated[str, Meta(max_length=200, pattern=_PLAIN)]
Only = Annotated[str, Meta(description="operator's view: explain only this rule", max_length=200, pattern=_PLAIN)]
Matched = Annotated[str, Meta(description="one that matched", max_length=200, pattern=_PLAIN)]
Lasts = Annotated[str, Meta(description="such as 2h; until it is lifted, if left out", pattern="^[1-9][0-9]{0,5}[smhd]$")]
Done = Annotated[str, Meta(description="what was done", pattern=f"^({'|'.join(map(str, Action))})$")]
Whose = Annotated[str, Meta(description="operator: all; caller: what callers may be told", pattern="^(operator|caller)$")]


class Asked(Struct, forbid_unknown_fields=True, kw_only=True):
    """Parameters: those of the path, and those of the query, each at most once."""


class OneRule(Asked):
    rule: Name


class OneAccount(Asked):
    account: Name


class SomeAccounts(Asked):
    limit: Limit = 100
    action: Done | None = None


class OneDecision(Asked):
    reference: Reference
    view: Whose = "operator"
    rule: Only | None = None


class SomeDecisions(Asked):
    """Filters; a decision has to fit all of them."""

    limit: Limit = 50
    account: Name | None = None
    rule: Matched | None = None
    action: Done | None = None
    since: Moment | None = None
    until: Moment | None = None


class Order(Struct, forbid_unknown_fields=True, kw_only=True):
    """Who orders a halt, why, and for how long."""

    owner: Words
    reason: Words
    lasts: Lasts | None = None


class Lifting(Asked):
    owner: Words
    reason: Words


class Problem(Struct):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str | UnsetType = UNSET


class HaltTold(Struct):
    id: str
    since: Time
    until: Time | None
    owner: str
    reason: str
    by: str


class HaltAnswer(Struct):
    """halt: what is in force, null for none. mode: in which everything is judged."""

    mode: Mode
    halt: HaltTold | None


class PolicyAnswer(Struct):
    digest: str
    version: Count
    mode: Mode
    packs: dict[str, int]
    rules: Count
    limits: Count
    workloads: Count
    reloads: dict[str, Any]


class RuleTold(Struct):
    """One rule. ends: how often it ended how, since the start of this process; resting: why it is set aside, or empty.

    measured: what is known of its errors, as its pack states it.
    """

    id: str
    title: str
    pack: str
    family: str
    severity: str
    owner: str
    mode: Mode
    ends: dict[Verdict, Count]
    resting: str
    measured: dict[str, Any] | None


class RulesAnswer(Struct):
    since: Time
    rules: list[RuleTold]


class AccountTold(Struct):
    """One account on whom something was done. actions: how often, by what; last: the reference of the last of them."""

    account: str
    first: Time
    seen: Time
    last: str
    actions: dict[str, Count]
    rules: list[str]


class AccountsAnswer(Struct):
    """accounts: the latest first. more: whether older ones are not shown or no longer kept."""

    since: Time
    accounts: list[AccountTold]
    more: bool


class DecisionTold(Struct):
    reference: str
    at: Time
    account: str | None
    action: str
    would: str
    status: int | None
    by: list[str]


class DecisionsAnswer(Struct):
    """decisions: the latest first. more: whether there are older ones that fit."""

    decisions: list[DecisionTold]
    more: bool


class WorkloadsAnswer(Struct):
    workloads: list[dict[str, Any]]
