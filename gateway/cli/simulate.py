"""`sluice simulate`: labelled traffic at any scale, by seed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.audit.stored import created
from gateway.cli.common import CONFIG, OUT, PATHS, configured, fail
from gateway.cli.compact import form_of, write_lines
from gateway.config import Config
from gateway.errors import RecordError, SluiceError
from gateway.registry import Registry
from gateway.replay.sources import NO_PARQUET

NEEDS = "simulated traffic needs numpy and pyarrow; install sluicegate[columns]"


@click.command("simulate")
@click.argument("scenario", required=False)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other traffic of the same kind."
)
@click.option(
    "--scale", type=click.FloatRange(1, 1_000_000), default=1_000.0, show_default=True,
    help="Divide by this: accounts first (one is left), then the window; never rates per account.",
)  # fmt: skip
@OUT
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl"]), help="By the suffix of --out if left out.")
@click.option("--bodies", is_flag=True, help="Write captures with headers and bodies (JSONL) in place of compact records.")
@click.option("--workloads", type=PATHS, help="Write here what those declare who declare themselves (R2), as a workloads.yaml.")
@click.option("--list", "listed", is_flag=True, help="Say which scenarios there are, and what each stands for.")
@CONFIG
def simulate(
    scenario: str | None, seed: int, scale: float, out: str | None, form: str | None, bodies: bool, workloads: Path | None,
    listed: bool, config: Path | None,
) -> None:  # fmt: skip
    """Write the labelled traffic of SCENARIO (such as D1, `case` or `case+benign`) as records for a dry run.

    Exit: 0, 2 bad arguments or settings, 3 cannot be written.
    """
    try:
        registry, settings = configured(config)
        if listed or scenario is None:
            return _list(listed)
        from gateway.simulate.traffic import Traffic

        traffic = Traffic(scenario, scale, seed)
        if workloads is not None:
            workloads.write_text(traffic.declarations())
        _write(traffic, out, "jsonl" if bodies else form_of(form, out), bodies, registry, settings)
    except ImportError:
        fail(NEEDS, 2)
    except RecordError as error:
        fail(error, 3)
    except (SluiceError, ValueError) as error:
        fail(error, 2)
    except OSError as error:
        fail(f"{error.filename or out}: cannot be written: {error.strerror}", 3)


def _list(asked: bool) -> None:
    from gateway.simulate.table import SETS, tables  # an extra, like all of it

    if not asked:
        raise click.UsageError("name a scenario; --list says which there are")
    for one in tables().scenarios.values():
        click.echo(f"{one.id:<4} {one.label:<12} {one.title}\n     {one.table}")
        click.echo(f"     assumed: {one.assumed}" if one.assumed else "")
    click.echo(f"sets: {', '.join(SETS)} (the campaigns; everything)")


def _write(traffic: Any, out: str | None, form: str, bodies: bool, registry: Registry, settings: Config) -> None:
    from gateway.simulate.traffic import lines

    if form == "parquet":
        _write_parquet(traffic, out, registry, settings)
        return
    compact = (row for table in traffic.compact(registry, settings.hash_key) for row in lines(table))
    write_lines(traffic.captures() if bodies else compact, out)


def _write_parquet(traffic: Any, out: str | None, registry: Registry, settings: Config) -> None:
    try:
        from gateway.replay.parquet import Writer
    except ImportError:
        fail(NO_PARQUET, 2)
    assert out is not None, "`form_of` saw to it"
    columns = (TextColumn("simulating"), BarColumn(), TextColumn("{task.completed:,.0f} exchanges"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, ExitStack() as stack:
        task, target = progress.add_task("", total=traffic.expected), stack.enter_context(created(out))
        file: Any = None
        for table in traffic.compact(registry, settings.hash_key):
            file = file or stack.enter_context(Writer(target, table.schema))
            file.write(table)
            progress.update(task, advance=table.num_rows)
