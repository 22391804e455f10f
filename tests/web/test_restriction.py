"""What a rule may take from a request, and limits that are given back: as the upstream and the caller see it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import PolicyMiddleware
from gateway.audit.record import record
from gateway.decision import Restriction
from gateway.plugins.protocols import anthropic, openai
from tests.web.conftest import PACK
from tests.web.running import KEY, PATIENCE, Gateway

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
TIGHT = Restriction(max_tokens=16, n=1, logprobs=False, reasoning=False)


def asking(model: str = "restricted", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def sent_up(gateway: Gateway, client: httpx.Client, body: bytes, **headers: str) -> tuple[httpx.Response, Any, dict[str, str]]:
    answer = client.post(f"{gateway.url}{CHAT}?do=echo", content=body, headers={**JSON, **headers})
    told = answer.json()
    return answer, json.loads(base64.b64decode(told["body"])), dict(told["headers"])


def test_the_upstream_gets_less_and_the_caller_is_told(shaky: Gateway, client: httpx.Client) -> None:
    with shaky.recording() as records:
        answer, body, _ = sent_up(
            shaky, client, json.dumps(asking(max_tokens=4_000, n=5, top_logprobs=3, logprobs=True)).encode()
        )
    assert body == asking(max_tokens=16, n=1)
    assert answer.headers["sluice-restricted"] == "max_tokens=16, n=1, logprobs=off, top_logprobs=off"
    assert answer.headers["sluice-reason"] == "reduced-service"
    assert answer.headers["sluice-reference"] == records[0]["reference"]
    assert records[0]["outcome"]["action"] == "restrict"
    assert records[0]["outcome"]["restriction"] == {"max_tokens": 16, "n": 1, "logprobs": False}
    assert records[0]["outcome"]["restricted"] == ["max_tokens=16", "n=1", "logprobs=off"]


def test_a_request_that_asks_for_no_more_is_passed_on_as_it_is(shaky: Gateway, client: httpx.Client) -> None:
    raw = json.dumps(asking(max_tokens=8), indent=3).encode()
    with shaky.recording() as records:
        answer = client.post(f"{shaky.url}{CHAT}?do=echo", content=raw, headers=JSON)
    assert base64.b64decode(answer.json()["body"]) == raw
    assert "sluice-restricted" not in answer.headers
    assert records[0]["outcome"] == {"action": "observe", "would": "observe"}


def test_a_compressed_request_is_restricted_and_sent_plain(shaky: Gateway, client: httpx.Client) -> None:
    raw = gzip.compress(json.dumps(asking(max_completion_tokens=4_000, note="é")).encode())
    with shaky.recording():
        _, body, headers = sent_up(shaky, client, raw, **{"content-encoding": "gzip"})
    assert body == asking(max_completion_tokens=16, note="é")
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("route", "document", "after", "said"),
    [
        ("chat.completions", {}, {"max_completion_tokens": 16}, ["max_completion_tokens=16"]),
        ("chat.completions", {"max_tokens": 3}, {"max_tokens": 3}, []),
        ("chat.completions", {"max_tokens": 3, "max_completion_tokens": 17}, {"max_tokens": 3, "max_completion_tokens": 16},
         ["max_completion_tokens=16"]),
        ("completions", {"n": 2, "best_of": 9}, {"n": 1, "best_of": 1, "max_tokens": 16},
         ["max_tokens=16", "n=1", "best_of=1"]),
        ("responses", {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content", "x"]},
         {"reasoning": {"effort": "low"}, "include": ["x"], "max_output_tokens": 16},
         ["max_output_tokens=16", "reasoning.encrypted_content=off", "reasoning.summary=off"]),
        ("chat.completions", {"max_tokens": "many"}, {"max_tokens": 16}, ["max_tokens=16"]),
        ("chat.completions", {"max_tokens": -1, "logprobs": 0}, {"max_tokens": 16}, ["max_tokens=16", "logprobs=off"]),
        ("chat.completions", {"max_tokens": True}, {"max_tokens": 16}, ["max_tokens=16"]),
        ("chat.completions", {"max_output_tokens": 1, "prompt_logprobs": 5},
         {"max_output_tokens": 1, "max_completion_tokens": 16}, ["max_completion_tokens=16", "prompt_logprobs=off"]),
        ("responses", {"max_tokens": 1}, {"max_tokens": 1, "max_output_tokens": 16}, ["max_output_tokens=16"]),
        ("completions", {"max_completion_tokens": 1}, {"max_completion_tokens": 1, "max_tokens": 16}, ["max_tokens=16"]),
        ("chat.completions", {"max_tokens": 5, "logprobs": False}, {"max_tokens": 5}, []),
        ("embeddings", {"n": 5}, {"n": 5}, []),
    ],
)  # fmt: skip
def test_what_is_taken_from_openai_bodies(route: str, document: dict[str, Any], after: dict[str, Any], said: list[str]) -> None:
    assert openai.OpenAI().restrict(route, document, TIGHT) == said
    assert document == after


@pytest.mark.parametrize(
    ("restriction", "document", "after", "said"),
    [
        (TIGHT, {"max_tokens": 900, "thinking": {"type": "enabled", "budget_tokens": 5}}, {"max_tokens": 16},
         ["max_tokens=16", "thinking=off"]),
        (Restriction(max_tokens=2_000), {"max_tokens": 9_000, "thinking": {"type": "enabled", "budget_tokens": 4_000}},
         {"max_tokens": 2_000}, ["max_tokens=2000", "thinking=off"]),
        (Restriction(max_tokens=2_000), {"max_tokens": 9_000, "thinking": {"type": "enabled", "budget_tokens": 1_024}},
         {"max_tokens": 2_000, "thinking": {"type": "enabled", "budget_tokens": 1_024}}, ["max_tokens=2000"]),
    ],
)  # fmt: skip
def test_what_is_taken_from_anthropic_bodies(
    restriction: Restriction, document: dict[str, Any], after: dict[str, Any], said: list[str]
) -> None:
    assert anthropic.Anthropic().restrict("messages", document, restriction) == said
    assert document == after


def test_counting_tokens_is_not_restricted() -> None:
    document = {"max_tokens": 900}
    assert anthropic.Anthropic().restrict("count_tokens", document, TIGHT) == []
    assert document == {"max_tokens": 900}


def test_an_app_inside_the_middleware_reads_the_restricted_body(tmp_path: Path) -> None:
    records: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        length = dict(scope["headers"])[b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-length", length)]})
        await send({"type": "http.response.body", "body": message["body"]})

    (tmp_path / "pack.yaml").write_text(PACK)
    guarded: Callable[..., Any] = PolicyMiddleware(
        app, policy=tmp_path / "pack.yaml", sink=lambda judgement, answer: records.append(record(judgement, answer))
    )

    async def talk() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://app") as client:
            return await client.post(CHAT, json=asking(max_tokens=4_000), headers={"authorization": "Bearer sk-1"})

    answer = asyncio.run(talk())
    assert answer.json() == asking(max_tokens=16)
    assert int(answer.headers["x-length"]) == len(answer.content)
    assert records[0]["outcome"]["action"] == "restrict"


def test_slots_are_held_while_a_stream_runs_and_free_when_it_ends(shaky: Gateway) -> None:
    """Two streams at once; a third request is refused with a short wait, and passes once one stream was closed."""

    async def talk() -> list[int]:
        headers, url = {**JSON, "authorization": "Bearer sk-narrow"}, f"{shaky.url}{CHAT}"
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:

            async def status(do: str) -> httpx.Response:
                return await client.post(f"{url}?do={do}", json=asking("narrow"), headers=headers)

            asked, running = asking("narrow", stream=True), f"{url}?do=endless_stream"
            streams = [client.stream("POST", running, json=asked, headers=headers) for _ in "ab"]
            first, second = [await stream.__aenter__() for stream in streams]
            refused = await status("echo")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["ratelimit-policy"] == '"slots";q=2;qu="concurrent-requests"'
            await streams[0].__aexit__(None, None, None)
            for _ in range(100):
                passed = await status("echo")
                if passed.status_code == 200:
                    break
                await asyncio.sleep(0.05)
            await streams[1].__aexit__(None, None, None)
            return [first.status_code, second.status_code, refused.status_code, passed.status_code]

    assert asyncio.run(talk()) == [200, 200, 429, 200]


def test_tokens_are_held_back_and_settled_by_what_the_upstream_says(shaky: Gateway, client: httpx.Client) -> None:
    """100 tokens an hour: each call holds back 62 at first and then takes 18, so three pass and a fourth does not."""
    headers = {**JSON, "authorization": "Bearer sk-metered"}
    statuses, left = [], []
    for _ in range(4):
        with shaky.recording():
            answer = client.post(f"{shaky.url}{CHAT}", json=asking("metered"), headers=headers)
        statuses.append(answer.status_code)
        left.append(answer.headers["ratelimit"].split(";")[1])
    assert statuses == [200, 200, 200, 429]
    assert left == ["r=38", "r=20", "r=2", "r=46"]
    assert answer.headers["ratelimit-policy"] == '"words";q=100;qu="tokens";w=3600'


def test_what_json_can_carry_and_other_readers_cannot_is_written_so_that_they_can(shaky: Gateway, client: httpx.Client) -> None:
    raw = b'{"model": "restricted", "messages": [{"role": "user", "content": "a \\ud800 b"}], "max_tokens": 99}'
    with shaky.recording():
        _, body, _ = sent_up(shaky, client, raw)
    assert body["messages"][0]["content"] == "a \ud800 b"
    with shaky.recording():
        refused = client.post(f"{shaky.url}{CHAT}", content=raw.replace(b"99}", b'99, "temperature": 1e400}'), headers=JSON)
    assert refused.status_code == 400
    assert "too large" in refused.json()["error"]["message"]
