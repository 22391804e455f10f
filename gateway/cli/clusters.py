"""`sluice clusters`: accounts tied by several kinds of evidence, found in audit records."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.common import PATHS, Complaints, configured, fail
from gateway.clusters.found import MIN_SIZE, find
from gateway.clusters.published import earlier, plain, publish, text
from gateway.clusters.records import Seen
from gateway.clusters.report import report
from gateway.errors import RecordError, SluiceError
from gateway.replay.sighted import take


@click.command()
@click.argument("records", nargs=-1, required=True)
@click.option("--out", type=PATHS, help="Publish the clusters here (JSON), for the `clusters` section of gateway.yaml to read.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--min-size", type=click.IntRange(2), default=MIN_SIZE, show_default=True, help="Orgs that a cluster has at least."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random accounts compared with.")
@click.option("--against", multiple=True, help="Records of orgs known to be honest: how many of them end in a cluster is told.")
@click.option("--previous", type=PATHS, help="A published file whose ids are kept; what --out holds already if left out.")
def clusters(
    records: tuple[str, ...],
    out: Path | None,
    form: str,
    min_size: int,
    seed: int,
    against: tuple[str, ...],
    previous: Path | None,
) -> None:
    """Find accounts that belong together in RECORDS: audit records (- is standard input) or compact Parquet, not captures.

    Exit: 0, 2 a file cannot be written or is no file of clusters, 3 bad or empty records.
    """
    before = previous or (out if out is not None and out.exists() else None)
    try:
        known = earlier(before) if before is not None else {}
    except SluiceError as error:
        fail(error, 2)
    complaints = Complaints()
    seen = Seen(seed, complaints)
    try:
        seen.take(records, columns=_columns)
        seen.take(against, honest=True, columns=_columns)
    except RecordError as error:
        fail(error, 3)
    complaints.rest()
    try:
        tree = plain(find(seen, seed, min_size, known), seen, seed, min_size)
    except ValueError as error:
        fail(error, 3)
    if out is not None:
        try:
            publish(tree, out)
        except OSError as error:
            fail(f"{out}: cannot be written: {error.strerror}", 2)
    click.echo(text(tree) if form == "json" else report(tree), nl=False)


def _columns(seen: Seen, name: str) -> None:
    """Take a Parquet file of compact records."""
    take(seen, name, configured(None)[0].signals)
