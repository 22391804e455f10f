"""Anthropic-shaped APIs: messages, count_tokens, batches of messages; models and files where the version header is sent."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from gateway.decision import Public, Restriction
from gateway.facts import Call, Message, Usage
from gateway.plugins.issued import handed_back, issued_by, parts_of
from gateway.plugins.protocols.entries import batch, each, upload
from gateway.plugins.protocols.reading import (
    Document,
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
from gateway.protocol import Heard, Route, Takes, Unreadable
from gateway.registry import Registry, Settings

PARAMETERS = ("max_tokens", "temperature", "top_p", "top_k", "stream", "service_tier")
ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


def read_messages(document: Document) -> Call:
    """The body of /v1/messages."""
    messages = typed(document, "messages", list, "a list of messages")
    if messages is None:
        raise Unreadable("'messages' is missing")
    metadata = document.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    return Call(
        operation="chat",
        model=model_name(document),
        stream=bool(typed(document, "stream", bool, "true or false")),
        parameters=scalars(document, PARAMETERS),
        system=_system(document.get("system")),
        messages=tuple(_message(item, f"messages[{place}]") for place, item in enumerate(messages)),
        tools=tool_names(document.get("tools")),
        schemas=tool_schemas(document.get("tools")),
        end_user=str(user) if user else None,
        max_tokens=most_output(document, ("max_tokens",)),
        asks_for=frozenset({"reasoning"} if _thinks(document) else ()),
        presented=handed_back(parts_of(messages, "content")),
    )


def read_count(document: Document) -> Call:
    """The body of /v1/messages/count_tokens: the same as a call, but nothing is generated."""
    return replace(read_messages(document), operation="count_tokens", max_tokens=None, asks_for=frozenset())


def read_batch(document: Document) -> Call:
    """The body of /v1/messages/batches."""
    return batch(each(document.get("requests"), "requests", "params", read_messages))


def _thinks(document: Document) -> bool:
    thinking = document.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _system(value: Any) -> str:
    return message("system", value, "'system'").text


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise Unreadable(f"{where} must be an object")
    return message(item.get("role"), item.get("content"), where)


MARK = "anthropic-version"
_BATCH, _FILE = "/v1/messages/batches/*", "/v1/files/*"
UNREAD = (
    ("models", "GET", "/v1/models", MARK), ("model", "GET", "/v1/models/*", MARK),
    ("batches", "GET", "/v1/messages/batches", ""), ("batch", "GET", _BATCH, ""), ("batch", "DELETE", _BATCH, ""),
    ("batch.cancel", "POST", f"{_BATCH}/cancel", ""), ("batch.results", "GET", f"{_BATCH}/results", ""),
    ("files", "GET", "/v1/files", MARK), ("file", "GET", _FILE, MARK), ("file", "DELETE", _FILE, MARK),
    ("file.content", "GET", f"{_FILE}/content", MARK),
)  # fmt: skip


class Anthropic:
    """The Anthropic wire protocol."""

    name = "anthropic"
    credential_headers: tuple[tuple[str, str], ...] = (("x-api-key", ""), ("authorization", "bearer "))
    routes: tuple[Route, ...] = (
        Route("messages", "POST", "/v1/messages", read_messages),
        Route("count_tokens", "POST", "/v1/messages/count_tokens", read_count),
        Route("batches", "POST", "/v1/messages/batches", read_batch),
        Route("files", "POST", "/v1/files", lambda document: upload(document, {}), MARK, Takes.FORM),
        *(Route(name, method, path, marked_by=mark) for name, method, path, mark in UNREAD),
    )

    def usage(self, document: Document, so_far: Usage) -> Usage:
        inner = document.get("message")
        used = document.get("usage")
        if not isinstance(used, dict):
            used = inner.get("usage") if isinstance(inner, dict) else None
        if not isinstance(used, dict):
            return so_far
        sent, read = count(used, "input_tokens"), count(used, "cache_read_input_tokens")
        if sent is not None:  # said without what came from or went to the cache; elsewhere, and in the conventions, it is with
            sent += (read or 0) + (count(used, "cache_creation_input_tokens") or 0)
        found = {"input_tokens": sent, "output_tokens": count(used, "output_tokens"), "cached_tokens": read}
        return replace(so_far, **{name: value for name, value in found.items() if value is not None})

    def heard(self, document: Document) -> Heard:
        delta = dicts([document.get("delta")])
        return Heard(
            said(document.get("content")) or said(delta), issued_by(document), finish([document, *delta], "stop_reason")
        )

    def restrict(self, route: str, document: dict[str, Any], restriction: Restriction) -> list[str]:
        if route == "batches":
            entries = [item["params"] for item in document["requests"]]
            return list(dict.fromkeys(said for entry in entries for said in self.restrict("messages", entry, restriction)))
        if route != "messages":
            return []
        changed = clamp(document, ("max_tokens",), restriction.max_tokens, "max_tokens")
        thinking = document.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
        beyond = isinstance(budget, int) and restriction.max_tokens is not None and budget >= restriction.max_tokens
        if (not restriction.reasoning and _thinks(document)) or beyond:  # a budget has to lie below max_tokens
            changed += without(document, ("thinking",))
        return changed

    def ask_for_usage(self, route: str, keys: Collection[str], raw: bytes) -> None:
        """Usage comes unasked."""

    def without_usage(self, event: bytes) -> bytes:
        return event

    def error(self, status: int, public: Public, reference: str) -> bytes:
        kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        message = f"{public.message} (reference {reference})"
        body = {"type": "error", "error": {"type": kind, "message": message, "code": public.code}, "request_id": reference}
        return json.dumps(body).encode()

    def error_event(self, public: Public, reference: str) -> bytes:
        return b"event: error\ndata: " + self.error(502, public, reference) + b"\n\n"


def register(registry: Registry, settings: Settings) -> None:
    registry.add_dialect(Anthropic())
