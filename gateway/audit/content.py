"""What was said, in records and spans: none of it unless an operator names routes (`audit.content`), and then bounded.

The shapes are those of the conventions (`gen_ai.system_instructions`, `gen_ai.input.messages`, `gen_ai.output.messages`), so
that record and span hold the same. Input and output have a bound each, in bytes of text; what is beyond it is left out from
the end, and `cut` says where. Headers are no content; what begins as keys of known providers do is left out of text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.credentials import without_keys
from gateway.facts import Answer, Call, End, Said

MOST: Final = 16 * 2**10
LARGEST: Final = 2**20
COST: Final = 64  # bytes that a message or part counts besides its text, so that empty ones have a bound too
NOT_READ: Final = "not read"
NOT_CAPTURED: Final = "not captured"
SYSTEM: Final = "system_instructions"
INPUT: Final = "input_messages"
OUTPUT: Final = "output_messages"
FINISHES: Final[Mapping[str, str]] = {  # what protocols call how an answer ended, by the conventions' names
    "tool_calls": "tool_call", "tool_use": "tool_call", "function_call": "tool_call", "end_turn": "stop",
    "stop_sequence": "stop", "max_tokens": "length", "refusal": "content_filter", "safety": "content_filter",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """Of which routes content is captured, and how many bytes of text of the input and as many of the output."""

    routes: tuple[str, ...] = ()
    most: int = MOST

    def of(self, route: str) -> int:
        """The bytes that are captured of a route, 0 for none."""
        return self.most if route in self.routes else 0


NO_CONTENT: Final = ContentSettings()


class _Room:
    """Bytes that are left, and whether they were too few."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.cut = False

    def text(self, text: str) -> dict[str, Any]:
        """A part of text, as much of it as there is room for."""
        said = without_keys(text[: self.left + COST]).encode("utf-8", "replace")
        kept = said[: max(0, self.left)]
        self.cut = self.cut or len(kept) < len(said) or len(text) > self.left + COST
        self.left -= len(kept)
        return {"type": "text", "content": kept.decode("utf-8", "ignore")}

    def takes(self) -> bool:
        """Whether there is room for another message or part."""
        self.left -= COST
        self.cut = self.cut or self.left <= 0
        return self.left > 0


def captured(call: Call | None, answer: Answer, most: int) -> dict[str, Any]:
    """What a record holds of what was said. call: None where the body was not read; most: bytes of text each way."""
    found: dict[str, Any] = {"captured": True, "most": most}
    asked, told = _Room(most), _Room(most)
    if call is None:
        found["input"] = NOT_READ
    else:
        if call.system:
            found[SYSTEM] = [asked.text(call.system)]
        found[INPUT] = list(_messages(call, asked))
    if answer.output is not None:
        found[OUTPUT] = _answered(answer.output, answer.end, told)
    elif answer.end is not End.REFUSED:
        found["output"] = NOT_CAPTURED
    whole = answer.output is None or answer.output.whole
    if cut := [name for name, short in (("input", asked.cut), ("output", told.cut or not whole)) if short]:
        found["cut"] = cut
    return found


def _messages(call: Call, room: _Room) -> Iterable[dict[str, Any]]:
    for message in call.messages:
        if not room.takes():
            return
        parts = [room.text(message.text)] if message.text else []
        parts += [{"type": kind} for kind in sorted(message.kinds - {"text"}) if room.takes()]
        yield {"role": message.role[:COST], "parts": parts}


def _answered(said: Said, end: End, room: _Room) -> list[dict[str, Any]]:
    if not said.text and not said.finish:
        return []
    usual = "stop" if end is End.COMPLETE else "error"
    finish = FINISHES.get(said.finish.lower(), said.finish.lower()) or usual
    return [{"role": "assistant", "parts": [room.text(said.text)] if said.text else [], "finish_reason": finish}]


def told(entry: Mapping[str, Any], name: str) -> str | None:
    """A part of a record's content as spans hold it: JSON. None where there is none."""
    found = entry.get("content", {}).get(name)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")) if found else None
