"""How calls belong together: the same beginning under any credential, nothing of it readable."""

from __future__ import annotations

import json

import pytest

from gateway.plugins.conversation import TELLING
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import Missing
from gateway.web.intake import Body, Head, Intake

KEY = b"a key of the tests' own"
REGISTRY = load_registry({"identity": {"hash_key": KEY}})
REPLY = "r" * TELLING
Turn = tuple[str, str]
FIRST: list[Turn] = [("user", "how do bees find home"), ("assistant", REPLY)]


def view(*turns: Turn, model: str = "m", system: str = "", key: bytes = KEY, credential: str = "k") -> View:
    registry = REGISTRY if key == KEY else load_registry({"identity": {"hash_key": key}})
    messages = ([{"role": "system", "content": system}] if system else []) + [
        {"role": role, "content": text} for role, text in turns
    ]
    head = Head("POST", "/v1/chat/completions", headers=(("authorization", f"Bearer {credential}"),))
    raw = json.dumps({"model": model, "messages": messages}).encode()
    return View(Intake(registry, key).facts(head, Body(raw=raw), 0), registry.signals)


def test_all_turns_of_a_conversation_share_root_and_opening() -> None:
    second = view(*FIRST, ("user", "and wasps?"))
    third = view(*FIRST, ("user", "and wasps?"), ("assistant", "so do they"), ("user", "and ants?"), credential="another")
    for name in ("prompt.root", "prompt.opening"):
        assert second.get(name) == third.get(name)
        assert isinstance(second.get(name), str)
    assert second.get("prompt.whole") != third.get("prompt.whole")


def test_another_conversation_has_another_opening_even_from_the_same_first_words() -> None:
    one, other = view(*FIRST, ("user", "x")), view(FIRST[0], ("assistant", "s" * TELLING), ("user", "x"))
    assert one.get("prompt.root") == other.get("prompt.root")
    assert one.get("prompt.opening") != other.get("prompt.opening")


@pytest.mark.parametrize("turns", [FIRST[:1], [("user", "hi"), ("assistant", "r" * (TELLING - 1)), ("user", "x")]])
def test_too_little_answered_is_no_opening(turns: list[Turn]) -> None:
    assert view(*turns).get("prompt.opening") == Missing("too little was answered yet to tell conversations apart")


def test_several_short_answers_make_an_opening() -> None:
    turns = [("user", "hi"), ("assistant", "r" * 70), ("user", "y"), ("assistant", "r" * 70), ("user", "x")]
    assert isinstance(view(*turns).get("prompt.opening"), str)


@pytest.mark.parametrize("trick", ["How do bees find home", "how  do bees\u200b find home", "ｈow do bees find home"])
def test_case_blanks_and_invisible_characters_keep_root_and_opening_and_change_the_whole(trick: str) -> None:
    one, other = view(*FIRST, ("user", "x")), view(("user", trick), *FIRST[1:], ("user", "x"))
    assert one.get("prompt.root") == other.get("prompt.root")
    assert one.get("prompt.opening") == other.get("prompt.opening")
    assert one.get("prompt.whole") != other.get("prompt.whole")


def test_the_whole_is_model_system_and_every_message() -> None:
    base = view(("user", "a"), ("user", "b"))
    assert base.get("prompt.whole") == view(("user", "a"), ("user", "b"), credential="other").get("prompt.whole")
    others = [
        view(("user", "ab")),
        view(("user", "a"), ("user", "b"), model="n"),
        view(("user", "a"), ("user", "b"), system="s"),
    ]
    assert len({base.get("prompt.whole"), *(other.get("prompt.whole") for other in others)}) == 4


def test_nothing_said_or_no_call() -> None:
    for name in ("prompt.root", "prompt.whole"):
        assert view().get(name) == Missing("no user text")
    nothing = View(Intake(REGISTRY, KEY).facts(Head("GET", "/v1/models"), Body(), 0), REGISTRY.signals)
    for name in ("prompt.root", "prompt.opening", "prompt.whole"):
        assert nothing.get(name) == Missing("no model call could be read")


def test_hashes_need_the_secret() -> None:
    one, other = view(*FIRST, ("user", "x")), view(*FIRST, ("user", "x"), key=b"another key of the tests")
    assert all(one.get(name) != other.get(name) for name in ("prompt.root", "prompt.opening", "prompt.whole"))
