"""What was said, captured: bounded both ways, cut where it says so, in the conventions' shapes, and never with a key in it."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.content import COST, LARGEST, captured
from gateway.audit.identifiers import Keeping, NameKeys, Names
from gateway.audit.sealing import Keys, Opener, Seals
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.facts import Answer, Call, End, Message, Said
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.gemini import Gemini
from gateway.plugins.protocols.openai import OpenAI
from gateway.protocol import Hearing
from gateway.web.app import build
from gateway.web.tap import MOST_EVENT, MOST_JSON, Tap

SSE = "text/event-stream"
CALL = Call("chat", "m", system="Be brief.", messages=(Message("user", "Hello"), Message("user", "", frozenset({"image"}))))
CHAT: tuple[Any, ...] = (
    {"choices": [{"delta": {"role": "assistant"}}]}, {"choices": [{"delta": {"content": "Good "}}]},
    {"choices": [{"delta": {"content": "day"}}]}, {"choices": [{"delta": {}, "finish_reason": "length"}]},
)  # fmt: skip
RESPONSES: tuple[Any, ...] = (
    {"type": "response.output_text.delta", "delta": "Good "}, {"type": "response.output_text.delta", "delta": "day"},
    {"type": "response.completed", "response": {"output": [{"content": [{"type": "output_text", "text": "Good day"}]}]}},
)  # fmt: skip
MESSAGES: tuple[Any, ...] = (
    {"type": "message_start", "message": {"model": "c", "content": []}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Good "}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "day"}},
    {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 2}},
)  # fmt: skip
CANDIDATES: tuple[Any, ...] = (
    {"candidates": [{"content": {"parts": [{"text": "Good "}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "day"}]}, "finishReason": "MAX_TOKENS"}]},
)  # fmt: skip
STREAMS: list[tuple[Any, tuple[Any, ...], str]] = [
    (OpenAI(), CHAT, "length"), (OpenAI(), RESPONSES, ""), (Anthropic(), MESSAGES, "max_tokens"),
    (Gemini(), CANDIDATES, "MAX_TOKENS"),
]  # fmt: skip


def events(documents: tuple[Any, ...]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in documents)


def tapped(dialect: Any, chunks: list[bytes], kind: str = SSE, encoding: str = "", most: int = 100) -> Said | None:
    """What a tap captures; every byte has to go on as it came."""
    tap = Tap(dialect, kind, encoding, Hearing(content=most))
    for chunk in chunks:
        assert tap.passing(chunk, last=False) == chunk
    tap.close()
    return tap.output


@given(st.sampled_from(STREAMS), st.sampled_from(["", "gzip"]), st.lists(st.integers(0, 2_000)))
def test_what_a_stream_says_is_gathered_however_it_is_split(stream: Any, encoding: str, cuts: list[int]) -> None:
    dialect, documents, finish = stream
    data = gzip.compress(events(documents)) if encoding else events(documents)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(places)]
    assert tapped(dialect, chunks, encoding=encoding) == Said("Good day", finish)


def test_a_stream_without_an_end_takes_bounded_memory_and_is_cut() -> None:
    said = tapped(OpenAI(), [events(CHAT[1:2])] * 1_000, most=20)
    assert said is not None
    assert len(said.text) == 21
    told = captured(CALL, Answer(200, output=said), 20)
    assert (told["output_messages"][0]["parts"][0]["content"], "output" in told["cut"]) == (said.text[:20], True)


def test_what_was_not_read_is_said() -> None:
    for kind, encoding, data in ((SSE, "br", b"x"), ("text/plain", "", b"x"), ("application/json", "", b" " * (MOST_JSON + 1))):
        assert tapped(OpenAI(), [data], kind, encoding) is None
    assert captured(CALL, Answer(200), 100)["output"] == "not captured"
    assert captured(None, Answer(400, end=End.REFUSED), 100) == {"captured": True, "most": 100, "input": "not read"}
    large = b'data: {"choices": [{"delta": {"content": "' + b"x" * MOST_EVENT
    said = tapped(OpenAI(), [events(CHAT[:2]), large, b'"}}]}\n\n', events(CHAT[2:])])
    assert said == Said("Good day", "length", whole=False)
    assert captured(CALL, Answer(200, output=said), 1_000)["cut"] == ["output"]


def test_shapes_are_the_conventions() -> None:
    told = captured(CALL, Answer(200, output=Said("Yes.", "tool_calls")), 1_000)
    assert told == {
        "captured": True, "most": 1_000, "system_instructions": [{"type": "text", "content": "Be brief."}],
        "input_messages": [
            {"role": "user", "parts": [{"type": "text", "content": "Hello"}]}, {"role": "user", "parts": [{"type": "image"}]},
        ],
        "output_messages": [
            {"role": "assistant", "parts": [{"type": "text", "content": "Yes."}], "finish_reason": "tool_call"}
        ],
    }  # fmt: skip
    assert captured(CALL, Answer(500, output=Said("")), 100)["output_messages"] == []
    cut_off = captured(CALL, Answer(200, output=Said("Ye"), end=End.UPSTREAM_CUT), 100)
    assert cut_off["output_messages"][0]["finish_reason"] == "error"


@given(st.lists(st.text(max_size=200), max_size=40), st.integers(1, 2_000))
def test_the_input_is_bounded_and_says_when_it_is_not_whole(texts: list[str], most: int) -> None:
    call = Call("chat", messages=tuple(Message("user", text) for text in texts))
    told = captured(call, Answer(end=End.REFUSED), most)
    kept = [part["content"] for message in told["input_messages"] for part in message["parts"]]
    assert sum(len(text.encode()) for text in kept) + COST * (len(told["input_messages"]) - 1) <= most
    said = [text.encode("utf-8", "replace").decode() for text in texts if text]
    assert ("cut" in told) == (kept != said or len(told["input_messages"]) < len(texts))
    assert all(whole.startswith(text) for text, whole in zip(kept, said, strict=False))


def test_keys_in_texts_are_left_out() -> None:
    keys = ["sk-proj-0123456789abcdef", "AIzaSyA0123456789abcdefg", "gsk_0123456789abcdef"]
    call = Call("chat", system=f"key={keys[0]}", messages=(Message("user", f"my keys: {keys[1]}, {keys[2]}!"),))
    told = captured(call, Answer(200, output=Said(f"It is {keys[0]}")), 1_000)
    assert [key for key in keys if key in json.dumps(told)] == []
    assert told["input_messages"][0]["parts"][0]["content"] == "my keys: …, …!"
    for most in range(1, 60):  # wherever it is cut
        assert "0123" not in json.dumps(captured(call, Answer(200, output=Said(f"It is {keys[0]}"[: most + 1])), most))


def test_sealed_content_is_in_the_box_and_comes_back(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    entry = {"id": "1", "signals": {"account.id": "a"}, "content": captured(CALL, Answer(200, output=Said("Yes.")), 100)}
    (hidden,) = Seals(Names(Keeping.SEALED, NameKeys.derived(b"k" * 32)), keys).hide([(0, entry)])
    assert hidden["content"] == {"captured": True, "sealed": True}
    assert Opener(keys).opened(hidden) == entry


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{routes: [chat.completion]}", "no protocol has a route 'chat.completion'.*did you mean 'chat.completions'"),
        ("{routes: [chat.completions], most: 2MiB}", "at most 1MiB"),
        ("{most: 1KiB}", "content needs 'routes'"),
    ],
)
def test_bad_settings_are_told(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{openai: {{url: 'http://127.0.0.1:1'}}}}\naudit: {{content: {content}}}\n")
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        build(load_config(file))


def test_what_is_captured_of_which_route_is_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {openai: {url: 'http://127.0.0.1:1'}}\naudit: {content: {routes: [messages], most: 1MiB}}\n")
    content = load_config(file).audit.content
    assert (content.of("messages"), content.of("chat.completions")) == (LARGEST, 0)
