"""One request as the contradictions table looks at it: header names, values and tools, sent twice, once or not at all."""

from __future__ import annotations

import pytest

from gateway.facts import Call, Facts
from gateway.plugins.sent import Sent
from gateway.signals import View

HEADERS = (("accept", "A/B"), ("x-sdk-lang", "go"), ("accept", "C"), ("user-agent", "One/1"))


def sent(headers: tuple[tuple[str, str], ...] = HEADERS, call: Call | None = None) -> Sent:
    return Sent(Facts(at=0, headers=headers, call=call), None, None, None, None, direct=True)


def test_values_are_joined_in_the_order_sent_and_the_first_of_each_is_known() -> None:
    assert sent().value("accept") == "a/b, c"
    assert sent(HEADERS[:2]).value("accept") == "a/b"
    assert sent().value("host") is None
    assert sent().agent == "one/1"
    assert Facts(at=0, headers=HEADERS).header("accept") == "A/B"


def test_places_are_those_of_the_first_of_each_header() -> None:
    assert sent().before("accept", "x-sdk-lang")
    assert not sent().before("user-agent", "accept")
    assert not sent().before("accept", "host")


@pytest.mark.parametrize("more", [(), (("a\nx-other", "1"),)])
def test_prefixes_are_looked_for_at_the_beginning_of_names(more: tuple[tuple[str, str], ...]) -> None:
    one = sent((*HEADERS, *more))
    assert one.any_begins(("y-", "x-sdk"))
    assert not one.any_begins(("sdk-", "x-other", "agent"))
    assert not sent(()).any_begins(("x-",))


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        ({"read": frozenset({"path"})}, True),
        ({"read": frozenset({"path"}), "other": frozenset()}, True),
        ({"read": frozenset({"path", "line"})}, False),
        ({"read": frozenset({"path"}), "other": frozenset({"path"})}, False),
        ({"late": frozenset({"path"})}, False),
        ({"other": frozenset()}, True),
    ],
)
def test_tools_are_declared_with_their_parameters(wanted: dict[str, frozenset[str]], takes: bool) -> None:
    call = Call("chat", tools=("read", "late"), schemas=(("path", "mode"),))
    assert sent(call=call).takes(wanted) is takes


def test_what_several_signals_need_is_worked_out_once_for_each_exchange() -> None:
    asked: list[View] = []

    def found(view: View) -> int:
        asked.append(view)
        return len(asked)

    one, other = View(Facts(at=0), {}), View(Facts(at=0), {})
    assert [one.once(found), one.once(found), other.once(found)] == [1, 1, 2]
    assert one.resolved == {}
