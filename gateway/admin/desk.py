"""What the admin listener knows and can do: read from the running process and from its ledger, and one order."""

from __future__ import annotations

import asyncio
import heapq
import json
import secrets
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from prometheus_client import generate_latest

from gateway.admin.refused import RefusedError
from gateway.admin.seen import Acted, Seen
from gateway.admin.shapes import (
    AccountsAnswer,
    AccountTold,
    DecisionsAnswer,
    DecisionTold,
    HaltAnswer,
    HaltTold,
    Lifting,
    OneDecision,
    Order,
    PolicyAnswer,
    RulesAnswer,
    RuleTold,
    SomeAccounts,
    SomeDecisions,
    WorkloadsAnswer,
)  # fmt: skip
from gateway.audit.exposed import Scraped
from gateway.audit.query import Query, select
from gateway.decision import Action, Verdict
from gateway.errors import RecordError, ReplayError
from gateway.halting import Halt, HaltFile
from gateway.language.policy import Rule
from gateway.replay.caller import caller_view
from gateway.replay.explain import explain
from gateway.replay.lookup import line_of, read_entry
from gateway.replay.sources import Reader
from gateway.replay.telling import told
from gateway.values import SECOND, parse_duration, parse_timestamp, timestamp_text
from gateway.web.app import Process
from gateway.web.door import politely
from gateway.web.intake import Intake

DAY: Final = 86_400 * SECOND


class Desk:
    """process: the one it speaks of. seen: told of every settled judgement. halts: where a halt stands."""

    def __init__(self, process: Process, seen: Seen, halts: HaltFile) -> None:
        self._process, self._seen, self._halts = process, seen, halts
        self._clock = process.assembly.door.clock
        self._since = self._clock()

    async def health(self) -> Mapping[str, Any]:
        await self._process.probe()
        return self._process.health() | {"tasks": len(asyncio.all_tasks())}

    def policy(self) -> PolicyAnswer:
        gate = self._process.gate
        policy = gate.policy
        return PolicyAnswer(
            policy.digest, policy.version, gate.mode, dict(policy.packs), len(policy.rules), len(policy.limits),
            len(policy.workloads), dict(self._process.reloader.health()),
        )  # fmt: skip

    def rules(self) -> RulesAnswer:
        return RulesAnswer(timestamp_text(self._since), [self._rule(rule) for rule in self._process.gate.policy.rules])

    def rule(self, name: str) -> RuleTold:
        rule = self._process.gate.policy.rule(name)
        if rule is None:
            raise RefusedError(404, "No such rule in force", "/rules has them all")
        return self._rule(rule)

    def _rule(self, rule: Rule) -> RuleTold:
        gate = self._process.gate
        ends: dict[Verdict, int] = {}
        for (name, verdict, _), count in self._process.assembly.counted.rules.items():
            if name == rule.id:
                ends[Verdict(verdict)] = ends.get(Verdict(verdict), 0) + count
        resting = gate.quarantine.resting(self._clock()).get(rule.id, "")
        measured = rule.measured.plain() if rule.measured else None
        return RuleTold(rule.id, rule.title, rule.pack, rule.family, rule.severity, rule.owner, rule.mode.under(gate.mode),
                        ends, resting, measured)  # fmt: skip

    def workloads(self) -> WorkloadsAnswer:
        return WorkloadsAnswer([
            {
                "id": one.id, "kind": one.kind, "owner": one.owner, "since": timestamp_text(one.since),
                "until": timestamp_text(one.until), "evidence": one.evidence, "items": one.size,
                "scope": str(one.when.canonical()), "in_time": one.since <= self._clock() < one.until,
            }
            for one in self._process.gate.policy.workloads
        ])  # fmt: skip

    def accounts(self, asked: SomeAccounts) -> AccountsAnswer:
        action = Action[asked.action.upper()] if asked.action else None
        found = [_account(*one) for _, one in zip(range(asked.limit + 1), self._seen.latest(action), strict=False)]
        more = len(found) > asked.limit or self._seen.forgotten > 0
        return AccountsAnswer(timestamp_text(self._since), found[: asked.limit], more)

    def account(self, name: str) -> AccountTold:
        acted = self._seen.get(name)
        if acted is None:
            raise RefusedError(
                404, "Nothing was done on such an account since the start", "/decisions?account= asks the ledger"
            )
        return _account(name, acted)

    async def metrics(self) -> str:
        """The metrics of this process, in Prometheus' text format."""
        metering = self._process.metering
        assert metering is not None, "a process that serves has its metering"
        return generate_latest(Scraped(metering.source)).decode()

    async def decisions(self, asked: SomeDecisions) -> DecisionsAnswer:
        """Decisions of the ledger that fit; without `since` those of the last day."""
        now = self._clock()
        since = parse_timestamp(asked.since) if asked.since else now - DAY
        until = parse_timestamp(asked.until) if asked.until else None
        one_of = [frozenset({text} if text else ()) for text in (asked.rule, asked.action)]
        query = Query(account=asked.account or "", rules=one_of[0], actions=one_of[1], since=since, until=until)
        found = await asyncio.to_thread(politely, lambda: self._selected(query, asked.limit + 1))
        return DecisionsAnswer(found[: asked.limit], len(found) > asked.limit)

    def _selected(self, query: Query, most: int) -> list[DecisionTold]:
        """The latest decisions that a query asks for."""
        config = self._process.assembly.config
        opened, names = config.audit.opens(), config.audit.hashes(config.hash_key)
        entries = (json.loads(body) for *_, body in select(self._records, query, names, opened))
        return [_told(entry) for entry in heapq.nlargest(most, entries, key=itemgetter("at"))]

    async def decision(self, asked: OneDecision) -> Mapping[str, Any]:
        """One decision of the ledger, evaluated again under the policy in force."""
        return await asyncio.to_thread(politely, lambda: self._explained(asked))

    def _explained(self, asked: OneDecision) -> Mapping[str, Any]:
        process = self._process
        registry, policy, settings = process.assembly.registry, process.gate.policy, process.assembly.config
        if asked.rule is not None and policy.rule(asked.rule) is None:
            raise RefusedError(404, "No such rule in force", "see /rules")
        reader = Reader(Intake(registry, settings.hash_key, settings.largest_body), registry.signals)
        try:
            place, sealed = line_of(asked.reference, self._records)
            text = settings.audit.opens()(sealed)
            explanation = explain(reader.exchange(text, place), read_entry(text, place), policy, registry.signals)
        except LookupError as error:
            raise RefusedError(404, "No such decision in the ledger", str(error)) from None
        except (RecordError, ReplayError) as error:
            raise RefusedError(409, "Evaluated again, it is another answer", str(error)) from None
        return caller_view(explanation) if asked.view == "caller" else told(explanation, [asked.rule] if asked.rule else ())

    @property
    def _records(self) -> Path:
        records = self._process.assembly.config.records
        assert records is not None, "a process always keeps records"
        return records

    def halted(self) -> HaltAnswer:
        self._halts.look(self._clock())
        halt = self._halts.halt
        return HaltAnswer(self._process.gate.mode, HaltTold(**halt.plain()) if halt else None)  # type: ignore[arg-type]

    async def halt(self, by: str, order: Order) -> HaltAnswer:
        """Put a halt in force."""
        now = self._clock()
        try:
            until = now + parse_duration(order.lasts) if order.lasts else 0
        except ValueError as error:
            raise RefusedError(400, "The body cannot be understood", f"{error} - at `$.lasts`") from None
        if self.halted().halt is not None:
            raise RefusedError(409, "A halt is in force already", "lift it first, or leave it")
        return self._order(Halt(secrets.token_hex(8), now, order.owner, order.reason, by, until), by, order.owner, order.reason)

    async def lift(self, by: str, lifting: Lifting) -> HaltAnswer:
        """End the halt in force."""
        if self.halted().halt is None and not self._halts.problem:
            raise RefusedError(409, "No halt is in force", "nothing has to be lifted")
        return self._order(None, by, lifting.owner, lifting.reason)

    def _order(self, halt: Halt | None, by: str, owner: str, reason: str) -> HaltAnswer:
        now = self._clock()
        try:
            self._halts.write(halt, now)
        except OSError as error:
            raise RefusedError(409, "The halt cannot be written", f"{self._halts.file}: {error.strerror}") from None
        act = "halt" if halt else "lift"
        told = {"act": act, "at": timestamp_text(now), "by": by, "owner": owner, "reason": reason}
        self._process.trail.note(told | ({"halt": halt.plain()} if halt else {}))
        return self.halted()


def _told(entry: Mapping[str, Any]) -> DecisionTold:
    outcome = entry["outcome"]
    return DecisionTold(
        entry["reference"], entry["at"], entry["signals"].get("account.id"), outcome["action"], outcome["would"],
        outcome.get("status"), entry["decision"]["by"],
    )  # fmt: skip


def _account(name: str, acted: Acted) -> AccountTold:
    return AccountTold(
        name, timestamp_text(acted.first), timestamp_text(acted.seen), acted.last,
        {str(action): count for action, count in sorted(acted.actions.items())}, list(acted.rules),
    )  # fmt: skip
