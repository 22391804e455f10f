"""Runs recorded exchanges through a gate of its own: fresh memory, recorded time, ids from the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.decision import Mode
from gateway.facts import Answer, End, Facts
from gateway.failing import FailModes
from gateway.gate import Gate
from gateway.judgement import Judgement
from gateway.language.policy import Policy
from gateway.readings import rule_values
from gateway.replay.exchange import Exchange
from gateway.report.observed import NOBODY, Observed
from gateway.signals import NOT_RECORDED, Catalogue
from gateway.state.limits import MAX_KEYS
from gateway.state.memory import MemoryState
from gateway.values import Failed, Missing

DRY_RUN_KEY = b"sluicegate dry run"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One exchange, judged and settled again."""

    exchange: Exchange
    judgement: Judgement
    answer: Answer

    @property
    def observed(self) -> Observed:
        """What reports are told of it. Asking it for signals resolves them: make its audit record before."""
        exchange, view, measured = self.exchange, self.judgement.view, self.judgement.evaluated.values
        account, org = view.get("account.id"), view.get("account.org")
        return Observed(
            exchange.facts.at, NOBODY if isinstance(account, (Missing, Failed)) else str(account),
            None if isinstance(org, (Missing, Failed)) else str(org), exchange.label, self.judgement.outcome, view.get,
            lambda rule: rule_values(rule, view, measured), self.answer,
            lambda name: exchange.facts.recorded is not None and view.get(name) == NOT_RECORDED,
            lambda name: isinstance(found := view.get(name), Missing) and found != NOT_RECORDED,
        )  # fmt: skip


def replay(
    exchanges: Iterable[Exchange],
    policy: Policy,
    catalogue: Catalogue,
    mode: Mode = Mode.ENFORCE,
    fail: FailModes | None = None,
    max_keys: int = MAX_KEYS,
) -> Iterator[Replayed]:
    """Judge and settle every exchange at its recorded time, in the order given. max_keys: that the state keeps of each window.

    A recorded answer is kept only where the request is let through now: a refused request has no upstream's answer.
    """
    identity = ""

    def ids(facts: Facts) -> str:
        return identity

    gate = Gate(policy, catalogue, state=MemoryState(max_keys), mode=mode, fail=fail, ids=ids, timer=lambda: 0)
    for exchange in exchanges:
        identity = exchange.id
        judgement = gate.judge(exchange.facts)
        answer = answered(judgement, exchange.answer)
        gate.settle(judgement, answer)
        yield Replayed(exchange, judgement, answer)


def answered(judgement: Judgement, recorded: Answer) -> Answer:
    """What the caller would have been answered: the refusal, or what the record says."""

    refusal = judgement.outcome.refusal
    if refusal is not None:
        return Answer(status=refusal.status, end=End.REFUSED)
    if recorded.end is End.REFUSED:
        return Answer()
    return recorded
