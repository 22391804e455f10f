"""A captured request, judged now as if it were the first there ever was, and explained.

A capture holds no decision. Nothing was counted before it, so measures read what this request alone makes them, and
corroboration finds nothing that was remembered: whoever tells of it must say so (`Explanation.capture`).
"""

from __future__ import annotations

from dataclasses import replace

from gateway.audit.record import record
from gateway.decision import Mode
from gateway.failing import FailModes
from gateway.language.policy import Policy
from gateway.replay.driver import replay
from gateway.replay.exchange import Exchange, recorded
from gateway.replay.explain import Explanation, explain
from gateway.signals import Catalogue


def explain_capture(exchange: Exchange, policy: Policy, catalogue: Catalogue, mode: Mode, fail: FailModes) -> Explanation:
    """The explanation of a captured exchange. Raises ReplayError where the record made of it gives another answer."""
    (played,) = replay([exchange], policy, catalogue, mode, fail)
    for name, signal in catalogue.items():  # nothing will be asked of the capture again, so all of it is recorded
        if not signal.settled:
            played.judgement.view.get(name)
    entry = record(played.judgement, played.answer)
    return replace(explain(recorded(entry, exchange.place, catalogue), entry, policy, catalogue), capture=True)
