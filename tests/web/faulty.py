"""A provider that misbehaves on request: `?do=NAME` in the target chooses how. It remembers what it was sent.

Written on bare sockets, because a proper server would not let us break the rules. One request per connection.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 5}}
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "faulty-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "fine"}}], "usage": USAGE,
}  # fmt: skip
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
JSON = OK + b"content-type: application/json\r\n"
SSE = OK + b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """One request as it arrived, and what became of its connection."""

    target: str
    headers: list[tuple[str, str]]
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    gone_at: float = 0.0
    sent_at: list[float] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


Behave = Callable[["Talk"], Awaitable[None]]


@dataclass
class Talk:
    """One connection, as the behaviours use it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Seen

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def whole(self, head: bytes, body: bytes) -> None:
        await self.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    async def until_gone(self, seconds: float = 30) -> bool:
        """Wait for the other side to hang up; False when it did not in time."""
        try:
            gone = await asyncio.wait_for(self.reader.read(1), seconds) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            gone = True
        if gone:
            self.seen.gone_at = time.monotonic()
            self.seen.gone.set()
        return gone


def event(data: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "faulty-1", "choices": [choice], **more})


STREAM = b"".join([delta("one "), delta("two "), delta("", usage=USAGE, choices=[]), b"data: [DONE]\n\n"])
MESSAGES = b"".join([
    event({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "faulty-2",
           "content": [], "stop_reason": None, "stop_sequence": None,
           "usage": {"input_tokens": 13, "output_tokens": 1, "cache_read_input_tokens": 4}}}, "message_start"),
    event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start"),
    event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}, "content_block_delta"),
    event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}},
          "message_delta"),
    event({"type": "message_stop"}, "message_stop"),
])  # fmt: skip


async def echo(talk: Talk) -> None:
    seen = talk.seen
    told = {"target": seen.target, "headers": seen.headers, "body": base64.b64encode(seen.body).decode()}
    extra = (
        b"set-cookie: a=1\r\nset-cookie: b=2\r\nkeep-alive: timeout=9\r\nx-kept: yes\r\nx-hop: no\r\n"
        b"connection: x-hop\r\nproxy-authenticate: Basic\r\n"
    )
    await talk.whole(JSON + extra, json.dumps(told).encode())


async def plain_json(talk: Talk) -> None:
    await talk.whole(JSON, json.dumps(ANSWER).encode())


async def gzip_json(talk: Talk) -> None:
    await talk.whole(JSON + b"content-encoding: gzip\r\n", gzip.compress(json.dumps(ANSWER).encode()))


async def gzip_stream(talk: Talk) -> None:
    await talk.whole(SSE + b"content-encoding: gzip\r\n", gzip.compress(STREAM))


async def gzip_stream_cut(talk: Talk) -> None:
    await talk.send(SSE + b"content-encoding: gzip\r\n" + CHUNKED)
    await talk.chunk(gzip.compress(STREAM)[:60])


async def cut_json(talk: Talk) -> None:
    body = json.dumps(ANSWER).encode()
    await talk.send(JSON + b"content-length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])


async def cut_chunked(talk: Talk) -> None:
    await talk.send(JSON + CHUNKED)
    await talk.chunk(json.dumps(ANSWER).encode())


async def cut_stream(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    await talk.chunk(delta("one "))
    await asyncio.sleep(0.05)


async def cut_messages(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    await talk.chunk(MESSAGES[: MESSAGES.index(b"event: content_block_stop")])
    await asyncio.sleep(0.05)


async def cut_frame(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    await talk.chunk(delta("one ") + b'data: {"id": "half')
    await asyncio.sleep(0.05)


async def cut_sized_stream(talk: Talk) -> None:
    await talk.send(SSE + b"content-length: 5000\r\n\r\n" + delta("one "))
    await asyncio.sleep(0.05)


async def hang_head(talk: Talk) -> None:
    await talk.until_gone()


async def hang_stream(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    await talk.chunk(delta("one "))
    await talk.until_gone()


async def hang_json(talk: Talk) -> None:
    await talk.send(JSON + b"content-length: 500\r\n\r\n{")
    await talk.until_gone()


async def no_answer(talk: Talk) -> None:
    """Close without a word."""


async def junk_answer(talk: Talk) -> None:
    await talk.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")


async def odd_status(talk: Talk) -> None:
    await talk.send(b"HTTP/1.1 999 Odd\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhm")


async def big_headers(talk: Talk) -> None:
    await talk.whole(JSON + b"x-policy: " + b"p" * 30_000 + b"\r\n", b"{}")


async def split_stream(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    for place in range(0, len(STREAM), 5):
        await talk.chunk(STREAM[place : place + 5])
        await asyncio.sleep(0)
    await talk.send(b"0\r\n\r\n")


async def messages(talk: Talk) -> None:
    await talk.whole(SSE, MESSAGES)


async def slow_stream(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    for number in range(4):
        talk.seen.sent_at.append(time.monotonic())
        await talk.chunk(delta(f"{number} "))
        await asyncio.sleep(0.2)
    await talk.chunk(b"data: [DONE]\n\n")
    await talk.send(b"0\r\n\r\n")


async def endless_stream(talk: Talk) -> None:
    await talk.send(SSE + CHUNKED)
    while not await talk.until_gone(0.02):
        await talk.chunk(delta("more "))


async def unknown_model(talk: Talk) -> None:
    error = {"message": "no such model", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    head = b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-type: application/json\r\nx-request-id: up-1\r\n"
    await talk.whole(head, json.dumps({"error": error}).encode())


BEHAVIOURS: dict[str, Behave] = {
    do.__name__: do
    for do in (
        echo, plain_json, gzip_json, gzip_stream, gzip_stream_cut, cut_json, cut_chunked, cut_stream, cut_messages, cut_frame,
        cut_sized_stream, hang_head, hang_stream, hang_json, no_answer, junk_answer, odd_status, big_headers, split_stream,
        messages, slow_stream, endless_stream, unknown_model,
    )
}  # fmt: skip


class Faulty:
    """The server, on a thread of its own."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.partition(":") for line in lines if line]
            headers = [(name.lower(), value.strip()) for name, _, value in pairs]
            body = await reader.readexactly(int(dict(headers).get("content-length", 0)))
            seen = Seen(request.split(" ")[1], headers, body)
            self.seen.append(seen)
            wanted = parse_qs(urlsplit(seen.target).query).get("do", ["plain_json"])[0]
            await BEHAVIOURS[wanted](Talk(reader, writer, seen))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
