"""Steps of serving one request that must not break what is around them.

They are called by timers, by parsers and by other people's connections: an exception that left them would stop the time-outs of
an upstream, close a stranger's connection, or be taken for the client's mistake. So each is guarded; what breaks is logged, and
`_defect` says what becomes of the request.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, TypeVar

from gateway.incidents import report
from gateway.web.exchange import Exchange

READERS: Final = 2  # they share one interpreter: more of them would only keep the loop waiting longer
Found = TypeVar("Found")


class Steps:
    """Whoever works in guarded steps."""

    exchange: Exchange
    _loop: asyncio.AbstractEventLoop
    _tasks: set[asyncio.Task[Any]]

    @abstractmethod
    def _defect(self) -> None:
        """Something broke, ours or a plugin's: answer the client, settle, let go of everything."""

    def _guarded(self, step: Callable[..., None], *given: object) -> None:
        """Take a step, and see to it that a defect ends here."""
        try:
            step(*given)
        except Exception as error:  # a defect, ours or a plugin's: the client is answered, the record settled, the rest goes on
            self._broke(error)

    def _broke(self, error: Exception) -> None:
        self._tell(error)
        self._defect()

    def _tell(self, error: Exception) -> None:
        exchange = self.exchange
        told = {"decision": exchange.judgement.outcome.id} if exchange.judgement is not None else {}
        report("defect", "a step of serving a request broke", error=error, trace=f"{exchange.trace.trace_id:032x}", **told)

    def _all_of(self, *steps: Callable[[], None]) -> None:
        """Take all of these steps, whatever becomes of the ones before."""
        for step in steps:
            try:
                step()
            except Exception as error:  # none may keep the others from theirs
                self._tell(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that waits; the server waits for it when it stops."""
        task = self._loop.create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # nobody awaits it; what it serves is over, or it would have said so itself
            self._tell(error)


async def aside(work: Callable[[], Found]) -> Found:
    """Do what takes long in a thread, so that nobody else waits for it; name look-ups have threads of their own."""
    return await asyncio.get_running_loop().run_in_executor(_readers(), work)


@lru_cache(1)
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, "reading")
