"""Gemini-shaped APIs: generateContent, streamGenerateContent, countTokens, embedContent, batches of them, and models.

The verb stands behind the model in the path, so the model is the path's (`registry.route`). The API reads every key in
camelCase and in snake_case; so does this, and refuses a body that has one key in both ways: two readers could disagree on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

from gateway.decision import Public, Restriction
from gateway.facts import Call, Message, Usage
from gateway.plugins.issued import handed_back, issued_by, parts_of
from gateway.plugins.protocols.entries import batch, each
from gateway.plugins.protocols.reading import (
    Document,
    clamp,
    count,
    dicts,
    finish,
    most_output,
    said,
    tool_names,
    tool_schemas,
    without,
)  # fmt: skip
from gateway.protocol import Heard, Route, Unreadable
from gateway.registry import Registry, Settings

SCALARS: Final = (
    "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "seed", "responseLogprobs", "logprobs",
    "presencePenalty", "frequencyPenalty", "responseMimeType",
)  # fmt: skip
OBJECTS: Final = ("stopSequences", "responseSchema", "responseJsonSchema", "thinkingConfig")
STATUSES: Final = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
KINDS: Final = {
    "inlineData": "image", "fileData": "file", "functionCall": "tool_use", "functionResponse": "tool_result",
    "executableCode": "tool_use", "codeExecutionResult": "tool_result",
}  # fmt: skip


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def _key(document: Document, name: str) -> str:
    """How a key is written here: in camelCase or in snake_case. Raises Unreadable where it stands in both ways."""
    other = _snake(name)
    if other != name and other in document:
        if name in document:
            raise Unreadable(f"'{name}' stands twice, once as '{other}'")
        return other
    return name


def _value(document: Document, name: str, kind: type, said: str) -> Any:
    value = document.get(_key(document, name))
    if value is not None and not isinstance(value, kind):
        raise Unreadable(f"'{name}' must be {said}")
    return value


def read_generate(document: Document) -> Call:
    """The body of models/*:generateContent."""
    contents = _value(document, "contents", list, "a list of contents")
    if contents is None:
        raise Unreadable("'contents' is missing")
    settings: Document = _value(document, "generationConfig", dict, "an object") or {}
    system = document.get(_key(document, "systemInstruction"))
    declared = _declared(document)
    return Call(
        operation="chat",
        parameters=_parameters(settings),
        system=_content(system, "'systemInstruction'").text if system is not None else "",
        messages=tuple(_content(item, f"contents[{place}]") for place, item in enumerate(contents)),
        tools=tool_names(declared),
        schemas=tool_schemas(declared),
        max_tokens=most_output(settings, (_key(settings, "maxOutputTokens"),)),
        asks_for=_asks_for(settings),
        presented=handed_back(parts_of(contents, "parts")),
    )


def read_stream(document: Document) -> Call:
    """The body of models/*:streamGenerateContent."""
    return replace(read_generate(document), stream=True)


def read_count(document: Document) -> Call:
    """The body of models/*:countTokens: contents, or a whole request; nothing is generated."""
    inner = _value(document, "generateContentRequest", dict, "an object")
    found = read_generate(inner if inner is not None else document)
    return replace(found, operation="count_tokens", max_tokens=None, asks_for=frozenset())


def read_embed(document: Document) -> Call:
    """The body of models/*:embedContent."""
    return Call("embeddings", messages=(_content(document.get("content"), "'content'"),))


def read_embed_batch(document: Document) -> Call:
    """The body of models/*:batchEmbedContents."""
    requests = _value(document, "requests", list, "a list of requests")
    if requests is None or not all(isinstance(item, dict) for item in requests):
        raise Unreadable("'requests' must be a list of objects")
    return Call("embeddings", messages=tuple(_content(item.get("content"), "a request's 'content'") for item in requests))


def read_batch(document: Document) -> Call:
    """The body of models/*:batchGenerateContent: requests in it, or a file that was uploaded past this gateway."""
    wrapped = _value(document, "batch", dict, "an object") or {}
    given = _value(wrapped, "inputConfig", dict, "an object") or {}
    if given.get(_key(given, "fileName")) is not None:
        return Call("batch")
    held = _value(given, "requests", dict, "an object") or {}
    return batch(each(held.get("requests"), "requests", "request", read_generate))


def _parameters(settings: Document) -> dict[str, object]:
    sent = {name: settings.get(_key(settings, name)) for name in (*SCALARS, *OBJECTS)}
    found: dict[str, object] = {name: sent[name] for name in SCALARS if isinstance(sent[name], (str, int, float, bool))}
    return found | {name: True for name in OBJECTS if sent[name] is not None}


def _asks_for(settings: Document) -> frozenset[str]:
    logprobs = any(settings.get(_key(settings, name)) not in (None, False) for name in ("responseLogprobs", "logprobs"))
    thinking = settings.get(_key(settings, "thinkingConfig"))
    thoughts = isinstance(thinking, dict) and thinking.get(_key(thinking, "includeThoughts")) is True
    return frozenset({"logprobs"} if logprobs else ()) | frozenset({"reasoning"} if thoughts else ())


def _declared(document: Document) -> list[dict[str, Any]] | None:
    """The tools in the shape that all protocols share: functions by name, built-in tools by their key."""
    tools = _value(document, "tools", list, "a list of objects")
    if tools is None:
        return None
    found: list[dict[str, Any]] = []
    for tool in tools:
        if not isinstance(tool, dict):
            raise Unreadable("'tools' must be a list of objects")
        functions = _value(tool, "functionDeclarations", list, "a list of functions")
        found += [one if isinstance(one, dict) else {} for one in functions or ()]
        found += [{"type": key} for key in tool if key not in ("functionDeclarations", "function_declarations")]
    return found


def _content(content: Any, where: str) -> Message:
    if isinstance(content, str):
        return Message("user", content)
    if not isinstance(content, dict):
        raise Unreadable(f"{where} must be an object with 'parts'")
    parts, role = content.get("parts", []), content.get("role", "user")
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list) or not isinstance(role, str):
        raise Unreadable(f"{where}: 'parts' must be a list, and 'role' text")
    texts, kinds = [], set()
    for part in parts:
        if not isinstance(part, dict):
            raise Unreadable(f"{where}: every part must be an object")
        kind, text = _part(part)
        kinds.add(kind)
        texts += [text] if text else []
    return Message(role, "\n".join(texts), frozenset(kinds or {"text"}))


def _part(part: Document) -> tuple[str, str]:
    for name, kind in KINDS.items():
        inner = part.get(_key(part, name))
        if inner is not None:
            told = inner.get("response", inner.get("output")) if kind == "tool_result" and isinstance(inner, dict) else None
            return kind, told if isinstance(told, str) else json.dumps(told) if told is not None else ""
    text = part.get("text")
    return "thinking" if part.get("thought") is True else "text", text if isinstance(text, str) else ""


_VERBS: Final[dict[str, tuple[str, Callable[[Document], Call]]]] = {
    "generate_content": ("generateContent", read_generate),
    "stream_generate_content": ("streamGenerateContent", read_stream),
    "count_tokens": ("countTokens", read_count),
    "embed_content": ("embedContent", read_embed),
    "batch_embed_contents": ("batchEmbedContents", read_embed_batch),
    "batch_generate_content": ("batchGenerateContent", read_batch),
}


UNREAD: Final = (
    ("models", "GET", "models"), ("model", "GET", "models/*"), ("batches", "GET", "batches"), ("batch", "GET", "batches/*"),
    ("batch", "DELETE", "batches/*"), ("batch.cancel", "POST", "batches/*:cancel"),
)  # fmt: skip


class Gemini:
    """The Gemini wire protocol, under /v1beta and /v1."""

    name = "gemini"
    credential_headers: tuple[tuple[str, str], ...] = (("x-goog-api-key", ""), ("authorization", "bearer "))
    routes: tuple[Route, ...] = (
        *(Route(name, "POST", f"/{version}/models/*:{verb}", read)
          for version in ("v1beta", "v1") for name, (verb, read) in _VERBS.items()),
        *(Route(name, method, f"/{version}/{path}", marked_by=mark)
          for version, mark in (("v1beta", ""), ("v1", "x-goog-api-key")) for name, method, path in UNREAD),
    )  # fmt: skip

    def usage(self, document: Document, so_far: Usage) -> Usage:
        used = document.get("usageMetadata")
        if not isinstance(used, dict):
            return so_far
        said, thought = count(used, "candidatesTokenCount"), count(used, "thoughtsTokenCount")
        written = (
            None if said is None and thought is None else (said or 0) + (thought or 0)
        )  # the conventions count them as one
        found = {
            "input_tokens": count(used, "promptTokenCount"), "output_tokens": written,
            "cached_tokens": count(used, "cachedContentTokenCount"), "reasoning_tokens": thought,
        }  # fmt: skip
        return replace(so_far, **{name: value for name, value in found.items() if value is not None})

    def heard(self, document: Document) -> Heard:
        candidates = dicts(document.get("candidates"))
        contents = [candidate.get("content") for candidate in candidates]
        told = [said(content.get("parts")) for content in contents if isinstance(content, dict)]
        return Heard("\n".join(text for text in told if text), issued_by(document), finish(candidates, "finishReason"))

    def restrict(self, route: str, document: dict[str, Any], restriction: Restriction) -> list[str]:
        if route not in ("generate_content", "stream_generate_content"):
            return []
        settings = document.setdefault(_key(document, "generationConfig"), {})
        most, several = _key(settings, "maxOutputTokens"), _key(settings, "candidateCount")
        changed = clamp(settings, (most,), restriction.max_tokens, most) + clamp(settings, (several,), restriction.n)
        if not restriction.logprobs:
            changed += without(settings, (_key(settings, "responseLogprobs"), "logprobs"))
        thinking = settings.get(_key(settings, "thinkingConfig"))
        if not restriction.reasoning and isinstance(thinking, dict):
            changed += without(thinking, (_key(thinking, "includeThoughts"),))
        return changed

    def ask_for_usage(self, route: str, keys: Collection[str], raw: bytes) -> None:
        """Usage comes unasked."""

    def without_usage(self, event: bytes) -> bytes:
        return event

    def error(self, status: int, public: Public, reference: str) -> bytes:
        kind = STATUSES.get(status, "INTERNAL" if status >= 500 else "FAILED_PRECONDITION")
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": public.code,
            "metadata": {"reference": reference},
        }
        told = {"code": status, "message": f"{public.message} (reference {reference})", "status": kind, "details": [info]}
        return json.dumps({"error": told}).encode()

    def error_event(self, public: Public, reference: str) -> bytes:
        return b"data: " + self.error(502, public, reference) + b"\r\n\r\n"


def register(registry: Registry, settings: Settings) -> None:
    registry.add_dialect(Gemini())
