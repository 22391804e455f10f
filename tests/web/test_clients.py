"""Real clients through the running process: the OpenAI and Anthropic SDKs, httpx and curl."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.web.faulty import Faulty
from tests.web.running import Gateway

TEXT = "hello there"
ASKED: Any = [{"role": "user", "content": TEXT}]
TOOL_ASKED: Any = [{"role": "user", "content": "use the tool"}]
SAID = f"You said: {TEXT}"
CHAT_TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
MESSAGE_TOOL: Any = {"name": "look_up", "input_schema": {"type": "object", "properties": {}}}


def openai_client(gateway: Gateway, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=key or f"sk-{uuid.uuid4()}", max_retries=0, timeout=10,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip


def anthropic_client(gateway: Gateway, key: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=gateway.url, api_key=key or f"sk-{uuid.uuid4()}", max_retries=0, timeout=10,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    )  # fmt: skip


@pytest.fixture
def gpt(plain: Gateway) -> Iterator[openai.OpenAI]:
    with openai_client(plain) as client:
        yield client


@pytest.fixture
def claude(plain: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(plain) as client:
        yield client


# OpenAI


def test_chat(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording() as records:
        answer = gpt.chat.completions.create(model="m-1", messages=ASKED)
    assert answer.choices[0].message.content == SAID
    assert answer.usage is not None
    usage = {"input_tokens": answer.usage.prompt_tokens, "output_tokens": answer.usage.completion_tokens}
    assert records[0]["answer"] == {"status": 200, "end": "complete", "model": "m-1", "usage": usage}
    assert records[0]["exchange"]["route"] == "chat.completions"


def test_chat_streamed(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording() as records:
        stream = gpt.chat.completions.create(model="m-1", messages=ASKED, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip() == SAID
    usage = chunks[-1].usage
    assert usage is not None
    assert records[0]["answer"]["usage"] == {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    assert records[0]["signals"]["request.stream"] is True


def test_chat_with_tools(gpt: openai.OpenAI) -> None:
    first = gpt.chat.completions.create(model="m-1", messages=TOOL_ASKED, tools=[CHAT_TOOL]).choices[0]
    assert first.finish_reason == "tool_calls"
    calls: Any = first.message.tool_calls
    assert calls[0].function.name == "look_up"
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "42"}
    turns: Any = [*TOOL_ASKED, first.message.model_dump(exclude_none=True), result, *ASKED]
    assert gpt.chat.completions.create(model="m-1", messages=turns).choices[0].message.content == SAID


def test_responses(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording() as records:
        answer = gpt.responses.create(model="m-1", instructions="be brief", input=[{"role": "user", "content": TEXT}])
    assert answer.output_text == SAID
    assert answer.usage is not None
    assert records[0]["answer"]["usage"]["output_tokens"] == answer.usage.output_tokens
    assert records[0]["exchange"]["route"] == "responses"


def test_responses_streamed(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording() as records:
        events = list(gpt.responses.create(model="m-1", input=TEXT, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert text.strip() == SAID
    assert last.type == "response.completed"
    assert last.response.usage is not None
    assert records[0]["answer"]["usage"]["input_tokens"] == last.response.usage.input_tokens


def test_embeddings_completions_and_models(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording(4) as records:
        assert [e.index for e in gpt.embeddings.create(model="e-1", input=["a", "b"]).data] == [0, 1]
        assert gpt.completions.create(model="m-1", prompt=TEXT).choices[0].text == SAID
        assert [model.id for model in gpt.models.list()] == ["stub"]
        assert gpt.models.retrieve("org/stub").id == "org/stub"
    assert [r["exchange"]["route"] for r in records] == ["embeddings", "completions", "models", "model"]
    assert records[0]["answer"]["usage"]["input_tokens"] > 0


def test_openai_async(plain: Gateway) -> None:
    async def talk() -> list[str]:
        settings: Any = {"base_url": f"{plain.url}/v1", "api_key": "sk-async", "max_retries": 0}
        async with openai.AsyncOpenAI(**settings, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)) as client:
            whole = await client.chat.completions.create(model="m-1", messages=ASKED)
            stream = await client.chat.completions.create(model="m-1", messages=ASKED, stream=True)
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [whole.choices[0].message.content or "", "".join(parts).strip()]

    assert asyncio.run(talk()) == [SAID, SAID]


# Anthropic


def test_messages(plain: Gateway, claude: anthropic.Anthropic) -> None:
    with plain.recording() as records:
        answer = claude.messages.create(model="c-1", max_tokens=20, system="be brief", messages=ASKED)
    assert answer.content[0].to_dict()["text"] == SAID
    usage = {"input_tokens": answer.usage.input_tokens, "output_tokens": answer.usage.output_tokens}
    assert records[0]["answer"] == {"status": 200, "end": "complete", "model": "c-1", "usage": usage}
    assert records[0]["exchange"]["protocol"] == "anthropic"


def test_messages_streamed(plain: Gateway, claude: anthropic.Anthropic) -> None:
    with plain.recording() as records, claude.messages.stream(model="c-1", max_tokens=20, messages=ASKED) as stream:
        assert "".join(stream.text_stream).strip() == SAID
        usage = stream.get_final_message().usage
    assert records[0]["answer"]["usage"] == {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    assert records[0]["answer"]["model"] == "c-1"


def test_messages_with_tools(claude: anthropic.Anthropic) -> None:
    first = claude.messages.create(model="c-1", max_tokens=20, messages=TOOL_ASKED, tools=[MESSAGE_TOOL])
    assert first.stop_reason == "tool_use"
    call: Any = first.content[0]
    assert call.name == "look_up"
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "42"}]}
    turns: Any = [*TOOL_ASKED, {"role": "assistant", "content": first.content}, result, *ASKED]
    assert claude.messages.create(model="c-1", max_tokens=20, messages=turns).content[0].to_dict()["text"] == SAID


def test_count_tokens(plain: Gateway, claude: anthropic.Anthropic) -> None:
    with plain.recording() as records:
        assert claude.messages.count_tokens(model="c-1", messages=ASKED).input_tokens > 0
    assert records[0]["exchange"]["route"] == "count_tokens"


def test_anthropic_async(plain: Gateway) -> None:
    async def talk() -> list[str]:
        settings: Any = {"base_url": plain.url, "api_key": "sk-async", "max_retries": 0}
        async with anthropic.AsyncAnthropic(
            **settings, http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False)
        ) as client:
            whole = await client.messages.create(model="c-1", max_tokens=20, messages=ASKED)
            async with client.messages.stream(model="c-1", max_tokens=20, messages=ASKED) as stream:
                parts = [part async for part in stream.text_stream]
            return [whole.content[0].to_dict()["text"], "".join(parts).strip()]  # type: ignore[list-item]

    assert asyncio.run(talk()) == [SAID, SAID]


# Streams arrive as they are made.


def test_the_first_chunk_arrives_before_the_last_is_made(shaky: Gateway, faulty: Faulty) -> None:
    with openai_client(shaky) as client:
        stream = client.chat.completions.create(model="m", messages=ASKED, stream=True, extra_query={"do": "slow_stream"})
        arrived = [time.monotonic() for chunk in stream if chunk.choices]
    made = faulty.last.sent_at
    assert len(arrived) == len(made) == 4
    assert all(there < following for there, following in zip(arrived, made[1:], strict=False))


# Refusals are the SDKs' own exceptions.


def coded(error: openai.APIStatusError | anthropic.APIStatusError) -> str:
    """The public code; the reference of the header must be in the message."""
    body: Any = error.response.json()
    assert error.response.headers["sluice-reference"] in body["error"]["message"]
    assert error.response.headers["sluice-reference"] in error.message
    return str(body["error"]["code"])


@pytest.mark.parametrize(
    ("model", "status", "code", "kind", "other_kind"),
    [("forbidden", 403, "not-for-you", openai.PermissionDeniedError, anthropic.PermissionDeniedError),
     ("unverified", 403, "verification-required", openai.PermissionDeniedError, anthropic.PermissionDeniedError),
     ("excluded", 451, "region-not-supported", openai.APIStatusError, anthropic.APIStatusError)],
)  # fmt: skip
def test_denied(
    model: str,
    status: int,
    code: str,
    kind: Any,
    other_kind: Any,
    plain: Gateway,
    gpt: openai.OpenAI,
    claude: anthropic.Anthropic,
) -> None:
    with plain.recording(2) as records:
        with pytest.raises(kind) as refused:
            gpt.chat.completions.create(model=model, messages=ASKED)
        with pytest.raises(other_kind) as refused_too:
            claude.messages.create(model=model, max_tokens=20, messages=ASKED, stream=True)
    for error, record in zip((refused.value, refused_too.value), records, strict=True):
        assert (error.status_code, coded(error)) == (status, code)
        assert record["reference"] == error.response.headers["sluice-reference"]
        assert record["answer"] == {"status": status, "end": "refused"}
    assert refused.value.code == code
    assert refused_too.value.request_id in (None, records[1]["reference"])


def test_the_place_to_verify_is_linked(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        gpt.chat.completions.create(model="unverified", messages=ASKED)
    assert refused.value.response.headers["link"] == '<https://verify.example/start>; rel="help"'


def test_a_plan_limit_is_published_and_kept(plain: Gateway, gpt: openai.OpenAI) -> None:
    with plain.recording(3) as records:
        first = gpt.chat.completions.with_raw_response.create(model="planned", messages=ASKED)
        gpt.chat.completions.create(model="planned", messages=ASKED)
        with pytest.raises(openai.RateLimitError) as refused:
            gpt.chat.completions.create(model="planned", messages=ASKED)
    assert first.headers["ratelimit-policy"] == '"trial";q=2;w=3600'
    assert first.headers["ratelimit"].startswith('"trial";r=1;t=')
    headers = refused.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 3600
    assert headers["ratelimit"] == f'"trial";r=0;t={headers["retry-after"]}'
    assert coded(refused.value) == "rate-limited"
    assert records[2]["outcome"] == {
        "action": "throttle", "would": "throttle", "status": 429, "code": "rate-limited", "by": ["trial"],
        "retry_after": int(headers["retry-after"]),
    }  # fmt: skip


def test_a_plan_limit_counts_both_protocols_of_one_key(plain: Gateway) -> None:
    key = f"sk-{uuid.uuid4()}"
    with openai_client(plain, key) as gpt, anthropic_client(plain, key) as claude:
        gpt.chat.completions.create(model="planned", messages=ASKED)
        claude.messages.create(model="planned", max_tokens=20, messages=ASKED)
        with pytest.raises(anthropic.RateLimitError) as refused:
            claude.messages.create(model="planned", max_tokens=20, messages=ASKED)
    assert coded(refused.value) == "rate-limited"
    assert int(refused.value.response.headers["retry-after"]) > 0


def test_a_rule_throttle_says_only_when_to_retry(gpt: openai.OpenAI) -> None:
    gpt.chat.completions.create(model="bursty", messages=ASKED)
    with pytest.raises(openai.RateLimitError) as refused:
        gpt.chat.completions.create(model="bursty", messages=ASKED)
    assert int(refused.value.response.headers["retry-after"]) > 0
    assert "ratelimit" not in refused.value.response.headers


def test_a_delay_holds_and_then_answers(plain: Gateway, gpt: openai.OpenAI) -> None:
    started = time.monotonic()
    with plain.recording() as records:
        assert gpt.chat.completions.create(model="delayed", messages=ASKED).choices[0].message.content == SAID
    assert time.monotonic() - started >= 0.3
    assert records[0]["outcome"] == {"action": "delay", "would": "delay", "delay_us": 300_000}


def test_bad_requests_and_unknown_models(shaky: Gateway, gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    wrong: Any = "not a list"
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.chat.completions.create(model="m", messages=wrong)
    assert coded(refused.value) == "invalid-body"
    with pytest.raises(anthropic.BadRequestError) as refused_too:
        claude.messages.create(model="c", max_tokens=20, messages=wrong)
    assert coded(refused_too.value) == "invalid-body"
    with openai_client(shaky) as other, pytest.raises(openai.NotFoundError) as missing:
        other.chat.completions.create(model="m", messages=ASKED, extra_query={"do": "unknown_model"})
    assert missing.value.code == "model_not_found"


def test_unknown_keys(listed: Gateway) -> None:
    with openai_client(listed) as gpt, pytest.raises(openai.AuthenticationError) as refused:
        gpt.models.list()
    assert coded(refused.value) == "credential-unknown"
    with anthropic_client(listed) as claude, pytest.raises(anthropic.AuthenticationError) as refused_too:
        claude.messages.create(model="c", max_tokens=20, messages=ASKED)
    assert coded(refused_too.value) == "credential-unknown"


def test_failing_upstreams(shaky: Gateway) -> None:
    with openai_client(shaky) as gpt:
        with pytest.raises(openai.InternalServerError) as failed:
            gpt.chat.completions.create(model="m", messages=ASKED, extra_query={"do": "no_answer"})
        assert coded(failed.value) == "upstream-interrupted"
        stream = gpt.chat.completions.create(model="m", messages=ASKED, stream=True, extra_query={"do": "cut_stream"})
        with pytest.raises(openai.APIError) as broken:
            list(stream)
        assert broken.value.code == "upstream-interrupted"
    with anthropic_client(shaky) as claude:
        events = claude.messages.create(
            model="c", max_tokens=20, messages=ASKED, stream=True, extra_query={"do": "cut_messages"}
        )
        with pytest.raises(anthropic.APIStatusError) as broken_too:
            list(events)
        assert "broke off" in str(broken_too.value)


# httpx and curl


def test_httpx(plain: Gateway, client: httpx.Client) -> None:
    body = {"model": "m", "messages": ASKED}
    assert client.post(f"{plain.url}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == SAID
    with client.stream("POST", f"{plain.url}/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["x-accel-buffering"] == "no"
    assert lines[-1] == "data: [DONE]"


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", "10", *arguments], capture_output=True, text=True, timeout=20
    )


def test_curl(plain: Gateway) -> None:
    body = json.dumps({"model": "m", "messages": ASKED})
    url, headers = (
        f"{plain.url}/v1/chat/completions",
        ["-H", "content-type: application/json", "-H", "authorization: Bearer sk-curl"],
    )
    whole = curl(url, *headers, "-d", body)
    assert json.loads(whole.stdout)["choices"][0]["message"]["content"] == SAID
    chunked = curl(url, *headers, "-H", "transfer-encoding: chunked", "-d", body)
    assert json.loads(chunked.stdout) == json.loads(whole.stdout)
    streamed = curl("-N", url, *headers, "-d", json.dumps({"model": "m", "messages": ASKED, "stream": True}))
    assert streamed.stdout.endswith("data: [DONE]\n\n")
    expecting = curl(url, *headers, "-H", "expect: 100-continue", "-d", body)
    assert json.loads(expecting.stdout) == json.loads(whole.stdout)


def test_curl_sees_a_broken_answer(shaky: Gateway) -> None:
    body = json.dumps({"model": "m", "messages": ASKED})
    cut = curl(f"{shaky.url}/v1/chat/completions?do=cut_json", "-H", "content-type: application/json", "-d", body)
    assert cut.returncode in (18, 56), cut.stderr
