"""The gate: the one seam. It holds policy, signals, state, identity of records and the sink; every face calls it.

Live and dry run differ only in what is handed in here: the source of facts, the state, the ids, the timer and the sink.
Judging is a generator that yields batches of state operations and receives replies, so that one piece of code serves
memory (a plain function call), Redis (awaited) and replay. A state that fails to answer is a reply too: it stands in the way
of what is enforced only where something enforced was asked of it.

What a judged exchange took is settled later. Where judging itself ends before its time (a client that leaves, a defect), all
that is known to be taken is given back at once, and with it the leases of a batch of which nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Final, Protocol

from gateway.decision import Mode, Outcome, Room, Verdict
from gateway.enforcement import Trouble, enforce, rate_headers
from gateway.engine import Engine, Evaluated, under
from gateway.errors import PolicyError, StateError
from gateway.facts import Answer, Cause, Facts, Freshness
from gateway.failing import Dependency, Fail, FailModes
from gateway.judgement import Judgement
from gateway.language.policy import Policy
from gateway.quarantine import Quarantine
from gateway.randomness import Randomness
from gateway.returns import Asked, Replied, abandoned, settling, taken
from gateway.signals import Catalogue, View
from gateway.state.held import Held
from gateway.state.memory import MemoryState
from gateway.state.operations import Batch, Reply
from gateway.state.owed import Owed, leases
from gateway.versions import Versions

SUBJECT = ("account.id", "account.org", "request.model", "prompt.template")  # what tells who was asked to declare, and of what
_RANDOM: Final = Randomness(16)
Judging = Generator[Batch, Replied, Judgement]


class RemoteState(Protocol):
    """State that is not in this process: a batch is awaited. Raises StateError when it does not answer.

    `later` may keep a batch for some milliseconds, so that it goes with another one; `apply` does not wait.
    """

    local: bool

    async def apply(self, batch: Batch) -> Reply: ...

    async def later(self, batch: Batch) -> Reply: ...

    def health(self) -> dict[str, object]: ...


Sink = Callable[[Judgement, Answer], None]


def random_id(facts: Facts) -> str:
    """A new identifier for a live decision: 32 hexadecimal digits."""
    return _RANDOM.piece().hex()


class Gate:
    """Judges exchanges by a policy.

    state: MemoryState, or a RemoteState (then use the `_remote` methods). mode: the overall mode, above every rule's own.
    ids: the id of a decision from its facts. timer: nanoseconds, for latencies only. sink: receives every settled
    judgement exactly once. tell: receives what operators must hear at once, such as a rule that is set aside.
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
        sink: Sink | None = None,
        ids: Callable[[Facts], str] = random_id,
        timer: Callable[[], int] = time.perf_counter_ns,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.catalogue = catalogue
        self.state = MemoryState() if state is None else state
        self.mode = mode
        self.fail = FailModes() if fail is None else fail
        self.sink: Sink = (lambda judgement, answer: None) if sink is None else sink
        self.ids, self.timer, self.tell = ids, timer, tell
        self.state_failures = 0
        self.versions = Versions()
        self._recorded = [name for name, signal in catalogue.items() if signal.recorded]
        self._subject = [name for name in SUBJECT if name in catalogue]
        self.holding: Callable[[int], None] | None = None
        self._owed, self._held = Owed(), Held()
        self._releasing: set[asyncio.Future[Replied]] = set()
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
                reply = await self._ask(self.state.apply, batch)
                asked[-1] = batch, reply
        except BaseException:  # whoever asked is gone, or something broke: nobody will settle what was taken
            await self._abandon(self.state, abandoned(facts, asked))
            raise

    def settle(self, judgement: Judgement, answer: Answer) -> None:
        """Count what is only known after the answer, give back what a refusal took, and hand the record to the sink."""
        assert isinstance(self.state, MemoryState), "remote state needs settle_remote"
        self._held.end(judgement.outcome.id)
        if batch := settling(judgement, answer):
            self.state.apply(batch)
        self.sink(judgement, answer)

    async def settle_remote(self, judgement: Judgement, answer: Answer) -> None:
        """`settle`, with whatever state the gate has. A remote one takes it with the next batch, or soon after."""
        if isinstance(self.state, MemoryState):
            self.settle(judgement, answer)
            return
        self._held.end(judgement.outcome.id)
        if batch := settling(judgement, answer):
            reply = await self._ask(self.state.later, batch)
            judgement.settle_error = str(reply) if isinstance(reply, StateError) else ""
        self.sink(judgement, answer)

    async def renew(self, at: int) -> int:
        """Renew, at the time `at` (µs), the leases of exchanges under way. How long (µs) until it is to be done again, or 0."""
        state = self.state
        for batch in self._held.due(at):
            if isinstance(state, MemoryState):
                state.apply(batch)
            elif isinstance(await self._ask(state.apply, batch), StateError):
                break
            self._held.renewed(batch)
        return self._held.pause

    def _begun(self, judgement: Judgement) -> Judgement:
        if self.holding is not None and judgement.held:
            within = self._held.begin(judgement.outcome.id, judgement, judgement.held, judgement.facts.at)
            if within:
                self.holding(within)
        return judgement

    async def _ask(self, carry: Callable[[Batch], Awaitable[Reply]], batch: Batch) -> Replied:
        self._owed.board(batch)
        try:
            reply = await carry(batch)
        except StateError as error:
            self.state_failures += 1
            self._owed.lost(batch)
            return error
        except BaseException:  # cancelled on the way: what it gives back is owed as after a time-out
            self._owed.lost(batch)
            raise
        self._owed.answered(batch)
        return reply

    async def _abandon(self, state: RemoteState, batch: Batch) -> None:
        """Give back what an exchange took that ends while it is judged, however often it is cancelled."""
        if batch:
            release = asyncio.ensure_future(self._ask(state.apply, batch))
            self._releasing.add(release)
            release.add_done_callback(self._releasing.discard)
            with contextlib.suppress(asyncio.CancelledError):  # the first one goes on to whoever asked
                await asyncio.shield(release)

    def _judging(self, facts: Facts) -> Judging:
        started = self.timer()
        engine, quarantine, view = self._engine, self.quarantine, View.of(facts, self.catalogue)
        causes = [*([facts.cause] if facts.cause else ()), *_credential_causes(view)]
        fail = self.fail.under(self.mode)
        refused = next((cause for cause in causes if fail.refuses(cause)), None)
        identity = self.ids(facts)
        prepared = engine.prepare(view, limits=refused is None, owner=identity)
        reply = (yield prepared.batch) if prepared.batch else Reply()
        error = reply if isinstance(reply, StateError) else None
        first = None if isinstance(reply, StateError) else reply
        unsure = leases(prepared.batch) if error else []
        down = error is not None and engine.needs(prepared)
        evaluated = engine.evaluate(view, prepared, first, quarantine.resting(facts.at))
        rooms: list[Room] = [*first.rooms, *first.shadow_rooms] if first else []
        took = taken(prepared.batch, first)
        full = any(not room.allowed and not room.shadow for room in rooms)
        second = None if refused or full or down else engine.throttles(view, evaluated)
        if second and (second.takes or not error):
            reply = yield second
            if isinstance(reply, StateError):
                error, down = reply, down or bool(second.takes)
                unsure += leases(second)
            else:
                rooms += [*reply.rooms, *reply.shadow_rooms]
                took += taken(second, reply)
        decision = engine.decide(evaluated, rooms)
        _resolve(self._recorded, evaluated, view)
        quarantine.note(decision.ends, facts.at)
        trouble = Trouble(
            refused, facts.detail if refused is facts.cause else "", down and fail.of(Dependency.STATE) is Fail.CLOSED,
            any(map(self.fail.refuses, causes)) or (error is not None and self.fail.of(Dependency.STATE) is Fail.CLOSED),
        )  # fmt: skip
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
        return Judgement(outcome, facts, view, evaluated, self.mode, engine, returns, held, self.timer() - started)


def _resolve(recorded: list[str], evaluated: Evaluated, view: View) -> None:
    """Have what every record holds, and what the rules that matched name as evidence, stand in the record."""
    for name in recorded:
        view.get(name)
    for end in evaluated.ends:
        if end.verdict is Verdict.MATCH:
            for name in end.rule.evidence:
                if name not in end.rule.measures:
                    view.get(name)


def _credential_causes(view: View) -> list[Cause]:
    """What is wrong with the credential. A request with two keys must also pass what is asked of the one it is judged by."""
    facts = view.facts
    if facts.recorded is not None or facts.account is not None:
        return []
    if facts.credential is None:
        return [Cause.CREDENTIAL_MISSING]
    known, found = view.get("account.known"), [Cause.CREDENTIAL_AMBIGUOUS] if facts.credentials > 1 else []
    if facts.looked_up is not None and facts.looked_up.freshness is Freshness.UNAVAILABLE:
        return [*found, Cause.DIRECTORY_UNAVAILABLE]
    return [*found, Cause.CREDENTIAL_UNKNOWN] if known is False else found
