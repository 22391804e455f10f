"""Traces as OTLP writes them down in JSON: a line or a document is one export (`resourceSpans`), which holds many spans.

One exchange is one span that calls a model (`gen_ai.operation.name`, or `gen_ai.request.model` without one), with what spans
above it in the same export tell of the caller. Of this gateway's own traces it is the SERVER span, which has a reference, with
what the spans below it tell. `TOLD` holds the attributes, the current name of the conventions first, then those that older
emitters use. Spans of other kinds are no exchanges: they are passed over and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import Place
from gateway.facts import End, Message
from gateway.replay.exchange import Exchange
from gateway.replay.foreign.fields import Fields
from gateway.replay.foreign.partial import Stated, Told, exchange
from gateway.replay.making import Maker
from gateway.signals import Catalogue

Attributes = dict[str, Any]
OURS: Final = "sluice.reference"
_SCOPE: Final = "sluicegate"
_HEADER: Final = "http.request.header."
_CALLS: Final = {"chat": "chat", "generate_content": "chat", "text_completion": "text_completion", "embeddings": "embeddings"}
_PROTOCOLS: Final = {"openai": "openai", "anthropic": "anthropic", "gcp.gemini": "gemini", "gemini": "gemini"}
_ENDS: Final = {str(end): end for end in End}
_OTHERS: Final = ("resourceMetrics", "resourceLogs", "resourceProfiles")
TOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "method": ("http.request.method", "http.method"),
    "path": ("url.path", "http.target"),
    "http_version": ("network.protocol.version", "http.flavor"),
    "peer": ("network.peer.address", "net.sock.peer.addr"),
    "size": ("http.request.body.size", "http.request_content_length"),
    "user-agent": ("user_agent.original", "http.user_agent"),
    "client.ip": ("client.address", "http.client_ip"),
    "client.country": ("geo.country.iso_code",),
    "account": ("enduser.id", "user.id", "enduser.pseudo.id"),
    "status": ("http.response.status_code", "http.status_code"),
    "operation": ("gen_ai.operation.name",),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "model": ("gen_ai.request.model",),
    "stream": ("gen_ai.request.stream",),
    "max_tokens": ("gen_ai.request.max_tokens",),
    "answered_by": ("gen_ai.response.model",),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens",),
    "messages": ("gen_ai.input.messages",),
    "system": ("gen_ai.system_instructions",),
}
_PARAMETERS: Final = {
    "temperature": "gen_ai.request.temperature", "top_p": "gen_ai.request.top_p", "top_k": "gen_ai.request.top_k",
    "n": "gen_ai.request.choice.count", "seed": "gen_ai.request.seed", "stop": "gen_ai.request.stop_sequences",
    "frequency_penalty": "gen_ai.request.frequency_penalty", "presence_penalty": "gen_ai.request.presence_penalty",
}  # fmt: skip
_CALLER: Final = ("peer", "user-agent", "client.ip", "client.country", "account")
_WHOLE: Final = ("size", "status", "max_tokens", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_USAGE: Final = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class Span:
    """One span. key: trace and span; parent: the span above, by the same. scope: who instrumented."""

    key: tuple[str, str]
    parent: tuple[str, str]
    at: int
    scope: str
    attributes: Attributes

    @property
    def told(self) -> Attributes:
        """What its attributes tell, by what it is called here."""
        found = {}
        for meaning, names in TOLD.items():
            if name := next((name for name in names if name in self.attributes), None):
                value = self.attributes[name]
                found[meaning] = int(value) if meaning in _WHOLE else value
        return found

    @property
    def calls(self) -> bool:
        """Whether it is a call of a model."""
        operation = self.attributes.get("gen_ai.operation.name")
        return operation in _CALLS if operation is not None else "gen_ai.request.model" in self.attributes


def of_otlp(entry: Mapping[str, Any], fields: Fields) -> bool:
    """Whether an entry is an export of OTLP; of traces, or of something that holds no exchanges."""
    return "resourceSpans" in entry or any(name in entry for name in _OTHERS)


def traces(entry: Mapping[str, Any], place: Place, maker: Maker) -> Iterator[Exchange]:
    """The exchanges of an export. Raises ValueError."""
    if other := next((name for name in _OTHERS if name in entry), None):
        raise ValueError(f"{other} are no traces; exchanges are read from resourceSpans")
    spans = {span.key: span for span in _spans(entry)}
    below: dict[tuple[str, str], list[Span]] = {}
    for span in spans.values():
        below.setdefault(span.parent, []).append(span)
    for span in spans.values():
        above = list(_above(span, spans))
        if OURS in span.attributes:
            yield exchange(_ours(span, below.get(span.key, []), maker.catalogue), place, maker)
        elif span.calls and span.scope != _SCOPE:
            yield exchange(_theirs(span, above, maker), place, maker)
        elif not (span.scope == _SCOPE and any(OURS in one.attributes for one in above)):
            what = "whose exchange is in another export" if span.scope == _SCOPE else "that call no model"
            maker.passed[f"spans {what}"] += 1


def _spans(entry: Mapping[str, Any]) -> Iterator[Span]:
    for resource in entry["resourceSpans"]:
        for scoped in resource.get("scopeSpans", ()):
            scope = scoped.get("scope", {}).get("name", "")
            for span in scoped.get("spans", ()):
                trace = span["traceId"]
                yield Span(
                    (trace, span["spanId"]), (trace, span.get("parentSpanId", "")), int(span["startTimeUnixNano"]) // 1_000,
                    scope, _attributes(span.get("attributes", ())),
                )  # fmt: skip


def _attributes(listed: Any) -> Attributes:
    return {one["key"]: _value(one["value"]) for one in listed if one.get("value")}


def _value(value: Mapping[str, Any]) -> Any:
    """An attribute's value; whole numbers are written as text."""
    kind, found = next(iter(value.items()))
    read = _VALUES.get(kind)
    return read(found) if read else found


_VALUES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "intValue": int, "arrayValue": lambda found: [_value(one) for one in found.get("values", ())],
    "kvlistValue": lambda found: _attributes(found.get("values", ())),
}  # fmt: skip


def _above(span: Span, spans: Mapping[tuple[str, str], Span]) -> Iterator[Span]:
    """The spans above one, the nearest first; parents that go round in a ring end it."""
    seen = {span.key}
    while (found := spans.get(span.parent)) is not None and found.key not in seen:
        seen.add(found.key)
        yield found
        span = found


def _ours(server: Span, below: list[Span], catalogue: Catalogue) -> Told:
    """An exchange of this gateway's: the caller's side of it, and of the call what stands below."""
    call = next((span for span in below if span.attributes.get("gen_ai.operation.name")), None)
    passed_on = any(span.attributes.get("http.request.method") for span in below)
    told = (call.told if call else {}) | server.told
    if call is not None:
        told.setdefault("stream", False)  # said only where there is one
    failed = next((str(span.attributes["error.type"]) for span in below if "error.type" in span.attributes), "")
    end = _ENDS.get(failed, End.COMPLETE if passed_on else End.REFUSED)
    return _told(server, told, server.attributes | (call.attributes if call else {}), end, catalogue)


def _theirs(span: Span, above: list[Span], maker: Maker) -> Told:
    """A call that somebody else instrumented. The path of an application's own is none of a model's API."""
    told = span.told
    for one in above:
        told = {name: value for name, value in one.told.items() if name in _CALLER} | told
    path = str(told.get("path", "")).partition("?")[0]
    if maker.intake.registry.route(str(told.get("method", "POST")), path, lambda name: None) is None:
        told = {name: value for name, value in told.items() if name not in ("path", "method", "http_version", "size")}
    end = End.UPSTREAM_FAILED if "error.type" in span.attributes and "status" not in told else End.COMPLETE
    return _told(span, told, span.attributes, end, maker.catalogue)


def _told(span: Span, told: Attributes, attributes: Attributes, end: End, catalogue: Catalogue) -> Told:
    facts: dict[str, Any] = {name: told[name] for name in ("method", "path", "http_version", "peer", "size") if name in told}
    if "path" not in facts and (protocol := _PROTOCOLS.get(str(told.get("provider", "")))):
        facts["protocol"] = protocol
    headers: dict[str, str | None] = {
        name.removeprefix(_HEADER): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in attributes.items() if name.startswith(_HEADER)
    }  # fmt: skip
    headers |= {"user-agent": str(told["user-agent"])} if "user-agent" in told else {}
    answer = {"status": told["status"]} if "status" in told else {}
    answer |= {"model": told["answered_by"]} if "answered_by" in told else {}
    return Told(
        at=span.at, id=":".join(span.key), facts=facts, headers=headers, end=end, call=_call(told, attributes),
        account={"id": str(told["account"])} if "account" in told else None, answer=answer,
        usage={name: told[name] for name in _USAGE if name in told},
        signals={name: catalogue[name].type.parse(told[name]) for name in ("client.ip", "client.country")
                 if name in told and name in catalogue},
    )  # fmt: skip


def _call(told: Attributes, attributes: Attributes) -> dict[str, Any] | None:
    """What is told of the call, by the names of `Call`; None where there is none."""
    call: dict[str, Any] = {name: told[name] for name in ("model", "stream", "max_tokens") if name in told}
    if "operation" in told:
        call["operation"] = _CALLS.get(told["operation"], told["operation"])
    if not call:
        return None
    call["parameters"] = Stated({name: attributes[one] for name, one in _PARAMETERS.items() if one in attributes})
    if "messages" in told:
        call["messages"] = tuple(_message(one) for one in _parsed(told["messages"]))
        call["system"] = _text(_parsed(told["system"])) if "system" in told else ""
    return call


def _parsed(value: Any) -> Any:
    """Messages stand in an attribute as they are, or as JSON in a text."""
    return json.loads(value) if isinstance(value, str) else value


def _message(message: Mapping[str, Any]) -> Message:
    parts = message.get("parts", ())
    return Message(str(message["role"]), _text(parts), frozenset(_KINDS.get(part["type"], part["type"]) for part in parts))


def _text(parts: Any) -> str:
    return "\n".join(str(part["content"]) for part in parts if part.get("type") == "text" and part.get("content") is not None)


_KINDS: Final = {"tool_call": "tool_use", "tool_call_response": "tool_result"}
