"""The gate: the one seam. It holds policy, signals, state, identity of records and the sink; every face calls it.

Live and dry run differ only in what is handed in here: the source of facts, the state, the ids, the timer and the sink.
Judging is a generator that yields batches of state operations and receives replies, so that one piece of code serves
memory (a plain function call), Redis (awaited) and replay. A state that fails to answer is a reply too: it stands in the way
of what is enforced only where something enforced was asked of it.

What a judged exchange took is settled later. Where judging itself ends before its time (a client that leaves, a defect), all
that is known to be taken is given back at once, and with it the leases of a batch of which nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Final

from gateway.asking import Asking, RemoteState
from gateway.decision import Mode, Outcome, Room, Verdict
from gateway.dependencies import Dependencies
from gateway.enforcement import Trouble, enforce, rate_headers
from gateway.engine import Engine, Evaluated, under
from gateway.errors import PolicyError, StateError
from gateway.facts import Answer, End, Facts
from gateway.failing import OUT, Dependency, Fail, FailModes
from gateway.halting import Halt
from gateway.judgement import Judgement
from gateway.language.policy import Policy
from gateway.quarantine import Quarantine
from gateway.randomness import Randomness
from gateway.returns import Asked, Replied, abandoned, settling, taken
from gateway.signals import Catalogue, View
from gateway.state.held import Held
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply
from gateway.state.owed import leases
from gateway.state.share import Share
from gateway.troubles import causes_of, failing_of
from gateway.versions import Versions

SUBJECT = ("account.id", "account.org", "request.model", "prompt.template")  # what tells who was asked to declare, and of what
_RANDOM: Final = Randomness(16)
_NO_ANSWER = (End.UPSTREAM_FAILED, End.UPSTREAM_CUT)
Judging = Generator[Batch, Replied, Judgement]


Sink = Callable[[Judgement, Answer], None]


def random_id(facts: Facts) -> str:
    """A new identifier for a live decision: 32 hexadecimal digits."""
    return _RANDOM.piece().hex()


class Gate:
    """Judges exchanges by a policy.

    state: MemoryState, or a RemoteState (then use the `_remote` methods). mode: the overall mode, above every rule's own.
    ids: the id of a decision from its facts. timer: nanoseconds, for latencies only. sink: receives every settled
    judgement exactly once. tell: receives what operators must hear at once, such as a rule that is set aside.
    dependencies: what is watched of them. share: this process's share of limits, for when remote state fails and degrades.
    holding: told when an exchange that holds leases begins, and within how many µs to call `renew`; unset: none is renewed.
    """

    def __init__(
        self,
        policy: Policy,
        catalogue: Catalogue,
        *,
        state: MemoryState | RemoteState | None = None,
        mode: Mode = Mode.ENFORCE,
        fail: FailModes | None = None,
        dependencies: Dependencies | None = None,
        share: Share | None = None,
        sink: Sink | None = None,
        ids: Callable[[Facts], str] = random_id,
        timer: Callable[[], int] = time.perf_counter_ns,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.catalogue = catalogue
        self.state = MemoryState() if state is None else state
        self.mode = self._declared = mode
        self.halt: Halt | None = None
        self.fail = FailModes() if fail is None else fail
        self.dependencies = Dependencies(self.fail) if dependencies is None else dependencies
        self.sink: Sink = (lambda judgement, answer: None) if sink is None else sink
        self.ids, self.timer, self.tell = ids, timer, tell
        self.versions = Versions()
        self._recorded = [name for name, signal in catalogue.items() if signal.recorded]
        self._subject = [name for name in SUBJECT if name in catalogue]
        self.holding: Callable[[int], None] | None = None
        self.asking, self._held = Asking(share), Held()
        self.judged = 0
        self._put_in_force(policy)

    def use(self, policy: Policy) -> list[str]:
        """Put a policy in force at once; exchanges already judged settle under the one that judged them.

        Returns what is to be told of it: packs that changed their meaning without a higher version. Counters go on unless a
        measure's definition changed; quarantines end. Raises PolicyError, and changes nothing, where a pack has a lower version
        than one that was ever in force here: an old policy must not come back unnoticed.
        """
        lower, notices = self.versions.change(self.policy, policy)
        if lower:
            raise PolicyError(lower)
        self._put_in_force(policy)
        return notices

    def obey(self, halt: Halt | None) -> None:
        """Judge in shadow while an operator's halt is in force; None: as declared again. What is judged stays as it is."""
        self.halt, self.mode = halt, Mode.SHADOW.under(self._declared) if halt else self._declared
        self._put_in_force(self.policy)

    def _put_in_force(self, policy: Policy) -> None:
        self.policy = policy
        self._engine = Engine(under(policy, self.mode), self.catalogue)
        self.quarantine = Quarantine(self.tell)

    @property
    def leases(self) -> int:
        """Exchanges under way here that hold leases."""
        return len(self._held)

    @property
    def local(self) -> bool:
        """Whether judging is a plain function call, because the state is in this process."""
        return isinstance(self.state, MemoryState)

    def judge(self, facts: Facts) -> Judgement:
        """Judge with state in this process: a plain function call."""
        state = self.state
        assert isinstance(state, MemoryState), "remote state needs judge_remote"
        judging, asked = self._judging(facts), Asked()
        reply: Replied | None = None
        try:
            while True:
                try:
                    batch = judging.send(reply)  # type: ignore[arg-type]
                except StopIteration as done:
                    return self._begun(done.value)
                reply = state.apply(batch)
                asked.append((batch, reply))
        except BaseException:  # whatever broke, nobody will settle what was taken
            state.apply(abandoned(facts, asked))
            raise

    async def judge_remote(self, facts: Facts) -> Judgement:
        """Judge with whatever state the gate has; only a remote one awaits."""
        if isinstance(self.state, MemoryState):
            return self.judge(facts)
        judging, asked = self._judging(facts), Asked()
        reply: Replied | None = None
        try:
            while True:
                try:
                    batch = judging.send(reply)  # type: ignore[arg-type]
                except StopIteration as done:
                    return self._begun(done.value)
                asked.append((batch, None))
                reply = await self.asking.ask(self.state.apply, batch)
                asked[-1] = batch, reply
        except BaseException:  # whoever asked is gone, or something broke: nobody will settle what was taken
            await self.asking.abandon(self.state, abandoned(facts, asked))
            raise

    def settle(self, judgement: Judgement, answer: Answer) -> None:
        """Count what is only known after the answer, give back what a refusal took, and hand the record to the sink."""
        assert isinstance(self.state, MemoryState), "remote state needs settle_remote"
        self._over(judgement, answer)
        if batch := settling(judgement, answer):
            self.state.apply(batch)
        self.sink(judgement, answer)

    async def settle_remote(self, judgement: Judgement, answer: Answer) -> None:
        """`settle`, with whatever state the gate has. A remote one takes it with the next batch, or soon after."""
        if isinstance(self.state, MemoryState):
            self.settle(judgement, answer)
            return
        self._over(judgement, answer)
        if batch := settling(judgement, answer):
            reply = await self.asking.ask(self.state.later, batch)
            judgement.settle_error = str(reply) if isinstance(reply, StateError) else ""
        self.sink(judgement, answer)

    def _over(self, judgement: Judgement, answer: Answer) -> None:
        self._held.end(judgement.outcome.id)
        if answer.end in _NO_ANSWER or (answer.status in OUT and judgement.outcome.refusal is None):
            judgement.failing |= self._named([Dependency.UPSTREAM])

    def renew(self, at: int) -> int:
        """Renew, at the time `at` (µs), the leases of exchanges under way. How long (µs) until it is to be done again, or 0."""
        assert isinstance(self.state, MemoryState), "remote state needs renew_remote"
        for batch in self._held.due(at):
            self.state.apply(batch)
            self._held.renewed(batch)
        return self._held.pause

    async def renew_remote(self, at: int) -> int:
        """`renew`, with whatever state the gate has."""
        if isinstance(self.state, MemoryState):
            return self.renew(at)
        for batch in self._held.due(at):
            if isinstance(await self.asking.ask(self.state.apply, batch), StateError):
                break
            self._held.renewed(batch)
        return self._held.pause

    def _begun(self, judgement: Judgement) -> Judgement:
        self.judged += 1
        if self.holding is not None and judgement.held:
            within = self._held.begin(judgement.outcome.id, judgement, judgement.held, judgement.facts.at)
            if within:
                self.holding(within)
        return judgement

    def _judging(self, facts: Facts) -> Judging:
        started = self.timer()
        engine, quarantine, view = self._engine, self.quarantine, View.of(facts, self.catalogue)
        fail, share, known = self.fail.under(self.mode), self.asking.share, self.dependencies.failing
        failing = failing_of(view, self.dependencies)
        causes = causes_of(view, self.dependencies, failing)
        refused = next((cause for cause in causes if fail.refuses(cause)), None)
        identity = self.ids(facts)
        prepared = engine.prepare(view, limits=refused is None, owner=identity)
        reply = (yield prepared.batch) if prepared.batch else Reply()
        error = reply if isinstance(reply, StateError) else None
        first = None if isinstance(reply, StateError) else reply
        unsure = leases(prepared.batch) if error else []
        down = error is not None and engine.needs(prepared)
        evaluated = engine.evaluate(view, prepared, first, quarantine.resting(facts.at))
        counted, answer = share.take(prepared.batch) if share and error else (prepared.batch, first)
        rooms: list[Room] = [*answer.rooms, *answer.shadow_rooms] if answer else []
        took = taken(counted, answer)
        full = any(not room.allowed and not room.shadow for room in rooms)
        second = None if refused or full or (down and not share) else engine.throttles(view, evaluated)
        if second and (second.takes or not error):
            reply = yield second
            if isinstance(reply, StateError):
                error, down = reply, down or bool(second.takes)
                unsure += leases(second)
                second, reply = share.take(second) if share else (second, error)
            if isinstance(reply, Reply):
                rooms += [*reply.rooms, *reply.shadow_rooms]
                took += taken(second, reply)
        decision = engine.decide(evaluated, rooms)
        _resolve(self._recorded, evaluated, view)
        if self.dependencies.failing is not known:  # looking itself found out, such as that a geo database is damaged
            failing |= failing_of(view, self.dependencies)
            causes = causes_of(view, self.dependencies, failing)
            refused = refused or next((cause for cause in causes if fail.refuses(cause)), None)
        quarantine.note(decision.ends, facts.at)
        detail, shut = facts.detail if refused is facts.cause else "", down and fail.of(Dependency.STATE) is Fail.CLOSED
        would = error is not None and self.fail.of(Dependency.STATE) is Fail.CLOSED
        trouble = Trouble(refused, detail, shut, would or any(map(self.fail.refuses, causes)))
        enforced = enforce(decision, evaluated, prepared, rooms, trouble, facts.at)
        for name in self._subject if enforced.asked else ():
            view.get(name)
        told = enforced.refusal is None or enforced.refusal.status == 429
        headers = rate_headers(prepared.plans, rooms, facts.at) if told else ()
        outcome = Outcome(
            identity, f"sg-{identity}", engine.policy.digest, decision, enforced.action, enforced.would, enforced.refusal,
            refused or next(iter(causes), None), enforced.tags, enforced.delay, enforced.restriction, enforced.reason,
            tuple(rooms), headers, str(error) if error else "", enforced.asked,
        )  # fmt: skip
        refused_in_shadow = [take for take in took if take.limit.shadow] if enforced.would.refuses else []
        returns = took if enforced.refusal is not None else refused_in_shadow
        held = [take for take in took if take not in returns]
        returns = [*returns, *unsure]
        named = self._named(failing | {Dependency.STATE} if error else failing)
        took_ns, halt = self.timer() - started, self.halt.id if self.halt else ""
        return Judgement(
            outcome, facts, view, evaluated, self.mode, engine, returns, held, took_ns, failing=named, halt=halt
        )  # fmt: skip

    def _named(self, failing: Iterable[Dependency]) -> dict[str, str]:
        """What fails, each with what is declared of it."""
        return {str(name): str(self.fail.of(name)) for name in sorted(failing)}


def _resolve(recorded: list[str], evaluated: Evaluated, view: View) -> None:
    """Have what every record holds, and what the rules that matched name as evidence, stand in the record."""
    for name in recorded:
        view.get(name)
    for end in evaluated.ends:
        if end.verdict is Verdict.MATCH:
            for name in end.rule.evidence:
                if name not in end.rule.measures:
                    view.get(name)
