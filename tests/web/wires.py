"""A wire between the gateway and something it depends on, which can be cut, stalled, slowed and garbled under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

Done = TypeVar("Done")
SLOWLY = 0.05  # seconds for each piece


class Fault(StrEnum):
    """What a wire does to what comes back."""

    NONE = "none"
    KILL = "kill"
    STALL = "stall"
    SLOW = "slow"
    CORRUPT = "corrupt"


class Wire:
    """Carries bytes to a port of this machine, from a port of its own, on a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._fault = Fault.NONE
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._healed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._do(self._listen(0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def put(self, fault: Fault) -> None:
        """From now on it does this."""
        self._do(self._put(fault))

    def close(self) -> None:
        self.put(Fault.KILL)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Done]) -> Done:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", port)

    async def _put(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        self._healed.set()
        self._healed = asyncio.Event()
        if fault is Fault.KILL:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
        elif before is Fault.KILL:
            self._server = await self._listen(self.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, forth}
        try:
            await asyncio.gather(self._carry(reader, forth, faulty=False), self._carry(back, writer, faulty=True))
        except OSError:
            pass
        finally:
            self._writers -= {writer, forth}
            writer.transport.abort()
            forth.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, faulty: bool) -> None:
        while data := await reader.read(65_536):
            while faulty and self._fault is Fault.STALL:
                await self._healed.wait()
            if faulty and self._fault is Fault.SLOW:
                await asyncio.sleep(SLOWLY)
            garbled = faulty and self._fault is Fault.CORRUPT
            writer.write(b"\x00?" * len(data) if garbled else data)
            await writer.drain()
        writer.close()
