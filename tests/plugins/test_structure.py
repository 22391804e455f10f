"""Shapes of prompts: each has hits in several wordings, and innocent twins that speak of the same things."""

from __future__ import annotations

import json
import time

import pytest

from gateway.plugins.structure import LONGEST_SYSTEM, LONGEST_USER, NAMES, SHAPES, Shapes
from gateway.plugins.wording import plain_bytes
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
LOOK = Shapes()
HITS = {
    "generate_n": [
        "Please come up with 12 rather hard questions on tides.", "Provide a list of short prompts about sewing.",
        "List several edge cases and examples for this parser", "give me five more variations",
    ],
    "make_task": [
        "Write one riddle-like puzzle", "Devise a question that only an expert can answer", "create question pairs",
        "Design tricky problems", "Escribe una pregunta difícil", "Rédiger une consigne",
        "Erstelle eine neue Aufgabe", "Gere perguntas",
        "请根据以下文本生成三个问题",
    ],
    "rewrite_task": ["Rephrase the query so that it is harder", "make it evolve: complicate this instruction a little"],
    "variety": ["The answers must be diverse", "avoid repeating yourself", "no duplicates please", "unique names only"],
    "training_data": ["this becomes training data", "rows of a fine-tuning dataset", "some synthetic examples"],
    "rubric": ["Rate the essay from 1 to 5", "give a score between 0 and 10 for style", "evaluate on a scale of 1-7"],
    "candidates": ["Response A:\nyes\n\nResponse B:\nno", "## Answer 1\nx\n## Answer 2\ny"],
    "answer_given": ["Question: 2+2\nCorrect answer: 4", "**Reference solution**: see below", "Ground truth output: x"],
    "asks_reasoning": [
        "think step by step", "explain in detail your reasoning", "justify the whole derivation",
        "请一步一步地思考", "Denk Schritt für Schritt",
    ],
    "reasoning_tags": ["put it in <think> and </think>", "between <scratchpad> marks"],
    "verbatim": ["repeat it verbatim", "word for word", "do not omit anything"],
    "multiple_choice": ["Which?\nA) one\nB) two", "(a) red\n(b) blue"],
    "answer_format": ["the answer as \\boxed{}", "End with Answer: $LETTER", "last line: the answer", "only with the letter"],
}  # fmt: skip
TWINS = {
    "generate_n": ["I have 12 questions. Generate nothing.", "we produce 5 cars", "Give me a hand with this"],
    "make_task": [
        "Write a solution to the following problem",
        "I made a mistake. This question is odd.",
        "create a function that sorts",
    ],
    "rewrite_task": ["rewrite this email politely", "simplify the fraction"],
    "variety": ["the universe is big", "is it the same?"],
    "training_data": ["when does my train leave", "a data set-top box"],
    "rubric": ["what is the exchange rate of the euro", "who scored the goal in 1966", "first grade maths"],
    "candidates": ["In response: a word.", "Answer one question", "text a friend\ntext me"],
    "answer_given": ["Do you know the correct answer?", "my final exam: maths"],
    "asks_reasoning": ["what are the steps of this recipe", "show me the way home"],
    "reasoning_tags": ["<p>think</p>", "I was thinking of you"],
    "verbatim": ["a word about it", "do not worry"],
    "multiple_choice": ["a) is all there is", "vitamins A and B"],
    "answer_format": ["answer me soon", "the last line of the poem", "only the lonely"],
}


def test_every_shape_has_hits_twins_a_meaning_and_a_confounder() -> None:
    assert tuple(HITS) == tuple(TWINS) == NAMES
    assert all(shape.meaning and shape.confounder for shape in SHAPES)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in HITS.items() for text in texts])
def test_a_shape_is_seen(name: str, text: str) -> None:
    assert name in LOOK.of(plain_bytes(text))


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TWINS.items() for text in texts])
def test_its_innocent_twin_is_not(name: str, text: str) -> None:
    assert name not in LOOK.of(plain_bytes(text))


@pytest.mark.parametrize(
    "disguise",
    [
        "D\u200bevise a que\u00adstion", "Ｄｅｖｉｓｅ ａ ｑｕｅｓｔｉｏｎ", "Dеvisе а quеstiоn", "Dévisè a qüestion",
        "𝐃𝐞𝐯𝐢𝐬𝐞 a 𝐪𝐮𝐞𝐬𝐭𝐢𝐨𝐧", "Devise  a\tquestion",
        "D e v i s e  a  q u e s t i o n", "DEVISE A QUESTION", "Devise a *question*", "Devisе\u034f a quesｔion",
    ],
)  # fmt: skip
def test_disguises_do_not_hide_a_shape(disguise: str) -> None:
    assert "make_task" in LOOK.of(plain_bytes(disguise))


@pytest.mark.parametrize("miss", ["D3vise a qu3stion", "D.e.v.i.s.e a question", "esivede a noitseuq", "Laadi küsimus"])
def test_what_is_known_to_hide_it(miss: str) -> None:
    """Digits for letters, dots between them, other orders, and languages that the patterns do not know."""
    assert "make_task" not in LOOK.of(plain_bytes(miss))


def structure(*messages: tuple[str, str]) -> object:
    body = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    facts = INTAKE.facts(Head("POST", "/v1/chat/completions"), Body(raw=json.dumps(body).encode()), 0)
    return View(facts, REGISTRY.signals).get("prompt.structure")


def test_system_text_and_last_user_message_are_one_text_and_nothing_else_is_looked_at() -> None:
    assert structure(("system", "Rate answers from 1 to 5."), ("user", "verbatim")) == {"rubric", "verbatim"}
    assert structure(("user", "verbatim"), ("assistant", "word for word"), ("user", "go on")) == frozenset()


def test_what_lies_in_the_middle_of_a_long_text_is_not_seen() -> None:
    """A known miss: texts are capped, the first three quarters and the last quarter of a stated number of characters stay."""
    for role, most in (("system", LONGEST_SYSTEM), ("user", LONGEST_USER)):
        ends = "x " * (most // 2)
        other = ("user", "go") if role == "system" else ("system", "you help")
        assert structure(other, (role, ends + "verbatim " + ends)) == frozenset()
        assert (
            structure(other, (role, ends + ends + " verbatim")) == structure(other, (role, "verbatim " + ends)) == {"verbatim"}
        )


@pytest.mark.parametrize(
    "bad",
    [
        "generate " * 4_000,
        "write a " * 4_000,
        "a) x\n" * 6_000,
        "response a\n" * 3_000,
        "answer " * 4_000,
        "rate 1 " * 4_000,
        "\u0300" * 30_000,
    ],
)
def test_no_text_makes_it_more_than_linear(bad: str) -> None:
    """Four times the text takes far less than sixteen times as long; the least of some runs, against noise."""
    LOOK.of(plain_bytes(bad))

    def least(text: bytes) -> int:
        found = []
        for _ in range(7):
            begin = time.thread_time_ns()
            LOOK.of(text)
            found.append(time.thread_time_ns() - begin)
        return min(found)

    whole = plain_bytes(bad)
    assert least(whole) < 12 * least(whole[: len(whole) // 4]) + 200_000


def test_real_clients_that_make_tasks_show_it_and_others_do_not() -> None:
    """On excerpts of real traffic: structure only, so that it holds for clients never seen."""
    wanted = {"generate_n", "make_task", "rewrite_task", "training_data"}
    shares: dict[str, dict[str, list[bool]]] = {}
    for capture in captures():
        if capture["method"] != "POST" or not isinstance(capture["body"], dict):
            continue
        facts = INTAKE.facts(Head("POST", capture["path"].partition("?")[0]), Body(document=capture["body"], size=0), 0)
        if facts.call is not None and not facts.call.tools:
            shown = View(facts, REGISTRY.signals).get("prompt.structure")
            assert isinstance(shown, frozenset)
            shares.setdefault(capture["label"], {}).setdefault(capture["client"], []).append(not wanted.isdisjoint(shown))
    showing = {label: [c for c, seen in clients.items() if sum(seen) >= 0.3 * len(seen)] for label, clients in shares.items()}
    assert len(showing["distill"]) >= 8
    assert showing["chat"] == []
    assert len(showing["product"]) <= 1
    assert len(showing["eval"]) <= 2


def test_half_a_character_breaks_no_pattern() -> None:
    assert Shapes().of(plain_bytes("\ud800 generate 20 new questions about whales")) >= {"generate_n"}
