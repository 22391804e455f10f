"""Where keys are found in a request, however they are spelled, and that two of them never pass for one."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from gateway.credentials import CARRIERS, carries, credential_hash, presented
from gateway.plugins.protocols.anthropic import Anthropic
from gateway.plugins.protocols.openai import OpenAI
from gateway.web.wire import request_head

KEY = b"a key of the tests' own"

CREDENTIALS = [
    ("Authorization: Bearer sk-1", OpenAI(), "sk-1", 1),
    ("Authorization: bearer   sk-1 ", OpenAI(), "sk-1", 1),
    ("api-key: sk-1", OpenAI(), "sk-1", 1),
    ("x-api-key: sk-1 | authorization: Bearer sk-2", Anthropic(), "sk-1", 2),
    ("x-api-key: sk-1 | authorization: Bearer sk-2", OpenAI(), "sk-2", 2),
    ("authorization: Bearer sk-2", Anthropic(), "sk-2", 1),
    ("authorization: Bearer sk-1 | authorization: Bearer sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | authorization: Bearer sk-1", OpenAI(), "sk-1", 1),
    ("x-api-key: sk-1 | authorization: Bearer sk-1", Anthropic(), "sk-1", 1),
    ("x-api-key: sk-1 | authorization: BEARER  sk-1", OpenAI(), "sk-1", 1),
    ("x-api-key: sk-1", None, "sk-1", 1),
    ("x-api-key: sk-1", OpenAI(), "sk-1", 1),
    ("x-goog-api-key: sk-2 | authorization: Bearer sk-1", OpenAI(), "sk-1", 2),
    ("x_api_key: sk-2 | authorization: Bearer sk-1", OpenAI(), "sk-1", 2),
    ("authorization: sk-2 | x-api-key: sk-1", Anthropic(), "sk-1", 2),
    ("authorization: Basic abc | x-api-key: sk-1", Anthropic(), "sk-1", 1),
    ("authorization: Bearer sk-1 | ?key=sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | ?a=b&key=sk-1", OpenAI(), "sk-1", 1),
    ("?key=sk-1", OpenAI(), "sk-1", 1),
    ("?KEY=sk%2D1&beta=true", None, "sk-1", 1),
    ("?key=sk-1&key=sk-2", OpenAI(), "sk-1", 2),
    ("?monkey=sk-1", OpenAI(), None, 0),
    ("authorization: Basic abc", OpenAI(), None, 0),
    ("authorization: Bearer ", OpenAI(), None, 0),
    ("api-key:  | ?key=", OpenAI(), None, 0),
    ("", OpenAI(), None, 0),
    ("authorization: Bearer sk-1 | ?%6bey=sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | ?access_token=sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | ?%61ccess%5Ftoken=sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | ?a=b;key=sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | ?X-API_Key=sk-2", OpenAI(), "sk-1", 2),
    ("x-goog-api-key: sk-1 | x-goog_api-key: sk-2", OpenAI(), "sk-1", 2),
    ("x-goog-api-key: sk-1 | X_Goog-Api_Key: sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | x-litellm-api-key: sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | x-litellm-api-key: Bearer sk-1", OpenAI(), "sk-1", 1),
    ("authorization: Bearer sk-1 | ocp-apim-subscription-key: sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 | apikey: sk-2", OpenAI(), "sk-1", 2),
    ("ocp-apim-subscription-key: sk-1", OpenAI(), "sk-1", 1),
    *(
        (f"x-api-key: sk-1 | authorization: {scheme} sk-2", Anthropic(), "sk-1", 2)
        for scheme in ("ApiKey", "Token", "Key", "X")
    ),
    *((f"authorization: {scheme} sk-1", OpenAI(), "sk-1", 1) for scheme in ("ApiKey", "TOKEN", "key", "Api-Key", "X")),
    ("authorization: Bearer sk-1 junk", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1 sk-1", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1, Bearer sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer sk-1,sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Bearer\tsk-1", OpenAI(), "sk-1", 1),
    ("authorization: Bearer \t sk-1", OpenAI(), "sk-1", 1),
    ("authorization: Bearer\xa0sk-1 | x-api-key: sk-2", OpenAI(), "sk-1", 2),
    ("authorization: Token | x-api-key: sk-1", OpenAI(), "sk-1", 1),
    ('authorization: Digest username="a", realm="b"', OpenAI(), None, 0),
    ("x-api-key: sk-1 junk", Anthropic(), "sk-1", 2),
]


@pytest.mark.parametrize(("sent", "dialect", "credential", "different"), CREDENTIALS)
def test_where_a_credential_is_found(sent: str, dialect: Any, credential: str | None, different: int) -> None:
    parts = [part.strip(" ") for part in sent.split("|") if part.strip()]
    query = next((part[1:] for part in parts if part.startswith("?")), "")
    headers = [tuple(part.split(": ", 1)) if ": " in part else (part[:-1], "") for part in parts if not part.startswith("?")]
    found = presented([(name.lower(), value) for name, value in headers], query, dialect)
    assert found.digest == (sha256(credential.encode()).digest() if credential else None)
    assert found.different == different
    assert "sk-" not in repr(found)


@pytest.mark.parametrize("named", [spelled for name in CARRIERS for spelled in (name, name.replace("-", "_", 1), name.upper())])
def test_connection_cannot_name_away_what_a_caller_is_judged_by(named: str) -> None:
    """Else the upstream would read another key than the gateway did, or none."""
    headers = [(b"connection", f"keep-alive, {named}, x-debug".encode()), (named.lower().encode(), b"sk-1"), (b"x-debug", b"1")]
    sent = request_head(b"GET / HTTP/1.1\r\n", headers, [], -1).lower()
    assert f"\r\n{named.lower()}: sk-1\r\n".encode() in sent
    assert b"x-debug" not in sent and b"connection" not in sent


def test_other_headers_carry_no_key() -> None:
    assert not any(map(carries, ("accept", "x-request-id", "proxy-authorization", "key")))


def test_hashes_need_the_secret() -> None:
    digest = sha256(b"sk-1").digest()
    assert credential_hash(digest, KEY) != credential_hash(digest, b"another key of the tests")
