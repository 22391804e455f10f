"""What an upstream once issued and the call hands back: `prompt.signature`.

Signatures of reasoning, encrypted reasoning items and ids of earlier answers are made once, for one account. A conversation
that moves to another account takes them along, so that the same one under several owners says that something carried it over;
what was said need not be read for that. The protocol modules gather them into `Call.presented` (`handed_back`); only a keyed
hash leaves this module.

The oldest is taken: it stays the same for all later turns of a conversation. Text that is too short to be one of a kind is
passed over, because software that must put something there puts the same placeholder everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

from gateway.registry import Registry, Settings
from gateway.signals import Cost, Signal, View
from gateway.values import STRING, Missing

NO_CALL: Final = Missing("no model call could be read")
NOTHING: Final = Missing("the call hands nothing back that was issued")
SHORTEST: Final = 24
EDGE: Final = 2_048
MOST: Final = 16
ISSUED: Final = {"thinking": "signature", "redacted_thinking": "data", "reasoning": "encrypted_content"}
ANYWHERE: Final = ("thoughtSignature", "thought_signature")


def parts_of(messages: object, key: str) -> Iterator[object]:
    """The parts of all messages, which stand under `key` where they are a list."""
    for message in messages if isinstance(messages, list) else ():
        parts = message.get(key) if isinstance(message, dict) else None
        yield from parts if isinstance(parts, list) else ()


def handed_back(parts: Iterable[object]) -> tuple[str, ...]:
    """What an upstream issued among parts of messages or items of an input, in order: `MOST` of them are enough."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, dict):
            value = _issued(part)
            if isinstance(value, str) and value:
                found.append(value)
                if len(found) == MOST:
                    break
    return tuple(found)


def _issued(part: dict[str, Any]) -> object:
    kind = part.get("type")
    if isinstance(kind, str) and kind in ISSUED:
        return part.get(ISSUED[kind])
    return next((part[name] for name in ANYWHERE if name in part), None)


def oldest(presented: tuple[str, ...]) -> bytes | None:
    """The first text long enough to be one of a kind: of longer ones the length and `EDGE` characters of either end."""
    text = next((text for text in presented if len(text) >= SHORTEST), None)
    if text is None:
        return None
    told = text if len(text) <= 2 * EDGE else f"{len(text)}:{text[:EDGE]}{text[-EDGE:]}"
    return told.encode("utf-8", "surrogatepass")


def register(registry: Registry, settings: Settings) -> None:
    hash_key: bytes = settings.get("identity", {}).get("hash_key", b"")[:64]

    def signature(view: View) -> object:
        call = view.facts.call
        if call is None:
            return NO_CALL
        found = oldest(call.presented)
        return blake2b(found, key=hash_key, digest_size=8).hexdigest() if found is not None else NOTHING

    registry.add_signals((
        Signal("prompt.signature", STRING, "keyed hash of the oldest thing an upstream issued that the call hands back: the "
               "signature of reasoning, an encrypted reasoning item, the id of an earlier answer", signature, Cost.BODY,
               "nothing is handed back, or only placeholders", "a published transcript that many replay; a moved account"),
    ))  # fmt: skip
