"""What the request itself says: numbers that can be counted with, under the route's own names, whatever callers send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.facts import Facts
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import Missing
from gateway.web.intake import Body, Head, Intake

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT, EMBEDDINGS = "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings"


def view(path: str, **more: Any) -> View:
    turns = {"messages": [{"role": "user", "content": "hello"}], "prompt": "hello", "input": "hello"}
    raw = json.dumps({"model": "m", **turns, **more}).encode()
    head = Head(method="POST", path=path, headers=(("content-type", "application/json"),))
    facts: Facts = INTAKE.facts(head, Body(raw=raw), 0)
    assert facts.cause is None, facts.detail
    return View.of(facts, REGISTRY.signals)


@pytest.mark.parametrize(
    ("path", "sent", "found"),
    [
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_completion_tokens": 7}, 7),
        (CHAT, {"max_completion_tokens": 7, "max_tokens": 9}, 9),
        (CHAT, {"max_tokens": 9, "max_output_tokens": 1}, 9),
        (COMPLETIONS, {"max_tokens": 9, "max_completion_tokens": 1}, 9),
        (RESPONSES, {"max_output_tokens": 4, "max_tokens": 1}, 4),
        (MESSAGES, {"max_tokens": 3}, 3),
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 0}, None),
        (CHAT, {"max_tokens": -5}, None),
        (CHAT, {"max_tokens": True}, None),
        (CHAT, {"max_tokens": 5.5}, None),
        (CHAT, {"max_tokens": "5"}, None),
        (CHAT, {"max_tokens": 10**400}, None),
        (RESPONSES, {"max_tokens": 5}, None),
        (COUNT, {"max_tokens": 5}, None),
    ],
)
def test_the_most_output_tokens_by_the_routes_own_names(path: str, sent: dict[str, Any], found: int | None) -> None:
    value = view(path, **sent).get("request.max_tokens")
    assert isinstance(value, Missing) if found is None else value == found


@pytest.mark.parametrize("sent", [-1, 10**400, 2**53 + 1, True, 1.5, "1", None])
def test_what_cannot_be_counted_with_is_missing(sent: object) -> None:
    assert isinstance(view(CHAT, n=sent).get("request.n"), Missing)


@pytest.mark.parametrize(
    ("path", "sent", "logprobs", "reasoning"),
    [
        (CHAT, {}, False, False),
        (CHAT, {"logprobs": True}, True, False),
        (CHAT, {"logprobs": False, "top_logprobs": None}, False, False),
        (COMPLETIONS, {"logprobs": 0}, True, False),
        (CHAT, {"prompt_logprobs": 3, "include_reasoning": True}, True, True),
        (RESPONSES, {"include": ["message.output_text.logprobs"]}, True, False),
        (RESPONSES, {"include": ["reasoning.encrypted_content"]}, False, True),
        (RESPONSES, {"reasoning": {"effort": "low"}}, False, False),
        (RESPONSES, {"reasoning": {"summary": "auto"}}, False, True),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 2_000}}, False, True),
        (MESSAGES, {"thinking": {"type": "disabled"}}, False, False),
        (COUNT, {"thinking": {"type": "enabled", "budget_tokens": 2_000}}, False, False),
    ],
)
def test_what_a_request_asks_for_beyond_text(path: str, sent: dict[str, Any], logprobs: bool, reasoning: bool) -> None:
    found = view(path, **sent)
    assert (found.get("request.logprobs"), found.get("request.reasoning")) == (logprobs, reasoning)


@pytest.mark.parametrize(
    ("path", "operation"),
    [(CHAT, "chat"), (COMPLETIONS, "text_completion"), (EMBEDDINGS, "embeddings"), (COUNT, "count_tokens")],
)
def test_operations(path: str, operation: str) -> None:
    assert view(path).get("request.operation") == operation


@pytest.mark.parametrize(
    ("path", "sent", "found"),
    [
        (CHAT, {}, set()), (CHAT, {"stream": True, "user": "u"}, set()),
        (CHAT, {"temperature": 0, "max_tokens": 5, "top_p": 1}, {"temperature", "limit", "nucleus"}),
        (CHAT, {"max_completion_tokens": 5, "n": 2, "seed": 1}, {"limit", "candidates", "seed"}),
        (CHAT, {"logprobs": True, "stop": ["x"], "response_format": {"type": "json_object"}}, {"logprobs", "stop", "format"}),
        (CHAT, {"logprobs": False, "temperature": None, "seed": None}, set()),
        (CHAT, {"min_p": 0.1, "best_of": 2, "repetition_penalty": 1.1, "reasoning_effort": "low"},
         {"nucleus", "candidates", "penalties", "reasoning"}),
        (COMPLETIONS, {"echo": True, "stop": "x"}, {"logprobs", "stop"}), (COMPLETIONS, {"echo": False}, set()),
        (RESPONSES, {"max_output_tokens": 5, "reasoning": {}, "tool_choice": "auto"}, {"limit", "reasoning", "tool_choice"}),
        (MESSAGES, {"max_tokens": 5, "top_k": 3, "stop_sequences": ["x"], "thinking": {"type": "enabled"}},
         {"limit", "nucleus", "stop", "reasoning"}),
    ],
)  # fmt: skip
def test_ways_of_decoding_have_one_word_in_every_protocol(path: str, sent: dict[str, Any], found: set[str]) -> None:
    assert view(path, **sent).get("request.parameters") == found


@pytest.mark.parametrize(("sent", "found"), [({"temperature": 0}, 0.0), ({"temperature": 0.7}, 0.7), ({"temperature": 1}, 1.0)])
def test_the_temperature_is_a_number(sent: dict[str, Any], found: float) -> None:
    assert view(CHAT, **sent).get("request.temperature") == found


@pytest.mark.parametrize("sent", [{}, {"temperature": None}, {"temperature": "hot"}, {"temperature": True}])
def test_what_is_no_number_is_no_temperature(sent: dict[str, Any]) -> None:
    assert isinstance(view(CHAT, **sent).get("request.temperature"), Missing)


@pytest.mark.parametrize("path", [CHAT, "/v1beta/models/sk-canary-key-93ab8f7e6d5c:generateContent"])
def test_a_key_sent_as_a_model_is_not_kept(path: str) -> None:
    found = view(path, model="sk-canary-key-93ab8f7e6d5c", contents=[{"parts": [{"text": "hello"}]}])
    assert (found.get("request.model"), found.get("request.models")) == ("…", frozenset({"…"}))
    assert view(CHAT, model="gpt-5").get("request.model") == "gpt-5"
