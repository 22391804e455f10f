"""Spans as bytes, held to what the protocol's own classes make of the same values, and to their bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from gateway.audit.otlp import (
    CUT,
    LONGEST_NAME,
    LONGEST_VALUE,
    MOST_ATTRIBUTES,
    MOST_EVENTS,
    MOST_ITEMS,
    Kind,
    Pairs,
    Place,
    event,
    pairs,
    request,
    request_of,
    span,
)  # fmt: skip
from tests.collector import attributes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
WHOLE = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(TEXTS, st.booleans(), WHOLE, st.floats(allow_nan=False), st.lists(TEXTS, max_size=5))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
NUMBERS = st.integers(1, 2**64 - 1)


def read(encoded: bytes) -> Any:
    """The one span of a request."""
    found = ExportTraceServiceRequest.FromString(request(request_of({"service.name": "s"}, "scope", "1"), [encoded]))
    return found.resource_spans[0].scope_spans[0].spans[0]


def any_value(value: Any) -> AnyValue:
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(one) for one in value]))
    return AnyValue(**{kinds[type(value)]: value})


def key_values(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in values.items()]


@given(
    ids=st.tuples(st.integers(1, 2**128 - 1), NUMBERS, st.integers(0, 2**64 - 1)),
    texts=st.tuples(TEXTS.filter(lambda text: len(text) <= LONGEST_NAME), st.sampled_from(["", "a=1,b=2"])),
    times=st.tuples(NUMBERS, NUMBERS),
    values=st.dictionaries(NAMES, VALUES, max_size=20),
    told=st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES, max_size=5)), max_size=5),
    failed=st.sampled_from([None, "", "upstream-cut"]),
    kind=st.sampled_from(Kind),
    remote=st.booleans(),
)  # fmt: skip
def test_a_span_is_what_the_protocols_classes_make_of_it(
    ids: tuple[int, int, int], texts: tuple[str, str], times: tuple[int, int], values: dict[str, Any],
    told: list[tuple[str, dict[str, Any]]], failed: str | None, kind: Kind, remote: bool,
) -> None:  # fmt: skip
    trace_id, span_id, parent = ids
    name, state = texts
    place = Place(trace_id, span_id, parent, state, remote)
    encoded = span(
        place, name, kind, times, pairs(values.items()),
        [event(said, times[0], pairs(inner.items())) for said, inner in told], failed,
    )  # fmt: skip
    wanted = Span(
        trace_id=trace_id.to_bytes(16), span_id=span_id.to_bytes(8), parent_span_id=parent.to_bytes(8) if parent else b"",
        trace_state=state, name=name, kind=[None, 1, 2, 3][kind], start_time_unix_nano=times[0], end_time_unix_nano=times[1],
        attributes=key_values(values), flags=0x300 if remote else 0x100,
        events=[Span.Event(time_unix_nano=times[0], name=said, attributes=key_values(inner)) for said, inner in told],
        status=None if failed is None else Status(message=failed, code=Status.STATUS_CODE_ERROR),
    )  # fmt: skip
    found = read(encoded)
    assert found == wanted
    assert found.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


def test_a_request_holds_resource_scope_and_spans() -> None:
    spans = [span(Place(1, number), "n", Kind.SERVER, (1, 2), Pairs()) for number in (1, 2, 300)]
    found = ExportTraceServiceRequest.FromString(request(request_of({"service.name": "s", "n": 1}, "scope", "0.1"), spans))
    assert found == ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=key_values({"service.name": "s", "n": 1})),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name="scope", version="0.1"),
                        spans=[
                            Span(
                                trace_id=(1).to_bytes(16), span_id=number.to_bytes(8), name="n", kind=Span.SPAN_KIND_SERVER,
                                start_time_unix_nano=1, end_time_unix_nano=2, flags=0x100,
                            )
                            for number in (1, 2, 300)
                        ],
                    )
                ],
            )
        ]
    )  # fmt: skip


def laid_out(values: dict[str, Any], events: int = 0) -> Any:
    told = [event("e", 1, pairs({"n": number}.items())) for number in range(events)]
    return read(span(Place(1, 1), "x" * 10_000, Kind.SERVER, (1, 2), pairs(values.items()), told, "y" * 10_000))


def test_what_is_too_long_is_cut_and_named() -> None:
    found = laid_out({"long": "ä" * 100_000, "short": "b", "list": ["c"] * 1_000, "of long": ["d" * 2_000, "e"]})
    told = attributes(found)
    assert told["long"] == "ä" * (LONGEST_VALUE - 1) + "…"
    assert (told["short"], len(told["list"]), len(told["of long"][0])) == ("b", MOST_ITEMS, LONGEST_VALUE)
    assert told[CUT] == ["long", "list", "of long"]
    assert len(found.name) == len(found.status.message) == LONGEST_NAME


def test_too_many_attributes_and_events_are_counted() -> None:
    found = laid_out({f"a{number}": number for number in range(MOST_ATTRIBUTES + 7)}, MOST_EVENTS + 3)
    assert (len(found.attributes), found.dropped_attributes_count) == (MOST_ATTRIBUTES, 7)
    assert (len(found.events), found.dropped_events_count) == (MOST_EVENTS, 3)
    found = laid_out({f"a{number}": "x" * 5_000 for number in range(MOST_ATTRIBUTES)})
    assert (len(found.attributes), found.dropped_attributes_count) == (MOST_ATTRIBUTES, 1)
    assert found.attributes[-1].key == CUT
    dropped = pairs((f"a{number}", 1) for number in range(MOST_ATTRIBUTES + 2))
    assert (
        read(span(Place(1, 1), "n", Kind.SERVER, (1, 2), Pairs(), [event("e", 1, dropped)])).events[0].dropped_attributes_count
        == 2
    )


def test_what_the_protocol_has_no_form_for_is_still_said() -> None:
    told = attributes(laid_out({"half": "a\ud800b", "huge": 2**70, "none": None, "least": -(2**63)}))
    assert told == {"half": "a?b", "huge": str(2**70), "least": -(2**63)}
