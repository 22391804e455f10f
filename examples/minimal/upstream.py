"""A stub model provider on loopback: OpenAI- and Anthropic-shaped answers, streamed or whole, without any model.

It echoes the last user message, calls the first declared tool when the message asks to, and reports word counts as token
usage. For the demonstration and the tests only.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


def last_user_text(body: dict[str, Any]) -> str:
    """The text of the last user message, in whatever form the protocol writes it."""
    items = body.get("messages") or body.get("input") or body.get("prompt") or ""
    if isinstance(items, str):
        return items
    for item in reversed(items):
        if isinstance(item, dict) and item.get("role") == "user":
            content = item.get("content") or ""
            if isinstance(content, str):
                return content
            return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""


def words(body: dict[str, Any]) -> int:
    return len(json.dumps(body).split())


async def chat(request: Request) -> Response:
    body = await request.json()
    text, model = f"You said: {last_user_text(body)}", body.get("model", "stub")
    usage = {"prompt_tokens": words(body), "completion_tokens": len(text.split())}
    usage["total_tokens"] = sum(usage.values())
    base = {"id": "chatcmpl-stub", "created": 1_700_000_000, "model": model}
    if body.get("stream"):
        wanted = (body.get("stream_options") or {}).get("include_usage")
        return StreamingResponse(_chat_events(base, text, usage if wanted else None), media_type="text/event-stream")
    message: dict[str, Any] = {"role": "assistant", "content": text}
    finish = "stop"
    if body.get("tools") and "use the tool" in text:
        call = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
        finish = "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return JSONResponse({**base, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _chat_events(base: dict[str, Any], text: str, usage: dict[str, int] | None) -> AsyncIterator[bytes]:
    head = {**base, "object": "chat.completion.chunk"}
    for word in text.split():
        choice = {"index": 0, "delta": {"role": "assistant", "content": word + " "}, "finish_reason": None}
        yield _event({**head, "choices": [choice]})
        await asyncio.sleep(0.002)
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        yield _event({**head, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


async def responses(request: Request) -> Response:
    body = await request.json()
    text = f"You said: {last_user_text(body)}"
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    usage = {"input_tokens": words(body), "output_tokens": len(text.split()), "total_tokens": words(body) + len(text.split())}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    answer = {
        "id": "resp_stub", "object": "response", "created_at": 1_700_000_000, "status": "completed", "output": [message],
        "model": body.get("model", "stub"), "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {**usage, **details},
    }  # fmt: skip
    if body.get("stream"):
        return StreamingResponse(_response_events(answer, text), media_type="text/event-stream")
    return JSONResponse(answer)


async def _response_events(answer: dict[str, Any], text: str) -> AsyncIterator[bytes]:
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield _named("response.created", {"sequence_number": 0, "response": begun})
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    for number, word in enumerate(text.split(), 1):
        yield _named("response.output_text.delta", {"sequence_number": number, "delta": word + " ", **place})
        await asyncio.sleep(0.002)
    yield _named("response.completed", {"sequence_number": number + 1, "response": answer})


async def embeddings(request: Request) -> Response:
    body = await request.json()
    given = body.get("input", "")
    data = [
        {"object": "embedding", "index": place, "embedding": [0.0, 1.0]}
        for place, _ in enumerate(given if isinstance(given, list) else [given])
    ]
    usage = {"prompt_tokens": words(body), "total_tokens": words(body)}
    return JSONResponse({"object": "list", "data": data, "model": body.get("model", "stub"), "usage": usage})


async def completions(request: Request) -> Response:
    body = await request.json()
    text = f"You said: {last_user_text(body)}"
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": words(body), "completion_tokens": len(text.split())}
    base = {"id": "cmpl-stub", "object": "text_completion", "created": 1_700_000_000, "model": body.get("model", "stub")}
    return JSONResponse({**base, "choices": [choice], "usage": {**usage, "total_tokens": sum(usage.values())}})


async def models(request: Request) -> Response:
    stub = {"id": "stub", "object": "model", "created": 1_700_000_000, "owned_by": "stub"}
    return JSONResponse({"object": "list", "data": [stub]})


async def model(request: Request) -> Response:
    name = request.path_params["name"]
    return JSONResponse({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "stub"})


async def messages(request: Request) -> Response:
    body = await request.json()
    text, model = f"You said: {last_user_text(body)}", body.get("model", "stub")
    usage = {"input_tokens": words(body), "output_tokens": len(text.split())}
    if body.get("stream"):
        return StreamingResponse(_message_events(model, text, usage), media_type="text/event-stream")
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    stop = "end_turn"
    if body.get("tools") and "use the tool" in text:
        content = [{"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {}}]
        stop = "tool_use"
    base = {"id": "msg_stub", "type": "message", "role": "assistant", "model": model}
    return JSONResponse({**base, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage})


async def _message_events(model: str, text: str, usage: dict[str, int]) -> AsyncIterator[bytes]:
    start = {"id": "msg_stub", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
             "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}  # fmt: skip
    yield _named("message_start", {"message": start})
    yield _named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    for word in text.split():
        yield _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word + " "}})
        await asyncio.sleep(0.002)
    yield _named("content_block_stop", {"index": 0})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _named("message_delta", {"delta": delta, "usage": {"output_tokens": usage["output_tokens"]}})
    yield _named("message_stop", {})


async def count_tokens(request: Request) -> Response:
    return JSONResponse({"input_tokens": words(await request.json())})


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _named(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


ROUTES = [
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/responses", responses, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/v1/models", models),
    Route("/v1/models/{name:path}", model),
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
app = Starlette(routes=ROUTES)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8788, log_level="warning")
