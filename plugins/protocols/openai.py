"""OpenAI-shaped APIs: chat completions, completions, responses, embeddings, moderations, images, audio, files, batches.

Routes whose body is not read are judged on everything else; `openai_media` reads those whose answers are not text.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from gateway.decision import Public, Restriction
from gateway.facts import Call, Message, Usage
from gateway.plugins.issued import handed_back, issued_by
from gateway.plugins.protocols.entries import Readers, upload
from gateway.plugins.protocols.openai_media import MEDIA, UNREAD, read_moderation
from gateway.plugins.protocols.reading import (
    Document,
    asked,
    clamp,
    count,
    dicts,
    finish,
    message,
    model_name,
    most_output,
    said,
    scalars,
    tool_names,
    tool_schemas,
    typed,
    without,
)  # fmt: skip
from gateway.plugins.protocols.stream_usage import asking, stripped
from gateway.protocol import Heard, Route, Takes, Unreadable
from gateway.registry import Registry, Settings

PARAMETERS = (
    "temperature", "top_p", "n", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed", "logprobs",
    "top_logprobs", "presence_penalty", "frequency_penalty", "stop", "stream", "tool_choice", "reasoning_effort",
    "service_tier", "store", "previous_response_id", "top_k", "min_p", "best_of", "echo", "repetition_penalty", "random_seed",
)  # fmt: skip
MOST_OUTPUT = {
    "chat.completions": ("max_completion_tokens", "max_tokens"), "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
}  # fmt: skip
LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs")
LOGPROBS_INCLUDED = "message.output_text.logprobs"
REASONING_INCLUDED = "reasoning.encrypted_content"
SUMMARIES = ("summary", "generate_summary")
SYSTEM_ROLES = ("system", "developer")
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def _call(document: Document, operation: str, messages: list[Message], route: str = "") -> Call:
    system = "\n".join(m.text for m in messages if m.role in SYSTEM_ROLES)
    return Call(
        operation=operation,
        model=model_name(document),
        stream=bool(typed(document, "stream", bool, "true or false")),
        parameters=scalars(document, PARAMETERS),
        system=system,
        messages=tuple(m for m in messages if m.role not in SYSTEM_ROLES),
        tools=tool_names(document.get("tools")),
        schemas=tool_schemas(document.get("tools")),
        end_user=next((str(document[key]) for key in ("user", "safety_identifier") if document.get(key)), None),
        max_tokens=most_output(document, MOST_OUTPUT.get(route, ())),
        asks_for=_asks_for(document),
    )


def _asks_for(document: Document) -> frozenset[str]:
    """What a rule can take from an answer, where the request asks for it."""
    included, reasoning = document.get("include"), document.get("reasoning")
    named = included if isinstance(included, list) else []
    summed = isinstance(reasoning, dict) and any(asked(reasoning, key) for key in SUMMARIES)
    logprobs = LOGPROBS_INCLUDED in named or any(asked(document, key) for key in LOGPROBS)
    thoughts = REASONING_INCLUDED in named or summed or asked(document, "include_reasoning")
    return frozenset({"logprobs"} if logprobs else ()) | frozenset({"reasoning"} if thoughts else ())


def read_chat(document: Document) -> Call:
    """The body of /v1/chat/completions."""
    messages = typed(document, "messages", list, "a list of messages")
    if messages is None:
        raise Unreadable("'messages' is missing")
    turns = [_message(item, f"messages[{place}]") for place, item in enumerate(messages)]
    return _call(document, "chat", turns, "chat.completions")


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable(f"{where} must be an object")
    found = message(item.get("role"), item.get("content"), where)
    kinds = set(found.kinds)
    if item.get("tool_calls"):
        kinds.add("tool_use")
    if found.role in ("tool", "function"):
        kinds.add("tool_result")
    return Message(found.role, found.text, frozenset(kinds))


def read_completion(document: Document) -> Call:
    """The body of /v1/completions; every text prompt is one user message."""
    prompt = document.get("prompt")
    if prompt is None:
        raise Unreadable("'prompt' is missing")
    return _call(document, "text_completion", [Message("user", text) for text in _texts(prompt, "prompt")], "completions")


def read_embeddings(document: Document) -> Call:
    """The body of /v1/embeddings."""
    if document.get("input") is None:
        raise Unreadable("'input' is missing")
    return _call(document, "embeddings", [Message("user", text) for text in _texts(document["input"], "input")])


def _texts(value: Any, key: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Unreadable(f"'{key}' must be text or a list")
    return [item for item in value if isinstance(item, str)]


def read_responses(document: Document) -> Call:
    """The body of /v1/responses: instructions are system text; input is text or a list of items."""
    given = document.get("input")
    messages = []
    if (instructions := typed(document, "instructions", str, "text")) is not None:
        messages.append(Message("system", instructions))
    if isinstance(given, str):
        messages.append(Message("user", given))
    elif isinstance(given, list):
        messages += [_item(item, f"input[{place}]") for place, item in enumerate(given)]
    elif given is not None:
        raise Unreadable("'input' must be text or a list of items")
    return replace(_call(document, "chat", messages, "responses"), presented=_handed_back(document))


def read_input_tokens(document: Document) -> Call:
    """The body of /v1/responses/input_tokens: the same as a call, but nothing is generated."""
    return replace(read_responses(document), operation="count_tokens", max_tokens=None, asks_for=frozenset())


def read_conversation(document: Document) -> Call:
    """The body of /v1/conversations and of its items: turns laid down for later calls."""
    items = typed(document, "items", list, "a list of items") or []
    return _call(document, "chat", [_item(item, f"items[{place}]") for place, item in enumerate(items)])


def _handed_back(document: Document) -> tuple[str, ...]:
    """What the call hands back of earlier answers: the response it goes on from, and what its items carry."""
    before, items = document.get("previous_response_id"), document.get("input")
    named = (before,) if isinstance(before, str) and before else ()
    return (*named, *handed_back(items if isinstance(items, list) else ()))


def _item(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable(f"{where} must be an object")
    kind = str(item.get("type", "message"))
    if kind == "message" or "role" in item:
        return message(item.get("role"), item.get("content"), where)
    if kind.endswith("_output"):
        output = item.get("output")
        return Message("tool", output if isinstance(output, str) else json.dumps(output), frozenset({"tool_result"}))
    if kind.endswith("_call"):
        return Message("assistant", str(item.get("arguments", "")), frozenset({"tool_use"}))
    return Message("assistant", "", frozenset({kind}))


def _not_included(document: dict[str, Any], name: str) -> list[str]:
    asked = document.get("include")
    if not isinstance(asked, list) or name not in asked:
        return []
    document["include"] = [item for item in asked if item != name]
    return [f"{name}=off"]


READERS: dict[str, Readers] = {
    "/v1/chat/completions": read_chat, "/v1/completions": read_completion, "/v1/responses": read_responses,
    "/v1/embeddings": read_embeddings, "/v1/moderations": read_moderation,
}  # fmt: skip


class OpenAI:
    """The OpenAI wire protocol."""

    name = "openai"
    credential_headers: tuple[tuple[str, str], ...] = (("authorization", "bearer "), ("api-key", ""))
    routes: tuple[Route, ...] = (
        Route("chat.completions", "POST", "/v1/chat/completions", read_chat),
        Route("completions", "POST", "/v1/completions", read_completion),
        Route("responses", "POST", "/v1/responses", read_responses),
        Route("responses.input_tokens", "POST", "/v1/responses/input_tokens", read_input_tokens),
        Route("responses.compact", "POST", "/v1/responses/compact", read_responses),
        Route("embeddings", "POST", "/v1/embeddings", read_embeddings),
        Route("files", "POST", "/v1/files", lambda document: upload(document, READERS), takes=Takes.FORM),
        Route("conversations", "POST", "/v1/conversations", read_conversation),
        Route("conversations.items", "POST", "/v1/conversations/*/items", read_conversation),
        *MEDIA,
        *(Route(name, method, path) for name, method, path in UNREAD),
    )

    def usage(self, document: Document, so_far: Usage) -> Usage:
        inner = document.get("response")
        used = (inner if isinstance(inner, dict) else document).get("usage")
        if not isinstance(used, dict):
            return so_far
        details_in = "input_tokens_details" if "input_tokens" in used else "prompt_tokens_details"
        details_out = "output_tokens_details" if "output_tokens" in used else "completion_tokens_details"
        sent, said = count(used, "input_tokens"), count(used, "output_tokens")
        return Usage(
            input_tokens=sent if sent is not None else count(used, "prompt_tokens"),
            output_tokens=said if said is not None else count(used, "completion_tokens"),
            cached_tokens=count(used, details_in, "cached_tokens"),
            reasoning_tokens=count(used, details_out, "reasoning_tokens"),
        )

    def heard(self, document: Document) -> Heard:
        choices = dicts(document.get("choices"))
        answers = [answer.get("message", answer.get("delta", answer)) for answer in choices]
        told = [said(one.get("content") or one.get("text")) for one in answers if isinstance(one, dict)]
        told += [said(item.get("content")) for item in dicts(document.get("output"))]
        if document.get("type") == "response.output_text.delta":
            told.append(said(document.get("delta")))
        return Heard("\n".join(text for text in told if text), issued_by(document), finish(choices, "finish_reason"))

    def restrict(self, route: str, document: dict[str, Any], restriction: Restriction) -> list[str]:
        """Reasoning is withheld as far as the request asks for it: a server that sends it unasked is not filtered."""
        most = MOST_OUTPUT.get(route)
        if most is None:
            return []
        changed = clamp(document, most, restriction.max_tokens, most[0]) + clamp(document, ("n", "best_of"), restriction.n)
        if not restriction.logprobs:
            changed += without(document, LOGPROBS) + _not_included(document, LOGPROBS_INCLUDED)
        if not restriction.reasoning:
            changed += without(document, ("include_reasoning",)) + _not_included(document, REASONING_INCLUDED)
            reasoning = document.get("reasoning")
            if isinstance(reasoning, dict):
                changed += [f"reasoning.{said}" for said in without(reasoning, SUMMARIES)]
        return changed

    def ask_for_usage(self, route: str, keys: Collection[str], raw: bytes) -> bytes | None:
        return asking(route, keys, raw)

    def without_usage(self, event: bytes) -> bytes:
        return stripped(event)

    def error(self, status: int, public: Public, reference: str) -> bytes:
        kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        message = f"{public.message} (reference {reference})"
        return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": public.code}}).encode()

    def error_event(self, public: Public, reference: str) -> bytes:
        return b"data: " + self.error(502, public, reference) + b"\n\n"


def register(registry: Registry, settings: Settings) -> None:
    registry.add_dialect(OpenAI())
