"""What an exchange gives back: of a judging that was cut short, and when it is over."""

from __future__ import annotations

from gateway.errors import StateError
from gateway.facts import Answer, End, Facts
from gateway.judgement import Judgement
from gateway.state.operations import Batch, Reply, Take
from gateway.state.owed import leases

Replied = Reply | StateError
Asked = list[tuple[Batch, Replied | None]]
_REFUSED_BY_UPSTREAM = 400
_TIMED_OUT = 504


def abandoned(facts: Facts, asked: Asked) -> Batch:
    """Everything that was taken while an exchange was judged, and the leases of batches of which nobody knows."""
    back = [take for batch, reply in asked for take in (taken(batch, reply) if isinstance(reply, Reply) else leases(batch))]
    return Batch(facts.at, returns=[(take, facts.at) for take in back])


def taken(batch: Batch, reply: Reply | None) -> list[Take]:
    """What a batch took."""
    if reply is None:
        return []
    live = batch.takes if all(room.allowed for room in reply.rooms) else []
    return [*live, *(batch.shadow_takes if all(room.allowed for room in reply.shadow_rooms) else [])]


def settling(judgement: Judgement, answer: Answer) -> Batch:
    """What is counted once an exchange is over, and what is given back.

    An upstream that refused or could not be asked is charged for nothing. One that did not answer in time may have worked all
    that while, and whoever asks for too much must not have that for nothing: what was held back stays taken.
    """
    view = judgement.view.over(answer, judgement.engine.after)
    batch = judgement.engine.settle(view, judgement.evaluated)
    failed = answer.end is End.UPSTREAM_FAILED or (answer.status or 0) >= _REFUSED_BY_UPSTREAM
    unused = failed and answer.status != _TIMED_OUT
    back = [*judgement.returns, *judgement.engine.settled(view, judgement.held, unused)]
    batch.returns = [(take, judgement.facts.at) for take in back]
    batch.over = judgement.facts.at + (answer.duration or 0)
    judgement.view = view
    return batch
