"""Usage that was only asked for by us: spliced into the request, taken out of the stream, not a byte else."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.facts import Usage
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.gemini import Gemini
from gateway.plugins.protocols.openai import OpenAI
from gateway.plugins.protocols.stream_usage import stripped as without_ours
from gateway.web.tap import MOST_EVENT, Strip, Tap

CHAT = "chat.completions"
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STYLES = [{"separators": (",", ":")}, {}]


def chunk(style: dict[str, Any], text: str, **more: Any) -> bytes:
    said = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "usage_note": 'a "usage": null b'}]}
    return b"data: " + json.dumps({**said, **more}, **style).encode() + b"\n\n"


def streams(style: dict[str, Any]) -> tuple[bytes, bytes]:
    """A stream as a server sends it that was asked for usage, and as it would have come unasked."""
    last = b"data: " + json.dumps({"id": "c", "model": "m", "choices": [], "usage": USED}, **style).encode() + b"\n\n"
    shared = (b": ping\n\n\n", b"data: [DONE]\n\n")
    filtered: dict[str, Any] = {"choices": [], "prompt_filter_results": []}
    came = [chunk(style, "", **filtered, usage=None), chunk(style, 'x "usage": null', usage=None, obfuscation="zz"), shared[0],
            chunk(style, "two", service_tier=None, usage=None), last, shared[1]]  # fmt: skip
    wanted = [chunk(style, "", **filtered), chunk(style, 'x "usage": null', obfuscation="zz"), shared[0],
              chunk(style, "two", service_tier=None), shared[1]]  # fmt: skip
    return b"".join(came), b"".join(wanted)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def stripped(dialect: Any, chunks: list[bytes]) -> bytes:
    strip = Strip(dialect)
    return b"".join([*map(strip.feed, chunks), strip.close()])


@pytest.mark.parametrize("style", STYLES, ids=["compact", "spaced"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_split_gives_what_the_caller_would_have_got(style: dict[str, Any], line_end: bytes) -> None:
    came, wanted = (data.replace(b"\n", line_end) for data in streams(style))
    for place in range(len(came) + 1):
        assert stripped(OpenAI(), [came[:place], came[place:]]) == wanted, place


@given(st.sampled_from(STYLES), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 2000)))
def test_however_it_is_split_the_same_bytes_go_on(style: dict[str, Any], line_end: bytes, cuts: list[int]) -> None:
    came, wanted = (data.replace(b"\n", line_end) for data in streams(style))
    assert stripped(OpenAI(), pieces(came, cuts)) == wanted
    tap = Tap(OpenAI(), "text/event-stream", "")
    for piece in pieces(came, cuts):
        tap.feed(piece)
    assert (tap.usage, tap.model) == (Usage(3, 2), "m")


PARTS = [b"\n", b"\r", b"data: ", b'{"usage": null}', b'{"choices": [], "usage": {}}', b"x"]


@given(st.lists(st.sampled_from(PARTS), max_size=14), st.lists(st.integers(0, 200)))
def test_broken_streams_too_do_not_depend_on_the_split(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    assert stripped(OpenAI(), pieces(data, cuts)) == stripped(OpenAI(), [data])


def test_whole_events_are_never_held_back() -> None:
    strip = Strip(OpenAI())
    one, half = chunk({}, "one"), chunk({}, "two")
    assert strip.feed(one) == one
    assert strip.feed(one + half[:9]) == one
    assert strip.feed(half[9:] + one) == half + one
    assert strip.feed(b'data: {"usage": null, "choices": []}\n\n') == b'data: {"choices": []}\n\n'
    assert strip.close() == b""


def test_an_event_too_large_goes_on_unread() -> None:
    data = b'data: {"choices": [], "usage": {}, "x": "' + b"x" * 2 * MOST_EVENT + b'"}\n\n' + chunk({}, "one", usage=None)
    out = stripped(OpenAI(), pieces(data, list(range(0, len(data), 65_536))))
    assert out == data[: -len(chunk({}, "one", usage=None))] + chunk({}, "one")


@pytest.mark.parametrize(
    "event",
    [b'data: {"choices": [{"usage": null}], "usage": null}\n\n', b'data: {"choices": [{}], "usage": {"prompt_tokens": 1}}\n\n',
     b'data: {"choices": [{"usage": null}]}\n\n', b'data: {"usage": null\n\n', b"event: usage\ndata: [DONE]\n\n",
     b'data: ["usage"]\n\n', b'data: {"choices": [],\ndata: "usage": null}\n\n'],
)  # fmt: skip
def test_what_cannot_be_ours_or_told_apart_stays(event: bytes) -> None:
    assert OpenAI().without_usage(event) == event


def test_other_protocols_are_left_alone() -> None:
    event = b'data: {"type": "message_delta", "usage": {"output_tokens": 1}}\n\n'
    for dialect in (Anthropic(), Gemini()):
        assert dialect.without_usage(event) == event
        assert dialect.ask_for_usage("messages", ("stream",), b'{"stream": true}') is None


# Asking


ASKED = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("sent", "goes"),
    [
        (b'{"stream": true}', b'{"stream": true,%s}' % ASKED),
        (b' {\n "stream" : true\n}\n', b' {\n "stream" : true\n,%s}\n' % ASKED),
        (b'{"stream_options":null,"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b'{"stream_options": { } ,"stream":true}', b'{"stream_options": { "include_usage":true} ,"stream":true}'),
        (b'{"stream_options": {"x": 1},"stream":true}', b'{"stream_options": {"include_usage":true,"x": 1},"stream":true}'),
        (b'{"stream_options": {"include_usage": false},"stream":1}', b'{"stream_options": {"include_usage": true},"stream":1}'),
        (b'{"a": {"stream_options": {}}, "stream_options": {"include_usage": null}, "stream": 1}',
         b'{"a": {"stream_options": {}}, "stream_options": {"include_usage": true}, "stream": 1}'),
        (b'{"stream_options": {"include_usage": true}, "stream": true}', None),
        (b'{"stream_options": {"include_usage": 1}, "stream": true}', None),
        (b'{"stream_options": [], "stream": true}', None),
        (b'{"stream\\u005foptions": {}, "a": {"stream_options": {}}, "stream": true}', None),
    ],
)  # fmt: skip
def test_usage_is_asked_for_in_place(sent: bytes, goes: bytes | None) -> None:
    assert OpenAI().ask_for_usage(CHAT, tuple(json.loads(sent)), sent) == goes


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\{}:,', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["stream_options", "include_usage", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["messages", "stream_options", "é", 'q"']), VALUES, max_size=4)


@given(BODIES, st.sampled_from([None, 1]), st.booleans())
def test_only_the_question_is_added(body: dict[str, Any], indent: int | None, plain: bool) -> None:
    body = {"stream": True, **body}
    sent = json.dumps(body, indent=indent, ensure_ascii=plain).encode()
    goes = OpenAI().ask_for_usage(CHAT, tuple(body), sent)
    options = body.get("stream_options") or {}
    if goes is None:
        given = body.get("stream_options")
        said = given.get("include_usage") if isinstance(given, dict) else given
        assert said is not None
        assert said is not False or not isinstance(given, dict)
        return
    assert json.loads(goes) == {**body, "stream_options": {**options, "include_usage": True}}
    before = next(n for n in range(len(goes) + 1) if goes[:n] != sent[:n]) - 1
    after = next(n for n in range(1, len(goes) + 2) if goes[-n:] != sent[-n:]) - 1
    assert before + after >= len(sent) - len(b"false")


def test_only_streams_of_choices_are_asked() -> None:
    for route in ("responses", "embeddings", "messages"):
        assert OpenAI().ask_for_usage(route, ("stream",), b'{"stream": true}') is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["", "a", '"usage":null', "data:", "}\n", '\\"usage\\"', "é"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["usage", "choices", "a", "x}"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=400)
@given(
    st.lists(
        st.tuples(st.sampled_from(["id", "choices", "usage", "obfuscation", "x"]), VALUES),
        max_size=5,
        unique_by=lambda pair: pair[0],
    ),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]),
    st.sampled_from(["\n\n", "\r\n\r\n"]),
)
def test_only_the_usage_on_top_is_taken_out(pairs: list[tuple[str, Any]], separators: tuple[str, str], end: str) -> None:
    """Whatever stands beside, below and behind it, and however it is spelt."""
    document = {"first": 1, **dict(pairs)}
    event = f"data: {json.dumps(document, separators=separators)}{end}".encode()
    left = without_ours(event)
    if document.get("usage", 0) is not None:
        assert left == event or document.get("choices") == []
        return
    told = json.loads(left.removeprefix(b"data:"))
    meant = {key: value for key, value in document.items() if key != "usage"}
    assert told in (meant, document)
    assert told == meant or event.count(b'"usage"') > 1
    assert left.endswith(end.encode())
