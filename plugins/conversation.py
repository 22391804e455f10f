"""How calls belong together: `prompt.root`, `prompt.opening`, `prompt.whole`.

LLM APIs remember nothing, so a conversation is sent again with every turn, and its beginning stays what it was. That ties the
turns of one conversation together without any id, also where they come under different credentials: a pool that hands each turn
to another of its accounts shows the same opening under all of them. Only keyed hashes leave this module.
"""

from __future__ import annotations

from typing import Final

from gateway.facts import Call
from gateway.plugins.keyed import key_of, keyed_parts
from gateway.plugins.prompt import said_first
from gateway.plugins.wording import wording
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import STRING, Missing

NO_CALL: Final = Missing("no model call could be read")
NO_USER: Final = Missing("no user text")
NO_OPENING: Final = Missing("too little was answered yet to tell conversations apart")
TELLING: Final = 120
ANSWERING: Final = ("assistant", "model")


def begun(call: Call) -> list[bytes] | None:
    """The turns from the first on until `TELLING` characters were answered; None where fewer were."""
    parts, answered = [], 0
    for message in call.messages:
        parts.append(message.role.encode("utf-8", "replace") + b"\0" + wording(message.text))
        if message.role in ANSWERING:
            answered += len(message.text)
            if answered >= TELLING:
                return parts
    return None


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)

    def rooted(view: View) -> object:
        first = view.once(said_first)
        return keyed_parts([wording(first)], key) if first is not None else (NO_USER if view.facts.call else NO_CALL)

    def opened(view: View) -> object:
        call = view.facts.call
        found = begun(call) if call else None
        return keyed_parts(found, key) if found is not None else (NO_OPENING if call else NO_CALL)

    def whole(view: View) -> object:
        call = view.facts.call
        if call is None:
            return NO_CALL
        if not call.messages:
            return NO_USER
        told = [call.model or "", call.system, *[message.text for message in call.messages]]
        return keyed_parts((text.encode("utf-8", "replace") for text in told), key)

    registry.add_signals((
        Signal("prompt.root", STRING, "keyed hash of the first user text: the same for all turns of one conversation", rooted,
               Cost.BODY, "no user text", "people who all begin with hi"),
        Signal("prompt.opening", STRING, "keyed hash of a conversation's first turns, until enough was answered to know it",
               opened, Cost.BODY, "nothing answered yet, or too little",
               "examples that many put before their question; a moved account"),
        Signal("prompt.whole", STRING, "keyed hash of everything said in the call, as it was sent, and its model", whole,
               Cost.BODY, "no user text", "a client that tries again; a benchmark asked twice"),
    ))  # fmt: skip
