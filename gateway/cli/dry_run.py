"""`sluice dry-run`: recorded exchanges through a policy, or through two of them."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import click

from gateway.cli.common import CONFIG, FIELDS, HARVEST, LABELS, PATHS, WARM_UP, configured, fail
from gateway.cli.engines import CLUSTER, ENGINE, MAX, RESUME, Engine, Job
from gateway.errors import ClusterError, ExtraError, LoadError, NotInColumnsError, RecordError, SluiceError
from gateway.language.compile import load
from gateway.replay.foreign.fields import Fields
from gateway.report.labels import Labels, read_labels
from gateway.report.page import ready
from gateway.report.printing import write


@click.command("dry-run")
@click.argument("records", nargs=-1, required=True)
@click.option("--policy", "policies", multiple=True, type=PATHS, help="Packs or folders; the bundled rules if left out.")
@click.option("--against", multiple=True, type=PATHS, help="Packs or folders of another policy: tell where the two differ.")
@CONFIG
@LABELS
@HARVEST
@WARM_UP
@ENGINE
@RESUME
@CLUSTER
@MAX
@FIELDS
@click.option("--decisions", type=PATHS, help="Write one audit record per exchange here.")
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table")
@click.option("--out", type=PATHS, help="Write the report here instead of standard output.")
@click.option(
    "--max-benign-share", type=click.FloatRange(0, 1), callback=lambda ctx, option, value: _share(value),
    help="Exit 1 if rules and limits would refuse a larger share (0 to 1) of exchanges whose label does not mean harvesting; "
    "what is refused at intake is counted apart.",
)  # fmt: skip
def dry_run(
    records: tuple[str, ...],
    policies: tuple[Path, ...],
    against: tuple[Path, ...],
    config: Path | None,
    labels: Path | None,
    harvest: tuple[str, ...],
    warm_up: int,
    engine: str,
    resume: Path | None,
    cluster: str | None,
    max_keys: int,
    fields: Fields,
    decisions: Path | None,
    form: str,
    out: Path | None,
    max_benign_share: float | None,
) -> None:
    """Replay RECORDS (captures, audit records, logs of other programs; - is standard input) through a policy.

    Exit: 0, 1 a stated budget exceeded, 2 bad rules, 3 bad or empty records.
    """
    try:
        if form == "html":
            ready()
        registry, settings = configured(config)
        policy = load(policies or settings.policy, registry.signals)
        other = load(against, registry.signals) if against else None
    except SluiceError as error:
        fail(error, 2)
    if resume is not None and cluster is not None:
        fail("a run on a cluster keeps no checkpoint; leave out --resume or --cluster", 2)
    try:
        named = read_labels(labels, harvest) if labels else Labels(harvest=harvest)
        more = (decisions, other, form == "html", resume, cluster, fields, max_keys)
        job = Job(records, policy, registry, settings, named, warm_up, *more)
        counts, read, unreadable = job.run(Engine(engine))
    except OSError as error:
        fail(f"{error.filename or decisions}: cannot be read or written: {error.strerror}", 3)
    except (LoadError, RecordError) as error:
        fail(error, 3)
    except (ExtraError, ClusterError, NotInColumnsError) as error:
        fail(f"columns cannot hold {error}" if isinstance(error, NotInColumnsError) else error, 2)
    try:
        write(counts.as_dict(read, unreadable), form, out, policy)
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}", 2)
    if not read:
        fail("no record could be read", 3)
    share = counts.report.benign_share
    if max_benign_share is not None and share > max_benign_share:
        fail(f"{share:.4%} of benign exchanges would be refused, more than {max_benign_share:.4%}", 1)


def _share(value: float | None) -> float | None:
    if value is not None and isnan(value):
        raise click.BadParameter("nan is not in the range 0<=x<=1.")
    return value
