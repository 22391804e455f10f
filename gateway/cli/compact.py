"""`sluice compact`: records of any kind as compact records, for replay at scale."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import Any

import click

from gateway.audit.stored import created
from gateway.cli.common import CONFIG, FIELDS, OUT, Complaints, configured, fail, tell_unopened
from gateway.errors import RecordError, SluiceError
from gateway.replay.compact import VERSION, columns_of, row_of
from gateway.replay.foreign.fields import Fields
from gateway.replay.sources import NO_PARQUET, Reader
from gateway.signals import Catalogue
from gateway.web.intake import Intake


@click.command("compact")
@click.argument("records", nargs=-1, required=True)
@OUT
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl"]), help="By the suffix of --out if left out.")
@CONFIG
@FIELDS
def compact(records: tuple[str, ...], out: str | None, form: str | None, config: Path | None, fields: Fields) -> None:
    """Write RECORDS (captures, audit records, logs of other programs) as compact records: a row of signal values an exchange.

    Exit: 0, 2 bad settings, 3 bad or empty records.
    """
    try:
        registry, settings = configured(config)
    except SluiceError as error:
        fail(error, 2)
    intake = Intake(registry, settings.hash_key, settings.largest_body)
    opened, complaints = settings.audit.opens(), Complaints()
    reader = Reader(intake, registry.signals, complaints, opened, fields)
    rows = (row_of(exchange, registry.signals) for exchange in reader.exchanges(records))
    try:
        write_rows(rows, form_of(form, out), out, registry.signals)
    except OSError as error:
        fail(f"{error.filename or out}: cannot be written: {error.strerror}", 3)
    except RecordError as error:
        fail(error, 3)
    complaints.rest()
    tell_unopened(opened)
    if not reader.read:
        fail("no record could be read", 3)


def form_of(form: str | None, out: str | None) -> str:
    """The form that is asked for, else what the suffix says. Parquet cannot go to standard output."""
    found = form or ("parquet" if out is not None and out.endswith(".parquet") else "jsonl")
    if found == "parquet" and out is None:
        raise click.UsageError("Parquet needs --out FILE")
    return found


def write_rows(rows: Iterable[dict[str, Any]], form: str, out: str | None, catalogue: Catalogue) -> None:
    """Write rows in one of the forms. Raises OSError, RecordError."""
    if form == "parquet":
        try:
            from gateway.replay.parquet import Writer, shape  # an extra: only where Parquet is written
        except ImportError:
            fail(NO_PARQUET, 2)
        assert out is not None, "`form_of` saw to it"
        with created(out) as target, Writer(target, shape(columns_of(catalogue), catalogue)) as file:
            file.rows(rows)
        return
    write_lines(({"compact": VERSION, **row} for row in rows), out)


def write_lines(rows: Iterable[Mapping[str, Any]], out: str | None) -> None:
    """Write rows as JSON, one a line, to a file, a URL, or standard output. Raises OSError, RecordError."""
    with created(out) if out is not None else nullcontext(sys.stdout.buffer) as target:
        for row in rows:
            target.write(dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        target.flush()
