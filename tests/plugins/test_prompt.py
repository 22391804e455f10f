"""Prompt skeletons: one template filled with many things is one template; different prompts are not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins import wording
from gateway.plugins.wording import LONGEST, MOST, masked, normalised, skeleton
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.unicode import composed
from gateway.values import Missing
from gateway.web.intake import Body, Head, Intake

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
TEMPLATE = (
    "Rewrite the given prompt into a harder one.\n#Given Prompt#:\n{}\n"
    "#Rewritten Prompt#:\nWrite only the new prompt, nothing else."
)


def view(*messages: tuple[str, str]) -> View:
    body = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    return View(INTAKE.facts(Head("POST", "/v1/chat/completions"), Body(raw=json.dumps(body).encode()), 0), REGISTRY.signals)


def template(*messages: tuple[str, str]) -> object:
    return view(*messages).get("prompt.template")


WORDS = st.lists(st.text(st.characters(categories=("Ll", "Lu")), min_size=1, max_size=9), min_size=2, max_size=30).map(" ".join)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WORDS, WORDS)
def test_fillings_share_a_template(one: str, other: str) -> None:
    first, second = view(("user", TEMPLATE.format(one))), view(("user", TEMPLATE.format(other)))
    assert first.get("prompt.template") == second.get("prompt.template")
    assert (first.get("prompt.slots") == second.get("prompt.slots")) == (normalised(one) == normalised(other))


def test_different_questions_have_different_templates() -> None:
    questions = [
        "how do I pronounce robotics",
        "what is a schema migration",
        "write a haiku about the sea",
        "why is the sky blue",
    ]
    assert len({template(("user", question)) for question in questions}) == len(questions)


@pytest.mark.parametrize(
    "trick",
    [
        "Re\u200bwrite",
        "Ｒewrite",
        "REWRITE",
        "Re\u00adwrite",
        "Re\u034fwrite",
        "Re\ufe0fwrite",
        "Re\u3164write",
        "Rеwritе",
        "Réwrïte",
        "𝗥ewrite",
    ],
)
@pytest.mark.parametrize("name", ["prompt.template", "prompt.kin"])
def test_invisible_wide_and_look_alike_characters_do_not_make_a_new_template(name: str, trick: str) -> None:
    one, other = (
        view(("user", text)).get(name) for text in (TEMPLATE.format("x"), TEMPLATE.format("x").replace("Rewrite", trick))
    )
    assert one == other


@pytest.mark.parametrize("name", ["prompt.template", "prompt.kin"])
def test_spaced_letters_do_not_make_a_new_template(name: str) -> None:
    said = "Rewrite this prompt so that it is far harder to answer than before, and say nothing else about it"
    spaced = "  ".join(" ".join(word) for word in said.split())
    assert view(("user", said)).get(name) == view(("user", spaced.replace(" ,", ","))).get(name)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "naïve café",
        "\u0301a",
        "a\u200bb",
        "नमस्ते दुनिया",
        "한국어 \u1112\u1161\u11ab",
        "ﬁne ①",
        "ｶﾞ",
        "é" * 40,
        "a" + "\u0301" * 50,
        "\ufff9x",
    ],
)
def test_the_quick_way_to_composed_text_gives_the_same(text: str) -> None:
    assert wording._composed(text) == composed(text)


@given(st.text(max_size=40))
def test_the_quick_way_gives_the_same_for_any_text(text: str) -> None:
    assert wording._composed(text) == composed(text)


FEW_BEYOND = st.lists(
    st.one_of(
        st.characters(max_codepoint=0x7F), st.sampled_from("éÉ“”…→İßΣςǅΐ\u0301\u200b\u1161\u212a½ﬁ한\u0345\ud800Ϊά\u0344")
    ),
    max_size=24,
).map("".join)


@given(FEW_BEYOND)
def test_folding_letter_by_letter_gives_the_same_as_folding_the_text(text: str) -> None:
    padded = text + " plain words" * 24
    assert wording.folded(padded) == composed(padded).casefold()


def test_each_letter_that_is_folded_by_itself_is_folded_as_the_text_would_be() -> None:
    for letter, form in wording._forms().items():
        assert form == composed(letter).casefold()
        for before in ("a", "A", "1", "\u00ea", "\u1100", "\u0391", "\u09c7"):
            padded = f"{before}{letter}{before} plain words in ASCII behind it, so that the letters are few"
            assert wording.folded(padded) == composed(padded).casefold()


def test_volatile_parts_are_masked() -> None:
    one = "Summarise https://a.example/1 of 2026-11-01 for order 4711 and 'this thing' now please, thank you very much"
    two = "Summarise https://b.example/2 of 2025-01-09 for order 1 and 'that other thing' now please, thank you very much"
    assert skeleton(one) == skeleton(two)


def test_the_system_text_is_part_of_the_template() -> None:
    assert template(("system", "You judge."), ("user", "x y z")) != template(("system", "You write."), ("user", "x y z"))


def test_long_texts_are_capped_at_both_ends() -> None:
    long = "start " + "word " * LONGEST + " the end of it all is here"
    assert skeleton(long).startswith("start word")
    assert skeleton(long).endswith("the end of it all is here"[-len("end of it all is here") :])


LONG = "é" * MOST


@pytest.mark.parametrize("role", ["user", "system"])
def test_no_signal_normalises_more_of_a_text_than_is_stated(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def counting(text: str) -> str:
        given.append(len(text))
        return composed(text)

    for cached in (wording._read, wording._undisguised, wording.skeleton, wording.hashed):
        cached.cache_clear()
    monkeypatch.setattr(wording, "_composed", counting)
    found = view((role, "x" + LONG * 4), ("user", "y" + LONG * 4))
    for name in ("prompt.template", "prompt.kin", "prompt.slots", "prompt.system"):
        found.get(name)
    assert 0 < sum(given) <= 2 * (LONGEST + 1) + 2 * (MOST + 1)


@pytest.mark.parametrize(("place", "length"), [(0, 3), (MOST, 3), (2 * MOST, 3), (0, 1)])
def test_long_fillings_that_differ_anywhere_are_told_apart(place: int, length: int) -> None:
    text = LONG * length
    assert hashed(text) == hashed(text.upper() if length == 1 else text)
    assert hashed(text) != hashed(text[:place] + "z" + text[place + 1 :])


def hashed(text: str) -> object:
    return view(("user", text)).get("prompt.slots")


def test_marks_of_a_caller_are_bounded_before_they_are_put_in_order() -> None:
    assert len(normalised("a" + "\u0315\u0300" * 50_000)) <= 1 + 30


@pytest.mark.parametrize(
    "part",
    ["a.b+c@mail.example.org", "https://a.example/x?y", '"any words"', "'any words'", "```a\nb```", "12:30", "ab12-cd34-ef56"],
)
def test_each_volatile_part_is_masked(part: str) -> None:
    assert masked(f"write {part} now") == "write _ now"


def test_an_apostrophe_is_no_quote() -> None:
    assert masked("don't mask what isn't quoted, 'but this' is") == "don't mask what isn't quoted, _ is"


def test_documents_filled_into_a_system_text_share_a_template() -> None:
    frame = "You write question and answer pairs from the text below, in JSON, and nothing else than that.\nText:\n{}"
    one, other = (frame.format(f"{what} stands here and goes on for long " * 40) for what in ("This", "Another document"))
    assert template(("system", one), ("user", "go")) == template(("system", other), ("user", "go"))
    assert template(("system", one), ("user", "go")) != template(("system", "You judge."), ("user", "go"))


def test_without_text_there_is_no_template() -> None:
    assert view(("user", " ")).get("prompt.template") == Missing("no user text")
    assert view(("system", "s")).get("prompt.slots") == Missing("no user text")


def test_turns_tools_and_lengths() -> None:
    found = view(("system", "abc"), ("user", "de"), ("assistant", "f"), ("tool", "g"))
    assert (found.get("prompt.turns"), found.get("prompt.length"), found.get("prompt.has_tool_results")) == (3, 7, True)
    assert isinstance(found.get("prompt.tools"), Missing)


def body_view(path: str, body: dict[str, object]) -> View:
    facts = INTAKE.facts(Head("POST", path, headers=(("anthropic-version", "1"),)), Body(raw=json.dumps(body).encode()), 0)
    assert facts.cause is None, facts.detail
    return View(facts, REGISTRY.signals)


def test_tool_results_keep_the_template_of_what_was_asked_in_every_protocol() -> None:
    """One protocol sends results as user messages, the others as messages of their own; none changes what the user said."""
    asked = "Please look up the weather of the town that I was born in, and say it in one short sentence of mine"
    anthropic = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "rain"}]},
    ]
    chat = [{"role": "user", "content": [{"type": "text", "text": asked}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"}]  # fmt: skip
    responses = [{"role": "user", "content": asked}, {"type": "function_call", "name": "f", "arguments": "", "call_id": "1"},
                 {"type": "function_call_output", "call_id": "1", "output": "rain"}]  # fmt: skip
    found = [
        body_view("/v1/messages", {"model": "m", "max_tokens": 9, "messages": anthropic}),
        body_view("/v1/chat/completions", {"model": "m", "messages": chat}),
        body_view("/v1/responses", {"model": "m", "input": responses}),
        view(("user", asked)),
    ]
    for name in ("prompt.template", "prompt.kin", "prompt.slots"):
        assert len({seen.get(name) for seen in found}) == 1


def test_a_call_that_holds_nothing_but_a_tool_result_has_a_template() -> None:
    result = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "rain in the hills"}]}]
    found = body_view("/v1/messages", {"model": "m", "max_tokens": 9, "messages": result})
    assert isinstance(found.get("prompt.template"), str)
    output = [{"type": "function_call_output", "call_id": "1", "output": "rain in the hills"}]
    assert body_view("/v1/responses", {"model": "m", "input": output}).get("prompt.slots") == found.get("prompt.slots")


def test_tools_are_known_by_their_parameters_in_any_order() -> None:
    def tool(name: str, *parameters: str) -> dict[str, object]:
        return {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": {p: {} for p in parameters}}},
        }

    def tools(*declared: dict[str, object]) -> object:
        messages = [{"role": "user", "content": "x"}]
        return body_view("/v1/chat/completions", {"model": "m", "messages": messages, "tools": list(declared)}).get(
            "prompt.tools"
        )

    one = tools(tool("read", "path", "lines"), tool("write", "path"))
    assert one == tools(tool("write", "path"), tool("read", "lines", "path"))
    assert one != tools(tool("read", "path"), tool("write", "path", "lines"))
    assert one != tools(tool("read", "path", "lines"))
    flat = {"type": "function", "name": "read", "parameters": {"properties": {"path": {}, "lines": {}}}}
    schema = {"name": "read", "input_schema": {"properties": {"lines": {}, "path": {}}}}
    messages = [{"role": "user", "content": "x"}]
    responses = body_view("/v1/responses", {"model": "m", "input": "x", "tools": [flat]}).get("prompt.tools")
    claude = body_view("/v1/messages", {"model": "m", "max_tokens": 1, "messages": messages, "tools": [schema]}).get(
        "prompt.tools"
    )
    assert responses == claude == tools(tool("read", "path", "lines"))


def test_several_prompts_of_one_completion_are_no_conversation() -> None:
    found = body_view("/v1/completions", {"model": "m", "prompt": ["one", "two", "three"]})
    assert found.get("prompt.turns") == 1


def test_no_text_leaves_the_module() -> None:
    found = view(("system", "CANARY-SYSTEM"), ("user", "CANARY-USER words that follow it"))
    for name in REGISTRY.signals:
        assert "canary" not in str(found.get(name)).lower()


def test_hashes_of_what_callers_wrote_need_the_secret() -> None:
    """Without the key nobody can try guesses against a record."""
    body = {"model": "m", "max_tokens": 5, "tools": [{"type": "function", "function": {"name": "t"}}],
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]}  # fmt: skip
    probe = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    found = []
    for key in (b"a key of the tests' own", b"another key of the tests"):
        catalogue = load_registry({"identity": {"hash_key": key}}).signals
        views = [
            View(INTAKE.facts(Head("POST", "/v1/chat/completions"), Body(raw=json.dumps(sent).encode()), 0), catalogue)
            for sent in (body, probe)
        ]
        names = ("prompt.template", "prompt.kin", "prompt.slots", "prompt.system", "prompt.tools")
        found.append([*(views[0].get(name) for name in names), views[1].get("reseller.probe")])
    assert not any(isinstance(value, Missing) for value in found[0])
    assert all(one != other for one, other in zip(*found, strict=True))
