"""The tap on answers: however the bytes fall, the usage is the same."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.facts import Usage
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.openai import OpenAI
from gateway.web.tap import MOST_EVENT, MOST_JSON, Tap
from tests.web.faulty import ANSWER, MESSAGES, STREAM, delta

SSE = "text/event-stream; charset=utf-8"
CHAT_USAGE = Usage(11, 7, 5)
MESSAGE_USAGE = Usage(17, 9, 4)
DONE = {"type": "response.completed", "response": {"model": "m-9", "usage": {"input_tokens": 3, "output_tokens": 4}}}
RESPONSES = b'event: response.created\ndata: {"response": {"model": "m-9", "usage": null}}\n\n' + (
    b"event: response.completed\ndata: " + json.dumps(DONE).encode() + b"\n\n"
)
PRETTY = b"data: " + json.dumps(ANSWER, indent=1).replace("\n", "\ndata: ").encode() + b"\n\n"
STREAMS: list[tuple[Any, bytes, Usage, str]] = [
    (OpenAI(), STREAM, CHAT_USAGE, "faulty-1"),
    (OpenAI(), RESPONSES, Usage(3, 4), "m-9"),
    (OpenAI(), b": ping\n\n" + PRETTY, CHAT_USAGE, "faulty-1"),
    (OpenAI(), STREAM.removesuffix(b"\n\n"), CHAT_USAGE, "faulty-1"),
    (Anthropic(), MESSAGES, MESSAGE_USAGE, "faulty-2"),
]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def tapped(dialect: Any, chunks: list[bytes], kind: str = SSE, encoding: str = "") -> Tap:
    tap = Tap(dialect, kind, encoding)
    for chunk in chunks:
        tap.feed(chunk)
    tap.close()
    return tap


@given(
    st.sampled_from(STREAMS),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from(["", "gzip"]),
    st.lists(st.integers(0, 5000)),
)
def test_a_stream_gives_the_same_usage_however_it_is_split(
    stream: tuple[Any, bytes, Usage, str], line_end: bytes, encoding: str, cuts: list[int]
) -> None:
    dialect, data, usage, model = stream
    data = data.replace(b"\n", line_end)
    tap = tapped(dialect, pieces(gzip.compress(data) if encoding else data, cuts), encoding=encoding)
    assert (tap.usage, tap.model) == (usage, model)


@given(st.lists(st.integers(0, 5000)), st.sampled_from(["", "gzip", "deflate", "x-gzip"]))
def test_a_document_gives_the_same_usage_however_it_is_split(cuts: list[int], encoding: str) -> None:
    data = json.dumps(ANSWER).encode()
    packed = {"": data, "deflate": zlib.compress(data)}.get(encoding, gzip.compress(data))
    tap = tapped(OpenAI(), pieces(packed, cuts), "application/json", encoding)
    assert (tap.usage, tap.model) == (CHAT_USAGE, "faulty-1")


@given(st.binary(max_size=400), st.sampled_from([SSE, "application/json"]), st.sampled_from(["", "gzip", "br", "deflate"]))
def test_no_bytes_break_it(data: bytes, kind: str, encoding: str) -> None:
    assert tapped(OpenAI(), [data[:100], data[100:]], kind, encoding).usage == Usage()


@pytest.mark.parametrize(
    "wrong", [b'{"usage": ' + b"[" * 100_000, b'{"usage": 7}', b'["usage"]', b'{"usage": {"prompt_tokens": "7"}}']
)
def test_odd_documents_say_nothing(wrong: bytes) -> None:
    assert tapped(OpenAI(), [wrong], "application/json").usage == Usage()
    assert tapped(OpenAI(), [b"data: " + wrong + b"\n\n"]).usage == Usage()


@given(st.lists(st.integers(0, 5000)))
def test_it_knows_when_it_stands_between_events(cuts: list[int]) -> None:
    tap = Tap(OpenAI(), SSE, "")
    fed = b""
    for piece in pieces(STREAM, cuts):
        tap.feed(piece)
        fed += piece
        assert tap.between_events is (not fed or fed.endswith(b"\n\n"))


def test_it_never_claims_to_stand_between_events_of_what_it_cannot_read() -> None:
    assert not Tap(OpenAI(), SSE, "gzip").between_events
    assert not Tap(OpenAI(), SSE, "br").between_events
    assert not Tap(OpenAI(), "application/json", "").between_events


def test_an_event_too_large_is_skipped_and_the_next_one_read() -> None:
    huge = b'data: {"usage": {"prompt_tokens": 99}, "x": "' + b"x" * MOST_EVENT + b'"}'
    tap = Tap(OpenAI(), SSE, "")
    for piece in pieces(huge, list(range(0, len(huge), 65_536))):
        tap.feed(piece)
    assert not tap.between_events
    tap.feed(b"\n\n")
    assert tap.between_events
    tap.feed(delta("", usage={"prompt_tokens": 1, "completion_tokens": 2}))
    assert tap.usage == Usage(1, 2)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_usage_of_a_long_document_is_found_at_its_end(encoding: str) -> None:
    vectors = [{"index": n, "embedding": [n / 7, '"usage": {"prompt_tokens": 9}'] * 1_000} for n in range(60)]
    data = json.dumps({"object": "list", "data": vectors, "model": "e", "usage": {"prompt_tokens": 31}}).encode()
    assert len(data) > MOST_JSON
    data = gzip.compress(data) if encoding else data
    tap = tapped(OpenAI(), pieces(data, list(range(0, len(data), 1_000))), "application/json", encoding)
    assert tap.usage == Usage(31)


@pytest.mark.parametrize("kind", [SSE, "application/json"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_memory_is_bounded(kind: str, encoding: str) -> None:
    machine = zlib.compressobj(1, zlib.DEFLATED, 31)
    tap = Tap(OpenAI(), kind, encoding)
    tracemalloc.start()
    for _ in range(40):
        chunk = b"x" * 2**20
        tap.feed(machine.compress(chunk) + machine.flush(zlib.Z_SYNC_FLUSH) if encoding else chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * MOST_JSON


def test_large_events_in_small_pieces_take_linear_time() -> None:
    """A megabyte in pieces of 64 bytes: searching from the start each time would take minutes."""
    data = b"data: " + b"x" * (MOST_EVENT - 100) + b"\n\n" + STREAM
    assert tapped(OpenAI(), pieces(data, list(range(0, len(data), 64)))).usage == CHAT_USAGE
