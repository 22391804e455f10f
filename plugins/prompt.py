"""What a prompt is built like, not what it is about: `prompt.*`.

The skeleton of a call is the frame of its system text (first words, heading lines) and of its last user message (last words
too), with everything that varies by nature (numbers, quotes, links, code, identifiers) masked. Texts are normalised first, so
that invisible characters and spacing do not make two templates of one. Only hashes leave this module.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from gateway.facts import Call, Message
from gateway.plugins.wording import opening, skeleton, wording
from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import BOOL, INT, STRING, Missing

NO_CALL: Final = Missing("no model call could be read")
NO_USER: Final = Missing("no user text")


class Frames:
    """Frames of system texts, by the hash of the text: one application sends the same one again and again."""

    def __init__(self, most: int = 4_096) -> None:
        self._most = most
        self._known: dict[bytes, str] = {}

    def frame(self, text: str) -> str:
        """A short id of the frame of a system text."""
        key = blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = self._known[key] = blake2b(opening(text).encode("utf-8", "replace"), digest_size=8).hexdigest()
        return found


def _last_user(call: Call) -> Message | None:
    return next((message for message in reversed(call.messages) if message.role == "user"), None)


def _turns(view: View) -> object:
    return len(view.facts.call.messages) if view.facts.call else NO_CALL


def _has_tool_results(view: View) -> object:
    call = view.facts.call
    return any("tool_result" in message.kinds for message in call.messages) if call else NO_CALL


def _length(view: View) -> object:
    call = view.facts.call
    return sum(len(message.text) for message in call.messages) + len(call.system) if call else NO_CALL


def register(registry: Registry, settings: Settings) -> None:
    hash_key: bytes = settings.get("identity", {}).get("hash_key", b"")[:64]

    def keyed(text: str) -> str:
        return blake2b(wording(text), key=hash_key, digest_size=8).hexdigest()

    def slots(view: View) -> object:
        call = view.facts.call
        user = _last_user(call) if call else None
        return keyed(user.text) if user and user.text.strip() else (NO_USER if call else NO_CALL)

    frames = Frames()

    def template(view: View) -> object:
        call = view.facts.call
        user = _last_user(call) if call else None
        if call is None or user is None or not user.text.strip():
            return NO_USER if call else NO_CALL
        told = f"{call.operation}\0{frames.frame(call.system)}\0{skeleton(user.text)}"
        return blake2b(told.encode("utf-8", "replace"), key=hash_key, digest_size=8).hexdigest()

    def tools(view: View) -> object:
        call = view.facts.call
        return keyed("\n".join(sorted(call.tools))) if call and call.tools else Missing("no tools declared")

    def system(view: View) -> object:
        call = view.facts.call
        return keyed(call.system) if call and call.system else Missing("no system text")

    registry.add_signals((
        Signal("prompt.template", STRING, "keyed hash of the prompt's frame: the same for one template filled with many things",
               template, Cost.BODY, "no user text", "public templates shared by thousands; fixed product prompts"),
        Signal("prompt.slots", STRING, "keyed hash of what the user message says, for telling fillings apart", slots,
               Cost.BODY, "no user text", "none: it identifies, it does not accuse"),
        Signal("prompt.system", STRING, "keyed hash of the system text", system, Cost.BODY, "no system text",
               "one application with many users"),
        Signal("prompt.turns", INT, "messages of the conversation so far", _turns, Cost.BODY, "no model call",
               least=0),
        Signal("prompt.has_tool_results", BOOL, "whether the conversation carries tool results", _has_tool_results,
               Cost.BODY, "no model call"),
        Signal("prompt.tools", STRING, "keyed hash of the declared tools' names", tools, Cost.BODY, "no tools declared"),
        Signal("prompt.length", INT, "characters of system text and messages", _length, Cost.BODY, "no model call",
               least=0),
    ))  # fmt: skip
