"""`sluice compact`: records of any kind as compact records, for replay at scale."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import CONFIG, PATHS, configured, fail
from gateway.errors import RecordError, SluiceError
from gateway.replay.compact import VERSION, columns_of, row_of
from gateway.replay.sources import NO_PARQUET, Reader
from gateway.signals import Catalogue
from gateway.web.intake import Intake


@click.command("compact")
@click.argument("records", nargs=-1, required=True)
@click.option("--out", type=PATHS, help="Write here; needed for Parquet. JSONL goes to standard output if left out.")
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl"]), help="By the suffix of --out if left out.")
@CONFIG
def compact(records: tuple[str, ...], out: Path | None, form: str | None, config: Path | None) -> None:
    """Write RECORDS (captures or audit records) as compact records: one row of facts and signal values an exchange.

    Exit: 0, 2 bad settings, 3 bad or empty records.
    """
    try:
        registry, settings = configured(config)
    except SluiceError as error:
        fail(error, 2)
    reader = Reader(
        Intake(registry, settings.hash_key, settings.largest_body), registry.signals, lambda e: click.echo(e, err=True)
    )
    rows = (row_of(exchange, registry.signals) for exchange in reader.exchanges(records))
    try:
        write_rows(rows, form_of(form, out), out, registry.signals)
    except OSError as error:
        fail(f"{error.filename or out}: cannot be written: {error.strerror}", 3)
    except RecordError as error:
        fail(error, 3)
    if not reader.read:
        fail("no record could be read", 3)


def form_of(form: str | None, out: Path | None) -> str:
    """The form that is asked for, else what the suffix says. Parquet cannot go to standard output."""
    found = form or ("parquet" if out is not None and out.suffix == ".parquet" else "jsonl")
    if found == "parquet" and out is None:
        raise click.UsageError("Parquet needs --out FILE")
    return found


def write_rows(rows: Iterable[dict[str, Any]], form: str, out: Path | None, catalogue: Catalogue) -> None:
    """Write rows in one of the forms. Raises OSError."""
    if form == "parquet":
        try:
            from gateway.replay.parquet import Writer, shape  # an extra: only where Parquet is written
        except ImportError:
            fail(NO_PARQUET, 2)
        assert out is not None, "`form_of` saw to it"
        with Writer(out, shape(columns_of(catalogue), catalogue)) as file:
            file.rows(rows)
        return
    with out.open("w") if out is not None else nullcontext(sys.stdout) as lines:
        lines.writelines(_lines(rows))


def _lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield dumps({"compact": VERSION, **row}, ensure_ascii=False, separators=(",", ":")) + "\n"
