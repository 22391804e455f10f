"""A stub upstream and a load generator for the benches: as little work of their own as Python allows."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ANSWER = json.dumps({
    "id": "chatcmpl-bench", "object": "chat.completion", "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 280}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 400, "completion_tokens": 280, "total_tokens": 680},
}).encode()  # fmt: skip
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


class Stub(asyncio.Protocol):
    """Answers every request with REPLY; understands Content-Length bodies only."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.transport.write(REPLY)  # type: ignore[attr-defined]


def request(account: int, size: int, number: int) -> bytes:
    """A chat request of about `size` bytes, of one of the accounts, with a text of its own."""
    text = f"Summarise the report number {number} for the board. " + "The quarter went as planned. " * (
        max(0, size - 350) // 29
    )
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": text}]
    body = json.dumps({"model": "bench", "messages": messages, "temperature": 0.2}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nuser-agent: OpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\n"
        f"accept: application/json\r\ncontent-type: application/json\r\nauthorization: Bearer sk-{account}\r\n"
        f"x-forwarded-for: 203.0.{account % 250}.7\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Result:
    """One run: requests answered, those not answered 200, seconds, and latencies in milliseconds, sorted."""

    requests: int
    failed: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


async def load(port: int, requests: int, connections: int = 64, size: int = 2_048) -> Result:
    """Send `requests` over keep-alive connections, each the next as soon as its answer is whole."""
    counter = iter(range(requests))
    latencies: list[float] = []
    failed = 0

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in counter:
            started = time.perf_counter()
            writer.write(request(number % 1_000, size, number))
            head = await reader.readuntil(b"\r\n\r\n")
            place = head.lower().index(b"content-length:")
            await reader.readexactly(int(head[place + 15 :].split(b"\r\n", 1)[0]))
            latencies.append((time.perf_counter() - started) * 1_000)
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return Result(requests, failed, time.perf_counter() - started, sorted(latencies))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
