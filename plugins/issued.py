"""What an upstream issues, and what of it a call hands back: `response.issued`, `prompt.signature`.

Signatures of reasoning, encrypted reasoning items and ids of earlier answers are made once, for one account. A conversation
that moves to another account takes them along, so that the same one under several owners says that something carried it over;
what was said need not be read for that. The protocol modules gather them into `Call.presented` (`handed_back`); only a keyed
hash leaves this module.

The oldest is taken: it stays the same for all later turns of a conversation. Text that is too short to be one of a kind is
passed over, because software that must put something there puts the same placeholder everywhere.

Answers tell to whom it was issued: the protocol modules find the same things in them (`issued_by`), so that measures by
`prompt.signature` count that account too, whether or not it ever goes on. Of answers, too, only keyed hashes are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.plugins.keyed import key_of, keyed
from gateway.registry import Registry, Settings
from gateway.signals import NOT_ANSWERED, Cost, Signal, View
from gateway.values import STRING, Missing, set_of

NO_CALL: Final = Missing("no model call could be read")
NOTHING: Final = Missing("the call hands nothing back that was issued")
NOT_ISSUED: Final = Missing("the answer issues nothing that could be handed back, or nobody listened")
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


def issued_by(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What an answer, or one event of a stream, issues, in the shapes of all protocols: `MOST` things are enough.

    Ids are handed back only of answers that are kept (`object: response`); those of others name nothing that goes on.
    """
    found: list[str] = []
    for holder in (document, document.get("message"), document.get("response")):
        if not isinstance(holder, dict):
            continue
        if holder.get("object") == "response" and isinstance(named := holder.get("id"), str):
            found.append(named)
        listed = [holder.get("content"), holder.get("output"), [holder.get("content_block"), holder.get("item")]]
        candidates = holder.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            content = candidate.get("content") if isinstance(candidate, dict) else None
            listed.append(content.get("parts") if isinstance(content, dict) else None)
        for parts in listed:
            found += handed_back(parts if isinstance(parts, list) else ())
    delta = document.get("delta")
    if isinstance(delta, dict) and delta.get("type") == "signature_delta" and isinstance(delta.get("signature"), str):
        found.append(delta["signature"])
    return tuple(dict.fromkeys(found))[:MOST]


def oldest(presented: tuple[str, ...]) -> bytes | None:
    """The first text long enough to be one of a kind, as `told`."""
    text = next((text for text in presented if len(text) >= SHORTEST), None)
    return told(text) if text is not None else None


def told(text: str) -> bytes:
    """A text, or of a longer one its length and `EDGE` characters of either end."""
    said = text if len(text) <= 2 * EDGE else f"{len(text)}:{text[:EDGE]}{text[-EDGE:]}"
    return said.encode("utf-8", "surrogatepass")


def register(registry: Registry, settings: Settings) -> None:
    key = key_of(settings)

    def signature(view: View) -> object:
        call = view.facts.call
        if call is None:
            return NO_CALL
        found = oldest(call.presented)
        return keyed(found, key) if found is not None else NOTHING

    def issued(view: View) -> object:
        if view.answer is None:
            return NOT_ANSWERED
        found = frozenset([keyed(told(text), key) for text in view.answer.issued if len(text) >= SHORTEST])
        return found or NOT_ISSUED

    registry.add_signals((
        Signal("prompt.signature", STRING, "keyed hash of the oldest thing an upstream issued that the call hands back: the "
               "signature of reasoning, an encrypted reasoning item, the id of an earlier answer", signature, Cost.BODY,
               "nothing is handed back, or only placeholders", "a published transcript that many replay; a moved account",
               issued_as="response.issued"),
        Signal("response.issued", set_of(STRING), "keyed hashes of what the answer issues that a later call may hand back: ids "
               "of answers, signatures of reasoning, encrypted reasoning items", issued, Cost.BODY,
               "nothing was issued, or no rule counts by it", settled=True, recorded=True),
    ))  # fmt: skip
