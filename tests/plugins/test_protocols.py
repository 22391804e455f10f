"""Reading request bodies and usage, and writing errors, of the bundled protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Public
from gateway.errors import ConfigError
from gateway.facts import Message, Usage
from gateway.plugins.protocols import anthropic, openai
from gateway.plugins.protocols.reading import LONGEST_NAME
from gateway.protocol import Unreadable
from gateway.registry import load
from gateway.web.intake import Head

PUBLIC = Public("some-code", "A sentence.")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["model", "messages", "role", "content", "type", "text", "input", "prompt", "tools", "name", "function", "system",
         "usage", "output", "arguments", "metadata", "user_id", "stream", "instructions", "tool_calls", "message", "response",
         "input_tokens"]
    ), inner, max_size=4), max_leaves=25,
)  # fmt: skip
DOCUMENTS = st.dictionaries(st.sampled_from(
    ["model", "messages", "input", "prompt", "tools", "system", "metadata", "stream", "instructions", "user", "usage"]
), JSON, max_size=6)  # fmt: skip
READERS = (openai.read_chat, openai.read_completion, openai.read_responses, openai.read_embeddings, anthropic.read_messages)


def chat(*messages: Any, **more: Any) -> Any:
    return openai.read_chat({"model": "m", "messages": list(messages), **more})


# OpenAI: chat


def test_chat_separates_system_text_from_turns() -> None:
    call = chat(
        {"role": "system", "content": "one"}, {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "hi"},
        stream=True, temperature=0.5, max_tokens=7, stop=None, logit_bias={"1": 2}, user="u-1",
    )  # fmt: skip
    assert (call.operation, call.model, call.stream, call.system, call.end_user) == ("chat", "m", True, "one\ntwo", "u-1")
    assert call.messages == (Message("user", "hi"),)
    assert call.parameters == {"temperature": 0.5, "max_tokens": 7, "stream": True}


def test_chat_reads_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:x"}}
    parts = [
        {"type": "text", "text": "a"},
        image,
        {"type": "input_audio"},
        {"type": "text", "text": "b"},
        {"type": "refusal", "refusal": "c"},
    ]
    assert chat({"role": "user", "content": parts}).messages[0] == Message(
        "user", "a\nb\nc", frozenset({"text", "image", "input_audio", "refusal"})
    )


def test_chat_knows_tool_calls_and_results() -> None:
    call = chat(
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "42"}, {"role": "function", "name": "f", "content": "43"},
    )  # fmt: skip
    assert [m.text for m in call.messages] == ["", "42", "43"]
    assert [m.kinds - {"text"} for m in call.messages] == [{"tool_use"}, {"tool_result"}, {"tool_result"}]


def test_tools_are_named_in_order() -> None:
    tools = [{"type": "function", "function": {"name": "b"}}, {"type": "function", "name": "a"}, {"type": "web_search"}, {}]
    assert chat(tools=tools).tools == ("b", "a", "web_search", "")


# OpenAI: the rest


@pytest.mark.parametrize(
    ("prompt", "texts"), [("one", ["one"]), (["one", "two"], ["one", "two"]), ([1, 2, 3], []), ([[1], [2]], []), ("", [""])]
)
def test_completions_take_texts_and_tokens(prompt: Any, texts: list[str]) -> None:
    call = openai.read_completion({"model": "m", "prompt": prompt, "n": 2})
    assert (call.operation, [m.text for m in call.messages], call.parameters) == ("text_completion", texts, {"n": 2})


def test_embeddings() -> None:
    call = openai.read_embeddings({"model": "e", "input": ["a", "b"]})
    assert (call.operation, [m.text for m in call.messages]) == ("embeddings", ["a", "b"])


def test_responses_with_text() -> None:
    call = openai.read_responses({"model": "m", "instructions": "be brief", "input": "hi", "max_output_tokens": 5})
    assert (call.system, call.messages, call.parameters) == ("be brief", (Message("user", "hi"),), {"max_output_tokens": 5})


def test_responses_with_items() -> None:
    items = [
        {"role": "developer", "content": "rules"}, {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
        {"type": "reasoning", "summary": []}, {"type": "function_call", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "1", "output": "42"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "43"}]},
    ]  # fmt: skip
    call = openai.read_responses({"model": "m", "input": items})
    assert call.system == "rules"
    assert [(m.role, sorted(m.kinds)) for m in call.messages] == [
        ("user", ["text"]), ("assistant", ["text"]), ("assistant", ["reasoning"]), ("assistant", ["tool_use"]),
        ("tool", ["tool_result"]), ("tool", ["tool_result"]),
    ]  # fmt: skip
    assert [m.text for m in call.messages[:2]] == ["hi", "yes"]
    assert "43" in call.messages[-1].text


def test_responses_may_continue_an_earlier_one_without_input() -> None:
    assert openai.read_responses({"model": "m", "prompt": {"id": "p"}}).messages == ()


# Anthropic


def test_messages() -> None:
    call = anthropic.read_messages({
        "model": "c", "max_tokens": 9, "system": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image", "source": {}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "name": "f"}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "42"}]}]},
            {"role": "user", "content": [{"type": "tool_result", "content": "43"}]},
        ],
        "tools": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}], "metadata": {"user_id": "u-1"},
    })  # fmt: skip
    assert (call.system, call.tools, call.end_user, call.parameters) == ("one\ntwo", ("f", "bash"), "u-1", {"max_tokens": 9})
    assert [(m.text, sorted(m.kinds)) for m in call.messages] == [
        ("see", ["image", "text"]), ("hm", ["thinking", "tool_use"]), ("42", ["tool_result"]), ("43", ["tool_result"]),
    ]  # fmt: skip


# What is wrong is said so that it can be mended, and without the caller's text.


@pytest.mark.parametrize(
    ("read", "document", "words"),
    [
        (openai.read_chat, {}, "'messages' is missing"),
        (openai.read_chat, {"messages": "s3cret"}, "'messages' must be a list of messages"),
        (openai.read_chat, {"messages": [{"role": "user"}, 7]}, "messages[1] must be an object"),
        (openai.read_chat, {"messages": [{"content": "s3cret"}]}, "messages[0] needs a 'role'"),
        (openai.read_chat, {"messages": [{"role": "user", "content": 7}]}, "messages[0]: 'content' must be text or a list"),
        (openai.read_chat, {"messages": [{"role": "user", "content": ["s3cret"]}]}, "every part of 'content' must be"),
        (openai.read_chat, {"messages": [], "model": 7}, "'model' must be text"),
        (openai.read_chat, {"messages": [], "model": "s3cret" * LONGEST_NAME}, f"'model' is longer than {LONGEST_NAME}"),
        (openai.read_chat, {"messages": [], "stream": "yes"}, "'stream' must be true or false"),
        (openai.read_chat, {"messages": [], "stream": 1}, "'stream' must be true or false"),
        (openai.read_chat, {"messages": [], "tools": {"name": "s3cret"}}, "'tools' must be a list of objects"),
        (openai.read_chat, {"messages": [], "tools": ["s3cret"]}, "'tools' must be a list of objects"),
        (openai.read_completion, {}, "'prompt' is missing"),
        (openai.read_completion, {"prompt": {"s3cret": 1}}, "'prompt' must be text or a list"),
        (openai.read_embeddings, {}, "'input' is missing"),
        (openai.read_embeddings, {"input": 7}, "'input' must be text or a list"),
        (openai.read_responses, {"input": 7}, "'input' must be text or a list of items"),
        (openai.read_responses, {"input": ["s3cret"]}, "input[0] must be an object"),
        (openai.read_responses, {"input": [{"type": "message", "content": "s3cret"}]}, "input[0] needs a 'role'"),
        (openai.read_responses, {"instructions": ["s3cret"]}, "'instructions' must be text"),
        (anthropic.read_messages, {}, "'messages' is missing"),
        (anthropic.read_messages, {"messages": {}}, "'messages' must be a list of messages"),
        (anthropic.read_messages, {"messages": ["s3cret"]}, "messages[0] must be an object"),
        (anthropic.read_messages, {"messages": [], "system": 7}, "'system'"),
        (anthropic.read_messages, {"messages": [], "model": ["s3cret"]}, "'model' must be text"),
    ],
)  # fmt: skip
def test_wrong_types_are_named(read: Any, document: Any, words: str) -> None:
    with pytest.raises(Unreadable) as error:
        read(document)
    assert words in str(error.value)
    assert "s3cret" not in str(error.value)


@given(DOCUMENTS, st.sampled_from(READERS))
def test_no_json_breaks_a_reader(document: Any, read: Any) -> None:
    try:
        call = read(document)
    except Unreadable as error:
        assert len(str(error)) < 200
    else:
        assert all(isinstance(m.role, str) and isinstance(m.text, str) for m in call.messages)
        assert all(isinstance(kind, str) for m in call.messages for kind in m.kinds)


@given(DOCUMENTS, st.sampled_from([openai.OpenAI(), anthropic.Anthropic()]))
def test_no_json_breaks_usage(document: Any, dialect: Any) -> None:
    used = dialect.usage(document, Usage())
    assert all(n is None or n >= 0 for n in (used.input_tokens, used.output_tokens, used.cached_tokens, used.reasoning_tokens))


# Usage


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 2},
                    "completion_tokens_details": {"reasoning_tokens": 3}}}, Usage(5, 6, 2, 3)),
        ({"usage": {"input_tokens": 5, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 2},
                    "output_tokens_details": {"reasoning_tokens": 3}}}, Usage(5, 6, 2, 3)),
        ({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 0}}}, Usage(5, 0)),
        ({"usage": {"prompt_tokens": 5, "total_tokens": 5}}, Usage(5)),
        ({"usage": {"prompt_tokens": -5, "completion_tokens": True}}, Usage()),
    ],
)  # fmt: skip
def test_usage_of_openai(document: Any, usage: Usage) -> None:
    assert openai.OpenAI().usage(document, Usage()) == usage


@pytest.mark.parametrize("document", [{}, {"usage": None}, {"usage": 7}, {"response": {"usage": None}}, {"choices": []}])
def test_a_document_without_usage_changes_nothing(document: Any) -> None:
    for dialect in (openai.OpenAI(), anthropic.Anthropic()):
        assert dialect.usage(document, Usage(1, 2)) == Usage(1, 2)


def test_usage_of_anthropic_adds_up_over_a_stream() -> None:
    dialect = anthropic.Anthropic()
    start = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 2}},
    }
    begun = dialect.usage(start, Usage())
    assert begun == Usage(7, 1, 2), "what came from a cache is part of the input"
    assert dialect.usage({"type": "message_delta", "usage": {"output_tokens": 9}}, begun) == Usage(7, 9, 2)
    assert dialect.usage({"usage": {"input_tokens": 5, "output_tokens": 9}}, Usage()) == Usage(5, 9)


# Errors


@pytest.mark.parametrize(
    ("status", "kind", "other_kind"),
    [(400, "invalid_request_error", "invalid_request_error"), (401, "authentication_error", "authentication_error"),
     (403, "permission_error", "permission_error"), (413, "invalid_request_error", "request_too_large"),
     (429, "rate_limit_error", "rate_limit_error"), (451, "invalid_request_error", "invalid_request_error"),
     (502, "server_error", "api_error"), (503, "server_error", "overloaded_error"), (504, "server_error", "timeout_error")],
)  # fmt: skip
def test_errors_have_the_types_clients_know(status: int, kind: str, other_kind: str) -> None:
    message = "A sentence. (reference sg-1)"
    assert json.loads(openai.OpenAI().error(status, PUBLIC, "sg-1")) == {
        "error": {"message": message, "type": kind, "param": None, "code": "some-code"}
    }
    assert json.loads(anthropic.Anthropic().error(status, PUBLIC, "sg-1")) == {
        "type": "error", "error": {"type": other_kind, "message": message, "code": "some-code"}, "request_id": "sg-1",
    }  # fmt: skip


def test_error_events_are_whole_events() -> None:
    for dialect, start in ((openai.OpenAI(), b"data: {"), (anthropic.Anthropic(), b"event: error\ndata: {")):
        event = dialect.error_event(PUBLIC, "sg-1")
        assert event.startswith(start)
        assert event.endswith(b"}\n\n")
        assert event.count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("headers", "protocol"),
    [((("anthropic-version", "2023-06-01"),), "anthropic"), ((("authorization", "Bearer k"),), "openai")],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/some-model"])
def test_a_path_that_two_protocols_share_is_told_by_its_header(
    headers: tuple[tuple[str, str], ...], protocol: str, path: str
) -> None:
    """Otherwise one provider's key would be sent to the other."""
    head = Head("GET", path, headers=headers)
    assert load({}).route("GET", path, head.header)[0].name == protocol  # type: ignore[index]


def test_two_protocols_cannot_claim_one_route() -> None:
    class Rival(openai.OpenAI):
        name = "rival"

    registry = load({})
    with pytest.raises(ConfigError, match="the protocols 'openai' and 'rival' both claim this route"):
        registry.add_dialect(Rival())
