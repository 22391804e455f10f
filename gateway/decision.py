"""What a policy says of one exchange, and what was really done.

`Decision` is the engine's: every match, unknown and error, for two views that never mix: the enforced one and the
one that shadow rules would make. `Outcome` is enforcement's. Both are frozen values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from gateway.facts import Cause


class Action(IntEnum):
    """What a response asks for, weakest first: the strongest among the matches wins."""

    ALLOW = 0
    OBSERVE = 1
    TAG = 2
    DELAY = 3
    RESTRICT = 4
    THROTTLE = 5
    VERIFY = 6
    DENY = 7

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def refuses(self) -> bool:
        """Whether the request does not reach the upstream."""
        return self >= Action.THROTTLE


class Mode(StrEnum):
    """Whether a rule or limit acts, only reports, or rests."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"

    def under(self, overall: Mode) -> Mode:
        """This mode below an overall one: the weaker of the two."""
        order = (Mode.OFF, Mode.SHADOW, Mode.ENFORCE)
        return min(self, overall, key=order.index)


class Verdict(StrEnum):
    """The four ends of a rule. They are never merged, and only `match` acts."""

    MATCH = "match"
    NO_MATCH = "no_match"
    UNKNOWN = "unknown"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Public:
    """What a caller is told: a stable code and a sentence. Never thresholds or signal names."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RuleEnd:
    """How one rule ended on one exchange.

    action: what it asks for in the enforced view (ALLOW unless it matched and is enforced); would: what it asks for as
    if every shadow rule were enforced. missing: the values an unknown lacked, or those without which a matched throttle could
    not count, or a restriction not take, and so yielded. excepted: the exception that applied. abstained: the declared
    workload it left alone. mode: the one in force for this exchange, which a share can lower. asks: the kind of workload that
    the caller is asked to declare because of it; would_ask: the same as if every shadow rule were enforced. plain: what records
    say of it, kept by whoever writes them, as equal ends are one object.
    """

    rule: str
    mode: Mode
    verdict: Verdict
    action: Action = Action.ALLOW
    would: Action = Action.ALLOW
    missing: tuple[str, ...] = ()
    error: str = ""
    excepted: str = ""
    corroborated: tuple[str, ...] = ()
    step: int | None = None
    abstained: str = ""
    asks: str = ""
    would_ask: str = ""
    plain: dict[str, object] | None = field(default=None, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Room:
    """The answer of one limit: whether it had room, what is left, and when (µs since 1970) it resets."""

    limit: str
    allowed: bool
    remaining: int
    resets_at: int
    shadow: bool = False


class Decision(NamedTuple):
    """Everything the policy says of one exchange; `ends` leaves out rules that simply did not match.

    A named tuple, because one is made for every request and a frozen dataclass takes three times as long.
    """

    action: Action
    would: Action
    ends: tuple[RuleEnd, ...] = ()
    measures: Mapping[str, object] = {}

    def matches(self) -> list[RuleEnd]:
        return [end for end in self.ends if end.verdict is Verdict.MATCH]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer given instead of passing the request on. `retry_after` is whole seconds."""

    status: int
    public: Public
    by: tuple[str, ...]
    retry_after: int | None = None
    link: str | None = None


class Asked(NamedTuple):
    """What a caller is asked to declare: a workload of this kind. by: the rules that ask, by id."""

    kind: str
    by: tuple[str, ...]

    @property
    def code(self) -> str:
        """The public code that callers may program against, such as `declare-relay`."""
        return f"declare-{self.kind}"


@dataclass(frozen=True, slots=True)
class Restriction:
    """Less than was asked for: the most `max_tokens` and `n`, and whether log probabilities and reasoning stay."""

    max_tokens: int | None = None
    n: int | None = None
    logprobs: bool = True
    reasoning: bool = True

    def and_also(self, other: Restriction) -> Restriction:
        """What satisfies both."""
        return Restriction(
            min((most for most in (self.max_tokens, other.max_tokens) if most is not None), default=None),
            min((most for most in (self.n, other.n) if most is not None), default=None),
            self.logprobs and other.logprobs,
            self.reasoning and other.reasoning,
        )

    def said(self) -> list[str]:
        """What it takes, in the words that callers are told: `max_tokens=16`, `logprobs=off`."""
        return [f"{name}={'off' if most is False else most}" for name, most in self.plain().items()]

    def plain(self) -> dict[str, object]:
        """What it demands, in the words of rules."""
        asked: dict[str, object] = {"max_tokens": self.max_tokens, "n": self.n}
        kept = {"logprobs": self.logprobs, "reasoning": self.reasoning}
        return {key: most for key, most in asked.items() if most is not None} | {
            k: False for k, stays in kept.items() if not stays
        }


class Outcome(NamedTuple):
    """What is really done with one exchange.

    reference: what the caller is given to ask about the decision. tags: added to the request upstream. delay: µs to
    hold the request. restriction: what is taken from the request, and `reason` what the caller is told of it. rooms: every
    limit that was looked at. headers: the plan limits to publish. asked: what the caller is asked to declare, by kind.
    """

    id: str
    reference: str
    policy: str
    decision: Decision
    action: Action
    would: Action
    refusal: Refusal | None = None
    cause: Cause | None = None
    tags: tuple[str, ...] = ()
    delay: int = 0
    restriction: Restriction | None = None
    reason: Public | None = None
    rooms: tuple[Room, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    state_error: str = ""
    asked: tuple[Asked, ...] = ()
