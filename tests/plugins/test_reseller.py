"""Client signatures: what is claimed, what is seen, and where the two disagree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.facts import Facts
from gateway.plugins.reseller import json_style
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.values import Missing
from gateway.web.intake import Body, Head, Intake
from tests.captures import captures

REGISTRY = load_registry({})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")


def view(headers: dict[str, str] | None = None, raw: bytes | None = None, **facts: Any) -> View:
    head = Head("POST", "/v1/chat/completions", headers=tuple((headers or {}).items()), peer=facts.get("peer"))
    return View(
        INTAKE.facts(head, Body(raw=raw), 0) if raw is not None else Facts(at=0, headers=head.headers, **facts),
        REGISTRY.signals,
    )


@pytest.mark.parametrize(
    ("agent", "family", "version", "runtime"),
    [
        ("OpenAI/Python 3.54.0", "openai", "3.54.0", "python"),
        ("AsyncOpenAI/Python 2.54.0", "asyncopenai", "2.54.0", "python"),
        ("OpenAI/JS 5.23.2", "openai", "5.23.2", "node"),
        ("Python/3.11 aiohttp/3.13.5", "python", "3.11", "python"),
        ("python-httpx/0.28.1", "python-httpx", "0.28.1", "python"),
        ("claude-cli/2.1.197 (external, sdk-cli)", "claude-cli", "2.1.197", "node"),
        ("curl/7.88.1", "curl", "7.88.1", "curl"),
        ("Go-http-client/1.1", "go-http-client", "1.1", "go"),
        ("node", "node", None, "node"),
        ("Mozilla", "mozilla", None, None),
    ],
)
def test_what_a_user_agent_claims(agent: str, family: str, version: str | None, runtime: str | None) -> None:
    found = view({"user-agent": agent})
    assert found.get("client.family") == family
    for name, wanted in (("client.claimed_version", version), ("client.runtime", runtime)):
        assert found.get(name) == wanted if wanted else isinstance(found.get(name), Missing)


def test_the_fingerprint_is_the_order_of_names() -> None:
    first = view({"accept": "a", "user-agent": "b", "x-one": "c"}).get("client.fingerprint")
    assert first == view({"accept": "x", "user-agent": "y", "x-one": "z"}).get("client.fingerprint")
    assert first == view({"accept": "a", "host": "h", "user-agent": "b", "content-length": "9", "x-one": "c"}).get(
        "client.fingerprint"
    )
    assert first != view({"user-agent": "b", "accept": "a", "x-one": "c"}).get("client.fingerprint")


BODY = {"model": "m", "messages": [{"role": "user", "content": "a < b & c é"}], "stream": False, "n": 1}


def dumped(escape: bool = False, **options: Any) -> str:
    text = json.dumps(BODY, separators=(",", ":"), ensure_ascii=False, **options)
    return text.replace("<", "\\u003c").replace("&", "\\u0026") if escape else text


@pytest.mark.parametrize(
    ("raw", "style"),
    [
        (json.dumps(BODY), {"spaced", "ascii-escapes"}),
        (dumped(), {"compact", "raw-utf8"}),
        (dumped(sort_keys=True), {"compact", "raw-utf8", "keys-sorted", "content-before-role"}),
        (dumped(escape=True), {"compact", "raw-utf8", "html-escapes"}),
        (json.dumps({**BODY, "messages": [{"role": "user", "content": "the text \\u003c itself"}]}), {"spaced"}),
        (json.dumps(BODY, indent=2), {"ascii-escapes"}),
        ('{"a":"x: y, z"}', {"compact"}),
    ],
)
def test_how_a_body_was_serialised(raw: str, style: set[str]) -> None:
    assert json_style(raw.encode(), tuple(json.loads(raw))) == style


def contradictions(headers: dict[str, str], raw: str) -> object:
    return view(headers, raw.encode()).get("reseller.contradictions")


def test_a_go_serialiser_below_a_python_sdk() -> None:
    raw = json.dumps(BODY, separators=(",", ":")).replace("<", "\\u003c")
    agent = {"user-agent": "OpenAI/Python 3.54.0", "x-stainless-lang": "python"}
    assert contradictions(agent, raw) == {"go-escapes"}
    assert contradictions({"user-agent": "Go-http-client/1.1"}, raw) == frozenset()


def test_an_sdk_without_its_headers() -> None:
    assert contradictions({"user-agent": "OpenAI/Python 3.54.0"}, json.dumps(BODY)) == {"sdk-headers-stripped"}


def test_a_response_header_in_a_request() -> None:
    assert contradictions({"user-agent": "node", "x-accel-buffering": "no"}, json.dumps(BODY)) == {"response-header"}


def test_without_a_body_nothing_is_known_of_its_style() -> None:
    assert isinstance(view({}).get("client.json_style"), Missing)


def test_honest_clients_do_not_contradict_themselves() -> None:
    """Over the excerpt of real clients: none but relays disagrees with what it claims."""
    found = set()
    for capture in captures():
        path = capture["path"].partition("?")[0]
        headers = tuple((name.lower(), value) for name, value in capture["headers"])
        facts = INTAKE.facts(Head(capture["method"], path, headers=headers), Body(document=capture["body"]), 0)
        if View(facts, REGISTRY.signals).get("reseller.contradictions"):
            found.add(capture["label"])
    assert found <= {"relay"}


def test_forwarded_end_users_are_counted_not_trusted() -> None:
    assert view({"x-forwarded-for": "8.8.4.4, 10.0.0.1"}, peer="192.0.2.1").get("reseller.forwarded_client") == "8.8.4.4"
    assert isinstance(view({"x-forwarded-for": "10.0.0.1"}, peer="192.0.2.1").get("reseller.forwarded_client"), Missing)


def test_a_probe_is_one_short_message_with_a_tiny_answer() -> None:
    probe = json.dumps({"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]})
    again = json.dumps({"model": "n", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi "}]})
    assert view({}, probe.encode()).get("reseller.probe") == view({}, again.encode()).get("reseller.probe")
    assert isinstance(view({}, json.dumps(BODY).encode()).get("reseller.probe"), Missing)
