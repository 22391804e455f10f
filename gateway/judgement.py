"""One judged exchange on its way from the gate to the audit: what sinks receive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.decision import Mode, Outcome
from gateway.engine import Engine, Evaluated
from gateway.facts import Facts
from gateway.signals import View
from gateway.state.operations import Take


class Trace(NamedTuple):
    """The ids of one exchange's spans, as integers.

    parent: the caller's span, 0 where it sent no usable trace context; asked: whether the caller's trace is sampled; state:
    what other vendors say of the trace (`tracestate`).
    """

    trace_id: int
    parent: int
    server: int
    policy: int
    client: int
    asked: bool
    state: str = ""

    def traceparent(self, span: int, sampled: bool) -> str:
        """The W3C header value that makes `span` the parent of what comes next."""
        return f"00-{self.trace_id:032x}-{span:016x}-{int(sampled):02x}"


@dataclass(slots=True, weakref_slot=True)
class Judgement:
    """One judged exchange.

    returns: takes to give back at settle time, because the request was refused. held: those that stay until then, of which
    leases and what was not used come back. judged_in: nanoseconds that judging took.
    trace: the ids of its spans, None in a replay; kept: whether they are exported. settle_error: why shared state did not
    take what was known only after the answer, so that it is missing from later counts. failing: the dependencies that failed
    and touched it, with what is declared of each. halt: the id of the operator's halt under which it was judged in shadow.
    capture: bytes of what is said that its record holds, of the input and of the output each; 0 for none.
    """

    outcome: Outcome
    facts: Facts
    view: View
    evaluated: Evaluated
    mode: Mode
    engine: Engine
    returns: list[Take]
    held: list[Take]
    judged_in: int = 0
    trace: Trace | None = None
    kept: bool = True
    settle_error: str = ""
    failing: dict[str, str] = field(default_factory=dict)
    halt: str = ""
    capture: int = 0
