"""`sluice serve`: the gateway process, or several of them on one address."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from gateway.cli.common import PATHS, fail
from gateway.config import Config, load_config
from gateway.errors import SluiceError, StateError
from gateway.logs import configure

MOST_WORKERS = 128


@click.command()
@click.argument("config", type=PATHS)
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=1, help="Processes on one address; they need Redis.")
def serve(config: Path, workers: int) -> None:
    """Run the gateway process. Exit: 0, or 2 for a bad config.

    SIGHUP loads the packs again; the other settings of CONFIG are read at the start only. Several workers keep limits and
    windows in one Redis, and each its own chain of the ledger: audit/1, audit/2 and so on.
    """
    from gateway.cli.serving import run  # heavy to import, and not needed by other commands
    from gateway.web.workers import Keeper

    try:
        settings = load_config(config)
        configure(settings.log)
        check_workers(settings, workers)
        listening = _listen(settings.host, settings.port, "listen")
        admin = _listen(settings.admin.host, settings.admin.port, "admin.listen") if settings.admin else None
    except SluiceError as error:
        fail(error, 2)
    if workers == 1:
        run(settings, listening, admin=admin)
    else:
        sys.exit(Keeper(workers, lambda seat: run(settings, listening, seat, admin)).run())


def check_workers(settings: Config, workers: int) -> None:
    """Raises StateError where so many workers cannot keep the limits together."""
    if workers > 1 and settings.state.url.startswith("memory:"):
        raise StateError(
            f"--workers {workers}: state in memory is each worker's own, so limits would admit up to {workers} times what they"
            " say; set 'state: {url: redis://host:6379/0}', or start one worker"
        )
    if settings.state.replicas is not None and settings.state.replicas < workers:
        raise StateError(
            f"--workers {workers}: state.replicas says that {settings.state.replicas} share the limits while Redis fails, so"
            f" these would admit more than they say; set it to all processes before this Redis, {workers} at least"
        )
    if workers > 1 and not hasattr(os, "fork"):
        raise StateError("--workers needs a system that can fork processes; start several on ports of their own instead")


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SluiceError(f"cannot listen on {host}:{port}: {error.strerror}; set '{key}' to a free address") from None
    return listening
