"""A stub upstream and a load generator for the benches: as little work of their own as Python allows.

`python tests/bench/load.py PORT` is the stub. It answers with one JSON document of 1.6 KB, or, where the request asks for a
stream, with EVENTS server-sent events, one every GAP seconds, and an end. Every answer that comes back is compared with what
the stub sends, byte for byte; an answer that differs is counted as wrong, one that does not come, or not with 200, as failed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVENTS = 50
GAP = 0.06  # seconds between two events of a stream
PHASES = 20  # streams send at different times within GAP
ACCOUNTS = 1_000
TEXTS = 64
ANSWER = json.dumps({
    "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_793_491_200, "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 280}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 400, "completion_tokens": 280, "total_tokens": 680},
}).encode()  # fmt: skip
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _event(delta: dict[str, str], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    found: dict[str, Any] = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_793_491_200,
        "model": "bench",
    }
    return b"data: %s\n\n" % json.dumps({**found, "choices": choices, "usage": usage}).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


PARTS = [_event({"role": "assistant", "content": f"word {number} "}) for number in range(EVENTS)]
END = _event({}, "stop") + _event({}, usage={"prompt_tokens": 400, "completion_tokens": EVENTS, "total_tokens": 450})
LAST = END + b"data: [DONE]\n\n"
STREAM = b"".join(PARTS) + LAST
CHUNKS = [*map(_chunk, PARTS), _chunk(LAST) + b"0\r\n\r\n"]


class Pace:
    """Sends the next event to every open stream once in GAP seconds, a part of them at a time."""

    def __init__(self) -> None:
        self._phases: list[dict[asyncio.WriteTransport, int]] = [{} for _ in range(PHASES)]
        self._next, self._ticking = 0, False

    def add(self, transport: asyncio.WriteTransport) -> None:
        min(self._phases, key=len)[transport] = 0
        if not self._ticking:
            self._ticking = True
            self._tick()

    def _tick(self) -> None:
        open_ones = self._phases[self._next]
        self._next = (self._next + 1) % PHASES
        for transport, place in [*open_ones.items()]:
            transport.write(CHUNKS[place])
            if place + 1 < len(CHUNKS):
                open_ones[transport] = place + 1
            else:
                del open_ones[transport]
        self._ticking = any(self._phases)
        if self._ticking:
            asyncio.get_running_loop().call_later(GAP / PHASES, self._tick)

    def drop(self, transport: asyncio.WriteTransport) -> None:
        for open_ones in self._phases:
            open_ones.pop(transport, None)


class Stub(asyncio.Protocol):
    """Answers every request; understands bodies with a Content-Length or in chunks, one request at a time."""

    pace = Pace()
    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.pace.drop(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            place = head.find(b"content-length:")
            if place >= 0:
                whole = end + 4 + int(head[place + 15 :].split(b"\r\n", 1)[0])
            elif b"transfer-encoding:" in head:
                last = self.buffer.find(b"\r\n0\r\n\r\n", end + 2)
                whole = last + 7 if last >= 0 else sys.maxsize
            else:
                whole = end + 4
            if len(self.buffer) < whole:
                return
            body, self.buffer = self.buffer[end + 4 : whole], self.buffer[whole:]
            if b'"stream": true' in body or b'"stream":true' in body:
                self.transport.write(STREAM_HEAD)
                self.pace.add(self.transport)
            else:
                self.transport.write(REPLY)


def _body(text: str, stream: bool) -> bytes:
    """What an SDK sends of a question that begins with a number of twelve digits."""
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": text}]
    body: dict[str, Any] = {"model": "bench", "messages": messages, "temperature": 0.2}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


def _head(account: int, length: int, more: Sequence[str] = ()) -> bytes:
    network = f"{8 + account % 100}.{account // 250}.{account % 250}.7"
    lines = (
        "POST /v1/chat/completions HTTP/1.1", "host: bench", "user-agent: OpenAI/Python 3.54.0", "x-stainless-lang: python",
        "accept: application/json", "content-type: application/json", f"authorization: Bearer sk-{account}",
        f"x-forwarded-for: {network}", *more, f"content-length: {length}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def request(account: int, size: int, number: int) -> bytes:
    """A chat request of about `size` bytes, of one of the accounts, with a text of its own."""
    body = _body(f"Report {number} for the board. " + "The quarter went as planned. " * (max(0, size - 350) // 29), False)
    return _head(account, len(body)) + body


def requests(size: int, stream: bool = False, more: Sequence[str] = (), begin: int = 0) -> Iterator[bytes]:
    """Endless chat requests of `size` bytes by ACCOUNTS accounts in turn, no two alike. more: header lines."""
    rng, number = random.Random(11), begin
    words = ["".join(rng.choices("aeiounrstlm", k=rng.randrange(3, 10))) for _ in range(2_000)]
    filled = size - len(_body("000000000000 ", stream))
    bodies = [_body(f"{0:012d} " + " ".join(rng.choices(words, k=size))[:filled], stream) for _ in range(TEXTS)]
    split = [tuple(body.split(b"000000000000", 1)) for body in bodies]
    heads = [_head(account, len(bodies[0]), more) for account in range(ACCOUNTS)]
    while True:
        before, after = split[number % TEXTS]
        yield b"%s%s%012d%s" % (heads[number % ACCOUNTS], before, number, after)
        number += 1


@dataclass(slots=True)
class Result:
    """One run: requests, those not answered 200, seconds, latencies (ms, sorted), those answered with other bytes, and how
    late the generator was (ms, 99th percentile).
    """

    requests: int
    failed: int
    seconds: float
    latencies: list[float] = field(repr=False)
    wrong: int = 0
    late: float = 0.0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


def exact(body: bytes) -> bool:
    """Whether an answer is what the stub sent, byte for byte."""
    return body in (ANSWER, STREAM)


def alike(body: bytes) -> bool:
    """Whether an answer that was written anew says what the stub sent."""
    if not body.startswith(b"data:"):
        return bool(json.loads(body)["choices"][0]["message"]["content"] == "word " * 280)
    events = [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data: {")]
    said = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    return "".join(said) == "".join(f"word {number} " for number in range(EVENTS))


async def load(port: int, requests: int, connections: int = 64, size: int = 2_048) -> Result:
    """Send `requests` of the same few words over keep-alive connections."""
    from tests.bench.drive import closed  # the stub is run as a script, which does not find the package

    return await closed(port, (request(number % ACCOUNTS, size, number) for number in range(requests)), requests, connections)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=2_048)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
