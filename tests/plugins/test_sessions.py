"""Which session ids tell conversations apart: those long enough that two strangers do not have the same by chance."""

from __future__ import annotations

import pytest

from gateway.facts import Call, Facts
from gateway.registry import load
from gateway.signals import View
from gateway.values import Missing

SIGNALS = load({"identity": {"hash_key": b"a key of the tests' own"}}).signals
LONG = "7d9d6d7b-5c49-40"


def session(*headers: tuple[str, str], user: str | None = None) -> object:
    return View(Facts(0, headers=headers, call=Call("chat", end_user=user)), SIGNALS).get("client.session")


@pytest.mark.parametrize("said", ["1", "default", " ", "", "0" * 15, "  session-1      "])
def test_what_strangers_may_share_is_no_session(said: str) -> None:
    for name in ("x-session-id", "session_id", "conversation-id", "x-claude-code-session-id"):
        assert isinstance(session((name, said)), Missing)
    assert isinstance(session(user=f'{{"session_id":"{said}"}}'), Missing)
    assert isinstance(session(user=f"user_{'a' * 64}_account__session_{said}"), Missing)


def test_sixteen_characters_are_a_session_wherever_they_stand() -> None:
    found = session(("x-session-id", LONG))
    assert isinstance(found, str) and LONG not in found
    assert session(("x-session-id", "1"), ("conversation-id", f" {LONG} ")) == found, "a short one does not hide it"
    assert session(("x-session-id", "1"), user=f'{{"session_id":"{LONG}"}}') == found
    assert session(user=f"user_{'a' * 64}_account__session_{LONG}") == found
