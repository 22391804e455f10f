"""Client signatures: what is claimed, what the wire shows, and what is counted by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.facts import Facts
from gateway.plugins.wire import Style, json_style
from gateway.registry import load
from gateway.values import Missing
from tests.plugins.wires import (
    AGENT,
    CHAT,
    CURL,
    OTHER_PYTHON,
    PLAIN,
    PYTHON,
    START,
    TALK,
    but,
    registry,
    sent,
    signal,
    written,
)

JA4 = "t13d1516h2_8daaf6152771_02713d6af862"


def bare(agent: str) -> Facts:
    return Facts(at=START, headers=(("user-agent", agent),))


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
        ("Bun/1.4.0", "bun", "1.4.0", "bun"),
        ("Deno/2.1.4", "deno", "2.1.4", "deno"),
        ("reqwest/0.12.1", "reqwest", "0.12.1", "rust"),
        ("okhttp/4.12.0", "okhttp", "4.12.0", "java"),
        ("OpenAI/Java 1.2.0", "openai", "1.2.0", "java"),
        ("azsdk-net-OpenAI/2.1.0 (.NET 8.0.1; Linux)", "azsdk-net-openai", "2.1.0", "dotnet"),
        ("GuzzleHttp/7", "guzzlehttp", None, "php"),
        ("Faraday v2.9.0", "faraday", "2.9.0", "ruby"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "mozilla", "5.0", "browser"),
        ("Mozilla", "mozilla", None, None),
        ("x" * 500, "x" * 40, None, None),
    ],
)
def test_what_a_user_agent_claims(agent: str, family: str, version: str | None, runtime: str | None) -> None:
    for name, wanted in (("family", family), ("claimed_version", version), ("runtime", runtime)):
        found = signal(f"client.{name}", bare(agent))
        assert found == wanted if wanted else isinstance(found, Missing)


def test_what_sdk_headers_claim_goes_before_the_user_agent() -> None:
    assert signal("client.runtime", sent(but(PLAIN, {"x-stainless-lang": "js"}))) == "node"
    assert signal("client.runtime", sent(but(PLAIN, {"x-stainless-lang": "js", "x-stainless-runtime": "bun"}))) == "bun"
    assert signal("client.runtime", sent(but(PYTHON, {"user-agent": "curl/8.5.0"}))) == "python"
    assert isinstance(signal("client.family", sent(but(PLAIN, without=["user-agent"]))), Missing)


@pytest.mark.parametrize(
    ("headers", "runtime"),
    [
        (("host", "user-agent", "content-length", "accept", "authorization", "content-type", "x-one", "accept-encoding"), "go"),
        (("host", "user-agent", "content-length", "content-type", "accept", "authorization", "x-one"), None),
        (("host", "user-agent", "content-length", "accept"), None),
        (("user-agent", "accept-encoding", "accept", "connection", "content-length"), "python"),
        (("host", "accept", "user-agent", "accept-encoding"), None),
    ],
)
def test_what_header_order_shows(headers: tuple[str, ...], runtime: str | None) -> None:
    found = signal("client.wire_runtime", Facts(at=START, headers=tuple((name, "x") for name in headers)))
    assert found == runtime if runtime else isinstance(found, Missing)


@pytest.mark.parametrize(
    ("headers", "runtime"),
    [
        ({"accept-language": "*", "sec-fetch-mode": "cors"}, "node"),
        ({"sec-fetch-mode": "cors", "sec-fetch-site": "same-origin"}, "browser"),
        ({"accept": "application/json, text/plain, */*", "accept-encoding": "gzip, compress, deflate, br"}, "node"),
        ({"accept-encoding": "gzip, deflate, br"}, None),
    ],
)
def test_what_header_defaults_show(headers: dict[str, str], runtime: str | None) -> None:
    found = signal("client.wire_runtime", Facts(at=START, headers=tuple(headers.items())))
    assert found == runtime if runtime else isinstance(found, Missing)


def test_what_a_serialiser_shows() -> None:
    escaped = written(CHAT).replace(b"<", b"\\u003c")
    assert signal("client.wire_runtime", sent(PLAIN, escaped)) == "go"
    assert signal("client.wire_runtime", sent(PLAIN, escaped.replace(b"3c", b"3C"))) == "dotnet"
    assert signal("client.wire_runtime", sent(PLAIN, json.dumps(CHAT).encode())) == "python"
    assert isinstance(signal("client.wire_runtime", sent(PLAIN, CHAT)), Missing)
    both = but(PLAIN, {"accept-language": "*", "sec-fetch-mode": "cors"})
    assert isinstance(signal("client.wire_runtime", sent(both, escaped)), Missing)


def test_header_order_is_a_trusted_proxys_own() -> None:
    go = ("host", "user-agent", "content-length", "accept", "authorization", "content-type", "x-one")
    headers = tuple((name, "x") for name in go)
    behind = registry(ja4=True)
    assert signal("client.wire_runtime", Facts(at=START, headers=headers, peer="203.0.113.9"), behind) == "go"
    assert isinstance(signal("client.wire_runtime", Facts(at=START, headers=headers, peer="192.0.2.7"), behind), Missing)


def test_the_fingerprint_is_the_order_of_names() -> None:
    found = signal("client.fingerprint", sent(PYTHON))
    assert found == signal("client.fingerprint", sent(but(PYTHON, {"accept": "x", "user-agent": "y"})))
    assert found != signal("client.fingerprint", sent(PYTHON[::-1]))
    assert found != signal("client.fingerprint", sent(but(PYTHON, {"x-one": "z"})))


@pytest.mark.parametrize(
    "name",
    ["traceparent", "x-request-id", "idempotency-key", "x-forwarded-for", "cf-ray", "via", "cookie",
     "x-stainless-helper-method",
     "x-envoy-attempt-count", "content-encoding", "x-amzn-trace-id"],
)  # fmt: skip
def test_what_varies_per_request_or_hop_is_no_part_of_the_fingerprint(name: str) -> None:
    with_it = Facts(at=START, headers=((name, "x"), *PYTHON))
    assert signal("client.fingerprint", with_it) == signal("client.fingerprint", Facts(at=START, headers=PYTHON))


def test_ja4_is_believed_from_a_trusted_edge_only() -> None:
    behind = registry(ja4=True)
    passed = but(PYTHON, {"x-edge-ja4": JA4})
    assert signal("client.ja4", sent(passed, peer="192.0.2.7"), behind) == JA4
    told = [sent(passed, peer="203.0.113.9"), sent((*passed, ("x-edge-ja4", JA4)), peer="192.0.2.7"),
            sent(but(PYTHON, {"x-edge-ja4": "junk"}), peer="192.0.2.7"), sent(PYTHON, peer="192.0.2.7")]  # fmt: skip
    assert all(isinstance(signal("client.ja4", facts, behind), Missing) for facts in told)
    assert isinstance(signal("client.ja4", sent(passed, peer="192.0.2.7")), Missing)
    plain = signal("client.fingerprint", sent(PYTHON, peer="192.0.2.7"), behind)
    assert signal("client.fingerprint", sent(but(PYTHON, {"x-edge-ja4": JA4}), peer="203.0.113.9"), behind) != plain
    seen = [signal("client.fingerprint", sent(but(PYTHON, {"x-edge-ja4": ja4}), peer="192.0.2.7"), behind)
            for ja4 in (JA4, JA4.replace("h2", "h1"))]  # fmt: skip
    assert seen[0] != seen[1]


BODY = {"model": "m", "messages": [{"role": "user", "content": "a < b & c é"}], "stream": False, "n": 1}


def dumped(escape: bool = False, **options: Any) -> str:
    text = json.dumps(BODY, separators=(",", ":"), ensure_ascii=False, **options)
    return text.replace("<", "\\u003c").replace("&", "\\u0026") if escape else text


def saying(text: str) -> str:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("raw", "style"),
    [
        (json.dumps(BODY), {"spaced", "ascii-escapes"}),
        (dumped(), {"compact", "raw-utf8"}),
        (dumped(sort_keys=True), {"compact", "raw-utf8", "keys-sorted", "content-before-role"}),
        (dumped(escape=True), {"compact", "raw-utf8", "html-escapes"}),
        (saying("the text \\u003c itself"), {"spaced"}),
        (saying('a \\" quote of "role": "x" and {"content": 1}'), {"spaced"}),
        (json.dumps(BODY, indent=2), {"ascii-escapes"}),
        ('{"a":"x: y, z"}', {"compact"}),
        (dumped().replace("é", "\\u00E9"), {"compact", "upper-escapes"}),
        (dumped().replace("é", "a\\/b"), {"compact", "slash-escapes"}),
        (dumped().replace("é", "\\\\/"), {"compact"}),
        (dumped().replace("é", "\\u001b[1m"), {"compact"}),
        (dumped().replace("é", "\\ud83d"), {"compact"}),
        (dumped().replace("é", "") + "\n", {"compact", "trailing-newline"}),
        (dumped().replace("é", "").replace('"role":"', '"role": "'), {"compact", "mixed-separators"}),
        ('{"temperature":1.0,"model":"m"}', {"compact", "whole-floats"}),
        ('{"temperature":1.05,"top_p":1}', {"compact"}),
        (f'{{"messages":["{"x" * 90_000}"],"top_p":1.0}}', {"compact", "whole-floats"}),
        (f'{{"messages":["{"x" * 90_000}\\u003c"],"n":1}}', {"compact", "html-escapes"}),
    ],
)
def test_how_a_body_was_serialised(raw: str, style: set[str]) -> None:
    assert json_style(raw.encode(), tuple(json.loads(raw))) == style


@given(st.binary(max_size=400) | st.text(alphabet='\\u003c/{}[]":, rolecontentmessages', max_size=400).map(str.encode))
def test_any_bytes_have_a_style_of_known_words(raw: bytes) -> None:
    assert json_style(raw, ("temperature",)) <= set(Style)


def test_style_is_read_the_same_through_the_signal() -> None:
    assert signal("client.json_style", sent(PLAIN, dumped().encode())) == {"compact", "raw-utf8"}
    assert isinstance(signal("client.json_style", Facts(at=0)), Missing)
    assert isinstance(signal("client.json_style", Facts(at=0, keys=("b", "a"))), Missing)
    assert signal("client.json_style", Facts(at=0, keys=("a", "b", "c", "d"))) == {"keys-sorted"}


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (("model", "messages"), "model-first"), (("messages", "model"), "model-later"),
        (("model", "stream", "messages"), "stream-first"), (("messages", "model", "stream"), "stream-later"),
        (("input", "model"), "model-later"), (("model", "prompt"), "model-first"), (("model",), None), (("messages",), None),
    ],
)  # fmt: skip
def test_the_order_of_what_every_body_has(keys: tuple[str, ...], order: str | None) -> None:
    found = signal("client.key_order", Facts(at=0, keys=keys))
    assert found == order if order else isinstance(found, Missing)


def test_the_shape_of_a_body_is_its_keys_in_order() -> None:
    shape = signal("client.body_shape", sent(PLAIN, CHAT))
    assert shape == signal("client.body_shape", sent(PLAIN, {**CHAT, "model": "other"}))
    assert shape != signal("client.body_shape", sent(PLAIN, dict(reversed(CHAT.items()))))
    assert isinstance(signal("client.body_shape", Facts(at=0)), Missing)


def test_the_machine_an_sdk_states() -> None:
    machine = signal("client.sdk_tuple", sent(PYTHON))
    assert machine == signal(
        "client.sdk_tuple", sent(but(PYTHON, {"x-stainless-retry-count": "3", "authorization": "Bearer sk-b"}))
    )
    assert machine != signal("client.sdk_tuple", sent(but(PYTHON, {"x-stainless-os": "MacOS"})))
    assert machine != signal("client.sdk_tuple", sent(but(PYTHON, {"user-agent": "OpenAI/Python 3.2.0"})))
    assert isinstance(signal("client.sdk_tuple", sent(PLAIN)), Missing)


@pytest.mark.parametrize(
    ("said", "retry"), [("0", 0), ("7", 7), ("9999", 1000), ("99999", None), ("-1", None), ("x", None), ("", None)]
)
def test_which_retry_an_sdk_says_it_is(said: str, retry: int | None) -> None:
    found = signal("client.retry", sent(but(PYTHON, {"x-stainless-retry-count": said})))
    assert found == retry if retry is not None else isinstance(found, Missing)


DEVICE, SESSION = "9610ab1c48a9af6d634166cc6c4401795877381daf16558fb0bfebf861d12b6c", "7d9d6d7b-5c49-4003-8528-9d735217a27e"


@pytest.mark.parametrize(
    "user",
    [f'{{"device_id":"{DEVICE}","account_uuid":"","session_id":"{SESSION}"}}', f"user_{DEVICE}_account__session_{SESSION}"],
)
def test_session_and_device_are_found_in_either_way_of_writing_them(user: str) -> None:
    facts = sent(OTHER_PYTHON, {**TALK, "metadata": {"user_id": user}})
    plain = sent(but(AGENT, {"x-claude-code-session-id": SESSION}), TALK)
    assert signal("client.session", facts) == signal("client.session", plain)
    assert signal("client.device", facts) == signal("client.device", sent(AGENT, {**TALK, "metadata": {"user_id": user}}))
    assert DEVICE not in signal("client.device", facts)
    assert isinstance(signal("client.device", plain), Missing)


def test_hashes_of_callers_own_values_are_keyed() -> None:
    other = load({"identity": {"hash_key": b"another key"}})
    facts = sent(but(AGENT, {"x-session-id": SESSION}), TALK)
    assert signal("client.session", facts) != signal("client.session", facts, other)


@pytest.mark.parametrize("user", ["customer-17", "x" * 5_000, "[" * 1_000, ""])
def test_other_end_users_name_no_session(user: str) -> None:
    facts = sent(OTHER_PYTHON, {**TALK, "metadata": {"user_id": user}})
    assert all(isinstance(signal(f"client.{name}", facts), Missing) for name in ("session", "device"))


def test_curl_shows_nothing_of_its_own() -> None:
    assert isinstance(signal("client.wire_runtime", sent(CURL)), Missing)
