"""The two readers of JSON are one: the fast one answers as the slow one would, and duplicates never pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.jsontext import MAX_DEPTH, slow_json, strict_json
from gateway.protocol import Unreadable

TEXTS = st.text(
    st.sampled_from(['"', "\\", ":", "a", "b", "\n", "é", "\u2028", "\x7f", "\U0001f642", "/", "{", ",", " "]), max_size=6
)
SPACE = st.sampled_from(["", "", " ", "\n", "\t", "\r\n "])
NUMBERS = st.integers() | st.integers(2**62, 2**70) | st.floats(allow_nan=False, allow_infinity=False)


def written(text: str, how: int) -> str:
    """One text as a serialiser might write it: plainly, in ASCII, or with every character escaped."""
    if how == 2:
        units = text.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[n]:02x}{units[n + 1]:02X}" for n in range(0, len(units), 2)) + '"'
    return json.dumps(text, ensure_ascii=how == 1)


@st.composite
def scalars(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return written(draw(TEXTS), draw(st.integers(0, 2)))
    return draw(st.sampled_from(["true", "false", "null", "-0", "1E5", "1e400", "NaN", "-Infinity", "01", '"\\ud800"'])
                | NUMBERS.map(json.dumps))  # fmt: skip


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    """An object as text; its keys come from few, so that some stand twice."""
    members = []
    for _ in range(draw(st.integers(0, 3))):
        key, space = written(draw(st.sampled_from(["a", "b", "a:b", 'q"', "\\"])), draw(st.integers(0, 2))), draw(SPACE)
        members.append(f"{draw(SPACE)}{key}{space}:{draw(SPACE)}{draw(inner)}")
    return "{" + ",".join(members) + draw(SPACE) + "}"


DOCUMENTS = st.recursive(
    scalars(),
    lambda inner: objects(inner) | st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=12,
)


def told(read: Any, raw: bytes) -> object:
    """What a reader says: the value with its types, or the message."""
    try:
        return repr(read(raw))
    except Unreadable as error:
        return str(error)


def has_twins(text: str) -> bool:
    """Whether some object has a key twice, by a reader that knows nothing of ours."""
    twins = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        twins.append(len(dict(found)) != len(found))
        return dict(found)

    json.loads(text, object_pairs_hook=pairs)
    return any(twins)


@given(DOCUMENTS)
@example('{"a": ":", "a": 1}')
@example('{"a": "\\u003a", "a": 1}')
@example('{"x": "\\u003A\\u003a", "y": {"a": ":", "a": 2}}')
@example('{"a": {"b": 1}, "a": "::"}')
def test_the_fast_reader_answers_as_the_slow_one(text: str) -> None:
    raw = text.encode()
    assert told(strict_json, raw) == told(slow_json, raw)


@given(DOCUMENTS)
def test_no_key_that_stands_twice_passes(text: str) -> None:
    try:
        value = strict_json(text.encode())
    except Unreadable:
        return
    assert not has_twins(text)
    assert value == json.loads(text)


@given(st.binary(max_size=40) | DOCUMENTS.map(str.encode).flatmap(lambda raw: st.integers(0, len(raw)).map(lambda n: raw[:n])))
def test_what_is_no_json_is_refused_with_one_message(raw: bytes) -> None:
    assert told(strict_json, raw) == told(slow_json, raw)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 50_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a": ', "}]")])
def test_depth_is_bounded(depth: int, begin: str, end: str) -> None:
    levels = depth if len(end) == 1 else depth // 2
    raw = (begin * levels + "1" + end * levels).encode()
    if levels * len(end) > MAX_DEPTH:
        assert told(strict_json, raw) == f"it is nested deeper than {MAX_DEPTH} levels"
    else:
        assert strict_json(raw) == json.loads(raw)


def test_many_flat_objects_are_not_deep() -> None:
    raw = json.dumps([{"a": [{}]}] * 1_000).encode()
    assert strict_json(raw) == json.loads(raw)
