"""Rows are passed over by what they cannot do without: what is found is what asking every row finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.facts import Call, Facts
from gateway.plugins.contradictions import Row, load_rows
from gateway.plugins.sent import Sent, Trait
from tests.plugins.wires import RULES

ROWS = load_rows(RULES / "data" / "contradictions.yaml")
JA4 = "t13d1516{}_8daaf6152771_02713d6af862"
DERIVED = "user_x_account_01234567-89ab-5def-8123-0123456789ab"


def asked(row: Row, more: tuple[tuple[str, str], ...] = ()) -> Sent:
    """A request that shows all that a row looks for."""
    agent = row.agents[0] if row.agents else "app/1"
    lines = dict.fromkeys((*(name for pair in row.order for name in pair), *sorted(row.has)), "1")
    lines |= {test.header: test.equals if test.equals is not None else " ".join(test.contains) for test in row.values}
    lines["user-agent"] = f"{agent} {lines.get('user-agent', '')}"
    tools = (*sorted(row.declares), *(["other"] if row.declares_none else []))
    tools = (*tools, "One_tool", "Two_tool", "Three_tool") if Trait.TOOLS_ALIKE in row.shows and not tools else tools
    system = row.system + ("a\u200bb" if Trait.SPLIT_WORDS in row.shows else "")
    schemas = tuple(tuple(sorted(row.takes.get(name, ()))) for name in tools)
    call = Call("chat", system=system, tools=tools, schemas=schemas, end_user=DERIVED if row.shows else None)
    facts = Facts(
        0, http_version=min(row.http, default="1.1"), headers=(*lines.items(), *more), call=call,
        protocol=min(row.protocols, default="openai"), keys=tuple(f"key{place}" for place in range(max(row.keys, 4))),
    )  # fmt: skip
    wire, runtime = min(row.wire, default=None), min(row.runtimes, default=None)
    return Sent(facts, runtime, wire, row.styles, JA4.format(min(row.alpn, default="h2")), direct=True)


def holding(one: Sent) -> set[str]:
    return {row.name for row in ROWS.rows if row.speaks_of(one) and all(check(one) for check in row.checks)}


@pytest.mark.parametrize("row", ROWS.rows, ids=lambda row: row.name)
def test_every_row_is_seen_on_a_request_built_for_it(row: Row) -> None:
    assert row.name in ROWS.contradicted(asked(row))


@given(
    st.sampled_from(ROWS.rows),
    st.lists(
        st.tuples(st.sampled_from(["accept", "host", "x-api-key", "x-stainless-lang", "via"]), st.just("*/*")), max_size=4
    ),
)
def test_no_row_that_holds_is_passed_over_and_none_that_does_not_is_seen(row: Row, more: list[tuple[str, str]]) -> None:
    one = asked(row, tuple(more))
    assert ROWS.contradicted(one) == holding(one)
