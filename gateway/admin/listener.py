"""The admin listener, served beside the gateway in the same event loop: uvicorn's own server on a socket of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Final

import uvicorn

from gateway.admin.access import Access, Token
from gateway.admin.app import admin_app
from gateway.admin.desk import Desk
from gateway.admin.seen import Seen
from gateway.config import AdminSettings
from gateway.errors import ConfigError, Place, Problem
from gateway.web.app import Process

GRACE: Final = 2  # seconds for answers under way at the end
MOST: Final = 64  # connections
LARGEST_HEAD: Final = 16_384


class Beside(uvicorn.Server):
    """A server that leaves signals to the one it runs beside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def server_of(process: Process, settings: AdminSettings, seen: Seen, version: str) -> uvicorn.Server:
    """The listener of one process. Raises ConfigError where its certificate cannot be used."""
    assert process.halts is not None, "an administered process knows where a halt would stand"
    access = Access([Token.of(name, one.role, one.token) for name, one in settings.tokens.items()], settings.rate)
    certificate, key = settings.tls or (None, None)
    config = uvicorn.Config(
        admin_app(Desk(process, seen, process.halts), access, version), http="h11", lifespan="off", ws="none", log_config=None,
        access_log=False, proxy_headers=False, server_header=False, ssl_certfile=certificate, ssl_keyfile=key,
        timeout_graceful_shutdown=GRACE, limit_concurrency=MOST, h11_max_incomplete_event_size=LARGEST_HEAD,
    )  # fmt: skip
    try:
        config.load()
    except (OSError, ValueError) as error:
        mend = "name a PEM certificate and its key"
        raise ConfigError([Problem(Place("admin.tls"), f"cannot be used: {error}", mend)]) from None
    return Beside(config)


@contextlib.asynccontextmanager
async def served(server: uvicorn.Server, listening: socket.socket) -> AsyncIterator[None]:
    """Serve for as long as this is entered."""
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
