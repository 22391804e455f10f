"""A real Redis for the tests of shared state: started once, on a free loopback port, keeping nothing on disk."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.state.redis import RedisState

PATIENT = 10.0
_prefixes = count()


class Server:
    """A redis-server that can be stopped, stalled and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.program = shutil.which("redis-server")
        assert self.program, "these tests need redis-server on PATH: apt-get install redis-server"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.folder, self.options = folder, options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.where}/0"

    def start(self) -> None:
        command = [
            str(self.program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self.folder), *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            assert self.process.poll() is None, f"redis-server ended at once: {command}"
            try:
                self.command("PING")
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise AssertionError("redis-server did not come up within five seconds")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stall(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """The raw answer to one command, on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall((" ".join(f'"{word}"' for word in words) + "\r\n").encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        return answer

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The commands that clients send while this is open, filled in when it closes; a script's own ones are left out."""
        seen: list[str] = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection, connection.makefile("rb") as lines:
            connection.sendall(b"MONITOR\r\n")
            assert lines.readline() == b"+OK\r\n"
            yield seen
            self.command("ECHO", "the end")
            for line in lines:
                origin, command = re.fullmatch(rb'\+\S+ \[\d+ (\S+)\] "(\w+)".*\r\n', line, re.DOTALL).groups()  # type: ignore[union-attr]
                if b"the end" in line:
                    break
                if origin != b"lua":
                    seen.append(command.decode().lower())


def with_state(server: Server, use: Callable[[RedisState], Awaitable[Any]], **options: Any) -> Any:
    """Run `use` with a state on the server, under a prefix of its own, and close it."""

    async def run() -> Any:
        options.setdefault("prefix", f"t{next(_prefixes)}")
        state = RedisState(server.url, **{"timeout": PATIENT} | options)
        try:
            return await use(state)
        finally:
            await state.close()

    return asyncio.run(run())


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(shared_redis: Server) -> Server:
    """The session's Redis, emptied."""
    shared_redis.command("FLUSHALL")
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own, to stall and to kill."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.resume()
    server.kill()
