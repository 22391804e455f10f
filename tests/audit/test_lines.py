"""Lines of records are what `json` writes, byte for byte, whatever values they hold."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.audit.lines import alike, line, slow_line


class Word(StrEnum):
    PLAIN = "plain"
    ODD = 'a "quoted" \u2028 word\x00'


class Rank(IntEnum):
    FIRST = 1


TEXTS = st.text(max_size=12) | st.text(st.characters(categories=["Cs", "Cc", "Ll"]), max_size=6) | st.sampled_from(Word)
NUMBERS = st.integers() | st.floats() | st.floats(-2, 2) | st.booleans() | st.just(Rank.FIRST)
VALUES = TEXTS | NUMBERS | st.lists(TEXTS | NUMBERS, max_size=4)
MEASURES = NUMBERS | st.builds(lambda kind, said: {kind: said}, st.sampled_from(["missing", "failed", "at_least"]), TEXTS)


def entry(signals: dict[str, Any], measures: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    return {"v": 1, "signals": signals, "measures": measures, "answer": {"end": "complete", "signals": answered}}


def written(found: dict[str, Any]) -> bytes:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


@given(st.dictionaries(TEXTS, VALUES, max_size=6), st.dictionaries(TEXTS, MEASURES, max_size=6), st.dictionaries(TEXTS, VALUES))
@example({"share": 1e-05}, {}, {})
@example({}, {"share": 1e16}, {})
@example({}, {}, {"rate": float("nan")})
@example({"of": [1e-7]}, {}, {})
@example({"text": "\ud800"}, {}, {})
def test_a_line_is_what_json_writes(signals: dict[str, Any], measures: dict[str, Any], answered: dict[str, Any]) -> None:
    found = entry(signals, measures, answered)
    assert line(found) == slow_line(found) == written(found)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.25, 1e-4, 9999999999999998.0, 7, True, None, "text", Word.ODD, [1, "a", 0.5]])
def test_everyday_values_take_the_fast_way(value: object) -> None:
    assert alike([value])


@pytest.mark.parametrize("value", [1e-5, 1e16, -1e300, float("inf"), float("nan"), [1e-9], b"bytes", {1}, Rank.FIRST])
def test_values_that_are_written_otherwise_take_the_slow_way(value: object) -> None:
    assert not alike([value])


@pytest.mark.parametrize("value", [b"bytes", {1}, object(), [frozenset({"a"})]])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        line(entry({"signal": value}, {}, {}))
