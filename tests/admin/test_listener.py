"""The admin listener of a real process: who may ask, what is told, and that its OpenAPI document is true."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from gateway.admin.access import GUESSES
from gateway.admin.operations import OPERATIONS
from gateway.config import load_config
from gateway.errors import ConfigError
from tests.admin.conftest import OPERATOR, READER, Administered
from tests.web.running import KEY, PROMPT

READING = [one for one in OPERATIONS if one.method == "GET" and "{" not in one.path]


@pytest.mark.parametrize("one", READING, ids=lambda one: one.name)
def test_what_may_be_read_is_told_to_whoever_has_a_token(admin: Administered, one: object) -> None:
    path = one.path  # type: ignore[attr-defined]
    for token in (READER, OPERATOR):
        assert admin.ask(path, token=token).status_code == 200
    for token in (None, "wrong-token-0123456789-abcdefgh", READER[:-1]):
        answer = admin.ask(path, token=token)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"


def test_strangers_learn_nothing_and_wait(stub: str, tmp_path: Path) -> None:
    from tests.admin.conftest import administered

    with administered(tmp_path, stub) as admin:
        told = {admin.ask(path, token=None).text for path in ("/health", "/nothing", "/halt")}
        assert len(told) == 1
        guesses = [admin.ask("/health", token=f"wrong-token-0123456789-{guess:08d}") for guess in range(2 * GUESSES + 1)]
        assert {one.status_code for one in guesses} == {401}
        late = next(one for one in guesses if "retry-after" in one.headers)  # a minute may have ended between them
        assert (late.headers["retry-after"], late.headers["connection"]) == ("60", "close")
        assert "retry-after" not in guesses[0].headers
        none = admin.ask("/health", token=None)
        assert none.status_code == 401 and "retry-after" not in none.headers  # who guesses nothing need not wait
        assert admin.ask("/health").status_code == 200  # a good token is not locked out
        assert "admin.guessed" in admin.gateway.errors


def test_a_token_that_asks_too_often_waits(stub: str, tmp_path: Path) -> None:
    from tests.admin.conftest import administered

    with administered(tmp_path, stub, rate=3) as admin:
        answers = [admin.ask("/halt") for _ in range(7)]  # of two minutes at most
        late = next(one for one in answers if one.status_code != 200)
        assert (late.status_code, late.headers["retry-after"]) == (429, "60")
        assert admin.ask("/halt", token=OPERATOR).status_code == 200


def test_a_reader_orders_nothing(admin: Administered) -> None:
    order = {"owner": "me", "reason": "trying"}
    answer = admin.ask("/halt", "PUT", json=order)
    assert answer.status_code == 403 and "operate" in answer.text
    assert admin.ask("/halt").json() == {"mode": "enforce", "halt": None}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/accounts?limit=none", "Expected `int`"),
        ("/accounts?limit=0", "$.limit"),
        ("/accounts?limt=3", "unknown field `limt`"),
        ("/accounts?limit=3&limit=4", "given twice"),
        ("/accounts?action=kill", "$.action"),
        ("/decisions/sg-00", "$.reference"),
        (f"/decisions/sg-{'0' * 32}?view=judge", "$.view"),
        ("/health?full=yes", "unknown field `full`"),
    ],
)
def test_what_cannot_be_understood_is_told_with_its_place(admin: Administered, path: str, says: str) -> None:
    answer = admin.ask(path)
    assert answer.status_code == 400 and says in answer.text, answer.text


def test_paths_and_methods_that_are_not_there(admin: Administered) -> None:
    assert admin.ask("/nothing").status_code == 404
    refused = admin.ask("/health", "DELETE")
    assert refused.status_code == 405 and "GET" in refused.headers["allow"]
    assert admin.ask("/rules/no.such").status_code == 404
    assert admin.ask("/accounts/nobody").status_code == 404
    assert admin.ask(f"/decisions/sg-{'0' * 32}").status_code == 404


def test_rules_accounts_and_decisions_tell_what_happened(admin: Administered) -> None:
    before = admin.ask("/rules/try.deny").json()["ends"].get("match", 0)
    with admin.gateway.recording(2):
        refused = admin.call("forbidden", key="sk-told")
        assert refused.status_code == 403
        admin.call("fine", key="sk-fine")
    assert admin.ask("/rules/try.deny").json()["ends"]["match"] == before + 1
    reference = refused.headers["sluice-reference"]
    accounts = admin.ask("/accounts?action=deny").json()["accounts"]
    told = next(one for one in accounts if one["last"] == reference)
    assert told["actions"] == {"deny": 1} and told["rules"] == ["try.deny"]
    assert admin.ask(f"/accounts/{told['account']}").json() == told
    decision = admin.ask(f"/decisions/{reference}").json()
    assert decision["outcome"]["code"] == "not-for-you" and decision["rules"][0]["id"] == "try.deny"
    caller = admin.ask(f"/decisions/{reference}?view=caller").json()
    assert caller["message"] == "This model is not for you." and "try.deny" not in json.dumps(caller)
    listed = admin.ask(f"/decisions?account={told['account']}&rule=try.deny&action=deny").json()
    assert [one["reference"] for one in listed["decisions"]] == [reference] and not listed["more"]
    assert admin.ask(f"/decisions?account={told['account']}&action=tag").json()["decisions"] == []
    assert admin.ask("/decisions?limit=1").json()["more"]
    assert "sluice_rules_total{" in admin.ask("/metrics").text
    policy = admin.ask("/policy").json()
    assert policy["packs"]["try"] == 1 and policy["rules"] == len(admin.ask("/rules").json()["rules"])


def test_the_public_listener_keeps_details_to_itself(admin: Administered) -> None:
    told = httpx.get(f"{admin.gateway.url}/healthz", trust_env=False).json()
    assert set(told) == {"status", "ready"}
    assert "parts" in admin.ask("/health").json()


def test_no_prompt_and_no_key_is_told(admin: Administered) -> None:
    body = {"model": "forbidden", "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"authorization": f"Bearer {KEY}"}
    with admin.gateway.recording():
        refused = httpx.post(f"{admin.gateway.url}/v1/chat/completions", json=body, headers=headers, trust_env=False)
    told = admin.ask(f"/decisions/{refused.headers['sluice-reference']}").text
    told += "".join(admin.ask(one.path).text for one in READING) + admin.gateway.errors
    for secret in (PROMPT, KEY, OPERATOR, READER):
        assert secret not in told


def test_schemathesis_finds_the_document_true(admin: Administered, tmp_path: Path) -> None:
    program = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{admin.url}/openapi.json", "--header",
        f"Authorization: Bearer {OPERATOR}", "--max-examples", "10", "--seed", "1", "--no-color", "--phases",
        "examples,coverage,fuzzing",
    ]  # fmt: skip
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert f"Tested: {len(OPERATIONS)}" in done.stdout, done.stdout[-3_000:]


def test_beyond_this_machine_it_is_served_by_tls_alone(stub: str, tmp_path: Path) -> None:
    from tests.admin.conftest import administered

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "admin.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "admin.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with administered(tmp_path, stub, host="0.0.0.0", tls="{certificate: admin.pem, key: admin.key}") as admin:
        asked = {"headers": {"authorization": f"Bearer {READER}"}, "trust_env": False}
        told = httpx.get(f"https://127.0.0.1:{admin.port}/health", verify=trusted, **asked)  # type: ignore[arg-type]
        assert told.status_code == 200 and "parts" in told.json()
        assert httpx.get(f"https://127.0.0.1:{admin.port}/health", verify=trusted, trust_env=False).status_code == 401
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{admin.port}/health", **asked)  # type: ignore[arg-type]
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"https://127.0.0.1:{admin.port}/health", **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("admin_section", "says"),
    [
        ("{listen: '0.0.0.0:8790', tokens: {a: {token: 0123456789-0123456789-abcd}}}", "open on 0.0.0.0"),
        ("{tokens: {}}", "nobody may ask"),
        ("{tokens: {a: {token: short}}}", "at least 24 characters"),
        ("{tokens: {a: {token: 0123456789-0123456789-abcd, role: root}}}", "role"),
        ("{tokens: {a: {token: {env: NO_SUCH_VARIABLE}}}}", "no environment variable"),
        ("{}", "tokens"),
    ],
)
def test_settings_that_would_leave_it_in_the_open(tmp_path: Path, admin_section: str, says: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{openai: {{url: 'http://127.0.0.1:9'}}}}\nadmin: {admin_section}\n")
    with pytest.raises(ConfigError) as raised:
        load_config(file, {})
    assert says in str(raised.value)
    assert "short" not in str(raised.value)
