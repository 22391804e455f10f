"""`sluice audit`: the ledger, looked at from outside the process that writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway.audit.proofs import check, prove
from gateway.audit.query import Query, select
from gateway.audit.segments import record_files
from gateway.audit.signing import PublicKey
from gateway.audit.verify import Verified, verify
from gateway.cli.common import CONFIG, OUT, PATHS, Complaints, configured, fail, tell_unopened
from gateway.cli.compact import form_of, write_rows
from gateway.decision import Action
from gateway.errors import SluiceError
from gateway.replay.compact import row_of
from gateway.replay.sources import Reader
from gateway.values import parse_timestamp
from gateway.web.intake import Intake


class Digest(click.ParamType[bytes]):
    """A hash as 64 hexadecimal digits."""

    name = "hex"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        try:
            found = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            found = b""
        return found if len(found) == 32 else self.fail("is no hash: write its 64 hexadecimal digits", param, ctx)


class Moment(click.ParamType[int]):
    """A time (µs): a date, or a date and a time of RFC 3339."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_timestamp(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


LEDGER = click.argument("ledger", type=PATHS)


@contextmanager
def said() -> Iterator[None]:
    """Failures as messages: exit 1 for what is not there, 2 for what cannot be read."""
    try:
        yield
    except OSError as error:
        fail(f"{error.filename or 'the ledger'}: cannot be read or written: {error.strerror}", 2)
    except LookupError as error:
        fail(error.args[0], 1)
    except SluiceError as error:
        fail(error, 2)


@click.group()
def audit() -> None:
    """Look at a ledger of audit records: whether it is whole, what it holds, what it proves."""


@audit.command("verify")
@LEDGER
@click.option("--root", type=Digest(), help="A root noted earlier: it must be in a journal.")
@click.option("--head", type=Digest(), help="The hash of a record noted earlier: it must still be there.")
@click.option("--public-key", type=PATHS, help="A file with the Ed25519 key that closed segments are signed with.")
def verify_command(ledger: Path, root: bytes | None, head: bytes | None, public_key: Path | None) -> None:
    """Compute every hash of LEDGER again, and name the first record that differs.

    Note the roots it prints somewhere else: with --root, also the removal of the newest segments is seen.

    Exit: 0 whole, 1 altered, 2 cannot be read.
    """
    with said():
        verifier = PublicKey(public_key.read_text(), str(public_key)) if public_key is not None else None
        record_files([str(ledger)])
        found = verify(ledger, root, head, verifier)
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
    signed = f", {found.signed:,} signatures" if found.signed else ""
    click.echo(f"{found.chain}: {state}, {found.records:,} records in {found.segments:,} segments{signed}")
    click.echo(f"  root {found.root.hex()}\n  head {found.head.hex()}")


@audit.command("query")
@LEDGER
@click.option("--reference", "references", multiple=True, help="A reference, or the id of a decision.")
@click.option("--account", default="", help="An account, by its id or by the hash that records hold.")
@click.option("--rule", "rules", multiple=True, help="A rule that matched.")
@click.option("--action", "actions", multiple=True, type=click.Choice([str(one) for one in Action]), help="What was done.")
@click.option("--since", type=Moment(), default=0, help="From this time on, such as 2026-11-30 or 2026-11-30T08:00:00Z.")
@click.option("--until", type=Moment(), help="Before this time.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@CONFIG
def query_command(
    ledger: Path,
    references: tuple[str, ...],
    account: str,
    rules: tuple[str, ...],
    actions: tuple[str, ...],
    since: int,
    until: int | None,
    limit: int | None,
    config: Path | None,
) -> None:
    """Print the records of LEDGER that are asked for, one JSON object a line. Several of a kind: any; of several kinds: all.

    With --config, sealed identifiers are opened where its keys are here, and an account is also found by its hash.

    Exit: 0, 1 none found, 2 cannot be read.
    """
    ids = frozenset(one.removeprefix("sg-") for one in references)
    query = Query(ids, account, frozenset(rules), frozenset(actions), since, until)
    count = 0
    with said():
        record_files([str(ledger)])
        _, settings = configured(config)
        opener = settings.audit.opens()
        for _, _, body in select(ledger, query, settings.audit.hashes(settings.hash_key), opener):
            click.echo(body)
            count += 1
            if count == limit:
                break
        tell_unopened(opener)
    if not count:
        fail("no record is like that", 1)


@audit.command("export")
@LEDGER
@OUT
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl"]), help="By the suffix of --out if left out.")
@click.option("--sealed", is_flag=True, help="Leave sealed identifiers sealed, also where the keys are here.")
@CONFIG
def export_command(ledger: Path, out: str | None, form: str | None, sealed: bool, config: Path | None) -> None:
    """Write the records of LEDGER as compact records: one row of facts and signal values an exchange.

    Exit: 0, 2 cannot be read or written.
    """
    with said():
        registry, settings = configured(config)
        opener, complaints = settings.audit.opens(), Complaints()
        intake = Intake(registry, settings.hash_key, settings.largest_body)
        reader = Reader(intake, registry.signals, complaints, bytes if sealed else opener)
        rows = (row_of(exchange, registry.signals) for exchange in reader.exchanges([str(ledger)]))
        write_rows(rows, form_of(form, out), out, registry.signals)
        complaints.rest()
        tell_unopened(opener)


@audit.command("prove")
@LEDGER
@click.argument("reference")
@click.option("--root", type=Digest(), help="The root that was made public; the last one if left out.")
@click.option("--out", type=PATHS, help="Write the proof here instead of standard output.")
def prove_command(ledger: Path, reference: str, root: bytes | None, out: Path | None) -> None:
    """Make a proof that the record of REFERENCE stands in LEDGER: it convinces whoever knows the root, and shows nothing else.

    Exit: 0, 1 there is no such record below that root, 2 cannot be read.
    """
    with said():
        record_files([str(ledger)])
        text = json.dumps(prove(ledger, reference.removeprefix("sg-"), root), indent=2, ensure_ascii=False) + "\n"
        if out is not None:
            out.write_text(text)
        else:
            click.echo(text, nl=False)


@audit.command("check-proof")
@click.argument("proof", type=PATHS)
@click.option("--root", type=Digest(), required=True, help="The root, from whoever made it public: not from the proof.")
def check_command(proof: Path, root: bytes) -> None:
    """Check a PROOF against a root alone, and print its record. Exit: 0, 1 it proves nothing, 2 cannot be read."""
    with said():
        try:
            told: Any = json.loads(proof.read_text())
        except ValueError as error:
            raise SluiceError(f"{proof}: is not JSON: {error}") from None
    try:
        record = check(told, root)
    except SluiceError as error:
        fail(f"{proof}: proves nothing: {error}", 1)
    click.echo(json.dumps(record, indent=2, ensure_ascii=False))
