"""How the process ends: uvicorn's server, which goes step by step and leaves nobody without an answer.

On SIGTERM or SIGINT it first says on /readyz that it is not ready and serves on for `announce`, so that a balancer finds out
before anybody is turned away. Then nothing new is accepted; what is under way has `grace` to come to its end. What is left
then is told so in the shape of its protocol, settled and recorded as `stopped`: before an answer has begun it is a 503 that
may be asked again, within a stream an error event. At last the records are written out.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import uvicorn

from gateway.values import SECOND
from gateway.web.app import Process

TOLD: Final = 2  # seconds for what is told at the end to reach its clients
_LOOK: Final = 0.05


class Stopping(uvicorn.Server):
    """The server of a process that ends this way."""

    def __init__(self, config: uvicorn.Config, process: Process) -> None:
        super().__init__(config)
        self._process, self._stop = process, process.assembly.config.stop
        config.timeout_graceful_shutdown = -(-self._stop.grace // SECOND) + TOLD

    async def main_loop(self) -> None:
        await super().main_loop()
        self._process.stopping = True
        until = asyncio.get_running_loop().time() + self._stop.announce / SECOND
        while asyncio.get_running_loop().time() < until and not self.force_exit:  # noqa: ASYNC110 - a second SIGINT sets it
            await asyncio.sleep(_LOOK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end = asyncio.get_running_loop().call_later(self._stop.grace / SECOND, self._process.stop)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()
