"""Batches and uploads: each entry is read as strictly as a call of its own, and the end of a file hides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decision import Restriction
from gateway.facts import Call, Cause, Facts
from gateway.forms import MOST_PARTS, File, read_form
from gateway.plugins.protocols import entries
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.protocol import Unreadable
from gateway.registry import load as load_registry
from gateway.signals import View
from gateway.web.intake import Body, Head, Intake

REGISTRY = load_registry({"identity": {"hash_key": b"a key of the tests' own"}})
INTAKE = Intake(REGISTRY, b"a key of the tests' own")
TYPE = "multipart/form-data; boundary=XyZ"


def line(text: str, url: str = "/v1/chat/completions", **more: Any) -> bytes:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}
    return json.dumps({"custom_id": text, "method": "POST", "url": url, "body": body}).encode()


def form(data: bytes, purpose: str = "batch") -> bytes:
    return (b'--XyZ\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode() + b"\r\n--XyZ\r\n"
            b'Content-Disposition: form-data; name="file"; filename="b.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
            + data + b"\r\n--XyZ--\r\n")  # fmt: skip


def facts(path: str, raw: bytes, kind: str = "application/json", *headers: tuple[str, str]) -> Facts:
    return INTAKE.facts(Head("POST", path, headers=(("content-type", kind), *headers)), Body(raw=raw), 0)


def called(found: Facts) -> Call:
    assert found.cause is None, found.detail
    assert found.call is not None
    return found.call


def uploaded(lines: Iterable[bytes], purpose: str = "batch") -> Facts:
    return facts("/v1/files", form(b"\n".join(lines), purpose), TYPE)


def test_every_line_of_an_upload_is_read() -> None:
    found = uploaded([line("one"), b"", line("two", max_tokens=11, tools=[{"type": "function", "function": {"name": "f"}}]),
                      line("", "/v1/embeddings", input=["three"]), b""])  # fmt: skip
    call = called(found)
    assert (found.protocol, found.route, found.body, found.keys) == ("openai", "files", None, ("purpose", "file"))
    assert (call.operation, call.entries, call.model, call.models, call.max_tokens) == ("batch", 3, "m", ("m",), 11)
    assert sorted(message.text for message in call.messages) == ["one", "three", "two"]
    assert call.tools == ("f",)
    view = View.of(found, REGISTRY.signals)
    assert view.get("request.entries") == 3
    assert view.get("request.models") == {"m"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line("one"), b'{"url": '], "line 2: it is not JSON"),
        ([line("one"), b'{"url": "/v1/a", "url": "/v1/b"}'], "line 2: the key 'url' stands twice"),
        ([b"7"], "line 1 must name in 'url' one of /v1/chat/completions"),
        ([line("one", "/v1/secret-route")], "line 1 must name in 'url' one of"),
        ([line("one", messages="s3cret")], "line 1: 'messages' must be a list"),
        ([b'{"url": "/v1/chat/completions", "body": [1]}'], "line 1 must be an object with 'body'"),
        ([b"", b"  "], "at least one entry"),
    ],
)
def test_a_line_that_cannot_be_read_refuses_the_upload(lines: list[bytes], words: str) -> None:
    found = uploaded(lines)
    assert found.cause is Cause.BODY_MALFORMED
    assert words in found.detail
    assert "s3cret" not in found.detail


def test_files_for_something_else_say_what_they_are_for() -> None:
    call = called(uploaded([b"\x00\xff not JSON"], "assistants"))
    assert (call.operation, call.parameters, call.messages, call.entries) == ("file", {"purpose": "assistants"}, (), None)


def test_the_end_of_a_file_hides_nothing() -> None:
    """One harmless line behind many of one template: the template is what signals of one prompt see."""
    many = [line(f"Rewrite the following text in the style of a manual, please: subject {n}") for n in range(40)]
    plain, masked = (View.of(uploaded(lines), REGISTRY.signals) for lines in (many, [line("hello"), *many, line("thanks!")]))
    assert masked.get("prompt.template") == plain.get("prompt.template")
    assert masked.get("request.entries") == 42


def test_a_batch_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_ENTRIES", 3)
    assert called(uploaded([line("x")] * 3)).entries == 3
    assert "at most 3 entries" in uploaded([line("x")] * 4).detail


def test_batches_of_messages() -> None:
    def entry(text: str, model: str) -> dict[str, Any]:
        params = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": text}], "system": "s"}
        return {"custom_id": text, "params": params}

    raw = json.dumps({"requests": [entry("one", "a"), entry("two", "b")]}).encode()
    call = called(facts("/v1/messages/batches", raw))
    assert (call.operation, call.entries, call.model, call.models, call.system) == ("batch", 2, None, ("a", "b"), "s")
    document = json.loads(raw)
    assert Anthropic().restrict("batches", document, Restriction(max_tokens=2)) == ["max_tokens=2"]
    assert [item["params"]["max_tokens"] for item in document["requests"]] == [2, 2]
    for wrong in ({}, {"requests": []}, {"requests": [7]}, {"requests": [{"params": {}}]}):
        assert facts("/v1/messages/batches", json.dumps(wrong).encode()).cause is Cause.BODY_MALFORMED


def test_batches_of_contents() -> None:
    request = {"contents": [{"role": "user", "parts": [{"text": "one"}]}]}
    inside = {"batch": {"input_config": {"requests": {"requests": [{"request": request}, {"request": request}]}}}}
    path = "/v1beta/models/large-2:batchGenerateContent"
    call = called(facts(path, json.dumps(inside).encode()))
    assert (call.entries, call.model, [message.text for message in call.messages]) == (2, "large-2", ["one", "one"])
    stored = called(facts(path, json.dumps({"batch": {"inputConfig": {"fileName": "files/1"}}}).encode()))
    assert (stored.operation, stored.entries) == ("batch", None)


@pytest.mark.parametrize(
    ("method", "path", "headers", "known"),
    [
        ("POST", "/v1/responses/resp_1/cancel", (), ("openai", "response.cancel", "/v1/responses/*/cancel")),
        ("GET", "/v1/responses/resp_1/input_items", (), ("openai", "response.items", "/v1/responses/*/input_items")),
        ("DELETE", "/v1/responses/resp_1", (), ("openai", "response", "/v1/responses/*")),
        ("GET", "/v1/conversations/c/items/i", (), ("openai", "conversation.item", "/v1/conversations/*/items/*")),
        ("GET", "/v1/files/f/content", (), ("openai", "file.content", "/v1/files/*/content")),
        ("GET", "/v1/files/f/content", (("anthropic-version", "1"),), ("anthropic", "file.content", "/v1/files/*/content")),
        ("GET", "/v1/messages/batches/b/results", (), ("anthropic", "batch.results", "/v1/messages/batches/*/results")),
        ("POST", "/v1beta/batches/b:cancel", (), ("gemini", "batch.cancel", "/v1beta/batches/*:cancel")),
        ("GET", "/v1/models", (("x-goog-api-key", "k"),), ("gemini", "models", "/v1/models")),
        ("GET", "/v1/responses//cancel", (), None),
        ("GET", "/v1/responses/a/b/cancel", (), None),
        ("POST", "/v1/responses/resp_1/delete", (), None),
        ("POST", "/v1/files/../content", (), None),
    ],
)
def test_routes_are_known(method: str, path: str, headers: Any, known: tuple[str, str, str] | None) -> None:
    found = INTAKE.facts(Head(method, path, headers=headers), Body(), 0)
    assert (found.cause is Cause.ROUTE_UNRECOGNISED) is (known is None)
    assert (found.protocol, found.route, found.template) == (known or (None, None, None))


def test_no_key_is_two_protocols_by_accident() -> None:
    """Every route names a path that its own pattern matches, and no other route of the same mark."""
    for dialect in REGISTRY.dialects.values():
        for route in dialect.routes:
            sent = {route.marked_by: "x"}
            path = route.path.replace("*", "thing")
            found = REGISTRY.route(route.method, path, sent.get)
            assert found is not None
            assert (found[0].name, found[1].name, found[1].path) == (dialect.name, route.name, route.path)


@pytest.mark.parametrize(
    ("path", "document", "told"),
    [
        ("/v1/moderations", {"input": ["a", {"type": "text", "text": "b"}], "model": "o"}, ("moderation", ["a", "b"])),
        ("/v1/images/generations", {"prompt": "a cat", "n": 2, "model": "i"}, ("image", ["a cat"])),
        ("/v1/audio/speech", {"input": "hello", "voice": "v"}, ("speech", ["hello"])),
        ("/v1/batches", {"input_file_id": "f", "endpoint": "/v1/responses"}, ("batch", [])),
        ("/v1/conversations", {"items": [{"role": "user", "content": "hi"}]}, ("chat", ["hi"])),
        ("/v1/conversations/c/items", {"items": [{"role": "user", "content": "hi"}]}, ("chat", ["hi"])),
        ("/v1/responses/input_tokens", {"input": "hi", "max_output_tokens": 4}, ("count_tokens", ["hi"])),
    ],
)
def test_other_bodies_are_read_for_their_words(path: str, document: Any, told: tuple[str, list[str]]) -> None:
    call = called(facts(path, json.dumps(document).encode()))
    assert (call.operation, [message.text for message in call.messages]) == told


def test_transcriptions_are_forms() -> None:
    raw = form(b"\x00audio", "x").replace(b'name="purpose"', b'name="prompt"')
    call = called(facts("/v1/audio/transcriptions", raw, TYPE))
    assert (call.operation, [message.text for message in call.messages]) == ("transcription", ["x"])


# Forms


@pytest.mark.parametrize("kind", ["application/json", "multipart/mixed; boundary=XyZ", ""])
def test_a_form_must_be_one(kind: str) -> None:
    found = facts("/v1/files", form(b""), kind)
    assert (found.cause, found.detail) == (Cause.MEDIA_TYPE, "send it as multipart/form-data")


def test_two_types_are_none() -> None:
    found = facts("/v1/files", form(line("x")), TYPE, ("content-type", "multipart/form-data; boundary=Other"))
    assert found.cause is Cause.MEDIA_TYPE


BROKEN = (
    (b"preamble\r\n" + form(b"x"), "begin with its boundary"),
    (form(b"x") + b"more", "end with it"),
    (form(b"x").removesuffix(b"--\r\n"), "end with it"),
    (b"", "begin with its boundary"),
    (form(b"x").replace(b'name="file"', b'name="purpose"'), "'purpose' stands twice"),
    (form(b"x").replace(b"Content-Type: application/jsonl", b'content-disposition: form-data; name="z"'), "one twice"),
    (form(b"x").replace(b"Content-Type: application/jsonl", b"Content-Transfer-Encoding: base64"), "once more"),
    (form(b"x").replace(b'name="file"', b'name="fi\\"le"'), "no escapes"),
    (form(b"x").replace(b'name="file"', b'name="file"; name="other"'), "one Content-Disposition with a name"),
    (form(b"x").replace(b'name="file"; ', b""), "with a name"),
    (form(b"x", "\u00e9").replace("\u00e9".encode(), b"\xff"), "neither a file nor UTF-8"),
    (b"".join(b'--XyZ\r\ncontent-disposition: form-data; name="n[]"\r\n\r\n\r\n' for _ in range(MOST_PARTS + 1)) + b"--XyZ--",
     f"more than {MOST_PARTS} parts"),
)  # fmt: skip


@pytest.mark.parametrize(("raw", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_forms_that_could_be_read_two_ways_are_refused(raw: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_form(TYPE, raw)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=a; boundary=b", 'x; boundary="a\\"b"'])
def test_a_form_needs_one_boundary(kind: str) -> None:
    with pytest.raises(Unreadable, match="one boundary"):
        read_form(kind, form(b"x"))


NAMES = st.text("abcxyz[]_", min_size=1, max_size=5).filter(lambda name: not name.endswith("[]"))


@given(
    st.dictionaries(
        NAMES, st.binary(max_size=30).filter(lambda data: b"\r\n--XyZ" not in data) | st.text(max_size=9), max_size=4
    )
)
def test_what_is_written_is_read(fields: dict[str, str | bytes]) -> None:
    fields = {"first": "x", **fields}
    raw = b""
    for name, value in fields.items():
        file = '; filename="f"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        raw += f'--XyZ\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    expected = {name: File(value) if isinstance(value, bytes) else value for name, value in fields.items()}
    assert read_form(TYPE, raw + b"--XyZ--\r\n") == expected


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_form(TYPE, data)
