"""What header lines say of who sends them is remembered: by what it follows from, by nothing else, and within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.facts import Facts
from gateway.plugins.sender import LONGEST, LOOKED_AT, MOST, Sender, Senders
from gateway.signals import View
from tests.plugins.wires import AGENT, CURL, PLAIN, PYTHON, Headers, but

NAMES = [
    *sorted(LOOKED_AT),
    "host",
    "authorization",
    "content-length",
    "connection",
    "x-forwarded-for",
    "sec-fetch-site",
    "x-app",
]
VALUES = [
    "",
    "node",
    "python",
    "cors",
    "*/*",
    "compress, gzip",
    "text/plain, */*",
    "curl/8.5.0",
    "Go-http-client/2.0",
    "3.11.7",
]


def told(senders: Senders, headers: Headers) -> Sender:
    return senders.of(View(Facts(at=0, headers=headers), {}))


@given(st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=8), max_size=12))
def test_what_is_remembered_is_what_would_be_found_again(sent: list[list[tuple[str, str]]]) -> None:
    senders = Senders()
    for headers in [tuple(lines) for lines in sent] * 2:
        assert told(senders, headers) == told(Senders(), headers)


def test_keys_lengths_and_addresses_of_callers_make_no_new_sender() -> None:
    senders = Senders()
    for number in range(50):
        own = {"authorization": f"Bearer sk-{number}", "content-length": str(number), "x-forwarded-for": f"203.0.113.{number}"}
        told(senders, but(PYTHON, {"x-forwarded-for": "", **own}))
    assert len(senders) == 1


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("user-agent", "curl/8.5.0", "curl/8.6.0"),
        ("x-stainless-lang", "js", "go"),
        ("x-stainless-os", "Linux", "MacOS"),
        ("x-stainless-runtime", "node", "bun"),
        ("x-stainless-timeout", "60", "600"),
        ("accept", "application/json, text/plain, */*", "*/*"),
        ("accept-encoding", "gzip, compress, deflate, br", "gzip"),
        ("sec-fetch-mode", "cors", "navigate"),
    ],
)
def test_what_is_told_follows_from_every_value_that_is_looked_at(name: str, one: str, other: str) -> None:
    lines = {"accept": "text/plain, */*", "accept-encoding": "compress", name: one}
    if name in ("user-agent", "sec-fetch-mode"):
        lines = {name: one}
    senders = Senders()
    assert told(senders, tuple(lines.items())) != told(senders, tuple({**lines, name: other}.items()))


def test_the_order_of_the_names_counts() -> None:
    assert told(Senders(), CURL).fingerprint != told(Senders(), CURL[::-1]).fingerprint


def test_software_is_told_apart() -> None:
    found = {told(Senders(), headers).family: told(Senders(), headers).claimed for headers in (PYTHON, AGENT, CURL, PLAIN)}
    assert found == {"openai": "python", "claude-cli": "node", "curl": "curl", "app": None}


def test_callers_cannot_grow_what_is_remembered() -> None:
    senders = Senders()
    for number in range(MOST + 10):
        told(senders, but(PLAIN, {"user-agent": f"app/{number}"}))
    assert 0 < len(senders) <= MOST


@pytest.mark.parametrize("long", [("user-agent", "a" * LONGEST), ("x-" + "n" * LONGEST, "")])
def test_long_lines_are_looked_at_and_not_kept(long: tuple[str, str]) -> None:
    senders = Senders()
    assert told(senders, (*CURL[2:], long)).fingerprint
    assert len(senders) == 0


def test_no_headers_say_nothing() -> None:
    assert told(Senders(), ()) == Sender(None, None, None, None, "", None, None)
