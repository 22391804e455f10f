"""What the policy in force declares of an exchange: `workload.*` and `reseller.declared`, and the items of declared benchmarks.

The policy knows its workloads, and the engine finds those that cover an exchange; the signals here only give their answers
names and types, so that rules can compare them. Where a policy declares no workload, none covers anything.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.plugins.keyed import key_of
from gateway.plugins.prompt import said_first
from gateway.plugins.wording import hashed
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import BOOL, STRING, Missing, Type

NONE_DECLARED = Missing("no declared workload covers it")
NO_CALL = Missing("no model call could be read")
NO_TEXT = Missing("the call says nothing")
_CONTRACTS = "none: somebody answers for every declaration, with evidence and an end"


def _declared(name: str, nobody: object) -> Callable[[View], object]:
    def resolve(view: View) -> object:
        return nobody if view.declared is None else view.declared.value(name)

    return resolve


def _signal(name: str, kind: Type, meaning: str, nobody: object, missing: str, counted: bool = False) -> Signal:
    cost = Cost.STATE if counted else Cost.HEADER
    return Signal(name, kind, meaning, _declared(name, nobody), cost, missing, _CONTRACTS, derived=True, counted=counted)


def _says(text: str) -> bool:
    return text != "" and not text.isspace()


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)

    def item(view: View) -> object:
        call, text = view.facts.call, view.once(said_first)
        if call is None:
            return NO_CALL
        if text is None:
            text = next((message.text for message in call.messages if _says(message.text)), call.system)
        return hashed(text, key) if _says(text) else NO_TEXT

    unsure = "what its scope looks at is missing"
    registry.add_signals((
        _signal("workload.kind", STRING, "the kind of the declared workload in whose scope and time it is: benchmark, "
                "integration, relay or batch", NONE_DECLARED, "no declared workload covers it, or " + unsure),
        _signal("workload.id", STRING, "which declared workload that is: of several the first by id", NONE_DECLARED,
                "no declared workload covers it, or " + unsure),
        _signal("workload.within_scope", BOOL, "whether it is in the scope and time of a declared workload", False, unsure),
        _signal("workload.within_ceiling", BOOL, "whether that workload is below its ceiling, if it has one", False,
                unsure + ", or its count", counted=True),
        _signal("workload.within_items", BOOL, "whether that workload has not outgrown its items, if it declares them", False,
                unsure + ", or its count", counted=True),
        _signal("reseller.declared", BOOL, "whether a declared relay covers it: in scope, in time and below its ceiling", False,
                unsure + ", or its count", counted=True),
        Signal("workload.item", STRING, "keyed hash of what the conversation began with: its first user message, else the "
               "first of anybody, else the system text", item, Cost.BODY, "no model call, or one that says nothing",
               "none: it identifies, it does not accuse"),
    ))  # fmt: skip
