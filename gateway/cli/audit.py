"""`sluice audit`: the ledger, looked at from outside the process that writes it."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.audit.segments import record_files
from gateway.audit.verify import Verified, verify
from gateway.cli.common import PATHS, fail
from gateway.errors import SluiceError


class Digest(click.ParamType[bytes]):
    """A hash as 64 hexadecimal digits."""

    name = "hex"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            found = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            found = b""
        return found if len(found) == 32 else self.fail("is no hash: write its 64 hexadecimal digits", param, ctx)


LEDGER = click.argument("ledger", type=PATHS)


@click.group()
def audit() -> None:
    """Look at a ledger of audit records: whether it is whole, what it holds, what it proves."""


@audit.command("verify")
@LEDGER
@click.option("--root", type=Digest(), help="A root noted earlier: it must be in a journal.")
@click.option("--head", type=Digest(), help="The hash of a record noted earlier: it must still be there.")
def verify_command(ledger: Path, root: bytes | None, head: bytes | None) -> None:
    """Compute every hash of LEDGER again, and name the first record that differs.

    Note the roots it prints somewhere else: with --root, also the removal of the newest segments is seen.

    Exit: 0 whole, 1 altered, 2 cannot be read.
    """
    try:
        record_files([str(ledger)])
        found = verify(ledger, root, head)
    except OSError as error:
        fail(f"{error.filename or ledger}: cannot be read: {error.strerror}", 2)
    except SluiceError as error:
        fail(error, 2)
    for one in found:
        _show(one)
    if any(one.problems for one in found):
        raise SystemExit(1)


def _show(found: Verified) -> None:
    for problem in found.problems:
        click.echo(f"altered: {problem}", err=True)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    state = "ALTERED" if found.problems else "whole"
    click.echo(f"{found.chain}: {state}, {found.records:,} records in {found.segments:,} segments")
    click.echo(f"  root {found.root.hex()}\n  head {found.head.hex()}")
