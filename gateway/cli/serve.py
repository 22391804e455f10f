"""`sluice serve`: the gateway process."""

from __future__ import annotations

import gc
import socket
from pathlib import Path

import click

from gateway import __version__
from gateway.cli.common import PATHS, fail
from gateway.cli.geo_findings import geo_findings
from gateway.config import load_config
from gateway.errors import SluiceError
from gateway.language.lint import lint
from gateway.web.door import wall_clock

GRACE = 30  # seconds that running streams have left after the order to stop


@click.command()
@click.argument("config", type=PATHS)
def serve(config: Path) -> None:
    """Run the gateway process. Exit: 0, or 2 for a bad config.

    SIGHUP loads the packs again; the other settings of CONFIG are read at the start only.
    """
    import uvicorn

    from gateway.web.app import build

    try:
        settings = load_config(config)
        listening = _listen(settings.host, settings.port)
        process = build(settings)
        geo = geo_findings(settings, wall_clock())
    except SluiceError as error:
        fail(error, 2)
    policy = process.gate.policy
    click.echo(f"sluice {__version__} on http://{settings.host}:{settings.port}", err=True)
    click.echo(
        f"policy {policy.digest[:19]}… version {policy.version}, {len(policy.rules)} rules, mode {settings.mode}", err=True
    )
    for finding in [*lint(policy, today=wall_clock(), catalogue=process.gate.catalogue), *geo]:
        click.echo(finding.line, err=True)
    if not settings.lasting_key:
        click.echo("no hash key is set (identity.hash_key_file): hashes will not join with those of another run", err=True)
    server = uvicorn.Config(
        process.app, http=process.protocol, ws="none", proxy_headers=False,
        timeout_graceful_shutdown=GRACE, log_level="warning", access_log=False, server_header=False, date_header=False,
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # what stands now stays: collections during a reload need not look through it
    uvicorn.Server(server).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SluiceError(f"cannot listen on {host}:{port}: {error.strerror}; set 'listen' to a free address") from None
    return listening
