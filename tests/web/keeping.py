"""A provider that keeps its connections, on blocking sockets: `?do=NAME` chooses what it writes, byte for byte.

It remembers which request came on which connection, so that tests can see reuse, retries and what was never sent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

BODY = b'{"model": "kept-1", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SIZED = HEAD + b"content-length: %d\r\n\r\n" % len(BODY)
CHUNKS = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n" + CHUNKS
LARGE = 64 * 2**20
SOME = 40 * 2**10  # less than a server's buffer holds, so that such an answer ends before its client has taken it

WRITES = {
    "sized": SIZED + BODY,
    "some": HEAD + b"content-length: %d\r\n\r\n" % SOME + bytes(SOME),
    "chunked": CHUNKED + b"0\r\n\r\n",
    "trailers": CHUNKED + b"0\r\nx-late: 1\r\nx-usage: 2\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + SIZED + BODY,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello",
    "stream": HEAD.replace(b"application/json", b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
    b"13\r\ndata: {\"usage\": 1}\n\r\n1\r\n\n\r\n0\r\n\r\n",
    "no_content": b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
    "not_modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
    "both_framings": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two_lengths": HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "odd_length": HEAD + b"content-length: +3\r\n\r\nabc",
    "odd_coding": HEAD + b"transfer-encoding: gzip\r\n\r\nabc",
    "more_than_asked": SIZED + BODY + SIZED + BODY,
    "long_head": HEAD + b"x-a: " + b"y" * 300_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "many_fields": HEAD + b"x: y\r\n" * 600 + b"content-length: 0\r\n\r\n",
}  # fmt: skip
ENDS = {"until_close": HEAD + b"\r\n" + BODY, "old": SIZED.replace(b"1.1", b"1.0") + BODY}


@dataclass
class Got:
    """One request: the number of its connection, its target and body, and whether the connection was cut on it."""

    connection: int
    target: str
    head: bytes
    body: bytes


@dataclass
class Keeping:
    """The server. stale: how many next requests on used connections meet a close instead of an answer."""

    got: list[Got] = field(default_factory=list)
    connections: int = 0
    stale: int = 0
    written: int = 0
    received: int = 0
    reading: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.reading.set()
        self._open: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.close()

    def hang_up(self) -> None:
        """End every connection."""
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            held, served = b"", 0
            try:
                while True:
                    while b"\r\n\r\n" not in held:
                        held += self._more(connection)
                    head, _, held = held.partition(b"\r\n\r\n")
                    body, held = self._body(connection, head, held)
                    target = head.split(b" ")[1].decode()
                    self.got.append(Got(number, target, head, body))
                    if self.stale and served:
                        self.stale -= 1
                        return
                    served += 1
                    if not self._answer(connection, parse_qs(urlsplit(target).query).get("do", ["sized"])[0]):
                        return
            except (EOFError, OSError):
                return

    def _answer(self, connection: socket.socket, do: str) -> bool:
        """Whether the connection goes on."""
        if do == "large":
            connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % LARGE)
            for _ in range(LARGE // 2**16):
                connection.sendall(bytes(2**16))
                self.written += 2**16
            return True
        if do == "slow":
            time.sleep(0.3)
        connection.sendall(WRITES.get(do) or ENDS.get(do) or WRITES["sized"])
        return do not in ENDS

    def _more(self, connection: socket.socket) -> bytes:
        self.reading.wait()
        if not (data := connection.recv(65_536)):
            raise EOFError
        self.received += len(data)
        return data

    def _body(self, connection: socket.socket, head: bytes, held: bytes) -> tuple[bytes, bytes]:
        lines = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
        if lines.get(b"transfer-encoding") == b"chunked":
            body = b""
            while True:
                while b"\r\n" not in held:
                    held += self._more(connection)
                size, _, held = held.partition(b"\r\n")
                length = int(size, 16)
                while len(held) < length + 2:
                    held += self._more(connection)
                body, held = body + held[:length], held[length + 2 :]
                if not length:
                    return body, held
        length = int(lines.get(b"content-length", 0))
        pieces, count = [held], len(held)
        while count < length:
            pieces.append(self._more(connection))
            count += len(pieces[-1])
        whole = b"".join(pieces)
        return whole[:length], whole[length:]
