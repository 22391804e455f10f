"""Sluicegate: a policy-aware gateway for LLM APIs. One engine; a process, an ASGI middleware and a dry run on it."""

from __future__ import annotations

__version__ = "0.1.0"

from gateway.decision import Action, Decision, Mode, Outcome, Verdict
from gateway.errors import ConfigError, PolicyError, RecordError, ReplayError, SluiceError, StateError
from gateway.facts import Answer, Facts
from gateway.gate import Gate
from gateway.signals import Cost, Signal, View
from gateway.web.middleware import PolicyMiddleware

__all__ = [
    "Action", "Answer", "ConfigError", "Cost", "Decision", "Facts", "Gate", "Mode", "Outcome", "PolicyError",
    "PolicyMiddleware", "RecordError", "ReplayError", "Signal", "SluiceError", "StateError", "Verdict", "View",
]  # fmt: skip
