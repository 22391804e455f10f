"""`prompt.kin`: frames share it as often as they are alike."""

from __future__ import annotations

import json
from random import Random

import pytest

from gateway.plugins.kinship import close_kin, kin
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(rng: Random, count: int) -> list[str]:
    found: set[str] = set()
    while len(found) < count:
        found.add("".join(rng.choices(LETTERS, k=rng.randint(4, 9))))
    return sorted(found, key=lambda word: rng.random())


def edited(rng: Random, frame: list[str], share: float) -> list[str]:
    """The frame with that share of its words replaced by new ones."""
    gone = set(rng.sample(range(len(frame)), round(share * len(frame))))
    fresh = words(rng, len(gone) + 1)
    return [fresh.pop() if place in gone else word for place, word in enumerate(frame)]


@pytest.mark.parametrize(("share", "stated"), [(0.05, 0.90), (0.10, 0.82), (0.20, 0.67)])
def test_edits_keep_the_kin_as_often_as_stated(share: float, stated: float) -> None:
    """1,500 pairs: three standard errors are .04."""
    rng, same = Random(11), 0
    for seed in range(1_500):
        frame = words(rng, 40)
        same += kin(" ".join(frame), seed) == kin(" ".join(edited(rng, frame, share)), seed)
    assert abs(same / 1_500 - stated) < 0.04


@pytest.mark.parametrize(("share", "stated"), [(0.05, 0.74), (0.10, 0.55), (0.20, 0.30)])
def test_edits_keep_the_close_kin_as_often_as_stated(share: float, stated: float) -> None:
    """1,500 pairs: three standard errors are .04."""
    rng, same = Random(12), 0
    for seed in range(1_500):
        frame = words(rng, 40)
        one, other = (f"{' '.join(said)}\ntask:\n" for said in (frame, edited(rng, frame, share)))
        same += close_kin(one, seed) == close_kin(other, seed)
    assert abs(same / 1_500 - stated) < 0.04


def test_only_frames_with_the_same_label_lines_are_close() -> None:
    assert close_kin("first words here\n\nlast words", 1) is None
    assert close_kin("first words here\ntask:\nlast words", 1) == close_kin("first words here\n\ntask:\nlast words", 1)
    assert close_kin("first words here\ntask:\nlast words", 1) != close_kin("first words here\ngoal:\nlast words", 1)


def test_unrelated_frames_with_the_same_labels_are_hardly_ever_close() -> None:
    rng = Random(13)
    common = words(rng, 90)
    frames = [f"{' '.join(rng.sample(common, 14))}\ntask:\n" for _ in range(400)]
    found = [close_kin(frame, 7) for frame in frames]
    pairs = sum(one == other for place, one in enumerate(found) for other in found[:place])
    assert pairs / (400 * 399 / 2) < 0.005


@pytest.mark.parametrize(("share", "least"), [(0.05, 0.90), (0.10, 0.80), (0.20, 0.60)])
def test_most_of_a_thousand_paraphrases_are_one_kin(share: float, least: float) -> None:
    rng, shares = Random(12), []
    for seed in range(20):
        frame = words(rng, 40)
        found = [kin(" ".join(edited(rng, frame, share)), seed) for _ in range(200)]
        shares.append(max(found.count(one) for one in set(found)) / len(found))
    assert sum(shares) / len(shares) >= least - 0.03


def test_unrelated_frames_share_it_rarely() -> None:
    rng = Random(13)
    common = words(rng, 30)
    same = 0
    for seed in range(1_000):  # a sixth of the words in common: J = 1/11
        one, two = (words(rng, 25) + rng.sample(common, 5) for _ in range(2))
        same += kin(" ".join(one), seed) == kin(" ".join(two), seed)
    assert same / 1_000 < 0.11


def test_the_order_of_words_and_short_words_do_not_matter() -> None:
    assert kin("the old man and the sea", 1) == kin("sea the man old", 1)
    assert kin("a b c", 1) == "a b c"


REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")


def top_share(frames: list[str], name: str) -> float:
    found = []
    for text in frames:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        facts = INTAKE.facts(Head("POST", "/v1/chat/completions"), Body(raw=json.dumps(body).encode()), 0)
        found.append(View(facts, REGISTRY.signals).get(name))
    return max(found.count(one) for one in set(found)) / len(found)


def test_a_preamble_of_its_own_for_every_request_makes_new_templates_and_one_kin() -> None:
    rng = Random(14)
    frame = "\n# Task at hand:\n{}\n# Expected format:\n{}\nPlease answer with the finished text alone, and nothing besides it."
    frames = [" ".join(words(rng, 4)) + "." + frame.format(*(" ".join(words(rng, 9)) for _ in range(2))) for _ in range(120)]
    assert top_share(frames, "prompt.template") < 0.05
    assert top_share(frames, "prompt.kin") > 0.6


def test_questions_of_real_people_are_no_kin() -> None:
    """Excerpts of plain SDK and HTTP clients: a prompt that many of them begin alike stays far below what rules look at."""
    asked = [
        str(capture["body"]["messages"][-1]["content"])
        for capture in captures()
        if capture["label"] == "chat" and isinstance(capture["body"], dict) and capture["body"].get("messages")
    ]
    assert len(set(asked)) > 30
    assert top_share(sorted(set(asked)), "prompt.kin") < 0.15
