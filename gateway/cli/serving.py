"""One gateway process that serves: what `sluice serve` runs, once or once for each worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from typing import Any

import uvicorn

from gateway import __version__
from gateway.admin.listener import served, server_of
from gateway.admin.seen import Seen
from gateway.cli.common import fail
from gateway.cli.geo_findings import geo_findings
from gateway.config import Config
from gateway.errors import SluiceError
from gateway.incidents import report
from gateway.language.lint import lint
from gateway.web.app import Process, build
from gateway.web.door import wall_clock
from gateway.web.stopping import Stopping
from gateway.web.workers import Seat


def run(settings: Config, listening: socket.socket, seat: Seat | None = None, admin: socket.socket | None = None) -> None:
    """Serve until told to stop. seat: this is one of several workers; the first one speaks for all. admin: where its admin
    listener listens."""
    seen = Seen()
    try:
        process = build(settings, sink=seen if admin else None)
        beside = served(server_of(process, settings.admin, seen, __version__), admin) if settings.admin and admin else None
        geo = geo_findings(settings, wall_clock())
    except SluiceError as error:
        fail(error, 2)
    process.seat = seat
    if seat is None or seat.number == 1:
        _announce(settings, process, geo, seat)
    server = uvicorn.Config(
        process.app, http=process.protocol, ws="none", proxy_headers=False,
        log_config=None, log_level="warning", access_log=False, server_header=False, date_header=False,
        timeout_keep_alive=round(process.service.waits.idle),
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # what stands now stays: collections during a reload need not look through it
    Server(server, process, beside).run(sockets=[listening])


class Server(Stopping):
    """Uvicorn's, which also takes part in what workers do together. beside: what is served for as long as this serves."""

    def __init__(
        self, config: uvicorn.Config, process: Process, beside: contextlib.AbstractAsyncContextManager[None] | None = None
    ) -> None:
        super().__init__(config, process)
        self._beside = beside or contextlib.nullcontext()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        async with self._beside:
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        seat = self._process.seat
        if seat is not None and self.started:
            seat.board.put(seat.number, self._process.gate.policy.digest)
            asyncio.get_running_loop().add_reader(seat.keeper, self._orphaned, seat.keeper)
            seat.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        logging.shutdown()  # what was left out is said before the signal that ended the process is raised once more

    async def on_tick(self, counter: int) -> bool:
        seat = self._process.seat
        if seat is not None:
            seat.board.put(seat.number, self._process.gate.policy.digest)
        return await super().on_tick(counter)

    def _orphaned(self, keeper: int) -> None:
        asyncio.get_running_loop().remove_reader(keeper)
        self.handle_exit(signal.SIGTERM, None)


def _announce(settings: Config, process: Process, geo: list[Any], seat: Seat | None) -> None:
    policy = process.gate.policy
    several = f", {seat.board.count} workers" if seat is not None else ""
    where = f"sluice {__version__} on http://{settings.host}:{settings.port}{several}"
    named = f"policy {policy.digest[:19]}… version {policy.version}, {len(policy.rules)} rules, mode {settings.mode}"
    if settings.admin is not None:
        where += f", admin on {'https' if settings.admin.tls else 'http'}://{settings.admin.host}:{settings.admin.port}"
    report("server.started", f"{where}; {named}")
    for finding in [*lint(policy, today=wall_clock(), catalogue=process.gate.catalogue), *geo]:
        report("policy.finding", finding.line)
    if not settings.lasting_key:
        report(
            "identity.key-drawn", "no hash key is set (identity.hash_key_file): hashes will not join with those of another run"
        )
