"""Simulated exchanges as captures: real header sets, real protocol bodies, answers with their usage.

A capture is what `sluice dry-run` reads (`examples/README.md`). What is said follows from the numbers of `flow.FIELDS` alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gateway.simulate.flow import MODELS
from gateway.simulate.table import Client, Kind, Later
from gateway.simulate.texts import answer_text, result_text, turn_text, user_text

PATHS: Final = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
USAGE: Final = {"openai": ("prompt_tokens", "completion_tokens"), "anthropic": ("input_tokens", "output_tokens")}
_DEFAULT_LIMIT: Final = 4096  # a protocol that demands a limit gets one
Numbers = Mapping[str, int]


def body(client: Client, kind: Kind, row: Numbers) -> bytes:
    """The body of a call, its keys in the client's order."""
    write = _anthropic if client.protocol == "anthropic" else _openai
    told = write(kind, row, "metadata" in client.keys)
    ordered = {key: told[key] for key in [*client.keys, *told] if key in told}
    separators = (", ", ": ") if client.spaced else (",", ":")
    return json.dumps(ordered, ensure_ascii=False, separators=separators).encode()


def headers(client: Client, row: Numbers, key: str, length: int, forwarded: str | None) -> list[list[str]]:
    """The header lines of a call; an address that is passed on stands behind the others."""
    told = {"key": key, "length": str(length), "session": session(row), "retry": str(row["retry"])}
    found = [[name, value.format(**told)] for name, value in client.headers]
    return [*found, ["X-Forwarded-For", forwarded]] if forwarded else found


def session(row: Numbers) -> str:
    """The session of a conversation."""
    text = f"{row['root']:016x}{row['root'] ^ 0x5A5A5A5A5A5A5A5A:016x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def signature(number: int) -> str:
    """The signature of some reasoning."""
    return f"signed-{number:016x}-{number * 7 % 2**64:016x}"


def _openai(kind: Kind, row: Numbers, named: bool) -> dict[str, Any]:
    messages = [{"role": "system", "content": kind.system}] if kind.system else []
    for turn, (said, answered) in enumerate(_turns(kind, row)):
        if turn and kind.later is Later.LOOP:
            messages.append({"role": "tool", "tool_call_id": f"call_{turn - 1}", "content": said})
        else:
            messages.append({"role": "user", "content": said})
        if answered and kind.later is Later.LOOP:
            call = {"id": f"call_{turn}", "type": "function", "function": {"name": next(iter(kind.tools)), "arguments": "{}"}}
            messages.append({"role": "assistant", "content": answered, "tool_calls": [call]})  # type: ignore[dict-item]
        elif answered:
            messages.append({"role": "assistant", "content": answered})
    told: dict[str, Any] = {"model": MODELS[row["model"]], "messages": messages, **kind.parameters}
    if kind.tools:
        told["tools"] = [{"type": "function", "function": {"name": name, "parameters": _schema(parameters)}}
                         for name, parameters in kind.tools.items()]  # fmt: skip
    if kind.stream:
        told |= {"stream": True, "stream_options": {"include_usage": True}}
    return told | ({"user": f"user-{row['user']:016x}"} if kind.end_user else {})


def _anthropic(kind: Kind, row: Numbers, named: bool) -> dict[str, Any]:
    messages = _handed_back(kind, row)
    for turn, (said, answered) in enumerate(_turns(kind, row)):
        if turn and kind.later is Later.LOOP:
            result = {"type": "tool_result", "tool_use_id": f"toolu_{turn - 1}", "content": said}
            messages.append({"role": "user", "content": [result]})
        else:
            messages.append({"role": "user", "content": said})
        if answered:
            parts: list[dict[str, Any]] = [{"type": "text", "text": answered}]
            if kind.later is Later.LOOP:
                parts.append({"type": "tool_use", "id": f"toolu_{turn}", "name": next(iter(kind.tools)), "input": {}})
            messages.append({"role": "assistant", "content": parts})
    parameters = {name: value for name, value in kind.parameters.items() if name != "seed"}
    told = {"model": MODELS[row["model"]], "messages": messages, "max_tokens": _DEFAULT_LIMIT, **parameters}
    if kind.system:
        told["system"] = kind.system
    if kind.tools:
        told["tools"] = [{"name": name, "input_schema": _schema(parameters)} for name, parameters in kind.tools.items()]
    if kind.stream:
        told["stream"] = True
    if kind.device and named:
        device = f"{row['user']:016x}" * 4
        told["metadata"] = {"user_id": json.dumps({"device_id": device, "session_id": session(row)}, separators=(",", ":"))}
    elif kind.end_user:
        told["metadata"] = {"user_id": f"user-{row['user']:016x}"}
    return told


def _handed_back(kind: Kind, row: Numbers) -> list[dict[str, Any]]:
    """What stands before a call that brings reasoning which was signed for another."""
    signed = row["signature"]
    if not signed:
        return []
    thought = {"type": "thinking", "thinking": "", "signature": signature(signed)}
    answer = [thought, {"type": "text", "text": answer_text(signed, 0)}]
    asked = user_text(kind, row["text"], signed, 0)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _turns(kind: Kind, row: Numbers) -> list[tuple[str, str]]:
    """What is said and what was answered to it, turn by turn; to the last nothing yet."""
    found = []
    for turn in range(row["turn"] + 1):
        if turn == 0:
            said = user_text(kind, row["text"], row["item"], row["root"])
        elif kind.later is Later.LOOP:
            said = result_text(row["root"], turn)
        else:
            said = turn_text(kind, row["root"], turn)
        found.append((said, answer_text(row["root"], turn) if turn < row["turn"] else ""))
    return found


def _schema(parameters: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in parameters}}
