"""Law 10: visible, never covert. Whoever is given less is told so, with a code and a reference that opens the evidence; whoever
is not gets the upstream's answer byte for byte, and nothing of the gateway's that could mark or watch a client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.web.conftest import PACK
from tests.web.conftest import faulty as faulty  # a fixture
from tests.web.faulty import ANSWER, Faulty
from tests.web.running import KEY, Gateway, gateway

CHAT = "/v1/chat/completions"
REFUSED = {  # what is asked for, what is done, and the public code
    "forbidden": ("deny", 403, "not-for-you"),
    "excluded": ("deny", 451, "region-not-supported"),
    "unverified": ("verify", 403, "verification-required"),
    "bursty": ("throttle", 429, "policy-decision"),
}
RULES, LIMITS = PACK.split("limits:")
SHADOW = RULES.split("rules:")[1].replace("{id: try", "{id: try.shadow").replace("mode: enforce", "mode: shadow")
ALL = f"{RULES}{SHADOW.replace('request.model: ', 'request.model: quietly-')}limits:{LIMITS}"


@pytest.fixture(scope="module")
def running(faulty: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = f"upstreams: {{openai: {{url: {faulty.url}}}}}\n"
    with gateway(tmp_path_factory.mktemp("ten"), settings, ALL, bundled=False) as found:
        yield found


def ask(running: Gateway, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    headers = {"authorization": f"Bearer {KEY}-{model}"}
    return httpx.post(f"{running.url}{CHAT}?do=plain_json", json=body, headers=headers, trust_env=False, timeout=20)


def explained(running: Gateway, reference: str, view: str) -> dict[str, Any]:
    arguments = ["explain", reference, "--config", str(running.folder / "gateway.yaml"), "--view", view, "--format", "json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


@pytest.mark.parametrize("model", REFUSED)
def test_a_refusal_names_a_code_and_a_reference_that_opens_the_evidence(running: Gateway, model: str) -> None:
    action, status, code = REFUSED[model]
    with running.recording(2):
        ask(running, model)
        answer = ask(running, model)  # the throttle has room for one
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) is (action == "throttle")
    reference = answer.headers["sluice-reference"]
    operator = explained(running, reference, "operator")
    assert operator["outcome"]["action"] == action and operator["rules"][0]["when"]["truth"] == "true"
    caller = explained(running, reference, "caller")
    assert caller["code"] == code and caller["message"] in answer.json()["error"]["message"]


def test_less_than_was_asked_for_is_said_with_its_reason_and_reference(running: Gateway) -> None:
    with running.recording():
        answer = ask(running, "restricted", max_tokens=4_000, n=3)
    assert answer.headers["sluice-restricted"] == "max_tokens=16, n=1"
    assert answer.headers["sluice-reason"] == "reduced-service"
    assert explained(running, answer.headers["sluice-reference"], "operator")["outcome"]["action"] == "restrict"


def test_an_answer_that_was_held_is_said_to_be(running: Gateway) -> None:
    with running.recording() as records:
        answer = ask(running, "delayed")
    assert answer.headers["sluice-delayed"] == "0.3"
    assert answer.headers["sluice-reference"] == records[0]["reference"]
    assert explained(running, records[0]["reference"], "operator")["outcome"]["action"] == "delay"


@pytest.mark.parametrize("model", ["plain", "tagged", "quietly-forbidden", "quietly-restricted", "quietly-delayed"])
def test_whoever_is_given_all_gets_the_answer_as_it_was_and_nothing_that_marks_a_client(running: Gateway, model: str) -> None:
    """Tags and shadow rules are no matter of the caller's."""
    direct = json.dumps(ANSWER).encode()
    with running.recording() as records:
        answer = ask(running, model)
    assert (answer.status_code, answer.content) == (200, direct)
    named = {name for name in answer.headers if name.startswith("sluice-")}
    assert named <= {"sluice-reference"}
    assert not {"set-cookie", "etag", "refresh", "accept-ch", "nel", "report-to", "reporting-endpoints"} & {*answer.headers}
    assert records[0]["outcome"]["action"] in ("allow", "observe", "tag")
    assert (records[0]["outcome"]["would"] == records[0]["outcome"]["action"]) is not model.startswith("quietly")
