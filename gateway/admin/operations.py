"""What the admin listener answers: one table of operations, from which routes, checks and the OpenAPI document are written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import gateway.admin.shapes as shapes
from gateway.admin.access import Token
from gateway.admin.desk import Desk
from gateway.sections import Role


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was let in and understood. given: its parameters; body: what it says, None where it needs none."""

    token: Token
    given: Any
    body: Any


Handle = Callable[[Desk, Request], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that may be asked. answer: its type, `str` for plain text. missing: what a 404 says; busy: what a 409 says."""

    method: str
    path: str
    name: str
    summary: str
    handle: Handle
    answer: Any
    asked: type[shapes.Asked] = shapes.Asked
    body: type | None = None
    role: Role = Role.READ
    refusals: Mapping[int, str] = field(default_factory=dict)


async def _health(desk: Desk, request: Request) -> object:
    return await desk.health()


async def _metrics(desk: Desk, request: Request) -> object:
    return await desk.metrics()


async def _policy(desk: Desk, request: Request) -> object:
    return desk.policy()


async def _rules(desk: Desk, request: Request) -> object:
    return desk.rules()


async def _rule(desk: Desk, request: Request) -> object:
    return desk.rule(request.given.rule)


async def _workloads(desk: Desk, request: Request) -> object:
    return desk.workloads()


async def _accounts(desk: Desk, request: Request) -> object:
    return desk.accounts(request.given)


async def _account(desk: Desk, request: Request) -> object:
    return desk.account(request.given.account)


async def _decisions(desk: Desk, request: Request) -> object:
    return await desk.decisions(request.given)


async def _decision(desk: Desk, request: Request) -> object:
    return await desk.decision(request.given)


async def _halted(desk: Desk, request: Request) -> object:
    return desk.halted()


async def _halt(desk: Desk, request: Request) -> object:
    return await desk.halt(request.token.name, request.body)


async def _lift(desk: Desk, request: Request) -> object:
    return await desk.lift(request.token.name, request.given)


OPERATIONS: Final = (
    Operation("GET", "/health", "health", "What works, what does not, and what is in force", _health, dict[str, Any]),
    Operation("GET", "/metrics", "metrics", "Metrics, as Prometheus reads them", _metrics, str),
    Operation("GET", "/policy", "policy", "The policy in force", _policy, shapes.PolicyAnswer),
    Operation("GET", "/rules", "rules", "Every rule, with how often it ended how", _rules, shapes.RulesAnswer),
    Operation("GET", "/rules/{rule}", "rule", "One rule", _rule, shapes.RuleTold, shapes.OneRule,
              refusals={404: "no such rule in force"}),
    Operation("GET", "/workloads", "workloads", "Declared workloads of the policy in force", _workloads,
              shapes.WorkloadsAnswer),
    Operation("GET", "/accounts", "accounts", "Accounts on whom something was done, the latest first", _accounts,
              shapes.AccountsAnswer, shapes.SomeAccounts),
    Operation("GET", "/accounts/{account}", "account", "What was done on one account since the start", _account,
              shapes.AccountTold, shapes.OneAccount, refusals={404: "nothing was done on such an account since the start"}),
    Operation("GET", "/decisions", "decisions", "Decisions of the ledger, the latest first; without `since` of the last day",
              _decisions, shapes.DecisionsAnswer, shapes.SomeDecisions),
    Operation("GET", "/decisions/{reference}", "decision", "Why one request was decided as it was, evaluated again", _decision,
              dict[str, Any], shapes.OneDecision,
              refusals={404: "no such decision in the ledger", 409: "evaluated again, it is another answer"}),
    Operation("GET", "/halt", "halted", "The halt in force, if any", _halted, shapes.HaltAnswer),
    Operation("PUT", "/halt", "halt", "Have all rules and limits judge in shadow", _halt, shapes.HaltAnswer, body=shapes.Order,
              role=Role.OPERATE, refusals={409: "a halt is in force already"}),
    Operation("DELETE", "/halt", "lift", "End the halt: rules and limits act again", _lift, shapes.HaltAnswer, shapes.Lifting,
              role=Role.OPERATE, refusals={409: "no halt is in force"}),
)  # fmt: skip
