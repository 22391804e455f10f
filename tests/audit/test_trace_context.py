"""W3C trace context as callers send it: read exactly, or not at all."""

from __future__ import annotations

import pytest

from gateway.audit.trace import LONGEST_STATE, MOST_MEMBERS, begin, upstream

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (PARENT, True),
        (PARENT[:-1] + "0", False),
        (PARENT[:-2] + "03", True),  # bits that a later edition gives a meaning
        (f" {PARENT}\t", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_parent_is_the_parent(sent: str, asked: bool) -> None:
    trace = begin([("accept", "*/*"), ("traceparent", sent)])
    assert (f"{trace.trace_id:032x}", f"{trace.parent:016x}", trace.asked) == (TRACE, SPAN, asked)
    assert len({trace.parent, trace.server, trace.policy, trace.client}) == 4


INVALID = [
    "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"{PARENT}-more", f"{PARENT}-", f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", PARENT.upper(), f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}g-01",
    f"cc-{TRACE}-{SPAN}-01.more", f"00_{TRACE}_{SPAN}_01", f"{PARENT},{PARENT}", f"00-{TRACE}-{SPAN}-0１",
]  # fmt: skip


@pytest.mark.parametrize("sent", INVALID)
def test_an_invalid_parent_is_none_and_takes_the_state_with_it(sent: str) -> None:
    trace = begin([("traceparent", sent), ("tracestate", "vendor=1")])
    assert (trace.parent, trace.asked, trace.state) == (0, False, "")
    assert f"{trace.trace_id:032x}" != TRACE
    assert [name for name, _ in upstream(trace, True)] == [b"traceparent"]


def test_two_parents_are_none() -> None:
    assert begin([("traceparent", PARENT), ("traceparent", PARENT)]).parent == 0


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (["vendor=1"], "vendor=1"),
        (["b=2 , a=1"], "b=2,a=1"),
        (["b=2", "a=1,,"], "b=2,a=1"),
        (["tenant@vendor=x;y:z", "0a@v=1"], "tenant@vendor=x;y:z,0a@v=1"),
        (["a=1 2"], "a=1 2"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a=1=2"], ""),
        (["a"], ""),
        (["a=\x7f"], ""),
        (["a=é"], ""),
        (["0a=1"], ""),
        ([",".join(f"k{n}=1" for n in range(MOST_MEMBERS))], ",".join(f"k{n}=1" for n in range(MOST_MEMBERS))),
        ([",".join(f"k{n}=1" for n in range(MOST_MEMBERS + 1))], ""),
        (["a=" + "1" * 256, "b=" + "1" * 256], ""),
    ],
)
def test_the_state_goes_on_if_all_of_it_is_as_it_should_be(lines: list[str], state: str) -> None:
    assert len(state) <= LONGEST_STATE
    trace = begin([("traceparent", PARENT), *(("tracestate", line) for line in lines)])
    assert trace.state == state
    assert dict(upstream(trace, False)).get(b"tracestate", b"").decode() == state


@pytest.mark.parametrize("sampled", [True, False])
def test_what_goes_up_names_our_span_and_our_decision(sampled: bool) -> None:
    trace = begin([("traceparent", PARENT)])
    assert dict(upstream(trace, sampled)) == {b"traceparent": f"00-{TRACE}-{trace.client:016x}-0{int(sampled)}".encode()}
