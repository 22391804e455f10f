"""The Gemini protocol: what its bodies say, in both spellings, its usage, errors and restrictions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.decision import Public, Restriction
from gateway.facts import Cause, Facts, Usage
from gateway.plugins.protocols.gemini import Gemini
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
BODY: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "You help."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": "AA=="}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "find", "args": {"q": "x"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {"hits": 2}}}]},
    ],
    "generationConfig": {
        "temperature": 0.7, "topP": 0.9, "maxOutputTokens": 99, "candidateCount": 2, "responseLogprobs": True, "logprobs": 3,
        "stopSequences": ["x"], "responseSchema": {"type": "OBJECT"}, "thinkingConfig": {"includeThoughts": True}, "seed": 1,
    },
    "tools": [
        {"functionDeclarations": [{"name": "find", "parameters": {"properties": {"q": {}, "n": {}}}}]}, {"googleSearch": {}},
    ],
}  # fmt: skip


def sent(verb: str, body: object, version: str = "v1beta", model: str = "large-2") -> Facts:
    head = Head("POST", f"/{version}/models/{model}:{verb}", headers=(("x-goog-api-key", "k"),))
    return INTAKE.facts(head, Body(raw=json.dumps(body).encode()), 0)


def snake(value: Any) -> Any:
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake(inner) for key, inner in value.items()}


@pytest.mark.parametrize("version", ["v1beta", "v1"])
@pytest.mark.parametrize("spelled", [lambda body: body, snake])
def test_a_body_is_read_in_both_spellings(spelled: Any, version: str) -> None:
    facts = sent("generateContent", spelled(BODY), version)
    call = facts.call
    assert call is not None
    assert (facts.protocol, facts.route, facts.template) == (
        "gemini",
        "generate_content",
        f"/{version}/models/*:generateContent",
    )
    assert (call.model, call.stream, call.system, call.max_tokens) == ("large-2", False, "You help.", 99)
    assert [(one.role, one.kinds) for one in call.messages] == [
        ("user", {"text", "image"}), ("model", {"tool_use"}), ("user", {"tool_result"})
    ]  # fmt: skip
    assert call.messages[2].text == '{"hits": 2}'
    assert (call.tools, call.schemas[0]) == (
        ("find", "googleSearch" if "systemInstruction" in spelled(BODY) else "google_search"),
        ("q", "n"),
    )
    assert call.asks_for == {"logprobs", "reasoning"}
    seen = View(facts, REGISTRY.signals)
    assert seen.get("request.parameters") == {
        "temperature", "nucleus", "limit", "candidates", "logprobs", "stop", "format", "reasoning", "seed"
    }  # fmt: skip
    assert (seen.get("request.temperature"), seen.get("prompt.has_tool_results"), seen.get("request.model")) == (
        0.7,
        True,
        "large-2",
    )
    assert seen.get("account.id") is not None


def test_every_verb_has_its_operation() -> None:
    content = {"parts": [{"text": "a"}]}
    bodies = {
        "generateContent": ({"contents": [content]}, "chat"), "streamGenerateContent": ({"contents": [content]}, "chat"),
        "countTokens": ({"generateContentRequest": {"contents": [content]}}, "count_tokens"),
        "embedContent": ({"content": content}, "embeddings"),
        "batchEmbedContents": ({"requests": [{"content": content}, {"content": content}]}, "embeddings"),
    }  # fmt: skip
    for verb, (body, operation) in bodies.items():
        call = sent(verb, body).call
        assert call is not None
        assert (call.operation, call.stream, call.model) == (operation, verb.startswith("stream"), "large-2")
        assert {one.text for one in call.messages} == {"a"}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "'contents' is missing"), ({"contents": {}}, "'contents' must be a list of contents"),
        ({"contents": [1]}, "contents[0] must be an object with 'parts'"),
        ({"contents": [{"parts": [1]}]}, "contents[0]: every part must be an object"),
        ({"contents": [{"parts": 1}]}, "contents[0]: 'parts' must be a list, and 'role' text"),
        ({"contents": [], "generationConfig": {}, "generation_config": {}},
         "'generationConfig' stands twice, once as 'generation_config'"),
        ({"contents": [], "tools": [1]}, "'tools' must be a list of objects"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(body: object, detail: str) -> None:
    facts = sent("generateContent", body)
    assert (facts.cause, facts.detail) == (Cause.BODY_MALFORMED, detail)


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/m:unheardOf",
        "/v1beta/models/:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v2/models/m:generateContent",
    ],
)
def test_other_paths_are_no_routes(path: str) -> None:
    assert INTAKE.facts(Head("POST", path), Body(raw=b"{}"), 0).cause is Cause.ROUTE_UNRECOGNISED


def test_usage_is_taken_as_it_grows_and_thoughts_are_output() -> None:
    first = Gemini().usage({"usageMetadata": {"promptTokenCount": 7}}, Usage())
    then = Gemini().usage(
        {
            "usageMetadata": {
                "promptTokenCount": 7,
                "candidatesTokenCount": 5,
                "thoughtsTokenCount": 3,
                "cachedContentTokenCount": 2,
            }
        },
        first,
    )
    assert (first, then) == (Usage(input_tokens=7), Usage(7, 8, 2, 3))
    assert Gemini().usage({"candidates": []}, then) == then


def test_restrictions_are_said_and_hold_in_both_spellings() -> None:
    for spelled, most, several in (
        (BODY, "maxOutputTokens", "candidateCount"),
        (snake(BODY), "max_output_tokens", "candidate_count"),
    ):
        body = json.loads(json.dumps(spelled))
        said = Gemini().restrict("generate_content", body, Restriction(max_tokens=10, n=1, logprobs=False, reasoning=False))
        assert said[:2] == [f"{most}=10", f"{several}=1"]
        assert len(said) == 5
        call = sent("generateContent", body).call
        assert call is not None
        assert (call.max_tokens, call.asks_for) == (10, frozenset())
    body = {"contents": []}
    assert Gemini().restrict("generate_content", body, Restriction(max_tokens=10)) == ["maxOutputTokens=10"]
    assert Gemini().restrict("count_tokens", body, Restriction(max_tokens=10)) == []


def test_errors_have_the_shape_that_its_clients_read() -> None:
    told = json.loads(Gemini().error(429, Public("slow-down", "Slow down."), "r-1"))["error"]
    assert (told["code"], told["status"], told["message"]) == (429, "RESOURCE_EXHAUSTED", "Slow down. (reference r-1)")
    assert told["details"][0]["reason"] == "slow-down"
    assert Gemini().error_event(Public("c", "m"), "r").startswith(b"data: {")


def test_real_requests_are_read() -> None:
    found = [capture for capture in captures() if ":generateContent" in capture["path"]]
    for capture in found:
        facts = INTAKE.facts(Head("POST", capture["path"].partition("?")[0]), Body(document=capture["body"], size=0), 0)
        assert (facts.cause, facts.protocol) == (None, "gemini")
        assert facts.call is not None
        assert facts.call.messages[-1].text
    assert found
