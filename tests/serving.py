"""Serve an ASGI app on a free loopback port, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def served(app: Any, lifespan: str = "off", http: Any = "auto") -> Iterator[int]:
    """The port on which uvicorn serves the app while the block runs."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan=lifespan, http=http, proxy_headers=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
