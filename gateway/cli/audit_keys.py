"""`sluice audit erase | keys | join`: what is done with the keys behind a ledger's identifiers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.audit.identifiers import NameKeys, key_id
from gateway.audit.joining import joined
from gateway.audit.sealing import Keys, account_key
from gateway.audit.segments import record_files
from gateway.cli.audit import LEDGER, audit, said
from gateway.cli.common import CONFIG, PATHS, configured, fail
from gateway.config import load_config
from gateway.web.door import wall_clock


@audit.command("erase")
@click.argument("account")
@click.option("--config", type=PATHS, required=True, help="The gateway.yaml whose audit.keys hold the account's key.")
def erase_command(account: str, config: Path) -> None:
    """Drop the key of ACCOUNT: its identifiers in all records can never be read again; the chain stays whole.

    A running gateway makes the account a new key if it comes again. Copies of the key file have to be dropped by hand.

    Exit: 0, 1 there is no such key, 2 bad config.
    """
    with said():
        keys = Keys(load_config(config, needs_upstreams=False).audit.keys, create=False)
        dropped = keys.erase(account_key(account), wall_clock())
        keys.close()
    if dropped is None:
        fail(f"no key of an account {account!r} is in {keys.file}; was it erased before, or is it written otherwise?", 1)
    click.echo(f"erased: key {dropped}; identifiers that it sealed can no longer be read")


@audit.command("keys")
@click.argument("file", type=PATHS)
@click.option("--add", "day", type=click.DateTime(["%Y-%m-%d"]), help="Add a key, in force from this day on.")
def keys_command(file: Path, day: datetime | None) -> None:
    """Show the dated keys of FILE (audit.names), which hash identifiers, and add one. A gateway reads them at its start.

    Rotate by adding keys for days to come; forget by removing the lines of days gone by. Exit: 0, 2 bad file.
    """
    with said():
        if day is not None:
            file.touch(0o600, exist_ok=True)
            with file.open("a") as out:
                out.write(f"{day:%Y-%m-%d} {secrets.token_hex(32)}\n")
        keys = NameKeys.read(file, 0).keys
    for at, key in keys:
        click.echo(f"{datetime.fromtimestamp(at / 1_000_000, UTC):%Y-%m-%d}  key {key_id(key)}")


@audit.command("join")
@LEDGER
@CONFIG
def join_command(ledger: Path, config: Path | None) -> None:
    """Print which hashes of two keys stand for one value: signal, key before, hash before, key, hash; tab-separated.

    It takes what records of an overlap say, and, with --config, what the keys of accounts open. Exit: 0, 1 nothing to join, 2.
    """
    with said():
        record_files([str(ledger)])
        _, settings = configured(config)
        rows: Iterator[tuple[str, ...]] = joined(ledger, settings.audit.hashes(settings.hash_key), settings.audit.opens())
        count = 0
        for row in rows:
            click.echo("\t".join(row))
            count += 1
    if not count:
        fail("no record holds hashes of two keys, and none could be opened", 1)
